//! The `x-meridian-` fields of requests and answers: the only code that reads or writes one.
//!
//! Between nodes they carry what the sending node takes for true of a request, and which region it chose;
//! the receiving node serves it there or refuses, so that two nodes never pass a request to and fro. To
//! clients an answer tells [`fields::REGION`] and [`fields::ATTEMPTS`], and nobody's other copy passes in
//! either direction.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use policy::jurisdiction::JurisdictionId;
use policy::pressure::Criticality;
use policy::{Origin, Reason, Table};
use smallvec::SmallVec;

use super::Peers;
use super::fields::{self, drop_reserved, is_reserved};
use super::gateway::Counterpart;
use super::identity::{CertificateRefusal, PeerSession};
use super::signature::{BodyClaim, Nonce, SignatureRefusal, Signed};
use crate::client::{CountryHint, country_hint_in};
use crate::clock;
use crate::fields::is_request_id;

/// What another node says with a request.
#[derive(Debug)]
pub(crate) struct FromPeer {
    /// The region that it has chosen.
    pub(crate) chosen: HeaderValue,
    /// What it wants.
    pub(crate) asks: Asks,
    /// How it knows whose answer it gets.
    pub(crate) answering: Answering,
}

/// What a node wants of another.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all of them are requests, in a box")]
pub(crate) enum Asks {
    /// Whether the chosen region can serve.
    Probe,
    /// That the request be served in the chosen region.
    Serve(Vouched),
}

/// What a node vouches for, of a request that it passes on.
#[derive(Debug)]
pub(crate) struct Vouched {
    /// The client's address, or of the last that is known to be no client's.
    pub(crate) address: IpAddr,
    /// Whether that is the client's.
    pub(crate) is_named: bool,
    /// `http` or `https`, as the client came.
    pub(crate) scheme: &'static str,
    /// The request's id.
    pub(crate) request_id: HeaderValue,
    /// Where the client may be.
    pub(crate) origin: CountryHint,
    /// Through which header consent came.
    pub(crate) consent: Option<HeaderValue>,
    /// The tenant's jurisdictions.
    pub(crate) tenant: Option<HeaderValue>,
    /// How critical the request is, where that is less than its route says.
    pub(crate) criticality: Option<Criticality>,
}

/// How an answer to another node proves whose it is.
#[derive(Clone, Debug)]
pub(crate) struct Answering {
    peers: Arc<Peers>,
    /// Of a signed request; the answer on a connection of two certificates needs no signature.
    nonce: Option<Nonce>,
}

/// Why a request of somebody who claims to be a node is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub(crate) enum NoPeer {
    #[error(transparent)]
    Certificate(#[from] CertificateRefusal),
    #[error(transparent)]
    Signature(#[from] SignatureRefusal),
    #[error("a node's certificate, and no node's request: clients have none of their own")]
    NoNodesRequest,
    #[error("what the node says of its request is malformed")]
    Malformed,
}

impl NoPeer {
    /// Returns whether nothing that is signed counts at this node.
    pub(crate) fn is_no_secret(&self) -> bool {
        matches!(self, Self::Signature(SignatureRefusal::NoSecret))
    }

    /// Returns the word for the metrics.
    pub(crate) fn cause(&self) -> &'static str {
        match self {
            Self::Certificate(refusal) => refusal.cause(),
            Self::Signature(refusal) => refusal.cause(),
            Self::NoNodesRequest => "no_nodes_request",
            Self::Malformed => "malformed",
        }
    }
}

/// What a request's sender has to show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claims<'a> {
    /// The certificate of its connection.
    pub(crate) session: Option<&'a PeerSession>,
    /// Whether the head has any field that only nodes may write.
    pub(crate) has_reserved: bool,
    /// Its method.
    pub(crate) method: &'a Method,
    /// Its target.
    pub(crate) uri: &'a Uri,
    /// The host asked for, with its port.
    pub(crate) authority: &'a HeaderValue,
    /// Whether nothing follows the head.
    pub(crate) is_at_end: bool,
}

