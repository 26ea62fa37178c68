//! How long answers take to their heads, on this node: of a route, which hedging goes by, and of a region.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use policy::quantile::{BUCKETS, bucket, quantile};

use crate::per_worker::{Padded, PerWorker};

/// How long the answers of a route, or of a region, take. Any thread adds to it, without a lock, and a worker by
/// [`AnswerTimes::of_worker`]; it outlives a table, by their names.
#[derive(Debug)]
pub(crate) struct AnswerTimes {
    shared: Buckets,
    by_worker: PerWorker<Buckets>,
    /// The median, in microseconds; [`NEVER`] while too little is known.
    median: AtomicU64,
    /// The P95, likewise.
    p95: AtomicU64,
}

/// Answers by their time to the head, in the buckets of [`policy::quantile`].
#[derive(Debug)]
pub(crate) struct Buckets([AtomicU32; BUCKETS]);

impl Default for AnswerTimes {
    fn default() -> Self {
        let (shared, by_worker) = (Buckets::default(), PerWorker::default());
        Self { shared, by_worker, median: AtomicU64::new(NEVER), p95: AtomicU64::new(NEVER) }
    }
}

impl Default for Buckets {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU32::new(0)))
    }
}

impl Buckets {
    /// Takes an answer's time to its head.
    pub(crate) fn observe(&self, took: Duration) {
        if let Some(count) = self.0.get(bucket(took)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn add_to(&self, sum: &mut [u64; BUCKETS]) {
        for (sum, count) in sum.iter_mut().zip(&self.0) {
            *sum += u64::from(count.load(Ordering::Relaxed));
        }
    }

    fn forget_half(&self) {
        for count in &self.0 {
            count.fetch_sub(count.load(Ordering::Relaxed) / 2, Ordering::Relaxed);
        }
    }
}

impl AnswerTimes {
    /// Takes an answer's time to its head.
    pub(crate) fn observe(&self, took: Duration) {
        self.shared.observe(took);
    }

    /// Returns where a worker adds to it, by its number, so that no two write to one place.
    pub(crate) fn of_worker(&self, worker: usize) -> Arc<Padded<Buckets>> {
        self.by_worker.of_worker(worker)
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
        let mut counts = [0; BUCKETS];
        self.shared.add_to(&mut counts);
        self.by_worker.for_each(|buckets| buckets.add_to(&mut counts));
        let total: u64 = counts.iter().sum();
        if total < ENOUGH {
            return;
        }
        for (place, q) in [(&self.median, 0.5), (&self.p95, 0.95)] {
            let now = quantile(counts.iter().copied(), q).map_or(NEVER, |found| found.as_micros() as u64);
            place.store(now, Ordering::Relaxed);
        }
        if total > PLENTY {
            self.shared.forget_half();
            self.by_worker.for_each(Buckets::forget_half);
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
