//! `[peers]`: which other processes are nodes of the fleet, and how this one proves that it is one.

use std::path::{Path, PathBuf};

use super::{CertificateFiles, PeerName, Peers};
use crate::field::{Field, Section};
use crate::quote::quote;

/// Returns the peers; `None` without the section, or after an error, which is reported.
pub(super) fn peers(root: &Section<'_>, directory: &Path) -> Option<Peers> {
    let section = root.field("peers")?.section(KEYS)?;
    let certificate = section.field("certificate");
    let names = section.field("names");
    let peers = Peers {
        certificate_authorities: list(&section, "certificate_authorities", |field| field.file(directory)),
        names: list(&section, "names", name),
        certificate: certificate.as_ref().and_then(|field| pair(field, directory)),
        secret_file: section.field("secret_file").and_then(|field| field.file(directory)),
        rollover: section.field("rollover").and_then(|field| field.boolean()).unwrap_or(false),
    };
    if let Some(field) = section.field("rollover").filter(|_| peers.rollover)
        && (peers.secret_file.is_none() || section.field("certificate_authorities").is_none())
    {
        field.error(
            "there is nothing to change from or to: it is for nodes with both secret_file and certificate_authorities"
                .to_owned(),
        );
    }
    if section.field("certificate_authorities").is_none() {
        if section.field("secret_file").is_none() {
            section.error(
                "it names nobody: give certificate_authorities = [\"peers-ca.pem\"] (TLS between the nodes), or \
                 secret_file = \"peers.key\" (where something between the regions ends the TLS)"
                    .to_owned(),
            );
        }
        for field in [&certificate, &names].into_iter().flatten() {
            field.error(
                "it has no meaning without certificate_authorities = [\"peers-ca.pem\"], which certify the nodes"
                    .to_owned(),
            );
        }
    } else if certificate.is_none() {
        let elsewhere = if peers.secret_file.is_none() {
            "other regions' gateways will not take this node for one"
        } else {
            "this node proves itself by secret_file only"
        };
        section.warning(format!(
            "without certificate = {{ certificate = \"node.pem\", key = \"node-key.pem\" }} {elsewhere}"
        ));
    }
    Some(peers)
}

impl PeerName {
    /// Parses a name: `eu-1.nodes.example.com`, `*.nodes.example.com`, or a URI such as
    /// `spiffe://example.com/meridian/*`.
    fn parse(text: &str) -> Option<Self> {
        if text.contains("://") {
            let is_uri = text.bytes().all(|byte| byte.is_ascii_graphic()) && text.len() <= MAX_URI;
            let (parent, stars) = text.strip_suffix("/*").map_or((text, 0), |parent| (parent, 1));
            return (is_uri && text.matches('*').count() == stars).then(|| match stars {
                0 => Self::Uri(text.to_owned()),
                _ => Self::UriBelow(format!("{parent}/")),
            });
        }
        let (host, is_wildcard) = text.strip_prefix("*.").map_or((text, false), |parent| (parent, true));
        let host = crate::host::parse_host(host).ok().filter(|host| host.parse::<std::net::IpAddr>().is_err())?;
        Some(if is_wildcard { Self::DnsBelow(host) } else { Self::Dns(host) })
    }

    /// Returns whether a certificate's DNS name matches this one; a wildcard stands for one label.
    pub fn is_dns(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        match self {
            Self::Dns(wanted) => *wanted == name,
            Self::DnsBelow(parent) => {
                name.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == *parent)
            }
            Self::Uri(_) | Self::UriBelow(_) => false,
        }
    }

    /// Returns whether a certificate's URI matches this one; a wildcard stands for the last segment of its path.
    pub fn is_uri(&self, uri: &str) -> bool {
        match self {
            Self::Uri(wanted) => wanted == uri,
            Self::UriBelow(parent) => {
                uri.strip_prefix(parent.as_str()).is_some_and(|rest| !rest.is_empty() && !rest.contains('/'))
            }
            Self::Dns(_) | Self::DnsBelow(_) => false,
        }
    }
}

fn name(field: &Field<'_>) -> Option<PeerName> {
    let text = field.text()?;
    let name = PeerName::parse(text);
    if name.is_none() {
        field.error(format!(
            "{} is not a name of a certificate, such as \"eu-1.nodes.example.com\", \"*.nodes.example.com\" (one \
             label) or \"spiffe://example.com/meridian/*\" (one segment)",
            quote(text)
        ));
    }
    name
}

fn pair(field: &Field<'_>, directory: &Path) -> Option<CertificateFiles> {
    let section = field.section(&["certificate", "key"])?;
    let file = |key, remedy| section.required(key, remedy).and_then(|field| field.file(directory));
    let certificate: Option<PathBuf> = file("certificate", "name the PEM file with the certificate chain");
    let key = file("key", "name the PEM file with the private key");
    Some(CertificateFiles { certificate: certificate?, key: key? })
}

fn list<T>(section: &Section<'_>, key: &str, read: impl Fn(&Field<'_>) -> Option<T>) -> Vec<T> {
    let Some(field) = section.field(key) else { return Vec::new() };
    let Some(list) = field.list() else { return Vec::new() };
    if list.is_empty() {
        field.error("the list is empty: leave the key out, or name some".to_owned());
    }
    list.iter().filter_map(read).collect()
}

const KEYS: &[&str] = &["certificate_authorities", "names", "certificate", "secret_file", "rollover"];

/// The longest URI, in bytes: SPIFFE's limit for ids.
const MAX_URI: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cover_one_label_or_one_segment() {
        for (name, san, covers) in [
            ("eu-1.nodes.example.com", "eu-1.nodes.example.com", true),
            ("EU-1.nodes.example.com", "eu-1.NODES.example.com", true),
            ("eu-1.nodes.example.com", "eu-2.nodes.example.com", false),
            ("eu-1.nodes.example.com", "*.nodes.example.com", false),
            ("*.nodes.example.com", "eu-1.nodes.example.com", true),
            ("*.nodes.example.com", "*.nodes.example.com", true),
            ("*.nodes.example.com", "nodes.example.com", false),
            ("*.nodes.example.com", ".nodes.example.com", false),
            ("*.nodes.example.com", "a.eu-1.nodes.example.com", false),
            ("*.nodes.example.com", "eu-1.nodes.example.com.evil.example", false),
            ("spiffe://example.com/meridian/eu-1", "spiffe://example.com/meridian/eu-1", true),
            ("spiffe://example.com/meridian/eu-1", "spiffe://example.com/meridian/EU-1", false),
            ("spiffe://example.com/meridian/*", "spiffe://example.com/meridian/eu-1", true),
            ("spiffe://example.com/meridian/*", "spiffe://example.com/meridian/", false),
            ("spiffe://example.com/meridian/*", "spiffe://example.com/meridian/eu/1", false),
            ("spiffe://example.com/meridian/*", "spiffe://example.com/other/eu-1", false),
        ] {
            let parsed = PeerName::parse(name).unwrap();
            assert_eq!(parsed.is_dns(san) || parsed.is_uri(san), covers, "{name} {san}");
        }
        for bad in ["", "*", "*.", "a.*.example.com", "**.example.com", "10.0.0.1", "spiffe://*/a", "spiffe://a/*/b"] {
            assert_eq!(PeerName::parse(bad), None, "{bad}");
        }
    }
}
