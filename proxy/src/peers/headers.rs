//! The `x-meridian-` fields of requests and answers: the only code that reads or writes one.
//!
//! Between nodes they carry what the sending node takes for true of a request, and which region it chose;
//! the receiving node serves it there or refuses, so that two nodes never pass a request to and fro. To
//! clients an answer tells [`names::REGION`] and [`names::ATTEMPTS`], and nobody's other copy passes in
//! either direction.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use policy::jurisdiction::JurisdictionId;
use policy::{Origin, Table};
use smallvec::SmallVec;

use super::Peers;
use super::gateway::Counterpart;
use super::identity::{CertificateRefusal, PeerSession};
use super::signature::{BodyClaim, Nonce, SignatureRefusal, Signed};
use crate::facts::{Said, said_in};
use crate::headers::is_request_id;
use crate::node::unix_seconds;

/// The fields.
pub mod names {
    #![allow(missing_docs)]
    use http::HeaderName;

    /// Who served.
    pub const REGION: HeaderName = HeaderName::from_static("x-meridian-region");
    /// After how many attempts, when more than one.
    pub const ATTEMPTS: HeaderName = HeaderName::from_static("x-meridian-attempts");
    /// The region that the sending node has chosen.
    pub const CHOSEN: HeaderName = HeaderName::from_static("x-meridian-chosen");
    /// Where the sending node takes the client to be: countries, or `unknown`.
    pub const ORIGIN: HeaderName = HeaderName::from_static("x-meridian-origin");
    /// Through which header it heard consent: the receiving node counts no other.
    pub const CONSENT: HeaderName = HeaderName::from_static("x-meridian-consent");
    /// Which jurisdictions a trusted proxy told it of.
    pub const TENANT: HeaderName = HeaderName::from_static("x-meridian-tenant");
    /// The client's address; `unknown:ADDRESS` of the last that is known to be no client's.
    pub const CLIENT: HeaderName = HeaderName::from_static("x-meridian-client");
    /// `http` or `https`, as the client came.
    pub const SCHEME: HeaderName = HeaderName::from_static("x-meridian-scheme");
    /// The request's id on all nodes.
    pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-meridian-request-id");
    /// See [`signature`](super::super::signature).
    pub const SIGNATURE: HeaderName = HeaderName::from_static("x-meridian-signature");
    /// On a node's refusal to another: no origin has seen the request.
    pub const UNSENT: HeaderName = HeaderName::from_static("x-meridian-unsent");
    /// A node's question to another region's gateway whether that region can serve.
    pub const PROBE: HeaderName = HeaderName::from_static("x-meridian-probe");
}

/// Whether only nodes may write a field: `x-meridian-` with anything for its dashes, since CGI and its
/// heirs cannot tell `x_meridian_chosen` from `x-meridian-chosen`.
pub fn is_reserved(name: &HeaderName) -> bool {
    matches!(name.as_str().as_bytes(), [b'x', a, rest @ ..]
        if !a.is_ascii_alphanumeric()
            && rest.strip_prefix(b"meridian").and_then(<[u8]>::first).is_some_and(|b| !b.is_ascii_alphanumeric()))
}

/// Drops every field that only nodes may write.
pub fn drop_reserved(headers: &mut HeaderMap) {
    let found: SmallVec<[HeaderName; 4]> = headers.keys().filter(|name| is_reserved(name)).cloned().collect();
    found.iter().for_each(|name| drop(headers.remove(name)));
}

/// What another node says with a request.
#[derive(Debug)]
pub struct FromPeer {
    /// Its name, by its certificate; `signed` by a signature.
    pub name: Arc<str>,
    /// The region that it has chosen.
    pub chosen: HeaderValue,
    /// What it wants.
    pub asks: Asks,
    /// How it knows whose answer it gets.
    pub answering: Answering,
}

/// What a node wants of another.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all of them are requests, in a box")]
pub enum Asks {
    /// Whether the chosen region can serve.
    Probe,
    /// That the request be served in the chosen region.
    Serve(Vouched),
}

