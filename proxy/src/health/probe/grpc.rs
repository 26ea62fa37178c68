//! A probe by gRPC's health protocol, `grpc.health.v1.Health/Check`, whose two messages are small
//! enough to be written here.

use ::http::header::{CONTENT_TYPE, HOST, TE, USER_AGENT};
use ::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use bytes::Bytes;
use config::Endpoint;
use http_body_util::BodyExt;

use super::{Found, MAX_BODY};
use crate::upstream::body::AttemptBody;
use crate::upstream::connect::{Connector, Speak};

/// Asks about a service over HTTP/2, whatever else the endpoint speaks. `None` when there is no
/// connection or no answer.
pub(super) async fn ask(connector: &Connector, endpoint: &Endpoint, service: &str) -> Option<Found> {
    let mut connection = connector.connect_for_probe(endpoint, Speak::Http2).await.ok()??;
    let mut request = Request::post(METHOD).body(AttemptBody::full(message(&check_request(service)))).ok()?;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::try_from(endpoint.authority()).ok()?);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(USER_AGENT, super::USER_AGENT);
    let response = connection.send(request).await.ok()?;
    let (head, mut incoming) = response.into_parts();
    let mut succeeded = is_ok(&head.headers);
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let Ok(frame) = frame else { return Some(Found::answered(false, None)) };
        match frame.into_data() {
            Ok(data) if body.len() + data.len() > MAX_BODY => return Some(Found::answered(false, None)),
            Ok(data) => body.extend_from_slice(&data),
            Err(frame) => succeeded |= frame.trailers_ref().is_some_and(is_ok),
        }
    }
    let passed = head.status == StatusCode::OK && succeeded && is_serving(&body);
    Some(Found::answered(passed, None))
}

const METHOD: &str = "/grpc.health.v1.Health/Check";
const STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// `HealthCheckRequest { string service = 1; }`; an empty string is left out.
fn check_request(service: &str) -> Vec<u8> {
    let mut request = Vec::new();
    if !service.is_empty() {
        request.push(FIELD_1 << 3 | LENGTH_DELIMITED);
        let mut length = service.len();
        while length > 0x7f {
            request.push(length as u8 | 0x80);
            length >>= 7;
        }
        request.push(length as u8);
        request.extend_from_slice(service.as_bytes());
    }
    request
}

/// A message with gRPC's prefix: not compressed, and its length.
fn message(content: &[u8]) -> Bytes {
    let mut message = vec![0];
    message.extend_from_slice(&(content.len() as u32).to_be_bytes());
    message.extend_from_slice(content);
    message.into()
}

fn is_ok(headers: &HeaderMap) -> bool {
    headers.get(STATUS).is_some_and(|status| status == "0")
}

/// Whether a body is one message with `HealthCheckResponse { ServingStatus status = 1; }` and the
/// status is `SERVING`.
fn is_serving(body: &[u8]) -> bool {
    let Some((&[0, a, b, c, d], content)) = body.split_first_chunk() else { return false };
    u32::from_be_bytes([a, b, c, d]) as usize == content.len() && status_of(content) == Some(SERVING)
}

/// The last value of field 1, as protobuf wants it; other fields are skipped. `None` without one, or
/// when the message is malformed.
fn status_of(mut content: &[u8]) -> Option<u64> {
    let mut status = None;
    while !content.is_empty() {
        let key = varint(&mut content)?;
        let skipped = match (key & 7) as u8 {
            VARINT => {
                let value = varint(&mut content)?;
                if key >> 3 == u64::from(FIELD_1) {
                    status = Some(value);
                }
                0
            }
            FIXED_64 => 8,
            LENGTH_DELIMITED => usize::try_from(varint(&mut content)?).ok()?,
            FIXED_32 => 4,
            _ => return None,
        };
        content = content.get(skipped..)?;
    }
    status
}

/// Takes a number of seven bits to the byte, the lowest first, of ten bytes at most.
fn varint(content: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = content.split_first()?;
        *content = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

const SERVING: u64 = 1;
const FIELD_1: u8 = 1;
const VARINT: u8 = 0;
const FIXED_64: u8 = 1;
const LENGTH_DELIMITED: u8 = 2;
const FIXED_32: u8 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_what_protobuf_says() {
        assert_eq!(message(&check_request("")).as_ref(), [0, 0, 0, 0, 0]);
        assert_eq!(message(&check_request("a.B")).as_ref(), b"\x00\x00\x00\x00\x05\x0a\x03a.B");
        let long = check_request(&"x".repeat(300));
        assert_eq!(long.get(..3), Some(&[0x0a, 0xac, 0x02][..]));
    }

    #[test]
    fn only_serving_serves() {
        for (content, serves) in [
            (&b"\x08\x01"[..], true),
            (b"\x08\x02", false),
            (b"\x08\x00", false),
            (b"", false),
            // Other fields before and after, and a later value that counts.
            (b"\x12\x02hi\x08\x01\x1d\x00\x00\x00\x00\x21\x00\x00\x00\x00\x00\x00\x00\x00", true),
            (b"\x08\x01\x08\x02", false),
            (b"\x08\x81\x80\x80\x80\x80\x80\x80\x80\x80\x00", true),
            (b"\x08\x81\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", false),
            (b"\x08", false),
            (b"\x08\x01\x12\x05hi", false),
            (b"\x0b", false),
        ] {
            assert_eq!(is_serving(&message(content)), serves, "{content:?}");
        }
        for body in [&b""[..], b"\x01\x00\x00\x00\x02\x08\x01", b"\x00\x00\x00\x00\x03\x08\x01", b"\x00\x00"] {
            assert!(!is_serving(body), "{body:?}");
        }
    }
}
