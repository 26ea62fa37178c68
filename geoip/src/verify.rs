//! Verifies that every look-up in an mmdb file succeeds.
//!
//! maxminddb's `Reader::verify` asks more of a file than a look-up needs: it refuses one without a
//! description, as `@ip-location-db` makes them. So this module checks what a look-up needs, and
//! nothing else: a sound [`Tree`], and values that the look-ups' own reader can read to their end.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use maxminddb::{MaxMindDbError, Reader};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use thiserror::Error;

use crate::schema::Record;
use crate::tree::{Leaf, Tree, TreeFault};

/// What is wrong with an mmdb file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Damage {
    /// The metadata is missing or impossible.
    #[error(transparent)]
    Metadata(MaxMindDbError),
    /// The search tree is damaged.
    #[error(transparent)]
    Tree(#[from] TreeFault),
    /// A value cannot be read to its end.
    #[error("at offset {offset}: the record of {address} cannot be read: {reason}")]
    Record {
        /// Where the record begins, from the file's beginning.
        offset: usize,
        /// An address that has the record.
        address: IpAddr,
        /// The reader's error.
        reason: MaxMindDbError,
    },
    /// The records share so much that, read to their ends, they are far longer than the file.
    #[error("the records, read to their ends, are more than {TIMES} times as long as the file")]
    Entangled,
}

/// What the records of a sound file have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Some record has a country, an autonomous system or an anonymous user.
    pub(crate) is_relevant: bool,
    /// Some record has coordinates.
    pub(crate) has_coordinates: bool,
}

/// Verifies that every look-up in the file ends, within the file and at a value that can be read.
///
/// Takes time in proportion to the file's length, and memory in proportion to its nodes and an eighth
/// of its data.
///
/// # Errors
/// The first damage found, with its place.
pub(crate) fn verify(bytes: &[u8]) -> Result<Contents, Damage> {
    let reader = Reader::from_source(bytes).map_err(Damage::Metadata)?;
    let metadata = reader.metadata();
    let tree = Tree {
        bytes,
        nodes: metadata.node_count,
        record_bits: metadata.record_size,
        address_bits: if metadata.ip_version == 4 { 32 } else { 128 },
        data_end: metadata_start(bytes),
    };
    let mut contents = Contents::default();
    let mut work = bytes.len().saturating_mul(TIMES);
    for leaf in tree.leaves()? {
        let address = address_of(leaf, tree.address_bits);
        let damaged = |reason| Damage::Record { offset: leaf.offset, address, reason };
        let found = reader.lookup(address).map_err(damaged)?;
        let whole: Whole = found.decode().map_err(damaged)?.unwrap_or_default();
        work = work.checked_sub(whole.0).ok_or(Damage::Entangled)?;
        if !(contents.is_relevant && contents.has_coordinates) {
            // A value that is no record at all, such as a text, can be read and is not relevant.
            let record: Option<Record<'_>> = found.decode().ok().flatten();
            contents.is_relevant |= record.is_some_and(|record| record.is_relevant());
            contents.has_coordinates |= record.is_some_and(|record| record.coordinates.is_some());
        }
    }
    Ok(contents)
}

/// Returns where the data section ends: at the last of the markers that announce metadata.
fn metadata_start(bytes: &[u8]) -> usize {
    bytes.windows(MARKER.len()).rposition(|window| window == MARKER).unwrap_or_default()
}

fn address_of(leaf: Leaf, bits: u8) -> IpAddr {
    match u32::try_from(leaf.address) {
        Ok(address) if bits == 32 => Ipv4Addr::from(address).into(),
        _ => Ipv6Addr::from(leaf.address).into(),
    }
}

const MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";

/// A value that was read to its end, as a look-up reads it, and dropped: about how many bytes it had.
#[derive(Debug, Default)]
struct Whole(usize);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Nested(MOST_LEVELS).deserialize(deserializer).map(Self)
    }
}

/// Reads one value with at most so many levels of maps and arrays.
#[derive(Debug, Clone, Copy)]
struct Nested(u8);

impl Nested {
    fn inner<E: Error>(self) -> Result<Self, E> {
        let too_deep = || E::custom(format_args!("it is nested in more than {MOST_LEVELS} levels"));
        self.0.checked_sub(1).map(Self).ok_or_else(too_deep)
    }
}

impl<'de> DeserializeSeed<'de> for Nested {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nested {
    type Value = usize;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<usize, E> {
        Ok(1 + text.len())
    }

    fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<usize, E> {
        Ok(1 + bytes.len())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<usize, E> {
        Ok(1)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<usize, E> {
        Ok(1)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<usize, E> {
        Ok(1)
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<usize, E> {
        Ok(1)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<usize, E> {
        Ok(1)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<usize, A::Error> {
        let inner = self.inner()?;
        let mut work = 1;
        while let Some(element) = elements.next_element_seed(inner)? {
            work += element;
        }
        Ok(work)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<usize, A::Error> {
        let inner = self.inner()?;
        let mut work = 1;
        while let Some(key) = map.next_key::<&str>()? {
            work += 1 + key.len() + map.next_value_seed(inner)?;
        }
        Ok(work)
    }
}

/// The deepest nesting that is read, which bounds the recursion and stack of look-ups. Real records have four levels.
const MOST_LEVELS: u8 = 64;

/// How many times the file's length is read at most. Real records share their countries and names, and
/// come to less than four times; a file beyond this was made to be slow.
const TIMES: usize = 32;
