//! Reaching origins: destinations, connections, pools, attempts.

pub mod attempt;
pub mod body;
pub mod connect;
pub mod connection;
pub mod forward;
pub mod http2;
pub mod pool;
pub mod shared;
pub mod socket;
