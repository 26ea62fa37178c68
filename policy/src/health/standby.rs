//! Standby regions: when one is wanted, and when it takes clients.
//!
//! A standby stands in for other regions. While one of these is up and below the overload mark, it is not wanted, and
//! is held back: it comes after every region that is no standby, as a cold one does, so that the law's last region is
//! used all the same. Wanted for long enough, and up, it is promoted, and comes where its priority puts it.

use std::time::Duration;

use crate::pressure::OVERLOAD_MARK;
use crate::view::Health;

/// Whether a standby is wanted. `now` is any monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Want {
    /// It is not: the regions that it stands in for carry their load.
    #[default]
    Unwanted,
    /// It is, since then, and is yet to take clients.
    Wanted(Duration),
    /// It takes clients, since then.
    Promoted {
        /// When it began to.
        since: Duration,
        /// Since when the others could do without it.
        spare: Option<Duration>,
    },
}

/// A region that a standby stands in for, at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Primary {
    /// Whether it serves; [`Health::Down`] where the operator has it drain, or has disabled it.
    pub health: Health,
    /// See [`crate::RegionView::pressure`].
    pub pressure: f32,
    /// Requests a second.
    pub capacity: f32,
}

impl Want {
    /// Lets the time pass. A standby that is up is promoted once it was needed for `promote_after`, and released once
    /// it was not for `release_after`. True when it begins or ceases to be wanted or promoted.
    pub fn observe(
        &mut self,
        now: Duration,
        needed: bool,
        is_up: bool,
        promote_after: Duration,
        release_after: Duration,
    ) -> bool {
        let before = *self;
        if needed && *self == Want::Unwanted {
            *self = Want::Wanted(now);
        }
        *self = match *self {
            Want::Wanted(_) if !needed => Want::Unwanted,
            Want::Wanted(since) if is_up && now >= since + promote_after => Want::Promoted { since: now, spare: None },
            Want::Promoted { since, .. } if needed => Want::Promoted { since, spare: None },
            Want::Promoted { spare: Some(spare), .. } if now >= spare + release_after => Want::Unwanted,
            Want::Promoted { since, spare } => Want::Promoted { since, spare: spare.or(Some(now)) },
            other => other,
        };
        self.name() != before.name()
    }

    /// Returns whether somebody is to start it, or keep it: the autoscaler's trigger.
    pub fn is_wanted(self) -> bool {
        self != Want::Unwanted
    }

    /// Returns whether it takes clients: what a decision is to see.
    pub fn is_promoted(self) -> bool {
        matches!(self, Want::Promoted { .. })
    }

    /// Returns its name, as logs and `/status` have it.
    pub fn name(self) -> &'static str {
        match self {
            Want::Unwanted => "unwanted",
            Want::Wanted(_) => "wanted",
            Want::Promoted { .. } => "promoted",
        }
    }
}

/// Returns whether the regions that a standby stands in for need it: none of them is up and below the overload mark.
/// `relief` is what a promoted one takes off them, in requests a second: they must have room for that too, or it
/// would be let go and wanted again in turns.
pub fn is_needed(primaries: impl Iterator<Item = Primary>, relief: f32) -> bool {
    let up: Vec<Primary> = primaries.filter(|primary| primary.health == Health::Up).collect();
    let capacity: f32 = up.iter().map(|primary| primary.capacity).sum();
    let more = if capacity > 0.0 { relief / capacity } else { 0.0 };
    !up.iter().any(|primary| primary.pressure + more <= OVERLOAD_MARK)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_is_promoted_after_its_time_and_released_after_another() {
        let mut want = Want::default();
        for (seconds, needed, is_up, name, changes) in [
            (0, false, true, "unwanted", false),
            (10, true, true, "wanted", true),
            (129, true, true, "wanted", false),
            // A blip of the others begins it anew.
            (130, false, true, "unwanted", true),
            (140, true, true, "wanted", true),
            (260, true, false, "wanted", false),
            (261, true, true, "promoted", true),
            (300, false, true, "promoted", false),
            (599, false, true, "promoted", false),
            (599, true, true, "promoted", false),
            (700, false, true, "promoted", false),
            (999, false, false, "promoted", false),
            (1_000, false, true, "unwanted", true),
        ] {
            let changed = want.observe(SECOND * seconds, needed, is_up, SECOND * 120, SECOND * 300);
            assert_eq!((want.name(), changed), (name, changes), "after {seconds} s");
            assert_eq!(want.is_wanted(), name != "unwanted");
            assert_eq!(want.is_promoted(), name == "promoted");
        }
        let mut at_once = Want::default();
        assert!(at_once.observe(SECOND, true, true, Duration::ZERO, Duration::ZERO) && at_once.is_promoted());
        at_once.observe(SECOND * 2, false, true, Duration::ZERO, Duration::ZERO);
        at_once.observe(SECOND * 3, false, true, Duration::ZERO, Duration::ZERO);
        assert_eq!(at_once, Want::Unwanted);
    }

    #[test]
    fn one_that_is_up_with_room_is_enough() {
        let primary = |health, pressure| Primary { health, pressure, capacity: 100.0 };
        for (primaries, relief, needed) in [
            (vec![primary(Health::Up, 0.85)], 0.0, false),
            (vec![primary(Health::Up, 0.86)], 0.0, true),
            (vec![primary(Health::Down, 0.0)], 0.0, true),
            (vec![primary(Health::Ramping(50), 0.1)], 0.0, true),
            (vec![primary(Health::Down, 0.0), primary(Health::Up, 0.5)], 0.0, false),
            (vec![primary(Health::Up, 0.9), primary(Health::Up, 0.5)], 0.0, false),
            // 40 more requests a second would be 20 % more of two, and 40 % of one.
            (vec![primary(Health::Up, 0.6), primary(Health::Up, 0.6)], 40.0, false),
            (vec![primary(Health::Down, 0.0), primary(Health::Up, 0.6)], 40.0, true),
            (vec![], 0.0, true),
        ] {
            assert_eq!(is_needed(primaries.iter().copied(), relief), needed, "{primaries:?} {relief}");
        }
    }
}
