//! The node file: this process's sockets, databases and limits, and where its routing comes from.

mod address;
mod admin;
mod bus;
mod drain;
mod geoip;
mod limits;
mod listener;
mod log;
mod peers;
mod read;
mod reload;
mod routing;
mod tokens;
mod upstream;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use read::host_name;
pub use reload::{ListenerId, NodeReload};

use crate::bus::{BusAccess, Witness};
use crate::document::{self, MAX_TEXT};
use crate::problem::{Problem, Problems};
use crate::text;

/// A node file's settings, with every default filled in and every path resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeConfig {
    /// The file.
    pub file: PathBuf,
    /// The node's name in logs and reports; by default the host's.
    pub name: String,
    /// The region that the node is in, by its name in the routing table.
    pub region: String,
    /// Worker threads; one for each core if not given.
    pub threads: Option<usize>,
    /// Where clients connect; never empty.
    pub listeners: Vec<Listener>,
    /// Where operators connect; `None` when switched off.
    pub admin: Option<SocketAddr>,
    /// Names beside `localhost` and addresses by which operators may call the admin listener, in lower
    /// case.
    pub admin_hosts: Vec<String>,
    /// How clients are located.
    pub geoip: Geoip,
    /// Whose bearer tokens are accepted.
    pub tokens: Tokens,
    /// Which other processes are nodes of the fleet; `None` for no one.
    pub peers: Option<Peers>,
    /// Where the routing table comes from.
    pub routing: Routing,
    /// The most that the node takes on.
    pub limits: Limits,
    /// How the node drains.
    pub drain: Drain,
    /// How the node connects to endpoints and gateways.
    pub upstream: UpstreamTls,
    /// What the node writes to its logs.
    pub log: Log,
    /// The warnings about the file, which can be used all the same.
    pub warnings: Vec<Problem>,
}

/// A socket that clients connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The address to bind; port 0 lets the system choose one.
    pub address: SocketAddr,
    /// TLS, or plain HTTP.
    pub tls: Option<Tls>,
    /// Whether every request is redirected to `https://`.
    pub redirect_to_https: bool,
    /// The port of the redirect's target, as clients see it.
    pub redirect_port: u16,
    /// Whether connections may start with a PROXY header.
    pub proxy_protocol: ProxyProtocol,
    /// The path of the load balancers' health check; `None` when switched off.
    pub health_path: Option<Arc<str>>,
}

/// Whether connections may start with a PROXY header, version 1 or 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// Connections may not.
    Off,
    /// Connections from [`Geoip::trusted_proxies`] may.
    Trusted,
}

/// The certificates of a listener, chosen by the client's SNI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Never empty; the first is for clients without SNI.
    pub certificates: Vec<CertificateFiles>,
}

/// A certificate chain and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, the leaf first.
    pub certificate: PathBuf,
    /// The leaf's private key.
    pub key: PathBuf,
}

/// How clients are located.
#[derive(Clone, Debug, PartialEq)]
pub struct Geoip {
    /// MaxMind databases; without any, every client's country is unknown.
    pub databases: Vec<PathBuf>,
    /// The networks whose forwarding headers and PROXY headers are trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// The header in which a trusted proxy names the client's country, in lower case.
    pub country_header: Option<String>,
    /// Autonomous systems whose addresses do not tell their users' country.
    pub anonymous_asns: Vec<u32>,
    /// The share of clients, `0..=1`, that a replaced database may move to other jurisdictions without an operator's
    /// consent; `None` for any.
    pub max_change: Option<f64>,
}

/// Whose bearer tokens (JWT, RFC 7519) are accepted, for routes with a `consent_claim`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// The keys; any of them may have signed.
    pub keys: Vec<TokenKey>,
    /// The required `iss`, if any.
    pub issuer: Option<String>,
    /// What `aud` must contain, if anything.
    pub audience: Option<String>,
}

/// A public key that tokens are verified with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenKey {
    /// The PEM file.
    pub file: PathBuf,
    /// The key's algorithm, whatever a token's header says.
    pub algorithm: TokenAlgorithm,
}

/// A signature algorithm of RFC 7518 with a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum TokenAlgorithm {
    Es256,
    Es384,
    EdDsa,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
}

/// Which other processes are nodes of the fleet, and how this one proves that it is one. An address
/// proves nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// PEM files with the authorities that certify nodes, and nothing else.
    pub certificate_authorities: Vec<PathBuf>,
    /// The certificate names that make their owner a node; if empty, any certificate of these authorities does.
    pub names: Vec<PeerName>,
    /// The certificate that this node presents to gateways, and to clients as a gateway.
    pub certificate: Option<CertificateFiles>,
    /// The secrets with which nodes sign requests to each other, one a line; this node signs with the
    /// first.
    pub secret_file: Option<PathBuf>,
    /// Whether the fleet changes from the secret to certificates: messages over the bus that are signed by either count.
    pub rollover: bool,
}

/// A name of a certificate (a subject alternative name) that makes its owner a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerName {
    /// A DNS name in lower case.
    Dns(String),
    /// `*.PARENT`: a DNS name of one label more than this.
    DnsBelow(String),
    /// A URI.
    Uri(String),
    /// `PARENT*`: a URI of one path segment more than this, which ends in a slash.
    UriBelow(String),
}

