//! A geo database for the simulated clients.

use std::collections::HashMap;
use std::io::Write;

use maxminddb_writer::Database;
use maxminddb_writer::metadata::IpVersion;
use maxminddb_writer::paths::IpAddrWithMask;

use crate::clients::{GROUPS, UNKNOWN};

/// Writes a MaxMind country database (MMDB 2.0, `country.iso_code`) of the clients' networks and
/// nothing else. Clients of unknown country are not in it.
pub(crate) fn write(to: impl Write, build_epoch: u64) -> anyhow::Result<()> {
    let mut database = Database::default();
    let metadata = &mut database.metadata;
    // IPv4 under ::/96, like the databases that MaxMind sells.
    metadata.ip_version = IpVersion::V6;
    metadata.binary_format_major_version = 2;
    metadata.database_type = "Meridian-Demo-Country".to_owned();
    metadata.languages = vec!["en".to_owned()];
    metadata.build_epoch = build_epoch;
    metadata.description = HashMap::from([("en".to_owned(), DESCRIPTION.to_owned())]);
    for group in GROUPS.iter().filter(|group| group.code != UNKNOWN) {
        let country = HashMap::from([("iso_code", group.code)]);
        let record = database.insert_value(HashMap::from([("country", &country), ("registered_country", &country)]))?;
        for (address, length) in group.networks() {
            let network = match address {
                std::net::IpAddr::V4(v4) => IpAddrWithMask::new(v4.to_ipv6_compatible().into(), 96 + length),
                v6 @ std::net::IpAddr::V6(_) => IpAddrWithMask::new(v6, length),
            };
            database.insert_node(network, record);
        }
    }
    database.write_to(to)?;
    Ok(())
}

const DESCRIPTION: &str = "Made up for meridian demo: documentation prefixes (RFC 5737, RFC 3849) and nothing else";
