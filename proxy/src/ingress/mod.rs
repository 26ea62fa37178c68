//! From an accepted socket to requests.

mod cork;
mod crc32c;
mod frames;
mod http1;
mod http2;
pub(crate) mod listener;
mod peek;
mod proxy_protocol;
mod watchdog;
pub(crate) mod worker;
