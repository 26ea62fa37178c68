//! The proxies that may say where a request comes from.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The networks whose `X-Forwarded-For` is trusted; none by default.
///
/// IPv4 and IPv6 are apart: `::/0` trusts no IPv4 peer, not even one that a dual-stack socket
/// shows as `::ffff:a.b.c.d`. Only a network that lies within `::ffff:0:0/96` stands for its IPv4.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies {
    /// Sorted and without overlap, as `aggregate` leaves them.
    v4: Vec<Ipv4Net>,
    v6: Vec<Ipv6Net>,
}

impl TrustedProxies {
    /// Returns whether the address, or the IPv4 address mapped in it, is in a trusted network.
    ///
    /// A binary search: the published ranges of a large CDN cost some ten comparisons.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let after = self.v4.partition_point(|network| network.network() <= address);
                let nearest = after.checked_sub(1).and_then(|index| self.v4.get(index));
                nearest.is_some_and(|network| network.contains(&address))
            }
            IpAddr::V6(address) => {
                let after = self.v6.partition_point(|network| network.network() <= address);
                let nearest = after.checked_sub(1).and_then(|index| self.v6.get(index));
                nearest.is_some_and(|network| network.contains(&address))
            }
        }
    }
}

impl From<Vec<IpNet>> for TrustedProxies {
    /// Takes networks in any order, overlapping, with host bits set, and in IPv4-mapped form.
    fn from(networks: Vec<IpNet>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match unmapped(network) {
                IpNet::V4(network) => v4.push(network),
                IpNet::V6(network) => v6.push(network),
            }
        }
        Self { v4: Ipv4Net::aggregate(&v4), v6: Ipv6Net::aggregate(&v6) }
    }
}

/// Returns `::ffff:10.0.0.0/104` as `10.0.0.0/8`, and any other network as it is.
fn unmapped(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    let mapped = v6.network().to_ipv4_mapped().and_then(|address| {
        let prefix = v6.prefix_len().checked_sub(96)?;
        Ipv4Net::new(address, prefix).ok()
    });
    mapped.map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trusted(networks: &[&str]) -> TrustedProxies {
        networks.iter().map(|network| network.parse().unwrap()).collect::<Vec<IpNet>>().into()
    }

    #[test]
    fn containment() {
        let proxies =
            trusted(&["10.1.2.3/8", "192.0.2.7/32", "::ffff:198.51.100.0/120", "2001:db8::/32", "10.0.0.0/16"]);
        for (address, expected) in [
            ("10.0.0.0", true),
            ("10.255.255.255", true),
            ("9.255.255.255", false),
            ("11.0.0.0", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("::ffff:10.0.0.1", true),
            ("::ffff:11.0.0.1", false),
            ("198.51.100.255", true),
            ("::ffff:198.51.100.1", true),
            ("198.51.101.0", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::", false),
            ("::", false),
            ("255.255.255.255", false),
        ] {
            assert_eq!(proxies.contains(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn the_default_trusts_nobody_and_families_are_apart() {
        assert!(!TrustedProxies::default().contains("127.0.0.1".parse().unwrap()));
        assert!(!trusted(&["::/0"]).contains("10.0.0.1".parse().unwrap()));
        assert!(!trusted(&["::/0"]).contains("::ffff:10.0.0.1".parse().unwrap()));
        assert!(!trusted(&["0.0.0.0/0"]).contains("2001:db8::1".parse().unwrap()));
        assert!(trusted(&["::ffff:0:0/96"]).contains("10.0.0.1".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn the_search_agrees_with_a_scan(
            networks in prop::collection::vec((any::<IpAddr>(), 0..=128u8), 0..20),
            addresses in prop::collection::vec(any::<IpAddr>(), 1..20),
        ) {
            let networks: Vec<IpNet> = networks
                .into_iter()
                .map(|(address, prefix)| match address {
                    IpAddr::V4(_) => IpNet::new(address, prefix % 33).unwrap(),
                    IpAddr::V6(_) => IpNet::new(address, prefix).unwrap(),
                })
                .collect();
            let proxies = TrustedProxies::from(networks.clone());
            // Random addresses rarely hit; the networks' own ends always do.
            let ends = networks.iter().flat_map(|network| [network.network(), network.broadcast()]);
            for address in addresses.into_iter().chain(ends) {
                let address = address.to_canonical();
                let scan = networks.iter().any(|network| unmapped(*network).contains(&address));
                prop_assert_eq!(proxies.contains(address), scan);
            }
        }
    }
}
