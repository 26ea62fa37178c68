//! Where requests may go, before and after.
//!
//! For each pair of routes, each group of countries and each kind of request, the places that the
//! law and the route's required frameworks permit are compared. Equal differences are then told
//! once: for all the routes, countries and kinds of request that they are equal for.

mod delta;
mod map;
mod shared;

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;
use serde::Serialize;

use self::map::{Case, Map};
use self::shared::{Found, Kind, Whom};
use super::DiffError;
use super::space::Pair;
use super::who::Who;
use crate::country::{Country, CountrySet};
use crate::jurisdiction::{ClassId, JurisdictionId};
use crate::origin::Origin;
use crate::region::{Access, RegionSet};
use crate::route::{Method, Payload, Route, RouteSpec};
use crate::table::Table;

/// One difference in where requests may go, with all for whom it is the same.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LawChange {
    /// Whose requests.
    pub who: Who,
    /// On which routes.
    pub routes: Vec<Passage>,
    /// Which of them read or write; null for all.
    pub requests: Option<Vec<Requests>>,
    /// With what consent; null where it makes no difference.
    pub consent: Option<Vec<Consent>>,
    /// Whether they may go anywhere now, without any safeguards, and could not before. `gained` is then
    /// where some of them could not.
    pub anywhere: bool,
    /// Whether they could go anywhere, without any safeguards, and may no longer. `lost` is then where
    /// some of them may not.
    pub was_anywhere: bool,
    /// Where they may go now, and could not before.
    pub gained: Vec<Gain>,
    /// Where they could go, and may no longer.
    pub lost: Vec<String>,
    /// Where they may go without the safeguards that were asked for.
    pub unguarded: Vec<String>,
    /// Where they may go with safeguards only, which were not asked for.
    pub guarded: Vec<String>,
    /// The regions that come first, where these change and where requests may go does not.
    pub preference: Option<Preference>,
    /// Whether the old table refuses them all.
    pub refused_before: bool,
    /// The status that they are refused with now, when nothing is left.
    pub refused_with: Option<u16>,
}

impl LawChange {
    /// Returns whether requests may go where the old table does not let them, or without its safeguards.
    pub fn widens(&self) -> bool {
        !self.gained.is_empty() || !self.unguarded.is_empty()
    }

    /// Returns whether requests may no longer go where the old table lets them, or with new safeguards only.
    pub fn shrinks(&self) -> bool {
        !self.lost.is_empty() || !self.guarded.is_empty() || self.refused_with.is_some()
    }
}

/// The route that requests fall under, before and after.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Passage {
    /// The route's name in the old table.
    pub old: String,
    /// The route's name in the new table.
    pub new: String,
    /// The data class in the old table.
    pub old_class: String,
    /// The data class in the new table.
    pub new_class: String,
    /// Some of the requests, as patterns.
    pub at: Vec<String>,
}

/// A region that requests may go to now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gain {
    /// Its name.
    pub region: String,
    /// Its country.
    pub country: Country,
    /// Whether the old table has no such region in this country.
    pub is_new: bool,
    /// The country that the old table has this region in, when that is another.
    pub was_in: Option<Country>,
    /// Whether the old table's rules would let the requests go to such a region.
    pub under_old_rules: bool,
}

/// The regions that come first, before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Preference {
    pub old: Vec<String>,
    pub new: Vec<String>,
}

/// Whether requests read or write, by the old route and by the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Requests {
    Reads,
    Writes,
    ReadsTakenForWrites,
    WritesTakenForReads,
}

impl Requests {
    fn new(old: Access, new: Access) -> Self {
        match (old, new) {
            (Access::Read, Access::Read) => Requests::Reads,
            (Access::Write, Access::Write) => Requests::Writes,
            (Access::Read, Access::Write) => Requests::ReadsTakenForWrites,
            (Access::Write, Access::Read) => Requests::WritesTakenForReads,
        }
    }

