//! Requests a second, from counts that only grow.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::ledger::{Counts, Fate, Traffic};

/// The counts of the last second.
#[derive(Debug, Default)]
pub(crate) struct Rates(VecDeque<(Instant, Counts)>);

impl Rates {
    /// Takes the counts as they are now.
    pub(crate) fn note(&mut self, now: Instant, totals: Counts) {
        self.0.push_back((now, totals));
        // The oldest kept is the youngest that is at least a second old.
        while self.0.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            self.0.pop_front();
        }
    }

    /// Requests a second over the last second, or since the start if that is less.
    pub(crate) fn per_second(&self, traffic: Traffic, fate: impl Fn(Fate) -> bool) -> f64 {
        let (Some((from, before)), Some((to, after))) = (self.0.front(), self.0.back()) else { return 0.0 };
        let sum = |counts: &Counts| counts.count(|of, had| of == traffic && fate(had));
        let seconds = to.duration_since(*from).as_secs_f64();
        if seconds > 0.0 { sum(after).saturating_sub(sum(before)) as f64 / seconds } else { 0.0 }
    }
}

const WINDOW: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;

    #[test]
    fn only_the_last_second_counts() {
        let start = Instant::now();
        let (mut rates, mut ledger) = (Rates::default(), Ledger::default());
        ledger.enter();
        assert_eq!(rates.per_second(Traffic::Public, |_| true), 0.0);
        // 100 a second for two seconds, then nothing for one.
        for tick in 0..=15u32 {
            let new = if (1..=10).contains(&tick) { 20 } else { 0 };
            (0..new).for_each(|_| ledger.of_mut(0).unwrap().add(Traffic::Public, Fate::Refused));
            rates.note(start + Duration::from_millis(200) * tick, ledger.total());
            let expected = if tick == 0 { 0.0 } else { 100.0 - f64::from(tick.saturating_sub(10)) * 20.0 };
            assert_eq!(rates.per_second(Traffic::Public, |fate| fate == Fate::Refused), expected, "tick {tick}");
        }
        assert_eq!(rates.per_second(Traffic::Public, |fate| fate == Fate::Failed), 0.0);
    }
}
