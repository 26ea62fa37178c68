//! The PROXY protocol, versions 1 and 2: who a load balancer in front of us was called by.

use std::io;
use std::net::SocketAddr;

use ppp::{HeaderResult, PartialResult, v1, v2};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::ingress::peek::peek_until;

/// Takes a PROXY header off a connection of a trusted peer. `None` when there is none, or when it
/// names nobody: a load balancer's own health check. The caller bounds the time.
///
/// # Errors
/// When the connection fails, or begins like a header that does not parse.
pub async fn source(stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut buffer = vec![0; LONGEST];
    let judged = peek_until(stream, &mut buffer, judge).await?;
    let (length, source) = judged.ok_or_else(|| malformed("it is cut off, or too long"))??;
    if let Some(header) = buffer.get_mut(..length) {
        stream.read_exact(header).await?;
    }
    Ok(source)
}

/// A header's length and the source that it names; 0 and nobody when there is none. `None` while
/// more must be seen.
fn judge(seen: &[u8]) -> Option<io::Result<(usize, Option<SocketAddr>)>> {
    let begins_like = |signature: &[u8]| {
        let common = seen.len().min(signature.len());
        seen.get(..common) == signature.get(..common)
    };
    if seen.is_empty() || !(begins_like(v1::PROTOCOL_PREFIX.as_bytes()) || begins_like(v2::PROTOCOL_PREFIX)) {
        return Some(Ok((0, None)));
    }
    let header = HeaderResult::parse(seen);
    if header.is_incomplete() {
        return None;
    }
    Some(match header {
        HeaderResult::V1(Ok(header)) => Ok((header.header.len(), v1_source(&header))),
        HeaderResult::V2(Ok(header)) => Ok((header.len(), v2_source(&header))),
        HeaderResult::V1(Err(error)) => Err(malformed(&error.to_string())),
        HeaderResult::V2(Err(error)) => Err(malformed(&error.to_string())),
    })
}

fn v1_source(header: &v1::Header<'_>) -> Option<SocketAddr> {
    match header.addresses {
        v1::Addresses::Tcp4(tcp) => Some((tcp.source_address, tcp.source_port).into()),
        v1::Addresses::Tcp6(tcp) => Some((tcp.source_address, tcp.source_port).into()),
        v1::Addresses::Unknown => None,
    }
}

fn v2_source(header: &v2::Header<'_>) -> Option<SocketAddr> {
    match (header.command, header.addresses) {
        (v2::Command::Proxy, v2::Addresses::IPv4(ip)) => Some((ip.source_address, ip.source_port).into()),
        (v2::Command::Proxy, v2::Addresses::IPv6(ip)) => Some((ip.source_address, ip.source_port).into()),
        _ => None,
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the PROXY header does not parse: {what}"))
}

/// Real headers have some hundred bytes, TLVs included.
const LONGEST: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    /// `None` while more must be seen; else the header's length and its source.
    fn judged(bytes: &[u8]) -> Option<Result<(usize, String), ()>> {
        judge(bytes)
            .map(|judged| judged.map(|(n, source)| (n, source.map_or("-".into(), |s| s.to_string()))).map_err(drop))
    }

    #[test]
    fn headers_of_both_versions() {
        let v1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\nGET / HTTP/1.1\r\n";
        assert_eq!(judged(v1), Some(Ok((44, "192.0.2.7:4711".into()))));
        assert_eq!(judged(b"PROXY UNKNOWN\r\nGET /"), Some(Ok((15, "-".into()))));
        let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        v2.extend([192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x67, 0x01, 0xbb]);
        assert_eq!(judged(&v2), Some(Ok((28, "192.0.2.7:4711".into()))));
        for cut in 1..v2.len() {
            assert_eq!(judged(&v2[..cut]), None, "{cut} bytes");
        }
        let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
        assert_eq!(judged(local), Some(Ok((16, "-".into()))));
    }

    #[test]
    fn what_is_no_header_is_left_alone_and_a_broken_one_is_refused() {
        for other in [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x03\x01", b"", b"PUT /", b"PROXIMITY"] {
            assert_eq!(judged(other), Some(Ok((0, "-".into()))), "{other:?}");
        }
        assert_eq!(judged(b"PROXY TCP4 192.0.2.999 198.51.100.1 4711 443\r\n"), Some(Err(())));
        assert_eq!(judged(b"PRO"), None);
    }
}
