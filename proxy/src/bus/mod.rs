//! The node's side of the config bus: reads tables, reports the results, and notices silence.
//!
//! ```text
//! thread.rs      the thread: start, first table, end; lifecycle.rs has what it and the node hand each other
//! session.rs     connections, one after the other: watch, ask, report
//!   catch_up.rs    when the bus is asked what the watch may have missed
//!   loads.rs       sends this node's load each second, and receives the other nodes'
//! controller.rs  performs what the machine decides: a change on the bus comes from session.rs, and is decided in
//!   machine.rs     which tables are read, examined, put in force, refused or ignored: pure
//!   examine.rs     a publication -> a table that may go in force, or its problems
//!   disk.rs        the snapshot, and the note that prevents crash loops
//! ```
//! The state of the bus, for the rest of the node, is in [`crate::bus_state`].

mod catch_up;
mod controller;
mod disk;
mod examine;
mod lifecycle;
mod loads;
mod machine;
mod session;
pub(crate) mod thread;