/// What a node vouches for, of a request that it passes on.
#[derive(Debug)]
pub struct Vouched {
    /// The client's address, or of the last that is known to be no client's.
    pub address: IpAddr,
    /// Whether that is the client's.
    pub is_named: bool,
    /// `http` or `https`, as the client came.
    pub scheme: &'static str,
    /// The request's id.
    pub request_id: HeaderValue,
    /// Where the client may be.
    pub origin: Said,
    /// Through which header consent came.
    pub consent: Option<HeaderValue>,
    /// The tenant's jurisdictions.
    pub tenant: Option<HeaderValue>,
}

/// How an answer to another node proves whose it is.
#[derive(Clone, Debug)]
pub struct Answering {
    peers: Arc<Peers>,
    /// Of a signed request; the answer on a connection of two certificates needs no signature.
    nonce: Option<Nonce>,
}

/// Why a request of somebody who claims to be a node is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum NoPeer {
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
    /// The word for the metrics.
    pub fn cause(&self) -> &'static str {
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
pub struct Claims<'a> {
    /// The certificate of its connection.
    pub session: Option<&'a PeerSession>,
    /// Whether the head has any field that only nodes may write.
    pub has_reserved: bool,
    /// Its method.
    pub method: &'a Method,
    /// Its target.
    pub uri: &'a Uri,
    /// The host asked for, with its port.
    pub authority: &'a HeaderValue,
    /// Whether nothing follows the head.
    pub is_at_end: bool,
}

/// The door: finds out whether a node sends a request, and takes every field that only nodes may write
/// out of its head. `None` of everybody else, whose fields are dropped unread.
///
/// # Errors
/// When somebody claims to be a node and is none: to serve it as a client would be to take the node's
/// own address for the client's.
pub fn admit(peers: &Arc<Peers>, headers: &mut HeaderMap, claims: Claims<'_>) -> Result<Option<Box<FromPeer>>, NoPeer> {
    let by_certificate = claims.session.map(|session| session.name(peers)).transpose()?;
    if !claims.has_reserved {
        return if by_certificate.is_some() { Err(NoPeer::NoNodesRequest) } else { Ok(None) };
    }
    let is_signed = headers.contains_key(names::SIGNATURE);
    let (name, nonce) = match by_certificate {
        Some(name) => (name, None),
        None if is_signed => {
            let signed = Signed {
                method: claims.method,
                authority: claims.authority.as_bytes(),
                path: claims.uri.path_and_query().map_or("/", |path| path.as_str()),
                body: BodyClaim::of(headers, claims.is_at_end),
            };
            let secrets = peers.secrets.as_ref().ok_or(SignatureRefusal::NoSecret)?;
            ("signed".into(), Some(secrets.verify(&signed, headers, unix_seconds(SystemTime::now()))?))
        }
        None => {
            drop_reserved(headers);
            return Ok(None);
        }
    };
    let said = FromPeer::read(headers, name, Answering { peers: peers.clone(), nonce });
    drop_reserved(headers);
    said.map(|said| Some(Box::new(said))).ok_or(NoPeer::Malformed)
}

impl FromPeer {
    fn read(headers: &HeaderMap, name: Arc<str>, answering: Answering) -> Option<Self> {
        let chosen = only(headers, &names::CHOSEN)?.clone();
        let asks = if headers.contains_key(names::PROBE) {
            Asks::Probe
        } else {
            let client = only(headers, &names::CLIENT)?.to_str().ok()?;
            let (address, is_named) = match client.strip_prefix(UNKNOWN_CLIENT) {
                Some(address) => (address, false),
                None => (client, true),
            };
            Asks::Serve(Vouched {
                address: address.parse().ok()?,
                is_named,
                scheme: match only(headers, &names::SCHEME)?.as_bytes() {
                    b"https" => "https",
                    b"http" => "http",
                    _ => return None,
                },
                request_id: only(headers, &names::REQUEST_ID).filter(|id| is_request_id(id))?.clone(),
                origin: said_in(std::iter::once(only(headers, &names::ORIGIN)?)),
                consent: at_most_one(headers, &names::CONSENT)?.cloned(),
                tenant: at_most_one(headers, &names::TENANT)?.cloned(),
            })
        };
        Some(Self { name, chosen, asks, answering })
    }
}

