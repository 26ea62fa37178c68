//! Decides whether a publication's time allows a node to accept it.
//!
//! Pure. Revisions are the bus's numbers, which whoever controls the bus can choose; times are signed.

use std::fmt;
use std::time::Duration;

use super::freshness::{MAX_AGE, Moment, Witness};
use super::heartbeat::Heartbeat;
use super::publication::{Publication, TableVersion};

/// What a publication's time is compared with.
#[derive(Clone, Copy, Debug)]
pub struct Recency<'a> {
    /// What confirms a table: the bus, or trusted keys.
    pub witness: Witness,
    /// Where the publication came from.
    pub origin: Origin,
    /// The table of all nodes, in force or held.
    pub in_force: Option<&'a TableVersion>,
    /// The newest verified heartbeat.
    pub heartbeat: Option<&'a Heartbeat>,
    /// The node file's `max_age`.
    pub max_age: Option<Duration>,
    /// The node file's `minimum_issued`, in Unix milliseconds: no table that was signed before it is accepted.
    pub minimum_issued_ms: Option<u64>,
}

/// How a publication came to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the bus, which may replay whatever was ever signed.
    Bus,
    /// From the node's own snapshot: the node has accepted it before.
    Snapshot,
}

/// Why a publication is rejected for its time. `fmt` says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotRecent {
    /// The publication's issue time lies in the future.
    Future {
        /// By how much.
        ahead: Duration,
    },
    /// The publication was signed before the table in force.
    Repeated {
        /// When the publication was signed, in Unix milliseconds.
        issued_ms: u64,
        /// When the table in force was signed.
        in_force_ms: u64,
    },
    /// The publication was signed before the node file's `minimum_issued`.
    BelowMinimum {
        /// Unix milliseconds.
        issued_ms: u64,
        /// Unix milliseconds.
        minimum_ms: u64,
    },
    /// The node has no table yet, and the newest signature about this one is too old.
    Ancient {
        /// The time since the newest signature: the table's, or that of a heartbeat about it.
        age: Duration,
        /// The most that is allowed.
        most: Duration,
    },
}

impl Recency<'_> {
    /// Checks a publication's time.
    ///
    /// # Errors
    /// Why the publication's time is not accepted.
    pub fn check(&self, publication: &Publication, now: Moment) -> Result<(), NotRecent> {
        let issued_ms = publication.issued_ms;
        if now.is_before(issued_ms) {
            return Err(NotRecent::Future { ahead: Duration::from_millis(issued_ms - now.unix_ms) });
        }
        // Without keys the time is not signed, and proves nothing.
        if self.witness == Witness::Bus {
            return Ok(());
        }
        if let Some(minimum_ms) = self.minimum_issued_ms.filter(|minimum| issued_ms < *minimum) {
            return Err(NotRecent::BelowMinimum { issued_ms, minimum_ms });
        }
        match self.in_force {
            Some(in_force) if issued_ms < in_force.issued_ms => {
                Err(NotRecent::Repeated { issued_ms, in_force_ms: in_force.issued_ms })
            }
            None if self.origin == Origin::Bus && self.minimum_issued_ms.is_none() => self.first(publication, now),
            _ => Ok(()),
        }
    }

    /// Checks the first table that a node ever sees, which may not be ancient.
    fn first(&self, publication: &Publication, now: Moment) -> Result<(), NotRecent> {
        let is_vouched_for = publication.valid_until_ms.is_some_and(|until| until >= now.unix_ms);
        if is_vouched_for && self.max_age.is_none() {
            return Ok(());
        }
        let version = TableVersion::of(publication, 0);
        let beat = self.heartbeat.filter(|beat| beat.is_about(&version)).map_or(0, |beat| beat.signed_ms);
        let age = Duration::from_millis(now.unix_ms.saturating_sub(publication.issued_ms.max(beat)));
        let most = self.max_age.unwrap_or(MAX_AGE);
        if age > most { Err(NotRecent::Ancient { age, most }) } else { Ok(()) }
    }
}

