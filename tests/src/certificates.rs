//! Certificates made for one test.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate authority of the test's own.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate for some names, and its key.
#[derive(Clone)]
pub struct Certificate {
    /// The certificate in PEM.
    pub certificate_pem: String,
    /// The private key in PEM.
    pub key_pem: String,
    /// The certificate in DER, to tell it from others.
    pub der: CertificateDer<'static>,
    key_der: Vec<u8>,
}

impl Default for Authority {
    fn default() -> Authority {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Authority(CertifiedIssuer::self_signed(authority, key).expect("an authority"))
    }
}

impl Authority {
    /// A certificate for these names, DNS names or addresses.
    pub fn certify(&self, names: &[&str]) -> Certificate {
        self.certify_from(names, 2020, 2120)
    }

    /// A certificate that was valid once.
    pub fn certify_expired(&self, names: &[&str]) -> Certificate {
        self.certify_from(names, 2020, 2021)
    }

    /// A certificate from the beginning of one year to that of another.
    fn certify_from(&self, names: &[&str], from: i32, to: i32) -> Certificate {
        let mut leaf =
            CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).expect("names");
        leaf.not_before = rcgen::date_time_ymd(from, 1, 1);
        leaf.not_after = rcgen::date_time_ymd(to, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let leaf = leaf.signed_by(&key, &self.0).expect("a certificate");
        Certificate {
            certificate_pem: leaf.pem(),
            key_pem: key.serialize_pem(),
            der: leaf.der().clone(),
            key_der: key.serialize_der(),
        }
    }

    /// For clients that trust it.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("an authority");
        roots
    }

    /// For the load generator: TLS to a server of this name.
    pub fn load(&self, name: &str) -> loadtest::Tls {
        loadtest::Tls::verified(name, self.roots()).expect("a name and an authority")
    }

    /// Its own certificate in PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }
}

impl Certificate {
    /// Writes `NAME.pem` and `NAME-key.pem`.
    pub fn write(&self, directory: &Path, name: &str) {
        std::fs::write(directory.join(format!("{name}.pem")), &self.certificate_pem).expect("a certificate file");
        std::fs::write(directory.join(format!("{name}-key.pem")), &self.key_pem).expect("a key file");
    }

    /// For who shows it: the chain, and the key.
    pub fn identity(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (vec![self.der.clone()], PrivateKeyDer::Pkcs8(self.key_der.clone().into()))
    }

    /// For an origin that serves with it.
    pub fn server_config(&self) -> rustls::ServerConfig {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let (chain, key) = self.identity();
        rustls::ServerConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate with its key")
    }
}
