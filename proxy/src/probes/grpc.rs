//! A probe by gRPC's health protocol, `grpc.health.v1.Health/Check`, whose two messages are small
//! enough to be written here.

use std::future::poll_fn;

use ::http::header::{CONTENT_TYPE, HOST, TE, USER_AGENT};
use ::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use bytes::Bytes;
use policy::round_trip::Answer;

use super::{MAX_BODY, NoAnswer, ProbeReport};
use crate::clock;
use crate::headers::RequestHead;
use crate::health::endpoint::EndpointState;
use crate::origin_load;
use crate::request_body::AttemptBody;
use crate::upstream::connect::Connector;
use crate::upstream::link::{ConnectError, Speak};

/// Asks about a service over HTTP/2, whatever else the endpoint speaks. An error when there is no
/// connection or no answer.
pub(super) async fn ask(
    connector: &Connector,
    endpoint: &EndpointState,
    service: &str,
) -> Result<ProbeReport, NoAnswer> {
    let opened = connector.connect_for_probe(endpoint, None, Speak::Http2).await?;
    let mut connection = opened.ok_or(ConnectError::NoHttp2)?;
    let mut request = Request::post(METHOD).body(())?;
    let headers = request.headers_mut();
    let host = HeaderValue::try_from(endpoint.endpoint.authority()).map_err(::http::Error::from)?;
    headers.insert(HOST, host);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(USER_AGENT, super::USER_AGENT);
    let body = AttemptBody::full(message(&check_request(service)));
    let asked = clock::now();
    let response = connection.send(&RequestHead::Own(Box::new(request)), body, None).await?;
    endpoint.round_trips.answered(Answer::Reply, asked.elapsed());
    let (head, ()) = response.into_parts();
    let note_load =
        |fields: &HeaderMap| origin_load::reported(fields).into_iter().for_each(|load| endpoint.note_load(load));
    note_load(&head.headers);
    let mut status = head.headers.get(STATUS).cloned();
    let mut body = Vec::new();
    while let Some(frame) = poll_fn(|cx| connection.poll_frame(cx)).await {
        let Ok(frame) = frame else { return Ok(failed("the answer broke off")) };
        match frame.into_data() {
            Ok(data) if body.len() + data.len() > MAX_BODY => return Ok(failed("the answer is too long")),
            Ok(data) => body.extend_from_slice(&data),
            Err(frame) => {
                frame.trailers_ref().into_iter().for_each(note_load);
                status = frame.trailers_ref().and_then(|trailers| trailers.get(STATUS)).cloned().or(status);
            }
        }
    }
    let problem = problem(head.status, status.as_ref(), &body);
    let report = problem.map_or(ProbeReport::passed(None), |problem| failed(&problem));
    Ok(ProbeReport { takes_tunnels: connection.takes_tunnels(), ..report })
}

fn failed(why: &str) -> ProbeReport {
    ProbeReport::failed(&format!("gRPC: {why}"), None)
}

/// Returns what is wrong with an answer.
fn problem(http: StatusCode, status: Option<&HeaderValue>, body: &[u8]) -> Option<String> {
    if http != StatusCode::OK {
        return Some(format!("answered HTTP {}", http.as_u16()));
    }
    let Some(status) = status else { return Some("the answer has no grpc-status".to_owned()) };
    if status != "0" {
        let number = status.to_str().ok().and_then(|status| status.parse::<u32>().ok());
        return Some(number.map_or("a malformed grpc-status".to_owned(), |number| format!("grpc-status {number}")));
    }
    match serving_status(body) {
        Some(SERVING) => None,
        Some(0) => Some("UNKNOWN".to_owned()),
        Some(2) => Some("NOT_SERVING".to_owned()),
        Some(3) => Some("SERVICE_UNKNOWN".to_owned()),
        Some(other) => Some(format!("the unknown serving status {other}")),
        None => Some("the answer is no HealthCheckResponse with a status".to_owned()),
    }
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

/// Returns a message with gRPC's prefix: not compressed, and its length.
fn message(content: &[u8]) -> Bytes {
    let mut message = vec![0];
    message.extend_from_slice(&(content.len() as u32).to_be_bytes());
    message.extend_from_slice(content);
    message.into()
}

/// Returns the status of a body that is one message with `HealthCheckResponse { ServingStatus status = 1; }`.
fn serving_status(body: &[u8]) -> Option<u64> {
    let Some((&[0, a, b, c, d], content)) = body.split_first_chunk() else { return None };
    let is_whole = u32::from_be_bytes([a, b, c, d]) as usize == content.len();
    if is_whole { status_of(content) } else { None }
}

/// Returns the last value of field 1, as protobuf wants it; other fields are skipped. `None` without one, or when
/// the message is malformed.
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
    fn what_is_wrong_with_an_answer_is_told() {
        let (ok, zero) = (StatusCode::OK, HeaderValue::from_static("0"));
        let with = |content: &[u8]| problem(ok, Some(&zero), &message(content));
        assert_eq!(with(b"\x08\x01"), None);
        assert_eq!(with(b"\x08\x02").as_deref(), Some("NOT_SERVING"));
        assert_eq!(with(b"\x08\x03").as_deref(), Some("SERVICE_UNKNOWN"));
        assert_eq!(with(b"").as_deref(), Some("the answer is no HealthCheckResponse with a status"));
        for (http, status, expected) in [
            (StatusCode::NOT_FOUND, None, "answered HTTP 404"),
            (ok, None, "the answer has no grpc-status"),
            (ok, Some("12"), "grpc-status 12"),
            (ok, Some("x"), "a malformed grpc-status"),
        ] {
            let status = status.map(HeaderValue::from_static);
            assert_eq!(problem(http, status.as_ref(), b"").as_deref(), Some(expected));
        }
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
            assert_eq!(serving_status(&message(content)) == Some(SERVING), serves, "{content:?}");
        }
        for body in [&b""[..], b"\x01\x00\x00\x00\x02\x08\x01", b"\x00\x00\x00\x00\x03\x08\x01", b"\x00\x00"] {
            assert_eq!(serving_status(body), None, "{body:?}");
        }
    }
}
