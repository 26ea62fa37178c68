//! A geo database in MaxMind's schema, over addresses that belong to nobody.
//!
//! Each country has three networks: one of the documentation prefixes of IPv4 (RFC 5737) and one of IPv6 (RFC 3849),
//! for clients that a trusted proxy names in `X-Forwarded-For`; and one of loopback, for clients that connect
//! themselves, since any address of 127.0.0.0/8 can be bound.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use maxminddb_writer::Database;
use maxminddb_writer::metadata::IpVersion;
use maxminddb_writer::paths::IpAddrWithMask;

/// The countries of the database.
pub const COUNTRIES: [&str; 31] = [
    "US", "DE", "FR", "IE", "NO", "GB", "CH", "BR", "IN", "CN", "RU", "SG", "JP", "AU", "CA", "MX", "IL", "FI", "BE",
    "NL", "IT", "ES", "SE", "AT", "RE", "GP", "GF", "MQ", "YT", "MF", "AX",
];

/// An address that the database does not list: its country is unknown.
pub const UNLISTED: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 255));

/// An address of an anonymous network, in Germany.
pub const ANONYMOUS: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 240));

/// The `host`-th documentation address in a country, 1 to 14.
pub fn address(country: &str, host: u8) -> IpAddr {
    assert!((1..15).contains(&host), "a /28 has hosts 1 to 14");
    IpAddr::V4(Ipv4Addr::from_bits(network(country).to_bits() + u32::from(host)))
}

/// A host of the `subnet`-th /64 of a country's IPv6 network. Each /64 counts as a client of its own.
pub fn address_v6(country: &str, subnet: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, index(country), subnet, 0, 0, 0, 1))
}

/// A loopback address in a country, for a client to connect from. Nobody trusts it.
pub fn loopback(country: &str) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 1, index(country).to_be_bytes()[1], 1))
}

/// The database as a file's bytes.
pub fn database() -> Vec<u8> {
    database_with(&[], 1_767_225_600)
}

/// The database with some networks (`address/prefix`) moved to other countries, and another build time (Unix seconds).
pub fn database_with(moved: &[(&str, &str)], build_epoch: u64) -> Vec<u8> {
    let mut database = empty("GeoLite2-City", build_epoch);
    let mut insert = |network: IpAddrWithMask, country: &str, anonymous: bool| {
        let record = database.insert_value(record(country, anonymous)).expect("a record");
        database.insert_node(in_ipv6_tree(network), record);
    };
    for country in COUNTRIES {
        insert(IpAddrWithMask::new(network(country).into(), 28), country, false);
        insert(
            IpAddrWithMask::new(Ipv6Addr::new(0x2001, 0xdb8, index(country), 0, 0, 0, 0, 0).into(), 48),
            country,
            false,
        );
        insert(IpAddrWithMask::new(loopback(country), 32), country, false);
    }
    insert(IpAddrWithMask::new(ANONYMOUS, 32), "DE", true);
    for (network, country) in moved {
        insert(network.parse().expect("a network"), country, false);
    }
    database.write_to(Vec::new()).expect("a database")
}

/// A database of nothing but these networks (`address/prefix`, each with its country), the larger before those within.
pub fn database_of(networks: &[(&str, &str)], build_epoch: u64) -> Vec<u8> {
    let mut database = empty("GeoLite2-Country", build_epoch);
    for (network, country) in networks {
        let record = database.insert_value(record(country, false)).expect("a record");
        database.insert_node(in_ipv6_tree(network.parse().expect("a network")), record);
    }
    database.write_to(Vec::new()).expect("a database")
}

/// A database of these networks (`address/prefix`) and records, as a file's bytes.
pub fn of_records(records: &[(&str, serde_json::Value)]) -> Vec<u8> {
    let mut database = empty("GeoLite2-City", 1_767_225_600);
    for (network, record) in records {
        let record = database.insert_value(record).expect("a record");
        database.insert_node(in_ipv6_tree(network.parse().expect("a network")), record);
    }
    database.write_to(Vec::new()).expect("a database")
}

/// A database as the free ones of `@ip-location-db` are: flat records, and no word of itself but its kind.
pub fn flat(networks: &[(&str, &str)]) -> Vec<u8> {
    let mut database = empty("country ipvAll", 1_767_225_600);
    database.metadata.description.clear();
    database.metadata.languages.clear();
    for (network, country) in networks {
        let record = database.insert_value(serde_json::json!({ "country_code": country })).expect("a record");
        database.insert_node(in_ipv6_tree(network.parse().expect("a network")), record);
    }
    database.write_to(Vec::new()).expect("a database")
}

/// The number of the autonomous system that announces a country's addresses.
pub fn asn_of(country: &str) -> u32 {
    64_500 + u32::from(index(country))
}

/// A database of those numbers, as a file's bytes.
pub fn asn_database() -> Vec<u8> {
    let mut database = empty("GeoLite2-ASN", 1_767_225_600);
    for country in COUNTRIES {
        let record = serde_json::json!({ "autonomous_system_number": asn_of(country) });
        let record = database.insert_value(record).expect("a record");
        database.insert_node(in_ipv6_tree(IpAddrWithMask::new(network(country).into(), 28)), record);
    }
    database.write_to(Vec::new()).expect("a database")
}

fn empty(kind: &str, build_epoch: u64) -> Database {
    let mut database = Database::default();
    database.metadata.ip_version = IpVersion::V6;
    database.metadata.database_type = kind.to_owned();
    database.metadata.languages = vec!["en".to_owned()];
    database.metadata.binary_format_major_version = 2;
    database.metadata.build_epoch = build_epoch;
    database.metadata.description = HashMap::from([("en".to_owned(), "made up for tests".to_owned())]);
    database
}

/// A record as MaxMind's city databases have them.
fn record(country: &str, anonymous: bool) -> serde_json::Value {
    let mut record = serde_json::json!({
        "city": { "names": { "en": format!("City of {country}") } },
        "country": { "iso_code": country, "names": { "en": country } },
        "registered_country": { "iso_code": country },
        "subdivisions": [{ "iso_code": format!("{country}-1") }],
    });
    if anonymous {
        record["traits"] = serde_json::json!({ "is_anonymous_proxy": true });
    }
    record
}

/// IPv4 lies below `::/96`.
fn in_ipv6_tree(network: IpAddrWithMask) -> IpAddrWithMask {
    match network.addr {
        IpAddr::V4(address) => {
            IpAddrWithMask::new(Ipv6Addr::from(u128::from(address.to_bits())).into(), network.mask + 96)
        }
        IpAddr::V6(_) => network,
    }
}

/// The /28 of a country: sixteen countries to a documentation prefix.
fn network(country: &str) -> Ipv4Addr {
    let index = index(country);
    let [prefix, last] = [index / 16, index % 16 * 16].map(|part| u8::try_from(part).expect("few countries"));
    let [a, b, c] = PREFIXES[usize::from(prefix)];
    Ipv4Addr::new(a, b, c, last)
}

fn index(country: &str) -> u16 {
    let index = COUNTRIES.iter().position(|known| *known == country);
    let index = index.unwrap_or_else(|| panic!("the database of the tests has no {country}"));
    u16::try_from(index).expect("few countries")
}

/// TEST-NET-1 to 3.
const PREFIXES: [[u8; 3]; 3] = [[192, 0, 2], [198, 51, 100], [203, 0, 113]];
