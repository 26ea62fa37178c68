//! Which other processes are nodes of the fleet, and what they tell each other of a request.
//!
//! ```text
//! identity.rs    certificates: whose are nodes', and whether a connection's still is
//! gateway.rs     the TLS of a new connection to another region's node, and what it has proved
//! signature.rs   the HMAC over what a node vouches for, where something between the regions ends the TLS
//! messages.rs    the signatures of messages over the bus
//! fields.rs      the names of the `x-meridian-` fields
//! headers.rs     the only code that reads or writes an `x-meridian-` field
//! refusals.rs    counts and logs those who are no nodes
//! ```
//!
//! An address makes nobody a node, and neither does a field of a request: a sender is a [`Sender::Peer`]
//! only with a certificate or a signature. Everybody else's `x-meridian-` fields are gone before
//! anything reads them.

pub(crate) mod fields;
pub(crate) mod gateway;
pub(crate) mod headers;
pub(crate) mod identity;
pub(crate) mod messages;
pub(crate) mod refusals;
pub(crate) mod signature;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use aws_lc_rs::digest;
use config::{EndpointRole, Problem, RoutingTable, Severity};

use crate::certificate::Certificate;
use identity::{Authorities, CertificateRefusal};
use refusals::Refusals;
use signature::Secrets;

/// Who sends a request, and whose word counts for that.
#[derive(Debug)]
pub(crate) enum Sender {
    /// Anybody: nothing but the connection itself counts.
    Stranger,
    /// A proxy of `geoip.trusted_proxies`: its forwarding headers count.
    TrustedProxy,
    /// A node of another region: what it vouches for counts, and nothing else of the request.
    Peer(Box<headers::FromPeer>),
}

impl Sender {
    /// Returns what a node says of the request that it passes on.
    pub(crate) fn peer(&self) -> Option<&headers::FromPeer> {
        match self {
            Sender::Peer(peer) => Some(peer),
            Sender::Stranger | Sender::TrustedProxy => None,
        }
    }
}

/// What a node file's `[peers]` leads to. Without the section, nobody is a node. Replaced as a whole by
/// a reload, and shared by all threads.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    /// Whose certificates are nodes'.
    pub(crate) authorities: Option<Arc<Authorities>>,
    /// What this node shows to gateways.
    pub(crate) certificate: Option<Certificate>,
    /// What nodes sign requests to each other with.
    pub(crate) secrets: Option<Secrets>,
    /// Whether the fleet changes from the secret to certificates: messages signed by either count.
    pub(crate) in_rollover: bool,
    /// Of the authorities and names.
    authorities_fingerprint: Vec<u8>,
    /// Of all the above, to tell one state of the files from another.
    fingerprint: Vec<u8>,
}

/// The peers in force, and those who were refused as none. One for each node; any thread uses it.
#[derive(Default)]
pub(crate) struct CurrentPeers {
    peers: Arc<ArcSwap<Peers>>,
    /// Who was refused.
    pub(crate) refusals: Refusals,
}

impl CurrentPeers {
    /// Goes by these, which a reload may replace.
    pub(crate) fn new(peers: Arc<ArcSwap<Peers>>) -> Self {
        Self { peers, refusals: Refusals::default() }
    }

    /// Returns the peers in force, for a short look.
    pub(crate) fn load(&self) -> Guard<Arc<Peers>> {
        self.peers.load()
    }

    /// Returns the peers in force, to keep.
    pub(crate) fn load_full(&self) -> Arc<Peers> {
        self.peers.load_full()
    }

    /// Puts others in force.
    pub(crate) fn replace(&self, peers: Arc<Peers>) {
        self.peers.store(peers);
    }
}

/// What is wrong with a file of `[peers]`.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}", file.display())]
pub(crate) struct PeersError {
    /// The file.
    pub(crate) file: PathBuf,
    /// The key that names it.
    pub(crate) key: &'static str,
    /// What is wrong with it, and what to do.
    pub(crate) what: String,
}

