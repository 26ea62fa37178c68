//! How many connections the admin listener has at a time, and for what: some are for probes alone, so that nobody who
//! opens many takes the node out of service.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of one admin listener. Lives on its thread.
pub(super) struct Places {
    any: Arc<Semaphore>,
    probes: Arc<Semaphore>,
}

/// One connection's place.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    is_for_probes: bool,
}

impl Default for Places {
    fn default() -> Self {
        Self { any: Arc::new(Semaphore::new(MAX_CONNECTIONS)), probes: Arc::new(Semaphore::new(MAX_PROBES)) }
    }
}

impl Places {
    /// Takes a place, if one is free: one for probes when all others are taken.
    pub(super) fn take(&self) -> Option<Place> {
        let take = |places: &Arc<Semaphore>, is_for_probes| {
            let permit = places.clone().try_acquire_owned().ok()?;
            Some(Place { _permit: permit, is_for_probes })
        };
        take(&self.any, false).or_else(|| take(&self.probes, true))
    }
}

impl Place {
    /// Returns whether this path may be asked for from here.
    pub(super) fn may_ask(&self, path: &str) -> bool {
        !self.is_for_probes || matches!(path, "/live" | "/ready")
    }

    /// Returns whether the connection may be asked again.
    pub(super) fn is_kept(&self) -> bool {
        !self.is_for_probes
    }

    /// Returns how long a head may take, from the connection's start or an answer.
    pub(super) fn head_timeout(&self) -> Duration {
        if self.is_for_probes { PROBE_TIMEOUT } else { HEAD_TIMEOUT }
    }
}

/// Connections at a time: a few scrapers, kubelets and operators, and no more than a node can spare.
const MAX_CONNECTIONS: usize = 128;
/// And for probes, when all of those are taken.
const MAX_PROBES: usize = 32;
/// From a connection's start, or an answer, to the next head's end.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A probe asks at once.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_places_are_for_probes() {
        let places = Places::default();
        let taken: Vec<Place> = (0..MAX_CONNECTIONS).filter_map(|_| places.take()).collect();
        assert_eq!(taken.iter().filter(|place| place.may_ask("/status") && place.is_kept()).count(), MAX_CONNECTIONS);
        let probes: Vec<Place> = (0..MAX_PROBES).filter_map(|_| places.take()).collect();
        assert_eq!(probes.len(), MAX_PROBES);
        assert!(probes.iter().all(|place| place.may_ask("/live") && place.may_ask("/ready") && !place.is_kept()));
        assert!(!probes.iter().any(|place| place.may_ask("/status")));
        assert!(places.take().is_none());
        drop(taken);
        assert!(places.take().is_some_and(|place| place.may_ask("/status")));
    }
}
