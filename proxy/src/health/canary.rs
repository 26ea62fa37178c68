//! The version on trial: who gets it, and how it does.
//!
//! Each node decides for itself, by the requests that it forwards, and begins anew when it starts.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use policy::hash::is_within;
use policy::quantile::{BUCKETS, bucket};
use policy::rollout::{Canary, Decision, Rollout, RolloutOutcome, RolloutStage, Tally};

use crate::clock::uptime;
use crate::telemetry::metrics::Metrics;

/// The live state of a canary on this node. It outlives a table that says the same of it. Any thread counts in it
/// without a lock.
#[derive(Debug)]
pub(crate) struct CanaryState {
    /// What the table says.
    pub(crate) spec: Canary,
    /// Percent of the clients that get it now.
    share: AtomicU8,
    salt: u64,
    trial: VersionCounts,
    stable: VersionCounts,
    /// Held by the tick, and for a moment by `/status`; no request waits for it.
    progress: Mutex<TrialProgress>,
}

/// Where a canary stands on this node, and what led there.
#[derive(Clone, Debug)]
pub(crate) struct CanaryStats {
    /// Where it stands.
    pub(crate) stage: RolloutStage,
    /// For how long.
    pub(crate) since: Duration,
    /// Percent of the clients that get it.
    pub(crate) percent: u8,
    /// What the version on trial did in that time.
    pub(crate) trial: Tally,
    /// What the stable version did.
    pub(crate) stable: Tally,
    /// The decision that led there, in words.
    pub(crate) last_decision: Option<String>,
}

/// What one version has done since the canary's start. Any thread adds to it, without a lock.
#[derive(Debug)]
struct VersionCounts {
    /// What went well, by its time.
    answered: [AtomicU64; BUCKETS],
    errors: AtomicU64,
}

/// A reading of [`VersionCounts`].
#[derive(Clone, Copy, Debug)]
struct VersionReading {
    answered: [u64; BUCKETS],
    errors: u64,
}

#[derive(Debug)]
struct TrialProgress {
    rollout: Rollout,
    last_decision: Option<String>,
    trial: Baseline,
    stable: Baseline,
}

/// Earlier readings of one version.
#[derive(Debug, Default)]
struct Baseline {
    /// At the step's start. Counts are never set back, so that none is lost; an attempt that began
    /// before the step and ends in it counts in it. There are at most as many as were in flight, and
    /// they did what they did.
    step: VersionReading,
    /// Good answers and errors that the metrics have.
    counted: (u64, u64),
}

impl CanaryState {
    /// Makes a canary at its first step.
    pub(crate) fn new(spec: Canary) -> Self {
        let rollout = Rollout::new(uptime());
        let share = AtomicU8::new(rollout.percent(&spec));
        let salt = policy::hash::client_key(spec.version.as_bytes());
        let progress =
            TrialProgress { rollout, last_decision: None, trial: Baseline::default(), stable: Baseline::default() };
        Self {
            spec,
            share,
            salt,
            trial: VersionCounts::default(),
            stable: VersionCounts::default(),
            progress: Mutex::new(progress),
        }
    }

    /// Returns whether this client gets the version on trial: one that does keeps it while the share grows.
    pub(crate) fn takes(&self, client_key: u64) -> bool {
        is_within(self.share.load(Ordering::Relaxed), client_key ^ self.salt)
    }

    /// Returns whether an endpoint runs the version on trial.
    pub(crate) fn is_canary(&self, endpoint: &config::Endpoint) -> bool {
        endpoint.version.as_deref() == Some(&self.spec.version)
    }

    /// Takes the end of an attempt at an endpoint of a region where the canary runs: whether it went
    /// well, and how long it took to the answer's head. A failure is never fast: it counts as longer
    /// than anything.
    pub(crate) fn observe(&self, is_canary: bool, went_well: bool, took: Duration) {
        let seen = if is_canary { &self.trial } else { &self.stable };
        let count = if went_well { seen.answered.get(bucket(took)) } else { None };
        count.unwrap_or(&seen.errors).fetch_add(1, Ordering::Relaxed);
    }

