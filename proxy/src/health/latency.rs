//! How long a route's answers take, on this node: what hedging goes by.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use policy::quantile::{BUCKETS, bucket, quantile};

/// How long one route's answers take. Any thread adds to it, without a lock; it outlives a table, by the route's
/// name.
#[derive(Debug)]
pub(crate) struct RouteLatency {
    /// Answers by their time to the head, in the buckets of [`policy::quantile`].
    buckets: Box<[AtomicU32]>,
    /// The P95, in microseconds; [`NEVER`] while too little is known.
    p95: AtomicU64,
}

impl Default for RouteLatency {
    fn default() -> Self {
        let buckets = (0..BUCKETS).map(|_| AtomicU32::new(0)).collect();
        Self { buckets, p95: AtomicU64::new(NEVER) }
    }
}

impl RouteLatency {
    /// Takes an answer's time to its head.
    pub(crate) fn observe(&self, took: Duration) {
        if let Some(count) = self.buckets.get(bucket(took)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the P95 of its answers, after which one that is still awaited is late.
    pub(crate) fn p95(&self) -> Option<Duration> {
        Some(self.p95.load(Ordering::Relaxed)).filter(|us| *us != NEVER).map(Duration::from_micros)
    }

    /// Works the P95 out again. Half of what is known is forgotten each time that there is plenty, so
    /// that the P95 is of the last few thousand answers.
    pub(crate) fn on_tick(&self) {
        let counts = self.buckets.iter().map(|count| u64::from(count.load(Ordering::Relaxed)));
        let total: u64 = counts.clone().sum();
        if total < ENOUGH {
            return;
        }
        let now = quantile(counts, 0.95).map_or(NEVER, |p95| p95.as_micros() as u64);
        self.p95.store(now, Ordering::Relaxed);
        if total > PLENTY {
            for count in &self.buckets {
                count.fetch_sub(count.load(Ordering::Relaxed) / 2, Ordering::Relaxed);
            }
        }
    }
}

/// No P95 yet.
const NEVER: u64 = u64::MAX;
/// A P95 of fewer answers is a guess.
const ENOUGH: u64 = 100;
/// Answers that are remembered, at most, from tick to tick.
const PLENTY: u64 = 10_000;
