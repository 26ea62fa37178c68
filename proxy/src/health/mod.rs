//! Whether upstreams serve: what probes find, and what real traffic shows.

pub mod canary;
pub mod endpoint;
pub mod probe;
pub mod region;
pub mod route;
pub mod traffic;
pub mod watch;
