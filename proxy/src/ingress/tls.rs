//! TLS termination: certificates by name, replaced while connections go on.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use config::CertificateFiles;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ProducesTickets, ResolvesServerCert, StoresServerSessions};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use crate::peers::Peers;
use crate::peers::identity::AsksForPeers;

/// The TLS of one listener, replaced while connections go on.
#[derive(Debug)]
pub struct Certificates(ArcSwap<Serving>);

/// What a handshake is made with, from its first byte to what its connection may serve.
pub struct Serving {
    /// The certificates.
    pub set: Arc<Set>,
    /// Makes handshakes with them.
    pub acceptor: TlsAcceptor,
    sessions: Sessions,
}

/// What lets a client resume a session. Those of other peers are not resumed: a node's certificate is
/// not looked at again then.
#[derive(Clone)]
struct Sessions {
    ticketer: Arc<dyn ProducesTickets>,
    storage: Arc<dyn StoresServerSessions>,
    peers: Arc<Peers>,
}

/// One set of certificates: the first is for clients that name none, or one that no certificate has.
#[derive(Debug, Default)]
pub struct Set {
    entries: Vec<Entry>,
    /// How many of the entries, from the first, are the listener's own; the rest is the node's.
    of_listener: usize,
    by_name: HashMap<String, usize>,
    by_parent: HashMap<String, usize>,
}

/// One certificate.
#[derive(Clone, Debug)]
pub struct Entry {
    key: Arc<CertifiedKey>,
    /// Its names.
    pub names: Arc<CertificateNames>,
    /// The file it is from.
    pub file: PathBuf,
    /// When it expires, in Unix seconds.
    pub not_after: i64,
}

/// The DNS names and addresses of a certificate, in lower case.
#[derive(Debug, Default)]
pub struct CertificateNames {
    exact: Vec<String>,
    /// `*.example.com` as `example.com`.
    parents: Vec<String>,
}

/// What is wrong with a pair of files.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}", file.display())]
pub struct CertificateError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it, and what to do.
    pub what: String,
}

impl Certificates {
    /// Starts with a set, for clients and these peers.
    ///
    /// # Errors
    /// When the provider lacks what TLS needs, which is a mistake in the build.
    pub fn new(set: Set, peers: &Arc<Peers>) -> Result<Self, rustls::Error> {
        Ok(Self(ArcSwap::from_pointee(Serving::new(set, Sessions::new(peers)?)?)))
    }

    /// Replaces the peers, and the set if there is another; handshakes from now on use them.
    ///
    /// # Errors
    /// As [`Certificates::new`]; nothing has changed then.
    pub fn replace(&self, set: Option<Set>, peers: &Arc<Peers>) -> Result<(), rustls::Error> {
        let before = self.0.load_full();
        let kept = before.sessions.clone();
        let sessions = if kept.peers.is_same(peers) { kept } else { Sessions::new(peers)? };
        let set = set.unwrap_or_else(|| before.set.with_node_certificate(peers.certificate.as_ref()));
        self.0.store(Arc::new(Serving::new(set, sessions)?));
        Ok(())
    }

    /// What is in force.
    pub fn current(&self) -> Arc<Serving> {
        self.0.load_full()
    }
}

impl Sessions {
    fn new(peers: &Arc<Peers>) -> Result<Self, rustls::Error> {
        Ok(Self {
            // Resumption without state on the server; the keys rotate, and never leave this process.
            ticketer: rustls::crypto::aws_lc_rs::Ticketer::new()?,
            storage: rustls::server::ServerSessionMemoryCache::new(SESSIONS),
            peers: peers.clone(),
        })
    }
}

impl Serving {
    fn new(set: Set, sessions: Sessions) -> Result<Self, rustls::Error> {
        let set = Arc::new(set);
        let config = server_config(set.clone(), &sessions)?;
        Ok(Self { set, acceptor: TlsAcceptor::from(Arc::new(config)), sessions })
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").field("set", &self.set).finish_non_exhaustive()
    }
}

/// Sessions of TLS 1.2 without tickets, as rustls has it.
const SESSIONS: usize = 256;

impl ResolvesServerCert for Set {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.entry(hello.server_name())?.key.clone())
    }
}

