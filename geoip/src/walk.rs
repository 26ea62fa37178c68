//! Walks the whole address space, network by network, over several databases.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;
use std::path::PathBuf;

use ipnet::IpNet;
use maxminddb::MaxMindDbError;
use thiserror::Error;

use crate::schema::Record;
use crate::{Database, Place};

/// A walk through the address space in lock-step over several databases: each step is one network, the largest within
/// which no database has more than one record.
///
/// IPv4 comes first, then IPv6 without the prefixes that carry an IPv4 address, whose addresses are looked up as that
/// one (see [`embedded()`](crate::embedded())). Each step makes the same look-ups as a request, and each record is
/// decoded once.
#[derive(Debug)]
pub struct Walk<'db> {
    cursors: Vec<Cursor<'db>>,
    /// The stretches still ahead, the nearest last.
    ahead: Vec<Stretch>,
    /// Whether the next step is the first of a stretch, where the cursors' entries no longer hold.
    anew: bool,
    steps: u64,
    most_steps: u64,
}

/// One network of a [`Walk`].
#[derive(Debug)]
pub struct Step<'walk, 'db> {
    /// The network.
    pub network: IpNet,
    cursors: &'walk [Cursor<'db>],
}

/// Why a walk cannot continue.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WalkError {
    /// A look-up fails.
    #[error(
        "the geo database {} is damaged: the look-up of {address} fails ({reason}); download it again, unpacked and \
         whole",
        .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The address.
        address: IpAddr,
        /// The reader's error.
        reason: MaxMindDbError,
    },
    /// The databases have far more networks than nodes: their trees share branches, to keep readers busy.
    #[error(
        "the geo databases have more than {0} networks, many times as many as their trees have room for: a tree leads \
         back into itself; download them again"
    )]
    Endless(u64),
}

/// The most networks of a walk, for each node. A tree has one leaf more than it has nodes; one of a few kilobytes whose
/// branches lead into each other has 2^128.
const MOST_STEPS_PER_NODE: u64 = 64;

/// The most steps beside those of the databases: the stretches between the prefixes that are left out.
const STEPS_OF_NO_DATABASE: u64 = 1024;

/// The position of a walk in one database.
#[derive(Debug)]
struct Cursor<'db> {
    database: &'db Database,
    /// The records decoded so far, by their offset.
    records: HashMap<usize, Option<Record<'db>>>,
    current: Option<Entry<'db>>,
}

/// What a database has for a range of addresses.
#[derive(Debug, Clone, Copy)]
struct Entry<'db> {
    /// The last address of the range.
    until: u128,
    /// Whether the database has something here, readable or not.
    listed: bool,
    record: Option<Record<'db>>,
}

/// Addresses of one family, as numbers.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    family: Family,
    first: u128,
    last: u128,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl<'db> Walk<'db> {
    /// Begins a walk over these databases.
    pub fn over(databases: impl IntoIterator<Item = &'db Database>) -> Self {
        let cursors: Vec<Cursor<'db>> =
            databases.into_iter().map(|database| Cursor { database, records: HashMap::new(), current: None }).collect();
        let mut ahead = stretches();
        ahead.reverse();
        let nodes: u64 = cursors.iter().map(|cursor| cursor.database.nodes()).sum();
        Self { cursors, ahead, anew: true, steps: 0, most_steps: nodes * MOST_STEPS_PER_NODE + STEPS_OF_NO_DATABASE }
    }

    /// Advances to the next network; `None` at the end.
    ///
    /// # Errors
    /// When a database is damaged, or its tree has far more leaves than nodes.
    pub fn step(&mut self) -> Result<Option<Step<'_, 'db>>, WalkError> {
        let Some(stretch) = self.ahead.pop() else { return Ok(None) };
        self.steps += 1;
        if self.steps > self.most_steps {
            return Err(WalkError::Endless(self.most_steps));
        }
        if std::mem::take(&mut self.anew) {
            self.cursors.iter_mut().for_each(|cursor| cursor.current = None);
        }
        let mut last = stretch.last;
        for cursor in &mut self.cursors {
            last = last.min(cursor.at(stretch.family, stretch.first)?.until);
        }
        let (network, last) = stretch.family.largest_network(stretch.first, last);
        if last < stretch.last {
            self.ahead.push(Stretch { first: last + 1, ..stretch });
        } else {
            self.anew = true;
        }
        Ok(Some(Step { network, cursors: &self.cursors }))
    }

    /// Returns how many steps were made, and about how many there are in total.
    pub fn progress(&self) -> (u64, u64) {
        // A binary tree has one leaf more than it has nodes; neighbours of several trees coincide often.
        let most = self.cursors.iter().map(|cursor| cursor.database.nodes() + 1).max().unwrap_or(1);
        (self.steps, most.max(self.steps))
    }
}

impl<'db> Step<'_, 'db> {
    /// Returns the network's place by some of the databases, which are given by their positions in the walk: for each
    /// address the same as [`GeoDatabases::lookup`](crate::GeoDatabases::lookup) of these.
    pub fn place(&self, databases: impl IntoIterator<Item = usize>) -> Place<'db> {
        let mut place = Place::default();
        for record in databases.into_iter().filter_map(|index| self.entry(index)?.record.as_ref()) {
            place.learn(record);
        }
        place
    }

    /// Returns whether a database, given by its position in the walk, has any record here.
    pub(crate) fn is_listed(&self, database: usize) -> bool {
        self.entry(database).is_some_and(|entry| entry.listed)
    }

    /// Returns whether any of the databases has a record here.
    pub fn is_assigned(&self) -> bool {
        (0..self.cursors.len()).any(|database| self.is_listed(database))
    }

    /// Returns the positions of all databases.
    pub fn databases(&self) -> Range<usize> {
        0..self.cursors.len()
    }

    fn entry(&self, database: usize) -> Option<&Entry<'db>> {
        self.cursors.get(database)?.current.as_ref()
    }
}

