//! What several sources say of the address space, and of a log's clients, added up by what they say.

use std::net::IpAddr;
use std::ops::ControlFlow;

use geoip::{Database, Place, Space, Walk, WalkError};
use ipnet::IpNet;
use policy::{CountrySet, Origin};
use rustc_hash::FxHashMap;

use crate::client::Geo;

/// One source: databases that answer as one, by their positions in the list that is walked, the best first.
pub(crate) type DatabaseGroup = Vec<usize>;

/// What the sources say, each combination of their answers apart. What none of them has a record for is left out.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    origins: Vec<Origin>,
    combinations: Vec<Combination>,
    /// What any of the databases has a record for.
    pub(crate) assigned: Amount,
    /// Requests of the log from addresses that no database has a record for.
    pub(crate) unassigned_requests: u64,
    /// Networks that were looked at.
    pub(crate) networks: u64,
    /// What each source tells anywhere.
    pub(crate) tells: Vec<Tells>,
}

/// What a source tells anywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tells {
    /// The countries that it names.
    pub(crate) countries: CountrySet,
    /// Whether it names regions within countries.
    pub(crate) regions: bool,
    /// Whether it names cities.
    pub(crate) cities: bool,
    /// Whether it tells which autonomous system announces a network.
    pub(crate) systems: bool,
    /// Whether it tells anonymous networks.
    pub(crate) anonymous: bool,
}

impl Tells {
    fn learn(&mut self, place: &Place<'_>) {
        if let Some(country) = place.country {
            self.countries.insert(country);
        }
        self.regions |= place.region.is_some();
        self.cities |= place.city.is_some();
        self.systems |= place.asn.is_some();
        self.anonymous |= place.anonymous;
    }
}

/// One combination of answers: what it is for.
#[derive(Debug)]
pub(crate) struct Combination {
    answers: Box<[u32]>,
    /// How much has it.
    pub(crate) amount: Amount,
    /// The largest networks that have it.
    pub(crate) examples: Vec<IpNet>,
}

/// How much of the address space, and how many requests of a log, something is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    /// The address space.
    pub(crate) space: Space,
    /// The requests, by the position of their kind, as [`Clients::position`] has it.
    pub(crate) requests: Vec<u64>,
}

impl Amount {
    /// Adds an amount.
    pub(crate) fn add(&mut self, other: &Self) {
        self.space.add(other.space);
        for (index, requests) in other.requests.iter().enumerate() {
            self.count(index, *requests);
        }
    }

    /// Returns the requests of all kinds.
    pub(crate) fn all_requests(&self) -> u64 {
        self.requests.iter().sum()
    }

    fn count(&mut self, kind: usize, requests: u64) {
        if self.requests.len() <= kind {
            self.requests.resize(kind + 1, 0);
        }
        if let Some(count) = self.requests.get_mut(kind) {
            *count += requests;
        }
    }
}

/// Clients and how many requests of each kind they sent, bounded.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    counts: FxHashMap<(IpAddr, usize), u64>,
    kinds: Vec<String>,
    /// Requests of clients past the bound.
    pub(crate) left_out: u64,
}

/// The most clients that are kept apart, times the kinds of their requests: about 300 MB.
const MOST_CLIENTS: usize = 4 << 20;

/// The most kinds; what comes after is counted with the last. A table has fewer data classes.
const MOST_KINDS: usize = 1024;

impl Clients {
    /// Counts a request of a client: an address as it is looked up.
    pub(crate) fn count(&mut self, address: IpAddr, kind: &str) {
        let kind = self.kind(kind);
        let key = (geoip::embedded(address), kind);
        if self.counts.len() >= MOST_CLIENTS && !self.counts.contains_key(&key) {
            self.left_out += 1;
            return;
        }
        *self.counts.entry(key).or_default() += 1;
    }

    /// Returns the position of a kind.
    pub(crate) fn position(&self, kind: &str) -> Option<usize> {
        self.kinds.iter().position(|known| known == kind)
    }

    fn kind(&mut self, kind: &str) -> usize {
        self.position(kind).unwrap_or_else(|| {
            if self.kinds.len() < MOST_KINDS {
                self.kinds.push(kind.to_owned());
            }
            self.kinds.len() - 1
        })
    }

