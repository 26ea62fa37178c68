//! From an accepted socket to requests.

mod client_limit;
mod cork;
mod crc32c;
mod frame_budget;
mod frame_position;
mod frames;
mod http1;
mod http2;
pub(crate) mod listener;
mod peek;
mod proxy_protocol;
mod reply;
mod stream;
mod streams;
mod unwritten;
mod watchdog;
pub(crate) mod worker;
