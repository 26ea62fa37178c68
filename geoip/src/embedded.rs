//! Extracts the IPv4 address from a transitional IPv6 address.

use std::net::{IpAddr, Ipv4Addr};

/// Returns the address to look up: the IPv4 address carried in a transitional IPv6 address, or else the address
/// itself.
///
/// Geo databases know the IPv4 address of the client, seldom its IPv6 wrapping:
/// - IPv4-mapped `::ffff:a.b.c.d` (RFC 4291, section 2.5.5.2), always unwrapped;
/// - 6to4 `2002:aabb:ccdd::/48`, the site's router (RFC 3056, section 2);
/// - Teredo `2001:0::/32`, the client's NAT in the last 32 bits, inverted (RFC 4380, section 4);
/// - NAT64 `64:ff9b::a.b.c.d` (RFC 6052, section 2.1), as stateless translators in front of
///   IPv6-only servers write it.
///
/// The last three stay IPv6 when the address inside is not globally routable: it says nothing of
/// the place, and such an address is not genuine (RFC 3056, section 2; RFC 6052, section 3.1).
pub fn embedded(address: IpAddr) -> IpAddr {
    let address = address.to_canonical();
    let IpAddr::V6(v6) = address else { return address };
    let carried = match v6.segments() {
        [0x2002, high, low, ..] => joined(high, low),
        [0x2001, 0, .., high, low] => joined(!high, !low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => joined(high, low),
        _ => return address,
    };
    if is_global(carried) { IpAddr::V4(carried) } else { address }
}

fn joined(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))
}

/// Returns whether the address may be met on the Internet, after the IANA special-purpose registry (RFC 6890);
/// `Ipv4Addr::is_global` is not stable yet.
fn is_global(address: Ipv4Addr) -> bool {
    let special = match address.octets() {
        [0, ..] => true,             // this network (RFC 791)
        [100, 64..=127, ..] => true, // carrier-grade NAT (RFC 6598)
        [192, 0, 0, _] => true,      // protocol assignments (RFC 6890)
        [192, 88, 99, _] => true,    // the former 6to4 relays (RFC 7526)
        [198, 18..=19, ..] => true,  // benchmarks (RFC 2544)
        [224..=255, ..] => true,     // multicast, reserved, broadcast
        _ => false,
    };
    !(special || address.is_private() || address.is_loopback() || address.is_link_local() || address.is_documentation())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unwraps_what_carries_a_global_ipv4_address() {
        for (address, expected) in [
            ("81.2.69.142", "81.2.69.142"),
            ("2a02:8100::1", "2a02:8100::1"),
            // mapped: always, being the same address in another notation
            ("::ffff:81.2.69.142", "81.2.69.142"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            // 6to4
            ("2002:5102:458e::1", "81.2.69.142"),
            ("2002:0a00:0001::1", "2002:a00:1::1"),
            ("2002:7f00:0001::", "2002:7f00:1::"),
            ("2002:c0a8:0101::1", "2002:c0a8:101::1"),
            ("2002:6440:0001::1", "2002:6440:1::1"),
            ("2002:e000:0001::1", "2002:e000:1::1"),
            ("2002:a9fe:0101::1", "2002:a9fe:101::1"),
            ("2002:c000:0001::1", "2002:c000:1::1"),
            ("2002:c612:0001::1", "2002:c612:1::1"),
            ("2002:c058:6301::1", "2002:c058:6301::1"),
            ("2002::", "2002::"),
            ("2003:5102:458e::1", "2003:5102:458e::1"),
            // Teredo: the example of RFC 4380's layout, 192.0.2.45 replaced by a routable client
            ("2001:0:4136:e378:8000:63bf:aefd:ba71", "81.2.69.142"),
            ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
            ("2001::f5ff:fffe", "2001::f5ff:fffe"),
            ("2001:1::aefd:ba71", "2001:1::aefd:ba71"),
            // NAT64
            ("64:ff9b::81.2.69.142", "81.2.69.142"),
            ("64:ff9b::10.0.0.1", "64:ff9b::a00:1"),
            ("64:ff9b:1::81.2.69.142", "64:ff9b:1::5102:458e"),
        ] {
            let expected: IpAddr = expected.parse().unwrap();
            assert_eq!(embedded(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn nested_wrappings_are_unwrapped_once() {
        let outer: IpAddr = "2002:5102:458e:2002:5102:458e::".parse().unwrap();
        assert_eq!(embedded(embedded(outer)), embedded(outer));
    }
}
