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
    /// When it may be shown.
    pub(crate) validity: Validity,
}

/// When a certificate is valid: both ends, which belong to it, in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
}

/// Where a time is, seen from a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CertificateState {
    NotYetValid,
    Valid,
    Expired,
}

impl Validity {
    /// Returns the state of the certificate at a time.
    pub(crate) fn at(self, now: i64) -> CertificateState {
        match now {
            now if now < self.not_before => CertificateState::NotYetValid,
            now if now > self.not_after => CertificateState::Expired,
            _ => CertificateState::Valid,
        }
    }

    /// Returns when that state changes next.
    pub(crate) fn next_boundary(self, now: i64) -> Option<i64> {
        [self.not_before, self.not_after.saturating_add(1)].into_iter().find(|boundary| *boundary > now)
    }

    /// Returns why a certificate is not shown at a time; `None` when it is valid.
    pub(crate) fn fault(self, now: i64) -> Option<String> {
        match self.at(now) {
            CertificateState::Valid => None,
            CertificateState::NotYetValid => {
                Some(format!("the certificate is not valid before {}", in_words(self.not_before)))
            }
            CertificateState::Expired => {
                Some(format!("the certificate has expired, at {}; renew it", in_words(self.not_after)))
            }
        }
    }
}

impl CertificateState {
    /// Returns the word for `/status`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NotYetValid => "not_yet_valid",
            Self::Valid => "valid",
            Self::Expired => "expired",
        }
    }
}

fn in_words(unix_seconds: i64) -> String {
    jiff::Timestamp::from_second(unix_seconds).map_or_else(|_| unix_seconds.to_string(), |time| time.to_string())
}

/// Returns a DNS name in the one form that names are compared in: in lower case, without the final dot that stands for the
/// root (RFC 1034, 3.1).
pub(crate) fn plain_name(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// The DNS names and addresses of a certificate, each as [`plain_name`] has it.
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

    /// Loads a pair. Whether it is valid by its dates is for whoever shows it to ask.
    ///
    /// # Errors
    /// When it is none.
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
        let validity = Validity {
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
        };
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
        Ok(Self { key: Arc::new(certified), names, file: certificate.to_owned(), validity })
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
                    Some(parent) => names.parents.push(plain_name(parent)),
                    None => names.exact.push(plain_name(name)),
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

    /// Returns these names and others.
    pub(crate) fn with(&self, others: &Self) -> Self {
        let both = |own: &[String], others: &[String]| [own, others].concat();
        Self { exact: both(&self.exact, &others.exact), parents: both(&self.parents, &others.parents) }
    }

    /// Returns whether the certificate is for a host in its plain form; a wildcard is for one label.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_a_validity_belong_to_it() {
        let validity = Validity { not_before: 10, not_after: 20 };
        for (now, state, next) in [
            (9, CertificateState::NotYetValid, Some(10)),
            (10, CertificateState::Valid, Some(21)),
            (20, CertificateState::Valid, Some(21)),
            (21, CertificateState::Expired, None),
        ] {
            assert_eq!((validity.at(now), validity.next_boundary(now)), (state, next), "{now}");
            assert_eq!(validity.fault(now).is_none(), state == CertificateState::Valid, "{now}");
        }
        assert!(validity.fault(9).unwrap().contains("before 1970-01-01T00:00:10Z"));
        assert!(validity.fault(21).unwrap().contains("expired, at 1970-01-01T00:00:20Z"));
    }

    #[test]
    fn one_final_dot_is_the_root() {
        for (name, plain) in [("A.example", "a.example"), ("a.example.", "a.example"), ("a..", "a."), ("", "")] {
            assert_eq!(plain_name(name), plain);
        }
    }
}
