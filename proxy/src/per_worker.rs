//! What each worker thread has for itself of something that all of them share: no two of them write to one cache line.

use std::ops::Deref;
use std::sync::Arc;

use arc_swap::ArcSwap;

/// The cells of the workers. A worker asks for its own once, and keeps it; whoever adds them up waits for nobody. It lives as
/// long as what it is of.
#[derive(Debug)]
pub(crate) struct PerWorker<T>(ArcSwap<Vec<Arc<Padded<T>>>>);

/// A value on cache lines of its own: processors fetch them in pairs of 64 bytes.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

impl<T: Default> PerWorker<T> {
    /// Returns the cell of a worker, by its number.
    pub(crate) fn of_worker(&self, worker: usize) -> Arc<Padded<T>> {
        if worker >= self.len() {
            self.0.rcu(|cells| {
                let mut cells = Vec::clone(cells);
                cells.resize_with(cells.len().max(worker + 1), Arc::default);
                cells
            });
        }
        self.0.load().get(worker).cloned().unwrap_or_default()
    }

    /// Returns how many workers there are, as far as they have asked.
    pub(crate) fn len(&self) -> usize {
        self.0.load().len()
    }

    /// Does something with each cell.
    pub(crate) fn for_each(&self, each: impl FnMut(&T)) {
        self.0.load().iter().map(|cell| &cell.0).for_each(each);
    }
}

impl<T> Default for PerWorker<T> {
    fn default() -> Self {
        Self(ArcSwap::default())
    }
}

impl<T> Deref for Padded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
