//! Certificates made for one test.

use loadtest::Tls;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{RootCertStore, ServerConfig};

/// A CA of our own, and a server certificate of its making.
pub(crate) struct Certificates {
    roots: RootCertStore,
    server: ServerConfig,
}

impl Certificates {
    /// For a server of this name.
    pub(crate) fn of(name: &str) -> Certificates {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let server = ServerConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .unwrap();
        Certificates { roots, server }
    }

    /// The server's side.
    pub(crate) fn server(&self) -> ServerConfig {
        self.server.clone()
    }

    /// A client that trusts the CA and asks for this name.
    pub(crate) fn client(&self, name: &str) -> Tls {
        Tls::verified(name, self.roots.clone()).unwrap()
    }
}
