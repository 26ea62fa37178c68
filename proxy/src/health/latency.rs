//! How long answers take to their heads, on this node: of a route, which hedging goes by, and of a region.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use policy::quantile::{BUCKETS, bucket, quantile};

/// How long the answers of a route, or of a region, take. Any thread adds to it, without a lock; it outlives a table, by
/// their names.
#[derive(Debug)]
pub(crate) struct AnswerTimes {
    /// Answers by their time to the head, in the buckets of [`policy::quantile`].
    buckets: Box<[AtomicU32]>,
    /// The median, in microseconds; [`NEVER`] while too little is known.
    median: AtomicU64,
    /// The P95, likewise.
    p95: AtomicU64,
}

impl Default for AnswerTimes {
    fn default() -> Self {
        let buckets = (0..BUCKETS).map(|_| AtomicU32::new(0)).collect();
        Self { buckets, median: AtomicU64::new(NEVER), p95: AtomicU64::new(NEVER) }
    }
}

impl AnswerTimes {
    /// Takes an answer's time to its head.
    pub(crate) fn observe(&self, took: Duration) {
        if let Some(count) = self.buckets.get(bucket(took)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the median of its answers.
    pub(crate) fn median(&self) -> Option<Duration> {
        known(&self.median)
    }

    /// Returns the P95 of its answers, after which one that is still awaited is late.
    pub(crate) fn p95(&self) -> Option<Duration> {
        known(&self.p95)
    }

    /// Works the median and the P95 out again. Half of what is known is forgotten each time that there is plenty, so
    /// that they are of the last few thousand answers.
    pub(crate) fn on_tick(&self) {
        let counts = self.buckets.iter().map(|count| u64::from(count.load(Ordering::Relaxed)));
        let total: u64 = counts.clone().sum();
        if total < ENOUGH {
            return;
        }
        for (place, q) in [(&self.median, 0.5), (&self.p95, 0.95)] {
            let now = quantile(counts.clone(), q).map_or(NEVER, |found| found.as_micros() as u64);
            place.store(now, Ordering::Relaxed);
        }
        if total > PLENTY {
            for count in &self.buckets {
                count.fetch_sub(count.load(Ordering::Relaxed) / 2, Ordering::Relaxed);
            }
        }
    }
}

fn known(micros: &AtomicU64) -> Option<Duration> {
    Some(micros.load(Ordering::Relaxed)).filter(|us| *us != NEVER).map(Duration::from_micros)
}

/// Nothing is known yet.
const NEVER: u64 = u64::MAX;
/// A P95 of fewer answers is a guess.
const ENOUGH: u64 = 100;
/// Answers that are remembered, at most, from tick to tick.
const PLENTY: u64 = 10_000;
