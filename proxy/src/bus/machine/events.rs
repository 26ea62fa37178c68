//! The machine's events, effects and requests.

use std::time::Duration;

use config::Problem;
use config::bus::{Ignored, Place, TableVersion};

use crate::bus::examine::Refusal;

/// A table that has passed its examination.
pub(crate) trait Passed: Clone {
    /// Returns which table it is.
    fn version(&self) -> &TableVersion;
}

/// A table on the bus.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Offer<P> {
    /// Which table it is.
    pub(crate) version: TableVersion,
    /// The hash of the publication's text and headers.
    pub(crate) fingerprint: String,
    /// For whom and how long it is staged; `None` for a table of all nodes.
    pub(crate) lease: Option<Lease>,
    /// The publication, for the examination.
    pub(crate) publication: P,
}

/// For whom and how long a table is staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    /// Whether this node is among those that the table names.
    pub(crate) is_for_this_node: bool,
    /// When the lease ends, by the clock of `now`.
    pub(crate) until: Duration,
}

/// What was read of a place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reading<P> {
    /// A table.
    Offer(Offer<P>),
    /// A delete marker.
    Deleted {
        /// The marker's revision.
        revision: u64,
    },
    /// Something that is no table, or too long for one.
    Unreadable {
        /// Its revision.
        revision: u64,
        /// Why it cannot be read.
        problem: Box<Problem>,
    },
}

/// Something that has happened.
#[derive(Clone, Debug)]
pub(crate) enum Event<P, T> {
    /// The snapshot's table has passed its examination. Comes before all others, or not at all.
    SnapshotLoaded(T),
    /// A connection was made. Everything on the bus is announced anew.
    Connected,
    /// The connection is lost, or there is still none after a while.
    Disconnected,
    /// The watch says that a table was written to a place.
    Announced(Place, u64),
    /// The watch says that a place's table was deleted, or a request found something in it.
    Found(Place, Reading<P>),
    /// What a [`Request::Read`] found; `None` when the revision is no longer there, or not yet.
    Read(Place, u64, Option<Reading<P>>),
    /// The tables that a [`Request::Recall`] found.
    Recalled(Vec<Offer<P>>),
    /// The bus was asked, and has neither a table nor a delete marker.
    TableAbsent,
    /// The bus was asked, and has nothing newer than what is known.
    NothingNewer,
    /// The examination is over.
    Examined(Result<T, Refusal>),
    /// The distrusted offer of a place is trusted now: a key or a heartbeat has arrived.
    Trusted(Place),
    /// The node was made of the first table.
    NodeMade,
    /// Time has passed.
    Tick,
}

/// Something to do, at once and in this order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Effect<P, T> {
    /// Begin to examine an offer, after the missed ones before it.
    Examine {
        /// Where it lies.
        place: Place,
        /// The offer.
        offer: Offer<P>,
        /// The tables between the one in force and the offer, the oldest first.
        missed: Vec<Offer<P>>,
    },
    /// An offer has passed: route by its table from now on.
    Accepted {
        /// Where it lies.
        place: Place,
        /// The offer.
        offer: Offer<P>,
        /// The table.
        table: T,
    },
    /// Route by the snapshot's table from now on.
    Released(Warrant),
    /// The bus has what is in force: it is fresh.
    Confirmed,
    /// The bus's table of all nodes is ignored.
    Ignored(Ignored),
    /// The entry of a place is refused.
    Refused {
        /// Where.
        place: Place,
        /// Which.
        version: TableVersion,
        /// The publication, if it could be read.
        publication: Option<P>,
        /// Why.
        problems: Vec<Problem>,
        /// Whether it was refused before.
        repetition: Repetition,
    },
    /// There is no staged table for this node any more: route by the table of all nodes from now on.
    Returned {
        /// The staged one that was in force, if any was.
        from: Option<T>,
        /// Why.
        why: &'static str,
    },
    /// Why the staged entry cannot be read; `None` when it can.
    StagedUnreadable(Option<String>),
}

/// Why the snapshot's table goes in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Warrant {
    /// The bus has it.
    Bus,
    /// The bus is away, or has nothing better.
    Snapshot,
}

/// Whether something was refused before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Repetition {
    /// No: this is the first time.
    First,
    /// Yes, and it is not examined again.
    Again,
}

/// Something to ask the bus; the answer comes as an event, unless the connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Read a revision of a place.
    Read(Place, u64),
    /// Read the tables of all nodes between two revisions, both excluded.
    Recall {
        /// The older one.
        after: u64,
        /// The newer one.
        before: u64,
    },
}

impl<P> Reading<P> {
    /// Returns the table, if it is one.
    pub(crate) fn into_offer(self) -> Option<Offer<P>> {
        match self {
            Reading::Offer(offer) => Some(offer),
            Reading::Deleted { .. } | Reading::Unreadable { .. } => None,
        }
    }

    /// Returns the revision of the entry.
    pub(crate) fn revision(&self) -> u64 {
        match self {
            Reading::Offer(offer) => offer.version.revision,
            Reading::Deleted { revision } | Reading::Unreadable { revision, .. } => *revision,
        }
    }
}