/// The value of a field that stands once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    at_most_one(headers, name)?
}

/// The value of a field that stands once, or not at all; `None` when it stands more often.
fn at_most_one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Option<&'a HeaderValue>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    values.next().is_none().then_some(first)
}

/// What this node vouches for, of one request, towards the gateways of other regions.
#[derive(Debug)]
pub struct Vouching {
    fields: SmallVec<[(HeaderName, HeaderValue); 8]>,
    body: BodyClaim,
    peers: Arc<Peers>,
}

/// What a node takes for true of a request, before it is put in fields.
#[derive(Debug)]
pub struct Claim<'a> {
    /// The client's address, or of the last that is known to be no client's.
    pub address: IpAddr,
    /// Whether that is the client's.
    pub is_named: bool,
    /// `http` or `https`, as the client came.
    pub scheme: &'a str,
    /// The request's id.
    pub request_id: &'a HeaderValue,
    /// Where the client may be.
    pub origin: &'a Origin,
    /// Through which header consent came.
    pub consent: Option<&'a str>,
    /// The tenant's jurisdictions.
    pub tenant: &'a [JurisdictionId],
    /// What follows the head.
    pub body: BodyClaim,
}

impl Vouching {
    /// Puts a claim in fields, to be signed by these peers' secret, if they have one.
    pub fn of(claim: &Claim<'_>, table: &Table, peers: Arc<Peers>) -> Self {
        let mut fields = SmallVec::new();
        let mut say = |name, text: String| fields.extend(HeaderValue::try_from(text).ok().map(|value| (name, value)));
        let countries: Vec<String> = claim.origin.countries().iter().map(|country| country.to_string()).collect();
        say(names::ORIGIN, if countries.is_empty() { "unknown".to_owned() } else { countries.join(",") });
        if let Some(header) = claim.consent {
            say(names::CONSENT, header.to_owned());
        }
        if !claim.tenant.is_empty() {
            let name = |id: &JurisdictionId| Some(table.spec().jurisdictions.get(id.0)?.name.as_str());
            say(names::TENANT, claim.tenant.iter().filter_map(name).collect::<Vec<_>>().join(","));
        }
        let unknown = if claim.is_named { "" } else { UNKNOWN_CLIENT };
        say(names::CLIENT, format!("{unknown}{}", claim.address));
        say(names::SCHEME, claim.scheme.to_owned());
        fields.push((names::REQUEST_ID, claim.request_id.clone()));
        Self { fields, body: claim.body, peers }
    }

    /// Writes it into the head of an attempt on the gateway of a region, and signs that.
    pub fn write(&self, request: &mut Request<()>, chosen: &str) {
        let Ok(chosen) = HeaderValue::from_str(chosen) else { return };
        request.headers_mut().extend(self.fields.iter().cloned());
        sign(request, chosen, self.body, &self.peers);
    }
}

/// Makes a request a node's question whether a region can serve.
pub fn write_probe<B>(request: &mut Request<B>, region: &HeaderValue, peers: &Peers) {
    request.headers_mut().insert(names::PROBE, HeaderValue::from_static("1"));
    sign(request, region.clone(), BodyClaim::None, peers);
}

fn sign<B>(request: &mut Request<B>, chosen: HeaderValue, body: BodyClaim, peers: &Peers) {
    request.headers_mut().insert(names::CHOSEN, chosen);
    let Some(secrets) = &peers.secrets else { return };
    let mut headers = std::mem::take(request.headers_mut());
    let signed = Signed {
        method: request.method(),
        authority: &headers.get(HOST).map(|host| host.as_bytes().to_vec()).unwrap_or_default(),
        path: request.uri().path_and_query().map_or("/", |path| path.as_str()),
        body,
    };
    let nonce = secrets.sign(&signed, &mut headers, unix_seconds(SystemTime::now()));
    *request.headers_mut() = headers;
    if let Some(nonce) = nonce {
        request.extensions_mut().insert(nonce);
    }
}