impl fmt::Display for NotRecent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let long = |duration: Duration| humantime::format_duration(Duration::from_secs(duration.as_secs()));
        match self {
            NotRecent::Future { ahead } => write!(
                f,
                "its issue time is {} from now: its publisher's clock or this node's is wrong; set it, or publish again \
                 (this node checks it again meanwhile)",
                long(*ahead)
            ),
            NotRecent::Repeated { issued_ms, in_force_ms } => write!(
                f,
                "it was signed before the table in force ({issued_ms} ms, {in_force_ms} ms): a replay of an old table"
            ),
            NotRecent::BelowMinimum { issued_ms, minimum_ms } => write!(
                f,
                "it was signed at {issued_ms} ms, before minimum_issued ({minimum_ms} ms): publish it again, or correct \
                 the node file"
            ),
            NotRecent::Ancient { age, most } => write!(
                f,
                "this node has no table yet, and no key that it trusts has signed anything about this one for {} \
                 (max_age {}): it may be a replay of an old table. Run `meridian heartbeat --sign KEY`, or publish \
                 again, or give this node [routing.bus] minimum_issued = the time that `meridian history` shows for it",
                long(*age),
                long(*most)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::freshness::MOST_SKEW;
    use super::*;

    const DAY: u64 = 24 * 3600 * 1000;
    const NOW: Moment = Moment { elapsed: Duration::ZERO, unix_ms: 1000 * DAY };

    fn publication(issued_ms: u64) -> Publication {
        Publication::new("a", 1, issued_ms, "me")
    }

    fn fresh_node() -> Recency<'static> {
        Recency {
            witness: Witness::Keys,
            origin: Origin::Bus,
            in_force: None,
            heartbeat: None,
            max_age: None,
            minimum_issued_ms: None,
        }
    }

    #[test]
    fn nothing_is_from_the_future_whoever_says_so() {
        let edge = NOW.unix_ms + MOST_SKEW.as_millis() as u64;
        for witness in [Witness::Bus, Witness::Keys] {
            let recency = Recency { witness, ..fresh_node() };
            assert_eq!(recency.check(&publication(edge), NOW), Ok(()));
            let ahead = recency.check(&publication(edge + 1), NOW).unwrap_err();
            assert!(matches!(ahead, NotRecent::Future { .. }) && ahead.to_string().contains("5m from now"), "{ahead}");
        }
    }

    #[test]
    fn a_fresh_node_takes_no_table_that_may_be_ancient() {
        let (today, old) = (publication(NOW.unix_ms - DAY), publication(NOW.unix_ms - DAY - 1));
        let node = fresh_node();
        assert_eq!(node.check(&today, NOW), Ok(()));
        let why = node.check(&old, NOW).unwrap_err();
        assert!(why.to_string().contains("for 1day (max_age 1day)"), "{why}");
        // A heartbeat about it, but no other, makes it young.
        let beat = Heartbeat::new(&TableVersion::of(&old, 7), NOW.unix_ms - DAY, "me");
        assert_eq!(Recency { heartbeat: Some(&beat), ..node }.check(&old, NOW), Ok(()));
        let other = Heartbeat { sha256: "b".to_owned(), ..beat.clone() };
        assert!(Recency { heartbeat: Some(&other), ..node }.check(&old, NOW).is_err());
        // So does its publisher's own end, unless the node asks for more.
        let until = |ms| Publication { valid_until_ms: Some(ms), ..old.clone() };
        assert_eq!(node.check(&until(NOW.unix_ms), NOW), Ok(()));
        assert!(node.check(&until(NOW.unix_ms - 1), NOW).is_err());
        let strict = Recency { max_age: Some(Duration::from_secs(1)), ..node };
        assert!(strict.check(&until(NOW.unix_ms), NOW).is_err());
        // So does the node file's minimum, below which no table goes in force.
        let minimum = Recency { minimum_issued_ms: Some(old.issued_ms), ..node };
        assert_eq!(minimum.check(&old, NOW), Ok(()));
        assert!(matches!(minimum.check(&publication(1), NOW), Err(NotRecent::BelowMinimum { .. })));
        // A table that the node accepted before needs no proof of age. Without keys no time is proved.
        assert_eq!(Recency { origin: Origin::Snapshot, ..node }.check(&old, NOW), Ok(()));
        assert_eq!(Recency { witness: Witness::Bus, ..node }.check(&publication(0), NOW), Ok(()));
    }

    #[test]
    fn what_was_signed_before_the_table_in_force_is_a_repetition() {
        let in_force = TableVersion::of(&publication(10), 3);
        let node = Recency { in_force: Some(&in_force), ..fresh_node() };
        assert_eq!(node.check(&publication(10), NOW), Ok(()));
        assert!(matches!(node.check(&publication(9), NOW), Err(NotRecent::Repeated { .. })));
        let above = Recency { minimum_issued_ms: Some(11), origin: Origin::Snapshot, ..node };
        assert!(matches!(above.check(&publication(10), NOW), Err(NotRecent::BelowMinimum { .. })));
    }
}