    /// Lets the time pass: decides, tells it, and keeps the metrics current.
    pub(crate) fn on_tick(&self, now: Duration, metrics: &Metrics) {
        let version = self.spec.version.as_str();
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let TrialProgress { rollout, last_decision, trial, stable } = &mut *progress;
        let (trial_now, stable_now) = (self.trial.read(), self.stable.read());
        for (track, marks, seen) in [("canary", &mut *trial, &trial_now), ("stable", &mut *stable, &stable_now)] {
            let total = (seen.answered.iter().sum::<u64>(), seen.errors);
            let counted = std::mem::replace(&mut marks.counted, total);
            for (outcome, fresh) in [("ok", total.0 - counted.0), ("error", total.1 - counted.1)] {
                metrics.canary_requests.with_label_values(&[version, track, outcome]).inc_by(fresh);
            }
        }
        let p95 = self.spec.failure.p95;
        let [on_trial, others] = [trial_now.tally(&trial.step, p95), stable_now.tally(&stable.step, p95)];
        if let Some(decision) = rollout.judge(now, &self.spec, &on_trial, &others) {
            self.share.store(rollout.percent(&self.spec), Ordering::Relaxed);
            (trial.step, stable.step) = (trial_now, stable_now);
            metrics.canary_decisions.with_label_values(&[version, decision.outcome.name()]).inc();
            self.tell(&decision);
            *last_decision = Some(decision.to_string());
        }
        metrics.canary_share.with_label_values(&[version]).set(f64::from(rollout.percent(&self.spec)) / 100.0);
    }

    /// Returns where it stands.
    pub(crate) fn stats(&self, now: Duration) -> CanaryStats {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = |seen: &VersionCounts, marks: &Baseline| seen.read().tally(&marks.step, self.spec.failure.p95);
        CanaryStats {
            stage: progress.rollout.stage(),
            since: now.saturating_sub(progress.rollout.since()),
            percent: progress.rollout.percent(&self.spec),
            trial: tally(&self.trial, &progress.trial),
            stable: tally(&self.stable, &progress.stable),
            last_decision: progress.last_decision.clone(),
        }
    }

    fn tell(&self, decision: &Decision) {
        let Decision { outcome, percent, trial, stable } = decision;
        macro_rules! tell {
            ($level:ident, $message:literal $(, $name:ident)*) => {
                tracing::$level!(
                    version = self.spec.version, decision = outcome.name(), percent, $($name,)*
                    requests = trial.requests, errors = trial.errors, error_rate = trial.error_rate(),
                    p95_ms = trial.p95_ms(), stable_requests = stable.requests, stable_errors = stable.errors,
                    stable_error_rate = stable.error_rate(), stable_p95_ms = stable.p95_ms(), $message
                )
            };
        }
        match outcome {
            RolloutOutcome::Advanced(next) => tell!(info, "canary advanced", next),
            RolloutOutcome::Promoted => tell!(info, "canary promoted"),
            RolloutOutcome::Ended(cause) => {
                let cause = cause.name();
                tell!(warn, "canary ended: all clients are back on the stable version", cause);
            }
        }
    }
}

impl Default for VersionCounts {
    fn default() -> Self {
        Self { answered: [const { AtomicU64::new(0) }; BUCKETS], errors: AtomicU64::new(0) }
    }
}

impl VersionCounts {
    fn read(&self) -> VersionReading {
        let answered = self.answered.each_ref().map(|count| count.load(Ordering::Relaxed));
        VersionReading { answered, errors: self.errors.load(Ordering::Relaxed) }
    }
}

impl Default for VersionReading {
    fn default() -> Self {
        Self { answered: [0; BUCKETS], errors: 0 }
    }
}

impl VersionReading {
    /// Returns what came since an earlier one, as decisions see it. `p95` is the mark of a bad canary.
    fn tally(mut self, step: &VersionReading, p95: Duration) -> Tally {
        for (count, before) in self.answered.iter_mut().zip(&step.answered) {
            *count = count.saturating_sub(*before);
        }
        Tally::of(self.answered, self.errors.saturating_sub(step.errors), p95)
    }
}
