//! The way of lines to stdout and stderr, whose readers hold up nothing: a queue of a bounded size, and a thread that
//! writes what is in it. What there is no room for is lost and counted.

mod health;
mod queue;
mod standard;
mod writer;

pub(crate) use health::OutputHealth;
pub(crate) use queue::{Filling, Queue};
pub(crate) use standard::Standard;
pub(crate) use writer::{Event, Sink, start};
