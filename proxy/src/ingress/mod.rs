//! From an accepted socket to requests.

pub(crate) mod head;
pub(crate) mod http;
pub(crate) mod listener;
pub(crate) mod peek;
pub(crate) mod proxy_protocol;
pub(crate) mod watchdog;
pub(crate) mod worker;
