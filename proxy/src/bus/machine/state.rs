//! What the machine knows: which tables are in force, what lies in each place, and what is under way.

use std::time::Duration;

use config::Problem;
use config::bus::{Place, TableVersion};

use super::events::{Offer, Passed, Reading};

/// The table of all nodes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Base<T> {
    Absent,
    /// The snapshot's: what the bus has is compared with it, but it is not in force yet.
    Held(T),
    InForce(T),
}

/// The table of some nodes, above that of all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Staged<T> {
    Absent,
    InForce {
        table: T,
        until: Duration,
    },
    /// It was withdrawn while a newer table of all was on its way, which most likely is its promotion: for the moment
    /// that this takes the node does not go back to the table before.
    Ending {
        table: T,
        until: Duration,
    },
}

/// What lies in a place, as far as this connection has told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Latest<P> {
    /// Nobody has told, or what was told is in doubt. What is older than this is not news.
    Unknown {
        least: u64,
    },
    /// Its revision is known, and its text is to be read.
    Announced(u64),
    /// Its text is here, and is to be compared with what is in force.
    Read(Reading<P>),
    /// It is being examined.
    Examining(u64),
    InForce(u64),
    /// It is older than what is in force, for other nodes, or over.
    Ignored(u64),
    Refused(u64),
    /// It is refused while no trusted key stands for it: a key may come.
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
    /// A table takes too much away from the one in force: the bus was asked for the tables that were missed between.
    Recalling {
        offer: Offer<P>,
        problems: Vec<Problem>,
        took: Duration,
        attempt: Attempt,
    },
    /// An examination goes on whose result does not count: what it is about was taken away.
    Abandoned,
    /// Nothing is begun: a table that was refused after a long look must not keep the machine busy.
    Resting {
        until: Duration,
    },
}

/// How often the bus was asked: that there is nothing is asked for twice, since nats-server 2.9 now and then says so of
/// what is there, and a refusal is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Attempt {
    First,
    Second,
}

/// What an offer is compared with.
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
    /// The first table makes it.
    Awaited,
    /// It is being made: nothing else is begun meanwhile.
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

    /// Returns whether it is newer than a table of all nodes, so that it stays above it.
    pub(super) fn is_after(&self, version: &TableVersion) -> bool {
        self.get().is_some_and(|(staged, _)| staged.version().order() > version.order())
    }
}

impl<P> Latest<P> {
    /// Returns its revision; 0 where nothing is known.
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

    /// Returns whether something of this revision is newer.
    pub(super) fn is_before(&self, revision: u64) -> bool {
        match self {
            Latest::Unknown { least } => revision >= *least,
            known => revision > known.revision(),
        }
    }

    /// Returns its revision while it is not decided on.
    pub(super) fn pending(&self) -> Option<u64> {
        matches!(self, Latest::Announced(_) | Latest::Read(_) | Latest::Examining(_)).then(|| self.revision())
    }
}

impl<P> Work<P> {
    /// Returns which table the bus was asked for, or is examined.
    pub(super) fn about(&self) -> Option<(Place, u64)> {
        match self {
            Work::Reading(place, revision) => Some((*place, *revision)),
            Work::Examining { place, offer, .. } => Some((*place, offer.version.revision)),
            Work::Recalling { offer, .. } => Some((Place::Table, offer.version.revision)),
            Work::Idle | Work::Abandoned | Work::Resting { .. } => None,
        }
    }
}
