//! From an accepted socket to requests.

pub mod head;
pub mod http;
pub mod listener;
pub mod peek;
pub mod proxy_protocol;
pub mod watchdog;
pub mod worker;
