//! The node's side of the config bus: takes tables, says what became of them, and notices silence.
//!
//! ```text
//! first.rs      a node's start: no node without a table, and why there is none yet
//! follower.rs   the story: connect, follow, take, report; a thread of its own
//!   echo.rs       whether the watch brings what it should
//!   peers.rs      which nodes there are
//!   loads.rs      tells the other nodes of this one's load each second, and hears theirs
//! desk.rs       where tables are weighed, examined, put in force or refused
//!   desk/heartbeat.rs  what else is signed: heartbeats, and newer tables that are refused
//!   queue.rs      what was heard of, and is still to be looked at
//!   tables.rs     the table of all, a staged one above it, and which of them is in force
//!   examine.rs    a publication -> a table that may go in force, or its problems
//!   trial.rs      what the process would otherwise die of again and again
//!   stage.rs      before and after there is a node: it is made of the first table
//!   talk.rs       how often the log may tell of it
//!   keeper.rs     the snapshot, on a thread of its own
//! freshness.rs  how long the table may still be used, by config::bus::Freshness, and what follows
//! observed.rs   what the node does, for its report
//! status.rs     what `/status`, `/ready`, the metrics and the node's report tell of all that
//! ```

pub mod desk;
pub mod echo;
pub mod examine;
pub mod first;
pub mod follower;
pub mod freshness;
pub mod keeper;
pub mod loads;
pub mod observed;
pub mod peers;
pub mod queue;
pub mod stage;
pub mod status;
pub mod tables;
pub mod talk;
pub mod trial;
