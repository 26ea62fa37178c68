//! How full is too full, for whom: a curve for each criticality, limits that find themselves, and who waits for a place.

pub mod gradient;
pub mod queue;

use std::time::Duration;

use crate::pressure::Criticality;

pub use gradient::{Bounds, Gradient, Tick};
pub use queue::{Leaves, Queue, QueuePlan};

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

/// Returns whether one more request is admitted when `in_flight` of at most `cap` are under way.
///
/// The unimportant goes first: sheddable requests are refused from 80 % of the cap, default ones
/// from 95 %, critical ones only at the cap itself.
pub fn admits(criticality: Criticality, in_flight: usize, cap: usize) -> bool {
    let percent = match criticality {
        Criticality::Sheddable => 80,
        Criticality::Default => 95,
        Criticality::Critical => 100,
    };
    // A small cap must still admit something of every kind.
    in_flight < (cap.saturating_mul(percent) / 100).max(1).min(cap)
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

    #[test]
    fn the_unimportant_goes_first() {
        for (in_flight, sheddable, default, critical) in [
            (0, true, true, true),
            (79, true, true, true),
            (80, false, true, true),
            (95, false, false, true),
            (100, false, false, false),
        ] {
            assert_eq!(admits(Criticality::Sheddable, in_flight, 100), sheddable, "sheddable at {in_flight}");
            assert_eq!(admits(Criticality::Default, in_flight, 100), default, "default at {in_flight}");
            assert_eq!(admits(Criticality::Critical, in_flight, 100), critical, "critical at {in_flight}");
        }
        assert!(admits(Criticality::Sheddable, 0, 1));
        assert!(!admits(Criticality::Critical, 0, 0));
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
