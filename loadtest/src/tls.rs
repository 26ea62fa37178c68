//! Whose certificate the generator accepts.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::Protocol;

/// The client's side of TLS: the name to ask for (SNI) and whom to trust.
///
/// Sessions are never resumed: a connection stands for a client of its own, so each makes a full handshake.
#[derive(Clone, Debug)]
pub struct Tls {
    server_name: ServerName<'static>,
    verifier: Arc<dyn ServerCertVerifier>,
    config: ClientConfig,
}

/// TLS to this name, with these roots, cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Neither a DNS name nor an IP address.
    #[error("{name:?} is neither a DNS name nor an IP address, so no certificate can be for it")]
    ServerName {
        /// The name as given.
        name: String,
        /// What is wrong with it.
        source: InvalidDnsNameError,
    },
    /// No certificate could ever be trusted.
    #[error("no usable root certificate: give at least one CA certificate")]
    Roots(#[from] rustls::client::VerifierBuilderError),
    /// rustls refuses the combination.
    #[error("TLS cannot be configured")]
    Config(#[from] rustls::Error),
}

impl Tls {
    /// Accepts only a valid certificate for `server_name` that descends from one of `roots`.
    pub fn verified(server_name: &str, roots: RootCertStore) -> Result<Tls, TlsError> {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
        Tls::new(server_name, verifier)
    }

    /// Accepts whatever certificate the server shows: for servers of our own on loopback, with certificates made for
    /// the occasion. Against any other it gives no protection at all.
    pub fn danger_accept_any_certificate(server_name: &str) -> Result<Tls, TlsError> {
        Tls::new(server_name, Arc::new(AnyCertificate(provider())))
    }

    fn new(server_name: &str, verifier: Arc<dyn ServerCertVerifier>) -> Result<Tls, TlsError> {
        let server_name = ServerName::try_from(server_name.to_owned())
            .map_err(|source| TlsError::ServerName { name: server_name.to_owned(), source })?;
        let config = config(provider(), verifier.clone())?;
        Ok(Tls { server_name, verifier, config })
    }

    /// Offers X25519 alone for the key exchange, which every server has: servers of which only some know the
    /// post-quantum hybrids, offered first otherwise, then do the same work.
    pub fn x25519_only(self) -> Result<Tls, TlsError> {
        let provider = CryptoProvider { kx_groups: vec![aws_lc_rs::kx_group::X25519], ..aws_lc_rs::default_provider() };
        let config = config(Arc::new(provider), self.verifier.clone())?;
        Ok(Tls { config, ..self })
    }

    /// Returns the name that the handshake asks for.
    pub(crate) fn server_name(&self) -> ServerName<'static> {
        self.server_name.clone()
    }

    /// Returns a connector that offers `protocol` and nothing else by ALPN.
    pub(crate) fn connector(&self, protocol: Protocol) -> tokio_rustls::TlsConnector {
        let mut config = self.config.clone();
        config.alpn_protocols = vec![protocol.alpn().to_vec()];
        Arc::new(config).into()
    }
}

fn config(provider: Arc<CryptoProvider>, verifier: Arc<dyn ServerCertVerifier>) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Named rather than the process's default, which another library in the process may have set.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Takes any certificate, but still checks that the server holds its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
