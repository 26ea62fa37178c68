//! Header rules: what goes up, what comes down, and whose word counts.

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method, Request, Uri, Version};

use crate::facts::Client;

/// Names that this proxy owns: a client's own copies never reach an origin.
pub mod names {
    #![allow(missing_docs)]
    use http::HeaderName;

    pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
    pub const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
    pub const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
    pub const CLIENT_COUNTRY: HeaderName = HeaderName::from_static("x-client-country");
    pub const CLIENT_REGION: HeaderName = HeaderName::from_static("x-client-region");
    pub const CLIENT_CITY: HeaderName = HeaderName::from_static("x-client-city");
    pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
    pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
    /// Who served.
    pub const REGION: HeaderName = HeaderName::from_static("x-meridian-region");
    /// After how many attempts, when more than one.
    pub const ATTEMPTS: HeaderName = HeaderName::from_static("x-meridian-attempts");
    /// The region that the sending node has chosen: the receiving node serves it there or refuses,
    /// so that two nodes never pass a request to and fro. Believed from trusted proxies only.
    pub const CHOSEN: HeaderName = HeaderName::from_static("x-meridian-chosen");
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What of a request goes upstream, whatever the attempt.
#[derive(Debug)]
pub struct Outgoing {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

/// What the headers of a request are worth, and what to add to them.
#[derive(Debug)]
pub struct Sender<'a> {
    /// Who the client is, and whether the peer is believed.
    pub client: &'a Client,
    /// The address of the peer.
    pub peer: std::net::IpAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The host asked for, with its port.
    pub authority: &'a HeaderValue,
    /// The request's id.
    pub request_id: &'a HeaderValue,
    /// Whether it asks for a protocol upgrade.
    pub upgrade: bool,
}

impl Outgoing {
    /// Takes a client's headers, drops what must not go further, and adds what is ours to say.
    pub fn new(method: Method, uri: &Uri, mut headers: HeaderMap, sender: &Sender<'_>) -> Self {
        let upgrade = sender.upgrade.then(|| headers.get(UPGRADE).cloned()).flatten();
        let wants_trailers = headers.get_all(TE).iter().any(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
        strip_hop_by_hop(&mut headers);
        headers.remove(EXPECT);
        headers.remove(names::CHOSEN);
        headers.remove(names::REGION);
        headers.remove(names::ATTEMPTS);
        if !sender.client.peer_trusted {
            // Nobody has vouched for these.
            headers.remove(FORWARDED);
            headers.remove(TRACESTATE);
            headers.remove(names::TRACEPARENT);
            headers.remove(names::FORWARDED_PROTO);
            headers.remove(names::FORWARDED_HOST);
            headers.remove(names::FORWARDED_FOR);
        }
        append_forwarded_for(&mut headers, sender.peer);
        if !headers.contains_key(names::FORWARDED_PROTO) {
            headers.insert(names::FORWARDED_PROTO, HeaderValue::from_static(sender.scheme));
        }
        let authority = sender.authority.clone();
        if !headers.contains_key(names::FORWARDED_HOST) {
            headers.insert(names::FORWARDED_HOST, authority.clone());
        }
        headers.insert(HOST, authority);
        let client = sender.client;
        let country = client.country.and_then(|country| HeaderValue::from_str(country.code()).ok());
        put(&mut headers, names::CLIENT_COUNTRY, country);
        put(&mut headers, names::CLIENT_REGION, client.region.clone());
        put(&mut headers, names::CLIENT_CITY, client.city.clone());
        headers.insert(names::REQUEST_ID, sender.request_id.clone());
        if !headers.contains_key(names::TRACEPARENT) {
            put(&mut headers, names::TRACEPARENT, new_traceparent());
        }
        if let Some(protocol) = upgrade {
            headers.insert(UPGRADE, protocol);
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        } else if wants_trailers {
            // A hop of our own that takes trailers too (RFC 9110, 6.5.1).
            headers.insert(TE, HeaderValue::from_static("trailers"));
            headers.insert(CONNECTION, HeaderValue::from_static("te"));
        }
        let path = uri.path_and_query().cloned().unwrap_or(http::uri::PathAndQuery::from_static("/"));
        Self { method, uri: Uri::from(path), headers }
    }

    /// The head of one attempt; to another region's gateway it says which region was chosen.
    pub fn head(&self, chosen: Option<&str>) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = self.headers.clone();
        if let Some(chosen) = chosen.and_then(|region| HeaderValue::from_str(region).ok()) {
            request.headers_mut().insert(names::CHOSEN, chosen);
        }
        request
    }
}

/// Whether a request asks to leave HTTP for another protocol, as WebSocket does (HTTP/1.1 only).
pub fn asks_upgrade(version: Version, headers: &HeaderMap) -> bool {
    version == Version::HTTP_11
        && headers.contains_key(UPGRADE)
        && headers.get_all(CONNECTION).iter().any(|value| has_token(value, "upgrade"))
}

/// Drops the fields that are meant for this hop only (RFC 9110, 7.6.1), and those that Connection
/// names. The body's framing is this hop's too; a length stays, and hyper checks it.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named = headers.get_all(CONNECTION).iter().flat_map(tokens).filter_map(|token| token.parse().ok());
        // A client may not have the fields dropped that say who it is or how long its body is.
        let named: Vec<HeaderName> = named
            .filter(|name: &HeaderName| *name != HOST && *name != CONTENT_LENGTH && !name.as_str().starts_with("x-"))
            .collect();
        named.iter().for_each(|name| drop(headers.remove(name)));
        headers.remove(CONNECTION);
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
}

/// A new request id: 128 random bits in hexadecimal.
pub fn new_request_id() -> HeaderValue {
    hex(&[fastrand::u64(..), fastrand::u64(..)])
}

/// Whether a trusted proxy's request id is one that we would pass on and log.
pub fn is_request_id(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    (1..=128).contains(&bytes.len()) && bytes.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'"')
}

/// A traceparent of our own (W3C Trace Context): a new trace, not sampled.
fn new_traceparent() -> Option<HeaderValue> {
    // Ids must not be all zero.
    let trace = format!("{:016x}{:016x}", fastrand::u64(1..), fastrand::u64(..));
    HeaderValue::try_from(format!("00-{trace}-{:016x}-00", fastrand::u64(1..))).ok()
}

fn hex(words: &[u64]) -> HeaderValue {
    let text: String = words.iter().map(|word| format!("{word:016x}")).collect();
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("0"))
}

fn append_forwarded_for(headers: &mut HeaderMap, peer: std::net::IpAddr) {
    let peer = peer.to_canonical().to_string();
    let mut list = Vec::new();
    for line in headers.get_all(names::FORWARDED_FOR) {
        list.extend_from_slice(line.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(peer.as_bytes());
    put(headers, names::FORWARDED_FOR, HeaderValue::from_bytes(&list).ok());
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: Option<HeaderValue>) {
    match value {
        Some(value) => drop(headers.insert(name, value)),
        None => drop(headers.remove(name)),
    }
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or("").split(',').map(str::trim).filter(|token| !token.is_empty())
}

fn has_token(value: &HeaderValue, wanted: &str) -> bool {
    tokens(value).any(|token| token.eq_ignore_ascii_case(wanted))
}
