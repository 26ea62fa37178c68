//! The endpoints of an upstream.

use std::fmt;
use std::net::Ipv6Addr;
use std::sync::Arc;

use policy::concurrency::ConcurrencyPlan;
use policy::health::ProbePlan;

use crate::host::parse_host;
use crate::quote::quote;

/// What listens at an endpoint, which also sets the protocol of an address without a scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndpointRole {
    /// An origin: HTTP/1.1 without TLS.
    Origin,
    /// A region's own node, which must prove that it is one: HTTP/2 over TLS.
    Gateway,
}

/// A host and port to dial, the protocol, and the version of the software there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// What listens there.
    pub role: EndpointRole,
    /// Whether to speak TLS there.
    pub tls: bool,
    /// Whether to speak HTTP/2 there, with prior knowledge or by ALPN; else HTTP/1.1.
    pub http2: bool,
    /// A DNS name in lower case, or an IP address (IPv6 without brackets).
    pub host: String,
    /// The port, never 0.
    pub port: u16,
    /// The version of the software there, for canaries.
    pub version: Option<Arc<str>>,
}

/// The endpoints of one region, and how they are probed.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// Dialled by nodes of the region, and by those of other regions when there is no gateway.
    pub endpoints: Vec<Endpoint>,
    /// Dialled by nodes of other regions.
    pub gateway: Option<Endpoint>,
    /// How the endpoints and the gateway are probed.
    pub health: ProbePlan,
    /// How many requests each node has in flight there, at most, and who waits.
    pub concurrency: ConcurrencyPlan,
}

impl Endpoint {
    /// Returns `HOST:PORT`, the host in brackets when it is an IPv6 address.
    pub fn authority(&self) -> String {
        if self.host.parse::<Ipv6Addr>().is_ok() {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Parses `host:port`, optionally after `http://`, `https://`, `h2c://` (HTTP/2 without TLS) or
    /// `h2://` (HTTP/2 over TLS); `role` sets the protocol of a text without a scheme.
    ///
    /// # Errors
    /// What is wrong with the text, and the remedy.
    pub(crate) fn parse(text: &str, role: EndpointRole) -> Result<Self, String> {
        let (tls, http2, authority) = match text.split_once("://") {
            Some(("http", rest)) => (false, false, rest),
            Some(("https", rest)) => (true, false, rest),
            Some(("h2c", rest)) => (false, true, rest),
            Some(("h2", rest)) => (true, true, rest),
            Some(_) => return Err("only http://, https://, h2c:// and h2:// can stand before the host".into()),
            None => (role == EndpointRole::Gateway, role == EndpointRole::Gateway, text),
        };
        if authority.contains(['/', '?', '#']) {
            return Err("no path can stand here: write host:port only".into());
        }
        let port_starts =
            authority.rfind(':').filter(|at| !authority.get(*at..).is_some_and(|rest| rest.contains(']')));
        let Some((host, port)) = port_starts.and_then(|at| Some((authority.get(..at)?, authority.get(at + 1..)?)))
        else {
            return Err(format!("the port is missing: write {authority}:{}", if tls { 443 } else { 80 }));
        };
        let host = parse_host(host).map_err(|problem| {
            if host.contains(':') && !host.starts_with('[') {
                "write an IPv6 address in brackets: [2001:db8::1]:8080".to_owned()
            } else {
                format!("the host {} {problem}", quote(host))
            }
        })?;
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        match port.parse() {
            Ok(port) if port > 0 && digits => Ok(Self { role, tls, http2, host, port, version: None }),
            _ => Err(format!("the port {} is not a number from 1 to 65535", quote(port))),
        }
    }
}

impl fmt::Display for Endpoint {
    /// Writes `http://HOST:PORT`, `https://`, `h2c://` or `h2://`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (self.http2, self.tls) {
            (false, false) => "http",
            (false, true) => "https",
            (true, false) => "h2c",
            (true, true) => "h2",
        };
        write!(f, "{scheme}://{}", self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_and_shown() {
        for (text, expected) in [
            ("10.0.0.1:8080", "http://10.0.0.1:8080"),
            ("http://API.example.com:80", "http://api.example.com:80"),
            ("https://api.example.com:443", "https://api.example.com:443"),
            ("[2001:db8::1]:8080", "http://[2001:db8::1]:8080"),
            ("https://[::1]:1", "https://[::1]:1"),
            ("h2c://grpc.example.com:50051", "h2c://grpc.example.com:50051"),
            ("h2://grpc.example.com:443", "h2://grpc.example.com:443"),
        ] {
            assert_eq!(
                Endpoint::parse(text, EndpointRole::Origin).map(|endpoint| endpoint.to_string()),
                Ok(expected.into())
            );
        }
        for (text, expected) in [
            ("gateway.example.com:443", "h2://gateway.example.com:443"),
            ("https://gateway.example.com:443", "https://gateway.example.com:443"),
            ("http://gateway.example.com:80", "http://gateway.example.com:80"),
        ] {
            assert_eq!(
                Endpoint::parse(text, EndpointRole::Gateway).map(|endpoint| endpoint.to_string()),
                Ok(expected.into())
            );
        }
    }

    #[test]
    fn bad_endpoints_say_what_to_write() {
        for (text, fragment) in [
            ("10.0.0.1", "write 10.0.0.1:80"),
            ("https://a.example", "write a.example:443"),
            ("[::1]", "write [::1]:80"),
            ("", "the port is missing"),
            (":80", "the host \"\" is empty"),
            ("a:0", "1 to 65535"),
            ("a:65536", "1 to 65535"),
            ("a:+80", "1 to 65535"),
            ("2001:db8::1:80", "in brackets"),
            ("ftp://a:1", "only http://, https://, h2c:// and h2://"),
            ("http://a:1/", "no path"),
            ("user@a:1", "is not a host name"),
        ] {
            let problem = Endpoint::parse(text, EndpointRole::Origin).unwrap_err();
            assert!(problem.contains(fragment), "{text}: {problem}");
        }
    }
}
