//! Certificates of nodes: whose are, and whether a connection's still is.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use config::PeerName;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore, SignatureScheme};
use x509_parser::extensions::GeneralName;

use super::{Peers, PeersError};
use crate::clock;

/// The authorities that certify nodes, and the names of their certificates that count. Immutable, and shared by all
/// threads.
#[derive(Debug)]
pub(crate) struct Authorities {
    roots: Arc<RootCertStore>,
    names: Vec<PeerName>,
    clients: Arc<dyn ClientCertVerifier>,
    servers: Arc<WebPkiServerVerifier>,
}

/// What a chain of certificates proves that makes its owner a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeIdentity {
    /// When the first of its certificates expires: Unix seconds.
    expires: i64,
}

impl NodeIdentity {
    /// Returns when the first of its certificates expires, in Unix seconds.
    pub(crate) fn expires(self) -> i64 {
        self.expires
    }
}

/// Why a certificate is no node's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub(crate) enum CertificateRefusal {
    #[error("the certificate is not valid now; renew it")]
    Expired,
    #[error("the certificate is of none of peers.certificate_authorities")]
    Foreign,
    #[error("the certificate is for {0}, which is none of peers.names")]
    Misnamed(String),
    #[error("the certificate cannot be used: {0}")]
    Unusable(String),
    #[error("certificates prove nothing any more: peers.certificate_authorities is empty")]
    NoAuthorities,
}

impl CertificateRefusal {
    /// Returns the word for the metrics.
    pub(crate) fn cause(&self) -> &'static str {
        match self {
            Self::Expired => "certificate_expired",
            Self::Foreign | Self::NoAuthorities => "certificate_foreign",
            Self::Misnamed(_) => "certificate_misnamed",
            Self::Unusable(_) => "certificate_unusable",
        }
    }

    /// Returns what a failed handshake has against the certificate that the other end showed, if it is that.
    pub(crate) fn of(error: &rustls::Error) -> Option<Self> {
        let rustls::Error::InvalidCertificate(error) = error else { return None };
        Some(match error {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Self::Expired,
            // An authority of the same name with another key is another authority.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::Foreign,
            CertificateError::Other(OtherError(other)) => match other.downcast_ref::<Self>() {
                Some(refusal) => refusal.clone(),
                None => Self::Unusable(error.to_string()),
            },
            error => Self::Unusable(error.to_string()),
        })
    }
}

impl From<CertificateRefusal> for rustls::Error {
    fn from(refusal: CertificateRefusal) -> Self {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
    }
}

