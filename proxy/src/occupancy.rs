//! What is in flight on this node, and how far its drain is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

/// Where a node's drain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Drain {
    /// It serves.
    Serving,
    /// Not ready; each answer asks its client to close.
    Announced,
    /// And no new connections.
    Stopping,
    /// And idle connections are closed, busy ones after their answer.
    Closing,
}

/// What is in flight on a node, and how far its drain is. One for each node; any thread counts.
pub(crate) struct Occupancy {
    /// Requests in flight.
    pub(crate) requests: Arc<AtomicUsize>,
    /// Client connections open.
    pub(crate) connections: Arc<AtomicUsize>,
    /// Tunnels open, or about to be.
    pub(crate) tunnels: Arc<AtomicUsize>,
    /// How far the drain is.
    pub(crate) drain: watch::Sender<Drain>,
}

impl Default for Occupancy {
    fn default() -> Self {
        let drain = watch::Sender::new(Drain::Serving);
        Self { requests: Arc::default(), connections: Arc::default(), tunnels: Arc::default(), drain }
    }
}

impl Occupancy {
    /// Returns how far the drain is.
    pub(crate) fn draining(&self) -> Drain {
        *self.drain.borrow()
    }

    /// Counts what is alive: a tunnel has left its connection, and is no request in flight.
    pub(crate) fn alive(&self) -> usize {
        [&self.connections, &self.requests, &self.tunnels].iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

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
