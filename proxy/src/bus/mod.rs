//! The node's side of the config bus: takes tables, reports what became of them, and notices silence.
//!
//! ```text
//! thread.rs      the thread: started, asked for the first table, ended; lifecycle.rs is what it and the node hand each other
//! session.rs     connections, one after the other: watch, ask, report
//!   catch_up.rs    when the bus is asked what the watch may have missed
//!   loads.rs       tells the other nodes of this one's load each second, and hears theirs
//! controller.rs  performs what the machine decides: a change on the bus comes from session.rs, and is decided in
//!   machine.rs     which tables are read, examined, put in force, refused or ignored: pure
//!   examine.rs     a publication -> a table that may go in force, or its problems
//!   disk.rs        the snapshot, and the note that keeps a table from killing the node again and again
//! ```
//! What is known of the bus, for the rest of the node, is in [`crate::bus_state`].

mod catch_up;
mod controller;
mod disk;
mod examine;
mod lifecycle;
mod loads;
mod machine;
mod session;
pub(crate) mod thread;
