//! Reads a request's head (RFC 9112, 3 and 5), and says what follows it (RFC 9112, 6.3) and whether another request may.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, EXPECT, HeaderName, HeaderValue, TE};
use http::{HeaderMap, Method, Request, Uri, Version};

use crate::framing::{self, HeadFault, has_token};
use crate::grpc;
use crate::http1::Content;

/// A request's head, and what it says of what follows.
#[derive(Debug)]
pub(super) struct RequestHead {
    /// The head; of one that cannot be read, as much as is known of it.
    pub(super) request: Request<()>,
    /// What is wrong with it: nothing after it can be relied on.
    pub(super) fault: Option<HeadFault>,
    /// What follows.
    pub(super) content: Content,
    /// Whether the client would send another request after it.
    pub(super) keeps_alive: bool,
    /// Whether the client takes the trailers of an answer (RFC 9110, 10.1.4).
    pub(super) takes_trailers: bool,
    /// Whether the client waits for our word before it sends the content (RFC 9110, 10.1.1).
    pub(super) expects_continue: bool,
}

/// Where the search for a head's end is: what was searched is not searched again.
#[derive(Debug, Default)]
pub(super) struct Search {
    searched: usize,
}

impl Search {
    /// Takes a complete head of at most `most` bytes out of what has arrived, without the empty lines before it;
    /// `None` while there is none.
    pub(super) fn take_head(&mut self, input: &mut BytesMut, most: usize) -> Option<RequestHead> {
        if self.searched == 0 {
            let blank = input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            input.advance(blank);
        }
        let Some(length) = framing::head_end(input, self.searched) else {
            // An end that has begun to arrive is at most so long.
            self.searched = input.len().saturating_sub(2);
            return (input.len() > most).then(|| unreadable(HeadFault::TooLong));
        };
        self.searched = 0;
        if length > most {
            return Some(unreadable(HeadFault::TooLong));
        }
        Some(parse(&input.split_to(length).freeze()).unwrap_or_else(unreadable))
    }
}

/// Returns the little that there is to say of a head that cannot be read, for the log.
fn unreadable(fault: HeadFault) -> RequestHead {
    let mut request = Request::new(());
    *request.uri_mut() = Uri::from_static("*");
    *request.method_mut() = Method::from_bytes(b"-").unwrap_or_default();
    RequestHead {
        request,
        fault: Some(fault),
        content: Content::UntilClose,
        keeps_alive: false,
        takes_trailers: false,
        expects_continue: false,
    }
}

fn parse(head: &Bytes) -> Result<RequestHead, HeadFault> {
    if let Some(fault) = framing::line_fault(head) {
        return Err(HeadFault::Ambiguous(fault));
    }
    let mut few = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; USUAL_FIELDS];
    match parse_into(head, &mut few) {
        Err(HeadFault::TooLong) => parse_into(head, &mut vec![MaybeUninit::uninit(); MAX_FIELDS]),
        parsed => parsed,
    }
}

