//! What a reload replaces, and how a worker takes it without counting references where others count theirs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use tokio::runtime::Handle;
use tokio::time::sleep;

/// A value that a reload replaces. Any thread reads it without a lock.
#[derive(Debug)]
pub(crate) struct InForce<T> {
    value: ArcSwap<T>,
    /// How often it was replaced.
    generation: AtomicU64,
}

/// Keeps what was replaced until each worker has let go of it, as it does at its next look: to tear a large table or database
/// down takes longer than its event loop has. Without a runtime nothing is kept.
pub(crate) fn retire<T: Send + Sync + 'static>(replaced: Arc<T>) {
    if let Ok(runtime) = Handle::try_current() {
        drop(runtime.spawn(async move {
            sleep(RETIRED).await;
            drop(replaced);
        }));
    }
}

impl<T: Send + Sync + 'static> InForce<T> {
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
        let replaced = self.value.swap(value);
        // After the value: who sees this must find it.
        self.generation.fetch_add(1, Ordering::Release);
        retire(replaced);
    }

    /// Returns a number that is another after each [`InForce::store`].
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

impl<T: Default + Send + Sync + 'static> Default for InForce<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// A worker looks twice a second, or more often.
const RETIRED: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_replaced_outlives_the_looks_of_workers_and_no_more() {
        let value = InForce::new(1);
        let first = Arc::downgrade(&value.load_full());
        value.store(Arc::new(2));
        sleep(RETIRED / 2).await;
        assert!(first.upgrade().is_some());
        sleep(RETIRED).await;
        assert!(first.upgrade().is_none());
    }
}
