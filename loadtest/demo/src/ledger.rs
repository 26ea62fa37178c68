//! What became of the fleet's requests, phase by phase.

use std::collections::BTreeMap;

/// Whose requests, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Traffic {
    /// Personal data of the clients with this code.
    Personal(&'static str),
    /// Public data of all clients.
    Public,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    /// Answered by this region.
    Served(&'static str),
    /// Refused, as the law wants it while no lawful region is up.
    Refused,
    /// Lost with its last lawful region, which was killed while it had the request.
    CutOff,
    /// Not answered, or not as it should have been.
    Failed,
}

/// The counts of all phases, from the first to the one that is on.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    phases: Vec<Counts>,
}

/// The counts of one phase.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    by: BTreeMap<(Traffic, Fate), u64>,
    /// Requests that one region was tried for and another answered.
    pub(crate) failovers: u64,
    /// The first failure in words.
    pub(crate) first_failure: Option<String>,
}

impl Ledger {
    /// Opens the next phase.
    pub(crate) fn enter(&mut self) {
        self.phases.push(Counts::default());
    }

    /// The index of the phase that is on.
    pub(crate) fn phase(&self) -> usize {
        self.phases.len().saturating_sub(1)
    }

    /// The counts of a phase, to add to.
    pub(crate) fn of_mut(&mut self, phase: usize) -> Option<&mut Counts> {
        self.phases.get_mut(phase)
    }

    /// The phases so far.
    pub(crate) fn phases(&self) -> &[Counts] {
        &self.phases
    }

    /// The counts of all phases together.
    pub(crate) fn total(&self) -> Counts {
        let mut total = Counts::default();
        for phase in &self.phases {
            phase.by.iter().for_each(|(key, count)| *total.by.entry(*key).or_default() += count);
            total.failovers += phase.failovers;
            total.first_failure = total.first_failure.or_else(|| phase.first_failure.clone());
        }
        total
    }
}

impl Counts {
    /// Counts one request.
    pub(crate) fn add(&mut self, traffic: Traffic, fate: Fate) {
        *self.by.entry((traffic, fate)).or_default() += 1;
    }

    /// How many requests of which traffic had which fate.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Traffic, Fate, u64)> {
        self.by.iter().map(|((traffic, fate), count)| (*traffic, *fate, *count))
    }

    /// How many requests had such a fate.
    pub(crate) fn count(&self, wanted: impl Fn(Traffic, Fate) -> bool) -> u64 {
        self.all().filter(|(traffic, fate, _)| wanted(*traffic, *fate)).map(|(_, _, count)| count).sum()
    }

    /// How many requests ended.
    pub(crate) fn requests(&self) -> u64 {
        self.count(|_, _| true)
    }

    /// How many failed that must not have.
    pub(crate) fn failed(&self) -> u64 {
        self.count(|_, fate| fate == Fate::Failed)
    }

    /// How many rightly got no answer from any region.
    pub(crate) fn refused(&self) -> u64 {
        self.count(|_, fate| matches!(fate, Fate::Refused | Fate::CutOff))
    }
}
