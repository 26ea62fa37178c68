//! What each worker thread has for itself of something that all of them share: no two of them write to one cache line.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The cells of the workers. A worker asks for its own once, and keeps it; whoever adds them up takes the lock. It lives as
/// long as what it is of.
#[derive(Debug)]
pub(crate) struct PerWorker<T>(Mutex<Vec<Arc<Padded<T>>>>);

/// A value on cache lines of its own: processors fetch them in pairs of 64 bytes.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

impl<T: Default> PerWorker<T> {
    /// Returns the cell of a worker, by its number.
    pub(crate) fn of_worker(&self, worker: usize) -> Arc<Padded<T>> {
        let mut cells = self.lock();
        if cells.len() <= worker {
            cells.resize_with(worker + 1, Arc::default);
        }
        cells.get(worker).cloned().unwrap_or_default()
    }

    /// Returns how many workers there are, as far as they have asked.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Does something with each cell.
    pub(crate) fn for_each(&self, each: impl FnMut(&T)) {
        self.lock().iter().map(|cell| &cell.0).for_each(each);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Padded<T>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for PerWorker<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Deref for Padded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
