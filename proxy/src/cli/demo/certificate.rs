//! The ingress's certificate.

use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};

/// A self-signed certificate and its key, as PEM.
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// Makes a pair for the names that the demo is asked for, valid from now for a month.
pub(super) fn make(now: SystemTime) -> Result<Pair, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let names = ["localhost", "127.0.0.1", "api.example.com"];
    let mut parameters = CertificateParams::new(names.map(str::to_owned).to_vec())?;
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, "meridian demo");
    parameters.not_before = now.into();
    parameters.not_after = (now + MONTH).into();
    let certificate = parameters.self_signed(&key)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60);
