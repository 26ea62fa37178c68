//! How long a route's answers take, on this node.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use policy::quantile::{BUCKETS, bucket, quantile};

/// A route's live state: how long its answers take.
#[derive(Debug)]
pub struct RouteState {
    /// Answers by their time to the head, in the buckets of [`policy::quantile`].
    buckets: Box<[AtomicU32]>,
    /// After how long an attempt is doubled, in microseconds; [`NEVER`] while too little is known.
    hedge_after: AtomicU64,
}

impl Default for RouteState {
    fn default() -> Self {
        let buckets = (0..BUCKETS).map(|_| AtomicU32::new(0)).collect();
        Self { buckets, hedge_after: AtomicU64::new(NEVER) }
    }
}

impl RouteState {
    /// Takes an answer's time to its head.
    pub fn observe(&self, took: Duration) {
        if let Some(count) = self.buckets.get(bucket(took)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The P95 of its answers, after which one that is still awaited is late.
    pub fn hedge_after(&self) -> Option<Duration> {
        Some(self.hedge_after.load(Ordering::Relaxed)).filter(|us| *us != NEVER).map(Duration::from_micros)
    }

    /// Works the P95 out again. Half of what is known is forgotten each time that there is plenty, so
    /// that the P95 is of the last few thousand answers.
    pub fn on_tick(&self) {
        let counts = self.buckets.iter().map(|count| u64::from(count.load(Ordering::Relaxed)));
        let total: u64 = counts.clone().sum();
        if total < ENOUGH {
            return;
        }
        let p95 = quantile(counts, 0.95).map_or(NEVER, |p95| p95.as_micros() as u64);
        self.hedge_after.store(p95, Ordering::Relaxed);
        if total > PLENTY {
            for count in &self.buckets {
                count.fetch_sub(count.load(Ordering::Relaxed) / 2, Ordering::Relaxed);
            }
        }
    }
}

/// No hedge yet.
const NEVER: u64 = u64::MAX;
/// A P95 of fewer answers is a guess.
const ENOUGH: u64 = 100;
/// Answers that are remembered, at most, from tick to tick.
const PLENTY: u64 = 10_000;
