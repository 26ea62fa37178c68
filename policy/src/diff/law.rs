//! Where requests may go, before and after.
//!
//! For each pair of routes, each group of countries and each kind of request, the places that the
//! law and the route's required frameworks permit are compared. Equal differences are then told
//! once: for all the routes, countries and kinds of request that they are equal for.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

use super::DiffError;
use super::space::Pair;
use super::who::{Names, Who};
use crate::country::{Country, CountrySet};
use crate::jurisdiction::{ClassId, JurisdictionId};
use crate::origin::Origin;
use crate::region::{Access, Region, RegionId, RegionSet};
use crate::residency::{Law, Opening, Residency, Subject};
use crate::route::{Method, Route, RouteSpec};
use crate::table::{Table, TableSpec};
use crate::verdict::Reason;

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
    /// Whether requests may go where the old table does not let them, or without its safeguards.
    pub fn widens(&self) -> bool {
        !self.gained.is_empty() || !self.unguarded.is_empty()
    }

    /// Whether requests may no longer go where the old table lets them, or with new safeguards only.
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
    /// Every case that two routes tell apart.
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

/// Every difference, the widenings first.
pub(super) fn changes(old: &Table, new: &Table, pairs: &[Pair]) -> Result<Vec<LawChange>, DiffError> {
    let map = Map::new(old, new)?;
    let treatments = treatments(old, new, pairs);
    let mut found = Found::default();
    for (index, treatment) in treatments.iter().enumerate() {
        map.compare(index, treatment, &mut found);
    }
    let mut changes = found.told(&map, &treatments);
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

/// What a table hears of one request.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Heard<'a> {
    pub route: &'a Route,
    pub method: Method,
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

    /// What the laws say differently of a request; `None` where it may go is the same.
    pub fn compare(&self, origin: &Origin, old: &Heard<'_>, new: &Heard<'_>) -> Option<Difference> {
        let map = &self.0;
        let (before, after) = (&old.route.spec, &new.route.spec);
        let treatment = Treatment { old: before, new: after, requests: Vec::new(), passages: Vec::new() };
        let case = Case {
            treatment: &treatment,
            origin,
            requests: Requests::new(old.route.access(old.method), new.route.access(new.method)),
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
        let requests: BTreeSet<Requests> =
            pair.methods.iter().map(|method| Requests::new(before.access(*method), after.access(*method))).collect();
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

/// The places of both tables, and both laws over all of them.
struct Map<'a> {
    /// The old table's regions, and then those that only the new one has. Sets are of positions here.
    places: Vec<&'a Region>,
    old: Side<'a>,
    new: Side<'a>,
    crowds: Vec<Crowd>,
    names: Names,
}

/// Countries that both tables treat alike.
struct Crowd {
    sample: Country,
    countries: CountrySet,
}

/// One table's law, over the places of both: what it would say of the other's.
struct Side<'a> {
    spec: &'a TableSpec,
    residency: Residency,
    regions: Vec<Region>,
    /// The place of each of `regions`.
    places: Vec<RegionId>,
    /// The places that the table really has.
    here: RegionSet,
}

/// What one table says of one kind of request, in places.
#[derive(PartialEq, Eq, Hash)]
struct Reading {
    /// What the law allows.
    lawful: RegionSet,
    /// What the route permits of it.
    permitted: RegionSet,
    /// What comes first, if it is permitted.
    home: RegionSet,
    safeguarded: RegionSet,
    /// Whether no rule bounds it: what may go anywhere.
    unbounded: bool,
}

/// How the places of one kind of request differ.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct Delta {
    /// In place of `gained` and `lost`, which would tell apart what is one change to its reader.
    anywhere: bool,
    was_anywhere: bool,
    gained: RegionSet,
    /// Those of `gained` that the old rules would allow, had the old table had them.
    under_old_rules: RegionSet,
    lost: RegionSet,
    unguarded: RegionSet,
    guarded: RegionSet,
    preference: Option<(RegionSet, RegionSet)>,
    refused_before: bool,
    refused_with: Option<u16>,
}