/// Finds out whether a node sends a request, and takes every field that only nodes may write out
/// of its head. `None` of everybody else, whose fields are dropped unread.
///
/// # Errors
/// When somebody claims to be a node and is none: to serve it as a client would be to take the node's
/// own address for the client's.
pub(crate) fn admit(
    peers: &Arc<Peers>,
    headers: &mut HeaderMap,
    claims: Claims<'_>,
) -> Result<Option<Box<FromPeer>>, NoPeer> {
    let by_certificate = claims.session.map(|session| session.check(peers)).transpose()?.is_some();
    if !claims.has_reserved {
        return if by_certificate { Err(NoPeer::NoNodesRequest) } else { Ok(None) };
    }
    let is_signed = headers.contains_key(fields::SIGNATURE);
    let nonce = match by_certificate {
        true => None,
        false if is_signed => {
            let signed = Signed {
                method: claims.method,
                authority: claims.authority.as_bytes(),
                path: claims.uri.path_and_query().map_or("/", |path| path.as_str()),
                body: BodyClaim::of(headers, claims.is_at_end),
            };
            let secrets = peers.secrets.as_ref().ok_or(SignatureRefusal::NoSecret)?;
            Some(secrets.verify(&signed, headers, clock::unix_seconds())?)
        }
        false => {
            drop_reserved(headers);
            return Ok(None);
        }
    };
    let said = FromPeer::read(headers, Answering { peers: peers.clone(), nonce });
    drop_reserved(headers);
    said.map(|said| Some(Box::new(said))).ok_or(NoPeer::Malformed)
}

impl Answering {
    /// Returns whether the request was signed, and came on no connection of two certificates.
    pub(crate) fn is_signed(&self) -> bool {
        self.nonce.is_some()
    }
}

impl FromPeer {
    fn read(headers: &HeaderMap, answering: Answering) -> Option<Self> {
        let chosen = only(headers, &fields::CHOSEN)?.clone();
        let asks = if headers.contains_key(fields::PROBE) {
            Asks::Probe
        } else {
            let client = only(headers, &fields::CLIENT)?.to_str().ok()?;
            let (address, is_named) = match client.strip_prefix(UNKNOWN_CLIENT) {
                Some(address) => (address, false),
                None => (client, true),
            };
            Asks::Serve(Vouched {
                address: address.parse().ok()?,
                is_named,
                scheme: match only(headers, &fields::SCHEME)?.as_bytes() {
                    b"https" => "https",
                    b"http" => "http",
                    _ => return None,
                },
                request_id: only(headers, &fields::REQUEST_ID).filter(|id| is_request_id(id))?.clone(),
                origin: country_hint_in(std::iter::once(only(headers, &fields::ORIGIN)?)),
                consent: at_most_one(headers, &fields::CONSENT)?.cloned(),
                tenant: at_most_one(headers, &fields::TENANT)?.cloned(),
                criticality: at_most_one(headers, &fields::CRITICALITY)?
                    .and_then(|value| Criticality::named(value.to_str().ok()?)),
            })
        };
        Some(Self { chosen, asks, answering })
    }
}

/// Returns the value of a field that stands once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    at_most_one(headers, name)?
}

/// Returns the value of a field that stands once, or not at all; `None` when it stands more often.
fn at_most_one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Option<&'a HeaderValue>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    values.next().is_none().then_some(first)
}

/// What this node vouches for, of one request, towards the gateways of other regions.
#[derive(Debug)]
pub(crate) struct Vouching {
    fields: SmallVec<[(HeaderName, HeaderValue); 8]>,
    body: BodyClaim,
    peers: Arc<Peers>,
}

/// What a node takes for true of a request, before it is put in fields.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    /// The client's address, or of the last that is known to be no client's.
    pub(crate) address: IpAddr,
    /// Whether that is the client's.
    pub(crate) is_named: bool,
    /// `http` or `https`, as the client came.
    pub(crate) scheme: &'a str,
    /// The request's id.
    pub(crate) request_id: &'a HeaderValue,
    /// Where the client may be.
    pub(crate) origin: &'a Origin,
    /// Through which header consent came.
    pub(crate) consent: Option<&'a str>,
    /// The tenant's jurisdictions.
    pub(crate) tenant: &'a [JurisdictionId],
    /// How critical the request is, where that is less than its route says.
    pub(crate) criticality: Option<Criticality>,
    /// What follows the head.
    pub(crate) body: BodyClaim,
}

