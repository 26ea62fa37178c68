//! The client's address is what a naive walk along the whole chain finds.
//!
//! The input is a line of trusted networks, a line with the peer, and then the lines of the header.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use geoip::{ClientIp, Forwarded, MAX_HOPS, TrustedProxies, client_ip};
use ipnet::IpNet;

pub(crate) fn check(input: &[u8]) {
    let mut lines = input.split(|byte| *byte == b'\n');
    let mut text = || String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let (networks, peer) = (text(), text());
    let networks: Vec<IpNet> = networks.split(' ').filter_map(|network| network.parse().ok()).collect();
    let peer: IpAddr = peer.trim().parse().unwrap_or(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));
    let header: Vec<&[u8]> = lines.collect();

    let trusted = TrustedProxies::from(networks.clone());
    let find = |header: &[&[u8]]| client_ip(peer, header.iter().copied(), &trusted);
    let client = find(&header);
    let (expected, decisive) = walk(&networks, peer, &header);
    assert_eq!(client, expected);
    assert_eq!(client.address, client.address.to_canonical());
    assert!(client.peer_trusted || client.address == peer.to_canonical(), "an untrusted peer's word");

    // Lines are one list.
    let one = header.join(&b',');
    if !header.is_empty() {
        assert_eq!(find(&[&one]), client);
    }
    // Whoever is to the left of what decided has no say.
    if decisive {
        for forged in [&b"10.0.0.9"[..], b"2001:db8::9, 10.0.0.1", b"unknown", b",,,", b"\xff"] {
            let longer: Vec<&[u8]> = std::iter::once(forged).chain(header.iter().copied()).collect();
            assert_eq!(find(&longer), client);
        }
    }
}

/// The client, and whether some hop decided who it is: an untrusted, an unreadable, or one too many.
fn walk(networks: &[IpNet], peer: IpAddr, header: &[&[u8]]) -> (ClientIp, bool) {
    let is_trusted = |address: IpAddr| networks.iter().any(|network| holds(network, address));
    let peer = peer.to_canonical();
    let mut client = ClientIp { address: peer, peer_trusted: is_trusted(peer), forwarded: Forwarded::Direct };
    if !client.peer_trusted {
        return (client, true);
    }
    let list = header.join(&b',');
    let mut chain: Vec<&[u8]> = if header.is_empty() { Vec::new() } else { list.split(|byte| *byte == b',').collect() };
    let mut looked_at = 0;
    while let Some(element) = chain.pop() {
        looked_at += 1;
        let hop = match element.trim_ascii() {
            _ if looked_at > MAX_HOPS => None,
            b"" => continue,
            element => std::str::from_utf8(element).ok().and_then(hop),
        };
        let Some(hop) = hop else { return (ClientIp { forwarded: Forwarded::Malformed, ..client }, true) };
        client = ClientIp { address: hop, forwarded: Forwarded::Header, ..client };
        if !is_trusted(hop) {
            return (client, true);
        }
    }
    (client, false)
}

fn hop(text: &str) -> Option<IpAddr> {
    let unbracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).filter(|text| text.contains(':'));
    let address = match text.parse::<SocketAddr>() {
        Ok(socket) => socket.ip(),
        Err(_) => unbracketed.unwrap_or(text).parse().ok()?,
    };
    Some(address.to_canonical())
}

/// A network holds an address of its own family; one of IPv4-mapped addresses holds IPv4's.
fn holds(network: &IpNet, address: IpAddr) -> bool {
    let (IpAddr::V4(v4), IpNet::V6(v6)) = (address, network) else { return network.contains(&address) };
    v6.prefix_len() >= 96 && v6.contains(&v4.to_ipv6_mapped())
}
