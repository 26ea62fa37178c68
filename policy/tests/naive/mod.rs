//! The contract's decision, written a second time: slowly, with names and sets of text.
//!
//! It shares no code with the crate's decision: it reads the specification that a table is made of,
//! and nothing that the table compiled of it.
#![allow(dead_code, unused_imports, missing_docs, unreachable_pub, reason = "each test takes what it needs")]

mod book;
mod choice;
mod emergency;
mod law;
mod routes;

pub use book::{Book, Request, Rule};
pub use choice::{Choice, at_rest, is_stale, near_and_fresh};
pub use emergency::refused_in_emergency;
pub use law::{Law, Standing, is_restricted, law, law_in_every_condition};
pub use routes::most_specific;
