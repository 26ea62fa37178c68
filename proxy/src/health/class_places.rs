//! How many places of a limit each traffic class has taken.

use std::sync::atomic::{AtomicU64, Ordering};

use policy::concurrency::{Guarantees, MOST_CLASSES, TrafficSlot};

/// The places of each class of the table in force. Every worker counts in it, without a lock.
#[derive(Debug)]
pub(crate) struct ClassPlaces {
    /// By the class's position: the count in the lower half, and in the upper one whose classes these are. A place that
    /// was taken for a class of another table is not counted.
    taken: [AtomicU64; MOST_CLASSES],
}

impl ClassPlaces {
    /// Counts a place for a class; false where that is of another table.
    pub(crate) fn add(&self, slot: TrafficSlot) -> bool {
        self.change(slot, |count| count.checked_add(1))
    }

    /// Takes a place that was counted out of the count.
    pub(crate) fn remove(&self, slot: TrafficSlot) {
        self.change(slot, |count| count.checked_sub(1));
    }

    /// Returns how many places each class has.
    pub(crate) fn counts(&self) -> [u32; MOST_CLASSES] {
        std::array::from_fn(|index| self.of(index))
    }

    /// Returns how many places a class has.
    pub(crate) fn of(&self, index: usize) -> u32 {
        self.taken.get(index).map_or(0, |taken| taken.load(Ordering::SeqCst) as u32)
    }

    /// Begins anew, for other classes.
    pub(crate) fn reset(&self, guarantees: &Guarantees) {
        let none = u64::from(guarantees.key()) << KEY_SHIFT;
        self.taken.iter().for_each(|taken| taken.store(none, Ordering::SeqCst));
    }

    fn change(&self, slot: TrafficSlot, to: impl Fn(u32) -> Option<u32>) -> bool {
        let changed = |taken: u64| {
            let count = to(taken as u32).filter(|_| taken >> KEY_SHIFT == u64::from(slot.key))?;
            Some(u64::from(slot.key) << KEY_SHIFT | u64::from(count))
        };
        let taken = self.taken.get(usize::from(slot.index));
        taken.is_some_and(|taken| taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, changed).is_ok())
    }
}

impl Default for ClassPlaces {
    fn default() -> Self {
        Self { taken: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

/// Where the key of the classes is.
const KEY_SHIFT: u32 = 32;
