//! Who the simulated clients are, and where their made-up addresses are said to be.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The clients of one country.
#[derive(Debug)]
pub(crate) struct Group {
    /// The country, or [`UNKNOWN`].
    pub(crate) code: &'static str,
    /// How many they are.
    pub(crate) number: u8,
    /// Whether their personal data must stay in the EU: those there by GDPR, and those who might be
    /// there. The demo judges by this, not by what the node says.
    pub(crate) confined: bool,
    v4: (Ipv4Addr, u8),
    v6: (Ipv6Addr, u8),
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    /// Its group.
    pub(crate) group: &'static Group,
    /// Its address.
    pub(crate) address: IpAddr,
}

/// The groups, in the order in which they are shown. The networks are nobody's: documentation
/// prefixes of RFC 5737 and RFC 3849, the latter with the country's number of ISO 3166-1.
pub(crate) static GROUPS: [Group; 8] = [
    Group::new("US", 60, [192, 0, 2, 0], 25, 0x840),
    Group::new("DE", 30, [198, 51, 100, 0], 26, 0x276).confined(),
    Group::new("FR", 24, [198, 51, 100, 64], 26, 0x250).confined(),
    Group::new("IE", 10, [198, 51, 100, 128], 26, 0x372).confined(),
    Group::new("JP", 22, [203, 0, 113, 0], 25, 0x392),
    Group::new("SG", 20, [203, 0, 113, 128], 25, 0x702),
    Group::new("BR", 20, [192, 0, 2, 128], 26, 0x076),
    Group::new(UNKNOWN, 14, [192, 0, 2, 192], 26, 0xffff).confined(),
];

/// The code of clients whose country no database knows.
pub(crate) const UNKNOWN: &str = "??";

/// Every client, group by group.
pub(crate) fn all() -> Vec<Client> {
    let of = |group: &'static Group| (0..group.number).map(move |n| Client { group, address: group.address(n) });
    GROUPS.iter().flat_map(of).collect()
}

impl Group {
    const fn new(code: &'static str, number: u8, v4: [u8; 4], v4_length: u8, v6: u16) -> Self {
        let [a, b, c, d] = v4;
        let v4 = (Ipv4Addr::new(a, b, c, d), v4_length);
        let v6 = (Ipv6Addr::new(0x2001, 0xdb8, v6, 0, 0, 0, 0, 0), 48);
        Self { code, number, confined: false, v4, v6 }
    }

    const fn confined(self) -> Self {
        Self { confined: true, ..self }
    }

    /// The address of its n-th client; every fourth speaks IPv6.
    pub(crate) fn address(&self, n: u8) -> IpAddr {
        if n % 4 == 3 {
            return Ipv6Addr::from(u128::from(self.v6.0) + u128::from(n) + 1).into();
        }
        Ipv4Addr::from(u32::from(self.v4.0) + u32::from(n) + 1).into()
    }

    /// Its networks, with the lengths of their prefixes.
    pub(crate) fn networks(&self) -> [(IpAddr, u8); 2] {
        [(self.v4.0.into(), self.v4.1), (self.v6.0.into(), self.v6.1)]
    }
}
