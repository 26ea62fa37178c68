//! A geo database is refused with a reason, or every look-up in it ends where its search tree leads. The input is a line
//! with the bits of a record, the number of nodes and the version of IP, and then the tree, its 16 zeros and the data
//! in hexadecimal; the metadata is put behind.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use geoip::{Database, DatabaseError};

pub(crate) fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (head, body) = text.split_once('\n').unwrap_or((&text, ""));
    let mut numbers = head.split(' ').map(|number| number.parse::<u32>().unwrap_or(0));
    let mut number = || numbers.next().unwrap_or(0);
    let tree = Tree { bits: number(), nodes: number(), version: number(), bytes: decoded(body) };
    let open = || Database::from_bytes("fuzzed.mmdb".into(), tree.file());
    match (open(), open()) {
        (Ok(first), Ok(second)) => {
            for address in ADDRESSES {
                // In an IPv4 tree an IPv6 address is nowhere, and in an IPv6 tree an IPv4 address is below ::/96.
                let found = first.lookup(address);
                assert_eq!(found, second.lookup(address), "another look-up, another answer");
                assert!(found.is_none() || tree.leads_somewhere(address), "{address} is nowhere: {found:?}");
            }
        }
        (Err(first), Err(second)) => {
            assert_eq!(first.to_string(), second.to_string(), "another reading, another problem");
            assert!(matches!(first, DatabaseError::Damaged { .. } | DatabaseError::Irrelevant { .. }), "{first}");
        }
        (first, second) => panic!("another reading, another result: {first:?} {second:?}"),
    }
}

/// The two ends of either family, and some between.
const ADDRESSES: [IpAddr; 8] = [
    IpAddr::V4(Ipv4Addr::new(0, 0, 0, 0)),
    IpAddr::V4(Ipv4Addr::new(81, 2, 69, 142)),
    IpAddr::V4(Ipv4Addr::new(128, 0, 0, 1)),
    IpAddr::V4(Ipv4Addr::new(255, 255, 255, 255)),
    IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2a02, 0x8100, 0, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0x8000, 0, 0, 0, 0, 0, 0, 0)),
    IpAddr::V6(Ipv6Addr::new(0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff)),
];

struct Tree {
    bits: u32,
    nodes: u32,
    version: u32,
    bytes: Vec<u8>,
}

impl Tree {
    /// The file, with metadata as `@ip-location-db` writes it.
    fn file(&self) -> Vec<u8> {
        let text = |text: &str| [&[0x40 | u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
        let number = |number: u32| [&[0xc4][..], &number.to_be_bytes()].concat();
        let small = |number: u32| [&[0xa2][..], &u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes()].concat();
        let fields = [
            ("binary_format_major_version", small(2)),
            ("binary_format_minor_version", small(0)),
            ("build_epoch", vec![0x04, 0x02, 0x6a, 0x32, 0xf4, 0x80]),
            ("database_type", text("country ipvAll")),
            ("description", vec![0xe0]),
            ("ip_version", small(self.version)),
            ("languages", vec![0x00, 0x04]),
            ("node_count", number(self.nodes)),
            ("record_size", small(self.bits)),
        ];
        let mut file = self.bytes.clone();
        file.extend(b"\xab\xcd\xefMaxMind.com\xe9");
        fields.into_iter().for_each(|(key, value)| file.extend([text(key), value].concat()));
        file
    }

    /// Whether the tree, read bit by bit, leads an address into the data.
    fn leads_somewhere(&self, address: IpAddr) -> bool {
        let bits: Vec<bool> = match (geoip::embedded(address), self.version) {
            (IpAddr::V4(address), 4) => (0..32).map(|bit| address.to_bits() >> (31 - bit) & 1 == 1).collect(),
            (IpAddr::V6(_), 4) => return false,
            (IpAddr::V4(address), _) => {
                let below = (0..32).map(|bit| address.to_bits() >> (31 - bit) & 1 == 1);
                std::iter::repeat_n(false, 96).chain(below).collect()
            }
            (IpAddr::V6(address), _) => (0..128).map(|bit| address.to_bits() >> (127 - bit) & 1 == 1).collect(),
        };
        let mut node = 0;
        for bit in bits {
            if node >= self.nodes {
                break;
            }
            // Half-bytes make every size of records one arithmetic.
            let size = self.bits as usize / 4;
            let start = node as usize * size;
            let halves: Vec<u32> = self.bytes[start..start + size]
                .iter()
                .flat_map(|byte| [u32::from(byte >> 4), u32::from(byte & 15)])
                .collect();
            let joined = |halves: &[u32]| halves.iter().fold(0, |all: u32, half| all << 4 | half);
            node = match (self.bits, bit) {
                (28, false) => joined(&[&halves[6..7], &halves[..6]].concat()),
                (_, false) => joined(&halves[..size]),
                (_, true) => joined(&halves[size..]),
            };
        }
        node > self.nodes
    }
}

/// The bytes that pairs of digits spell; whatever else is there is skipped.
fn decoded(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|c| c.to_digit(16)).filter_map(|digit| digit.try_into().ok()).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
