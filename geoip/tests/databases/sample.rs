//! Small mmdb files, written for a test or a benchmark.

use std::net::{IpAddr, Ipv6Addr};

use maxminddb_writer::metadata::IpVersion;
use maxminddb_writer::paths::IpAddrWithMask;
use serde::Serialize;

/// An mmdb file, as its publisher would write it.
pub(crate) struct Sample(maxminddb_writer::Database);

impl Sample {
    /// A file with an IPv6 tree, in which IPv4 networks lie below `::/96`.
    pub(crate) fn new(kind: &str) -> Self {
        let mut database = maxminddb_writer::Database::default();
        database.metadata.ip_version = IpVersion::V6;
        database.metadata.database_type = kind.into();
        database.metadata.description.insert("en".into(), "a sample".into());
        database.metadata.binary_format_major_version = 2;
        database.metadata.build_epoch = 1_700_000_000;
        Self(database)
    }

    /// A file that knows of no IPv6 address.
    pub(crate) fn ipv4_only(kind: &str) -> Self {
        let mut sample = Self::new(kind);
        sample.0.metadata.ip_version = IpVersion::V4;
        sample
    }

    /// Gives a network a record.
    pub(crate) fn with(mut self, network: &str, record: impl Serialize) -> Self {
        self.insert(network.parse().unwrap(), record);
        self
    }

    /// Gives a network a record.
    pub(crate) fn insert(&mut self, network: IpAddrWithMask, record: impl Serialize) {
        let record = self.0.insert_value(record).unwrap();
        let in_ipv6_tree = matches!(self.0.metadata.ip_version, IpVersion::V6);
        let network = match network.addr {
            IpAddr::V4(address) if in_ipv6_tree => {
                let address = Ipv6Addr::from(u128::from(u32::from(address)));
                IpAddrWithMask::new(address.into(), network.mask + 96)
            }
            _ => network,
        };
        self.0.insert_node(network, record);
    }

    /// The file's bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.write_to(Vec::new()).unwrap()
    }

    /// The file, opened.
    pub(crate) fn open(&self) -> geoip::Database {
        geoip::Database::from_bytes("sample.mmdb".into(), self.bytes()).unwrap()
    }
}