impl<'db> Cursor<'db> {
    /// Advances to an address that is not before the last one.
    fn at(&mut self, family: Family, number: u128) -> Result<Entry<'db>, WalkError> {
        if let Some(entry) = self.current.filter(|entry| number <= entry.until) {
            return Ok(entry);
        }
        let entry = self.look_up(family, number)?;
        self.current = Some(entry);
        Ok(entry)
    }

    fn look_up(&mut self, family: Family, number: u128) -> Result<Entry<'db>, WalkError> {
        let address = family.address(number);
        let damaged = |reason| WalkError::Damaged { path: self.database.path().to_owned(), address, reason };
        let Some(found) = self.database.find(address).map_err(damaged)? else {
            return Ok(Entry { until: family.last(), listed: false, record: None });
        };
        let record = found
            .offset
            .and_then(|offset| *self.records.entry(offset).or_insert_with(|| self.database.record(address)));
        let until = number | family.host_mask(found.prefix_len);
        Ok(Entry { until, listed: found.offset.is_some(), record })
    }
}

impl Family {
    fn address(self, number: u128) -> IpAddr {
        match self {
            // Numbers of IPv4 stretches have 32 bits.
            Family::V4 => IpAddr::V4((number as u32).into()),
            Family::V6 => IpAddr::V6(number.into()),
        }
    }

    fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }

    fn last(self) -> u128 {
        self.host_mask(0)
    }

    /// Returns the bits that a prefix leaves to hosts.
    fn host_mask(self, prefix_len: u8) -> u128 {
        let bits = u32::from(self.bits().saturating_sub(prefix_len));
        u128::MAX.checked_shr(128 - bits).unwrap_or(0)
    }

    /// Returns the largest network that begins at `first` and does not go past `last`, and its last address.
    fn largest_network(self, first: u128, last: u128) -> (IpNet, u128) {
        let aligned = first.trailing_zeros().min(u32::from(self.bits()));
        let mut host_bits = aligned as u8;
        while host_bits > 0 && first | self.host_mask(self.bits() - host_bits) > last {
            host_bits -= 1;
        }
        let prefix_len = self.bits() - host_bits;
        (IpNet::new_assert(self.address(first), prefix_len), first | self.host_mask(prefix_len))
    }
}

/// Returns all addresses that are looked up as they are.
fn stretches() -> Vec<Stretch> {
    let mut stretches = vec![Stretch { family: Family::V4, first: 0, last: Family::V4.last() }];
    let mut first = 0;
    for (prefix, prefix_len) in CARRYING_IPV4 {
        let from = prefix.to_bits();
        if from > first {
            stretches.push(Stretch { family: Family::V6, first, last: from - 1 });
        }
        first = (from | Family::V6.host_mask(prefix_len)) + 1;
    }
    stretches.push(Stretch { family: Family::V6, first, last: Family::V6.last() });
    stretches
}

/// The prefixes whose addresses stand for an IPv4 address, in ascending order: where the tree has IPv4 itself,
/// IPv4-mapped, NAT64, Teredo, 6to4. The few of them that are looked up as IPv6, for what they carry is no address of
/// the Internet, are left out.
const CARRYING_IPV4: [(Ipv6Addr, u8); 5] = [
    (Ipv6Addr::UNSPECIFIED, 96),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_databases_the_stretches_are_the_walk() {
        let mut walk = Walk::over([]);
        let (mut ipv4, mut ipv6, mut previous) = (0_u128, 0_u128, None);
        while let Some(step) = walk.step().unwrap() {
            assert!(!step.is_assigned());
            assert_eq!(step.place(step.databases()), Place::default());
            let (first, last) = (step.network.network(), step.network.broadcast());
            assert!(previous < Some(first), "{first}");
            previous = Some(last);
            match step.network {
                IpNet::V4(network) => ipv4 += 1_u128 << (32 - network.prefix_len()),
                IpNet::V6(network) => ipv6 += 1_u128 << (128 - network.prefix_len()),
            }
            for (prefix, prefix_len) in CARRYING_IPV4 {
                let carrying = IpNet::new_assert(prefix.into(), prefix_len);
                assert!(!carrying.contains(&first) && !step.network.contains(&carrying.network()), "{first}");
            }
        }
        assert_eq!(ipv4, 1 << 32);
        let left_out: u128 = CARRYING_IPV4.iter().map(|(_, prefix_len)| 1_u128 << (128 - prefix_len)).sum();
        assert_eq!(ipv6, u128::MAX - left_out + 1);
    }

    #[test]
    fn networks_are_aligned_and_end_in_time() {
        for (family, first, last, expected) in [
            (Family::V4, 0, u128::from(u32::MAX), "0.0.0.0/0"),
            (Family::V4, 0, 255, "0.0.0.0/24"),
            (Family::V4, 0, 254, "0.0.0.0/25"),
            (Family::V4, 1, 255, "0.0.0.1/32"),
            (Family::V4, 256, 1024, "0.0.1.0/24"),
            (Family::V4, u128::from(u32::MAX), u128::from(u32::MAX), "255.255.255.255/32"),
            (Family::V6, 0, u128::MAX, "::/0"),
            (Family::V6, 1 << 32, u128::MAX, "::1:0:0/96"),
            (Family::V6, u128::MAX, u128::MAX, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"),
        ] {
            assert_eq!(family.largest_network(first, last).0.to_string(), expected);
        }
    }
}
