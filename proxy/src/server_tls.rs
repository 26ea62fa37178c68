//! The TLS of listeners: certificates by name, replaced while connections go on.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use config::CertificateFiles;
use rustls::server::{ClientHello, ProducesTickets, ResolvesServerCert, StoresServerSessions};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use crate::certificate::{Certificate, CertificateError};
use crate::peers::Peers;
use crate::peers::identity::AsksForPeers;

/// The TLS of one listener, replaced while connections go on.
#[derive(Debug)]
pub(crate) struct ServerTls(ArcSwap<Serving>);

/// What a handshake is made with, from its first byte to what its connection may serve.
pub(crate) struct Serving {
    /// The certificates.
    pub(crate) set: Arc<CertificateSet>,
    /// Makes handshakes with them.
    pub(crate) acceptor: TlsAcceptor,
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
pub(crate) struct CertificateSet {
    entries: Vec<Certificate>,
    /// How many of the entries, from the first, are the listener's own; the rest is the node's.
    of_listener: usize,
    by_name: HashMap<String, usize>,
    by_parent: HashMap<String, usize>,
}

impl ServerTls {
    /// Starts with a set, for clients and these peers.
    ///
    /// # Errors
    /// When the provider lacks what TLS needs, which is a mistake in the build.
    pub(crate) fn new(set: CertificateSet, peers: &Arc<Peers>) -> Result<Self, rustls::Error> {
        Ok(Self(ArcSwap::from_pointee(Serving::new(set, Sessions::new(peers)?)?)))
    }

    /// Replaces the peers, and the set if there is another; handshakes from now on use them.
    ///
    /// # Errors
    /// As [`ServerTls::new`]; nothing has changed then.
    pub(crate) fn replace(&self, set: Option<CertificateSet>, peers: &Arc<Peers>) -> Result<(), rustls::Error> {
        let before = self.0.load_full();
        let kept = before.sessions.clone();
        let sessions = if kept.peers.is_same(peers) { kept } else { Sessions::new(peers)? };
        let set = set.unwrap_or_else(|| before.set.with_node_certificate(peers.certificate.as_ref()));
        self.0.store(Arc::new(Serving::new(set, sessions)?));
        Ok(())
    }

    /// Returns what is in force.
    pub(crate) fn current(&self) -> Arc<Serving> {
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
    fn new(set: CertificateSet, sessions: Sessions) -> Result<Self, rustls::Error> {
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

impl ResolvesServerCert for CertificateSet {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.entry(hello.server_name())?.key().clone())
    }
}

impl CertificateSet {
    /// Loads every pair. The node's own certificate comes after them: for its names, where no other is.
    ///
    /// # Errors
    /// Everything that is wrong with any of them.
    pub(crate) fn load(
        pairs: &[CertificateFiles],
        of_node: Option<&Certificate>,
    ) -> Result<Self, Vec<CertificateError>> {
        let (mut entries, mut errors) = (Vec::new(), Vec::new());
        for pair in pairs {
            match Certificate::load(&pair.certificate, &pair.key) {
                Ok(entry) => entries.push(entry),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(Self::new(&entries, of_node)) } else { Err(errors) }
    }

    fn new(of_listener: &[Certificate], of_node: Option<&Certificate>) -> Self {
        let mut set = Self { of_listener: of_listener.len(), ..Self::default() };
        of_listener.iter().chain(of_node).for_each(|entry| set.push(entry.clone()));
        set
    }

    /// The same certificates of the listener, with another of the node.
    fn with_node_certificate(&self, of_node: Option<&Certificate>) -> Self {
        Self::new(self.entries.get(..self.of_listener).unwrap_or_default(), of_node)
    }

    /// Returns the certificates of the set.
    pub(crate) fn entries(&self) -> &[Certificate] {
        &self.entries
    }

    /// Returns the certificate for a name: its own, its parent's wildcard, or the first.
    pub(crate) fn entry(&self, name: Option<&str>) -> Option<&Certificate> {
        let wanted = name.map(str::to_ascii_lowercase);
        let found = wanted.as_deref().and_then(|name| {
            let parent = || name.split_once('.').and_then(|(_, parent)| self.by_parent.get(parent));
            self.by_name.get(name).or_else(parent)
        });
        self.entries.get(found.copied().unwrap_or(0))
    }

    fn push(&mut self, entry: Certificate) {
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

/// Returns the configuration of a TLS listener: TLS 1.2 and 1.3, X25519MLKEM768 preferred, HTTP/2 and 1.1; nodes
/// are asked for their certificates.
fn server_config(set: Arc<CertificateSet>, sessions: &Sessions) -> Result<rustls::ServerConfig, rustls::Error> {
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
