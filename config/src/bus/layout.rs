//! The layout of a bucket: its keys, and how many values of each it keeps.

/// One of the two keys of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// For all nodes.
    Table,
    /// For the nodes that its headers name, while it is newer.
    Rollout,
}

impl Place {
    /// Returns the key in the bucket.
    pub fn key(self) -> &'static str {
        match self {
            Place::Table => "table",
            Place::Rollout => "rollout",
        }
    }
}

/// The key of heartbeats.
pub(super) const HEARTBEAT: &str = "heartbeat";

/// Returns the key of a node's report.
pub(super) fn report_key(node: &str) -> String {
    format!("nodes.{node}")
}

/// The header with a key-value message's operation; without it the operation is `PUT`.
pub(super) const OPERATION: &str = "KV-Operation";

/// How many tables the bus keeps, for `meridian history` and `rollback`: the most that a bucket can.
pub(super) const HISTORY: i64 = 64;
