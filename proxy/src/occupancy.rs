//! What is in flight on this node, and how far its drain is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where a node's drain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drain {
    /// It serves.
    Serving,
    /// Not ready; each answer asks its client to close.
    Announced,
    /// And no new connections.
    Stopping,
    /// And idle connections are closed, busy ones after their answer.
    Closing,
}

/// Counts something in flight, for as long as it lives.
#[derive(Debug)]
pub struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    /// Counts one more.
    pub fn enter(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
