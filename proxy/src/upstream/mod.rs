//! Reaching origins: destinations, connections, pools, attempts.

pub(crate) mod answer_error;
pub(crate) mod attempt;
pub(crate) mod balance;
pub(crate) mod connect;
pub(crate) mod endpoint_connections;
pub(crate) mod evidence;
pub(crate) mod forward;
mod hedge;
pub(crate) mod http1;
pub(crate) mod http2;
mod http2_life;
mod http2_tunnel;
pub(crate) mod link;
pub(crate) mod name_servers;
pub(crate) mod origin_connection;
pub(crate) mod plan;
pub(crate) mod pool;
mod received;
pub(crate) mod resolve;
mod retry_state;
pub(crate) mod socket;
pub(crate) mod timers;