impl<'a> Map<'a> {
    fn new(old: &'a Table, new: &'a Table) -> Result<Self, DiffError> {
        let (before, after) = (old.spec(), new.spec());
        let mut places: Vec<&Region> = before.regions.iter().collect();
        let known: FxHashMap<(&str, Country), usize> =
            places.iter().enumerate().map(|(index, region)| ((region.name.as_str(), region.country), index)).collect();
        let mut places_of_new = Vec::new();
        for region in &after.regions {
            let place = known.get(&(region.name.as_str(), region.country)).copied().unwrap_or_else(|| {
                places.push(region);
                places.len() - 1
            });
            places_of_new.push(place);
        }
        if places.len() > RegionSet::CAPACITY {
            return Err(DiffError::TooManyRegions(places.len()));
        }
        let kept: RegionSet = places_of_new.iter().copied().filter_map(RegionId::new).collect();
        let gone = RegionSet::first(before.regions.len()).without(&kept);
        let old_regions = places.iter().map(|region| (*region).clone()).collect();
        let new_regions = after.regions.iter().chain(gone.iter().map(|id| places[id.index()])).cloned().collect();
        let ids = places_of_new.into_iter().filter_map(RegionId::new).chain(gone.iter()).collect();
        let every = RegionSet::first(places.len());
        Ok(Self {
            old: Side::new(before, old_regions, every.iter().collect(), RegionSet::first(before.regions.len())),
            new: Side::new(after, new_regions, ids, kept),
            crowds: crowds(before, after),
            names: Names::new(before, after),
            places,
        })
    }

    /// Compares everything that one treatment tells apart.
    fn compare(&self, index: usize, treatment: &Treatment<'_>, found: &mut Found) {
        let cases = Consent::cases(treatment.old, treatment.new);
        let compliant = [self.old.compliant(treatment.old), self.new.compliant(treatment.new)];
        let origins = self.crowds.iter().map(|crowd| Origin::Country(crowd.sample)).chain([Origin::Unknown]);
        let declarations = self.declarations(treatment);
        // What is declared only ever restricts: what changes for whoever declares nothing is told for them.
        let mut declared: BTreeMap<(usize, Requests, Consent), Delta> = BTreeMap::new();
        let mut asked: FxHashSet<(Requests, Consent, [Reading; 2])> = FxHashSet::default();
        for (who, origin) in origins.enumerate() {
            let mut kinds = Vec::new();
            for requests in &treatment.requests {
                for consent in &cases {
                    let case = Case {
                        treatment,
                        origin: &origin,
                        requests: *requests,
                        consent: *consent,
                        compliant: &compliant,
                    };
                    let readings = self.readings(&case, [&[], &[]]);
                    let base = self.delta(&readings);
                    // Countries that the laws say the same of are the same to every declaration.
                    let fresh = !declarations.is_empty() && asked.insert((*requests, *consent, readings));
                    for (position, declaration) in declarations.iter().enumerate().filter(|_| fresh) {
                        let more = match declaration.made_of_it {
                            [_, MadeOfIt::Nonsense] => Delta { refused_with: Some(BAD_REQUEST), ..Delta::default() },
                            [old, new] => self.delta(&self.readings(&case, [old.id().as_slice(), new.id().as_slice()])),
                        };
                        declared.entry((position, *requests, *consent)).or_default().add(&more.without(&base));
                    }
                    kinds.push((*requests, *consent, base));
                }
            }
            found.add(&Whom::Crowd(who), index, kinds, (treatment.requests.len(), cases.len()));
        }
        for (position, declaration) in declarations.iter().enumerate() {
            let kinds = declared
                .range(
                    (position, Requests::Reads, Consent::Without)
                        ..=(position, Requests::WritesTakenForReads, Consent::NoLongerHeard),
                )
                .map(|((_, requests, consent), delta)| (*requests, *consent, delta.clone()))
                .collect();
            found.add(
                &Whom::Declared(declaration.name.to_owned()),
                index,
                kinds,
                (treatment.requests.len(), cases.len()),
            );
        }
    }

