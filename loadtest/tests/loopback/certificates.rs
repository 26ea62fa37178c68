//! Certificates made for one test.

use loadtest::Tls;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::PrivateKeyDer;
use rustls::{RootCertStore, ServerConfig};

/// A CA of our own, and a server certificate of its making.
pub(crate) struct Certificates {
    roots: RootCertStore,
    server: ServerConfig,
    post_quantum_server: ServerConfig,
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
        let server = |provider: CryptoProvider| {
            ServerConfig::builder_with_provider(provider.into())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
                .unwrap()
        };
        let post_quantum =
            CryptoProvider { kx_groups: vec![aws_lc_rs::kx_group::X25519MLKEM768], ..aws_lc_rs::default_provider() };
        let (server, post_quantum_server) = (server(aws_lc_rs::default_provider()), server(post_quantum));
        Certificates { roots, server, post_quantum_server }
    }

    /// The server's side.
    pub(crate) fn server(&self) -> ServerConfig {
        self.server.clone()
    }

    /// The same, but for the one key exchange that it knows.
    pub(crate) fn post_quantum_server(&self) -> ServerConfig {
        self.post_quantum_server.clone()
    }

    /// A client that trusts the CA and asks for this name.
    pub(crate) fn client(&self, name: &str) -> Tls {
        Tls::verified(name, self.roots.clone()).unwrap()
    }
}
