//! The config bus: routing tables and nodes' reports, carried by NATS JetStream.
//!
//! A bus is one key-value bucket:
//!
//! | Key | Value |
//! |---|---|
//! | `table` | the routing table, TOML; its KV revision is the table's revision |
//! | `rollout` | a staged table, for the nodes that its headers name, while it is newer than `table` |
//! | `heartbeat` | a [`Heartbeat`] as JSON: a publisher's signed statement of which table is the newest |
//! | `nodes.NAME` | a node's [`NodeReport`] as JSON, renewed every [`REPORT_EVERY`] |
//!
//! The rest of a publication (its epoch, its signature, what it overrides) is in the message's
//! headers, so that the value is the table alone.
//!
//! ```text
//! publisher --Publication--> Bus::publish (compare and set) --> table | rollout
//!                                                                 |
//! node <-- Watch: revisions and sizes, then Bus::fetch -----------/
//!   |  acceptance: newer? signed? not quarantined?   snapshot: the last good one, on disk
//!   \---- NodeReport --> nodes.NAME --> fleet, publish
//! ```

mod acceptance;
mod access;
mod bucket;
mod client;
mod entry;
mod error;
mod freshness;
mod heartbeat;
mod layout;
mod publication;
mod reading;
mod recency;
mod report;
mod signature;
mod snapshot;
mod watch;

pub use acceptance::{Comparison, Ignored, MOST_EPOCHS, Quarantine, compare};
pub use access::{BusAccess, ClientCertificate, Credentials};
pub use bucket::Weakness;
pub use client::Bus;
pub use entry::{Entry, MAX_TABLE, too_large};
pub use error::{BusError, PublishError};
pub use freshness::{Beat, FIRST_WARNING, Freshness, Judgement, Limit, MAX_AGE, MOST_SKEW, Moment, Newer, Witness};
pub use heartbeat::Heartbeat;
pub use layout::Place;
pub use publication::{Publication, Stage, StageError, TableVersion};
pub use reading::Pulse;
pub use recency::{NotRecent, Origin, Recency};
pub use report::{NodeReport, NodeState, PRUNED_AFTER, REPORT_EVERY, REPORT_TTL, Refused};
pub use signature::{KeyError, SigningKey, TrustedKeys};
pub use snapshot::{Snapshot, SnapshotError, replace_file};
pub use watch::{Change, Watch, What};
