//! Amounts of address space.

use ipnet::IpNet;

/// An amount of address space, IPv4 and IPv6 apart: a /48 of IPv6 is no larger a network than a /24 of IPv4, and the
/// two are never added up.
///
/// A network of IPv6 counts as a /32 at most, which is what a registry gives a provider. Publishers name countries for
/// unassigned space, too: in DB-IP's database of 2026-06 such fillers, of up to a /7, are 99.8 % of the space that has
/// a record, beside which nothing else would count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Space {
    ipv4: u128,
    ipv6: u128,
}

impl Space {
    /// Returns the amount of a network.
    pub fn of(network: IpNet) -> Self {
        let addresses = |bits: u8| 1_u128.checked_shl(u32::from(bits)).unwrap_or(u128::MAX);
        let host_bits = network.max_prefix_len() - network.prefix_len();
        match network {
            IpNet::V4(_) => Self { ipv4: addresses(host_bits), ipv6: 0 },
            IpNet::V6(_) => Self { ipv4: 0, ipv6: addresses(host_bits.min(128 - 32)) },
        }
    }

    /// Adds an amount. No sum of disjoint networks overflows.
    pub fn add(&mut self, other: Self) {
        self.ipv4 = self.ipv4.saturating_add(other.ipv4);
        self.ipv6 = self.ipv6.saturating_add(other.ipv6);
    }

    /// Returns whether the amount is zero.
    pub fn is_empty(&self) -> bool {
        self.ipv4 == 0 && self.ipv6 == 0
    }

    /// Returns the IPv4 space in /24s; smaller networks are fractions of one.
    pub fn slash24s(&self) -> f64 {
        self.ipv4 as f64 / 256.0
    }

    /// Returns the IPv6 space in /48s; smaller networks are fractions of one.
    pub fn slash48s(&self) -> f64 {
        self.ipv6 as f64 / 2_f64.powi(80)
    }

    /// Returns the share of `whole`'s IPv4 space, 0 to 1; `None` where `whole` has none.
    pub fn ipv4_share(&self, whole: &Self) -> Option<f64> {
        (whole.ipv4 > 0).then(|| self.ipv4 as f64 / whole.ipv4 as f64)
    }

    /// Returns the share of `whole`'s IPv6 space, 0 to 1; `None` where `whole` has none.
    pub fn ipv6_share(&self, whole: &Self) -> Option<f64> {
        (whole.ipv6 > 0).then(|| self.ipv6 as f64 / whole.ipv6 as f64)
    }

    /// Returns the greater of the IPv4 and the IPv6 share.
    pub fn greater_share(&self, whole: &Self) -> f64 {
        self.ipv4_share(whole).unwrap_or(0.0).max(self.ipv6_share(whole).unwrap_or(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_weigh_by_family() {
        let mut all = Space::default();
        assert!(all.is_empty());
        for network in ["192.0.2.0/24", "198.51.0.0/16", "192.0.2.0/26", "2001:db8::/32", "2001:db8::/64"] {
            all.add(Space::of(network.parse().unwrap()));
        }
        assert_eq!(all.slash24s(), 257.25);
        assert_eq!(all.slash48s(), 65536.0 + 1.0 / 65536.0);
        let half = Space::of("2001:db8::/33".parse().unwrap());
        let whole = Space::of("2001:db8::/32".parse().unwrap());
        assert_eq!(
            (half.ipv4_share(&whole), half.ipv6_share(&whole), half.greater_share(&whole)),
            (None, Some(0.5), 0.5)
        );
        let [filler, provider] = ["2100::/8", "2a02::/32"].map(|network| Space::of(network.parse().unwrap()));
        assert_eq!(filler, provider);
        assert_eq!(Space::of("::/0".parse().unwrap()).ipv6_share(&Space::default()), None);
    }
}
