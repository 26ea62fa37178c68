//! One certificate with its key, loaded from files.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// A certificate with its key, as it was loaded from files. Shared by all that show it.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    key: Arc<CertifiedKey>,
    /// Its names.
    pub(crate) names: Arc<CertificateNames>,
    /// The file it is from.
    pub(crate) file: PathBuf,
    /// When it expires, in Unix seconds.
    pub(crate) not_after: i64,
}

/// The DNS names and addresses of a certificate, in lower case.
#[derive(Debug, Default)]
pub(crate) struct CertificateNames {
    pub(crate) exact: Vec<String>,
    /// `*.example.com` as `example.com`.
    pub(crate) parents: Vec<String>,
}

/// What is wrong with a pair of files.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}", file.display())]
pub(crate) struct CertificateError {
    /// The file.
    pub(crate) file: PathBuf,
    /// What is wrong with it, and what to do.
    pub(crate) what: String,
}

impl Certificate {
    /// Returns the certificate, then those that certify it.
    pub(crate) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    /// Returns the certificate and its key.
    pub(crate) fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    /// Loads a pair.
    ///
    /// # Errors
    /// When it is none, or not valid now.
    pub(crate) fn load(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let wrong = |file: &Path, what: String| CertificateError { file: file.to_owned(), what };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect)
            .map_err(|error| wrong(certificate, format!("no readable PEM certificates: {}", explained(&error))))?;
        let Some(leaf) = chain.first() else {
            return Err(wrong(
                certificate,
                "the file has no certificate; put the server's first, then its chain".into(),
            ));
        };
        let (_, parsed) = x509_parser::parse_x509_certificate(leaf)
            .map_err(|error| wrong(certificate, format!("the first certificate does not parse: {error}")))?;
        let not_after = parsed.validity().not_after.timestamp();
        if !parsed.validity().is_valid() {
            let what = format!("the certificate is not valid now ({}); renew it", parsed.validity().not_after);
            return Err(wrong(certificate, what));
        }
        let names = Arc::new(CertificateNames::of(&parsed));
        let private = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| wrong(key, format!("no readable PEM private key: {}", explained(&error))))?;
        let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&private)
            .map_err(|error| wrong(key, format!("the key cannot sign: {error}; use RSA, ECDSA or Ed25519")))?;
        let certified = CertifiedKey::new(chain, signing);
        certified.keys_match().map_err(|error| {
            let what = format!("the key does not belong to {} ({error}); pair the files anew", certificate.display());
            wrong(key, what)
        })?;
        Ok(Self { key: Arc::new(certified), names, file: certificate.to_owned(), not_after })
    }
}

fn explained(error: &rustls::pki_types::pem::Error) -> String {
    match error {
        rustls::pki_types::pem::Error::Io(error) => error.to_string(),
        rustls::pki_types::pem::Error::NoItemsFound => "the file has none".to_owned(),
        error => error.to_string(),
    }
}

impl CertificateNames {
    fn of(certificate: &x509_parser::certificate::X509Certificate<'_>) -> Self {
        use x509_parser::extensions::GeneralName;
        let mut names = Self::default();
        let alternatives = certificate.subject_alternative_name().ok().flatten();
        for name in alternatives.into_iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::DNSName(name) => match name.strip_prefix("*.") {
                    Some(parent) => names.parents.push(parent.to_ascii_lowercase()),
                    None => names.exact.push(name.to_ascii_lowercase()),
                },
                GeneralName::IPAddress(bytes) => {
                    let v4 = || <[u8; 4]>::try_from(*bytes).ok().map(|b| std::net::Ipv4Addr::from(b).to_string());
                    let v6 = || <[u8; 16]>::try_from(*bytes).ok().map(|b| std::net::Ipv6Addr::from(b).to_string());
                    names.exact.extend(v4().or_else(v6));
                }
                _ => {}
            }
        }
        names
    }

    /// Returns whether the certificate is for a host in lower case; a wildcard is for one label.
    pub(crate) fn cover(&self, host: &str) -> bool {
        self.exact.iter().any(|name| name == host)
            || host.split_once('.').is_some_and(|(_, parent)| self.parents.iter().any(|name| name == parent))
    }
}

impl fmt::Display for CertificateNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parents = self.parents.iter().map(|parent| format!("*.{parent}"));
        f.write_str(&self.exact.iter().cloned().chain(parents).collect::<Vec<_>>().join(", "))
    }
}