    /// What the two tables say of one kind of request.
    fn readings(&self, case: &Case<'_>, declared: [&[JurisdictionId]; 2]) -> [Reading; 2] {
        let Case { treatment, origin, requests, consent, compliant } = *case;
        let before = Opening { consent: consent.old(), access: requests.old() };
        let after = Opening { consent: consent.new_consent(), access: requests.new_access() };
        [
            self.old.read(treatment.old, origin, declared[0], before, &compliant[0]),
            self.new.read(treatment.new, origin, declared[1], after, &compliant[1]),
        ]
    }

    fn delta(&self, [before, after]: &[Reading; 2]) -> Delta {
        let (old, new) = (before.permitted.and(&self.old.here), after.permitted.and(&self.new.here));
        let common = old.and(&new);
        let mut gained = new.without(&old);
        let mut under_old_rules = gained.and(&before.permitted);
        if before.unbounded {
            gained = gained.without(&under_old_rules);
            under_old_rules = RegionSet::EMPTY;
        }
        let mut lost = old.without(&new);
        if after.unbounded && !new.is_empty() {
            lost = lost.without(&after.permitted);
        }
        let unguarded = new.and(&before.permitted).and(&before.safeguarded).without(&after.safeguarded);
        let unguarded = unguarded.without(&gained);
        let guarded = common.and(&after.safeguarded).without(&before.safeguarded);
        let lead = |reading: &Reading| {
            let home = reading.home.and(&common);
            if home.is_empty() { common } else { home }
        };
        let (first, then) = (lead(before), lead(after));
        let settled = gained.is_empty() && lost.is_empty() && unguarded.is_empty() && guarded.is_empty();
        let refused_with = (new.is_empty() && !old.is_empty()).then(|| {
            let lawful = after.lawful.and(&self.new.here);
            if lawful.is_empty() { Reason::ResidencyProhibited } else { Reason::ResidencyUnavailable }.status()
        });
        Delta {
            anywhere: !gained.is_empty() && after.is_anywhere(&self.new),
            was_anywhere: !lost.is_empty() && before.is_anywhere(&self.old),
            gained,
            under_old_rules,
            lost,
            unguarded,
            guarded,
            preference: (settled && first != then).then_some((first, then)),
            refused_before: old.is_empty() && !gained.is_empty(),
            refused_with,
        }
    }

    /// What trusted proxies can declare on these routes, and what each table makes of it.
    fn declarations(&self, treatment: &Treatment<'_>) -> Vec<Declaration<'a>> {
        let heard = [&treatment.old.jurisdiction_header, &treatment.new.jurisdiction_header];
        let headers: BTreeSet<&String> = heard.into_iter().flatten().collect();
        let names = [self.old.spec, self.new.spec].into_iter().flat_map(|spec| &spec.jurisdictions);
        let names: BTreeSet<&'a str> = names.map(|jurisdiction| jurisdiction.name.as_str()).collect();
        let made_of_it = |spec: &TableSpec, route: &RouteSpec, header: &String, name: &str| {
            let known = spec.jurisdictions.iter().position(|jurisdiction| jurisdiction.name == name);
            match route.jurisdiction_header.as_ref() == Some(header) {
                true => known.map_or(MadeOfIt::Nonsense, |index| MadeOfIt::As(JurisdictionId(index))),
                false => MadeOfIt::Nothing,
            }
        };
        let mut declarations = Vec::new();
        for (header, name) in headers.into_iter().flat_map(|header| names.iter().map(move |name| (header, *name))) {
            let old = made_of_it(self.old.spec, treatment.old, header, name);
            // What the old table answered with 400 had no region before: nobody gains or loses one.
            if old != MadeOfIt::Nonsense {
                declarations.push(Declaration {
                    name,
                    made_of_it: [old, made_of_it(self.new.spec, treatment.new, header, name)],
                });
            }
        }
        declarations
    }

    fn names_of(&self, set: &RegionSet) -> Vec<String> {
        set.iter().map(|id| self.places[id.index()].name.clone()).collect()
    }

    fn gains_of(&self, gained: &RegionSet, under_old_rules: &RegionSet) -> Vec<Gain> {
        let gain = |id: RegionId| {
            let region = self.places[id.index()];
            let is_new = !self.old.here.contains(id);
            let before = self.old.spec.regions.iter().find(|known| is_new && known.name == region.name);
            Gain {
                region: region.name.clone(),
                country: region.country,
                is_new,
                was_in: before.map(|known| known.country),
                under_old_rules: under_old_rules.contains(id),
            }
        };
        gained.iter().map(gain).collect()
    }
}

/// What a trusted proxy can declare.
struct Declaration<'a> {
    name: &'a str,
    /// What each table makes of it.
    made_of_it: [MadeOfIt; 2],
}

