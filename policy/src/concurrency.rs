//! How full is too full, for whom.

use crate::pressure::Criticality;

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
}
