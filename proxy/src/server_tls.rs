//! The TLS of listeners: certificates by name, replaced while connections go on.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use config::CertificateFiles;
use rustls::server::{ClientHello, ProducesTickets, ResolvesServerCert, StoresServerSessions};
use rustls::sign::CertifiedKey;
use smallvec::SmallVec;
use tokio_rustls::TlsAcceptor;

use crate::certificate::{Certificate, CertificateError, CertificateNames, plain_name};
use crate::clock;
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

impl Serving {
    /// Returns whether its handshakes ask clients for a node's certificate.
    pub(crate) fn asks(&self) -> bool {
        self.sessions.peers.authorities.is_some()
    }
}

/// What lets a client resume a session. Those of other peers are not resumed: a node's certificate is
/// not looked at again then.
#[derive(Clone)]
struct Sessions {
    ticketer: Arc<dyn ProducesTickets>,
    storage: Arc<dyn StoresServerSessions>,
    peers: Arc<Peers>,
}

/// One set of certificates: those that are valid are shown, by the name that a client asks for and what it can verify. The
/// first is for clients that name none, or one that no certificate has.
#[derive(Debug, Default)]
pub(crate) struct CertificateSet {
    entries: Vec<Certificate>,
    /// How many of the entries, from the first, are the listener's own; the rest is the node's.
    of_listener: usize,
    /// The entries that are shown.
    shown: Candidates,
    by_name: HashMap<String, Candidates>,
    by_parent: HashMap<String, Candidates>,
}

/// Indices of entries, the preferred first: two where one name has a certificate of each algorithm.
type Candidates = SmallVec<[usize; 2]>;

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
    /// Takes the first that the client can verify; rustls leaves out the schemes that none of the client's cipher suites
    /// of TLS 1.2 goes with.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(plain_name);
        let candidates = self.for_name(name.as_deref()).unwrap_or(&self.shown);
        let keys = || candidates.iter().filter_map(|index| self.entries.get(*index)).map(Certificate::key);
        let is_known = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        keys().find(is_known).or_else(|| keys().next()).cloned()
    }
}

impl CertificateSet {
    /// Loads every pair. The node's own certificate comes after them: for its names, where no other is. A pair that does
    /// not load has its predecessor stay, if there is one in the set `before`; what is wrong with it is returned.
    ///
    /// # Errors
    /// Everything that is wrong with any of them, when there is no other to stay; or that none is valid now.
    pub(crate) fn load(
        pairs: &[CertificateFiles],
        of_node: Option<&Certificate>,
        before: Option<&Self>,
    ) -> Result<(Self, Vec<CertificateError>), Vec<CertificateError>> {
        let (mut entries, mut kept, mut fatal) = (Vec::new(), Vec::new(), Vec::new());
        for pair in pairs {
            let predecessor = || before.and_then(|set| set.own().iter().find(|entry| entry.file == pair.certificate));
            match (Certificate::load(&pair.certificate, &pair.key), predecessor()) {
                (Ok(entry), _) => entries.push(entry),
                (Err(error), Some(predecessor)) => {
                    entries.push(predecessor.clone());
                    kept.push(error);
                }
                (Err(error), None) => fatal.push(error),
            }
        }
        let now = unix_now();
        let fault = |entry: &Certificate| {
            let what = entry.validity.fault(now)? + ", and the listener has no other that is valid";
            Some(CertificateError { file: entry.file.clone(), what })
        };
        let faults: Vec<CertificateError> = entries.iter().filter_map(fault).collect();
        if fatal.is_empty() && faults.len() == entries.len() {
            fatal = faults;
        }
        if fatal.is_empty() {
            return Ok((Self::new(&entries, of_node), kept));
        }
        fatal.extend(kept);
        Err(fatal)
    }

    /// Makes a set. Where none of the listener's own is valid they are shown all the same: that a certificate has expired
    /// says more to a client than a handshake that fails.
    fn new(of_listener: &[Certificate], of_node: Option<&Certificate>) -> Self {
        let now = unix_now();
        let mut set = Self { of_listener: of_listener.len(), ..Self::default() };
        let none_is_valid = of_listener.iter().all(|entry| entry.validity.fault(now).is_some());
        for (entry, is_own) in of_listener.iter().map(|entry| (entry, true)).chain(of_node.map(|entry| (entry, false)))
        {
            if entry.validity.fault(now).is_none() || none_is_valid && is_own {
                set.show(set.entries.len(), &entry.names);
            }
            set.entries.push(entry.clone());
        }
        set
    }

    /// The same certificates of the listener, with another of the node; by the time it is now.
    fn with_node_certificate(&self, of_node: Option<&Certificate>) -> Self {
        Self::new(self.own(), of_node)
    }

    /// Returns the certificates of the set, shown or not.
    pub(crate) fn entries(&self) -> &[Certificate] {
        &self.entries
    }

    /// Returns those of the listener itself.
    pub(crate) fn own(&self) -> &[Certificate] {
        self.entries.get(..self.of_listener).unwrap_or_default()
    }

    /// Returns the names of the certificates that a client may have been shown: which of several it was, TLS does not
    /// tell. The name is in its plain form.
    pub(crate) fn names(&self, name: Option<&str>) -> Arc<CertificateNames> {
        let candidates = match self.for_name(name) {
            Some(candidates) => candidates.as_slice(),
            None => self.shown.get(..1).unwrap_or_default(),
        };
        let names = candidates.iter().filter_map(|index| Some(self.entries.get(*index)?.names.clone()));
        names.reduce(|names, others| Arc::new(names.with(&others))).unwrap_or_default()
    }

    /// Returns the certificates for a name in its plain form, the preferred first: its own, or else its parent's wildcards.
    fn for_name(&self, name: Option<&str>) -> Option<&Candidates> {
        let name = name?;
        let parent = || name.split_once('.').and_then(|(_, parent)| self.by_parent.get(parent));
        self.by_name.get(name).or_else(parent)
    }

    fn show(&mut self, index: usize, names: &CertificateNames) {
        self.shown.push(index);
        for name in &names.exact {
            self.by_name.entry(name.clone()).or_default().push(index);
        }
        for parent in &names.parents {
            self.by_parent.entry(parent.clone()).or_default().push(index);
        }
    }
}

fn unix_now() -> i64 {
    i64::try_from(clock::unix_seconds()).unwrap_or(i64::MAX)
}

/// Returns the configuration of a TLS listener: TLS 1.2 and 1.3, X25519MLKEM768 preferred, HTTP/2, 1.1 and 1.0; nodes
/// are asked for their certificates. A client that offers none of these protocols gets an alert (RFC 7301, 3.2).
fn server_config(set: Arc<CertificateSet>, sessions: &Sessions) -> Result<rustls::ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
    let config = match &sessions.peers.authorities {
        Some(authorities) => config.with_client_cert_verifier(Arc::new(AsksForPeers(authorities.clone()))),
        None => config.with_no_client_auth(),
    };
    let mut config = config.with_cert_resolver(set);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec(), b"http/1.0".to_vec()];
    config.ticketer = sessions.ticketer.clone();
    config.session_storage = sessions.storage.clone();
    Ok(config)
}
