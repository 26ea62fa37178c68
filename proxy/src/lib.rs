//! Meridian: the edge proxy that acts on what [`policy`] decides.
//!
//! One request, in file order: `ingress` accepts it, `exchange` tells its whole story, with
//! `target` (what is asked), `client` (who asks), `request_context` (what else counts), the decision, `upstream` (attempts, each with a
//! permit), `headers` and `respond`. Beside it: `health`, `reload`, `bus`, `admin`, and
//! `serve`, which wires everything.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

mod admin;
mod affinity_cookie;
mod answer_form;
mod body_budget;
mod boundary;
mod bus;
mod bus_state;
mod cancellations;
mod capacity;
mod certificate;
pub mod cli;
mod client;
mod client_connection;
mod client_content;
mod client_counts;
mod client_stream;
mod clock;
mod databases;
mod descriptors;
mod exchange;
mod explain;
mod fields;
mod framing;
mod grpc;
mod headers;
mod health;
mod http1;
mod http2;
mod in_flight;
mod in_force;
mod ingress;
mod interim;
mod listener;
mod load;
mod local_error;
mod memory;
mod node;
mod occupancy;
mod origin_load;
mod overload;
mod overload_watch;
mod peers;
mod per_worker;
mod prepare;
mod probes;
mod refusal_page;
mod reload;
mod request_body;
mod request_context;
mod request_log;
mod respond;
mod response_body;
mod revocation;
mod routing;
mod serve;
mod server_tls;
mod signals;
mod status;
mod supervise;
mod target;
mod telemetry;
mod token;
mod tunnel;
mod tunnel_stream;
mod upload_pace;
mod upstream;
mod via;
mod websocket;
