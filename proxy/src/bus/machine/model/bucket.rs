//! A small bus: what lies in its two places.

use std::time::Duration;

use config::bus::TableVersion;

use crate::bus::machine::{Lease, Offer, Passed, Reading};

/// A kind of publication, and of the table that was compiled from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Good, and so large: a table may be one smaller than the one that is in force.
    Good(u8),
    Bad,
    /// Good, once its key is known here.
    Unsigned,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Accepted {
    pub(super) version: TableVersion,
    pub(super) kind: Kind,
}

impl Passed for Accepted {
    fn version(&self) -> &TableVersion {
        &self.version
    }
}

/// One key's message on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Stored {
    pub(super) revision: u64,
    pub(super) epoch: u64,
    pub(super) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum What {
    Table(Kind),
    /// Staged, for this node or another, until then.
    Staged {
        kind: Kind,
        is_ours: bool,
        until: Duration,
    },
    Deleted,
    Unreadable,
}

pub(super) fn order(stored: &Stored) -> (u64, u64) {
    (stored.epoch, stored.revision)
}

pub(super) fn version(stored: Stored, kind: Kind) -> TableVersion {
    TableVersion { epoch: stored.epoch, revision: stored.revision, issued_ms: 0, sha256: format!("{kind:?}") }
}

pub(super) fn accepted(stored: Stored, kind: Kind) -> Accepted {
    Accepted { version: version(stored, kind), kind }
}

pub(super) fn reading(stored: Stored) -> Reading<Kind> {
    let offer = |kind, lease| {
        // A bad publication may be written again as it is; any other is signed anew.
        let number = if kind == Kind::Bad { 0 } else { stored.revision };
        Reading::Offer(Offer {
            version: version(stored, kind),
            fingerprint: format!("{kind:?} {number}"),
            lease,
            publication: kind,
        })
    };
    match stored.what {
        What::Table(kind) => offer(kind, None),
        What::Staged { kind, is_ours, until } => offer(kind, Some(Lease { is_for_this_node: is_ours, until })),
        What::Deleted => Reading::Deleted { revision: stored.revision },
        What::Unreadable => {
            let problem = config::Problem {
                severity: config::Severity::Error,
                file: String::new(),
                line: 0,
                path: String::new(),
                message: String::new(),
            };
            Reading::Unreadable { revision: stored.revision, problem: Box::new(problem) }
        }
    }
}
