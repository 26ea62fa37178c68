//! Header rules: what goes up, what comes down, and whose word counts.

use std::net::IpAddr;

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Method, Request, Uri, Version};
use policy::Payload;
use policy::stripped::{Stripped, plain};
use smallvec::SmallVec;

use crate::client::Client;
use crate::facts::{COOKIE_NAME, without_pin};
use crate::peers::Sender;
use crate::peers::headers::{Vouching, is_reserved};

/// Names that this proxy owns: a client's own copies never reach an origin. Those between nodes, and to
/// clients, are `peers::headers`'.
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
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// What of a request goes upstream, whatever the attempt.
#[derive(Debug)]
pub struct Outgoing {
    method: Method,
    uri: Uri,
    /// As the client sent them, less what Connection named.
    received: HeaderMap,
    /// What is ours to say, in place of anything received under these names.
    ours: SmallVec<[(HeaderName, HeaderValue); 12]>,
    /// What of the received goes no further.
    rules: FieldRules,
}

/// Which of a client's fields go no further.
#[derive(Clone, Debug)]
struct FieldRules {
    /// Whether fields that only a trusted proxy may set are dropped.
    untrusted: bool,
    /// More of those, by this node's and this route's own names; empty when the peer is trusted.
    unvouched: SmallVec<[String; 3]>,
    /// Fields that go on though they are stripped by default: the route says so.
    passed: SmallVec<[String; 2]>,
}

/// Which fields of a request's trailers go up. Nobody vouches for any: a proxy sets what it knows in a
/// head, and passes a client's trailers on.
#[derive(Clone, Debug)]
pub struct TrailerRules(FieldRules);

/// What the headers of a request are worth, and what to add to them.
#[derive(Clone, Copy, Debug)]
pub struct Provenance<'a> {
    /// Who the client is.
    pub client: &'a Client,
    /// Who sends it.
    pub sender: &'a Sender,
    /// The address of the other end of the connection.
    pub peer: IpAddr,
    /// `http` or `https`: of the connection, or as another node says that the client came.
    pub scheme: &'static str,
    /// The host asked for, with its port.
    pub authority: &'a HeaderValue,
    /// The request's id.
    pub request_id: &'a HeaderValue,
    /// Further headers that are believed from trusted peers only, in lower case.
    pub vouched: &'a [Option<&'a str>],
    /// Fields that go on though they are stripped by default, in lower case.
    pub passed: &'a [String],
    /// Whether it asks for a protocol upgrade.
    pub upgrade: bool,
}

