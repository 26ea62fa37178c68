//! What became of a fleet, second by second.

use super::node::Fate;

/// A run, second by second.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Recording {
    pub(super) seconds: Vec<Second>,
    /// Reports that came to a node and for which it had no room.
    pub(super) turned_away: u64,
}

/// One second.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Second {
    /// By region: the requests that it was sent, in shares of the capacity that it is built for.
    pub(super) utilisation: Vec<f32>,
    /// How long a request took in the region that was slowest, in seconds.
    pub(super) slowest_s: f32,
    /// What became of the requests of each criticality.
    pub(super) fates: [Fate; 3],
}
