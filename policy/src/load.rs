//! The load of regions as the fleet's nodes report it to each other.
//!
//! Each second a node says what it sends to its own region, and to any other whose endpoints it dials
//! itself ([`LoadReport`]); what a region carries is the sum over the nodes ([`FleetLoad`]). A node
//! takes that for the region's load where it is more than what the node sends there itself
//! ([`Reported::over`]).

mod fleet;
mod own;
mod report;

use std::time::Duration;

pub use fleet::{FleetLoad, Full};
pub use own::OneRequest;
pub use report::{BadReport, LoadReport};

/// What the nodes report of one region, taken together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reported {
    /// The share of its capacity in use by all of them, averaged over about [`FleetLoad::OVER`]: 0
    /// idle, 1 full, at most [`Reported::MOST`].
    pub utilisation: f32,
    /// Since the last report of any of them.
    pub age: Duration,
    /// How many of them reported in the [`Reported::FRESH`] before that.
    pub nodes: u32,
}

impl Reported {
    /// For how long a report counts in full.
    pub const FRESH: Duration = Duration::from_secs(10);

    /// The age at which it no longer counts.
    pub const GONE: Duration = Duration::from_secs(20);

    /// The highest utilisation: past it there is nothing more to say.
    pub const MOST: f32 = 10.0;

    /// Returns the load of a region of which a node knows `own` by itself: that, or what is reported where it is
    /// more. A report that grows old moves back to `own`.
    ///
    /// What is reported has the node's own part in it, so that the two are compared and never added.
    pub fn over(&self, own: f32) -> f32 {
        own.max(own + trust(self.age) as f32 * (self.utilisation - own))
    }
}

/// Returns what a report of this age counts, `0..=1`: all up to [`Reported::FRESH`], nothing from
/// [`Reported::GONE`], in between in proportion.
fn trust(age: Duration) -> f64 {
    let left = Reported::GONE.saturating_sub(age).as_secs_f64();
    (left / (Reported::GONE - Reported::FRESH).as_secs_f64()).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reported(utilisation: f32, age_ms: u64) -> Reported {
        Reported { utilisation, age: Duration::from_millis(age_ms), nodes: 1 }
    }

    #[test]
    fn a_report_counts_for_10_s_and_fades_over_the_next_10() {
        for (utilisation, age_ms, own, over) in [
            (0.8, 0, 0.2, 0.8),
            (0.8, 10_000, 0.2, 0.8),
            (0.8, 15_000, 0.2, 0.5),
            (0.8, 18_000, 0.2, 0.32),
            (0.8, 20_000, 0.2, 0.2),
            (0.8, 3_600_000, 0.2, 0.2),
            (0.1, 0, 0.2, 0.2),
            (0.1, 15_000, 0.2, 0.2),
            (10.0, 0, 0.0, 10.0),
        ] {
            let found = reported(utilisation, age_ms).over(own);
            assert!((found - over).abs() < 1e-6, "{utilisation} of {age_ms} ms over {own}: {found}, not {over}");
        }
    }

    proptest! {
        #[test]
        fn it_lies_between_the_own_load_and_the_greater_and_only_falls_with_age(
            utilisation in 0.0..=Reported::MOST, own in 0.0_f32..20.0, age_ms in 0..40_000_u64, later_ms in 0..10_000_u64,
        ) {
            let now = reported(utilisation, age_ms).over(own);
            prop_assert!((own..=own.max(utilisation) + 1e-5).contains(&now), "{}", now);
            prop_assert!(reported(utilisation, age_ms + later_ms).over(own) <= now);
        }
    }
}