/// From whom an answer comes.
#[derive(Clone, Copy, Debug)]
pub enum Answerer<'a> {
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
pub struct Answered {
    /// Whether a node has given it.
    pub is_peers: bool,
    /// Whether that node says that no origin has seen the request.
    pub is_unsent: bool,
    /// Whether that node passes on what an origin answered, and does not answer itself.
    pub is_origins: bool,
}

/// Reads what an answer says to this node, and takes it out of the answer: it goes no further.
pub fn take_answer<B>(response: &mut http::Response<B>, from: Answerer<'_>) -> Answered {
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
        return Answered { is_peers, is_unsent: false, is_origins: false };
    }
    let is_unsent = is_peers && headers.contains_key(names::UNSENT);
    let is_origins = is_peers && headers.contains_key(names::REGION);
    drop_reserved(headers);
    Answered { is_peers, is_unsent, is_origins }
}

/// Tells a client who served, after how many attempts.
pub fn tell_client(headers: &mut HeaderMap, region: Option<&str>, attempts: u32) {
    if let Some(name) = region.and_then(|region| HeaderValue::from_str(region).ok()) {
        headers.insert(names::REGION, name);
    }
    if attempts > 1 {
        headers.insert(names::ATTEMPTS, HeaderValue::from(attempts));
    }
}

/// Tells another node what became of its request, and proves who says so.
pub fn tell_peer(headers: &mut HeaderMap, status: u16, is_unsent: bool, answering: &Answering) {
    if is_unsent {
        headers.insert(names::UNSENT, HeaderValue::from_static("1"));
    }
    if let Some((nonce, secrets)) = answering.nonce.zip(answering.peers.secrets.as_ref()) {
        secrets.sign_answer(status, headers, nonce);
    }
}

/// Before the address of a client that names nobody.
const UNKNOWN_CLIENT: &str = "unknown:";

#[cfg(test)]
mod tests {
    use super::*;
    use http::request::Parts;

    #[test]
    fn reserved_names_in_every_spelling() {
        for (name, reserved) in [
            ("x-meridian-chosen", true),
            ("X-Meridian-Anything", true),
            ("x_meridian_chosen", true),
            ("x-meridian_chosen", true),
            ("x.meridian.chosen", true),
            ("x-meridian-", true),
            ("x-meridian", false),
            ("x-meridians-chosen", false),
            ("xx-meridian-chosen", false),
            ("y-meridian-chosen", false),
            ("xmeridian-chosen", false),
            ("x", false),
        ] {
            assert_eq!(is_reserved(&name.parse().unwrap()), reserved, "{name}");
        }
    }

    fn parts(fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::get("/v3?a=b").header("host", "api.example.com");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn admitted(peers: Peers, parts: &mut Parts) -> Result<Option<Box<FromPeer>>, NoPeer> {
        let authority = HeaderValue::from_static("api.example.com");
        let (method, uri) = (&parts.method, &parts.uri);
        let claims = Claims { session: None, has_reserved: true, method, uri, authority: &authority, is_at_end: true };
        admit(&Arc::new(peers), &mut parts.headers, claims)
    }

    fn with_secret() -> Peers {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "0123456789abcdef0123456789abcdef").unwrap();
        let config = config::Peers { secret_file: Some(file.path().to_owned()), ..config::Peers::default() };
        Peers::load(Some(&config)).unwrap()
    }

    fn claim<'a>(request_id: &'a HeaderValue, origin: &'a Origin) -> Claim<'a> {
        Claim {
            address: IpAddr::from([192, 0, 2, 7]),
            is_named: true,
            scheme: "https",
            request_id,
            origin,
            consent: Some("x-consent"),
            tenant: &[],
            body: BodyClaim::None,
        }
    }

