//! How many places of a limit each traffic class has taken.

use std::sync::atomic::{AtomicU64, Ordering};

use policy::concurrency::{Guarantees, MOST_CLASSES, TrafficSlot};

/// The places of each class that a limit knows. Every worker counts in it, without a lock.
#[derive(Debug)]
pub(crate) struct ClassPlaces {
    /// By the class's position: the count in the lower half, and the class's key in the upper one. A place that was taken
    /// for another that had the position is not counted.
    taken: [AtomicU64; MOST_CLASSES],
}

impl ClassPlaces {
    /// Counts a place for a class; false where another has its position.
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

    /// Begins anew for the classes that are new at their position. Positions without a class stay: it may come back.
    pub(crate) fn follow(&self, guarantees: &Guarantees) {
        for (taken, key) in self.taken.iter().zip(guarantees.keys()) {
            let none = u64::from(*key) << KEY_SHIFT;
            if *key != 0 && taken.load(Ordering::SeqCst) >> KEY_SHIFT != u64::from(*key) {
                taken.store(none, Ordering::SeqCst);
            }
        }
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

/// Where the key of the class is.
const KEY_SHIFT: u32 = 32;
