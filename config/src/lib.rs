//! Turns TOML into what the proxy works with: parses, compiles, proves, watches.
//!
//! Two kinds of file: the *routing table* ([`RoutingTable`], the whole fleet's) and the *node file*
//! ([`NodeConfig`], this process's). Reading either returns the value or all its [`Problems`] at
//! once, each with file, line, TOML path, and a remedy. [`FileWatch`] reports when files have changed.
//!
//! ```text
//! text --document--> TOML tree --section, field--> typed values --compile--> policy::TableSpec
//!                                      |                             |
//!                                      +---------> report <----------+--> Problems, sorted by line
//! ```

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

pub mod bus;
mod compile;
mod document;
mod endpoint;
mod field;
mod host;
mod kind;
mod name;
mod node;
mod problem;
mod quote;
mod report;
mod share;
mod source;
mod suggest;
mod table;
mod text;

pub use endpoint::{Endpoint, EndpointRole, Upstream};
pub use kind::{FileKind, kind_of};
pub use node::{
    BusSource, CertificateFiles, ClientAddresses, Drain, Geoip, Limits, Listener, ListenerId, Log, Memory, NodeConfig,
    NodeReload, PeerName, Peers, ProxyProtocol, Routing, Tls, TokenAlgorithm, TokenKey, Tokens, UpstreamTls, host_name,
};
pub use problem::{Problem, Problems, Severity};
pub use share::share;
pub use source::file::FileWatch;
pub use suggest::nearest;
pub use table::RoutingTable;
