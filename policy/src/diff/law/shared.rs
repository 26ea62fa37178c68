//! Differences, each with all that share it.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;

use super::delta::{Delta, Details};
use super::{Consent, Requests};

/// Whose requests a difference was found for.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Whom {
    /// A position in [`Map::crowds`]; past them, the clients whose country is unknown.
    Crowd(usize),
    /// Tenants declared under this jurisdiction.
    Declared(String),
}

/// The differences found so far, each once.
#[derive(Default)]
pub(super) struct Found {
    pub(super) deltas: Vec<(Delta, Details)>,
    known: FxHashMap<Delta, usize>,
    /// The treatments that share a difference.
    pub(super) treatments: BTreeMap<(Kind, Whom), BTreeSet<usize>>,
}

/// A difference, and the kinds of request that it is for; `None` where it is for all.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    pub(super) delta: usize,
    pub(super) requests: Option<Vec<Requests>>,
    pub(super) consent: Option<Vec<Consent>>,
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
}
