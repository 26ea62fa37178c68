//! Traffic classes: whose requests a region's places are for first.
//!
//! Each class of a table is guaranteed a share of the places. Nothing is set apart: what a class does not ask for others
//! borrow, and give back as their answers end. A place that is given back goes to a class that has less than its
//! guarantee before all others; and of those that wait, those of a class beyond its share of the queue give way first.
//! So a class waits, while others flood, for as long as it takes the next place to be given back, and no longer.

/// A class of requests that is guaranteed a share of each region's places.
#[derive(Clone, Debug, PartialEq)]
pub struct TrafficClass {
    /// The name, unique in the table.
    pub name: String,
    /// The share that is guaranteed, above 0; those of a table are 1 at most together.
    pub guaranteed: f64,
}

/// A traffic class of a table, for what outlives the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrafficSlot {
    /// Tells the classes of one table from other classes.
    pub key: u32,
    /// Its position among them.
    pub index: u8,
}

/// The most classes of a table: each limit counts the places of each.
pub const MOST_CLASSES: usize = 16;

/// What each class of a table is guaranteed, by [`TrafficSlot::index`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Guarantees {
    /// Which classes of which table these are.
    key: u32,
    shares: [f32; MOST_CLASSES],
}

impl Guarantees {
    /// Makes the guarantees of classes in the order of their slots; `key` tells these classes from others.
    pub fn new(key: u32, shares: impl IntoIterator<Item = f32>) -> Self {
        let mut guarantees = Self { key, ..Self::default() };
        for (kept, share) in guarantees.shares.iter_mut().zip(shares) {
            *kept = share;
        }
        guarantees
    }

    /// Returns which classes these are; 0 of none.
    pub fn key(&self) -> u32 {
        self.key
    }

    /// Returns a class's position, if it is one of these.
    pub fn index(&self, slot: TrafficSlot) -> Option<usize> {
        let index = usize::from(slot.index);
        (slot.key == self.key && index < MOST_CLASSES).then_some(index)
    }

    /// Returns the slot of a position.
    pub fn slot(&self, index: usize) -> Option<TrafficSlot> {
        Some(TrafficSlot { key: self.key, index: u8::try_from(index).ok().filter(|_| self.key != 0)? })
    }

    /// Returns how many of so many places, of the region or its queue, are a class's: its share without a fraction, and
    /// at least one, so that no class is shut out of a small limit.
    pub fn places(&self, index: usize, of: usize) -> usize {
        match self.shares.get(index) {
            Some(share) if *share > 0.0 => ((f64::from(*share) * of as f64 + ROUNDING) as usize).max(1).min(of),
            _ => 0,
        }
    }
}

/// The places of a limit, and how many each class has taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Taken {
    /// How many there may be.
    pub limit: usize,
    /// How many each class has.
    pub by_class: [u32; MOST_CLASSES],
}

impl Taken {
    /// Returns whether a class has less than it is guaranteed.
    pub fn is_below(&self, guarantees: &Guarantees, index: Option<usize>) -> bool {
        let taken = |index: usize| self.by_class.get(index).copied().unwrap_or(u32::MAX) as usize;
        index.is_some_and(|index| taken(index) < guarantees.places(index, self.limit))
    }
}

/// 0.3 of 10 is 3, whatever a fraction of two makes of it.
const ROUNDING: f64 = 1e-4;

#[cfg(test)]
mod tests;
