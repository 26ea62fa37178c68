//! The PROXY protocol, versions 1 and 2: who a load balancer in front of us was called by.

use std::io;
use std::net::SocketAddr;

use ppp::{HeaderResult, PartialResult, v1, v2};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::ingress::peek::peek_until;

/// Who speaks on a connection of a trusted proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyHeader {
    /// The proxy itself: it sends no header, or says that the connection is its own (version 2, LOCAL).
    Proxy,
    /// This client.
    Client(SocketAddr),
    /// A client whom the header does not name: UNKNOWN in version 1; no address, a Unix socket's or a datagram's in
    /// version 2. Nothing that comes on the connection is the proxy's word.
    Unknown,
}

/// Takes a PROXY header off a connection of a trusted peer, and tells who speaks on it. The caller bounds the time.
///
/// # Errors
/// When the connection fails, or begins like a header that does not parse.
pub(crate) async fn caller(stream: &mut TcpStream) -> io::Result<ProxyHeader> {
    let mut buffer = vec![0; LONGEST];
    let judged = peek_until(stream, &mut buffer, judge).await?;
    let (length, caller) = judged.ok_or_else(|| malformed("it is cut off, or too long"))??;
    if let Some(header) = buffer.get_mut(..length) {
        stream.read_exact(header).await?;
    }
    Ok(caller)
}

/// Returns a header's length and whom it names; 0 and the proxy when there is none. `None` while more must be seen.
fn judge(seen: &[u8]) -> Option<io::Result<(usize, ProxyHeader)>> {
    let begins_like = |signature: &[u8]| {
        let common = seen.len().min(signature.len());
        seen.get(..common) == signature.get(..common)
    };
    if seen.is_empty() || !(begins_like(v1::PROTOCOL_PREFIX.as_bytes()) || begins_like(v2::PROTOCOL_PREFIX)) {
        return Some(Ok((0, ProxyHeader::Proxy)));
    }
    let header = HeaderResult::parse(seen);
    if header.is_incomplete() {
        return None;
    }
    Some(match header {
        HeaderResult::V1(Ok(header)) => Ok((header.header.len(), v1_caller(&header))),
        HeaderResult::V2(Ok(header)) => Ok((header.len(), v2_caller(&header))),
        HeaderResult::V1(Err(error)) => Err(malformed(&error.to_string())),
        HeaderResult::V2(Err(error)) => Err(malformed(&error.to_string())),
    })
}

fn v1_caller(header: &v1::Header<'_>) -> ProxyHeader {
    match header.addresses {
        v1::Addresses::Tcp4(tcp) => ProxyHeader::Client((tcp.source_address, tcp.source_port).into()),
        v1::Addresses::Tcp6(tcp) => ProxyHeader::Client((tcp.source_address, tcp.source_port).into()),
        v1::Addresses::Unknown => ProxyHeader::Unknown,
    }
}

fn v2_caller(header: &v2::Header<'_>) -> ProxyHeader {
    match (header.command, header.protocol, header.addresses) {
        (v2::Command::Local, ..) => ProxyHeader::Proxy,
        (v2::Command::Proxy, v2::Protocol::Stream, v2::Addresses::IPv4(ip)) => {
            ProxyHeader::Client((ip.source_address, ip.source_port).into())
        }
        (v2::Command::Proxy, v2::Protocol::Stream, v2::Addresses::IPv6(ip)) => {
            ProxyHeader::Client((ip.source_address, ip.source_port).into())
        }
        (v2::Command::Proxy, ..) => ProxyHeader::Unknown,
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

    /// `None` while more must be seen; else the header's length and whom it names.
    fn judged(bytes: &[u8]) -> Option<Result<(usize, ProxyHeader), ()>> {
        judge(bytes).map(|judged| judged.map_err(drop))
    }

    fn client(address: &str) -> ProxyHeader {
        ProxyHeader::Client(address.parse().unwrap())
    }

    /// Returns a header of version 2: command, family and protocol, and the addresses' bytes.
    fn version_2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[0x20 | command, family], &length, addresses].concat()
    }

    const IPV4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x67, 0x01, 0xbb];

    #[test]
    fn headers_of_both_versions() {
        let v1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\nGET / HTTP/1.1\r\n";
        assert_eq!(judged(v1), Some(Ok((44, client("192.0.2.7:4711")))));
        let v2 = version_2(1, 0x11, &IPV4);
        assert_eq!(judged(&v2), Some(Ok((28, client("192.0.2.7:4711")))));
        for cut in 1..v2.len() {
            assert_eq!(judged(&v2[..cut]), None, "{cut} bytes");
        }
    }

    #[test]
    fn only_a_local_header_is_the_proxy_s_own() {
        let ipv6: Vec<u8> = [[0x20; 16], [0x30; 16]].concat().into_iter().chain([0x12, 0x67, 0x01, 0xbb]).collect();
        let unix = [b'/'; 216];
        for (what, header, expected) in [
            ("LOCAL", version_2(0, 0, &[]), ProxyHeader::Proxy),
            ("LOCAL with addresses", version_2(0, 0x11, &IPV4), ProxyHeader::Proxy),
            ("UNSPEC", version_2(1, 0, &[]), ProxyHeader::Unknown),
            ("UNSPEC with bytes", version_2(1, 0, &IPV4), ProxyHeader::Unknown),
            ("IPv4 without a protocol", version_2(1, 0x10, &IPV4), ProxyHeader::Unknown),
            ("UDP over IPv4", version_2(1, 0x12, &IPV4), ProxyHeader::Unknown),
            ("UDP over IPv6", version_2(1, 0x22, &ipv6), ProxyHeader::Unknown),
            ("a Unix stream", version_2(1, 0x31, &unix), ProxyHeader::Unknown),
            ("a Unix datagram", version_2(1, 0x32, &unix), ProxyHeader::Unknown),
            ("UNKNOWN", b"PROXY UNKNOWN\r\n".to_vec(), ProxyHeader::Unknown),
            ("UNKNOWN with more", b"PROXY UNKNOWN 192.0.2.7 198.51.100.1 4711 443\r\n".to_vec(), ProxyHeader::Unknown),
        ] {
            assert_eq!(judged(&header), Some(Ok((header.len(), expected))), "{what}");
        }
    }

    #[test]
    fn what_is_no_header_is_left_alone_and_a_broken_one_is_refused() {
        for other in [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x03\x01", b"", b"PUT /", b"PROXIMITY"] {
            assert_eq!(judged(other), Some(Ok((0, ProxyHeader::Proxy))), "{other:?}");
        }
        assert_eq!(judged(b"PROXY TCP4 192.0.2.999 198.51.100.1 4711 443\r\n"), Some(Err(())));
        assert_eq!(judged(b"PRO"), None);
    }
}
