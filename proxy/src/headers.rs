//! Header rules: what goes up, what comes down, and whose word counts.

use std::net::IpAddr;

use http::header::{
    ALT_SVC, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderName, HeaderValue, SET_COOKIE, TE, TRAILER, UPGRADE, VIA,
};
use http::{HeaderMap, Method, Request, Uri, Version};
use smallvec::SmallVec;

use crate::affinity_cookie::{COOKIE_NAME, drop_pins, without_pin};
use crate::client::Client;
use crate::fields::{self, Ipv4Text, write_hex};
use crate::framing::{FieldRules, Known, KnownFields, drop_named_by_connection, is_hop_by_hop, is_of_a_head};
use crate::grpc;
use crate::http1::write_field;
use crate::origin_load;
use crate::peers::Sender;
use crate::peers::fields::drop_reserved;
use crate::peers::headers::Vouching;
use crate::peers::signature::Nonce;
use crate::via;

/// What of a request goes upstream, whatever the attempt. It lives while the request is forwarded.
#[derive(Debug)]
pub(crate) struct Outgoing {
    method: Method,
    uri: Uri,
    /// As the client sent them, less what Connection named.
    received: HeaderMap,
    /// What is ours to say, in place of anything received under these names.
    ours: SmallVec<[(HeaderName, HeaderValue); 12]>,
    /// What of the received goes no further.
    rules: FieldRules,
}

/// The head of one attempt. It lives as long as the attempt.
#[derive(Debug)]
pub(crate) enum RequestHead<'a> {
    /// A client's request, to an origin, with what is left of its deadline if it is a gRPC call that has one.
    Client(&'a Outgoing, Option<HeaderValue>),
    /// One that was made for this attempt alone: to another region's gateway, or a probe's.
    Own(Box<Request<()>>),
}

/// What the headers of a request are worth, and what to add to them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Provenance<'a> {
    /// Who the client is.
    pub(crate) client: &'a Client,
    /// Who sends it.
    pub(crate) sender: &'a Sender,
    /// The address of the other end of the connection.
    pub(crate) peer: IpAddr,
    /// `http` or `https`: of the connection, or as another node says that the client came.
    pub(crate) scheme: &'static str,
    /// The host asked for, with its port.
    pub(crate) authority: &'a HeaderValue,
    /// The request's id.
    pub(crate) request_id: &'a HeaderValue,
    /// Further headers that are believed from trusted peers only, in lower case.
    pub(crate) vouched: &'a [Option<&'a str>],
    /// Fields that go on though they are stripped by default, in lower case.
    pub(crate) passed: &'a [String],
    /// Whether it asks for a protocol upgrade.
    pub(crate) upgrade: bool,
    /// What this node says of itself in `Via`, unless it is to be silent.
    pub(crate) via: Option<&'a HeaderValue>,
    /// Which fields the request has that this node acts on.
    pub(crate) known: KnownFields,
}

impl Outgoing {
    /// Returns the headers as the client sent them, less what Connection named.
    pub(crate) fn received(&self) -> &HeaderMap {
        &self.received
    }

