//! Names of fields that this proxy owns: a client's own copies never reach an origin. Those between nodes, and
//! to clients, are `peers::fields`'. And the form of a request's id.

use std::net::Ipv4Addr;

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

/// The field of a probe's answer in which an endpoint says whether its data is the primary's: `primary` or `replica`.
pub(crate) const REPLICATION_ROLE: HeaderName = HeaderName::from_static("x-replication-role");

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

/// An IPv4 address as text, without an allocation and without the machinery of formats.
pub(crate) struct Ipv4Text {
    text: [u8; 15],
    length: usize,
}

impl Ipv4Text {
    /// Writes an address out.
    pub(crate) fn of(address: Ipv4Addr) -> Self {
        let mut written = Self { text: [0; 15], length: 0 };
        for (index, octet) in address.octets().into_iter().enumerate() {
            if index > 0 {
                written.push(b'.');
            }
            if octet >= 100 {
                written.push(b'0' + octet / 100);
            }
            if octet >= 10 {
                written.push(b'0' + octet / 10 % 10);
            }
            written.push(b'0' + octet % 10);
        }
        written
    }

    /// Returns the text.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.text.get(..self.length).unwrap_or_default()
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.text.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_are_read() {
        for octet in 0..=u8::MAX {
            let address = Ipv4Addr::new(octet, 0, 255 - octet, 255);
            assert_eq!(Ipv4Text::of(address).as_bytes(), address.to_string().as_bytes());
        }
    }

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
