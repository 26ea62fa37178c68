//! The server that a run dials.

use std::net::SocketAddr;

use crate::{Protocol, Tls};

/// Where to dial and what to speak there.
#[derive(Clone, Debug)]
pub struct Target {
    /// The address to dial. It need not be the one that the requests' `host` stands for.
    pub address: SocketAddr,
    /// The HTTP version. HTTP/2 is agreed on by ALPN over TLS, and taken as known in advance without TLS (h2c).
    pub protocol: Protocol,
    /// `None` is plain HTTP.
    pub tls: Option<Tls>,
}

impl Target {
    /// Returns a plain HTTP/1.1 server.
    pub fn http1(address: SocketAddr) -> Target {
        Target { address, protocol: Protocol::Http1, tls: None }
    }

    /// Returns a plain HTTP/2 server that needs no upgrade (h2c with prior knowledge).
    pub fn http2(address: SocketAddr) -> Target {
        Target { address, protocol: Protocol::Http2, tls: None }
    }

    /// The same server, behind TLS.
    pub fn over(self, tls: Tls) -> Target {
        Target { tls: Some(tls), ..self }
    }

    /// Returns the scheme of the requests' URIs.
    pub(crate) fn scheme(&self) -> http::uri::Scheme {
        if self.tls.is_some() { http::uri::Scheme::HTTPS } else { http::uri::Scheme::HTTP }
    }
}