impl Outgoing {
    /// Takes a client's headers, and decides what must not go further and what is ours to say.
    pub fn new(method: Method, uri: &Uri, mut received: HeaderMap, from: Provenance<'_>) -> Self {
        let trusted = !matches!(from.sender, Sender::Stranger);
        let mut ours: SmallVec<[(HeaderName, HeaderValue); 12]> = SmallVec::new();
        let mut say = |name: HeaderName, value: Option<HeaderValue>| ours.extend(value.map(|value| (name, value)));
        if let Some(protocol) = received.get(UPGRADE).filter(|_| from.upgrade) {
            say(UPGRADE, Some(protocol.clone()));
            say(CONNECTION, Some(HeaderValue::from_static("upgrade")));
        } else if received.get_all(TE).iter().any(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers")) {
            // A hop of our own that takes trailers too (RFC 9110, 6.5.1).
            say(TE, Some(HeaderValue::from_static("trailers")));
            say(CONNECTION, Some(HeaderValue::from_static("te")));
        }
        drop_named_by_connection(&mut received);
        // The next node trusts us, and would take them for our word.
        let rules = FieldRules::new(!trusted, from.vouched, from.passed);
        if let Some(cookies) = received.get(COOKIE) {
            let several = received.get_all(COOKIE).iter().nth(1).is_some();
            if several || memchr::memmem::find(cookies.as_bytes(), COOKIE_NAME.as_bytes()).is_some() {
                // HTTP/2 may split what HTTP/1 has in one line (RFC 9113, 8.2.3).
                let crumbs: Vec<&[u8]> = received.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
                let line = without_pin(&crumbs.join(&b"; "[..]));
                received.remove(COOKIE);
                say(COOKIE, line.and_then(|line| HeaderValue::from_bytes(&line).ok()));
            }
        }
        let vouched = |name: &HeaderName| trusted && received.contains_key(name);
        say(HOST, Some(from.authority.clone()));
        say(names::FORWARDED_FOR, forwarded_for(&received, trusted, from.peer));
        // Whatever stands between two nodes may have its own idea of how the client came.
        if from.sender.peer().is_some() || !vouched(&names::FORWARDED_PROTO) {
            say(names::FORWARDED_PROTO, Some(HeaderValue::from_static(from.scheme)));
        }
        if !vouched(&names::FORWARDED_HOST) {
            say(names::FORWARDED_HOST, Some(from.authority.clone()));
        }
        if !vouched(&names::TRACEPARENT) {
            say(names::TRACEPARENT, Some(new_traceparent()));
        }
        let client = from.client;
        say(names::CLIENT_COUNTRY, client.country.and_then(|country| HeaderValue::from_str(country.code()).ok()));
        say(names::CLIENT_REGION, client.region.clone());
        say(names::CLIENT_CITY, client.city.clone());
        say(names::REQUEST_ID, Some(from.request_id.clone()));
        let path = uri.path_and_query().cloned().unwrap_or(http::uri::PathAndQuery::from_static("/"));
        Self { method, uri: Uri::from(path), received, ours, rules }
    }

    /// The head of one attempt; to another region's gateway it says which region was chosen, and what this
    /// node vouches for.
    pub fn head(&self, gateway: Option<(&str, &Vouching)>) -> Request<()> {
        // One map of the right size: growing or cloning one costs as much as filling it.
        let mut headers = HeaderMap::with_capacity(self.received.len() + self.ours.len() + 1);
        for (name, value) in self.received.iter().filter(|(name, _)| !self.rules.stay_here(name)) {
            headers.append(name.clone(), value.clone());
        }
        for (name, value) in &self.ours {
            headers.insert(name.clone(), value.clone());
        }
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = headers;
        if let Some((chosen, vouching)) = gateway {
            vouching.write(&mut request, chosen);
        }
        request
    }
}

impl FieldRules {
    fn new(untrusted: bool, vouched: &[Option<&str>], passed: &[String]) -> Self {
        let unvouched = vouched.iter().flatten().filter(|_| untrusted).map(|name| plain(name).into_owned()).collect();
        Self { untrusted, unvouched, passed: passed.iter().cloned().collect() }
    }

    /// Whether a received field goes no further: it is for this hop, it is ours to set, or nobody
    /// has vouched for it.
    fn stay_here(&self, name: &HeaderName) -> bool {
        if is_reserved(name) {
            return true;
        }
        let name = name.as_str();
        // CGI and its heirs cannot tell `x_client_country` from `x-client-country`.
        let plainly = plain(name);
        self.names_ours(&plainly)
            || self.is_stripped(name, &plainly)
            || self.unvouched.iter().any(|other| *other == plainly)
    }

    /// Whether a field is stripped by default, and its route does not pass it on under this very name.
    fn is_stripped(&self, name: &str, plainly: &str) -> bool {
        let stripped = match Stripped::of(plainly) {
            None => false,
            Some(Stripped::Override) => true,
            // No proxy writes another spelling, and none removes it: it is its client's.
            Some(Stripped::Identity) => self.untrusted || name != plainly,
        };
        stripped && !self.passed.iter().any(|passed| passed == name)
    }

    fn names_ours(&self, name: &str) -> bool {
        match name {
            "connection" | "keep-alive" | "proxy-connection" | "te" | "transfer-encoding" => true,
            "upgrade" | "http2-settings" | "expect" => true,
            "host" | "x-forwarded-for" | "x-client-country" | "x-client-region" | "x-client-city" => true,
            "x-request-id" => true,
            "forwarded" | "tracestate" | "traceparent" | "x-forwarded-proto" | "x-forwarded-host" => self.untrusted,
            _ => false,
        }
    }
}