impl Peers {
    /// Loads all that `[peers]` names.
    ///
    /// # Errors
    /// Everything that is wrong with any of it.
    pub(crate) fn load(config: Option<&config::Peers>) -> Result<Self, Vec<PeersError>> {
        let Some(config) = config else { return Ok(Self::default()) };
        let mut errors = Vec::new();
        let authorities = match config.certificate_authorities.as_slice() {
            [] => None,
            files => kept(Authorities::load(files, &config.names), &mut errors).map(Arc::new),
        };
        let certificate = config.certificate.as_ref().and_then(|pair| {
            let loaded = Certificate::load(&pair.certificate, &pair.key).map_err(|error| PeersError {
                file: error.file,
                key: "peers.certificate",
                what: error.what,
            });
            kept(loaded, &mut errors)
        });
        if let (Some(authorities), Some(own)) = (&authorities, &certificate)
            && let Err(refusal) = authorities.identify(own.chain(), identity::now())
            // Dates pass: it is shown all the same, and whoever starts a node with it is warned.
            && refusal != CertificateRefusal::Expired
        {
            let what = format!("nodes with this [peers] would refuse it: {refusal}; certify this node anew");
            errors.push(PeersError { file: own.file.clone(), key: "peers.certificate", what });
        }
        let secrets = config.secret_file.as_ref().and_then(|file| kept(Secrets::load(file), &mut errors));
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut fingerprint = digest::Context::new(&digest::SHA256);
        let mut add = |bytes: &[u8]| {
            fingerprint.update(&(bytes.len() as u64).to_be_bytes());
            fingerprint.update(bytes);
        };
        authorities.iter().for_each(|authorities| authorities.each(&mut add));
        let authorities_fingerprint = fingerprint.clone().finish().as_ref().to_vec();
        let mut add = |bytes: &[u8]| {
            fingerprint.update(&(bytes.len() as u64).to_be_bytes());
            fingerprint.update(bytes);
        };
        certificate.iter().flat_map(Certificate::chain).for_each(|certificate| add(certificate));
        secrets.iter().for_each(|secrets| secrets.each(&mut add));
        add(&[u8::from(config.rollover)]);
        let fingerprint = fingerprint.finish().as_ref().to_vec();
        let in_rollover = config.rollover;
        Ok(Self { authorities, certificate, secrets, in_rollover, authorities_fingerprint, fingerprint })
    }

    /// Returns why nodes refuse this node's own certificate for now, by its dates or its chain's.
    pub(crate) fn certificate_fault(&self) -> Option<String> {
        let own = self.certificate.as_ref()?;
        own.validity.fault(identity::now().as_secs().try_into().unwrap_or(i64::MAX)).or_else(|| {
            let refusal = self.authorities.as_ref()?.identify(own.chain(), identity::now()).err()?;
            Some(format!("nodes with this [peers] would refuse it, or its chain: {refusal}"))
        })
    }

    /// Returns whether these are the same authorities, names, certificate and secrets.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }

    /// Returns what keeps this node from being one of a fleet with this table's gateways: each would be passed
    /// requests that it refuses. Empty when nothing does.
    pub(crate) fn problems_with(&self, document: &RoutingTable, node_file: &Path, region: &str) -> Vec<Problem> {
        let spec = document.table.spec();
        let gateways = document.upstreams.iter().zip(&spec.regions).filter_map(|(upstream, region)| {
            Some((upstream.gateway.as_ref().filter(|gateway| gateway.role == EndpointRole::Gateway)?, region))
        });
        let file = document.files().first().map_or_else(|| "routing table".to_owned(), |f| f.display().to_string());
        let node_file = node_file.display();
        let problem = |(gateway, its): (&config::Endpoint, &policy::region::Region)| {
            let is_own = its.name == region;
            let takes_certificates = self.authorities.is_some();
            let lacks = match (gateway.tls, self.secrets.is_some()) {
                (_, true) => return None,
                (false, false) => {
                    "is without TLS, so that requests to it must be signed: give secret_file = \"peers.key\" in [peers]"
                }
                (true, false) if !takes_certificates => {
                    "is for nodes, and nobody is one here: give [peers] with certificate_authorities = \
                     [\"peers-ca.pem\"] and certificate = { certificate = \"node.pem\", key = \"node-key.pem\" }"
                }
                (true, false) if self.certificate.is_none() && !is_own => {
                    "asks who calls, and this node has nothing to show: give certificate = { certificate = \
                     \"node.pem\", key = \"node-key.pem\" } in [peers]"
                }
                (true, false) => return None,
            };
            Some(Problem {
                severity: Severity::Error,
                file: file.clone(),
                line: its.line,
                path: format!("regions.{}.gateway", its.name),
                message: format!("the gateway {gateway} {lacks} of {node_file}"),
            })
        };
        gateways.filter_map(problem).take(MAX_PROBLEMS).collect()
    }
}

/// Gateways beyond it have the same to tell.
const MAX_PROBLEMS: usize = 4;

fn kept<T>(result: Result<T, PeersError>, errors: &mut Vec<PeersError>) -> Option<T> {
    result.map_err(|error| errors.push(error)).ok()
}
