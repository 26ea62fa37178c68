//! Certificates made for one test.

use std::path::Path;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_RSA_SHA256, RsaKeySize, date_time_ymd,
};
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
        self.certify_between(names, CENTURY, &KeyPair::generate().expect("a key"))
    }

    /// The same with an RSA key.
    pub fn certify_rsa(&self, names: &[&str]) -> Certificate {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048);
        self.certify_between(names, CENTURY, &key.expect("a key"))
    }

    /// A certificate that was valid once.
    pub fn certify_expired(&self, names: &[&str]) -> Certificate {
        self.certify_between(names, [CENTURY[0], YEAR + CENTURY[0]], &KeyPair::generate().expect("a key"))
    }

    /// A certificate that becomes valid, or expires, so long from now (a whole second).
    pub fn certify_until(&self, names: &[&str], not_before: Duration, not_after: Duration) -> Certificate {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
        let ends = [not_before, not_after].map(|end| now + end);
        self.certify_between(names, ends, &KeyPair::generate().expect("a key"))
    }

    /// A certificate between two times since 1970.
    fn certify_between(&self, names: &[&str], ends: [Duration; 2], key: &KeyPair) -> Certificate {
        let mut leaf =
            CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).expect("names");
        [leaf.not_before, leaf.not_after] =
            ends.map(|end| date_time_ymd(1970, 1, 1) + Duration::from_secs(end.as_secs()));
        let leaf = leaf.signed_by(key, &self.0).expect("a certificate");
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

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
/// From 2020 on.
const CENTURY: [Duration; 2] = [Duration::from_secs(1_577_836_800), Duration::from_secs(4_733_510_400)];
