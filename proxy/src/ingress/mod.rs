//! From an accepted socket to requests.

pub mod connection;
pub mod http;
pub mod listener;
pub mod tls;
pub mod watchdog;
pub mod worker;
