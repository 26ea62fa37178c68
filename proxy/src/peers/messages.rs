//! Messages that nodes send each other over the bus: who says this?
//!
//! Whoever may publish on the bus can put any node's name into a message. Where `[peers]` says who is a node, a message is
//! signed: with the key of its node's certificate, one of whose names must be the node's ([`names_node`]), or with the
//! fleet's secret, which tells nodes from others, and not one node from another. Both cover the subject, which says what
//! the message is about.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest;
use data_encoding::{BASE64, HEXLOWER};
use rustls::SignatureScheme;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};

use super::Peers;
use super::signature::Statement;

/// The header of a message that holds its signature.
pub(crate) const SIGNATURE: &str = "Meridian-Signature";
/// The one that holds the certificates, the leaf first, by which it was made.
pub(crate) const CERTIFICATES: &str = "Meridian-Certificates";

/// What makes a message its node's: the values of [`SIGNATURE`] and [`CERTIFICATES`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MessageProof {
    pub(crate) signature: String,
    pub(crate) certificates: Option<String>,
}

/// Why a message is not taken for its node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageRefusal {
    /// It has no signature, or none that this node could verify.
    Unsigned,
    /// Its certificate is no node's, or has expired.
    NoNode,
    /// Its certificate is another node's.
    Misnamed,
    /// The signature is not of this message.
    Wrong,
}

/// Verifies messages. It belongs to the thread that receives them, and remembers the certificates that it has seen.
#[derive(Debug, Default)]
pub(crate) struct MessageVerifier {
    /// Those whose authorities the certificates were verified by.
    peers: Arc<Peers>,
    /// By the digest of the header that holds them.
    seen: HashMap<Vec<u8>, SeenCertificate>,
}

/// A leaf whose chain was verified.
#[derive(Debug)]
struct SeenCertificate {
    names: Vec<String>,
    public_key: Vec<u8>,
    /// Unix seconds.
    expires: i64,
}

/// More certificates than a fleet has nodes.
const MOST_SEEN: usize = 4096;

/// More certificates than a chain has.
const LONGEST_CHAIN: usize = 8;

impl Peers {
    /// Returns whether messages are signed here, so that those which are not are refused.
    pub(crate) fn has_signed_messages(&self) -> bool {
        self.authorities.is_some() || self.secrets.is_some()
    }

    /// Signs a message of this node's; `None` when it has nothing to sign with.
    pub(crate) fn sign_message(&self, subject: &str, payload: &[u8]) -> Option<MessageProof> {
        let statement = statement(subject, payload);
        let Some(own) = self.certificate.as_ref().filter(|_| self.authorities.is_some()) else {
            let signature = HEXLOWER.encode(&self.secrets.as_ref()?.mac(&statement)?);
            return Some(MessageProof { signature: format!("1;m={signature}"), certificates: None });
        };
        let schemes: Vec<SignatureScheme> = algorithms().mapping.iter().map(|(scheme, _)| *scheme).collect();
        let signer = own.key().key.choose_scheme(&schemes)?;
        let signature = HEXLOWER.encode(&signer.sign(&statement).ok()?);
        let chain: Vec<String> = own.chain().iter().map(|certificate| BASE64.encode(certificate)).collect();
        Some(MessageProof {
            signature: format!("1;s={};m={signature}", u16::from(signer.scheme())),
            certificates: Some(chain.join(",")),
        })
    }

    /// Returns why other nodes will not take this node's messages for its own, if its name is in none of its
    /// certificate's.
    pub(crate) fn message_fault(&self, node: &str) -> Option<String> {
        let own = self.certificate.as_ref().filter(|_| self.authorities.is_some());
        match own {
            Some(own) => {
                let leaf = own.chain().first()?;
                let names = alternative_names(leaf)?;
                (!names_node(&names, node)).then(|| {
                    format!(
                        "the certificate of peers.certificate ({}) does not name this node, {node:?}: other nodes take \
                         its load reports for nobody's; certify it for a name whose first label, or last segment of a \
                         URI, is node.name",
                        names.join(", ")
                    )
                })
            }
            None if self.authorities.is_some() && self.secrets.is_none() => Some(
                "this node has no peers.certificate to sign its load reports with: other nodes do not take them"
                    .to_owned(),
            ),
            None => None,
        }
    }
}