fn parse_into<'a>(head: &'a Bytes, fields: &mut [MaybeUninit<httparse::Header<'a>>]) -> Result<RequestHead, HeadFault> {
    const MALFORMED: HeadFault = HeadFault::Ambiguous("its head is malformed");
    let mut parsed = httparse::Request::new(&mut []);
    match httparse::ParserConfig::default().parse_request_with_uninit_headers(&mut parsed, head, fields) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(MALFORMED),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadFault::TooLong),
        Err(httparse::Error::Version) if names_version(head) => return Err(HeadFault::Version),
        Err(error) => return Err(HeadFault::Ambiguous(in_words(error))),
    }
    let target = parsed.path.unwrap_or_default();
    if target.len() > LONGEST_TARGET {
        return Err(HeadFault::TargetTooLong);
    }
    let mut headers = HeaderMap::with_capacity(parsed.headers.len());
    let mut concerns_us = false;
    for field in &*parsed.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes())
            .map_err(|_| HeadFault::Ambiguous("the name of a header field is malformed"))?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value))
            .map_err(|_| HeadFault::Ambiguous("the value of a header field is malformed"))?;
        concerns_us |= matches!(name.as_str(), "connection" | "content-length" | "expect" | "te" | "transfer-encoding");
        headers.append(name, value);
    }
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes())
        .map_err(|_| HeadFault::Ambiguous("its method is malformed"))?;
    *request.uri_mut() = Uri::from_maybe_shared(head.slice_ref(target.as_bytes()))
        .map_err(|_| HeadFault::Ambiguous("its target is malformed"))?;
    let version = if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    *request.version_mut() = version;
    if !concerns_us {
        // Most heads are like this: nothing follows them, and they say nothing of their connection.
        *request.headers_mut() = headers;
        let (content, keeps_alive) = (Content::Length(0), version == Version::HTTP_11);
        return Ok(RequestHead {
            request,
            fault: None,
            content,
            keeps_alive,
            takes_trailers: false,
            expects_continue: false,
        });
    }
    let (fault, content) = match framing::request_content(version, &headers) {
        Ok(length) => (None, length),
        Err(why) => (Some(HeadFault::Ambiguous(why)), Content::UntilClose),
    };
    let says = |name, what| headers.get_all(name).iter().any(|value| has_token(value, what));
    let keeps_alive = match headers.contains_key(CONNECTION) {
        false => version == Version::HTTP_11,
        true => !says(CONNECTION, "close") && (version == Version::HTTP_11 || says(CONNECTION, "keep-alive")),
    };
    let takes_trailers = headers.contains_key(TE) && says(TE, "trailers");
    let expects_continue = version == Version::HTTP_11
        && content != Content::Length(0)
        && headers.contains_key(EXPECT)
        && says(EXPECT, "100-continue")
        // A call gets no interim answer, and so is not waited for.
        && !grpc::is_call(request.method(), &headers);
    *request.headers_mut() = headers;
    Ok(RequestHead { request, fault, content, keeps_alive, takes_trailers, expects_continue })
}

/// Returns whether a request line ends with some version of HTTP, and so is what it looks like.
fn names_version(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ').skip(2);
    let is_version = |word: &[u8]| matches!(word, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit());
    words.next().is_some_and(is_version) && words.next().is_none()
}

fn in_words(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "the name of a header field is malformed",
        httparse::Error::HeaderValue => "the value of a header field is malformed",
        httparse::Error::NewLine => "a line ends amiss",
        httparse::Error::Token => "its request line is malformed",
        httparse::Error::Version => "its request line is malformed",
        httparse::Error::Status | httparse::Error::TooManyHeaders => "its head is malformed",
    }
}

