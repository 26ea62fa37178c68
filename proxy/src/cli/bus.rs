//! What the commands on the config bus share: where it is, what is on it, and a table's way from a
//! text to the fleet.
//!
//! ```text
//! Flags --session--> Bus --> Scene (live table, staged table, reports)
//!                             |
//! Proposal --Release----------+--> diff, guards, the question --> staging (canary) --> Trial
//!                                                             \-> compare and set --> Arrival
//! ```

mod arrival;
mod canary;
pub(super) mod columns;
mod console;
mod flags;
pub(super) mod guard;
pub(super) mod outcome;
pub(super) mod release;
pub(super) mod scene;
pub(super) mod session;
mod signals;
pub(super) mod time;
mod trial;
mod wait;

pub(super) use console::Console;
pub(super) use flags::{Flags, Source};
