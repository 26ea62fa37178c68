//! The machine's state: which tables are in force, what lies in each place, and what is under way.

use std::time::Duration;

use config::Problem;
use config::bus::{Place, TableVersion};

use super::events::{Offer, Passed, Reading};

/// The table of all nodes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Base<T> {
    Absent,
    /// The snapshot's table: not in force yet, but compared with what the bus has.
    Held(T),
    InForce(T),
}

/// The table of some nodes, above that of all nodes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Staged<T> {
    Absent,
    InForce {
        table: T,
        until: Duration,
    },
    /// The table was withdrawn while a newer table of all nodes was on its way, most likely its promotion: until that
    /// is decided the node does not return to the table before.
    Ending {
        table: T,
        until: Duration,
    },
}

/// The newest entry of a place, as far as this connection has announced.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Latest<P> {
    /// Nothing was announced, or that is in doubt. Revisions below `least` are not news.
    Unknown {
        least: u64,
    },
    /// The revision is known, and the text is to be read.
    Announced(u64),
    /// The text was read, and is to be compared with what is in force.
    Read(Reading<P>),
    /// The table is being examined.
    Examining(u64),
    InForce(u64),
    /// The table is older than the one in force, for other nodes, or lapsed.
    Ignored(u64),
    Refused(u64),
    /// The table is refused while no trusted key vouches for it: a key may arrive.
    Distrusted(Offer<P>),
    Deleted(u64),
}

/// What is under way: one thing at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Work<P> {
    Idle,
    /// The bus was asked for a text.
    Reading(Place, u64),
    Examining {
        place: Place,
        offer: Offer<P>,
        scope: Scope,
        began: Duration,
    },
    /// A table takes too much away from the one in force: the bus was asked for the tables between them.
    Recalling {
        offer: Offer<P>,
        problems: Vec<Problem>,
        took: Duration,
        attempt: Attempt,
    },
    /// An examination goes on whose result does not count: its table was deleted.
    Abandoned,
    /// Nothing is begun: tables that are refused after long examinations must not keep the CPU busy.
    Resting {
        until: Duration,
    },
}

/// How often the bus was asked: an empty answer is checked once more, since nats-server 2.9 sometimes gives one
/// wrongly, and a refusal is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Attempt {
    First,
    Second,
}

/// The table with which an offer is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    /// The table in force.
    Alone,
    /// The last good one of those that were missed.
    AfterMissed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Link {
    Down,
    Up,
}

/// Whether there is a node to put tables in force on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Node {
    /// The first table will make the node.
    Awaited,
    /// The node is being made: nothing else is begun meanwhile.
    Making,
    Made,
}

impl<T: Passed> Staged<T> {
    /// Returns the table, and when its lease ends.
    pub(super) fn get(&self) -> Option<(&T, Duration)> {
        match self {
            Staged::Absent => None,
            Staged::InForce { table, until } | Staged::Ending { table, until } => Some((table, *until)),
        }
    }

    /// Returns whether the staged table is newer than a table of all nodes, so that it stays in force.
    pub(super) fn is_after(&self, version: &TableVersion) -> bool {
        self.get().is_some_and(|(staged, _)| staged.version().order() > version.order())
    }
}

impl<P> Latest<P> {
    /// Returns the revision; 0 where nothing is known.
    pub(super) fn revision(&self) -> u64 {
        match self {
            Latest::Unknown { .. } => 0,
            Latest::Read(reading) => reading.revision(),
            Latest::Distrusted(offer) => offer.version.revision,
            Latest::Announced(revision)
            | Latest::Examining(revision)
            | Latest::InForce(revision)
            | Latest::Ignored(revision)
            | Latest::Refused(revision)
            | Latest::Deleted(revision) => *revision,
        }
    }

    /// Returns whether this revision is newer.
    pub(super) fn is_before(&self, revision: u64) -> bool {
        match self {
            Latest::Unknown { least } => revision >= *least,
            known => revision > known.revision(),
        }
    }

    /// Returns the revision while it is not decided on.
    pub(super) fn pending(&self) -> Option<u64> {
        matches!(self, Latest::Announced(_) | Latest::Read(_) | Latest::Examining(_)).then(|| self.revision())
    }
}

impl<P> Work<P> {
    /// Returns the table that the bus was asked for, or that is examined.
    pub(super) fn about(&self) -> Option<(Place, u64)> {
        match self {
            Work::Reading(place, revision) => Some((*place, *revision)),
            Work::Examining { place, offer, .. } => Some((*place, offer.version.revision)),
            Work::Recalling { offer, .. } => Some((Place::Table, offer.version.revision)),
            Work::Idle | Work::Abandoned | Work::Resting { .. } => None,
        }
    }
}
