//! Whether upstreams serve: probes, and what real traffic shows.

pub mod endpoint;
pub mod probe;
