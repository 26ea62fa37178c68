//! Differences, each with all that share it.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;

use super::map::{Delta, Map};
use super::{Consent, LawChange, Passage, Preference, Requests, Treatment};
use crate::country::CountrySet;
use crate::region::RegionSet;

/// Whose requests a difference was found for.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Whom {
    /// A position in [`Map::crowds`]; past them, the clients whose country is unknown.
    Crowd(usize),
    /// Tenants declared under this jurisdiction.
    Declared(String),
}

/// Where requests with the same difference in short gain and lose.
#[derive(Clone, Default)]
pub(super) struct Details {
    pub(super) gained: RegionSet,
    pub(super) lost: RegionSet,
}

/// The differences found so far, each once.
#[derive(Default)]
pub(super) struct Found {
    deltas: Vec<(Delta, Details)>,
    known: FxHashMap<Delta, usize>,
    /// The treatments that share a difference.
    treatments: BTreeMap<(Kind, Whom), BTreeSet<usize>>,
}

/// A difference, and the kinds of request that it is for; `None` where it is for all.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    delta: usize,
    requests: Option<Vec<Requests>>,
    consent: Option<Vec<Consent>>,
}

impl Found {
    /// Adds what was found for one treatment and some countries; `all` is how many kinds of request
    /// and how many cases of consent there are.
    pub(super) fn add(
        &mut self,
        whom: &Whom,
        treatment: usize,
        kinds: Vec<(Requests, Consent, Delta)>,
        all: (usize, usize),
    ) {
        let mut consents: BTreeMap<(usize, Requests), BTreeSet<Consent>> = BTreeMap::new();
        for (requests, consent, delta) in kinds {
            if delta != Delta::default() {
                consents.entry((self.id(delta), requests)).or_default().insert(consent);
            }
        }
        let mut requests: BTreeMap<(usize, BTreeSet<Consent>), Vec<Requests>> = BTreeMap::new();
        for ((delta, read_or_write), consents) in consents {
            requests.entry((delta, consents)).or_default().push(read_or_write);
        }
        for ((delta, consents), requests) in requests {
            let kind = Kind {
                delta,
                requests: (requests.len() < all.0).then_some(requests),
                consent: (consents.len() < all.1).then(|| consents.into_iter().collect()),
            };
            self.treatments.entry((kind, whom.clone())).or_default().insert(treatment);
        }
    }

    fn id(&mut self, delta: Delta) -> usize {
        let (short, details) = delta.in_short();
        let id = *self.known.entry(short).or_insert_with_key(|short| {
            self.deltas.push((short.clone(), Details::default()));
            self.deltas.len() - 1
        });
        let all = &mut self.deltas[id].1;
        *all = Details { gained: all.gained.or(&details.gained), lost: all.lost.or(&details.lost) };
        id
    }

    /// Each difference once for all that share it.
    pub(super) fn told(self, map: &Map<'_>, treatments: &[Treatment<'_>]) -> Vec<LawChange> {
        let mut shared: BTreeMap<(Kind, BTreeSet<usize>), Vec<Whom>> = BTreeMap::new();
        for ((kind, whom), treatments) in self.treatments {
            shared.entry((kind, treatments)).or_default().push(whom);
        }
        let tell = |((kind, members), whom): ((Kind, BTreeSet<usize>), Vec<Whom>)| {
            let (delta, details) = &self.deltas[kind.delta];
            let mut countries = CountrySet::default();
            let (mut unknown, mut declared) = (false, Vec::new());
            for whom in whom {
                match whom {
                    Whom::Crowd(index) => match map.crowds.get(index) {
                        Some(crowd) => countries.extend(&crowd.countries),
                        None => unknown = true,
                    },
                    Whom::Declared(name) => declared.push(name),
                }
            }
            let mut routes: Vec<Passage> =
                members.iter().flat_map(|index| treatments[*index].passages.clone()).collect();
            routes.sort();
            let preference =
                |sets: &(RegionSet, RegionSet)| Preference { old: map.names_of(&sets.0), new: map.names_of(&sets.1) };
            LawChange {
                who: map.names.who(&countries, unknown, declared),
                routes,
                requests: kind.requests,
                consent: kind.consent,
                anywhere: delta.anywhere,
                was_anywhere: delta.was_anywhere,
                gained: map.gains_of(&details.gained, &delta.under_old_rules),
                lost: map.names_of(&details.lost),
                unguarded: map.names_of(&delta.unguarded),
                guarded: map.names_of(&delta.guarded),
                preference: delta.preference.as_ref().map(preference),
                refused_before: delta.refused_before,
                refused_with: delta.refused_with,
            }
        };
        shared.into_iter().map(tell).collect()
    }
}
