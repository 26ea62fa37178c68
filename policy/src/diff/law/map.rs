//! The places of two tables on one map, and what both laws say of them.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::{FxHashMap, FxHashSet};

use super::delta::Delta;
use super::shared::{Found, Whom};
use super::{Consent, Gain, Requests, Treatment};
use crate::country::{Country, CountrySet};
use crate::diff::DiffError;
use crate::diff::who::Names;
use crate::jurisdiction::JurisdictionId;
use crate::origin::Origin;
use crate::region::{Region, RegionId, RegionSet};
use crate::residency::{Law, Opening, Residency, Subject};
use crate::route::RouteSpec;
use crate::table::{Table, TableSpec};
use crate::verdict::Reason;

/// The places of both tables, and both laws over all of them.
pub(super) struct Map<'a> {
    /// The old table's regions, and then those that only the new one has. Sets are of positions here.
    pub(super) places: Vec<&'a Region>,
    pub(super) old: Side<'a>,
    pub(super) new: Side<'a>,
    pub(super) crowds: Vec<Crowd>,
    pub(super) names: Names,
}

/// Countries that both tables treat alike.
pub(super) struct Crowd {
    pub(super) sample: Country,
    pub(super) countries: CountrySet,
}

/// One table's law, over the places of both: what it would say of the other's.
pub(super) struct Side<'a> {
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
pub(super) struct Reading {
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

impl<'a> Map<'a> {
    pub(super) fn new(old: &'a Table, new: &'a Table) -> Result<Self, DiffError> {
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
    pub(super) fn compare(&self, index: usize, treatment: &Treatment<'_>, found: &mut Found) {
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

    /// Returns what the two tables say of one kind of request.
    pub(super) fn readings(&self, case: &Case<'_>, declared: [&[JurisdictionId]; 2]) -> [Reading; 2] {
        let Case { treatment, origin, requests, consent, compliant } = *case;
        let before = Opening { consent: consent.old(), access: requests.old() };
        let after = Opening { consent: consent.new_consent(), access: requests.new_access() };
        [
            self.old.read(treatment.old, origin, declared[0], before, &compliant[0]),
            self.new.read(treatment.new, origin, declared[1], after, &compliant[1]),
        ]
    }

    pub(super) fn delta(&self, [before, after]: &[Reading; 2]) -> Delta {
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

    /// Returns what trusted proxies can declare on these routes, and what each table makes of it.
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

    pub(super) fn names_of(&self, set: &RegionSet) -> Vec<String> {
        set.iter().map(|id| self.places[id.index()].name.clone()).collect()
    }

    pub(super) fn gains_of(&self, gained: &RegionSet, under_old_rules: &RegionSet) -> Vec<Gain> {
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
pub(super) struct Declaration<'a> {
    name: &'a str,
    /// What each table makes of it.
    made_of_it: [MadeOfIt; 2],
}

/// What a table makes of a declared jurisdiction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum MadeOfIt {
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

pub(super) const BAD_REQUEST: u16 = 400;

/// One kind of request.
#[derive(Clone, Copy)]
pub(super) struct Case<'a> {
    pub(super) treatment: &'a Treatment<'a>,
    pub(super) origin: &'a Origin,
    pub(super) requests: Requests,
    pub(super) consent: Consent,
    /// The places that hold the frameworks which the routes require, before and after.
    pub(super) compliant: &'a [RegionSet; 2],
}

impl<'a> Side<'a> {
    fn new(spec: &'a TableSpec, regions: Vec<Region>, places: Vec<RegionId>, here: RegionSet) -> Self {
        let residency = Residency::new(&Law {
            regions: &regions,
            jurisdictions: &spec.jurisdictions,
            super_regions: &spec.super_regions,
            data_classes: &spec.data_classes,
            rules: &spec.rules,
            unknown_origin: &spec.unknown_origin,
            unlisted: spec.unlisted_jurisdiction,
            at: spec.at,
        });
        Self { spec, residency, regions, places, here }
    }

    pub(super) fn compliant(&self, route: &RouteSpec) -> RegionSet {
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

/// Returns the countries that both tables have in the same jurisdictions and super-regions.
pub(super) fn crowds(old: &TableSpec, new: &TableSpec) -> Vec<Crowd> {
    let mut crowds: Vec<Crowd> = Vec::new();
    let mut known: FxHashMap<Vec<bool>, usize> = FxHashMap::default();
    for country in Country::all() {
        let groups = [old, new].into_iter().flat_map(|spec| {
            let jurisdictions = spec.jurisdictions.iter().map(|jurisdiction| jurisdiction.countries.so_far());
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
