//! What real traffic showed over the last while, in numbers.

use crate::chance::Cases;
use std::time::Duration;

use crate::failover::Failover;

/// What some attempts had in common: how many there were, and of how many clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The attempts.
    pub requests: u64,
    /// The clients that they were for: each counts once an interval.
    pub clients: u64,
}

/// What real traffic has shown of an endpoint, or of a region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All attempts.
    pub attempts: Seen,
    /// Those that failed in any way: no connection, no answer, a broken one, or a status from 500 on.
    pub errors: Seen,
    /// Of these, those that are the endpoint's own: there was no connection, or the same request was then answered well
    /// by another attempt.
    pub confirmed: Seen,
    /// Of the errors, those that may be the endpoint's own or the request's: no answer, a broken one, 502, 503 or 504.
    pub contested: Seen,
    /// Those that took longer than [`Failover::latency_p99`] to the answer's head.
    pub slow: Seen,
    /// Beside all these, those that the region's own node had no room for: no origin has seen them.
    pub full: u64,
    /// Those that were retries or hedges, paid for by the retry budget.
    pub retries: u64,
}

/// What real traffic has against an endpoint or a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// So many errors, and nothing else between them.
    ConsecutiveErrors,
    /// Too large a share of errors.
    ErrorRate,
    /// The P99 is past the mark: more than one in a hundred takes longer.
    Latency,
}

impl Cause {
    /// Returns the word for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Cause::ConsecutiveErrors => "consecutive_errors",
            Cause::ErrorRate => "error_rate",
            Cause::Latency => "latency_p99",
        }
    }
}

impl Seen {
    /// Makes a count of attempts, each of another client.
    pub fn of_clients(clients: u64) -> Self {
        Self { requests: clients, clients }
    }

    fn since(self, before: Seen) -> Seen {
        Seen {
            requests: self.requests.saturating_sub(before.requests),
            clients: self.clients.saturating_sub(before.clients),
        }
    }

    fn plus(self, other: Seen) -> Seen {
        Seen { requests: self.requests + other.requests, clients: self.clients + other.clients }
    }
}

impl Counts {
    /// Returns what came since an earlier reading of the same counters.
    #[must_use]
    pub fn since(&self, before: &Counts) -> Counts {
        Counts {
            attempts: self.attempts.since(before.attempts),
            errors: self.errors.since(before.errors),
            confirmed: self.confirmed.since(before.confirmed),
            contested: self.contested.since(before.contested),
            slow: self.slow.since(before.slow),
            full: self.full.saturating_sub(before.full),
            retries: self.retries.saturating_sub(before.retries),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Counts) -> Counts {
        Counts {
            attempts: self.attempts.plus(other.attempts),
            errors: self.errors.plus(other.errors),
            confirmed: self.confirmed.plus(other.confirmed),
            contested: self.contested.plus(other.contested),
            slow: self.slow.plus(other.slow),
            full: self.full + other.full,
            retries: self.retries + other.retries,
        }
    }

    /// Returns the share of failures that are the endpoint's own, `0..=1`; 0 without attempts.
    pub fn error_share(&self) -> f64 {
        self.share(self.confirmed)
    }

    /// Returns what there is against a region whose endpoints answered so. What a client can provoke is no evidence against
    /// a region: a request fails in all of them, and one that fails in this one alone is confirmed by another. Where
    /// nothing can be compared, most of what many clients ask must fail, or be slow.
    ///
    /// A share of few is no evidence: it takes as many clients as errors in a row would (`outlier.consecutive_errors`).
    pub fn verdict(&self, failover: &Failover) -> Option<Cause> {
        let least = u64::from(failover.outlier.consecutive_errors);
        let is_most = |cases: Seen| cases.clients >= least * FEWEST_OF_MOST && self.share(cases) >= MOST;
        if self.confirmed.clients >= least && self.share(self.confirmed) > failover.error_rate
            || is_most(self.confirmed.plus(self.contested))
        {
            return Some(Cause::ErrorRate);
        }
        is_most(self.slow).then_some(Cause::Latency)
    }

    /// The same of one endpoint, which is compared with the `others` of its region: they are asked the same.
    pub fn verdict_among(&self, others: &Counts, failover: &Failover) -> Option<Cause> {
        if let Some(cause) = self.verdict(failover) {
            return Some(cause);
        }
        let least = u64::from(failover.outlier.consecutive_errors);
        let is_past = |cases: Seen, theirs: Seen, mark: f64| {
            let (ours, theirs) =
                (Cases::new(cases.clients, self.attempts.clients), Cases::new(theirs.clients, others.attempts.clients));
            cases.clients >= least
                && self.share(cases) > mark
                && ours.share() >= NOTABLY_WORSE * theirs.share()
                && ours.is_worse_than(&theirs)
        };
        if others.attempts.clients < least {
            return None;
        }
        if is_past(self.errors, others.errors, failover.error_rate) {
            return Some(Cause::ErrorRate);
        }
        is_past(self.slow, others.slow, SLOWEST).then_some(Cause::Latency)
    }

    /// Returns the share of such cases, `0..=1`: of the attempts or of the clients, whichever is less. So neither one
    /// client that asks much, nor many that ask little, makes a share.
    fn share(&self, cases: Seen) -> f64 {
        let share = |cases: u64, of: u64| cases as f64 / of.max(1) as f64;
        share(cases.requests, self.attempts.requests).min(share(cases.clients, self.attempts.clients))
    }

    /// Returns the share of what was sent that the region's own node had no room for, `0..=1`; 0 where that is little.
    pub fn full_share(&self) -> f64 {
        let share = self.full as f64 / self.sent().max(1) as f64;
        if self.full >= FEWEST_FULL && share >= LEAST_FULL { share } else { 0.0 }
    }

    fn sent(&self) -> u64 {
        self.attempts.requests + self.full
    }

    /// Returns how many more retries a budget allows, if these are the counts of the last `span`.
    pub fn retries_left(&self, budget: &crate::failover::RetryBudget, span: Duration) -> u64 {
        let most = budget.ratio * self.sent() as f64 + budget.per_second * span.as_secs_f64();
        (most as u64).saturating_sub(self.retries)
    }
}

/// The P99 is past a mark when more than this share takes longer.
const SLOWEST: f64 = 0.01;
/// What as many as this share of the attempts show is not one client's doing, where nothing else can be compared.
const MOST: f64 = 0.5;
/// By so much must a share be larger than the others', beside being so beyond chance: the question is asked ten times a
/// second.
const NOTABLY_WORSE: f64 = 2.0;
/// Fewer, or a smaller share, that a region's node has no room for are no load.
const FEWEST_FULL: u64 = 5;
const LEAST_FULL: f64 = 0.02;
/// By so much more than errors in a row must there be of such cases, each another client's.
const FEWEST_OF_MOST: u64 = 2;

/// Counts over the last while, which moves on in tenths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sliding {
    slots: [Counts; Self::SLOTS],
    /// How long one of them is.
    slot: Duration,
    /// The number, since the clock's start, of the slot written last.
    latest: u64,
}

