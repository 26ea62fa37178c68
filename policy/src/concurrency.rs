//! How full is too full, for whom: a curve for each criticality, limits that find themselves, and who waits for a place.

pub mod classes;
pub mod gradient;
pub mod queue;

use std::time::Duration;

use crate::hash::{SHED_SALT, TURN_SALT, fraction, mix};
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
/// client's hash, by which it is among those that are refused first for a while ([`TURN`]); `now` is the time since 1970,
/// and asked for only where some are refused.
///
/// The unimportant goes first, and more of it the fuller it is: sheddable requests from 75 % of the cap on until none is
/// admitted at 85 %, default ones from 93 % to 97 %, critical ones at the cap itself.
pub fn admits(
    criticality: Criticality,
    in_flight: usize,
    cap: usize,
    client_key: u64,
    now: impl FnOnce() -> Duration,
) -> bool {
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
    fraction(turn(client_key, now())) > f64::from(refused)
}

/// Returns the hash of a client by which it is refused sooner or later than others. It changes once in a [`TURN`], for each
/// client at a moment of its own within that: whoever is refused is so for minutes, not by the request, and nobody for
/// ever; and there is no moment at which all are others. By the wall clock, so that all nodes refuse the same.
fn turn(client_key: u64, now: Duration) -> u64 {
    let turn_ms = TURN.as_millis() as u64;
    let own_moment = mix(client_key ^ TURN_SALT) % turn_ms;
    let turns = (now.as_millis() as u64).wrapping_add(own_moment) / turn_ms;
    mix(client_key ^ SHED_SALT ^ mix(turns))
}

/// For how long a client's place among those that are refused first stays: a page with its requests, or a short session, is
/// either served or not, and an overload that lasts for hours is shared by all.
pub const TURN: Duration = Duration::from_secs(300);

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

    const NOW: Duration = Duration::from_secs(1_800_000_000);

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
                let found = (0..1_000).filter(|each| admits(criticality, in_flight, 100, key(*each), || NOW)).count();
                let noise = if percent % 100 == 0 { 0 } else { 50 };
                let is_right = (percent * 10_usize).abs_diff(found) <= noise;
                assert!(is_right, "{criticality:?} at {in_flight}: {found} of 1000, not {percent} %");
            }
        }
        assert!(admits(Sheddable, 0, 1, 0, || NOW));
        assert!(!admits(Critical, 0, 0, 0, || NOW));
    }

    /// Half of the sheddable are refused for six hours.
    #[test]
    fn a_refusal_lasts_for_minutes_and_is_everybodys_in_turn() {
        let fate = |client: u32, second: u64| {
            admits(Sheddable, 80, 100, client_key(&client.to_be_bytes()), || NOW + Duration::from_secs(second))
        };
        let (mut changed_at, mut served) = ([0; 60], Vec::new());
        for client in 0..500 {
            let fates: Vec<bool> = (0..6 * 3600).map(|second| fate(client, second)).collect();
            let changes: Vec<usize> = (1..fates.len()).filter(|at| fates[*at] != fates[at - 1]).collect();
            assert!(changes.windows(2).all(|pair| pair[1] - pair[0] >= 299), "{client}: {changes:?}");
            changes.iter().for_each(|at| changed_at[at % 300 / 5] += 1);
            served.push(fates.iter().filter(|is_admitted| **is_admitted).count() as f64 / fates.len() as f64);
        }
        assert!(served.iter().all(|share| (0.2..0.8).contains(share)), "{served:?}");
        let most = changed_at.iter().max().unwrap();
        assert!(*most < 2 * changed_at.iter().sum::<usize>() / 60, "at a moment of its own each: {changed_at:?}");
    }

    proptest! {
        /// Fuller admits no more, more important no less, and nobody past the cap.
        #[test]
        fn the_curves_have_an_order(cap in 0..2_000_usize, in_flight in 0..2_500_usize, key in any::<u64>()) {
            let at = |criticality, in_flight| admits(criticality, in_flight, cap, key, || NOW);
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
