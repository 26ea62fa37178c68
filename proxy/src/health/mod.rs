//! The live state of endpoints, regions, routes and canaries on this node: cells that outlive a table, by name.

pub mod canary;
pub mod endpoint;
pub mod latency;
pub mod region;
pub mod reported_load;
