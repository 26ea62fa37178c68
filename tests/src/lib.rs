//! The harness of the end-to-end tests: the real binary, real TLS, real databases and real origins.
//!
//! A test reads in this order: a [`World`] of origins, one for each endpoint of a routing table; a
//! [`Setup`] that starts a [`Node`] of it; [`Client`]s; and then what the clients got and what the
//! origins received. Where a question is about residency only the origins are asked, never the
//! node's own logs.
//!
//! Everything binds port 0 of loopback. Nothing sleeps for a fixed time: signals are awaited, and
//! where there is none, [`eventually`] polls within a deadline.

pub mod bespoke;
mod binary;
mod bus;
mod certificates;
mod client;
pub mod dns;
mod fleet;
pub mod frames;
pub mod geo;
mod lines;
pub mod load;
mod metrics;
mod node;
mod patience;
mod process;
mod raw;
pub mod relay;
mod request;
mod running;
mod setup;
mod signal;
pub mod streams;
mod table;
mod usage;
mod world;

pub use binary::{Ended, meridian, run, run_in};
pub use bus::{
    BusCluster, BusOperator, BusOptions, BusProbe, BusPublisher, BusServer, Heard, Propagation, Published, nkey_seed,
};
pub use certificates::{Authority, Certificate};
pub use client::{Answer, Client, Connection, Protocol, TlsSession};
pub use fleet::Fleet;
pub use frames::Frames;
pub use lines::Lines;
pub use metrics::Metrics;
pub use node::Node;
pub use patience::{eventually, eventually_within, patiently, within};
pub use process::{Arrival, OriginProcess};
pub use raw::{RawConnection, RawTls};
pub use request::{Body, Pieces, Sent, empty, full, get, head, post, put, request, streamed};
pub use running::Running;
pub use setup::Setup;
pub use table::{SmallTable, example, example_names, rewritten, shipped};
pub use usage::Usage;
pub use world::{World, is_probe};
