//! Finds the client's address behind a chain of trusted proxies.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::TrustedProxies;

#[cfg(test)]
mod tests;

/// Returns the client's address, from the peer of the connection and the `X-Forwarded-For` lines in their order of
/// appearance.
///
/// Each proxy appends the address of its own peer, so the list is trusted from the right, as far as
/// trusted proxies wrote it: the first untrusted hop is the client, and anything to its left may be
/// forged. When every hop is trusted, the left-most is the client. From an untrusted peer the header
/// is ignored.
///
/// A hop is `192.0.2.1`, `192.0.2.1:567`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:443`.
/// Empty elements are ignored. At anything else (`unknown`, an obfuscated name, a truncated
/// address) the walk ends at the last good hop and reports [`Forwarded::Malformed`], where nginx's
/// `real_ip_recursive` silently keeps that hop. At most [`MAX_HOPS`] elements are looked at, and
/// nothing is allocated.
pub fn client_ip<'a>(
    peer: IpAddr,
    forwarded_for: impl DoubleEndedIterator<Item = &'a [u8]>,
    trusted: &TrustedProxies,
) -> ClientIp {
    let peer = peer.to_canonical();
    let peer_trusted = trusted.contains(peer);
    let mut client = ClientIp { address: peer, peer_trusted, forwarded: Forwarded::Direct };
    if !peer_trusted {
        return client;
    }

    let elements = forwarded_for.rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
    for (seen, element) in elements.enumerate() {
        if seen == MAX_HOPS {
            return ClientIp { forwarded: Forwarded::Malformed, ..client };
        }
        let element = element.trim_ascii();
        if element.is_empty() {
            continue;
        }
        let Some(hop) = hop(element) else {
            return ClientIp { forwarded: Forwarded::Malformed, ..client };
        };
        client = ClientIp { address: hop, forwarded: Forwarded::Header, ..client };
        if !trusted.contains(hop) {
            break;
        }
    }
    client
}

/// The client's address, and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientIp {
    /// The client's address; never in IPv4-mapped form.
    pub address: IpAddr,
    /// Whether the connection comes from a trusted proxy, whose other headers may be trusted too.
    pub peer_trusted: bool,
    /// Where `address` comes from.
    pub forwarded: Forwarded,
}

/// What `X-Forwarded-For` contributed to a client's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Forwarded {
    /// Nothing: the peer is the client, or it is a trusted proxy that names no client.
    Direct,
    /// The address is a hop of the header.
    Header,
    /// The header is malformed or too long before it names a client: the address is that of the
    /// last trusted proxy found, and the client's place counts as unknown.
    Malformed,
}

/// How many elements of `X-Forwarded-For` are looked at, empty ones included. Real chains have
/// fewer than ten.
pub const MAX_HOPS: usize = 64;

/// Returns the address of one trimmed element, without its port.
fn hop(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element).ok()?;
    let bare = || text.parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    bare().or_else(with_port).or_else(bracketed).map(|address| address.to_canonical())
}
