//! Messages that nodes send each other over the bus: who says this?
//!
//! Whoever may publish on the bus can put any node's name into a message. Where `[peers]` says who is a node, a message is
//! signed: with the key of its node's certificate, one of whose names must be the node's ([`names_node`]); or, in a fleet
//! without certificates, with its secret, which tells nodes from others, and not one node from another. Both cover the
//! bucket and the subject.
//!
//! Certificates are long, and change seldom: they go with a node's first message and with one in [`CHAIN_EACH`] after it,
//! and the others name them by their digest. During a rollover they go with each: whoever is through with it knows them.

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

/// The one that holds a second signature, by the fleet's secret, while the fleet changes over to certificates.
pub(crate) const SECRET_SIGNATURE: &str = "Meridian-Secret-Signature";

/// What makes a message its node's: the values of [`SIGNATURE`], [`CERTIFICATES`] and [`SECRET_SIGNATURE`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MessageProof {
    pub(crate) signature: String,
    pub(crate) certificates: Option<String>,
    pub(crate) by_secret: Option<String>,
}

/// Why a message is not taken for its node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageRefusal {
    /// It has no signature, or none that this node could verify.
    Unsigned,
    /// It names certificates that have not come yet, or are forgotten.
    UnknownCertificate,
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

/// More than a chain's certificates are long, in bytes of their header.
const LONGEST_HEADER: usize = 32 * 1024;

/// In how many messages one has the certificates: a node that has just come hears a neighbour after so many seconds.
pub(crate) const CHAIN_EACH: u64 = 10;

impl Peers {
    /// Returns whether messages are signed here, so that those which are not are refused.
    pub(crate) fn has_signed_messages(&self) -> bool {
        self.authorities.is_some() || self.secrets.is_some()
    }

    /// Signs a message of this node's, the `number`th; `None` when it has nothing to sign with.
    pub(crate) fn sign_message(&self, about: &[&str], payload: &[u8], number: u64) -> Option<MessageProof> {
        let statement = statement(about, payload);
        let Some(own) = self.certificate.as_ref().filter(|_| self.authorities.is_some()) else {
            let signature = self.by_secret(&statement)?;
            return Some(MessageProof { signature, certificates: None, by_secret: None });
        };
        let schemes: Vec<SignatureScheme> = algorithms().mapping.iter().map(|(scheme, _)| *scheme).collect();
        let signer = own.key().key.choose_scheme(&schemes)?;
        let signature = HEXLOWER.encode(&signer.sign(&statement).ok()?);
        let chain: Vec<String> = own.chain().iter().map(|certificate| BASE64.encode(certificate)).collect();
        let chain = chain.join(",");
        let key = HEXLOWER.encode(digest_of(&chain).as_ref());
        Some(MessageProof {
            signature: format!("1;s={};c={key};m={signature}", u16::from(signer.scheme())),
            certificates: (self.in_rollover || number.is_multiple_of(CHAIN_EACH)).then_some(chain),
            by_secret: if self.in_rollover { self.by_secret(&statement) } else { None },
        })
    }

    fn by_secret(&self, statement: &[u8]) -> Option<String> {
        Some(format!("1;m={}", HEXLOWER.encode(&self.secrets.as_ref()?.mac(statement)?)))
    }

