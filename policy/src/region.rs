//! Regions: where the service runs, and sets of them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::country::Country;

/// A region's index in its table. Ids of different tables are unrelated; names are the bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegionId(pub(crate) u16);

impl RegionId {
    /// Returns the id at a position of the table's region list; `None` past [`RegionSet::CAPACITY`].
    pub fn new(index: usize) -> Option<Self> {
        (index < RegionSet::CAPACITY).then_some(Self(index as u16))
    }

    /// Returns the position in the table's region list.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Returns the region's bit of one 64-bit word of a [`RegionSet`]; 0 in the other words.
    pub(crate) fn in_word(self, word: usize) -> u64 {
        if self.index() / 64 == word { 1 << (self.index() % 64) } else { 0 }
    }

    /// Returns the regions of one 64-bit word of a [`RegionSet`], in id order.
    pub(crate) fn of_word(word: usize, bits: u64) -> Members<'static> {
        Members { words: [].iter(), rest: bits, base: (word * 64 + 64) as u16 }
    }
}

/// One place where the service runs, as its table describes it.
#[derive(Clone, Debug)]
pub struct Region {
    /// The name, unique in the table.
    pub name: String,
    /// The country whose law holds there.
    pub country: Country,
    /// Latitude and longitude in degrees; used where no latency is known.
    pub coordinates: Option<(f64, f64)>,
    /// The kind of place, for selectors.
    pub tier: Tier,
    /// What the region is for.
    pub role: Role,
    /// Lower is tried first; regions of one priority compete by score.
    pub priority: u16,
    /// Percent, `0..=100`, of the clients that would choose this region that get it.
    pub weight: u8,
    /// Its share of the clients among the regions of its priority that serve them, in proportion to theirs; `None`
    /// where scores decide. Regions of one priority that are all cold, or all not, have shares together or not at all;
    /// where one of the priority is a standby, which is now the one and now the other, all of it.
    pub share: Option<u32>,
    /// What makes it a standby; `None` for a region that takes clients whenever its priority says so.
    pub standby: Option<Standby>,
    /// The operator's lever.
    pub state: AdminState,
    /// Whether it serves reads and writes.
    pub capabilities: Capabilities,
    /// Who runs it, which decides who controls what is there; `None` when nobody has said.
    pub operator: Option<Operator>,
    /// The compliance frameworks it holds, in lower case.
    pub compliance: Vec<String>,
    /// Requests per second it is built for; `None` when unknown.
    pub capacity_rps: Option<f64>,
    /// Egress cost in the table's currency per GB.
    pub cost_per_gb: f64,
    /// The line of the table that declares it, from 1.
    pub line: u32,
}

/// Who runs a region: control of it follows its operator's law, wherever the region is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Its name.
    pub name: String,
    /// The country whose law binds it.
    pub country: Country,
    /// How independent it is of other countries' law, as a label such as `seal-3`; `None` when unknown.
    pub assurance: Option<String>,
}

/// That a region is a standby.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standby {
    /// For how long it must be wanted before it takes clients.
    pub promote_after: Duration,
    /// The names of the regions that it stands in for; none for the active regions of its own jurisdictions.
    pub of: Vec<String>,
    /// On which conditions it takes writes over from the one region that it stands in for; `None` if it never does.
    pub writes: Option<TakesWrites>,
}

/// That a standby takes writes over, once it says that it is the primary, and what else must hold
/// ([`crate::health::Writer`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakesWrites {
    /// How far it may have been behind when the primary was lost, by what it said before.
    pub max_lag: Duration,
    /// Of how many nodes there must be a majority at least, however few are known.
    pub voters: u32,
}

impl TakesWrites {
    /// The shortest time for which a primary must have been lost: so that what nodes say of it counts for
    /// [`crate::health::Writer::WORD_AGE`], and a node that is cut off still stops before the others act, three and a half
    /// seconds of which are for clocks that differ, and for the seconds in which nodes speak.
    pub const LEAST_PROMOTE_AFTER: Duration = Duration::from_secs(10);
}

impl Region {
    /// Returns whether the region serves this kind of access, at least at times: a standby that takes writes over may.
    pub fn may_serve(&self, access: Access) -> bool {
        let takes_over = self.standby.as_ref().is_some_and(|standby| standby.writes.is_some());
        self.capabilities.serves(access) || access == Access::Write && takes_over
    }
}

/// The kind of place a region is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Tier {
    Primary,
    Secondary,
    Tertiary,
    Edge,
}

/// What a region is for: it sets the default priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes traffic (priority 0).
    Active,
    /// Runs, and takes over (priority 1).
    Warm,
    /// Must be started first (priority 2).
    Cold,
}

