//! Geo databases as releases: what a new one would change, and whether it may.
//!
//! [`survey`] walks the address space once over several databases and adds up what they say, each combination apart;
//! all that is told of them is read from that. [`recent`] remembers who the node's clients are, [`release`] judges a
//! new file by them.

pub(crate) mod recent;
pub(crate) mod release;
pub(crate) mod survey;

use std::sync::Arc;

use arc_swap::Guard;

use crate::client::Geo;
use crate::in_force::InForce;
use recent::RecentClients;
use release::Held;

/// The geo databases in force, those that are held, and the clients that these are judged by. One for each node; any
/// thread uses it.
#[derive(Default)]
pub(crate) struct CurrentDatabases {
    in_force: InForce<Geo>,
    /// Newer databases that are not in force.
    pub(crate) held: Held,
    /// The clients of recent requests.
    pub(crate) recent: RecentClients,
}

impl CurrentDatabases {
    /// Puts a node's first databases in force.
    pub(crate) fn new(geo: Geo) -> Self {
        Self { in_force: InForce::new(geo), ..Self::default() }
    }

    /// Returns what is in force, for a short look.
    pub(crate) fn load(&self) -> Guard<Arc<Geo>> {
        self.in_force.load()
    }

    /// Returns what is in force, to keep.
    pub(crate) fn load_full(&self) -> Arc<Geo> {
        self.in_force.load_full()
    }

    /// Returns a number that is another once others are in force.
    pub(crate) fn generation(&self) -> u64 {
        self.in_force.generation()
    }
}
