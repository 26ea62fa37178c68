//! The canary of a version: which share of the clients gets it, and when that grows or ends.
//!
//! # When is a version worse?
//! Two questions, and a canary is ended only by a yes to both: is it worse than the operator's *mark*
//! (`failure`), and is it worse than the *stable version* at the same time? Without the first, a
//! harmless difference would end it; without the second, so would a trouble of the back end that hits
//! both versions alike.
//!
//! Neither is answered by comparing two rates, since a rate of few is no evidence: both are asked
//! beyond chance ([`crate::chance`]), once against a share that is known (the mark) and once against
//! one that is itself measured (the stable version's). As the questions are asked again and again of
//! the same growing counts, chance alone ends a canary in one or two of 100 steps, if all the while
//! both versions are past the mark. What that costs: a canary that fails always is ended by its first
//! [`LEAST_CASES`] errors, one of five times the mark by about six, one of twice the mark by about 25,
//! all of a share of the clients. Errors that come in a burst (a connection breaks with five requests
//! on it) are one event and not five; at a mark of 0.5 % a burst of five is past it among the first
//! 180 requests only.
//!
//! The same for latency, of the requests that took longer than the mark on the P95, of which 5 % are
//! allowed; and as with many requests the smallest difference is beyond chance, the P95 must be longer
//! by a quarter too.
//!
//! With less than a twentieth of the canary's requests the stable version says nothing (it would take
//! hundreds of errors to tell a difference), as at 100 %: then the mark alone counts.

use std::fmt;
use std::time::Duration;

use crate::chance::{Cases, LEAST_CASES, LEAST_REQUESTS, NOTABLY_LONGER};
use crate::quantile::{self, BUCKETS};

/// A version on trial, as a table describes it. Endpoints of this version are the canary, all others
/// of their regions are stable.
#[derive(Clone, Debug, PartialEq)]
pub struct Canary {
    /// The version on trial.
    pub version: String,
    /// Percent of the clients, ascending, that get it step by step.
    pub steps: Vec<u8>,
    /// How long each step lasts at least; the last one is repeated for steps without one. Empty: the
    /// first step stays, and nothing is automatic but the end of a bad canary.
    pub pace: Vec<Duration>,
    /// What a step must show before the next.
    pub success: Success,
    /// What ends it.
    pub failure: Failure,
    /// The line of the table that declares it, from 1.
    pub line: u32,
}

/// What a step must show before the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Success {
    /// At least so many requests.
    pub requests: u64,
    /// At most this share of errors, `0..=1`.
    pub error_rate: f64,
    /// At most this P95.
    pub p95: Duration,
}

/// What ends a canary, where the stable version does better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Failure {
    /// More than this share of errors, `0..=1`.
    pub error_rate: f64,
    /// A P95 longer than this.
    pub p95: Duration,
}

impl Canary {
    /// Returns whether two tables put the same version on trial in the same way, wherever they say so.
    pub fn is_same_trial(&self, other: &Canary) -> bool {
        *self == Canary { line: self.line, ..other.clone() }
    }
}

/// What one version did since a step's start, on one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All its attempts.
    pub requests: u64,
    /// Those that failed: no answer, or a status from 500 on.
    pub errors: u64,
    /// Those that took longer than [`Failure::p95`]. A failure counts as slow.
    pub slow: u64,
    /// The time to the answer's head that 95 % did not exceed, within 13 %; `None` without requests.
    pub p95: Option<Duration>,
}

impl Tally {
    /// Of the answers' times, counted by [`quantile::bucket`], and the failures, which no bucket has:
    /// they count as longer than anything. `mark` is [`Failure::p95`]; what is in its bucket is not
    /// slow.
    pub fn of(mut answered: [u64; BUCKETS], errors: u64, mark: Duration) -> Self {
        answered[BUCKETS - 1] += errors;
        Self {
            requests: answered.iter().sum(),
            errors,
            slow: answered.iter().skip(quantile::bucket(mark) + 1).sum(),
            p95: quantile::quantile(answered, 0.95),
        }
    }

    /// Returns the share that failed, `0..=1`; 0 without requests.
    pub fn error_rate(&self) -> f64 {
        self.errors as f64 / self.requests.max(1) as f64
    }

    /// Returns the P95 in milliseconds; `None` without requests, and where so many failed that there is none.
    pub fn p95_ms(&self) -> Option<f64> {
        let measured = self.p95.filter(|p95| *p95 < quantile::upper_edge(BUCKETS - 1));
        measured.map(|p95| p95.as_secs_f64() * 1_000.0)
    }

    fn failed(&self) -> Cases {
        Cases::new(self.errors, self.requests)
    }

    fn late(&self) -> Cases {
        Cases::new(self.slow, self.requests)
    }
}

/// How far a canary is. `now` is any monotonic clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    stage: RolloutStage,
    since: Duration,
}

/// Where a canary stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolloutStage {
    /// On trial at this step, from 0.
    Trying(usize),
    /// It has passed a step of 100 %: all clients have it.
    Promoted,
    /// It is ended: no client has it.
    Ended(Cause),
}

/// Why a canary is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Too large a share of errors.
    ErrorRate,
    /// Too long a P95.
    Latency,
}

/// A decision, with the figures that led to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What becomes of the canary.
    pub outcome: RolloutOutcome,
    /// Percent of the clients that had it.
    pub percent: u8,
    /// What the version on trial did in the step.
    pub trial: Tally,
    /// What the stable version did in the same time.
    pub stable: Tally,
}