    fn old(self) -> Access {
        match self {
            Requests::Reads | Requests::ReadsTakenForWrites => Access::Read,
            Requests::Writes | Requests::WritesTakenForReads => Access::Write,
        }
    }

    fn new_access(self) -> Access {
        match self {
            Requests::Reads | Requests::WritesTakenForReads => Access::Read,
            Requests::Writes | Requests::ReadsTakenForWrites => Access::Write,
        }
    }
}

/// What consent requests carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Consent {
    /// None.
    Without,
    /// Consent where both tables look for it.
    With,
    /// Consent where only the new table looks for it.
    NewlyHeard,
    /// Consent where only the old table looks for it.
    NoLongerHeard,
}

impl Consent {
    /// Returns every case that two routes tell apart.
    fn cases(old: &RouteSpec, new: &RouteSpec) -> Vec<Self> {
        let pairs = [(&old.consent_header, &new.consent_header), (&old.consent_claim, &new.consent_claim)];
        let any = |wanted: &dyn Fn(&Option<String>, &Option<String>) -> bool| pairs.iter().any(|(a, b)| wanted(a, b));
        let mut cases = vec![Consent::Without];
        cases.extend(any(&|a, b| a.is_some() && a == b).then_some(Consent::With));
        cases.extend(any(&|a, b| b.is_some() && a != b).then_some(Consent::NewlyHeard));
        cases.extend(any(&|a, b| a.is_some() && a != b).then_some(Consent::NoLongerHeard));
        cases
    }

    fn of(old: bool, new: bool) -> Self {
        match (old, new) {
            (false, false) => Consent::Without,
            (true, true) => Consent::With,
            (false, true) => Consent::NewlyHeard,
            (true, false) => Consent::NoLongerHeard,
        }
    }

    fn old(self) -> bool {
        matches!(self, Consent::With | Consent::NoLongerHeard)
    }

    fn new_consent(self) -> bool {
        matches!(self, Consent::With | Consent::NewlyHeard)
    }
}

/// Returns every difference, the widenings first.
pub(super) fn changes(old: &Table, new: &Table, pairs: &[Pair]) -> Result<Vec<LawChange>, DiffError> {
    let map = Map::new(old, new)?;
    let treatments = treatments(old, new, pairs);
    let mut found = Found::default();
    for (index, treatment) in treatments.iter().enumerate() {
        map.compare(index, treatment, &mut found);
    }
    let mut changes = shared_changes(found, &map, &treatments);
    changes.sort_by_cached_key(|change| {
        (!change.widens(), !change.shrinks(), change.routes.first().cloned(), change.who.declared.clone())
    });
    Ok(changes)
}

/// The laws of two tables, to compare what they say of one request.
pub struct Laws<'a>(Map<'a>);

/// What two laws say differently of one request. See [`LawChange`] for the parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Difference {
    pub gained: Vec<Gain>,
    pub lost: Vec<String>,
    pub unguarded: Vec<String>,
    pub guarded: Vec<String>,
}

impl Difference {
    /// See [`LawChange::widens`].
    pub fn widens(&self) -> bool {
        !self.gained.is_empty() || !self.unguarded.is_empty()
    }
}

/// What a table takes from one request: consent and tenants.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Heard<'a> {
    pub route: &'a Route,
    pub method: Method,
    pub payload: Payload,
    pub declared: &'a [JurisdictionId],
    pub consent: bool,
}

impl<'a> Laws<'a> {
    /// Puts two tables' regions on one map.
    ///
    /// # Errors
    /// When they have too many different regions together.
    pub fn new(old: &'a Table, new: &'a Table) -> Result<Self, DiffError> {
        Map::new(old, new).map(Self)
    }

