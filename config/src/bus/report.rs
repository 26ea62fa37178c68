//! A node's report on the bus.

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
    /// The process's id, which distinguishes two processes with the same name.
    pub instance: String,
    /// The version of Meridian.
    pub meridian: String,
    /// When the process started.
    pub started: u64,
    /// When the report was written.
    pub at: u64,
    /// What the node did with the newest table.
    pub state: NodeState,
    /// The epoch and the revision of the table in force; 0 while there is none.
    pub epoch: u64,
    /// See `epoch`.
    pub revision: u64,
    /// The hash of that table's text, in hexadecimal.
    pub sha256: String,
    /// The `version` in that table's text.
    pub version: String,
    /// Whether that table is a staged one, which only some nodes have.
    pub staged: bool,
    /// Since when the node is in this state, with this table.
    pub since: u64,
    /// What is wrong with the table that was refused; the first few.
    #[serde(default)]
    pub problems: Vec<Problem>,
    /// The table that was refused last, until a later one is applied.
    #[serde(default)]
    pub refused: Option<Refused>,
    /// What else the node's operator should know, in words.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Whether the table may no longer be used, so that restricted routes are refused.
    #[serde(default)]
    pub expired: bool,
    /// When the table expires or has expired, as far as is known now; `None` without a table.
    #[serde(default)]
    pub expires: Option<u64>,
    /// When a trusted key last signed the table of all nodes or a heartbeat about it; `None` without trusted keys.
    #[serde(default)]
    pub signed: Option<u64>,
    /// Whether the node drains.
    #[serde(default)]
    pub draining: bool,
    /// The node's counts since its start.
    #[serde(default)]
    pub observed: Observed,
    /// The node's counts of about the last ten minutes.
    #[serde(default)]
    pub lately: Observed,
}

/// What a node did with the newest table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// The table is in force.
    Applied,
    /// The table was refused; the one before is in force.
    Rejected,
    /// There is no table yet.
    Waiting,
}

/// A table that a node refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The table's epoch.
    pub epoch: u64,
    /// The table's revision.
    pub revision: u64,
    /// The hash of the table's text, in hexadecimal.
    pub sha256: String,
    /// When the table was refused, in Unix seconds.
    pub at: u64,
}

impl NodeReport {
    /// Returns the report without control characters, its texts and lists cut to a readable length.
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

    /// Returns the headers by which a watch learns a node's region and instance without reading the report.
    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        // The node file admits only characters that headers can hold.
        headers.insert(REGION, self.region.as_str());
        headers.insert(INSTANCE, self.instance.as_str());
        headers
    }
}

/// How often a node renews its report: six times within [`REPORT_TTL`].
pub const REPORT_EVERY: Duration = Duration::from_secs(5);

/// The age at which a report expires and its node no longer counts. A publisher that wrote a table before that waits
/// for the node.
pub const REPORT_TTL: Duration = Duration::from_secs(30);

/// The age at which a report is removed, after a publication to all nodes: nats-server 2.9 has no time-to-live for a
/// key.
pub const PRUNED_AFTER: Duration = Duration::from_secs(3600);

const MOST_SHOWN: usize = 20;
const LONGEST_SHOWN: usize = 1000;

pub(super) const REGION: &str = "Meridian-Region";
pub(super) const INSTANCE: &str = "Meridian-Instance";
