//! An open-loop HTTP(S) load generator with honest latencies, and an origin to aim it at.
//!
//! [`run`] sends requests at a fixed rate, whatever the answers do: each request has an intended time on a schedule,
//! and its latency counts from that time. A server that stalls for a second therefore shows a second in the
//! percentiles, as its clients would have felt it, instead of one slow sample and a pause of the generator
//! ("coordinated omission", Gil Tene, <https://github.com/giltene/wrk2>).
//!
//! [`origin::Origin`] is a small real HTTP server that counts what it receives and misbehaves on command.
//!
//! [`simulate`] is a whole fleet in virtual time, without a network: `policy`'s decisions, and what they lead to.

mod alarm;
mod connection_slot;
pub mod country_database;
mod dial;
mod exchange;
mod failure;
mod observation;
pub mod origin;
mod plan;
mod protocol;
mod report;
mod request;
mod run;
mod schedule;
pub mod simulate;
mod tally;
mod target;
mod tls;

pub use observation::{FailureKind, Observation, Outcome};
pub use plan::{Plan, PlanError, Reuse};
pub use protocol::Protocol;
pub use report::{FailureCount, Latencies, Report};
pub use request::RequestSpec;
pub use run::{RunError, run, run_until};
pub use target::Target;
pub use tls::{Tls, TlsError};