/// Fields that a head has room for without an allocation: three times what most have.
const USUAL_FIELDS: usize = 64;
/// Fields of one head at most, with those of other nodes. The node's own limit (`limits.headers`) is for clients'.
const MAX_FIELDS: usize = 1024;
/// What a target may have at most; the same for the library that reads it.
const LONGEST_TARGET: usize = (u16::MAX - 1) as usize;

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a head that arrives in these pieces; its fault, in words, or what it says.
    fn read(pieces: &[&[u8]]) -> Option<Result<(String, Content, bool), String>> {
        let (mut input, mut search) = (BytesMut::new(), Search::default());
        let mut found = None;
        for piece in pieces {
            input.extend_from_slice(piece);
            found = found.or_else(|| search.take_head(&mut input, 1000));
        }
        found.map(|head| match head.fault {
            Some(fault) => Err(format!("{fault:?}")),
            None => Ok((format!("{} {}", head.request.method(), head.request.uri()), head.content, head.keeps_alive)),
        })
    }

    #[test]
    fn heads_are_read_wherever_they_are_cut() {
        type Read = Option<Result<(&'static str, Content, bool), &'static str>>;
        let cases: &[(&str, Read)] = &[
            ("GET /a HTTP/1.1\r\nHost: x\r\n\r\n", Some(Ok(("GET /a", Content::Length(0), true)))),
            ("\r\n\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n", Some(Ok(("GET /a", Content::Length(0), true)))),
            ("GET /a HTTP/1.0\r\n\r\n", Some(Ok(("GET /a", Content::Length(0), false)))),
            ("GET /a HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", Some(Ok(("GET /a", Content::Length(0), true)))),
            ("GET / HTTP/1.1\r\nConnection: x, close\r\n\r\n", Some(Ok(("GET /", Content::Length(0), false)))),
            (
                "GET / HTTP/1.0\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n",
                Some(Ok(("GET /", Content::Length(0), false))),
            ),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n", Some(Ok(("POST /", Content::Length(3), true)))),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n", Some(Ok(("POST /", Content::Chunked, true)))),
            ("GET /a HTTP/1.1\r\nHost: x\r\n", None),
            ("GET /a HTTP/1.1\nHost: x\n\n", Some(Err("carriage return"))),
            ("GET /a HTTP/1.1\r\nHost: x\r\n\n", Some(Err("carriage return"))),
            ("GET /a HTTP/1.1\r\nA: x\ry\r\n\r\n", Some(Err("carriage return"))),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", Some(Err("both"))),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", Some(Err("two Content-Lengths"))),
            ("POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\n", Some(Err("no number"))),
            ("POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\n", Some(Err("no number"))),
            ("POST / HTTP/1.1\r\nContent-Length: \r\n\r\n", Some(Err("no number"))),
            ("POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", Some(Err("no number"))),
            ("POST / HTTP/1.1\r\nContent-Length : 3\r\n\r\n", Some(Err("name of a header field"))),
            ("POST / HTTP/1.1\r\n Content-Length: 3\r\n\r\n", Some(Err("malformed"))),
            ("POST / HTTP/1.1\r\nA: b\r\n Content-Length: 3\r\n\r\n", Some(Err("malformed"))),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Some(Err("other than chunked"))),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Some(Err("HTTP/1.0"))),
            ("GET /a HTTP/2.0\r\n\r\n", Some(Err("Version"))),
            ("GET /a HTTP/1.2\r\n\r\n", Some(Err("Version"))),
            ("GET /a b HTTP/1.1\r\n\r\n", Some(Err("request line"))),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n\r\n", Some(Err("request line"))),
            ("GET /a\r\n\r\n", Some(Err(""))),
            ("GET  /a HTTP/1.1\r\n\r\n", Some(Err(""))),
            ("G@T /a HTTP/1.1\r\n\r\n", Some(Err("request line"))),
            ("\x16\x03\x01\x02\x00\r\n\r\n", Some(Err("request line"))),
        ];
        for (text, expected) in cases {
            for cut in 0..text.len() {
                let (first, second) = text.as_bytes().split_at(cut);
                match (read(&[first, second]), expected) {
                    (None, None) => {}
                    (Some(Ok((line, content, keeps))), Some(Ok(expected))) => {
                        assert_eq!((line.as_str(), content, keeps), *expected, "{text:?} cut at {cut}");
                    }
                    (Some(Err(why)), Some(Err(expected))) => {
                        assert!(why.contains(expected), "{text:?} cut at {cut}: {why}");
                    }
                    (got, _) => panic!("{text:?} cut at {cut}: {got:?}"),
                }
            }
        }
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_is_whole() {
        let mut search = Search::default();
        let mut input = BytesMut::from(&b"GET / HTTP/1.1\r\nA: "[..]);
        let mut reads = 0;
        while search.take_head(&mut input, 1000).is_none() {
            input.extend_from_slice(b"xxxxxxxxxx");
            reads += 1;
        }
        assert_eq!(reads, 99);
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_FIELDS + 1));
        let head = Search::default().take_head(&mut BytesMut::from(many.as_bytes()), 100_000);
        assert_eq!(head.and_then(|head| head.fault), Some(HeadFault::TooLong));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_FIELDS));
        let head = Search::default().take_head(&mut BytesMut::from(many.as_bytes()), 100_000).expect("a head");
        assert_eq!((head.fault, head.request.headers().len()), (None, MAX_FIELDS));
    }
}
