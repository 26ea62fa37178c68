//! `loadtest http`: send requests at a fixed rate and report.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use ipnet::IpNet;
use loadtest::{Report, run_until};

use super::job::Job;
use super::signal;

/// The arguments as written.
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
    format: Format,
    /// Exit with 1 if any request failed or was answered with a status from 500 on
    #[arg(long)]
    fail_on_error: bool,
    /// Allow a target that is not on loopback. Aim it at your own servers only
    #[arg(long)]
    pub(super) allow_remote: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

pub(super) fn run(args: Args) -> ExitCode {
    let (format, fail_on_error) = (args.format, args.fail_on_error);
    match Job::try_from(args) {
        Ok(job) => super::ended(send(job, format, fail_on_error)),
        Err(error) => super::bad_arguments(&error),
    }
}

fn send(job: Job, format: Format, fail_on_error: bool) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    let Job { plan, request } = job;
    let report = runtime.block_on(run_until(&plan, signal::stop(), request, |_| {}))?;
    match format {
        Format::Text => print!("{report}"),
        Format::Json => println!("{}", serde_json::to_string_pretty(&report)?),
    }
    Ok(if fail_on_error && has_errors(&report) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn has_errors(report: &Report) -> bool {
    report.failed > 0 || report.server_errors() > 0
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write it as NAME:VALUE")?;
    let (name, value) = (name.trim(), value.trim());
    http::HeaderName::try_from(name).map_err(|error| error.to_string())?;
    http::HeaderValue::try_from(value).map_err(|error| error.to_string())?;
    Ok((name.to_owned(), value.to_owned()))
}
