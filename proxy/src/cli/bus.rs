//! What the commands on the config bus share: the connection, the state of the bus, and publishing a table.
//!
//! ```text
//! connection.rs  flags -> Bus                view.rs     the live table, the staged one, the nodes' reports
//! console.rs     stdout, stderr, questions   outcome.rs  the outcome, as one JSON document
//!
//! release.rs     Proposal -> diff, guard.rs, the question
//!   publisher.rs   signs, writes (compare and set), and follows the nodes: arrival.rs
//!   canary_run.rs  stages first, observes (canary.rs), and publishes to all or withdraws
//! ```

mod arrival;
mod canary;
pub(super) mod canary_run;
pub(super) mod connection;
pub(super) mod console;
pub(super) mod guard;
pub(super) mod outcome;
mod publisher;
pub(super) mod release;
pub(super) mod view;

pub(super) use connection::{Flags, Source};
pub(super) use console::Console;
