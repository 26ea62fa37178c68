//! What a node says of itself on the bus.

use std::time::Duration;

use async_nats::HeaderMap;
use policy::trial::Observed;
use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// A node's report, under `nodes.NAME`. Times are Unix seconds, by the node's clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    /// The node's name.
    pub node: String,
    /// The region that it is in.
    pub region: String,
    /// Which process of that name: two that share a name are told apart by it.
    pub instance: String,
    /// The version of Meridian.
    pub meridian: String,
    /// When the process started.
    pub started: u64,
    /// When this was written.
    pub at: u64,
    /// What became of the newest table that the node was to take.
    pub state: NodeState,
    /// The epoch and the revision of the table in force; 0 while there is none.
    pub epoch: u64,
    /// See `epoch`.
    pub revision: u64,
    /// The hash of its text, in hexadecimal.
    pub sha256: String,
    /// Its version, as its text says.
    pub version: String,
    /// Whether it is a staged one, which only some nodes have.
    pub staged: bool,
    /// Since when the node is in this state, with this table.
    pub since: u64,
    /// What is wrong with the table that was refused; the first few.
    #[serde(default)]
    pub problems: Vec<Problem>,
    /// The table that was refused last, until a later one is applied.
    #[serde(default)]
    pub refused: Option<Refused>,
    /// What else its operator should know, in words.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Whether the table may no longer be used, so that restricted routes are refused.
    #[serde(default)]
    pub expired: bool,
    /// When that will be so, or became so, as things are; `None` while it has no table.
    #[serde(default)]
    pub expires: Option<u64>,
    /// When a trusted key last signed anything about the table of all; `None` where no keys are trusted.
    #[serde(default)]
    pub signed: Option<u64>,
    /// Whether it drains.
    #[serde(default)]
    pub draining: bool,
    /// What it did since its start.
    #[serde(default)]
    pub observed: Observed,
    /// What of that it did in the last minutes, ten or so.
    #[serde(default)]
    pub lately: Observed,
}

/// What became of the newest table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// It is in force.
    Applied,
    /// It was refused; the one before is in force.
    Rejected,
    /// There is none yet.
    Waiting,
}

/// A table that a node refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Its epoch.
    pub epoch: u64,
    /// Its revision.
    pub revision: u64,
    /// The hash of its text, in hexadecimal.
    pub sha256: String,
    /// When, in Unix seconds.
    pub at: u64,
}

impl NodeReport {
    /// With nothing in it that could play tricks on a terminal, and no more than one reads.
    #[must_use]
    pub(super) fn printable(mut self) -> Self {
        self.notes.truncate(MOST_SHOWN);
        self.problems.truncate(MOST_SHOWN);
        let notes = self.notes.iter_mut();
        let problems =
            self.problems.iter_mut().flat_map(|problem| [&mut problem.file, &mut problem.path, &mut problem.message]);
        for text in
            notes.chain(problems).chain([&mut self.version, &mut self.region, &mut self.sha256, &mut self.meridian])
        {
            *text = text.chars().take(LONGEST_SHOWN).map(|c| if c.is_control() { '?' } else { c }).collect();
        }
        self
    }

    /// Returns what those who follow the bucket's changes know of a node without reading its report.
    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        // Names and regions are of letters that headers can hold: the node file says so.
        headers.insert(REGION, self.region.as_str());
        headers.insert(INSTANCE, self.instance.as_str());
        headers
    }
}

/// How often a node renews its report.
pub const REPORT_EVERY: Duration = Duration::from_secs(5);

/// A node whose report is older than this has expired, and is not counted. A publisher that wrote a table before that
/// waits for it.
pub const REPORT_TTL: Duration = Duration::from_secs(30);

/// The report of a node that was last heard from so long ago is removed after a publication to all: nats-server 2.9 has
/// no time-to-live for a key.
pub const PRUNED_AFTER: Duration = Duration::from_secs(3600);

const MOST_SHOWN: usize = 20;
const LONGEST_SHOWN: usize = 1000;

pub(super) const REGION: &str = "Meridian-Region";
pub(super) const INSTANCE: &str = "Meridian-Instance";
