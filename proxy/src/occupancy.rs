//! What is in flight on this node, and how far its drain is.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::client_counts::ClientCounts;
use crate::clock;
use crate::in_flight::InFlightCount;

/// Where a node's drain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Drain {
    /// It serves.
    Serving,
    /// Not ready; each answer asks its client to close. New connections are still taken.
    Announced,
    /// And no new connections.
    Stopping,
    /// And idle connections are closed, busy ones after their answer.
    Closing,
}

/// What is in flight on a node, and how far its drain is. One for each node; any thread counts.
pub(crate) struct Occupancy {
    /// Requests in flight.
    pub(crate) requests: Arc<InFlightCount>,
    /// Client connections open.
    pub(crate) connections: Arc<AtomicUsize>,
    /// The same by client, of those that a limit holds for.
    pub(crate) connections_by_client: Arc<ClientCounts>,
    /// Requests in flight and tunnels by client, of those that a limit holds for.
    pub(crate) requests_by_client: Arc<ClientCounts>,
    /// Tunnels open, or about to be.
    pub(crate) tunnels: Arc<AtomicUsize>,
    /// Sockets that take connections.
    pub(crate) accepting: Arc<AtomicUsize>,
    /// Since when the drain is announced.
    announced: OnceLock<Instant>,
    /// How far the drain is, for whoever waits for it.
    drain: watch::Sender<Drain>,
    /// The same, as a number: each answer looks at it, without the watch's lock.
    stage: AtomicU8,
}

impl Default for Occupancy {
    fn default() -> Self {
        let drain = watch::Sender::new(Drain::Serving);
        let stage = AtomicU8::new(Drain::Serving as u8);
        Self {
            requests: Arc::default(),
            connections: Arc::default(),
            connections_by_client: Arc::default(),
            requests_by_client: Arc::default(),
            tunnels: Arc::default(),
            accepting: Arc::default(),
            announced: OnceLock::new(),
            drain,
            stage,
        }
    }
}

impl Occupancy {
    /// Returns how far the drain is.
    pub(crate) fn draining(&self) -> Drain {
        let stage = self.stage.load(Ordering::Relaxed);
        STAGES.into_iter().find(|known| *known as u8 == stage).unwrap_or(Drain::Closing)
    }

    /// Returns a receiver that sees each step of the drain.
    pub(crate) fn watch_drain(&self) -> watch::Receiver<Drain> {
        self.drain.subscribe()
    }

    /// Goes on with the drain, to `stage`. It never goes back.
    pub(crate) fn drain_to(&self, stage: Drain) {
        self.announced.get_or_init(clock::now);
        self.drain.send_if_modified(|current| {
            let goes_on = stage > *current;
            if goes_on {
                *current = stage;
                // Within the watch's lock, so that both say the same.
                self.stage.store(stage as u8, Ordering::Relaxed);
            }
            goes_on
        });
    }

    /// Returns for how long the drain has been announced.
    pub(crate) fn announced_for(&self) -> Duration {
        self.announced.get().map(|since| clock::now().saturating_duration_since(*since)).unwrap_or_default()
    }

    /// Counts what is alive: a tunnel has left its connection, and is no request in flight; a socket that takes
    /// connections may have some that nobody has taken yet. Connections are looked at first: no request begins without one, so
    /// that requests which begin or end while they are counted are not all that is alive.
    pub(crate) fn alive(&self) -> usize {
        let others = [&self.connections, &self.tunnels, &self.accepting].map(|count| count.load(Ordering::Relaxed));
        self.requests.exactly() + others.iter().sum::<usize>()
    }
}

const STAGES: [Drain; 4] = [Drain::Serving, Drain::Announced, Drain::Stopping, Drain::Closing];

/// Counts something in flight, for as long as it lives.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    /// Counts one more.
    pub(crate) fn enter(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