/// What a table makes of a declared jurisdiction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MadeOfIt {
    /// Its route does not listen.
    Nothing,
    As(JurisdictionId),
    /// It has none of that name, and answers 400.
    Nonsense,
}

impl MadeOfIt {
    fn id(self) -> Option<JurisdictionId> {
        match self {
            MadeOfIt::As(id) => Some(id),
            MadeOfIt::Nothing | MadeOfIt::Nonsense => None,
        }
    }
}

const BAD_REQUEST: u16 = 400;

/// One kind of request.
#[derive(Clone, Copy)]
struct Case<'a> {
    treatment: &'a Treatment<'a>,
    origin: &'a Origin,
    requests: Requests,
    consent: Consent,
    /// The places that hold the frameworks which the routes require, before and after.
    compliant: &'a [RegionSet; 2],
}

impl<'a> Side<'a> {
    fn new(spec: &'a TableSpec, regions: Vec<Region>, places: Vec<RegionId>, here: RegionSet) -> Self {
        let residency = Residency::new(&Law {
            regions: &regions,
            jurisdictions: &spec.jurisdictions,
            super_regions: &spec.super_regions,
            data_classes: &spec.data_classes,
            rules: &spec.rules,
            unknown_origin: spec.unknown_origin,
            unlisted: spec.unlisted_jurisdiction,
        });
        Self { spec, residency, regions, places, here }
    }

    fn compliant(&self, route: &RouteSpec) -> RegionSet {
        let holds = |region: &Region| route.require_compliance.iter().all(|name| region.compliance.contains(name));
        let places = self.places.iter().zip(&self.regions).filter(|(_, region)| holds(region));
        places.map(|(place, _)| *place).collect()
    }

    fn read(
        &self,
        route: &RouteSpec,
        origin: &Origin,
        declared: &[JurisdictionId],
        opening: Opening,
        compliant: &RegionSet,
    ) -> Reading {
        let subject = Subject { origin, declared: [&route.jurisdictions, declared], class: route.data_class, opening };
        let mut room = None;
        let allowed = self.residency.allowed(subject, &mut room);
        let lawful = self.placed(&allowed.all());
        Reading {
            permitted: lawful.and(compliant),
            home: self.placed(&allowed.home),
            safeguarded: self.placed(&allowed.safeguarded),
            unbounded: self.residency.constraints(subject).iter().all(|constraint| constraint.outside.holds(opening)),
            lawful,
        }
    }

    fn placed(&self, regions: &RegionSet) -> RegionSet {
        regions.iter().filter_map(|id| self.places.get(id.index()).copied()).collect()
    }
}

