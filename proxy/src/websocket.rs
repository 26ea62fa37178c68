//! The fields of a WebSocket's opening handshake that HTTP/1.1 has and HTTP/2 has not (RFC 6455, 4; RFC 8441, 5): by a key and
//! its answer both ends of HTTP/1.1 know that the other means it.

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use data_encoding::BASE64;
use http::header::{HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT};

/// Returns a key for a handshake of this node's own.
pub(crate) fn new_key() -> HeaderValue {
    let key = BASE64.encode(&fastrand::u128(..).to_be_bytes());
    HeaderValue::try_from(key).unwrap_or(HeaderValue::from_static("AAAAAAAAAAAAAAAAAAAAAA=="))
}

/// Returns what answers a key.
pub(crate) fn accept(key: &HeaderValue) -> HeaderValue {
    let mut digest = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    digest.update(key.as_bytes());
    digest.update(GUID);
    HeaderValue::try_from(BASE64.encode(digest.finish().as_ref())).unwrap_or(HeaderValue::from_static(""))
}

/// Returns whether an answer's head accepts the handshake that had this key.
pub(crate) fn is_accepted(key: &HeaderValue, headers: &HeaderMap) -> bool {
    headers.get(SEC_WEBSOCKET_ACCEPT) == Some(&accept(key))
}

/// RFC 6455, 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_answer_that_its_rfc_says() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let own = new_key();
        assert_eq!(BASE64.decode(own.as_bytes()).unwrap().len(), 16);
        assert_ne!(own, new_key());
        let mut headers = HeaderMap::new();
        assert!(!is_accepted(&own, &headers));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept(&own));
        assert!(is_accepted(&own, &headers) && !is_accepted(&key, &headers));
    }
}