impl MessageVerifier {
    /// Verifies that a node has sent a message on a subject.
    ///
    /// # Errors
    /// When that is not so, or not proved.
    pub(crate) fn verify(
        &mut self,
        peers: &Arc<Peers>,
        node: &str,
        (subject, payload): (&str, &[u8]),
        proof: Option<&MessageProof>,
        now: UnixTime,
    ) -> Result<(), MessageRefusal> {
        if !peers.has_signed_messages() {
            return Ok(());
        }
        let MessageProof { signature, certificates } = proof.ok_or(MessageRefusal::Unsigned)?;
        let statement = statement(subject, payload);
        let parts: Vec<&str> = signature.split(';').collect();
        match (parts.as_slice(), certificates) {
            (["1", mac], None) => {
                let secrets = peers.secrets.as_ref().ok_or(MessageRefusal::Unsigned)?;
                let mac = mac.strip_prefix("m=").and_then(from_hex).ok_or(MessageRefusal::Wrong)?;
                if secrets.is_mac(&statement, &mac) { Ok(()) } else { Err(MessageRefusal::Wrong) }
            }
            (["1", scheme, signature], Some(certificates)) => {
                let scheme = scheme.strip_prefix("s=").and_then(|scheme| scheme.parse::<u16>().ok());
                let signature = signature.strip_prefix("m=").and_then(from_hex);
                let (scheme, signature) = scheme.zip(signature).ok_or(MessageRefusal::Wrong)?;
                let seen = self.certificate(peers, certificates, now)?;
                if !names_node(&seen.names, node) {
                    return Err(MessageRefusal::Misnamed);
                }
                let is_its = is_signed(SignatureScheme::from(scheme), &seen.public_key, &statement, &signature);
                if is_its { Ok(()) } else { Err(MessageRefusal::Wrong) }
            }
            _ => Err(MessageRefusal::Unsigned),
        }
    }

    /// Returns what the certificates of a header prove, which is found out once for each header.
    fn certificate(
        &mut self,
        peers: &Arc<Peers>,
        header: &str,
        now: UnixTime,
    ) -> Result<&SeenCertificate, MessageRefusal> {
        let authorities = peers.authorities.as_ref().ok_or(MessageRefusal::Unsigned)?;
        if !Arc::ptr_eq(&self.peers, peers) || self.seen.len() >= MOST_SEEN {
            self.seen.clear();
            self.peers = peers.clone();
        }
        let key = digest::digest(&digest::SHA256, header.as_bytes()).as_ref().to_vec();
        let is_over = |seen: &SeenCertificate| seen.expires < i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if self.seen.get(&key).is_none_or(is_over) {
            self.seen.remove(&key);
            let chain: Vec<CertificateDer<'static>> = header
                .split(',')
                .take(LONGEST_CHAIN)
                .map(|certificate| BASE64.decode(certificate.as_bytes()).map(CertificateDer::from))
                .collect::<Result<_, _>>()
                .map_err(|_| MessageRefusal::NoNode)?;
            let identity = authorities.identify(&chain, now).map_err(|_| MessageRefusal::NoNode)?;
            let leaf = chain.first().ok_or(MessageRefusal::NoNode)?;
            let names = alternative_names(leaf).ok_or(MessageRefusal::NoNode)?;
            let (_, parsed) = x509_parser::parse_x509_certificate(leaf).map_err(|_| MessageRefusal::NoNode)?;
            let public_key = parsed.public_key().subject_public_key.data.to_vec();
            self.seen.insert(key.clone(), SeenCertificate { names, public_key, expires: identity.expires() });
        }
        self.seen.get(&key).ok_or(MessageRefusal::NoNode)
    }
}

/// Returns whether one of a certificate's names is a node's: the whole of it, the first label of a DNS name, or the last
/// segment of a URI (`spiffe://example.com/meridian/use1-a`).
fn names_node(names: &[String], node: &str) -> bool {
    names.iter().any(|name| {
        let part = if name.contains("://") { name.rsplit('/').next() } else { name.split('.').next() };
        name == node || part == Some(node)
    })
}

/// Returns the DNS names and URIs of a certificate; `None` where it does not parse.
fn alternative_names(leaf: &CertificateDer<'_>) -> Option<Vec<String>> {
    use x509_parser::extensions::GeneralName;
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).ok()?;
    let Some(extension) = parsed.subject_alternative_name().ok()? else { return Some(Vec::new()) };
    let named = extension.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) => Some((*name).to_owned()),
        _ => None,
    });
    Some(named.collect())
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms
}

fn is_signed(scheme: SignatureScheme, public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let of_scheme = algorithms().mapping.iter().filter(|(known, _)| *known == scheme);
    let mut candidates = of_scheme.flat_map(|(_, algorithms)| algorithms.iter());
    candidates.any(|algorithm| algorithm.verify_signature(public_key, message, signature).is_ok())
}

fn statement(subject: &str, payload: &[u8]) -> Vec<u8> {
    let mut statement = Statement::new(b"meridian bus message 1");
    statement.part(subject.as_bytes());
    statement.part(payload);
    statement.bytes()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    HEXLOWER.decode(text.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_names_its_node_by_a_label_or_a_segment() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for (certified, is_its) in [
            (vec!["use1-a.nodes.example.com"], true),
            (vec!["other.example.com", "spiffe://example.com/meridian/use1-a"], true),
            (vec!["use1-a"], true),
            (vec!["use1-ab.nodes.example.com"], false),
            (vec!["*.nodes.example.com"], false),
            (vec!["spiffe://use1-a/meridian/other"], false),
            (vec!["nodes.use1-a.example.com"], false),
            (vec![], false),
        ] {
            assert_eq!(names_node(&names(&certified), "use1-a"), is_its, "{certified:?}");
        }
    }
}
