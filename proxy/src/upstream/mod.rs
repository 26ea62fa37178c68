//! Reaching origins: destinations, connections, pools, attempts.

pub mod attempt;
pub mod balance;
pub mod connect;
pub mod endpoint_connections;
pub mod evidence;
pub mod forward;
mod hedge;
pub mod http2;
pub mod link;
pub mod origin_connection;
pub mod plan;
pub mod pool;
pub mod resolve;
mod retry_state;
pub mod socket;
