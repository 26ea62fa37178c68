//! The arguments of `loadtest http`, as written.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use ipnet::IpNet;

/// What to request, at which rate, and how to report it.
#[derive(clap::Args)]
pub(super) struct Args {
    /// What to request. The host must be an IP address or `localhost`, on loopback
    #[arg(long)]
    pub(super) url: http::Uri,
    /// The Host to ask for, and over TLS the server's name [default: as in the URL]
    #[arg(long)]
    pub(super) host: Option<String>,
    /// Requests per second
    #[arg(long, default_value_t = 100.0)]
    pub(super) rate: f64,
    /// How long requests are sent
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub(super) duration: Duration,
    /// Connections, at most
    #[arg(long, default_value_t = 32)]
    pub(super) connections: usize,
    /// Requests in flight on each HTTP/2 connection, at most
    #[arg(long, default_value_t = 10)]
    pub(super) streams: usize,
    /// How long after its intended time a request may end
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub(super) timeout: Duration,
    /// Speak HTTP/2: by ALPN over TLS, else with prior knowledge
    #[arg(long)]
    pub(super) h2: bool,
    /// Accept any certificate
    #[arg(long, conflicts_with = "ca")]
    pub(super) insecure: bool,
    /// Accept certificates that descend from one in this PEM file
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// Offer X25519 alone for TLS's key exchange, and no post-quantum hybrid
    #[arg(long)]
    pub(super) x25519: bool,
    /// A further header field; may be repeated
    #[arg(long, value_name = "NAME:VALUE", value_parser = header)]
    pub(super) header: Vec<(String, String)>,
    /// The request method
    #[arg(long, default_value = "GET")]
    pub(super) method: http::Method,
    /// Send this file as the body
    #[arg(long, value_name = "FILE", conflicts_with = "body_bytes")]
    pub(super) body: Option<PathBuf>,
    /// Send a body of this many bytes
    #[arg(long, value_name = "N")]
    pub(super) body_bytes: Option<usize>,
    /// Dial a new connection for each request
    #[arg(long)]
    pub(super) new_connections: bool,
    /// Send X-Forwarded-For with the addresses of this network in turn: a proxy that trusts us sees many clients
    #[arg(long, value_name = "CIDR")]
    pub(super) vary_client: Option<IpNet>,
    /// How to write the report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(super) format: Format,
    /// Exit with 1 if any request failed or was answered with a status from 500 on
    #[arg(long)]
    pub(super) fail_on_error: bool,
    /// Allow a target that is not on loopback. Aim it at your own servers only
    #[arg(long)]
    pub(super) allow_remote: bool,
}

/// How a report is written.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write it as NAME:VALUE")?;
    let (name, value) = (name.trim(), value.trim());
    http::HeaderName::try_from(name).map_err(|error| error.to_string())?;
    http::HeaderValue::try_from(value).map_err(|error| error.to_string())?;
    Ok((name.to_owned(), value.to_owned()))
}