    /// Returns what the laws say differently of a request; `None` where it may go is the same.
    pub fn compare(&self, origin: &Origin, old: &Heard<'_>, new: &Heard<'_>) -> Option<Difference> {
        let map = &self.0;
        let (before, after) = (&old.route.spec, &new.route.spec);
        let treatment = Treatment { old: before, new: after, requests: Vec::new(), passages: Vec::new() };
        let case = Case {
            treatment: &treatment,
            origin,
            requests: Requests::new(
                old.route.access(old.method, old.payload),
                new.route.access(new.method, new.payload),
            ),
            consent: Consent::of(old.consent, new.consent),
            compliant: &[map.old.compliant(before), map.new.compliant(after)],
        };
        let delta = map.delta(&map.readings(&case, [old.declared, new.declared]));
        let same = [&delta.gained, &delta.lost, &delta.unguarded, &delta.guarded].iter().all(|set| set.is_empty());
        (!same).then(|| Difference {
            gained: map.gains_of(&delta.gained, &delta.under_old_rules),
            lost: map.names_of(&delta.lost),
            unguarded: map.names_of(&delta.unguarded),
            guarded: map.names_of(&delta.guarded),
        })
    }
}

/// Pairs of routes that the law treats alike.
struct Treatment<'a> {
    old: &'a RouteSpec,
    new: &'a RouteSpec,
    /// Which reads and writes there are.
    requests: Vec<Requests>,
    passages: Vec<Passage>,
}

fn treatments<'a>(old: &'a Table, new: &'a Table, pairs: &[Pair]) -> Vec<Treatment<'a>> {
    type Side<'a> = (ClassId, &'a [JurisdictionId], &'a [String]);
    fn side(route: &RouteSpec) -> Side<'_> {
        (route.data_class, &route.jurisdictions, &route.require_compliance)
    }
    type Key<'a> = ([Side<'a>; 2], Vec<Requests>, Vec<Consent>, [bool; 3]);
    let mut treatments: Vec<Treatment<'a>> = Vec::new();
    let mut known: FxHashMap<Key<'a>, usize> = FxHashMap::default();
    for pair in pairs {
        let (Some(before), Some(after)) = (pair.old, pair.new) else { continue };
        let (before, after) = (old.route(before), new.route(after));
        // Any method may have content, and a GET may ask for a tunnel, which is as much of a write.
        let messages =
            pair.methods.iter().flat_map(|method| [(*method, Payload::Nothing), (*method, Payload::Content)]);
        let access = |(method, payload)| Requests::new(before.access(method, payload), after.access(method, payload));
        let requests: BTreeSet<Requests> = messages.map(access).collect();
        let requests: Vec<Requests> = requests.into_iter().collect();
        let (before, after) = (&before.spec, &after.spec);
        // Where consent and tenants are heard matters as far as it differs, and not under which name.
        let (was, is) = (&before.jurisdiction_header, &after.jurisdiction_header);
        let tenants = [was.is_some(), is.is_some(), was == is];
        let key = ([side(before), side(after)], requests.clone(), Consent::cases(before, after), tenants);
        let index = *known.entry(key).or_insert_with(|| {
            treatments.push(Treatment { old: before, new: after, requests, passages: Vec::new() });
            treatments.len() - 1
        });
        let class = |table: &Table, route: &RouteSpec| table.spec().data_classes[route.data_class.0].name.clone();
        treatments[index].passages.push(Passage {
            old: before.name.clone(),
            new: after.name.clone(),
            old_class: class(old, before),
            new_class: class(new, after),
            at: pair.at.clone(),
        });
    }
    treatments
}

/// Describes each difference once, for all that share it.
fn shared_changes(found: Found, map: &Map<'_>, treatments: &[Treatment<'_>]) -> Vec<LawChange> {
    let mut shared: BTreeMap<(Kind, BTreeSet<usize>), Vec<Whom>> = BTreeMap::new();
    for ((kind, whom), treatments) in found.treatments {
        shared.entry((kind, treatments)).or_default().push(whom);
    }
    let tell = |((kind, members), whom): ((Kind, BTreeSet<usize>), Vec<Whom>)| {
        let (delta, details) = &found.deltas[kind.delta];
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
        let mut routes: Vec<Passage> = members.iter().flat_map(|index| treatments[*index].passages.clone()).collect();
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
