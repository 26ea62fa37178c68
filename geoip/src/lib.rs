//! Locates a client: its address behind proxies, and its place by geo databases.
//!
//! [`client_ip()`] finds the address in a chain of trusted proxies. [`GeoDatabases::lookup`] looks it
//! up in one or more mmdb files and merges their records into a [`Place`], which shows whether they
//! disagree, so that the policy can widen the origin. Nothing here decides, logs or keeps time;
//! opening a database is the only I/O.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

mod client_ip;
mod continent;
mod database;
mod embedded;
mod merge;
mod place;
mod schema;
mod space;
mod tree;
mod trusted;
mod value;
mod verify;
mod walk;

pub use client_ip::{ClientIp, Forwarded, MAX_HOPS, client_ip};
pub use continent::{Continent, UnknownContinent};
pub use database::{Database, DatabaseError};
pub use embedded::embedded;
pub use merge::GeoDatabases;
pub use place::{Flag, Place};
pub use schema::Record;
pub use space::Space;
pub use tree::TreeFault;
pub use trusted::TrustedProxies;
pub use verify::Damage;
pub use walk::{Step, Walk, WalkError};