    /// Returns why other nodes will not take this node's messages for its own, if its name is in none of its
    /// certificate's.
    pub(crate) fn message_fault(&self, node: &str) -> Option<String> {
        let authorities = self.authorities.as_ref()?;
        match &self.certificate {
            Some(own) => {
                let names = authorities.names_of_node(own.chain().first()?)?;
                (!names_node(&names, node)).then(|| {
                    format!(
                        "the certificate of peers.certificate ({}) does not name this node, {node:?}: other nodes take \
                         its load reports for nobody's; certify it for a name whose first label, or last segment of a \
                         URI, is node.name",
                        names.join(", ")
                    )
                })
            }
            None if self.in_rollover => None,
            None => Some(
                "this node has no peers.certificate to sign its load reports with: nodes that have \
                 peers.certificate_authorities do not take them"
                    .to_owned(),
            ),
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
        (about, payload): (&[&str], &[u8]),
        proof: Option<&MessageProof>,
        now: UnixTime,
    ) -> Result<(), MessageRefusal> {
        if !peers.has_signed_messages() {
            return Ok(());
        }
        let MessageProof { signature, certificates, by_secret } = proof.ok_or(MessageRefusal::Unsigned)?;
        // A node without authorities knows the secret only.
        let signature = by_secret.as_ref().filter(|_| peers.authorities.is_none()).unwrap_or(signature);
        let statement = statement(about, payload);
        let parts: Vec<&str> = signature.split(';').take(5).collect();
        match parts.as_slice() {
            ["1", mac] => {
                // Whoever has the secret could leave its certificate out, and speak for any node.
                let secrets = peers.secrets.as_ref().filter(|_| peers.authorities.is_none() || peers.in_rollover);
                let secrets = secrets.ok_or(MessageRefusal::Unsigned)?;
                let mac = mac.strip_prefix("m=").and_then(from_hex).ok_or(MessageRefusal::Wrong)?;
                if secrets.is_mac(&statement, &mac) { Ok(()) } else { Err(MessageRefusal::Wrong) }
            }
            ["1", scheme, key, signature] => {
                let scheme = scheme.strip_prefix("s=").and_then(|scheme| scheme.parse::<u16>().ok());
                let (key, signature) = (key.strip_prefix("c=").and_then(from_hex), signature.strip_prefix("m="));
                let signature = signature.and_then(from_hex);
                let (Some(scheme), Some(key), Some(signature)) = (scheme, key, signature) else {
                    return Err(MessageRefusal::Wrong);
                };
                let is_its = |seen: &SeenCertificate| {
                    if !names_node(&seen.names, node) {
                        return Err(MessageRefusal::Misnamed);
                    }
                    let is_its = is_signed(SignatureScheme::from(scheme), &seen.public_key, &statement, &signature);
                    if is_its { Ok(()) } else { Err(MessageRefusal::Wrong) }
                };
                self.trust(peers);
                if let Some(seen) = self.seen.get(&key).filter(|seen| !seen.is_over(now)) {
                    return is_its(seen);
                }
                let Some(header) = certificates else {
                    // Until they come, the secret says as much as before.
                    let mac =
                        by_secret.as_ref().filter(|_| peers.in_rollover).and_then(|value| value.strip_prefix("1;m="));
                    let secrets = peers.secrets.as_ref().zip(mac.and_then(from_hex));
                    let is_nodes = secrets.is_some_and(|(secrets, mac)| secrets.is_mac(&statement, &mac));
                    return if is_nodes { Ok(()) } else { Err(MessageRefusal::UnknownCertificate) };
                };
                let seen = SeenCertificate::of(peers, header, &key, now)?;
                is_its(&seen)?;
                // Only what has signed is remembered.
                if self.seen.len() >= MOST_SEEN {
                    self.seen.clear();
                }
                self.seen.insert(key, seen);
                Ok(())
            }
            _ => Err(MessageRefusal::Unsigned),
        }
    }

    /// Goes by these authorities: what others have verified is forgotten.
    fn trust(&mut self, peers: &Arc<Peers>) {
        if !Arc::ptr_eq(&self.peers, peers) {
            if self.peers.authorities_fingerprint != peers.authorities_fingerprint {
                self.seen.clear();
            }
            self.peers = peers.clone();
        }
    }
}

impl SeenCertificate {
    /// Finds out what the certificates of a header with this digest prove.
    fn of(peers: &Peers, header: &str, key: &[u8], now: UnixTime) -> Result<Self, MessageRefusal> {
        let authorities = peers.authorities.as_ref().ok_or(MessageRefusal::Unsigned)?;
        if header.len() > LONGEST_HEADER || digest_of(header).as_ref() != key {
            return Err(MessageRefusal::Wrong);
        }
        let parts: Vec<&str> = header.split(',').take(LONGEST_CHAIN + 1).collect();
        if parts.len() > LONGEST_CHAIN {
            return Err(MessageRefusal::NoNode);
        }
        let decoded = parts.iter().map(|part| BASE64.decode(part.as_bytes()).map(CertificateDer::from));
        let chain: Vec<CertificateDer<'static>> =
            decoded.collect::<Result<_, _>>().map_err(|_| MessageRefusal::NoNode)?;
        let identity = authorities.identify(&chain, now).map_err(|_| MessageRefusal::NoNode)?;
        let leaf = chain.first().ok_or(MessageRefusal::NoNode)?;
        let names = authorities.names_of_node(leaf).ok_or(MessageRefusal::NoNode)?;
        let (_, parsed) = x509_parser::parse_x509_certificate(leaf).map_err(|_| MessageRefusal::NoNode)?;
        let public_key = parsed.public_key().subject_public_key.data.to_vec();
        Ok(Self { names, public_key, expires: identity.expires() })
    }

    fn is_over(&self, now: UnixTime) -> bool {
        self.expires < i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
    }
}

/// Returns whether one of a certificate's names, of those that make its owner a node, is this node's: the whole of it, the
/// first label of a DNS name, or the last segment of a URI's path (`spiffe://example.com/meridian/use1-a`).
fn names_node(names: &[String], node: &str) -> bool {
    names.iter().any(|name| {
        let part = match name.split_once("://") {
            Some((_, rest)) => rest.split_once('/').and_then(|(_, path)| path.rsplit('/').next()),
            None => name.split('.').next(),
        };
        name.eq_ignore_ascii_case(node) || part.is_some_and(|part| part.eq_ignore_ascii_case(node))
    })
}

fn digest_of(header: &str) -> digest::Digest {
    digest::digest(&digest::SHA256, header.as_bytes())
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms
}

fn is_signed(scheme: SignatureScheme, public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let of_scheme = algorithms().mapping.iter().filter(|(known, _)| *known == scheme);
    let mut candidates = of_scheme.flat_map(|(_, algorithms)| algorithms.iter());
    candidates.any(|algorithm| algorithm.verify_signature(public_key, message, signature).is_ok())
}

fn statement(about: &[&str], payload: &[u8]) -> Vec<u8> {
    let mut statement = Statement::new(b"meridian bus message 1");
    about.iter().for_each(|part| statement.part(part.as_bytes()));
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
            (vec!["USE1-A.nodes.example.com"], true),
            (vec!["spiffe://use1-a"], false),
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