/// The countries that both tables have in the same jurisdictions and super-regions.
fn crowds(old: &TableSpec, new: &TableSpec) -> Vec<Crowd> {
    let mut crowds: Vec<Crowd> = Vec::new();
    let mut known: FxHashMap<Vec<bool>, usize> = FxHashMap::default();
    for country in Country::all() {
        let groups = [old, new].into_iter().flat_map(|spec| {
            let jurisdictions = spec.jurisdictions.iter().map(|jurisdiction| &jurisdiction.countries);
            jurisdictions.chain(spec.super_regions.iter().map(|around| &around.countries))
        });
        let index = *known.entry(groups.map(|group| group.contains(country)).collect()).or_insert_with(|| {
            crowds.push(Crowd { sample: country, countries: CountrySet::default() });
            crowds.len() - 1
        });
        crowds[index].countries.insert(country);
    }
    crowds
}

impl Reading {
    fn is_anywhere(&self, side: &Side<'_>) -> bool {
        self.unbounded && self.safeguarded.is_empty() && side.here.is_subset(&self.permitted)
    }
}

impl Delta {
    /// The same without what it gains and loses where that is told in one word; and that.
    fn in_short(self) -> (Self, Details) {
        let none = RegionSet::EMPTY;
        let details = Details { gained: self.gained, lost: self.lost };
        let short = match (self.anywhere, self.was_anywhere) {
            (false, false) => self,
            (true, _) => Self { gained: none, under_old_rules: none, unguarded: none, refused_before: false, ..self },
            (false, true) => Self { lost: none, guarded: none, ..self },
        };
        (short, details)
    }

    /// What this has beyond another, of what is told of declared jurisdictions.
    fn without(&self, base: &Self) -> Self {
        let gained = self.gained.without(&base.gained);
        Self {
            // Told for all countries at once, of which others may set bounds.
            anywhere: false,
            was_anywhere: false,
            under_old_rules: self.under_old_rules.and(&gained),
            gained,
            lost: self.lost.without(&base.lost),
            unguarded: self.unguarded.without(&base.unguarded),
            guarded: self.guarded.without(&base.guarded),
            preference: None,
            refused_before: false,
            refused_with: self.refused_with.filter(|status| base.refused_with != Some(*status)),
        }
    }

    fn add(&mut self, other: &Self) {
        self.gained = self.gained.or(&other.gained);
        self.under_old_rules = self.under_old_rules.or(&other.under_old_rules);
        self.lost = self.lost.or(&other.lost);
        self.unguarded = self.unguarded.or(&other.unguarded);
        self.guarded = self.guarded.or(&other.guarded);
        self.refused_with = self.refused_with.or(other.refused_with);
    }
}

/// Whose requests a difference was found for.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Whom {
    /// A position in [`Map::crowds`]; past them, the clients whose country is unknown.
    Crowd(usize),
    /// Tenants declared under this jurisdiction.
    Declared(String),
}

/// Where requests with the same difference in short gain and lose.
#[derive(Clone, Default)]
struct Details {
    gained: RegionSet,
    lost: RegionSet,
}

/// The differences found so far, each once.
#[derive(Default)]
struct Found {
    deltas: Vec<(Delta, Details)>,
    known: FxHashMap<Delta, usize>,
    /// The treatments that share a difference.
    treatments: BTreeMap<(Kind, Whom), BTreeSet<usize>>,
}

/// A difference, and the kinds of request that it is for; `None` where it is for all.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    delta: usize,
    requests: Option<Vec<Requests>>,
    consent: Option<Vec<Consent>>,
}

impl Found {
    /// Adds what was found for one treatment and some countries; `all` is how many kinds of request
    /// and how many cases of consent there are.
    fn add(&mut self, whom: &Whom, treatment: usize, kinds: Vec<(Requests, Consent, Delta)>, all: (usize, usize)) {
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
    fn told(self, map: &Map<'_>, treatments: &[Treatment<'_>]) -> Vec<LawChange> {
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
