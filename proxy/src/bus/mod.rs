//! The node's side of the config bus: takes tables, says what became of them, and notices silence.
//!
//! ```text
//! follower.rs   the story: connect, follow, take, report; a thread of its own
//!   examine.rs    a publication -> a table that may go in force, or its problems
//!   tables.rs     the table of all, a staged one above it, and which of them is in force
//!   trial.rs      what the process would otherwise die of again and again
//!   peers.rs      which nodes there are
//!   loads.rs      tells the other nodes of this one's load each second, and hears theirs
//! freshness.rs  how long the bus has been silent, and what follows
//! status.rs     what `/status`, `/ready`, the metrics and the node's report tell of all that
//! first.rs      a node's start: from the bus, else from the snapshot, else waiting
//! ```

pub mod examine;
pub mod first;
pub mod follower;
pub mod freshness;
pub mod loads;
pub mod peers;
pub mod status;
pub mod tables;
pub mod trial;
