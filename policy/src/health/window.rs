//! What real traffic showed over the last while, in numbers.

use std::time::Duration;

use crate::failover::Failover;

/// Attempts, and what was wrong with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All attempts.
    pub attempts: u64,
    /// Those that failed: no connection, no answer, a broken one, or a status from 500 on.
    pub errors: u64,
    /// Those that took longer than [`Failover::latency_p99`] to the answer's head.
    pub slow: u64,
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

impl Counts {
    /// Returns what came since an earlier reading of the same counters.
    #[must_use]
    pub fn since(&self, before: &Counts) -> Counts {
        Counts {
            attempts: self.attempts.saturating_sub(before.attempts),
            errors: self.errors.saturating_sub(before.errors),
            slow: self.slow.saturating_sub(before.slow),
            retries: self.retries.saturating_sub(before.retries),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Counts) -> Counts {
        Counts {
            attempts: self.attempts + other.attempts,
            errors: self.errors + other.errors,
            slow: self.slow + other.slow,
            retries: self.retries + other.retries,
        }
    }

    /// Returns the share that failed, `0..=1`; 0 without attempts.
    pub fn error_share(&self) -> f64 {
        self.errors as f64 / self.attempts.max(1) as f64
    }

    /// Returns what there is against whoever answered so. A share of few is no evidence: it takes as many cases as
    /// errors in a row would (`outlier.consecutive_errors`), whatever the share.
    pub fn verdict(&self, failover: &Failover) -> Option<Cause> {
        let enough = |cases: u64| cases >= u64::from(failover.outlier.consecutive_errors);
        let share = |cases: u64| cases as f64 / self.attempts.max(1) as f64;
        if enough(self.errors) && share(self.errors) > failover.error_rate {
            return Some(Cause::ErrorRate);
        }
        (enough(self.slow) && share(self.slow) > SLOWEST).then_some(Cause::Latency)
    }

    /// Returns how many more retries a budget allows, if these are the counts of the last `span`.
    pub fn retries_left(&self, budget: &crate::failover::RetryBudget, span: Duration) -> u64 {
        let most = budget.ratio * self.attempts as f64 + budget.per_second * span.as_secs_f64();
        (most as u64).saturating_sub(self.retries)
    }
}

/// The P99 is past a mark when more than this share takes longer.
const SLOWEST: f64 = 0.01;

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

    fn counts(attempts: u64, errors: u64, slow: u64) -> Counts {
        Counts { attempts, errors, slow, retries: 0 }
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
            (10, 0, 4, None),
            (10, 0, 5, Some(Cause::Latency)),
            (1_000, 0, 10, None),
            (1_000, 0, 11, Some(Cause::Latency)),
            (0, 0, 0, None),
        ] {
            assert_eq!(counts(attempts, errors, slow).verdict(&failover), verdict, "{attempts} {errors} {slow}");
        }
    }

    #[test]
    fn the_last_while_moves_on() {
        let mut sliding = Sliding::default();
        for second in 0..30 {
            sliding.add(Duration::from_secs(second), SPAN, &counts(1, 0, 0));
            assert_eq!(sliding.sum().attempts, (second + 1).min(10), "after {second} s");
        }
        sliding.add(Duration::from_secs(34), SPAN, &Counts::default());
        assert_eq!(sliding.sum().attempts, 5);
        sliding.add(Duration::from_secs(1_000_000), SPAN, &Counts::default());
        assert_eq!(sliding.sum(), Counts::default());
        // A clock that stands still, or goes back, loses nothing.
        sliding.add(Duration::from_secs(999), SPAN, &counts(2, 1, 0));
        assert_eq!(sliding.sum(), counts(2, 1, 0));
        // Another span begins anew, and moves on.
        for second in 0..60 {
            sliding.add(Duration::from_secs(1_000_000 + second), SPAN * 3, &counts(1, 0, 0));
        }
        assert!((28..=30).contains(&sliding.sum().attempts), "{:?}", sliding.sum());
    }

    #[test]
    fn the_budget_is_a_share_and_a_floor() {
        let budget = RetryBudget { ratio: 0.2, per_second: 3.0 };
        let left = |attempts, retries| Counts { attempts, errors: 0, slow: 0, retries }.retries_left(&budget, SPAN);
        assert_eq!([left(0, 0), left(0, 29), left(0, 30), left(1_000, 0), left(1_000, 500)], [30, 1, 0, 230, 0]);
    }
}