    /// Returns every count, in the order of addresses.
    fn sorted(&self) -> Vec<(IpAddr, usize, u64)> {
        let mut sorted: Vec<_> = self.counts.iter().map(|((address, kind), count)| (*address, *kind, *count)).collect();
        sorted.sort_unstable();
        sorted
    }
}

/// Networks kept as examples of one combination.
const EXAMPLES: usize = 3;

/// Steps between two reports of the progress.
const REPORTED: u64 = 4096;

impl Survey {
    /// Walks the address space and the clients over these databases, and asks each source.
    ///
    /// `geo` tells which networks are anonymous; its own databases are not asked. `progress` is called now and then with how many
    /// steps are made, and about how many there are; it may end the survey, which is then of what came before.
    ///
    /// # Errors
    /// When a database cannot be walked.
    pub(crate) fn of(
        databases: &[&Database],
        sources: &[DatabaseGroup],
        geo: &Geo,
        clients: &Clients,
        mut progress: impl FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<Self, WalkError> {
        let mut survey = Survey { tells: vec![Tells::default(); sources.len()], ..Survey::default() };
        let mut origins: FxHashMap<Origin, u32> = FxHashMap::default();
        let mut known: FxHashMap<Box<[u32]>, usize> = FxHashMap::default();
        let clients = clients.sorted();
        let mut clients = clients.iter().peekable();
        let mut walk = Walk::over(databases.iter().copied());
        let mut answers = Vec::with_capacity(sources.len());
        let mut here = Amount::default();
        loop {
            let (done, all) = walk.progress();
            if done % REPORTED == 0 && progress(done, all).is_break() {
                break;
            }
            let Some(step) = walk.step()? else { break };
            here.space = Space::of(step.network);
            here.requests.clear();
            let last = step.network.broadcast();
            // What comes before the network is in none of the walk.
            while let Some((address, kind, requests)) = clients.next_if(|(address, ..)| *address <= last) {
                if step.is_assigned() && step.network.contains(address) {
                    here.count(*kind, *requests);
                } else {
                    survey.unassigned_requests += requests;
                }
            }
            if !step.is_assigned() {
                continue;
            }
            answers.clear();
            for (source, tells) in sources.iter().zip(&mut survey.tells) {
                let place = step.place(source.iter().copied());
                tells.learn(&place);
                let origin = geo.origin(&place);
                answers.push(*origins.entry(origin).or_insert_with(|| {
                    survey.origins.push(origin);
                    (survey.origins.len() - 1) as u32
                }));
            }
            let position = match known.get(answers.as_slice()) {
                Some(position) => *position,
                None => {
                    let answers: Box<[u32]> = answers.as_slice().into();
                    known.insert(answers.clone(), survey.combinations.len());
                    survey.combinations.push(Combination { answers, amount: Amount::default(), examples: Vec::new() });
                    survey.combinations.len() - 1
                }
            };
            survey.assigned.add(&here);
            if let Some(combination) = survey.combinations.get_mut(position) {
                combination.amount.add(&here);
                combination.keep(step.network);
            }
        }
        survey.unassigned_requests += clients.map(|(_, _, requests)| requests).sum::<u64>();
        survey.networks = walk.progress().0;
        Ok(survey)
    }

    /// Returns every combination of answers, with each source's answer in the order of the sources.
    pub(crate) fn combinations(&self) -> impl Iterator<Item = (Vec<Origin>, &Combination)> {
        self.combinations.iter().map(|combination| {
            let origin = |answer: &u32| self.origins.get(*answer as usize).copied().unwrap_or(Origin::Unknown);
            (combination.answers.iter().map(origin).collect(), combination)
        })
    }
}

impl Combination {
    fn keep(&mut self, network: IpNet) {
        keep_largest(&mut self.examples, [network]);
    }
}

/// Adds networks to a list of a few of the largest, those of IPv4 first.
pub(crate) fn keep_largest(examples: &mut Vec<IpNet>, networks: impl IntoIterator<Item = IpNet>) {
    let rank = |network: &IpNet| (matches!(network, IpNet::V6(_)), network.prefix_len());
    for network in networks {
        if examples.len() < EXAMPLES {
            examples.push(network);
        } else if let Some(smallest) = examples.last_mut().filter(|smallest| rank(&network) < rank(smallest)) {
            *smallest = network;
        } else {
            continue;
        }
        examples.sort_by_key(rank);
    }
}
