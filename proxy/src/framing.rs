//! What HTTP leaves to whoever stands in between: checks of heads, versions, hosts, hop-by-hop fields, trailers
//! and overrides, so that nobody before or after this node reads the same bytes otherwise.
//!
//! What is forwarded is framed anew, so that nothing is smuggled through; but a proxy in front may have read the same
//! bytes otherwise, and what that takes for a body would be a request here. Heads that can be read in two ways are refused.

mod known_fields;

use std::borrow::Cow;
use std::net::Ipv6Addr;

use h2::ext::Protocol;
use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Uri, Version};
use memchr::memchr_iter;
use policy::Payload;
use policy::path::Ambiguity;
use policy::stripped::{Stripped, plain};
use smallvec::SmallVec;

use crate::http1::Content;
use crate::peers::fields::is_reserved;
pub(crate) use known_fields::{Known, KnownFields};

/// Why a request's head is refused before anybody asks what it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadFault {
    /// It is malformed, or can be read in two ways: why, after "because".
    Ambiguous(&'static str),
    /// It is longer, or has more fields, than the node takes.
    TooLong,
    /// Its target is.
    TargetTooLong,
    /// It is of a version of HTTP that is not spoken here.
    Version,
}

/// Returns the length of the head at the start of these bytes, with the empty line after it; `None` while its end is not in
/// sight. The first `searched` bytes hold no end.
pub(crate) fn head_end(bytes: &[u8], searched: usize) -> Option<usize> {
    let rest = bytes.get(searched..)?;
    memchr_iter(b'\n', rest).find_map(|at| match rest.get(at + 1..)? {
        [b'\n', ..] => Some(searched + at + 2),
        [b'\r', b'\n', ..] => Some(searched + at + 3),
        _ => None,
    })
}

/// Returns what is wrong with the lines of an HTTP/1 head that its parser forgives, and a proxy must not, if anything:
/// line feeds without a carriage return, and carriage returns inside a line (RFC 9112, 2.2).
pub(crate) fn line_fault(head: &[u8]) -> Option<&'static str> {
    let mut lines = 0;
    for end in memchr_iter(b'\n', head) {
        if end == 0 || head.get(end - 1) != Some(&b'\r') {
            return Some("a line ends without a carriage return");
        }
        lines += 1;
    }
    // One ends each line.
    (memchr_iter(b'\r', head).count() != lines).then_some("a carriage return stands inside a line")
}

/// Returns how the content of an HTTP/1 request is delimited (RFC 9112, 6.1 to 6.3).
///
/// # Errors
/// When it can be read in two ways (RFC 9112, 11.2), or is delimited in no way that is known here.
pub(crate) fn request_content(version: Version, headers: &HeaderMap) -> Result<Content, &'static str> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (lengths.next(), codings.next()) {
        (None, None) => Ok(Content::Length(0)),
        (Some(_), Some(_)) => Err("there are both a Content-Length and a Transfer-Encoding"),
        (None, Some(_)) if version == Version::HTTP_10 => Err("HTTP/1.0 has no Transfer-Encoding"),
        (None, Some(_)) if codings.next().is_some() => Err("there are two Transfer-Encodings"),
        (None, Some(coding)) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(Content::Chunked),
        (None, Some(_)) => Err("its Transfer-Encoding is other than chunked"),
        (Some(_), None) if lengths.next().is_some() => Err("there are two Content-Lengths"),
        (Some(length), None) => {
            let digits = length.to_str().ok().filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()));
            let length = digits.and_then(|digits| digits.parse().ok());
            length.map(Content::Length).ok_or("its Content-Length is no number")
        }
    }
}

/// The size of a request's head, and what else one look at all its fields finds out.
pub(crate) struct HeadSize {
    fields: usize,
    bytes: usize,
    /// Whether there are fields that only nodes may write. They count for no limit of a client's.
    pub(crate) has_reserved: bool,
    /// Which of the other fields it has that this node acts on.
    pub(crate) known: KnownFields,
}

impl HeadSize {
    /// Measures a head.
    pub(crate) fn of(parts: &Parts) -> Self {
        let target = parts.uri.path_and_query().map_or(0, |path| path.as_str().len());
        let bytes = parts.method.as_str().len() + target + REQUEST_LINE_OVERHEAD;
        let mut size = Self { fields: 0, bytes, has_reserved: false, known: KnownFields::default() };
        let mut has_cookies = false;
        for (name, value) in &parts.headers {
            if is_reserved(name) {
                size.has_reserved = true;
                continue;
            }
            size.known.note(name);
            // HTTP/2 splits what HTTP/1 has in one line (RFC 9113, 8.2.3): it is one field, however many bytes it has.
            if *name != COOKIE || !std::mem::replace(&mut has_cookies, true) {
                size.fields += 1;
            }
            size.bytes += name.as_str().len() + value.len() + FIELD_OVERHEAD;
        }
        size
    }