    /// Takes a client's headers, and decides what must not go further and what is ours to say.
    pub(crate) fn new(method: Method, uri: &Uri, mut received: HeaderMap, from: Provenance<'_>) -> Self {
        let trusted = !matches!(from.sender, Sender::Stranger);
        let mut ours: SmallVec<[(HeaderName, HeaderValue); 12]> = SmallVec::new();
        let mut say = |name: HeaderName, value: Option<HeaderValue>| ours.extend(value.map(|value| (name, value)));
        let had = |field| from.known.has(field);
        if from.upgrade {
            // As HTTP/2 has it, without the field.
            let protocol = received.get(UPGRADE).cloned().unwrap_or(HeaderValue::from_static("websocket"));
            say(UPGRADE, Some(protocol));
            say(CONNECTION, Some(HeaderValue::from_static("upgrade")));
        } else if had(Known::Te)
            && received.get_all(TE).iter().any(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"))
        {
            // A hop of our own that takes trailers too (RFC 9110, 6.5.1).
            say(TE, Some(HeaderValue::from_static("trailers")));
            say(CONNECTION, Some(HeaderValue::from_static("te")));
        }
        if had(Known::Connection) {
            drop_named_by_connection(&mut received);
        }
        // The next node trusts us, and would take them for our word.
        let rules = FieldRules::new(!trusted, from.vouched, from.passed);
        if let Some(cookies) = if had(Known::Cookie) { received.get(COOKIE) } else { None } {
            let several = received.get_all(COOKIE).iter().nth(1).is_some();
            if several || memchr::memmem::find(cookies.as_bytes(), COOKIE_NAME.as_bytes()).is_some() {
                // HTTP/2 may split what HTTP/1 has in one line (RFC 9113, 8.2.3).
                let crumbs: Vec<&[u8]> = received.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
                let line = without_pin(&crumbs.join(&b"; "[..]));
                received.remove(COOKIE);
                say(COOKIE, line.and_then(|line| HeaderValue::from_bytes(&line).ok()));
            }
        }
        if had(Known::Via) {
            say(VIA, from.via.and_then(|ours| via::with_ours(&received, ours)).or_else(|| received.get(VIA).cloned()));
        } else {
            say(VIA, from.via.cloned());
        }
        let vouched = |field, name: &HeaderName| trusted && had(field) && received.contains_key(name);
        say(HOST, Some(from.authority.clone()));
        say(fields::FORWARDED_FOR, forwarded_for(&received, trusted && had(Known::ForwardedFor), from.peer));
        // Whatever stands between two nodes may have its own idea of how the client came.
        let says_scheme = from.sender.peer().is_some() || !vouched(Known::ForwardedProto, &fields::FORWARDED_PROTO);
        if says_scheme {
            say(fields::FORWARDED_PROTO, Some(HeaderValue::from_static(from.scheme)));
        }
        if !vouched(Known::ForwardedHost, &fields::FORWARDED_HOST) {
            say(fields::FORWARDED_HOST, Some(from.authority.clone()));
        }
        if !vouched(Known::Traceparent, &fields::TRACEPARENT) {
            say(fields::TRACEPARENT, Some(new_traceparent()));
        }
        let client = from.client;
        say(fields::CLIENT_COUNTRY, client.country.clone());
        say(fields::CLIENT_REGION, client.region.clone());
        say(fields::CLIENT_CITY, client.city.clone());
        say(fields::REQUEST_ID, Some(from.request_id.clone()));
        if trusted && says_scheme && had(Known::ForwardedProto) {
            received.remove(fields::FORWARDED_PROTO);
        }
        let path = uri.path_and_query().cloned().unwrap_or(http::uri::PathAndQuery::from_static("/"));
        Self { method, uri: Uri::from(path), received, ours, rules }
    }

    /// Returns the head of one attempt; to another region's gateway it says which region was chosen, and what this
    /// node vouches for.
    pub(crate) fn head(&self, gateway: Option<(&str, &Vouching)>) -> RequestHead<'_> {
        let Some((chosen, vouching)) = gateway else { return RequestHead::Client(self, None) };
        let mut request = self.to_request(None);
        vouching.write(&mut request, chosen);
        RequestHead::Own(Box::new(request))
    }

    /// Returns the fields that go up: what is ours to say first, as Host should be (RFC 9110, 7.2). The rules keep
    /// back whatever was received under the same names.
    fn fields(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        let received = self.received.iter().filter(move |(name, _)| {
            let goes_up = !self.rules.stay_here(name);
            debug_assert!(!goes_up || self.ours.iter().all(|(ours, _)| ours != *name), "{name} is said twice");
            goes_up
        });
        self.ours.iter().map(|(name, value)| (name, value)).chain(received)
    }

    fn to_request(&self, call_timeout: Option<&HeaderValue>) -> Request<()> {
        // One map of the right size: growing or cloning one costs as much as filling it.
        let mut headers = HeaderMap::with_capacity(self.received.len() + self.ours.len() + 1);
        headers.extend(self.fields().map(|(name, value)| (name.clone(), value.clone())));
        if let Some(left) = call_timeout {
            headers.insert(grpc::TIMEOUT, left.clone());
        }
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = headers;
        request
    }
}

impl RequestHead<'_> {
    /// Says how much is left of the deadline of a gRPC call.
    pub(crate) fn set_call_timeout(&mut self, left: HeaderValue) {
        match self {
            RequestHead::Client(_, timeout) => *timeout = Some(left),
            RequestHead::Own(request) => drop(request.headers_mut().insert(grpc::TIMEOUT, left)),
        }
    }

    /// Returns the request's method.
    pub(crate) fn method(&self) -> &Method {
        match self {
            RequestHead::Client(outgoing, _) => &outgoing.method,
            RequestHead::Own(request) => request.method(),
        }
    }

    /// Returns what the answer to a signed request is verified by.
    pub(crate) fn nonce(&self) -> Option<Nonce> {
        match self {
            RequestHead::Client(..) => None,
            RequestHead::Own(request) => request.extensions().get().copied(),
        }
    }

    /// Returns the head in HTTP/1.1's form, as a value of its own.
    pub(crate) fn to_request(&self) -> Request<()> {
        match self {
            RequestHead::Client(outgoing, left) => outgoing.to_request(left.as_ref()),
            RequestHead::Own(request) => (**request).clone(),
        }
    }

    /// Writes the head as HTTP/1.1 has it, without its last, empty line, and without a length: that is for whoever
    /// writes the content. Returns whether the head states one.
    pub(crate) fn write_http1(&self, output: &mut Vec<u8>) -> bool {
        match self {
            RequestHead::Client(outgoing, left) => {
                let name = grpc::TIMEOUT;
                let left = left.iter().map(|left| (&name, left));
                write_head(output, &outgoing.method, &outgoing.uri, outgoing.fields().chain(left))
            }
            RequestHead::Own(request) => write_head(output, request.method(), request.uri(), request.headers().iter()),
        }
    }
}

