//! How full is too full, for whom: a curve for each criticality, limits that find themselves, and who waits for a place.

pub mod classes;
pub mod gradient;
pub mod queue;

use std::time::Duration;

use crate::hash::{SHED_SALT, fraction, mix};
use crate::pressure::Criticality;

pub use classes::{ClassPositions, Guarantees, MOST_CLASSES, PlacedClasses, Taken, TrafficClass, TrafficSlot};
pub use gradient::{Bounds, Gradient, Tick};
pub use queue::{Leaves, Queue, QueuePlan, Request};

/// How many requests a region, or a version of its software, gets from one node at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// As many as the node's cap lets it.
    #[default]
    Off,
    /// So many, from their first byte to their answer's last.
    Fixed(u32),
    /// As many as it answers without having them wait, of those whose answer's head is awaited.
    Adaptive(Bounds),
}

/// The limit of a region, and what waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConcurrencyPlan {
    /// The limit.
    pub mode: Mode,
    /// Who waits while it is reached.
    pub queue: QueuePlan,
}

impl Default for ConcurrencyPlan {
    fn default() -> Self {
        let queue = QueuePlan { length: 128, age: Duration::from_secs(1) };
        Self { mode: Mode::Off, queue }
    }
}

/// Returns whether one more request is admitted when `in_flight` of at most `cap` are under way. `client_key` is its
/// client's hash, by which it is among those that are refused first.
///
/// The unimportant goes first, and more of it the fuller it is: sheddable requests from 75 % of the cap on until none is
/// admitted at 85 %, default ones from 93 % to 97 %, critical ones at the cap itself.
pub fn admits(criticality: Criticality, in_flight: usize, cap: usize, client_key: u64) -> bool {
    let (from, until) = match criticality {
        Criticality::Sheddable => (75, 85),
        Criticality::Default => (93, 97),
        Criticality::Critical => (100, 100),
    };
    // A small cap must still admit something of every kind.
    let mark = |percent| (cap.saturating_mul(percent) / 100).max(1).min(cap);
    let (from, until) = (mark(from), mark(until));
    if in_flight <= from || in_flight >= until {
        return in_flight < until;
    }
    let refused = (in_flight - from) as f32 / (until - from) as f32;
    fraction(mix(client_key ^ SHED_SALT)) > f64::from(refused)
}

/// Returns after how many seconds one that was refused may come again: at once for some and later for others, so that
/// they do not all come back together, and over a longer time the fuller it is. `load` is 1 where it is just full, and
/// `chance` in `0..1`.
pub fn retry_after(load: f32, chance: f32) -> u32 {
    let span = (SHORTEST_SPAN * load).clamp(SHORTEST_SPAN, LONGEST_SPAN);
    1 + (span * chance.clamp(0.0, 1.0)) as u32
}

/// What was refused comes back over so many seconds where it is just full, and over so many at most.
const SHORTEST_SPAN: f32 = 5.0;
const LONGEST_SPAN: f32 = 30.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::client_key;
    use Criticality::{Critical, Default, Sheddable};
    use proptest::prelude::*;

    #[test]
    fn the_unimportant_goes_first() {
        for (in_flight, sheddable, default, critical) in [
            (0, 100, 100, 100),
            (75, 100, 100, 100),
            (80, 50, 100, 100),
            (85, 0, 100, 100),
            (93, 0, 100, 100),
            (95, 0, 50, 100),
            (97, 0, 0, 100),
            (100, 0, 0, 0),
        ] {
            let key = |client: u32| client_key(&client.to_be_bytes());
            for (criticality, percent) in [(Sheddable, sheddable), (Default, default), (Critical, critical)] {
                let found = (0..1_000).filter(|each| admits(criticality, in_flight, 100, key(*each))).count();
                let noise = if percent % 100 == 0 { 0 } else { 50 };
                let is_right = (percent * 10_usize).abs_diff(found) <= noise;
                assert!(is_right, "{criticality:?} at {in_flight}: {found} of 1000, not {percent} %");
            }
        }
        assert!(admits(Sheddable, 0, 1, 0));
        assert!(!admits(Critical, 0, 0, 0));
    }

    proptest! {
        /// Fuller admits no more, more important no less, and nobody past the cap.
        #[test]
        fn the_curves_have_an_order(cap in 0..2_000_usize, in_flight in 0..2_500_usize, key in any::<u64>()) {
            let at = |criticality, in_flight| admits(criticality, in_flight, cap, key);
            for criticality in [Sheddable, Default, Critical] {
                prop_assert!(at(criticality, in_flight) || !at(criticality, in_flight + 1));
                prop_assert!(!at(criticality, in_flight) || in_flight < cap);
                prop_assert!(at(criticality, 0) || cap == 0);
            }
            prop_assert!(at(Critical, in_flight) || !at(Default, in_flight));
            prop_assert!(at(Default, in_flight) || !at(Sheddable, in_flight));
        }
    }

    #[test]
    fn who_was_refused_comes_back_over_a_while() {
        for (load, chance, seconds) in [
            (0.0, 0.0, 1),
            (1.0, 0.0, 1),
            (1.0, 0.5, 3),
            (1.0, 0.99, 5),
            (3.0, 0.99, 15),
            (100.0, 0.99, 30),
            (f32::NAN, 0.5, 1),
        ] {
            assert_eq!(retry_after(load, chance), seconds, "{load} {chance}");
        }
    }
}