impl Sliding {
    const SLOTS: usize = 10;

    /// Lets the time pass to `now`, and takes what came since the last call. With another span than
    /// at the last call the past is forgotten.
    pub fn add(&mut self, now: Duration, span: Duration, counts: &Counts) {
        let slot = (span / Self::SLOTS as u32).max(Duration::from_millis(1));
        let number = (now.as_millis() / slot.as_millis()) as u64;
        if self.slot != slot {
            *self = Self { slot, latest: number, ..Self::default() };
        }
        let passed = number.saturating_sub(self.latest).min(Self::SLOTS as u64);
        for step in 0..passed {
            self.slots[((number - step) % Self::SLOTS as u64) as usize] = Counts::default();
        }
        self.latest = self.latest.max(number);
        let current = &mut self.slots[(self.latest % Self::SLOTS as u64) as usize];
        *current = current.plus(counts);
    }

    /// Returns all of the last while.
    pub fn sum(&self) -> Counts {
        self.slots.iter().fold(Counts::default(), |sum, slot| sum.plus(slot))
    }

    /// Forgets everything: what happened then says nothing of now.
    pub fn clear(&mut self) {
        self.slots = Default::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::RetryBudget;

    const SPAN: Duration = Duration::from_secs(10);

    fn counts(attempts: u64, confirmed: u64, slow: u64) -> Counts {
        let [attempts, confirmed, slow] = [attempts, confirmed, slow].map(Seen::of_clients);
        Counts { attempts, errors: confirmed, confirmed, slow, ..Counts::default() }
    }

    #[test]
    fn a_share_of_few_is_no_evidence() {
        let failover = Failover::default();
        for (attempts, errors, slow, verdict) in [
            (4, 4, 0, None),
            (5, 5, 0, Some(Cause::ErrorRate)),
            (50, 5, 0, None),
            (49, 5, 0, Some(Cause::ErrorRate)),
            (1_000, 100, 0, None),
            (1_000, 101, 0, Some(Cause::ErrorRate)),
            (10, 0, 9, None),
            (10, 0, 10, Some(Cause::Latency)),
            (1_000, 0, 499, None),
            (1_000, 0, 500, Some(Cause::Latency)),
            (0, 0, 0, None),
        ] {
            assert_eq!(counts(attempts, errors, slow).verdict(&failover), verdict, "{attempts} {errors} {slow}");
        }
    }

    #[test]
    fn what_fails_everywhere_convicts_nobody() {
        let failover = Failover::default();
        let seen = |attempts, errors, contested, slow| {
            let [attempts, errors, contested, slow] = [attempts, errors, contested, slow].map(Seen::of_clients);
            Counts { attempts, errors, contested, slow, ..Counts::default() }
        };
        for (what, one, others, endpoint, region) in [
            ("a URL that fails everywhere", seen(100, 30, 0, 0), seen(300, 90, 0, 0), None, None),
            ("one of four that fails", seen(100, 30, 0, 0), seen(300, 3, 0, 0), Some(Cause::ErrorRate), None),
            ("a tenth, refused", seen(1000, 100, 100, 0), seen(0, 0, 0, 0), None, None),
            ("the only one, plain errors", seen(100, 100, 0, 0), seen(0, 0, 0, 0), None, None),
            ("all refused, few", seen(9, 9, 9, 0), seen(0, 0, 0, 0), None, None),
            (
                "all refused, many",
                seen(10, 10, 10, 0),
                seen(0, 0, 0, 0),
                Some(Cause::ErrorRate),
                Some(Cause::ErrorRate),
            ),
            ("slow everywhere", seen(100, 0, 0, 20), seen(300, 0, 0, 60), None, None),
            ("slow alone", seen(100, 0, 0, 20), seen(300, 0, 0, 1), Some(Cause::Latency), None),
        ] {
            assert_eq!(one.verdict_among(&others, &failover), endpoint, "{what}: the endpoint");
            assert_eq!(one.verdict(&failover), region, "{what}: the region");
        }
    }

    #[test]
    fn the_share_of_errors_is_of_requests_and_clients() {
        for (attempts, errors, share) in [(0, 0, 0.0), (10, 0, 0.0), (10, 5, 0.5), (10, 10, 1.0)] {
            assert_eq!(counts(attempts, errors, 0).error_share(), share, "{errors} of {attempts}");
        }
    }

    #[test]
    fn what_there_is_often_no_room_for_is_a_share() {
        for (attempts, full, share) in [(0, 4, 0.0), (0, 5, 1.0), (15, 5, 0.25), (245, 5, 0.02), (246, 5, 0.0)] {
            let counts = Counts { full, ..counts(attempts, 0, 0) };
            assert_eq!(counts.full_share(), share, "{full} beside {attempts}");
            assert_eq!(counts.plus(&counts).since(&counts), counts);
        }
    }

    #[test]
    fn neither_one_loud_client_nor_many_quiet_ones_make_a_share() {
        let failover = Failover::default();
        let attempts = Seen { requests: 10_000, clients: 1_000 };
        for (confirmed, verdict) in [
            (Seen { requests: 9_000, clients: 100 }, None),
            (Seen { requests: 1_000, clients: 900 }, None),
            (Seen { requests: 1_001, clients: 101 }, Some(Cause::ErrorRate)),
        ] {
            let counts = Counts { attempts, confirmed, ..Counts::default() };
            assert_eq!(counts.verdict(&failover), verdict, "{confirmed:?}");
        }
    }

    #[test]
    fn the_last_while_moves_on() {
        let mut sliding = Sliding::default();
        for second in 0..30 {
            sliding.add(Duration::from_secs(second), SPAN, &counts(1, 0, 0));
            assert_eq!(sliding.sum().attempts.requests, (second + 1).min(10), "after {second} s");
        }
        sliding.add(Duration::from_secs(34), SPAN, &Counts::default());
        assert_eq!(sliding.sum().attempts.requests, 5);
        sliding.add(Duration::from_secs(1_000_000), SPAN, &Counts::default());
        assert_eq!(sliding.sum(), Counts::default());
        // A clock that stands still, or goes back, loses nothing.
        sliding.add(Duration::from_secs(999), SPAN, &counts(2, 1, 0));
        assert_eq!(sliding.sum(), counts(2, 1, 0));
        // Another span begins anew, and moves on.
        for second in 0..60 {
            sliding.add(Duration::from_secs(1_000_000 + second), SPAN * 3, &counts(1, 0, 0));
        }
        assert!((28..=30).contains(&sliding.sum().attempts.requests), "{:?}", sliding.sum());
    }

    #[test]
    fn the_budget_is_a_share_and_a_floor() {
        let budget = RetryBudget { ratio: 0.2, per_second: 3.0 };
        let left = |attempts, retries| {
            Counts { attempts: Seen::of_clients(attempts), retries, ..Counts::default() }.retries_left(&budget, SPAN)
        };
        let full = Counts { full: 500, ..counts(500, 0, 0) };
        assert_eq!(full.retries_left(&budget, SPAN), 230, "what there was no room for was sent, too");
        assert_eq!([left(0, 0), left(0, 29), left(0, 30), left(1_000, 0), left(1_000, 500)], [30, 1, 0, 230, 0]);
    }
}
