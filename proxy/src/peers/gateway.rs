//! The TLS of a new connection to another region's node, and what it has proved.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::Peers;

/// What is known of the other end of an upstream connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counterpart {
    /// An origin; or a gateway behind something that ends the TLS, each of whose answers must be signed.
    Unproven,
    /// A node: what its answers say of the request counts.
    Peer,
}

/// Why a gateway gets no request. Nothing of one has been sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub(crate) enum GatewayRefusal {
    #[error("the gateway {0} is without TLS, and requests to it are not signed: give secret_file in [peers]")]
    Plain(String),
    #[error("the gateway {gateway} shows no node's certificate: {why}")]
    NoNode { gateway: String, why: String },
    #[error(
        "the gateway {0} did not ask for this node's certificate, and would take this node for a client: give its \
         node [peers] with certificate_authorities"
    )]
    DidNotAsk(String),
    #[error("the gateway {0} asks for this node's certificate, and it has none that will do: see peers.certificate")]
    NothingToShow(String),
    #[error("the gateway {gateway} does not accept this node's certificate (peers.certificate), or is no node: {why}")]
    NotAccepted { gateway: String, why: String },
}

impl GatewayRefusal {
    /// Returns the word for the metrics.
    pub(crate) fn cause(&self) -> &'static str {
        match self {
            Self::Plain(_) => "unsigned",
            Self::NoNode { .. } => "gateway_certificate",
            Self::DidNotAsk(_) => "gateway_does_not_ask",
            Self::NothingToShow(_) | Self::NotAccepted { .. } => "not_accepted",
        }
    }
}

/// How to connect to gateways over TLS. No session is resumed: each connection is proved by a handshake
/// of its own.
#[derive(Clone, Debug)]
pub(crate) struct GatewayTls {
    peers: Arc<Peers>,
    base: ClientConfig,
    /// What verifies whoever ends the TLS before a gateway, where requests are signed.
    upstream: Option<Arc<WebPkiServerVerifier>>,
}

/// What a handshake finds out.
#[derive(Debug, Default)]
pub(crate) struct Proof {
    is_node: AtomicBool,
    has_asked: AtomicBool,
    has_shown: AtomicBool,
}

impl GatewayTls {
    /// Connects as one of these peers. `roots` are the authorities of upstreams.
    pub(crate) fn new(base: &ClientConfig, peers: Arc<Peers>, roots: &Arc<RootCertStore>) -> Self {
        let upstream = peers.secrets.is_some().then(|| {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            WebPkiServerVerifier::builder_with_provider(roots.clone(), provider).build().ok()
        });
        let mut base = base.clone();
        base.resumption = Resumption::disabled();
        Self { peers, base, upstream: upstream.flatten() }
    }

    /// Returns whether requests to gateways are signed.
    pub(crate) fn signs(&self) -> bool {
        self.peers.secrets.is_some()
    }

    /// Returns the configuration of one handshake, and where it notes what it finds out.
    pub(crate) fn handshake(&self, alpn: &[u8]) -> (Arc<ClientConfig>, Arc<Proof>) {
        let proof = Arc::new(Proof::default());
        let mut tls = self.base.clone();
        tls.alpn_protocols = vec![alpn.to_vec()];
        tls.dangerous().set_certificate_verifier(Arc::new(Verifier {
            peers: self.peers.clone(),
            upstream: self.upstream.clone(),
            algorithms: rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms,
            proof: proof.clone(),
        }));
        let certificate = self.peers.certificate.as_ref().map(|entry| entry.key().clone());
        tls.client_auth_cert_resolver = Arc::new(Shown { certificate, proof: proof.clone() });
        (Arc::new(tls), proof)
    }

    /// Returns what a finished handshake proves.
    ///
    /// # Errors
    /// When that is too little to send it a request.
    pub(crate) fn counterpart(&self, proof: &Proof, gateway: &str) -> Result<Counterpart, GatewayRefusal> {
        let is = |fact: &AtomicBool| fact.load(Ordering::Relaxed);
        match (is(&proof.is_node), is(&proof.has_asked), is(&proof.has_shown)) {
            (true, true, true) => Ok(Counterpart::Peer),
            _ if self.signs() => Ok(Counterpart::Unproven),
            (_, false, _) => Err(GatewayRefusal::DidNotAsk(gateway.to_owned())),
            (_, true, _) => Err(GatewayRefusal::NothingToShow(gateway.to_owned())),
        }
    }
}

/// Verifies a gateway as a node; where requests are signed, else as any upstream.
#[derive(Debug)]
struct Verifier {
    peers: Arc<Peers>,
    upstream: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
    proof: Arc<Proof>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let as_node = match &self.peers.authorities {
            Some(authorities) => authorities.identify_server(leaf, intermediates, name, now),
            None => Err(rustls::Error::General("there are no peers.certificate_authorities".to_owned())),
        };
        match (as_node, &self.upstream) {
            (Ok(()), _) => {
                self.proof.is_node.store(true, Ordering::Relaxed);
                Ok(ServerCertVerified::assertion())
            }
            (Err(_), Some(upstream)) => upstream.verify_server_cert(leaf, intermediates, name, ocsp, now),
            (Err(error), None) => Err(error),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Shows this node's certificate to whoever asks for one.
#[derive(Debug)]
struct Shown {
    certificate: Option<Arc<CertifiedKey>>,
    proof: Arc<Proof>,
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _authorities: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.proof.has_asked.store(true, Ordering::Relaxed);
        // One whose key cannot sign in any of these ways would not be shown.
        let certificate = self.certificate.clone().filter(|own| own.key.choose_scheme(schemes).is_some());
        self.proof.has_shown.store(certificate.is_some(), Ordering::Relaxed);
        certificate
    }

    fn has_certs(&self) -> bool {
        self.certificate.is_some()
    }
}
