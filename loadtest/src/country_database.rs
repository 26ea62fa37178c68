//! Writes a GeoIP database for benches: thousands of networks, so that a look-up walks a real tree.

use std::collections::HashMap;
use std::io::Write;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use maxminddb_writer::Database;
use maxminddb_writer::metadata::IpVersion;
use maxminddb_writer::paths::IpAddrWithMask;

/// Writes `networks` as a MaxMind country database (MMDB 2.0, `country.iso_code`).
///
/// The tree is an IPv6 one with IPv4 under `::/96`, like the databases that MaxMind sells.
pub fn write(networks: &[(Ipv4Net, &str)], to: impl Write) -> Result<(), maxminddb_writer::Error> {
    let mut database = Database::default();
    database.metadata.ip_version = IpVersion::V6;
    database.metadata.database_type = "GeoLite2-Country".to_owned();
    database.metadata.languages = vec!["en".to_owned()];
    database.metadata.binary_format_major_version = 2;
    database.metadata.build_epoch = BUILD_EPOCH;
    database.metadata.description = HashMap::from([("en".to_owned(), "Made up for a load test".to_owned())]);
    let mut entries = HashMap::new();
    for (network, country) in networks {
        let entry = match entries.get(country) {
            Some(entry) => *entry,
            None => {
                let code = HashMap::from([("iso_code", *country)]);
                let value = HashMap::from([("country", &code), ("registered_country", &code)]);
                let entry = database.insert_value(value)?;
                entries.insert(*country, entry);
                entry
            }
        };
        let mapped = Ipv4Addr::to_ipv6_compatible(&network.network());
        database.insert_node(IpAddrWithMask::new(mapped.into(), 96 + network.prefix_len()), entry);
    }
    database.write_to(to)?;
    Ok(())
}

/// `count` (at most 65,536) made-up networks of /20, spread over the public address space, always the same ones, each
/// with one of 24 countries.
pub fn networks(count: usize) -> Vec<(Ipv4Net, &'static str)> {
    // An odd factor visits every /20 once, in an order that spreads.
    let spread = (0..1u32 << 20).map(|n| Ipv4Addr::from((n.wrapping_mul(0x9_E379) & 0xF_FFFF) << 12));
    let public = spread.filter(|address| is_public(*address)).take(count.min(65_536));
    public
        .zip(COUNTRIES.iter().cycle())
        .map(|(address, country)| (Ipv4Net::new_assert(address, 20), *country))
        .collect()
}

/// Returns whether the /20 from this address on is ordinary unicast space (IANA special-purpose registry,
/// coarsely).
fn is_public(address: Ipv4Addr) -> bool {
    !matches!(
        address.octets(),
        [0 | 10 | 127 | 224.., ..]
            | [100, 64..=127, ..]
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 0 | 88 | 168, ..]
            | [198, 18 | 19 | 51, ..]
            | [203, 0, ..]
    )
}

const COUNTRIES: [&str; 24] = [
    "US", "DE", "FR", "GB", "JP", "BR", "IN", "CA", "NL", "PL", "ES", "IT", "SE", "AU", "SG", "KR", "MX", "ZA", "CH",
    "AT", "IE", "BE", "DK", "FI",
];

/// 2026-01-01T00:00:00Z: fixed, so that the same database comes out each time.
const BUILD_EPOCH: u64 = 1_767_225_600;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_network_is_found_with_its_country() {
        let networks = networks(4_096);
        let mut file = Vec::new();
        write(&networks, &mut file).unwrap();
        let reader = maxminddb::Reader::from_source(file).unwrap();
        reader.verify().unwrap();
        for (network, country) in &networks {
            for address in [network.network(), network.broadcast()] {
                let found = reader.lookup(address.into()).unwrap();
                let code: Option<&str> = found.decode_path(&maxminddb::path!["country", "iso_code"]).unwrap();
                assert_eq!(code, Some(*country), "{address}");
            }
        }
        let other = reader.lookup("10.0.0.1".parse().unwrap()).unwrap();
        assert!(!other.has_data());
    }

    #[test]
    fn networks_are_distinct_and_public() {
        let networks = networks(65_536);
        assert_eq!(networks.iter().map(|(network, _)| network).collect::<HashSet<_>>().len(), 65_536);
        assert!(networks.iter().all(|(network, _)| is_public(network.network())));
    }
}
