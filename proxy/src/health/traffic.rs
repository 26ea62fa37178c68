//! What real traffic has shown of an endpoint, counted by attempts and by clients: one client counts once, however often it
//! asks for what fails.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use policy::health::{Counts, Seen};

use crate::clock::coarse_ms;
use crate::per_worker::{Padded, PerWorker};

/// Whose request an attempt was for, and how long that counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrafficSource {
    /// See [`policy::Facts::client_key`].
    pub(crate) client_key: u64,
    /// For so long the client counts no more: `outlier.interval`.
    pub(crate) interval: Duration,
}

/// How a failure is counted, beside among the errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// It is as much about the request.
    Nobody,
    /// It is the endpoint's, or the request's.
    Contested,
    /// It is the endpoint's.
    Confirmed,
}

/// Counts what becomes of the attempts at one endpoint since the process's start. Any thread counts, and reads it without a
/// lock.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// Of workers; and of any thread, the attempts that have failed.
    attempts_by_worker: PerWorker<AttemptCount>,
    attempts: AttemptCount,
    errors: Counter,
    confirmed: Counter,
    contested: Counter,
    slow: Counter,
    /// Attempts that a region's own node had no room for: nothing else is counted of them.
    full: AtomicU64,
    /// Who has asked.
    asking: Clients,
    /// Who has met a failure that may be the endpoint's.
    failing: Clients,
    /// Who has met anything else that is wrong with an answer: it must not hide the former.
    complaining: Clients,
}

/// Attempts, as one worker has counted them.
#[derive(Debug, Default)]
pub(crate) struct AttemptCount(Counter);

#[derive(Debug, Default)]
struct Counter {
    requests: AtomicU64,
    clients: AtomicU64,
}

/// When a client last counted, for as many clients as it takes: two that share a place count as one. It holds no memory
/// before the first.
#[derive(Debug, Default)]
pub(crate) struct Clients(OnceLock<Box<[AtomicU64]>>);

impl Traffic {
    /// Returns the counts.
    pub(crate) fn counts(&self) -> Counts {
        let mut attempts = self.attempts.0.seen();
        self.attempts_by_worker.for_each(|AttemptCount(counter)| {
            let seen = counter.seen();
            attempts.requests += seen.requests;
            attempts.clients += seen.clients;
        });
        Counts {
            attempts,
            errors: self.errors.seen(),
            confirmed: self.confirmed.seen(),
            contested: self.contested.seen(),
            slow: self.slow.seen(),
            full: self.full.load(Ordering::Relaxed),
            retries: 0,
        }
    }

    /// Returns where a worker counts its attempts, by its number.
    pub(crate) fn of_worker(&self, worker: usize) -> Arc<Padded<AttemptCount>> {
        self.attempts_by_worker.of_worker(worker)
    }

    /// Counts an attempt.
    pub(crate) fn attempt(&self, from: TrafficSource) {
        self.attempt_in(&self.attempts, from);
    }

    /// Counts an attempt of a worker.
    pub(crate) fn attempt_in(&self, count: &AttemptCount, from: TrafficSource) {
        count.0.add(self.asking.is_first(from));
    }

    /// Counts an attempt that the region's own node had no room for.
    pub(crate) fn full(&self) {
        self.full.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an attempt, counted already, whose answer took too long.
    pub(crate) fn slow(&self, from: TrafficSource) {
        self.slow.add(self.complaining.is_first(from));
    }

    /// Counts an attempt, counted already, as failed; whether it is its client's first such.
    pub(crate) fn error(&self, from: TrafficSource, blame: Blame) -> bool {
        let clients = if blame == Blame::Nobody { &self.complaining } else { &self.failing };
        let is_first = clients.is_first(from);
        self.errors.add(is_first);
        match blame {
            Blame::Nobody => {}
            Blame::Contested => self.contested.add(is_first),
            Blame::Confirmed => self.confirmed.add(is_first),
        }
        is_first
    }

    /// Has every client count anew: what was shown before has had its effect.
    pub(crate) fn begin_anew(&self) {
        self.asking.forget();
        self.failing.forget();
        self.complaining.forget();
    }
}

impl Counter {
    fn add(&self, is_first: bool) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if is_first {
            self.clients.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn seen(&self) -> Seen {
        Seen { requests: self.requests.load(Ordering::Relaxed), clients: self.clients.load(Ordering::Relaxed) }
    }
}

impl Clients {
    /// Returns whether a client has not counted within the interval, and counts it.
    pub(crate) fn is_first(&self, from: TrafficSource) -> bool {
        let places = self.0.get_or_init(|| (0..PLACES).map(|_| AtomicU64::new(0)).collect());
        let Some(place) = places.get((from.client_key % PLACES) as usize) else { return true };
        let now = coarse_ms() + 1;
        let latest = place.load(Ordering::Relaxed);
        let is_first = latest == 0 || now.saturating_sub(latest) >= from.interval.as_millis() as u64;
        if is_first {
            place.store(now, Ordering::Relaxed);
        }
        is_first
    }

    /// Has every client count anew.
    pub(crate) fn forget(&self) {
        self.0.get().into_iter().flatten().for_each(|place| place.store(0, Ordering::Relaxed));
    }
}

/// Many times what it takes to convict anybody, at 8 KiB for each endpoint and kind.
const PLACES: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_counts_once_an_interval() {
        let traffic = Traffic::default();
        let from = |client_key| TrafficSource { client_key, interval: Duration::from_secs(3600) };
        for client in [7, 7, 8, 7] {
            traffic.attempt(from(client));
            traffic.error(from(client), Blame::Confirmed);
        }
        let counts = traffic.counts();
        assert_eq!(counts.attempts, Seen { requests: 4, clients: 2 });
        assert_eq!((counts.errors, counts.confirmed), (counts.attempts, counts.attempts));
        traffic.begin_anew();
        traffic.attempt(from(7));
        assert_eq!(traffic.counts().attempts, Seen { requests: 5, clients: 3 });
    }
}