impl Role {
    /// Returns the priority of a region that names none.
    pub fn default_priority(self) -> u16 {
        match self {
            Role::Active => 0,
            Role::Warm => 1,
            Role::Cold => 2,
        }
    }
}

/// The operator's lever on a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AdminState {
    /// Takes traffic.
    Serving,
    /// Only clients that are pinned there still reach it.
    Draining,
    /// Nobody reaches it.
    Disabled,
}

/// Whether a request changes state at the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Access {
    Read,
    Write,
}

/// Which kinds of access a region serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Capabilities {
    pub read: bool,
    pub write: bool,
}

impl Capabilities {
    /// Returns whether the region serves this kind of access.
    pub fn serves(self, access: Access) -> bool {
        match access {
            Access::Read => self.read,
            Access::Write => self.write,
        }
    }
}

/// A set of a table's regions: a fixed bitset, `Copy`, no allocation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RegionSet([u64; RegionSet::CAPACITY / 64]);

impl RegionSet {
    /// The most regions a table may have.
    pub const CAPACITY: usize = 1024;

    /// No region.
    pub const EMPTY: Self = Self([0; Self::CAPACITY / 64]);

    /// Makes the first `count` regions, which is every region of a table of that size.
    pub fn first(count: usize) -> Self {
        (0..count).filter_map(RegionId::new).collect()
    }

    /// Makes the set of these words of 64 regions.
    pub(crate) fn of_words(word: impl Fn(usize) -> u64) -> Self {
        Self(std::array::from_fn(word))
    }

    /// 64 regions of the set, from `64 * word`.
    pub(crate) fn word(&self, word: usize) -> u64 {
        self.0[word]
    }

    /// Adds a region.
    pub fn insert(&mut self, id: RegionId) {
        self.0[id.index() / 64] |= 1 << (id.index() % 64);
    }

    /// Takes a region out.
    pub fn remove(&mut self, id: RegionId) {
        self.0[id.index() / 64] &= !(1 << (id.index() % 64));
    }

    /// Returns whether the region is in the set.
    pub fn contains(&self, id: RegionId) -> bool {
        self.0[id.index() / 64] & (1 << (id.index() % 64)) != 0
    }

    /// Returns whether no region is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Returns how many regions are in the set.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Regions in both sets.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a & b)
    }

    /// Regions in either set.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a | b)
    }

    /// Regions of this set that are not in the other.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a & !b)
    }

    /// Returns whether every region of this set is in the other.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.without(other).is_empty()
    }

    /// Returns the members in id order.
    pub fn iter(&self) -> Members<'_> {
        Members { words: self.0.iter(), rest: 0, base: 0 }
    }

    fn zip(&self, other: &Self, op: impl Fn(u64, u64) -> u64) -> Self {
        let mut words = self.0;
        for (word, more) in words.iter_mut().zip(other.0) {
            *word = op(*word, more);
        }
        Self(words)
    }
}

/// The members of a set, in id order.
#[derive(Clone, Debug)]
pub struct Members<'a> {
    words: std::slice::Iter<'a, u64>,
    /// What is left of the current word, whose first bit is the region `base - 64`.
    rest: u64,
    base: u16,
}

impl Iterator for Members<'_> {
    type Item = RegionId;

    fn next(&mut self) -> Option<RegionId> {
        while self.rest == 0 {
            self.rest = *self.words.next()?;
            self.base += 64;
        }
        let bit = self.rest.trailing_zeros() as u16;
        self.rest &= self.rest - 1;
        Some(RegionId(self.base - 64 + bit))
    }
}

impl FromIterator<RegionId> for RegionSet {
    fn from_iter<I: IntoIterator<Item = RegionId>>(ids: I) -> Self {
        let mut set = Self::EMPTY;
        ids.into_iter().for_each(|id| set.insert(id));
        set
    }
}

impl fmt::Debug for RegionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(RegionId::index)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_algebra() {
        let odd: RegionSet = (0..1024).filter(|n| n % 2 == 1).filter_map(RegionId::new).collect();
        let all = RegionSet::first(1024);
        assert_eq!(odd.len(), 512);
        assert_eq!(all.without(&odd).and(&odd), RegionSet::EMPTY);
        assert_eq!(all.without(&odd).or(&odd), all);
        assert!(odd.is_subset(&all) && !all.is_subset(&odd));
        assert_eq!(odd.iter().map(RegionId::index).take(3).collect::<Vec<_>>(), [1, 3, 5]);
        assert_eq!(RegionId::new(1024), None);
    }
}