impl Vouching {
    /// Puts a claim in fields, to be signed by these peers' secret, if they have one.
    pub(crate) fn of(claim: &Claim<'_>, table: &Table, peers: Arc<Peers>) -> Self {
        let mut fields = SmallVec::new();
        let mut say = |name, text: String| fields.extend(HeaderValue::try_from(text).ok().map(|value| (name, value)));
        let countries: Vec<String> = claim.origin.countries().iter().map(|country| country.to_string()).collect();
        say(fields::ORIGIN, if countries.is_empty() { "unknown".to_owned() } else { countries.join(",") });
        if let Some(header) = claim.consent {
            say(fields::CONSENT, header.to_owned());
        }
        if !claim.tenant.is_empty() {
            let name = |id: &JurisdictionId| Some(table.spec().jurisdictions.get(id.0)?.name.as_str());
            say(fields::TENANT, claim.tenant.iter().filter_map(name).collect::<Vec<_>>().join(","));
        }
        if let Some(criticality) = claim.criticality {
            say(fields::CRITICALITY, criticality.name().to_owned());
        }
        let unknown = if claim.is_named { "" } else { UNKNOWN_CLIENT };
        say(fields::CLIENT, format!("{unknown}{}", claim.address));
        say(fields::SCHEME, claim.scheme.to_owned());
        fields.push((fields::REQUEST_ID, claim.request_id.clone()));
        Self { fields, body: claim.body, peers }
    }

    /// Writes it into the head of an attempt on the gateway of a region, and signs that.
    pub(crate) fn write(&self, request: &mut Request<()>, chosen: &str) {
        let Ok(chosen) = HeaderValue::from_str(chosen) else { return };
        request.headers_mut().extend(self.fields.iter().cloned());
        sign(request, chosen, self.body, &self.peers);
    }
}

/// Makes a request a node's question whether a region can serve.
pub(crate) fn write_probe<B>(request: &mut Request<B>, region: &HeaderValue, peers: &Peers) {
    request.headers_mut().insert(fields::PROBE, HeaderValue::from_static("1"));
    sign(request, region.clone(), BodyClaim::None, peers);
}

fn sign<B>(request: &mut Request<B>, chosen: HeaderValue, body: BodyClaim, peers: &Peers) {
    request.headers_mut().insert(fields::CHOSEN, chosen);
    let Some(secrets) = &peers.secrets else { return };
    let mut headers = std::mem::take(request.headers_mut());
    let signed = Signed {
        method: request.method(),
        authority: &headers.get(HOST).map(|host| host.as_bytes().to_vec()).unwrap_or_default(),
        path: request.uri().path_and_query().map_or("/", |path| path.as_str()),
        body,
    };
    let nonce = secrets.sign(&signed, &mut headers, clock::unix_seconds());
    *request.headers_mut() = headers;
    if let Some(nonce) = nonce {
        request.extensions_mut().insert(nonce);
    }
}

/// Which table of the bus a node goes by: the greater of two is the newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PublishedTable {
    /// Compared first.
    pub(crate) epoch: u64,
    /// Compared within an epoch.
    pub(crate) revision: u64,
}

impl PublishedTable {
    fn read(text: &str) -> Option<Self> {
        let (epoch, revision) = text.split_once('.')?;
        Some(Self { epoch: epoch.parse().ok()?, revision: revision.parse().ok()? })
    }
}

/// Another node's refusal in an emergency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeersRefusal {
    /// The emergency's reason.
    pub(crate) reason: Reason,
    /// The table that has the emergency; `None` of one that is in a file, and where an origin may have acted on the request:
    /// then it binds everybody.
    pub(crate) table: Option<PublishedTable>,
}

impl PeersRefusal {
    /// Returns whether a node that goes by its `own` table is bound by it: unless that is a newer one, which does not have
    /// this emergency any more, or the node would have refused. Where one of the two is in a file, nobody can tell.
    pub(crate) fn binds(&self, own: Option<PublishedTable>) -> bool {
        self.table.zip(own).is_none_or(|(theirs, own)| theirs >= own)
    }
}

/// From whom an answer comes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answerer<'a> {
    /// An origin: nothing that it says in these fields counts.
    Origin,
    /// Another region's gateway.
    Gateway {
        /// What its connection proves.
        counterpart: Counterpart,
        /// Of the request, if that was signed.
        nonce: Option<Nonce>,
        /// The peers of this node.
        peers: &'a Peers,
    },
}

