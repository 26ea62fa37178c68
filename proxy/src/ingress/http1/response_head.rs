//! Writes an answer's head (RFC 9112, 4 and 5), and says how its content is framed (RFC 9112, 6).

use http::header::{CONNECTION, CONTENT_LENGTH, DATE};
use http::response::Parts;
use http::{HeaderMap, Response, StatusCode, Version};
use http_body::SizeHint;
use hyper::ext::ReasonPhrase;

use crate::clock::http_date;
use crate::headers::filter_interim;
use crate::http1::{Framing, write_field, write_length};

/// What of a request its answer must fit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// The version of HTTP that the client speaks.
    pub(super) version: Version,
    /// Whether it is a HEAD, whose answer has no content.
    pub(super) is_head: bool,
    /// Whether another request may follow, by what the client says.
    pub(super) keeps_alive: bool,
    /// Whether trailers are taken.
    pub(super) takes_trailers: bool,
}

/// How an answer goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Framed {
    /// How its content is delimited.
    pub(super) framing: Framing,
    /// Whether another request may follow.
    pub(super) keeps_alive: bool,
}

/// Writes a head, whose content is as long as `length` says. `closes` says that no request is taken after it.
pub(super) fn write_head(output: &mut Vec<u8>, head: &Parts, length: &SizeHint, asked: Asked, closes: bool) -> Framed {
    let status = head.status;
    write_status(output, status, head.extensions.get::<ReasonPhrase>());
    let switches = status == StatusCode::SWITCHING_PROTOCOLS;
    let has_no_length = status.is_informational() || status == StatusCode::NO_CONTENT;
    let has_none = has_no_length || asked.is_head || status == StatusCode::NOT_MODIFIED;
    let framing = match length.exact() {
        _ if has_none => Framing::Ended,
        Some(length) => Framing::Length(length),
        None if asked.version == Version::HTTP_11 => Framing::Chunked,
        None => Framing::UntilClose,
    };
    let mut says_connection = false;
    let mut says_date = false;
    for (name, value) in &head.headers {
        if *name == CONTENT_LENGTH && (!has_none || has_no_length) {
            continue;
        }
        says_connection |= *name == CONNECTION;
        says_date |= *name == DATE;
        write_field(output, name.as_str(), value.as_bytes());
    }
    match framing {
        Framing::Length(length) => write_length(output, length),
        Framing::Chunked => output.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::UntilClose | Framing::Ended => {}
    }
    // What the exchange says of the connection, it says to close it, or to change its protocol.
    let keeps_alive = asked.keeps_alive && !closes && framing != Framing::UntilClose && (!says_connection || switches);
    if !says_connection && !keeps_alive {
        output.extend_from_slice(b"connection: close\r\n");
    } else if !says_connection && asked.version == Version::HTTP_10 {
        output.extend_from_slice(b"connection: keep-alive\r\n");
    }
    if !says_date {
        write_field(output, "date", &http_date());
    }
    output.extend_from_slice(b"\r\n");
    let framing = match framing {
        Framing::Length(0) => Framing::Ended,
        framing => framing,
    };
    Framed { framing, keeps_alive }
}

/// Writes the head of an interim answer: without what is for another hop, or for nodes.
pub(super) fn write_interim(output: &mut Vec<u8>, head: &Response<()>) {
    write_status(output, head.status(), head.extensions().get());
    let mut fields: HeaderMap = head.headers().clone();
    filter_interim(&mut fields);
    for (name, value) in &fields {
        write_field(output, name.as_str(), value.as_bytes());
    }
    output.extend_from_slice(b"\r\n");
}

/// Writes a status line. The version is our own, whatever the client's (RFC 9110, 6.2).
fn write_status(output: &mut Vec<u8>, status: StatusCode, reason: Option<&ReasonPhrase>) {
    output.extend_from_slice(b"HTTP/1.1 ");
    output.extend_from_slice(status.as_str().as_bytes());
    output.push(b' ');
    match reason {
        Some(reason) => output.extend_from_slice(reason.as_bytes()),
        None => output.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes()),
    }
    output.extend_from_slice(b"\r\n");
}
