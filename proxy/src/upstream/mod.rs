//! Reaching origins: destinations, connections, pools, attempts.

pub mod attempt;
pub mod body;
pub mod connect;
pub mod forward;
pub mod pool;
pub mod socket;