/// What becomes of a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolloutOutcome {
    /// It goes on to this percent of the clients.
    Advanced(u8),
    /// All clients keep it.
    Promoted,
    /// No client has it any more.
    Ended(Cause),
}

impl Rollout {
    /// At its first step.
    pub fn new(now: Duration) -> Self {
        Self { stage: RolloutStage::Trying(0), since: now }
    }

    /// Returns where it stands.
    pub fn stage(&self) -> RolloutStage {
        self.stage
    }

    /// Since when.
    pub fn since(&self) -> Duration {
        self.since
    }

    /// Returns the percent of the clients that have it: one of the steps, or 0 once it is ended.
    pub fn percent(&self, spec: &Canary) -> u8 {
        match self.stage {
            RolloutStage::Trying(step) => spec.steps.get(step).copied().unwrap_or(0),
            RolloutStage::Promoted => spec.steps.last().copied().unwrap_or(0),
            RolloutStage::Ended(_) => 0,
        }
    }

    /// Lets the time pass, with what both versions did since the step's start. A bad canary is ended at
    /// once; a good one goes on when its step has lasted, and shown, enough; otherwise all stays. What
    /// is promoted or ended stays so.
    pub fn judge(&mut self, now: Duration, spec: &Canary, trial: &Tally, stable: &Tally) -> Option<Decision> {
        let RolloutStage::Trying(step) = self.stage else { return None };
        let percent = self.percent(spec);
        let compared = Some(stable).filter(|stable| is_comparable(trial, stable));
        let (stage, outcome) = if let Some(cause) = spec.failure.verdict(trial, compared) {
            (RolloutStage::Ended(cause), RolloutOutcome::Ended(cause))
        } else {
            let pace = spec.pace.get(step).or(spec.pace.last())?;
            if now < self.since + *pace || !spec.success.is_shown(trial, compared) {
                return None;
            }
            match spec.steps.get(step + 1) {
                Some(next) => (RolloutStage::Trying(step + 1), RolloutOutcome::Advanced(*next)),
                None if percent == 100 => (RolloutStage::Promoted, RolloutOutcome::Promoted),
                None => return None,
            }
        };
        *self = Self { stage, since: now };
        Some(Decision { outcome, percent, trial: *trial, stable: *stable })
    }
}

impl Failure {
    /// Returns what there is against a canary that did this, while the stable version, if it has enough requests to
    /// be compared with, did that.
    fn verdict(&self, trial: &Tally, stable: Option<&Tally>) -> Option<Cause> {
        let is_worse = |cases: Cases, mark: f64, others: Option<Cases>| {
            cases.is_past(mark) && others.is_none_or(|others| cases.is_worse_than(&others))
        };
        if trial.errors >= LEAST_CASES && is_worse(trial.failed(), self.error_rate, stable.map(Tally::failed)) {
            return Some(Cause::ErrorRate);
        }
        let longer = |stable: &Tally| trial.p95 > stable.p95.map(|p95| p95.mul_f64(NOTABLY_LONGER));
        (trial.requests >= LEAST_REQUESTS
            && stable.is_none_or(longer)
            && is_worse(trial.late(), SLOWEST, stable.map(Tally::late)))
        .then_some(Cause::Latency)
    }
}

impl Success {
    /// Returns whether a canary has shown enough: within the marks, or no worse than a stable version that is past
    /// them itself.
    fn is_shown(&self, trial: &Tally, stable: Option<&Tally>) -> bool {
        let rate = trial.error_rate();
        let few_errors = rate <= self.error_rate || stable.is_some_and(|stable| rate <= stable.error_rate());
        let fast = trial.p95 <= Some(self.p95) || stable.is_some_and(|stable| trial.p95 <= stable.p95);
        trial.requests >= self.requests && few_errors && fast
    }
}

/// Returns whether the stable version had requests enough to compare a canary with it.
fn is_comparable(trial: &Tally, stable: &Tally) -> bool {
    stable.requests > 0 && stable.requests >= trial.requests / 20
}

/// The P95 is past a mark when more than this share takes longer.
const SLOWEST: f64 = 0.05;

impl Cause {
    /// Returns the word for logs and `/status`.
    pub fn name(self) -> &'static str {
        match self {
            Cause::ErrorRate => "error_rate",
            Cause::Latency => "latency_p95",
        }
    }
}

impl RolloutOutcome {
    /// Returns the word for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            RolloutOutcome::Advanced(_) => "advanced",
            RolloutOutcome::Promoted => "promoted",
            RolloutOutcome::Ended(_) => "ended",
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { outcome, percent, trial, stable } = self;
        match outcome {
            RolloutOutcome::Advanced(next) => write!(f, "advanced from {percent} % to {next} %")?,
            RolloutOutcome::Promoted => write!(f, "promoted at {percent} %")?,
            RolloutOutcome::Ended(Cause::ErrorRate) => write!(f, "ended at {percent} % for its errors")?,
            RolloutOutcome::Ended(Cause::Latency) => write!(f, "ended at {percent} % for its latency")?,
        }
        write!(f, ": {trial}; stable: {stable}")
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests", self.requests)?;
        if self.requests > 0 {
            write!(f, ", {} errors ({:.3} %)", self.errors, self.error_rate() * 100.0)?;
        }
        self.p95_ms().map_or(Ok(()), |p95_ms| write!(f, ", P95 {p95_ms:.0} ms"))
    }
}

#[cfg(test)]
mod tests;
