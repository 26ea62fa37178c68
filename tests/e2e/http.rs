//! What happens to one request on its way, whichever region it goes to.

mod access;
mod answer_ends;
mod bodies;
mod framing;
mod gateway;
mod grpc;
mod headers;
mod health_path;
mod hops;
mod hosts;
mod http2_upstream;
mod interim;
mod limits;
mod overrides;
mod pages;
mod paths;
mod pool;
mod proxy_protocol;
mod resting;
mod retries;
mod server_name;
mod slow_readers;
mod streaming;
mod tls;
mod tunnel;
mod upgrade;
mod uploads;
mod websocket_http2;
mod whole;

/// Routes that take everything, where no law holds.
const EVERYTHING: &str = "[[routes]]\nname = \"all\"\n";
