//! The routing in force on a node, and what it takes to put another in its place.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, Guard};

use super::{PersistedState, Routing};
use crate::clock::LawClock;
use crate::in_force::retire;

/// The routing in force. One for each node, for as long as the process lives; any thread reads it without a lock.
pub(crate) struct CurrentRouting {
    routing: ArcSwap<Routing>,
    /// [`Routing::generation`] of the routing in force, for what is under way to compare.
    generation: AtomicU64,
    swapping: Mutex<()>,
    /// What outlives a table.
    pub(crate) persisted: PersistedState,
    /// What time the law has.
    pub(crate) law: Arc<LawClock>,
}

impl CurrentRouting {
    /// Puts a node's first routing in force.
    pub(crate) fn new(first: Routing, persisted: PersistedState, law: Arc<LawClock>) -> Self {
        let generation = AtomicU64::new(first.generation);
        Self { routing: ArcSwap::from_pointee(first), generation, swapping: Mutex::default(), persisted, law }
    }

    /// Returns the routing in force, for a short look.
    pub(crate) fn load(&self) -> Guard<Arc<Routing>> {
        self.routing.load()
    }

    /// Returns the routing in force, to keep.
    pub(crate) fn load_full(&self) -> Arc<Routing> {
        self.routing.load_full()
    }

    /// Returns [`Routing::generation`] of the routing in force, or of the one before while that is replaced.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Lets nobody else replace the routing meanwhile: what is built of one table must not take the place of a
    /// later one.
    pub(crate) fn lock(&self) -> MutexGuard<'_, ()> {
        self.swapping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts another routing in force. The caller holds [`CurrentRouting::lock`].
    pub(crate) fn replace(&self, routing: Arc<Routing>) {
        let generation = routing.generation;
        let replaced = self.routing.swap(routing);
        // After the routing itself: what is under way and sees this must find the routing that it is of.
        self.generation.store(generation, Ordering::Release);
        retire(replaced);
    }

    /// Returns the state of the law on this node, as a number that changes whenever what is under way has to ask
    /// again: with each table, and when one expires or is confirmed again.
    pub(crate) fn law_state(&self) -> u64 {
        let expired = self.persisted.expired.load(Ordering::Relaxed);
        self.generation() << 1 | u64::from(expired)
    }
}
