//! Names of fields that this proxy owns: a client's own copies never reach an origin. Those between nodes, and
//! to clients, are `peers::fields`'. And the form of a request's id.

use http::{HeaderName, HeaderValue};

/// The addresses that a request came through (de facto standard).
pub(crate) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `http` or `https`, as the client came.
pub(crate) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The host that the client asked for.
pub(crate) const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The client's country, by the geo databases.
pub(crate) const CLIENT_COUNTRY: HeaderName = HeaderName::from_static("x-client-country");
/// The client's region within its country.
pub(crate) const CLIENT_REGION: HeaderName = HeaderName::from_static("x-client-region");
/// The client's city.
pub(crate) const CLIENT_CITY: HeaderName = HeaderName::from_static("x-client-city");
/// The request's id.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// W3C Trace Context.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The field of a probe's answer in which a replica says by how many seconds it lags.
pub(crate) const REPLICATION_LAG: HeaderName = HeaderName::from_static("x-replication-lag");

/// Makes a new request id: 128 random bits in hexadecimal.
pub(crate) fn new_request_id() -> HeaderValue {
    let mut text = [0; 32];
    write_hex(&mut text, u128::from(fastrand::u64(..)) << 64 | u128::from(fastrand::u64(..)));
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("0"))
}

/// Returns whether a trusted proxy's request id is one that we would pass on and log.
pub(crate) fn is_request_id(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    (1..=128).contains(&bytes.len()) && bytes.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'"')
}

/// Writes the lowest digits of a number, as many as there is room for.
pub(crate) fn write_hex(digits: &mut [u8], mut number: u128) {
    for half in digits.rchunks_mut(16) {
        let mut rest = number as u64;
        for digit in half.iter_mut().rev() {
            let value = (rest & 15) as u8;
            *digit = if value < 10 { b'0' + value } else { b'a' + value - 10 };
            rest >>= 4;
        }
        number >>= 64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_have_their_form() {
        let id = new_request_id();
        assert!(id.len() == 32 && is_request_id(&id));
        let mut digits = [0; 20];
        write_hex(&mut digits, 0x1234_5678_9abc_def0_0fed_cba9_8765_4321);
        assert_eq!(&digits, b"def00fedcba987654321");
        assert!(!is_request_id(&HeaderValue::from_static("a b")) && !is_request_id(&HeaderValue::from_static("")));
    }
}
