//! The HTTP versions that a run can speak.

/// An HTTP version on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, one request at a time on a connection.
    Http1,
    /// HTTP/2, several requests at a time.
    Http2,
}

impl Protocol {
    /// Returns the name under which TLS negotiates this version (RFC 7301).
    pub(crate) fn alpn(self) -> &'static [u8] {
        match self {
            Protocol::Http1 => b"http/1.1",
            Protocol::Http2 => b"h2",
        }
    }
}