/// Where the routing table comes from.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "there is one")]
pub enum Routing {
    /// A file, which is watched.
    File(PathBuf),
    /// The config bus.
    Bus(BusSource),
}

/// The config bus as a node's source of its table.
#[derive(Clone, Debug, PartialEq)]
pub struct BusSource {
    /// The bus's servers and bucket, and as whom to connect.
    pub access: BusAccess,
    /// Where the last good table is kept for a start without the bus.
    pub snapshot: Option<PathBuf>,
    /// How long a table may be used without a confirmation before restricted routes fail closed; `None` when the file
    /// does not say.
    pub max_age: Option<Duration>,
    /// With trusted keys: no table that was signed before this time, in Unix milliseconds, is accepted.
    pub minimum_issued_ms: Option<u64>,
    /// The PEM files with the public keys whose tables are accepted; if empty, signatures are not required.
    pub trusted_keys: Vec<PathBuf>,
    /// The share of the fleet's or a jurisdiction's capacity, `0..=1`, that a table may take away
    /// without an override.
    pub max_shrink: f64,
}

impl BusSource {
    /// The default of `max_shrink`: a table that takes away more than half is probably a mistake.
    pub const MAX_SHRINK: f64 = 0.5;

    /// Returns what confirms a table: the bus, or trusted keys where there are any.
    pub fn witness(&self) -> Witness {
        if self.trusted_keys.is_empty() { Witness::Bus } else { Witness::Keys }
    }
}

/// The most that the node takes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests in flight on the node.
    pub requests_in_flight: usize,
    /// Requests in flight from the node to one region.
    pub requests_in_flight_per_region: usize,
    /// Client connections of the node.
    pub connections: usize,
    /// Connections of one client (an IPv4 address, or the /64 of an IPv6 one); `None` is without limit.
    pub connections_per_client: Option<usize>,
    /// Requests in flight, and tunnels, of one client; `None` is without limit.
    pub requests_in_flight_per_client: Option<usize>,
    /// Tunnels (WebSockets) of the node; they count neither as connections nor as requests in flight.
    pub tunnels: usize,
    /// Bytes of a request's header.
    pub header_bytes: usize,
    /// Fields of a request's header.
    pub headers: usize,
    /// The time from the first byte of a request, or of what precedes the first one, to the end of the header.
    pub header_timeout: Duration,
    /// How long a client connection may be idle: before its first request, and between two.
    pub keep_alive: Duration,
    /// Bytes of a request's body; `None` is without limit.
    pub body_bytes: Option<u64>,
    /// The longest pause within a request's body.
    pub body_timeout: Duration,
    /// Bytes a second of a request's body, at least; `None` is without limit.
    pub body_rate: Option<u32>,
    /// How long a tunnel may be without a byte either way.
    pub tunnel_idle_timeout: Duration,
    /// Memory of the process, of what it may have; `None` is without limit.
    pub memory: Option<Memory>,
    /// What of that bodies in flight may hold, of [`Limits::memory`]; `None` is without limit.
    pub body_memory: Option<Memory>,
}

/// An amount of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Bytes.
    Bytes(u64),
    /// Percent of something.
    Percent(u8),
}

/// How the node drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How long after SIGTERM the node announces its shutdown while it still accepts connections.
    pub announce: Duration,
}

/// How the node connects to endpoints and gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// PEM files with the authorities that certify endpoints and gateways; the system's if empty.
    pub certificate_authorities: Vec<PathBuf>,
    /// The name servers that resolve endpoints' names; the system's if empty.
    pub nameservers: Vec<SocketAddr>,
    /// The time from the dial to an open connection, TLS included.
    pub connect_timeout: Duration,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// Idle connections kept for each endpoint by each thread.
    pub idle_connections: usize,
    /// Whether the node adds itself to `Via`.
    pub via: bool,
    /// How long the addresses of a name stay in use after a name server says that it no longer exists.
    pub absence_grace: Duration,
}

/// What the node writes to its logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// How much of a client's address the logs show.
    pub client_addresses: ClientAddresses,
}

/// How much of a client's address a log shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAddresses {
    /// The address's network: /24 of IPv4, /48 of IPv6.
    Truncated,
    /// The whole address.
    Full,
    /// Nothing.
    None,
}

impl NodeConfig {
    /// Reads a node file.
    ///
    /// # Errors
    /// Every problem of the file at once, warnings included.
    pub fn load(file: &Path) -> Result<Self, Problems> {
        match text::read_bounded(file, MAX_TEXT) {
            Ok(text) => Self::from_text(file, &text),
            Err(error) => Err(document::at_line(file, error.line(), error.to_string())),
        }
    }

    /// Reads a node file's text. Relative paths in it are relative to the directory of `file`,
    /// which is not opened.
    ///
    /// # Errors
    /// As [`NodeConfig::load`].
    pub fn from_text(file: &Path, text: &str) -> Result<Self, Problems> {
        let (config, warnings) = document::read(file, text, KEYS, |root| read::node(root, file))?;
        Ok(Self { warnings, ..config })
    }
}

/// The top-level keys of a node file.
pub(crate) const KEYS: &[&str] =
    &["node", "listeners", "admin", "geoip", "tokens", "peers", "routing", "limits", "drain", "upstream", "log"];

#[cfg(test)]
mod tests;