impl Set {
    /// Loads every pair. The node's own certificate comes after them: for its names, where no other is.
    ///
    /// # Errors
    /// Everything that is wrong with any of them.
    pub fn load(pairs: &[CertificateFiles], of_node: Option<&Entry>) -> Result<Self, Vec<CertificateError>> {
        let (mut entries, mut errors) = (Vec::new(), Vec::new());
        for pair in pairs {
            match Entry::load(&pair.certificate, &pair.key) {
                Ok(entry) => entries.push(entry),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(Self::new(&entries, of_node)) } else { Err(errors) }
    }

    fn new(of_listener: &[Entry], of_node: Option<&Entry>) -> Self {
        let mut set = Self { of_listener: of_listener.len(), ..Self::default() };
        of_listener.iter().chain(of_node).for_each(|entry| set.push(entry.clone()));
        set
    }

    /// The same certificates of the listener, with another of the node.
    fn with_node_certificate(&self, of_node: Option<&Entry>) -> Self {
        Self::new(self.entries.get(..self.of_listener).unwrap_or_default(), of_node)
    }

    /// The certificates of the set.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The certificate for a name: its own, its parent's wildcard, or the first.
    pub fn entry(&self, name: Option<&str>) -> Option<&Entry> {
        let wanted = name.map(str::to_ascii_lowercase);
        let found = wanted.as_deref().and_then(|name| {
            let parent = || name.split_once('.').and_then(|(_, parent)| self.by_parent.get(parent));
            self.by_name.get(name).or_else(parent)
        });
        self.entries.get(found.copied().unwrap_or(0))
    }

    fn push(&mut self, entry: Entry) {
        let index = self.entries.len();
        for name in &entry.names.exact {
            self.by_name.entry(name.clone()).or_insert(index);
        }
        for parent in &entry.names.parents {
            self.by_parent.entry(parent.clone()).or_insert(index);
        }
        self.entries.push(entry);
    }
}

impl Entry {
    /// The certificate, then those that certify it.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    /// The certificate and its key.
    pub fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    /// Loads a pair.
    ///
    /// # Errors
    /// When it is none, or not valid now.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let wrong = |file: &Path, what: String| CertificateError { file: file.to_owned(), what };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect)
            .map_err(|error| wrong(certificate, format!("no readable PEM certificates: {}", explained(&error))))?;
        let Some(leaf) = chain.first() else {
            return Err(wrong(
                certificate,
                "the file has no certificate; put the server's first, then its chain".into(),
            ));
        };
        let (_, parsed) = x509_parser::parse_x509_certificate(leaf)
            .map_err(|error| wrong(certificate, format!("the first certificate does not parse: {error}")))?;
        let not_after = parsed.validity().not_after.timestamp();
        if !parsed.validity().is_valid() {
            let what = format!("the certificate is not valid now ({}); renew it", parsed.validity().not_after);
            return Err(wrong(certificate, what));
        }
        let names = Arc::new(CertificateNames::of(&parsed));
        let private = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| wrong(key, format!("no readable PEM private key: {}", explained(&error))))?;
        let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&private)
            .map_err(|error| wrong(key, format!("the key cannot sign: {error}; use RSA, ECDSA or Ed25519")))?;
        let certified = CertifiedKey::new(chain, signing);
        certified.keys_match().map_err(|error| {
            let what = format!("the key does not belong to {} ({error}); pair the files anew", certificate.display());
            wrong(key, what)
        })?;
        Ok(Self { key: Arc::new(certified), names, file: certificate.to_owned(), not_after })
    }
}

fn explained(error: &rustls::pki_types::pem::Error) -> String {
    match error {
        rustls::pki_types::pem::Error::Io(error) => error.to_string(),
        rustls::pki_types::pem::Error::NoItemsFound => "the file has none".to_owned(),
        error => error.to_string(),
    }
}

impl CertificateNames {
    fn of(certificate: &x509_parser::certificate::X509Certificate<'_>) -> Self {
        use x509_parser::extensions::GeneralName;
        let mut names = Self::default();
        let alternatives = certificate.subject_alternative_name().ok().flatten();
        for name in alternatives.into_iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::DNSName(name) => match name.strip_prefix("*.") {
                    Some(parent) => names.parents.push(parent.to_ascii_lowercase()),
                    None => names.exact.push(name.to_ascii_lowercase()),
                },
                GeneralName::IPAddress(bytes) => {
                    let v4 = || <[u8; 4]>::try_from(*bytes).ok().map(|b| std::net::Ipv4Addr::from(b).to_string());
                    let v6 = || <[u8; 16]>::try_from(*bytes).ok().map(|b| std::net::Ipv6Addr::from(b).to_string());
                    names.exact.extend(v4().or_else(v6));
                }
                _ => {}
            }
        }
        names
    }

    /// Whether the certificate is for a host in lower case; a wildcard is for one label.
    pub fn cover(&self, host: &str) -> bool {
        self.exact.iter().any(|name| name == host)
            || host.split_once('.').is_some_and(|(_, parent)| self.parents.iter().any(|name| name == parent))
    }
}

impl fmt::Display for CertificateNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parents = self.parents.iter().map(|parent| format!("*.{parent}"));
        f.write_str(&self.exact.iter().cloned().chain(parents).collect::<Vec<_>>().join(", "))
    }
}

/// The configuration of a TLS listener: TLS 1.2 and 1.3, X25519MLKEM768 preferred, HTTP/2 and 1.1; nodes
/// are asked for their certificates.
fn server_config(set: Arc<Set>, sessions: &Sessions) -> Result<rustls::ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
    let config = match &sessions.peers.authorities {
        Some(authorities) => config.with_client_cert_verifier(Arc::new(AsksForPeers(authorities.clone()))),
        None => config.with_no_client_auth(),
    };
    let mut config = config.with_cert_resolver(set);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = sessions.ticketer.clone();
    config.session_storage = sessions.storage.clone();
    Ok(config)
}
