//! Reaching origins: destinations, connections, pools, attempts.

pub mod attempt;
pub mod body;
pub mod connect;
pub mod connection;
mod course;
pub mod forward;
pub mod http2;
pub mod pool;
pub mod resolve;
pub mod shared;
pub mod socket;