/// Takes out of an answer's head, which has no field of nodes any more, what does not go down: what is for the origin's
/// own hop, our affinity cookie, in which no origin has a say, Alt-Svc (RFC 7838), which would lead clients past this
/// node, and past the law, and what the origin says of its load. Returns that: see [`origin_load::reported`].
pub(crate) fn filter_answer(headers: &mut HeaderMap) -> Option<f32> {
    let concerns_us = |name: &&HeaderName| {
        is_hop_by_hop(name) || **name == SET_COOKIE || **name == ALT_SVC || origin_load::is_of_load(name)
    };
    let found: SmallVec<[HeaderName; 4]> = headers.keys().filter(concerns_us).cloned().collect();
    if found.contains(&CONNECTION) {
        drop_named_by_connection(headers);
    }
    let load = if found.iter().any(origin_load::is_of_load) { origin_load::reported(headers) } else { None };
    for name in found {
        if name == SET_COOKIE {
            drop_pins(headers);
        } else {
            headers.remove(name);
        }
    }
    load
}

/// Takes out of an interim answer's head what does not go down, and what is said of content, which it has not (RFC 9110, 8.6):
/// some clients would wait for that.
pub(crate) fn filter_interim(headers: &mut HeaderMap) {
    drop_reserved(headers);
    filter_answer(headers);
    headers.remove(CONTENT_LENGTH);
    headers.remove(TRAILER);
}

/// Takes out of an answer's trailers what does not go down, and what has no place after a body (RFC 9110, 6.5.1; RFC
/// 9113, 8.2.2).
pub(crate) fn filter_answer_trailers(trailers: &mut HeaderMap) {
    filter_interim(trailers);
    let of_a_head: SmallVec<[HeaderName; 4]> =
        trailers.keys().filter(|name| **name == SET_COOKIE || **name == HOST || is_of_a_head(name)).cloned().collect();
    of_a_head.iter().for_each(|name| drop(trailers.remove(name)));
}

/// Writes a request line, and all fields but a length (RFC 9112, 3 and 5); whether there is one.
fn write_head<'a>(
    output: &mut Vec<u8>,
    method: &Method,
    uri: &Uri,
    fields: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
) -> bool {
    output.extend_from_slice(method.as_str().as_bytes());
    output.push(b' ');
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    if !path.starts_with(['/', '*']) {
        output.push(b'/');
    }
    output.extend_from_slice(path.as_bytes());
    output.extend_from_slice(b" HTTP/1.1\r\n");
    let mut states_length = false;
    fields.for_each(|(name, value)| {
        if *name == CONTENT_LENGTH {
            states_length = true;
        } else {
            write_field(output, name.as_str(), value.as_bytes());
        }
    });
    states_length
}

/// Returns a traceparent of our own (W3C Trace Context): a new trace, not sampled. Its ids are not zero.
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

/// Returns the list of hops: what is said of those before, if that counts, and the peer itself.
fn forwarded_for(received: &HeaderMap, counts: bool, peer: IpAddr) -> Option<HeaderValue> {
    use std::io::Write;
    let mut list: SmallVec<[u8; 128]> = SmallVec::new();
    if counts {
        for line in received.get_all(fields::FORWARDED_FOR) {
            list.extend_from_slice(line.as_bytes());
            list.extend_from_slice(b", ");
        }
    }
    match peer.to_canonical() {
        IpAddr::V4(address) => list.extend_from_slice(Ipv4Text::of(address).as_bytes()),
        IpAddr::V6(address) => write!(list, "{address}").ok()?,
    }
    HeaderValue::from_bytes(&list).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::Origin;

    /// Returns the head that goes up for these received headers, as sorted `name: value` lines without the random
    /// ones.
    fn sent(received: &[(&str, &str)], trusted: bool, upgrade: bool) -> Vec<String> {
        let client = Client {
            address: IpAddr::from([192, 0, 2, 7]),
            peer_trusted: trusted,
            is_named: true,
            origin: Origin::Unknown,
            evidence: std::sync::Arc::default(),
            anonymous: false,
            coordinates: None,
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
            via: None,
            known: KnownFields::default(),
        };
        let mut headers = HeaderMap::new();
        for (name, value) in received {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let from = Provenance { known: KnownFields::of(&headers), ..from };
        let head = Outgoing::new(Method::GET, &Uri::from_static("/x?y"), headers, from).head(None).to_request();
        assert_eq!(head.uri(), "/x?y");
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let mut lines: Vec<String> = head
            .headers()
            .iter()
            .filter(|(name, value)| *name != fields::TRACEPARENT || value.as_bytes() == b"kept")
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
    fn traceparents_have_their_form() {
        let parent = new_traceparent();
        let parts: Vec<&str> = parent.to_str().unwrap().split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2]);
    }
}