impl Authorities {
    /// Loads the authorities.
    ///
    /// # Errors
    /// When a file is no list of authorities.
    pub(crate) fn load(files: &[PathBuf], names: &[PeerName]) -> Result<Self, PeersError> {
        const KEY: &str = "peers.certificate_authorities";
        let mut roots = RootCertStore::empty();
        for file in files {
            let wrong = |what: String| PeersError { file: file.clone(), key: KEY, what };
            let read: Vec<CertificateDer<'_>> = CertificateDer::pem_file_iter(file)
                .and_then(Iterator::collect)
                .map_err(|error| wrong(format!("no readable PEM certificates: {error}")))?;
            if read.is_empty() {
                return Err(wrong("the file has no certificate".to_owned()));
            }
            for authority in read {
                roots.add(authority).map_err(|error| wrong(format!("a certificate is no authority: {error}")))?;
            }
        }
        let roots = Arc::new(roots);
        let provider = || Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let unusable = |error: rustls::server::VerifierBuilderError| PeersError {
            file: files.first().cloned().unwrap_or_default(),
            key: KEY,
            what: format!("nothing can be verified by it: {error}"),
        };
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider())
            .allow_unauthenticated()
            .build()
            .map_err(unusable)?;
        let servers =
            WebPkiServerVerifier::builder_with_provider(roots.clone(), provider()).build().map_err(unusable)?;
        Ok(Self { roots, names: names.to_vec(), clients, servers })
    }

    /// Finds out whether a chain of certificates, the leaf first, makes its owner a node, as the client of a
    /// connection. That the owner has the key is the handshake's to verify.
    ///
    /// # Errors
    /// When it makes it none.
    pub(crate) fn identify(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<NodeIdentity, CertificateRefusal> {
        let Some((leaf, intermediates)) = chain.split_first() else { return Err(CertificateRefusal::Foreign) };
        self.clients.verify_client_cert(leaf, intermediates, now).map_err(|error| refusal(&error))?;
        self.named(chain)
    }

    /// Finds out whether a chain of certificates makes its owner a node, as the server of a connection to
    /// this name.
    ///
    /// # Errors
    /// When it makes it none, or is not for this name.
    pub(crate) fn identify_server(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        self.servers.verify_server_cert(leaf, intermediates, name, &[], now)?;
        self.named(std::slice::from_ref(leaf)).map_err(rustls::Error::from)?;
        Ok(())
    }

    /// Returns those of a leaf's names that make its owner a node; `None` where it does not parse.
    pub(crate) fn names_of_node(&self, leaf: &CertificateDer<'_>) -> Option<Vec<String>> {
        let (_, parsed) = x509_parser::parse_x509_certificate(leaf).ok()?;
        let names = self.names_of(&parsed).ok()?;
        Some(names.into_iter().filter(|(_, is_node)| *is_node).map(|(name, _)| name).collect())
    }

    /// Calls `add` with each authority and each name.
    pub(super) fn each(&self, add: &mut impl FnMut(&[u8])) {
        for root in &self.roots.roots {
            add(&root.subject);
            add(&root.subject_public_key_info);
            add(root.name_constraints.as_deref().unwrap_or_default());
        }
        self.names.iter().for_each(|name| add(format!("{name:?}").as_bytes()));
    }

    /// Finds out whether a verified certificate has a name that makes its owner a node.
    fn named(&self, chain: &[CertificateDer<'_>]) -> Result<NodeIdentity, CertificateRefusal> {
        let unusable = |what: String| CertificateRefusal::Unusable(what);
        let mut expires = i64::MAX;
        let mut names = Vec::new();
        for (index, certificate) in chain.iter().enumerate() {
            let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
                .map_err(|error| unusable(format!("it does not parse: {error}")))?;
            expires = expires.min(parsed.validity().not_after.timestamp());
            if index == 0 {
                names = self.names_of(&parsed)?;
            }
        }
        if names.iter().any(|(_, is_node)| *is_node) {
            return Ok(NodeIdentity { expires });
        }
        let shown: Vec<&str> = names.iter().take(MAX_SHOWN).map(|(name, _)| name.as_str()).collect();
        let shown = if shown.is_empty() { "nobody (it has no DNS name or URI)".to_owned() } else { shown.join(", ") };
        Err(CertificateRefusal::Misnamed(shown))
    }

    /// Returns the names of a certificate, and whether each is a node's.
    fn names_of(
        &self,
        certificate: &x509_parser::certificate::X509Certificate<'_>,
    ) -> Result<Vec<(String, bool)>, CertificateRefusal> {
        let alternatives = certificate
            .subject_alternative_name()
            .map_err(|error| CertificateRefusal::Unusable(format!("its names do not parse: {error}")))?;
        let any = self.names.is_empty();
        let names = alternatives.into_iter().flat_map(|extension| &extension.value.general_names);
        let named = names.filter_map(|name| match name {
            GeneralName::DNSName(name) => {
                Some(((*name).to_owned(), any || self.names.iter().any(|wanted| wanted.is_dns(name))))
            }
            GeneralName::URI(uri) => {
                Some(((*uri).to_owned(), any || self.names.iter().any(|wanted| wanted.is_uri(uri))))
            }
            _ => None,
        });
        let mut found: Vec<(String, bool)> = named.collect();
        if found.is_empty() && any {
            // All of the authority's certificates count, whatever they are for.
            found.push((certificate.subject().to_string(), true));
        }
        Ok(found)
    }
}

/// Names that a log line shows.
const MAX_SHOWN: usize = 4;

fn refusal(error: &rustls::Error) -> CertificateRefusal {
    CertificateRefusal::of(error).unwrap_or_else(|| CertificateRefusal::Unusable(error.to_string()))
}

/// Asks every client for a certificate, of the peers' authorities, without requiring one; whoever
/// shows one that is no node's gets no connection. To be served as a client is worse than that for a
/// node: the law of its own address would be that of all that it passes on.
#[derive(Debug)]
pub(crate) struct AsksForPeers(pub(crate) Arc<Authorities>);

impl ClientCertVerifier for AsksForPeers {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.clients.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.0.clients.verify_client_cert(leaf, intermediates, now)?;
        self.0.named(std::slice::from_ref(leaf))?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.0.clients.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.0.clients.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clients.supported_verify_schemes()
    }
}

/// The certificate that the other end of a client connection has shown, for as long as the connection
/// lives: whether it is a node's is found out again when `[peers]` has changed, and it ends with its
/// validity.
pub(crate) struct PeerSession {
    chain: Vec<CertificateDer<'static>>,
    judged: ArcSwap<Judged>,
}

struct Judged {
    /// Weak, so that replaced ones go.
    by: Weak<Peers>,
    identity: Result<NodeIdentity, CertificateRefusal>,
}

impl PeerSession {
    /// Begins with a handshake's certificates. A resumed session brings those of an earlier one, which
    /// nobody has looked at since.
    ///
    /// # Errors
    /// When they are no node's.
    pub(crate) fn begin(chain: Vec<CertificateDer<'static>>, peers: &Arc<Peers>) -> Result<Self, CertificateRefusal> {
        let judged = Judged::of(&chain, peers);
        judged.identity.clone()?;
        Ok(Self { chain, judged: ArcSwap::from_pointee(judged) })
    }

    /// Checks that its owner is still a node.
    ///
    /// # Errors
    /// When it is none any more.
    pub(crate) fn check(&self, peers: &Arc<Peers>) -> Result<(), CertificateRefusal> {
        let mut judged = self.judged.load_full();
        if judged.by.as_ptr() != Arc::as_ptr(peers) {
            judged = Arc::new(Judged::of(&self.chain, peers));
            self.judged.store(judged.clone());
        }
        let identity = judged.identity.as_ref().map_err(Clone::clone)?;
        if clock::unix_seconds() as i64 > identity.expires {
            return Err(CertificateRefusal::Expired);
        }
        Ok(())
    }
}

impl Judged {
    fn of(chain: &[CertificateDer<'_>], peers: &Arc<Peers>) -> Self {
        let identity = match &peers.authorities {
            Some(authorities) => authorities.identify(chain, now()),
            None => Err(CertificateRefusal::NoAuthorities),
        };
        Self { by: Arc::downgrade(peers), identity }
    }
}

impl fmt::Debug for PeerSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerSession").field("identity", &self.judged.load().identity).finish_non_exhaustive()
    }
}

/// Returns the time that certificates are verified at.
pub(crate) fn now() -> UnixTime {
    UnixTime::since_unix_epoch(clock::since_1970())
}
