//! An mmdb file put together byte by byte: for what no writer writes.

use std::path::PathBuf;

use geoip::{Database, DatabaseError};

/// A file in the making. The default has one node, both of whose records lead to a record with a country.
#[derive(Clone)]
pub(crate) struct Raw {
    pub(crate) nodes: Vec<[u32; 2]>,
    pub(crate) record_bits: u16,
    pub(crate) separator: [u8; 16],
    pub(crate) data: Vec<u8>,
    /// The metadata's fields: keys and encoded values.
    pub(crate) metadata: Vec<(&'static str, Vec<u8>)>,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            nodes: vec![[17, 17]],
            record_bits: 24,
            separator: [0; 16],
            data: map(&[("country_code", text("DE"))]),
            // As @ip-location-db writes them.
            metadata: vec![
                ("binary_format_major_version", vec![0xa1, 2]),
                ("binary_format_minor_version", vec![0xa0]),
                ("build_epoch", vec![0x04, 0x02, 0x6a, 0x32, 0xf4, 0x80]),
                ("database_type", text("country ipv4")),
                ("description", vec![0xe0]),
                ("ip_version", vec![0xa1, 4]),
                ("languages", vec![0x00, 0x04]),
            ],
        }
    }
}

impl Raw {
    /// The same with other data.
    pub(crate) fn data(data: impl Into<Vec<u8>>) -> Self {
        Self { data: data.into(), ..Self::default() }
    }

    /// The same with another value of a field of the metadata.
    pub(crate) fn with(mut self, key: &'static str, value: impl Into<Vec<u8>>) -> Self {
        self.metadata.retain(|(known, _)| *known != key);
        self.metadata.push((key, value.into()));
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for [left, right] in self.nodes.iter().map(|node| node.map(u32::to_be_bytes)) {
            match self.record_bits {
                24 => bytes.extend([&left[1..], &right[1..]].concat()),
                28 => bytes.extend([&left[1..], &[left[0] << 4 | right[0]], &right[1..]].concat()),
                _ => bytes.extend([left, right].concat()),
            }
        }
        bytes.extend(self.separator);
        bytes.extend(&self.data);
        bytes.extend(b"\xab\xcd\xefMaxMind.com");
        let mut fields = self.metadata.clone();
        let known: Vec<&str> = self.metadata.iter().map(|(key, _)| *key).collect();
        let nodes = u32::try_from(self.nodes.len()).unwrap().to_be_bytes();
        let of_the_tree = [
            ("node_count", [&[0xc4][..], &nodes].concat()),
            ("record_size", [&[0xa2][..], &self.record_bits.to_be_bytes()].concat()),
        ];
        fields.extend(of_the_tree.into_iter().filter(|(key, _)| !known.contains(key)));
        bytes.extend(map(&fields));
        bytes
    }

    pub(crate) fn open(&self) -> Result<Database, DatabaseError> {
        Database::from_bytes(PathBuf::from("raw.mmdb"), self.bytes())
    }
}

/// A text of up to 28 bytes.
pub(crate) fn text(text: &str) -> Vec<u8> {
    [&[0x40 | u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

/// A map of up to 28 fields.
pub(crate) fn map(fields: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = vec![0xe0 | u8::try_from(fields.len()).unwrap()];
    fields.iter().for_each(|(key, value)| bytes.extend([text(key), value.clone()].concat()));
    bytes
}

/// A pointer to one of the first 2048 bytes of the data section.
pub(crate) fn pointer(to: u16) -> Vec<u8> {
    let [high, low] = to.to_be_bytes();
    vec![0x20 | high, low]
}
