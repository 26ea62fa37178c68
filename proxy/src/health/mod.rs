//! The live state of endpoints, regions, routes and canaries on this node: cells that outlive a table, by name.

pub(crate) mod canary;
pub(crate) mod class_places;
pub(crate) mod client_ways;
pub(crate) mod endpoint;
pub(crate) mod latency;
pub(crate) mod limiter;
pub(crate) mod region;
pub(crate) mod reported_load;
pub(crate) mod round_trip;
pub(crate) mod traffic;
