//! Meridian: the edge proxy that acts on what [`policy`] decides.
//!
//! One request, in file order: [`ingress`] accepts it, [`exchange`] tells its whole story, with
//! [`target`] (what is asked), [`client`] (who asks), [`request_context`] (what else counts), the decision, [`upstream`] (attempts, each with a
//! permit), [`headers`] and [`respond`]. Beside it: [`health`], [`reload`], [`bus`], [`admin`], and
//! [`serve`], which wires everything.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

pub mod admin;
pub mod affinity_cookie;
pub mod boundary;
pub mod bus;
pub mod certificate;
pub mod cli;
pub mod client;
pub mod client_connection;
pub mod clock;
pub mod databases;
pub mod exchange;
pub mod explain;
pub mod fields;
pub mod framing;
pub mod headers;
pub mod health;
pub mod ingress;
pub mod listener;
pub mod load;
pub mod node;
pub mod occupancy;
pub mod peers;
pub mod prepare;
pub mod probes;
pub mod reload;
pub mod request_body;
pub mod request_context;
pub mod request_log;
pub mod respond;
pub mod response_body;
pub mod revocation;
pub mod routing;
pub mod serve;
pub mod server_tls;
pub mod signals;
pub mod status;
pub mod target;
pub mod telemetry;
pub mod token;
pub mod tunnel;
pub mod upstream;
