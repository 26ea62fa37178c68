//! A command's connection to the bus: where the bus is, and as whom to connect.

use std::path::PathBuf;

use anyhow::anyhow;
use config::bus::{Bus, BusAccess, BusError, ClientCertificate, Credentials, PublishError};
use config::{BusSource, NodeConfig, Routing};

use crate::cli::Failed;

/// The flags that say where the bus is; a node file supplies what they leave out.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "The bus")]
pub(in crate::cli) struct Flags {
    /// A server of the bus, nats://HOST:PORT or tls://HOST:PORT [env: MERIDIAN_BUS]
    #[arg(long = "bus", value_name = "URL", value_delimiter = ',', value_parser = server)]
    servers: Vec<String>,
    /// A node file, whose `[routing] bus` supplies what the flags leave out
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The bucket's name; by default the node file's, or "meridian"
    #[arg(long, value_name = "NAME", value_parser = bucket)]
    bucket: Option<String>,
    /// As whom to connect
    #[arg(long, value_name = "USER", requires = "password_file", group = "identity")]
    user: Option<String>,
    /// The user's password
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// A token to connect with
    #[arg(long, value_name = "FILE", group = "identity")]
    token_file: Option<PathBuf>,
    /// An nkey's seed to connect with
    #[arg(long, value_name = "FILE", group = "identity")]
    nkey_file: Option<PathBuf>,
    /// A JWT and its seed to connect with, as `nsc` writes them
    #[arg(long, value_name = "FILE", group = "identity")]
    creds: Option<PathBuf>,
    /// The authorities that certify the servers, PEM; by default the system's
    #[arg(long, value_name = "FILE")]
    ca: Vec<PathBuf>,
    /// The client certificate for the servers, PEM
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_certificate: Option<PathBuf>,
    /// The client certificate's private key, PEM
    #[arg(long, value_name = "FILE", requires = "client_certificate")]
    client_key: Option<PathBuf>,
}

/// A bus, and the most that a table may shrink on it.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Source {
    pub(in crate::cli) access: BusAccess,
    /// The share of a capacity, `0..=1`, that a table may take away unless it is allowed by name.
    pub(in crate::cli) max_shrink: f64,
    /// The node file's trusted public keys, PEM.
    pub(in crate::cli) trusted_keys: Vec<PathBuf>,
}

impl Flags {
    /// Resolves the flags, the node file and the environment.
    ///
    /// # Errors
    /// When nothing says where, or the node file is bad.
    pub(super) fn source(&self) -> Result<Source, Failed> {
        let file = self.config.as_ref().map(|file| match NodeConfig::load(file)?.routing {
            Routing::Bus(source) => Ok(source),
            Routing::File(_) => Err(Failed::Input(anyhow!(
                "{}: the routing table of this node is a file, [routing] file; a bus is named by --bus",
                file.display()
            ))),
        });
        let file = file.transpose()?;
        let max_shrink = file.as_ref().map_or(BusSource::MAX_SHRINK, |file| file.max_shrink);
        let trusted_keys = file.as_ref().map(|file| file.trusted_keys.clone()).unwrap_or_default();
        let file = file.map(|file| file.access);
        let servers = match &file {
            _ if !self.servers.is_empty() => self.servers.clone(),
            Some(file) => file.servers.clone(),
            None => from_environment()?,
        };
        let bucket = self.bucket.clone().or_else(|| file.as_ref().map(|file| file.bucket.clone()));
        let credentials = self.credentials().or_else(|| file.as_ref().map(|file| file.credentials.clone()));
        let certificate_authorities = match &file {
            Some(file) if self.ca.is_empty() => file.certificate_authorities.clone(),
            _ => self.ca.clone(),
        };
        let client_certificate = match (&self.client_certificate, &self.client_key) {
            (Some(certificate), Some(key)) => {
                Some(ClientCertificate { certificate: certificate.clone(), key: key.clone() })
            }
            _ => file.and_then(|file| file.client_certificate),
        };
        let access = BusAccess {
            servers,
            bucket: bucket.unwrap_or_else(|| "meridian".to_owned()),
            credentials: credentials.unwrap_or_default(),
            certificate_authorities,
            client_certificate,
        };
        Ok(Source { access, max_shrink, trusted_keys })
    }

    fn credentials(&self) -> Option<Credentials> {
        if let (Some(user), Some(password)) = (&self.user, &self.password_file) {
            return Some(Credentials::Password { user: user.clone(), password: password.clone() });
        }
        let token = self.token_file.clone().map(Credentials::Token);
        let nkey = || self.nkey_file.clone().map(Credentials::Nkey);
        let creds = || self.creds.clone().map(Credentials::Creds);
        token.or_else(nkey).or_else(creds)
    }
}

fn from_environment() -> Result<Vec<String>, Failed> {
    let servers = std::env::var(VARIABLE).unwrap_or_default();
    let servers = servers.split(',').map(str::trim).filter(|server| !server.is_empty()).map(server);
    let servers: Result<Vec<String>, String> = servers.collect();
    match servers {
        Ok(servers) if servers.is_empty() => Err(Failed::Input(anyhow!(
            "no bus is named: use --bus nats://HOST:4222, or --config node.toml, or the variable {VARIABLE}"
        ))),
        Ok(servers) => Ok(servers),
        Err(error) => Err(Failed::Input(anyhow!("{VARIABLE}: {error}"))),
    }
}

fn server(text: &str) -> Result<String, String> {
    // Not shown: there may be a password in it.
    let wrong = || "this is not a server such as nats://127.0.0.1:4222".to_owned();
    BusAccess::is_server(text).then(|| text.to_owned()).ok_or_else(wrong)
}

fn bucket(text: &str) -> Result<String, String> {
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let is_bucket = (1..=64).contains(&text.len()) && text.bytes().all(letter);
    is_bucket.then(|| text.to_owned()).ok_or_else(|| "use 1 to 64 of a-z A-Z 0-9 - _".to_owned())
}

/// Connects to the bus, and runs `work`.
///
/// # Errors
/// When the bus cannot be reached, and those of `work`.
pub(in crate::cli) fn with_bus<T>(
    flags: &Flags,
    work: impl AsyncFnOnce(Bus, Source) -> Result<T, Failed>,
) -> Result<T, Failed> {
    let source = flags.source()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failed::Ran(error.into()))?.block_on(async {
        let bus = Bus::connect(&source.access, &publisher()).await?;
        work(bus, source).await
    })
}

/// Returns the publisher's name: `user@host`.
pub(in crate::cli) fn publisher() -> String {
    let named = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = named("USER").or_else(|| named("LOGNAME")).unwrap_or_else(|| "meridian".to_owned());
    format!("{user}@{}", config::host_name())
}

impl From<BusError> for Failed {
    fn from(error: BusError) -> Self {
        match error {
            BusError::File { .. } => Failed::Input(error.into()),
            error => Failed::Ran(error.into()),
        }
    }
}

impl From<PublishError> for Failed {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Bus(error) => error.into(),
            error => Failed::Ran(error.into()),
        }
    }
}

/// The environment variable that names the servers where neither a flag nor a node file does.
const VARIABLE: &str = "MERIDIAN_BUS";
