//! How to reach a bus, and as whom.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_nats::ConnectOptions;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::error::BusError;

/// Where a bus is, and as whom to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusAccess {
    /// `nats://[user:password@]host:port` or `tls://…`, at least one; any of them will do.
    pub servers: Vec<String>,
    /// The bucket's name.
    pub bucket: String,
    /// As whom to connect, unless the servers' addresses hold credentials.
    pub credentials: Credentials,
    /// PEM files with the authorities that certify the servers; the system's if empty.
    pub certificate_authorities: Vec<PathBuf>,
    /// The certificate that this side presents.
    pub client_certificate: Option<ClientCertificate>,
}

/// A certificate chain and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ClientCertificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// As whom to connect. Secrets are in files, which are read at each connect: they can be replaced
/// while a node runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credentials {
    /// None, or those in the server's address.
    #[default]
    None,
    /// A user with a password.
    Password {
        /// The user's name.
        user: String,
        /// A file with the password.
        password: PathBuf,
    },
    /// A file with a token.
    Token(PathBuf),
    /// A file with an nkey's seed (`SU…`).
    Nkey(PathBuf),
    /// A credentials file: a JWT and its seed, as `nsc` writes it.
    Creds(PathBuf),
}

/// The timeout of a connection attempt, and of each answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// The timeout of requests that carry tables: the longest table is 8 MiB, and a link may be slow.
pub(super) const PATIENCE_FOR_TABLES: Duration = Duration::from_secs(9);

impl BusAccess {
    /// Returns whether the text is a server's address.
    pub fn is_server(text: &str) -> bool {
        let place = text.strip_prefix("nats://").or_else(|| text.strip_prefix("tls://"));
        place.is_some_and(|place| !place.is_empty() && !place.contains(char::is_whitespace))
    }

    /// Checks the local files that a connection needs: secrets, keys, certificates.
    ///
    /// # Errors
    /// When a file is missing or bad.
    pub fn check(&self) -> Result<(), BusError> {
        self.options("check").map(drop)
    }

    /// Returns the options to connect with, as `name`.
    ///
    /// # Errors
    /// When a file is missing or bad.
    pub(super) fn options(&self, name: &str) -> Result<ConnectOptions, BusError> {
        let options = ConnectOptions::new()
            .name(name)
            .connection_timeout(PATIENCE)
            .request_timeout(Some(PATIENCE))
            .ping_interval(Duration::from_secs(5))
            .subscription_capacity(4096)
            // Full jitter, from an eighth of a second to two. The connection's owner connects anew when these
            // attempts are over; without an owner it must not go on for ever.
            .max_reconnects(8)
            .reconnect_delay_callback(|attempts| {
                let most = Duration::from_millis(125 << attempts.min(4));
                most.mul_f64(fastrand::f64())
            })
            // Servers that a server advertises were not configured, and may be without TLS.
            .ignore_discovered_servers()
            .require_tls(self.asks_for_tls())
            .tls_client_config(self.tls()?);
        Ok(match &self.credentials {
            Credentials::None => match self.login()? {
                Some((user, Some(password))) => options.user_and_password(user, password),
                Some((token, None)) => options.token(token),
                None => options,
            },
            Credentials::Password { user, password } => options.user_and_password(user.clone(), secret(password)?),
            Credentials::Token(file) => options.token(secret(file)?),
            Credentials::Nkey(file) => {
                let seed = secret(file)?;
                options.nkey(seed)
            }
            Credentials::Creds(file) => {
                let text = secret(file)?;
                let bad = |error: std::io::Error| BusError::File { file: file.clone(), what: error.to_string() };
                // The library expects a line break after the last line.
                options.credentials(&format!("{text}\n")).map_err(bad)?
            }
        })
    }

    /// Returns the servers' addresses without the passwords that may be in them.
    pub fn servers_shown(&self) -> String {
        let shown = self.servers.iter().map(|server| match (server.split_once("://"), server.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, place))) => format!("{scheme}://{place}"),
            _ => server.clone(),
        });
        shown.collect::<Vec<_>>().join(", ")
    }

    /// Returns the credentials of the first address with an `@`: `user:password`, or a token. The library ignores
    /// them.
    fn login(&self) -> Result<Option<(String, Option<String>)>, BusError> {
        for server in &self.servers {
            let bad =
                |error: std::io::Error| BusError::Connect { servers: self.servers_shown(), what: error.to_string() };
            let address: async_nats::ServerAddr = server.parse().map_err(bad)?;
            if let Some(user) = address.username() {
                return Ok(Some((user.to_owned(), address.password().map(str::to_owned))));
            }
        }
        Ok(None)
    }

    /// Returns whether TLS is required, so that nobody on the path can downgrade the connection.
    fn asks_for_tls(&self) -> bool {
        !self.certificate_authorities.is_empty()
            || self.client_certificate.is_some()
            || self.servers.iter().all(|server| server.starts_with("tls://"))
    }

    fn tls(&self) -> Result<ClientConfig, BusError> {
        let mut roots = RootCertStore::empty();
        for file in &self.certificate_authorities {
            let bad = |what: String| BusError::File { file: file.clone(), what };
            let found: Result<Vec<CertificateDer<'_>>, _> =
                CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
            let found = found.map_err(|error| bad(format!("no readable PEM certificates: {error}")))?;
            if found.is_empty() {
                return Err(bad("the file has no certificate".to_owned()));
            }
            for certificate in found {
                roots.add(certificate).map_err(|error| bad(format!("a certificate is no authority: {error}")))?;
            }
        }
        if self.certificate_authorities.is_empty() {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let tls = tls.map_err(|error| BusError::Tls(error.to_string()))?.with_root_certificates(roots);
        let Some(ClientCertificate { certificate, key }) = &self.client_certificate else {
            return Ok(tls.with_no_client_auth());
        };
        let bad = |file: &PathBuf, what: String| BusError::File { file: file.clone(), what };
        let chain: Result<Vec<CertificateDer<'static>>, _> =
            CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
        let chain = chain.map_err(|error| bad(certificate, format!("no readable PEM certificates: {error}")))?;
        let secret = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| bad(key, format!("no readable PEM private key: {error}")))?;
        tls.with_client_auth_cert(chain, secret).map_err(|error| bad(key, error.to_string()))
    }
}

/// Reads a secret from a file, without white space around it.
fn secret(file: &Path) -> Result<String, BusError> {
    let text = crate::text::read_bounded(file, MAX_SECRET);
    let text = text.map_err(|error| BusError::File { file: file.to_owned(), what: error.to_string() })?;
    let text = text.trim();
    if text.is_empty() {
        return Err(BusError::File { file: file.to_owned(), what: "the file is empty".to_owned() });
    }
    Ok(text.to_owned())
}

const MAX_SECRET: usize = 64 * 1024;