/// What an answer says to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    /// Whether a node has given it.
    pub(crate) is_peers: bool,
    /// Why no origin has seen the request, where that node says so.
    pub(crate) unsent: Option<Unsent>,
    /// Whether that node passes on what an origin answered, and does not answer itself.
    pub(crate) is_origins: bool,
    /// That node's refusal in an emergency.
    pub(crate) refused: Option<PeersRefusal>,
}

impl Answered {
    /// Returns why another region may be asked, where this refusal of the node's binds: one that does is to be had nowhere
    /// else, whatever has been sent.
    pub(crate) fn unsent_by(&self, binding: Option<Reason>) -> Option<Unsent> {
        // A refusal names its table only where no origin can have seen the request.
        let is_overruled = self.refused.is_some().then_some(Unsent::Unserved);
        if binding.is_some() { None } else { is_overruled.or(self.unsent) }
    }
}

/// Why a node says that no origin has seen a request, so that another region may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// There is nobody who could be reached, or who may serve it.
    Unserved,
    /// There is no room for it.
    Full,
}

impl Unsent {
    fn name(self) -> &'static str {
        match self {
            Self::Unserved => "1",
            Self::Full => "full",
        }
    }
}

/// Reads what an answer says to this node, and takes it out of the answer: it goes no further.
pub(crate) fn take_answer<B>(response: &mut http::Response<B>, from: Answerer<'_>) -> Answered {
    let status = response.status().as_u16();
    let headers = response.headers_mut();
    let is_peers = match from {
        Answerer::Origin => false,
        Answerer::Gateway { counterpart: Counterpart::Peer, .. } => true,
        Answerer::Gateway { nonce, peers, .. } => {
            nonce.zip(peers.secrets.as_ref()).is_some_and(|(nonce, secrets)| secrets.is_answer(status, headers, nonce))
        }
    };
    if !headers.keys().any(is_reserved) {
        return Answered { is_peers, unsent: None, is_origins: false, refused: None };
    }
    let unsent = headers.get(fields::UNSENT).filter(|_| is_peers);
    let unsent = unsent.map(|why| if why == Unsent::Full.name() { Unsent::Full } else { Unsent::Unserved });
    let is_origins = is_peers && headers.contains_key(fields::REGION);
    let refused = headers.get(fields::REFUSED).filter(|_| is_peers && !is_origins);
    let refused = refused.and_then(|name| Reason::named(name.to_str().ok()?)).filter(|reason| reason.is_emergency());
    let table = only(headers, &fields::TABLE).and_then(|value| PublishedTable::read(value.to_str().ok()?));
    let refused = refused.map(|reason| PeersRefusal { reason, table });
    drop_reserved(headers);
    Answered { is_peers, unsent, is_origins, refused }
}

/// Tells a client who served, after how many attempts.
pub(crate) fn tell_client(headers: &mut HeaderMap, region: Option<&str>, attempts: u32) {
    if let Some(name) = region.and_then(|region| HeaderValue::from_str(region).ok()) {
        headers.insert(fields::REGION, name);
    }
    if attempts > 1 {
        headers.insert(fields::ATTEMPTS, HeaderValue::from(attempts));
    }
}

/// What a node says of an answer that is its own.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OwnWord {
    /// Why no origin has seen the request, where none has.
    pub(crate) unsent: Option<Unsent>,
    /// An emergency refuses it, for this reason: no other region may.
    pub(crate) refused: Option<PeersRefusal>,
}

/// Reports the result of its request to another node, and proves who reports it.
pub(crate) fn tell_peer(headers: &mut HeaderMap, status: u16, own: OwnWord, answering: &Answering) {
    if let Some(why) = own.unsent {
        headers.insert(fields::UNSENT, HeaderValue::from_static(why.name()));
    }
    if let Some(PeersRefusal { reason, table }) = own.refused {
        headers.insert(fields::REFUSED, HeaderValue::from_static(reason.name()));
        let table = table.map(|PublishedTable { epoch, revision }| format!("{epoch}.{revision}"));
        if let Some(value) = table.and_then(|table| HeaderValue::try_from(table).ok()) {
            headers.insert(fields::TABLE, value);
        }
    }
    if let Some((nonce, secrets)) = answering.nonce.zip(answering.peers.secrets.as_ref()) {
        secrets.sign_answer(status, headers, nonce);
    }
}

/// Before the address of a client that names nobody.
const UNKNOWN_CLIENT: &str = "unknown:";

#[cfg(test)]
mod tests;
