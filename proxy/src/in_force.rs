//! What a reload replaces, and how a worker takes it without counting references where others count theirs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};

/// A value that a reload replaces. Any thread reads it without a lock.
#[derive(Debug)]
pub(crate) struct InForce<T> {
    value: ArcSwap<T>,
    /// How often it was replaced.
    generation: AtomicU64,
}

impl<T> InForce<T> {
    /// Puts the first one in force.
    pub(crate) fn new(first: T) -> Self {
        Self { value: ArcSwap::from_pointee(first), generation: AtomicU64::new(0) }
    }

    /// Returns the value for a short look: who waits with it in hand has others take a slower way, since a thread has room
    /// for eight.
    pub(crate) fn load(&self) -> Guard<Arc<T>> {
        self.value.load()
    }

    /// Returns the value, to keep.
    pub(crate) fn load_full(&self) -> Arc<T> {
        self.value.load_full()
    }

    /// Puts another in force.
    pub(crate) fn store(&self, value: Arc<T>) {
        self.value.store(value);
        // After the value: who sees this must find it.
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Returns a number that is another after each [`InForce::store`].
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

impl<T: Default> Default for InForce<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}