    /// Returns whether it is past its limits. The parser's own are twice as wide, so that what is a little too
    /// long gets an answer that says so.
    pub(crate) fn is_too_long(&self, limits: &config::Limits) -> bool {
        self.fields > limits.headers || self.bytes > limits.header_bytes
    }
}

/// A colon, a space, and the line's end.
const FIELD_OVERHEAD: usize = 4;
/// Two spaces, the version, the line's end, and the empty line after the head.
const REQUEST_LINE_OVERHEAD: usize = 14;

/// Returns the length that a head gives to its body.
pub(crate) fn content_length(parts: &Parts) -> Option<u64> {
    parts.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Returns the authority asked for: `:authority`, the absolute form's, or Host (RFC 9110, 7.2; RFC 9112, 3.2; RFC
/// 9113, 8.3.1). Two that differ are refused.
///
/// # Errors
/// When there is none, or another.
pub(crate) fn authority(version: Version, uri: &Uri, headers: &HeaderMap) -> Result<HeaderValue, Ambiguity> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err("there are two Host headers");
    }
    // RFC 9113, 8.3.1: it is one that is valid. The parser takes none for one.
    if uri.scheme_str() == Some("") {
        return Err("its scheme is empty");
    }
    let asked = uri.authority().map(http::uri::Authority::as_str);
    match (asked, host) {
        (None, None) if version == Version::HTTP_10 => Err("an HTTP/1.0 request without Host cannot be routed"),
        (None, None) => Err("there is no Host"),
        (Some(asked), Some(host)) if !asked.as_bytes().eq_ignore_ascii_case(host.as_bytes()) => {
            Err("Host and the request target's authority differ")
        }
        // RFC 9112, 3.2: whatever the form of its target.
        (Some(_), None) if version == Version::HTTP_11 => Err("there is no Host"),
        (_, Some(host)) => Ok(host.clone()),
        (Some(asked), None) => HeaderValue::from_str(asked).map_err(|_| "the authority is not text"),
    }
}

/// Returns the host of an authority, normalised: in lower case, without port, final dot, or brackets.
///
/// # Errors
/// When it is no host name, or its port no number.
pub(crate) fn host(authority: &str) -> Result<Cow<'_, str>, Ambiguity> {
    if is_normal_host(authority) {
        return Ok(authority.into());
    }
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => {
            // RFC 3986, 3.2.3: an empty one is the scheme's.
            let is_number = port.bytes().all(|digit| digit.is_ascii_digit()) && port.parse::<u16>().is_ok();
            if !port.is_empty() && !is_number {
                return Err("the Host has a port that is no number");
            }
            name
        }
        _ => authority,
    };
    if let Some(bracketed) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        // In the one form of the address, as in a table: no zero more or less may lead to another route.
        return bracketed.parse::<Ipv6Addr>().map(|address| address.to_string().into()).map_err(|_| NO_HOST_NAME);
    }
    let valid = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    let name = name.strip_suffix('.').unwrap_or(name);
    if !valid
        || name.is_empty()
        || name.len() > LONGEST_HOST
        || name.starts_with('.')
        || name.ends_with('.')
        || name.contains("..")
    {
        return Err(NO_HOST_NAME);
    }
    Ok(name.to_ascii_lowercase().into())
}

/// Returns whether an authority is a host in its normal form already, as nearly all are: then it needs no second look.
fn is_normal_host(authority: &str) -> bool {
    let mut before = b'.';
    let normal = authority.bytes().all(|byte| {
        let fits = match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => true,
            b'.' => before != b'.',
            _ => false,
        };
        before = byte;
        fits
    });
    normal && before != b'.' && authority.len() <= LONGEST_HOST
}

/// RFC 1035, 2.3.4, without the root's dot and the first length.
const LONGEST_HOST: usize = 253;

const NO_HOST_NAME: Ambiguity = "the Host is not a host name";