impl TrailerRules {
    /// For a request on whose route these headers are believed from trusted peers only.
    pub fn new(vouched: &[Option<&str>]) -> Self {
        Self(FieldRules::new(true, vouched, &[]))
    }

    /// What of a request's trailers goes up; `None` when nothing is left.
    pub fn passed_on(&self, mut trailers: HeaderMap) -> Option<HeaderMap> {
        let dropped: SmallVec<[HeaderName; 4]> =
            trailers.keys().filter(|name| self.0.stay_here(name) || is_of_a_head(name)).cloned().collect();
        dropped.iter().for_each(|name| drop(trailers.remove(name)));
        (!trailers.is_empty()).then_some(trailers)
    }
}

/// Whether a field has no place after a body (RFC 9110, 6.5.1): who asks, what for, and how long the body
/// is, is decided by then. An origin that merges trailers into its headers would take it for the head's.
fn is_of_a_head(name: &HeaderName) -> bool {
    let name = plain(name.as_str());
    matches!(
        &*name,
        "authorization"
            | "proxy-authorization"
            | "cookie"
            | "content-length"
            | "content-type"
            | "content-encoding"
            | "content-range"
            | "trailer"
            | "range"
            | "max-forwards"
            | "cache-control"
            | "idempotency-key"
    ) || name.starts_with("if-")
}

/// Whether a request asks for a WebSocket: a GET (RFC 6455, 4.1), on HTTP/1.1 only. No other upgrade
/// passes: through one to h2c a client could send requests that nobody decides on.
fn asks_upgrade(method: &Method, version: Version, headers: &HeaderMap) -> bool {
    version == Version::HTTP_11
        && *method == Method::GET
        && headers.get(UPGRADE).is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && headers.get_all(CONNECTION).iter().any(|value| has_token(value, "upgrade"))
}

/// Returns what a client sends after a request's head.
pub fn payload<B: hyper::body::Body>(request: &Request<B>) -> Payload {
    match asks_upgrade(request.method(), request.version(), request.headers()) {
        true => Payload::Tunnel,
        false if request.body().is_end_stream() => Payload::Nothing,
        false => Payload::Content,
    }
}

/// Drops the fields that are meant for this hop only (RFC 9110, 7.6.1), and those that Connection
/// names. The body's framing is this hop's too; a length stays, and hyper checks it.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    drop_named_by_connection(headers);
    for name in [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
}

fn drop_named_by_connection(headers: &mut HeaderMap) {
    if !headers.contains_key(CONNECTION) {
        return;
    }
    let named = headers.get_all(CONNECTION).iter().flat_map(tokens).filter_map(|token| token.parse().ok());
    // Nobody may have the fields dropped that say who a client is or how long a body is.
    let named: SmallVec<[HeaderName; 4]> = named
        .filter(|name: &HeaderName| {
            *name != HOST && *name != CONTENT_LENGTH && !name.as_str().starts_with("x-forwarded-")
        })
        .collect();
    named.iter().for_each(|name| drop(headers.remove(name)));
}

/// A new request id: 128 random bits in hexadecimal.
pub fn new_request_id() -> HeaderValue {
    let mut text = [0; 32];
    write_hex(&mut text, u128::from(fastrand::u64(..)) << 64 | u128::from(fastrand::u64(..)));
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("0"))
}

/// Whether a trusted proxy's request id is one that we would pass on and log.
pub fn is_request_id(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    (1..=128).contains(&bytes.len()) && bytes.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'"')
}

/// A traceparent of our own (W3C Trace Context): a new trace, not sampled. Its ids are not zero.
fn new_traceparent() -> HeaderValue {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    let (trace, parent) = (u128::from(fastrand::u64(1..)) << 64 | u128::from(fastrand::u64(..)), fastrand::u64(1..));
    if let Some(digits) = text.get_mut(3..35) {
        write_hex(digits, trace);
    }
    if let Some(digits) = text.get_mut(36..52) {
        write_hex(digits, u128::from(parent));
    }
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static(""))
}

