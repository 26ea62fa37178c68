//! Traffic classes: whose requests a region's places are for first.
//!
//! Each class of a table is guaranteed a share of the places. Nothing is set apart: what a class does not ask for others
//! borrow, and give back as their answers end. A place that is given back goes to a class that has less than its
//! guarantee before all others, of several to the one that has the smallest part of its own, and among these to the one
//! that has had none for longest: so each gets one, even where small limits make the guarantees more than there is. Of
//! those that wait, those of a class beyond its share of the queue give way first, and who is below its guarantee is not
//! hurried out. So a class waits, while others flood, for as long as it takes the next place to be given back.

use std::cmp::Ordering;

/// A class of requests that is guaranteed a share of each region's places.
#[derive(Clone, Debug, PartialEq)]
pub struct TrafficClass {
    /// The name, unique in the table.
    pub name: String,
    /// The share that is guaranteed, above 0; those of a table are 1 at most together.
    pub guaranteed: f64,
}

/// A traffic class, for what outlives the table: its position of [`ClassPositions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrafficSlot {
    /// Tells the class from others that have had the position.
    pub key: u32,
    /// The position.
    pub index: u8,
}

/// The most classes of a table: each limit counts the places of each.
pub const MOST_CLASSES: usize = 16;

/// What each class is guaranteed, by [`TrafficSlot::index`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guarantees {
    /// Which class is at each position; 0: none.
    keys: [u32; MOST_CLASSES],
    shares: [f32; MOST_CLASSES],
    /// The share of all requests that are of no class.
    rest: f32,
}

/// The positions of the classes of one table after the other. A class keeps its position while tables have it, and for as
/// long afterwards as no other needs it; and its key with it, so that what was counted for it is counted on.
#[derive(Debug, Default)]
pub struct ClassPositions {
    /// The name at each position, and its key.
    held: [Option<(Box<str>, u32)>; MOST_CLASSES],
    last_key: u32,
}

/// Where the classes of a table are.
#[derive(Clone, Debug)]
pub struct PlacedClasses {
    /// What each is guaranteed.
    pub guarantees: Guarantees,
    /// By the position in the table.
    pub slots: Box<[TrafficSlot]>,
    /// The positions that have the class which they had before.
    pub kept: [bool; MOST_CLASSES],
}

impl ClassPositions {
    /// Gives each class of a table a position; past [`MOST_CLASSES`], none. With `anew`, no class counts on.
    pub fn place(&mut self, classes: &[TrafficClass], anew: bool) -> PlacedClasses {
        let mut kept = [false; MOST_CLASSES];
        let classes = classes.get(..MOST_CLASSES).unwrap_or(classes);
        for (held, kept) in self.held.iter().zip(&mut kept) {
            *kept = held.as_ref().is_some_and(|(name, _)| classes.iter().any(|class| *class.name == **name));
        }
        if anew {
            for (_, key) in self.held.iter_mut().flatten() {
                self.last_key = next_key(self.last_key);
                *key = self.last_key;
            }
        }
        let mut is_taken = kept;
        let mut guarantees = Guarantees::default();
        let mut slots = Vec::with_capacity(classes.len());
        for class in classes {
            let is_its = |held: &Option<(Box<str>, u32)>| held.as_ref().is_some_and(|(name, _)| **name == *class.name);
            let known = self.held.iter().position(is_its);
            // One that was never used is better than one whose class may come back.
            let is_free = |index: &usize| is_taken.get(*index) == Some(&false);
            let fresh = |index: &usize| self.held.get(*index).is_some_and(Option::is_none);
            let free = || (0..MOST_CLASSES).find(fresh).or_else(|| (0..MOST_CLASSES).find(is_free));
            let Some(index) = known.or_else(free) else { continue };
            if known.is_none() {
                self.last_key = next_key(self.last_key);
            }
            let (Some(held), Some(taken)) = (self.held.get_mut(index), is_taken.get_mut(index)) else { continue };
            let (_, key) =
                held.take_if(|_| known.is_some()).unwrap_or_else(|| (class.name.as_str().into(), self.last_key));
            *held = Some((class.name.as_str().into(), key));
            *taken = true;
            guarantees.give(index, key, class.guaranteed as f32);
            slots.push(TrafficSlot { key, index: index as u8 });
        }
        PlacedClasses { guarantees, slots: slots.into(), kept }
    }
}

impl Guarantees {
    fn give(&mut self, index: usize, key: u32, share: f32) {
        if let (Some(kept), Some(of)) = (self.keys.get_mut(index), self.shares.get_mut(index)) {
            (*kept, *of) = (key, share);
            self.rest = (self.rest - share).max(0.0);
        }
    }

    /// Returns whether there is no class.
    pub fn is_empty(&self) -> bool {
        self.keys == [0; MOST_CLASSES]
    }

    /// Returns which class is at each position; 0: none.
    pub fn keys(&self) -> &[u32; MOST_CLASSES] {
        &self.keys
    }

    /// Returns a class's position, if it is one of these.
    pub fn index(&self, slot: TrafficSlot) -> Option<usize> {
        let index = usize::from(slot.index);
        self.keys.get(index).is_some_and(|key| *key == slot.key && *key != 0).then_some(index)
    }

    /// Returns the slot of a position.
    pub fn slot(&self, index: usize) -> Option<TrafficSlot> {
        let key = *self.keys.get(index).filter(|key| **key != 0)?;
        Some(TrafficSlot { key, index: u8::try_from(index).ok()? })
    }

    /// Returns how many of so many places, of the region or its queue, are a class's: its share without a fraction, and
    /// at least one, so that no class is shut out of a small limit.
    pub fn places(&self, index: usize, of: usize) -> usize {
        self.shares.get(index).map_or(0, |share| part(*share, of))
    }

    /// Returns how many of so many places in the queue are for requests of no class: what the classes leave.
    pub fn rest(&self, of: usize) -> usize {
        part(self.rest, of)
    }
}

impl Default for Guarantees {
    fn default() -> Self {
        Self { keys: [0; MOST_CLASSES], shares: [0.0; MOST_CLASSES], rest: 1.0 }
    }
}

fn part(share: f32, of: usize) -> usize {
    if f64::from(share) < ROUNDING {
        return 0;
    }
    ((f64::from(share) * of as f64 + ROUNDING) as usize).max(1).min(of)
}

/// Returns the next key: no key is 0.
fn next_key(key: u32) -> u32 {
    key.wrapping_add(1).max(1)
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

    /// Compares how much two classes have of what they are guaranteed.
    pub fn compare(&self, guarantees: &Guarantees, one: usize, other: usize) -> Ordering {
        let taken = |index: usize| self.by_class.get(index).copied().map_or(u64::MAX, u64::from);
        let places = |index: usize| guarantees.places(index, self.limit) as u64;
        taken(one).saturating_mul(places(other)).cmp(&taken(other).saturating_mul(places(one)))
    }
}

/// 0.3 of 10 is 3, whatever a fraction of two makes of it.
const ROUNDING: f64 = 1e-4;

#[cfg(test)]
mod tests;