/// Returns whether a request asks for a WebSocket: a GET (RFC 6455, 4.1), which over HTTP/2 was an extended CONNECT (RFC
/// 8441). No other upgrade passes: through one to h2c a client could send requests that nobody decides on.
fn asks_upgrade<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    *request.method() == Method::GET
        && match request.version() {
            Version::HTTP_11 => {
                headers.get(UPGRADE).is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
                    && headers.get_all(CONNECTION).iter().any(|value| has_token(value, "upgrade"))
            }
            // The library takes `:protocol` with CONNECT only.
            Version::HTTP_2 => request.extensions().get::<Protocol>().is_some(),
            _ => false,
        }
}

/// Returns what a client sends after a request's head.
pub(crate) fn payload<B: http_body::Body>(request: &Request<B>) -> Payload {
    match asks_upgrade(request) {
        true => Payload::Tunnel,
        false if request.body().is_end_stream() => Payload::Nothing,
        false => Payload::Content,
    }
}

/// Returns whether a field is meant for this hop only (RFC 9110, 7.6.1), besides those that Connection names. The body's
/// framing is this hop's too; a length stays, and is checked.
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(name.as_str(), "connection" | "keep-alive" | "proxy-connection" | "te" | "transfer-encoding" | "upgrade")
}

/// Drops the fields that Connection names (RFC 9110, 7.6.1).
pub(crate) fn drop_named_by_connection(headers: &mut HeaderMap) {
    if !headers.contains_key(CONNECTION) {
        return;
    }
    let named = headers.get_all(CONNECTION).iter().flat_map(tokens).filter_map(|token| token.parse().ok());
    // Nobody may have the fields dropped that say who a client is, how long a body is, or who has passed it on.
    let named: SmallVec<[HeaderName; 4]> = named
        .filter(|name: &HeaderName| {
            *name != HOST && *name != CONTENT_LENGTH && *name != VIA && !name.as_str().starts_with("x-forwarded-")
        })
        .collect();
    named.iter().for_each(|name| drop(headers.remove(name)));
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or("").split(',').map(str::trim).filter(|token| !token.is_empty())
}

/// Returns whether a list names a token, in whatever case.
pub(crate) fn has_token(value: &HeaderValue, wanted: &str) -> bool {
    tokens(value).any(|token| token.eq_ignore_ascii_case(wanted))
}

/// Which of a client's fields go no further.
#[derive(Clone, Debug)]
pub(crate) struct FieldRules {
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
pub(crate) struct TrailerRules(FieldRules);

impl FieldRules {
    /// For a sender who is `untrusted` or not, on a route with these `vouched` headers, and `passed` ones.
    pub(crate) fn new(untrusted: bool, vouched: &[Option<&str>], passed: &[String]) -> Self {
        let unvouched = vouched.iter().flatten().filter(|_| untrusted).map(|name| plain(name).into_owned()).collect();
        Self { untrusted, unvouched, passed: passed.iter().cloned().collect() }
    }

    /// Returns whether a received field goes no further: it is for this hop, it is ours to set, or nobody
    /// has vouched for it.
    pub(crate) fn stay_here(&self, name: &HeaderName) -> bool {
        if is_reserved(name) {
            return true;
        }
        let name = name.as_str();
        // CGI and its heirs cannot tell `x_client_country` from `x-client-country`.
        let plainly = plain(name);
        plainly.starts_with("x-meridian-")
            || self.names_ours(&plainly)
            || self.is_stripped(name, &plainly)
            || self.unvouched.iter().any(|other| *other == plainly)
    }

    /// Returns whether a field is stripped by default, and its route does not pass it on under this very name.
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
            "x-request-id" | "via" => true,
            "forwarded" | "tracestate" | "traceparent" | "x-forwarded-proto" | "x-forwarded-host" => self.untrusted,
            _ => false,
        }
    }
}

impl TrailerRules {
    /// For a request on whose route these headers are believed from trusted peers only.
    pub(crate) fn new(vouched: &[Option<&str>]) -> Self {
        Self(FieldRules::new(true, vouched, &[]))
    }

    /// Returns what of a request's trailers goes up; `None` when nothing is left.
    pub(crate) fn passed_on(&self, mut trailers: HeaderMap) -> Option<HeaderMap> {
        let dropped: SmallVec<[HeaderName; 4]> =
            trailers.keys().filter(|name| self.0.stay_here(name) || is_of_a_head(name)).cloned().collect();
        dropped.iter().for_each(|name| drop(trailers.remove(name)));
        (!trailers.is_empty()).then_some(trailers)
    }
}

/// Returns whether a field has no place after a body (RFC 9110, 6.5.1): who asks, what for, and how long the body
/// is, is decided by then. An origin that merges trailers into its headers would take it for the head's.
pub(crate) fn is_of_a_head(name: &HeaderName) -> bool {
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

#[cfg(test)]
mod tests;