/// Writes the lowest digits of a number, as many as there is room for.
fn write_hex(digits: &mut [u8], mut number: u128) {
    for digit in digits.iter_mut().rev() {
        *digit = match (number & 15) as u8 {
            value @ 0..=9 => b'0' + value,
            value => b'a' + value - 10,
        };
        number >>= 4;
    }
}

/// The list of hops: what a trusted peer says, and the peer itself.
fn forwarded_for(received: &HeaderMap, trusted: bool, peer: IpAddr) -> Option<HeaderValue> {
    use std::io::Write;
    let mut list: SmallVec<[u8; 128]> = SmallVec::new();
    for line in received.get_all(names::FORWARDED_FOR).iter().filter(|_| trusted) {
        list.extend_from_slice(line.as_bytes());
        list.extend_from_slice(b", ");
    }
    write!(list, "{}", peer.to_canonical()).ok()?;
    HeaderValue::from_bytes(&list).ok()
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or("").split(',').map(str::trim).filter(|token| !token.is_empty())
}

fn has_token(value: &HeaderValue, wanted: &str) -> bool {
    tokens(value).any(|token| token.eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::Origin;

    /// The head that goes up for these received headers, as sorted `name: value` lines without the
    /// random ones.
    fn sent(received: &[(&str, &str)], trusted: bool, upgrade: bool) -> Vec<String> {
        let client = Client {
            address: IpAddr::from([192, 0, 2, 7]),
            peer_trusted: trusted,
            is_named: true,
            origin: Origin::Unknown,
            evidence: std::sync::Arc::default(),
            anonymous: false,
            country: "DE".parse().ok(),
            region: None,
            city: HeaderValue::from_bytes("München".as_bytes()).ok(),
            key: 0,
        };
        let sender = if trusted { Sender::TrustedProxy } else { Sender::Stranger };
        let from = Provenance {
            client: &client,
            sender: &sender,
            peer: IpAddr::from([10, 0, 0, 1]),
            scheme: "https",
            authority: &HeaderValue::from_static("api.example.com"),
            request_id: &HeaderValue::from_static("id"),
            vouched: &[Some("x-consent"), None],
            passed: &["x-http-method".to_owned()],
            upgrade,
        };
        let mut headers = HeaderMap::new();
        for (name, value) in received {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let head = Outgoing::new(Method::GET, &Uri::from_static("/x?y"), headers, from).head(None);
        assert_eq!(head.uri(), "/x?y");
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let mut lines: Vec<String> = head
            .headers()
            .iter()
            .filter(|(name, value)| *name != names::TRACEPARENT || value.as_bytes() == b"kept")
            .map(|(name, value)| format!("{name}: {}", text(value)))
            .collect();
        lines.sort();
        lines
    }

    const OURS: [&str; 7] = [
        "host: api.example.com",
        "x-client-city: München",
        "x-client-country: DE",
        "x-forwarded-for: 10.0.0.1",
        "x-forwarded-host: api.example.com",
        "x-forwarded-proto: https",
        "x-request-id: id",
    ];

    #[test]
    fn an_untrusted_clients_copies_are_replaced() {
        let spoofed = [
            ("host", "other"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "evil"),
            ("x-client-country", "US"),
            ("x-client-region", "CA"),
            ("x-request-id", "mine"),
            ("x-meridian-chosen", "us"),
            ("traceparent", "kept"),
            ("tracestate", "a=b"),
            ("forwarded", "for=1.2.3.4"),
            ("x-consent", "granted"),
            ("x_client_country", "US"),
            ("http2-settings", "x"),
            ("x-real-ip", "192.0.2.1"),
            ("x_forwarded_port", "443"),
            ("x-http-method-override", "DELETE"),
        ];
        assert_eq!(sent(&spoofed, false, false), OURS);
    }

    #[test]
    fn overrides_stay_here_whoever_sends_them_unless_the_route_passes_them() {
        let received = [
            ("x-http-method-override", "DELETE"),
            ("x_original_url", "/admin"),
            ("x-http-method", "DELETE"),
            ("x_http_method", "DELETE"),
            ("x-real-ip", "192.0.2.1"),
            ("x_real_ip", "192.0.2.1"),
            ("x_forwarded_host", "other"),
        ];
        let sent = |trusted| sent(&received, trusted, false).split_off(OURS.len() - 1);
        assert_eq!(sent(false), ["x-http-method: DELETE", "x-request-id: id"]);
        assert_eq!(sent(true), ["x-http-method: DELETE", "x-real-ip: 192.0.2.1", "x-request-id: id"]);
    }

    #[test]
    fn a_trusted_peers_word_counts_where_it_may() {
        let vouched = [
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-proto", "http"),
            ("x-client-country", "US"),
            ("traceparent", "kept"),
            ("x-meridian-chosen", "us"),
        ];
        let mut expected: Vec<String> = OURS.iter().map(|line| (*line).to_owned()).collect();
        expected[3] = "x-forwarded-for: 1.2.3.4, 10.0.0.1".into();
        expected[5] = "x-forwarded-proto: http".into();
        expected.insert(0, "traceparent: kept".into());
        expected.sort();
        assert_eq!(sent(&vouched, true, false), expected);
    }

    #[test]
    fn hop_by_hop_fields_stay_and_cookies_are_joined() {
        let received = [
            ("connection", "keep-alive, x-mine, x-forwarded-for, drop-me"),
            ("keep-alive", "timeout=5"),
            ("drop-me", "1"),
            ("x-mine", "2"),
            ("te", "gzip"),
            ("expect", "100-continue"),
            ("upgrade", "h2c"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
        ];
        let mut expected: Vec<String> = OURS.iter().map(|line| (*line).to_owned()).collect();
        expected.push("cookie: a=1; b=2".to_owned());
        expected.sort();
        assert_eq!(sent(&received, false, false), expected);
    }

    #[test]
    fn upgrades_and_trailers_are_asked_for_anew() {
        let upgrade = sent(&[("connection", "Upgrade"), ("upgrade", "websocket")], false, true);
        assert!(upgrade.contains(&"upgrade: websocket".into()) && upgrade.contains(&"connection: upgrade".into()));
        let trailers = sent(&[("te", "trailers"), ("connection", "te")], false, false);
        assert!(trailers.contains(&"te: trailers".into()) && trailers.contains(&"connection: te".into()));
    }

    #[test]
    fn trailers_say_nothing_that_a_head_must() {
        let rules = TrailerRules::new(&[Some("x-consent"), None]);
        let received = [
            ("grpc-status", "0"),
            ("x-checksum", "1"),
            ("x-client-country", "US"),
            ("x_client_country", "US"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-proto", "https"),
            ("x-meridian-chosen", "us"),
            ("X_Meridian_Consent", "x-consent"),
            ("x-consent", "granted"),
            ("X_Consent", "granted"),
            ("authorization", "Bearer a"),
            ("cookie", "a=b"),
            ("content-length", "5"),
            ("if-match", "a"),
        ];
        let trailers = received.map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()));
        let passed = rules.passed_on(trailers.into_iter().collect()).unwrap();
        let mut names: Vec<&str> = passed.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["grpc-status", "x-checksum"]);
        assert!(rules.passed_on(HeaderMap::new()).is_none());
    }

    #[test]
    fn ids_have_their_form() {
        let id = new_request_id();
        assert!(id.len() == 32 && is_request_id(&id));
        let parent = new_traceparent();
        let parts: Vec<&str> = parent.to_str().unwrap().split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2]);
        assert!(!is_request_id(&HeaderValue::from_static("a b")) && !is_request_id(&HeaderValue::from_static("")));
    }
}
