//! Geo databases as releases: what a new one would change, and whether it may.
//!
//! [`survey`] walks the address space once over several databases and adds up what they say, each combination apart;
//! all that is told of them is read from that. [`recent`] remembers who the node's clients are, [`release`] judges a
//! new file by them.

pub mod recent;
pub mod release;
pub mod survey;