    /// A request of a node, on its way.
    fn sent(peers: &Arc<Peers>) -> Request<()> {
        let (id, origin) =
            (HeaderValue::from_static("id-1"), Origin::of(["DE".parse().unwrap()].into_iter().collect()));
        let table = config::RoutingTable::from_afar(
            "t",
            b"[regions.eu]\ncountry='DE'\nendpoints=['10.0.0.1:80']\n[[routes]]\nname='a'\ndata_class='public'\n",
            crate::clock::wall(),
        );
        let table = table.unwrap().table;
        let mut request = Request::get("/v3?a=b").header("host", "api.example.com").body(()).unwrap();
        Vouching::of(&claim(&id, &origin), &table, peers.clone()).write(&mut request, "eu");
        request
    }

    #[test]
    fn a_strangers_fields_are_dropped_unread() {
        let fields = [("x-meridian-chosen", "eu"), ("X_Meridian-Origin", "DE"), ("x-other", "1")];
        let mut parts = parts(&fields);
        assert!(admitted(with_secret(), &mut parts).unwrap().is_none());
        let left: Vec<&str> = parts.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["host", "x-other"]);
    }

    #[test]
    fn what_a_node_vouches_for_arrives() {
        let peers = Arc::new(with_secret());
        let (mut parts, ()) = sent(&peers).into_parts();
        let peer = admitted(with_secret(), &mut parts).unwrap().expect("a node");
        assert_eq!((&*peer.name, peer.chosen.as_bytes()), ("signed", &b"eu"[..]));
        let Asks::Serve(vouched) = &peer.asks else { panic!("a probe") };
        assert_eq!((vouched.address, vouched.is_named), (IpAddr::from([192, 0, 2, 7]), true));
        assert_eq!((vouched.scheme, vouched.request_id.as_bytes()), ("https", &b"id-1"[..]));
        assert_eq!(vouched.origin, Said::Countries(["DE".parse().unwrap()].into_iter().collect()));
        assert_eq!(vouched.consent.as_ref().map(HeaderValue::as_bytes), Some(&b"x-consent"[..]));
        assert!(!parts.headers.keys().any(is_reserved));
    }

    #[test]
    fn a_signature_that_does_not_verify_is_no_strangers_request() {
        let peers = Arc::new(with_secret());
        let (good, ()) = sent(&peers).into_parts();
        let mut changed = good.clone();
        changed.headers.insert(names::ORIGIN, HeaderValue::from_static("US"));
        assert_eq!(admitted(with_secret(), &mut changed).unwrap_err(), SignatureRefusal::Wrong.into());
        assert_eq!(admitted(Peers::default(), &mut good.clone()).unwrap_err(), SignatureRefusal::NoSecret.into());
        let mut claimed = parts(&[("x-meridian-signature", "1")]);
        assert_eq!(admitted(with_secret(), &mut claimed).unwrap_err(), SignatureRefusal::Malformed.into());
    }

    #[test]
    fn an_answer_counts_once_it_is_proved() {
        let peers = Arc::new(with_secret());
        let request = sent(&peers);
        let nonce = request.extensions().get::<Nonce>().copied();
        let (mut parts, ()) = request.into_parts();
        let answering = admitted(with_secret(), &mut parts).unwrap().expect("a node").answering;
        let answer = |signed: bool| {
            let mut response = http::Response::builder().status(503).header("x-other", "1").body(()).unwrap();
            let nobody = Answering { peers: Arc::default(), nonce: None };
            tell_peer(response.headers_mut(), 503, true, if signed { &answering } else { &nobody });
            response
        };
        let gateway = |counterpart| Answerer::Gateway { counterpart, nonce, peers: &peers };
        for (signed, from, is_peers) in [
            (true, gateway(Counterpart::Unproven), true),
            (false, gateway(Counterpart::Unproven), false),
            (false, gateway(Counterpart::Peer), true),
            (true, Answerer::Origin, false),
            (false, Answerer::Origin, false),
        ] {
            let mut response = answer(signed);
            let found = take_answer(&mut response, from);
            assert_eq!(found, Answered { is_peers, is_unsent: is_peers, is_origins: false }, "{signed} {from:?}");
            assert_eq!(response.headers().len(), 1);
        }
    }
}
