//! The clients that a run pretends to come from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The addresses of a network, in turn.
pub(super) struct Clients {
    first: IpAddr,
    /// How many there are, up to 2^32: no run is longer.
    count: u64,
}

impl Clients {
    pub(super) fn of(network: IpNet) -> Clients {
        let host_bits = network.max_prefix_len() - network.prefix_len();
        Clients { first: network.network(), count: 1 << host_bits.min(32) }
    }

    pub(super) fn address(&self, sequence: u64) -> IpAddr {
        let offset = sequence % self.count;
        match self.first {
            IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() + offset as u32).into(),
            IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() + u128::from(offset)).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_round() {
        for (network, sequence, address) in [
            ("192.0.2.0/24", 0, "192.0.2.0"),
            ("192.0.2.0/24", 255, "192.0.2.255"),
            ("192.0.2.0/24", 256, "192.0.2.0"),
            ("192.0.2.7/32", 3, "192.0.2.7"),
            ("0.0.0.0/0", u64::from(u32::MAX), "255.255.255.255"),
            ("2001:db8::/32", 65_536, "2001:db8::1:0"),
        ] {
            let clients = Clients::of(network.parse().unwrap());
            assert_eq!(clients.address(sequence), address.parse::<IpAddr>().unwrap(), "{network} {sequence}");
        }
    }
}
