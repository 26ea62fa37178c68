//! The demo's certificates: what clients see, and what nodes know each other by.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    PKCS_ECDSA_P256_SHA256,
};

/// A certificate and its key, as PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// Makes a self-signed pair for the names that the demo is asked for, valid from now for a month.
pub(crate) fn make(now: SystemTime) -> Result<Pair, rcgen::Error> {
    let key = key()?;
    let certificate = parameters(&["localhost", "127.0.0.1", "api.example.com"], now)?.self_signed(&key)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// The authority that certifies the demo's nodes, and nothing else.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// Makes one, valid from now for a month. Its key goes with it.
    pub(crate) fn make(now: SystemTime) -> Result<Self, rcgen::Error> {
        let mut parameters = parameters(&[], now)?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        Ok(Self(CertifiedIssuer::self_signed(parameters, key()?)?))
    }

    /// Its certificate, as PEM.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Certifies a node, which is reached by `localhost`.
    pub(crate) fn certify(&self, node: &str, now: SystemTime) -> Result<Pair, rcgen::Error> {
        let key = key()?;
        let name = format!("{node}.nodes.example.com");
        let certificate = parameters(&["localhost", &name], now)?.signed_by(&key, &self.0)?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

fn key() -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
}

fn parameters(names: &[&str], now: SystemTime) -> Result<CertificateParams, rcgen::Error> {
    let mut parameters = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, "meridian demo");
    parameters.not_before = now.into();
    parameters.not_after = (now + MONTH).into();
    Ok(parameters)
}

const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60);
