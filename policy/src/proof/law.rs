//! The law read plainly from the specification: each clause asked about each region.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::country::{Country, CountrySet};
use crate::jurisdiction::{ClassId, JurisdictionId, Scope, Transfer};
use crate::origin::Origin;
use crate::region::{Access, RegionId, RegionSet};
use crate::residency::{Allowed, Opening, Source};
use crate::table::{TableSpec, UnknownOrigin, UnlistedJurisdiction};

/// The law of a specification.
pub(super) struct Law<'a> {
    pub(super) spec: &'a TableSpec,
    /// The regions that each rule selects.
    pub(super) selected: Vec<RegionSet>,
}

/// One thing that the law asks: these regions, or any other on the transfers' conditions.
#[derive(Clone)]
pub(super) struct Clause {
    pub(super) source: Source,
    pub(super) inside: RegionSet,
    /// The rule's and the class's: the others are open when both are.
    transfers: [Transfer; 2],
}

/// Countries that belong to the same jurisdictions and super-regions.
pub(super) struct Profile {
    pub(super) countries: CountrySet,
    sample: Country,
}

/// The law for one kind of client on one class.
pub(super) struct Row {
    /// Whom it is for: a profile's countries; none is the unknown client.
    pub(super) countries: CountrySet,
    /// One of them.
    pub(super) origin: Origin,
    pub(super) clauses: Vec<Clause>,
    /// How many of the clauses, from the first, are the client's own, and not a declared jurisdiction's.
    pub(super) own: usize,
    /// What is allowed, by [`Opening::index`].
    pub(super) allowed: [Allowed; 4],
}

impl<'a> Law<'a> {
    pub(super) fn new(spec: &'a TableSpec) -> Self {
        let regions = || spec.regions.iter().enumerate().filter_map(|(at, region)| Some((RegionId::new(at)?, region)));
        let selected = spec.rules.iter().map(|rule| {
            let wanted = regions().filter(|(id, region)| {
                rule.allow.iter().any(|selector| selector.selects(*id, region, &spec.jurisdictions))
            });
            wanted.map(|(id, _)| id).collect()
        });
        Self { selected: selected.collect(), spec }
    }

    /// The rows of a class for every profile, and the unknown client's last; with the jurisdictions
    /// that the route declares.
    pub(super) fn rows(&self, profiles: &[Profile], class: ClassId, declared: &[JurisdictionId]) -> Vec<Row> {
        let known = profiles.iter().map(|profile| (profile.countries, Origin::Country(profile.sample)));
        let unknown = std::iter::once((CountrySet::default(), Origin::Unknown));
        known.chain(unknown).map(|(countries, origin)| self.row(countries, origin, class, declared)).collect()
    }

    fn row(&self, countries: CountrySet, origin: Origin, class: ClassId, declared: &[JurisdictionId]) -> Row {
        let mut clauses = self.of_origin(&origin, class);
        let own = clauses.len();
        clauses.extend(declared.iter().flat_map(|id| self.of_jurisdiction(*id, class)));
        let mut allowed =
            [Allowed { home: RegionSet::EMPTY, opened: RegionSet::EMPTY, safeguarded: RegionSet::EMPTY }; 4];
        for opening in Opening::all() {
            allowed[opening.index()] = self.allowed(&clauses, opening);
        }
        Row { countries, origin, clauses, own, allowed }
    }

    /// The regions that all clauses allow.
    pub(super) fn allowed(&self, clauses: &[Clause], opening: Opening) -> Allowed {
        let mut allowed = Allowed { home: RegionSet::EMPTY, opened: RegionSet::EMPTY, safeguarded: RegionSet::EMPTY };
        for region in RegionSet::first(self.spec.regions.len()).iter() {
            if !clauses.iter().all(|clause| clause.allows(region, opening)) {
                continue;
            }
            if clauses.iter().all(|clause| clause.inside.contains(region)) {
                allowed.home.insert(region);
                continue;
            }
            allowed.opened.insert(region);
            if clauses.iter().any(|clause| !clause.inside.contains(region) && clause.asks_safeguards()) {
                allowed.safeguarded.insert(region);
            }
        }
        allowed
    }

    /// What the law asks of a jurisdiction's data of a class.
    pub(super) fn of_jurisdiction(&self, jurisdiction: JurisdictionId, class: ClassId) -> Vec<Clause> {
        let data_class = &self.spec.data_classes[class.0];
        if data_class.scope == Scope::Global {
            return Vec::new();
        }
        let rules = self.spec.rules.iter().enumerate();
        let mut clauses: Vec<Clause> = rules
            .filter(|(_, rule)| rule.jurisdiction == jurisdiction && rule.data_classes.contains(&class))
            .map(|(index, rule)| Clause {
                source: Source::Rule(index),
                inside: self.selected[index],
                transfers: [rule.transfer, data_class.cross_border],
            })
            .collect();
        if clauses.is_empty() && data_class.cross_border != Transfer::Allowed {
            clauses.push(Clause {
                source: Source::ClassBorder(jurisdiction),
                inside: self.located_in(&self.spec.jurisdictions[jurisdiction.0].countries),
                transfers: [data_class.cross_border; 2],
            });
        }
        clauses
    }

    fn of_origin(&self, origin: &Origin, class: ClassId) -> Vec<Clause> {
        let spec = self.spec;
        if spec.data_classes[class.0].scope == Scope::Global {
            return Vec::new();
        }
        let holds = |countries: &CountrySet| match origin {
            Origin::Country(country) => countries.contains(*country),
            Origin::Countries(several) => several.iter().any(|country| countries.contains(country)),
            Origin::Unknown => true,
        };
        if *origin == Origin::Unknown && spec.unknown_origin == UnknownOrigin::Refuse {
            return vec![nowhere(Source::Unknown)];
        }
        if let (Origin::Unknown, UnknownOrigin::Like(like)) = (origin, &spec.unknown_origin) {
            return self.of_somebody_in(like, class);
        }
        let jurisdictions = spec.jurisdictions.iter().enumerate().filter(|(_, one)| holds(&one.countries));
        let held: Vec<JurisdictionId> = jurisdictions.map(|(index, _)| JurisdictionId(index)).collect();
        let mut clauses: Vec<Clause> = held.iter().flat_map(|id| self.of_jurisdiction(*id, class)).collect();
        // An unknown client may be in a country that no jurisdiction lists.
        let unlisted = held.is_empty() || *origin == Origin::Unknown;
        if unlisted && spec.unlisted_jurisdiction == UnlistedJurisdiction::Refuse {
            clauses.push(nowhere(Source::Unlisted));
        }
        if spec.data_classes[class.0].scope == Scope::SuperRegion {
            let around = spec.super_regions.iter().filter(|one| holds(&one.countries));
            let around: Vec<RegionSet> = around.map(|one| self.located_in(&one.countries)).collect();
            let clause = |inside| Clause { inside, ..nowhere(Source::SuperRegion) };
            let in_some = |country| spec.super_regions.iter().any(|one| one.countries.contains(country));
            match origin {
                // In any of them, and so within all of them.
                Origin::Unknown if Country::all().all(in_some) => clauses.extend(around.into_iter().map(clause)),
                // Or in none.
                Origin::Unknown => clauses.push(nowhere(Source::SuperRegion)),
                _ => clauses.push(clause(around.iter().fold(RegionSet::EMPTY, |all, some| all.or(some)))),
            }
        }
        clauses
    }

    /// What the law asks of somebody who may be in any country of these jurisdictions.
    fn of_somebody_in(&self, jurisdictions: &[JurisdictionId], class: ClassId) -> Vec<Clause> {
        let spec = self.spec;
        let mut clauses: Vec<Clause> = jurisdictions.iter().flat_map(|id| self.of_jurisdiction(*id, class)).collect();
        if spec.data_classes[class.0].scope == Scope::SuperRegion {
            let somewhere = |country: &Country| {
                jurisdictions.iter().any(|id| spec.jurisdictions[id.0].countries.contains(*country))
            };
            let mut seen = FxHashSet::default();
            for country in Country::all().filter(somewhere) {
                let around = spec.super_regions.iter().filter(|one| one.countries.contains(country));
                let inside = around.fold(RegionSet::EMPTY, |all, one| all.or(&self.located_in(&one.countries)));
                if seen.insert(inside) {
                    clauses.push(Clause { inside, ..nowhere(Source::SuperRegion) });
                }
            }
            if seen.is_empty() {
                clauses.push(nowhere(Source::SuperRegion));
            }
        }
        clauses
    }

    fn located_in(&self, countries: &CountrySet) -> RegionSet {
        let regions = self.spec.regions.iter().enumerate().filter(|(_, region)| countries.contains(region.country));
        regions.filter_map(|(index, _)| RegionId::new(index)).collect()
    }
}

impl Clause {
    /// Whether it allows a region.
    pub(super) fn allows(&self, region: RegionId, opening: Opening) -> bool {
        self.inside.contains(region) || self.opens(opening)
    }

    /// Whether the regions outside are open.
    pub(super) fn opens(&self, opening: Opening) -> bool {
        self.transfers.iter().all(|transfer| match transfer {
            Transfer::Prohibited => false,
            Transfer::WithConsent => opening.consent,
            Transfer::RequiresLocalCopy => opening.access == Access::Read,
            Transfer::WithSafeguards | Transfer::Allowed => true,
        })
    }

    fn asks_safeguards(&self) -> bool {
        self.transfers.contains(&Transfer::WithSafeguards)
    }

    /// Whether another that holds as well asks for all that this one does.
    pub(super) fn is_implied_by(&self, other: &Self) -> bool {
        let never = Opening::all().all(|opening| !other.opens(opening));
        other.inside.is_subset(&self.inside)
            && Opening::all().all(|opening| self.opens(opening) || !other.opens(opening))
            && (never || !self.asks_safeguards() || other.asks_safeguards())
    }
}

fn nowhere(source: Source) -> Clause {
    Clause { source, inside: RegionSet::EMPTY, transfers: [Transfer::Prohibited; 2] }
}

/// Every country, by what it belongs to.
pub(super) fn profiles(spec: &TableSpec) -> Vec<Profile> {
    let mut places: FxHashMap<Vec<bool>, usize> = FxHashMap::default();
    let mut profiles: Vec<Profile> = Vec::new();
    for country in Country::all() {
        let sets = spec.jurisdictions.iter().map(|one| &one.countries);
        let sets = sets.chain(spec.super_regions.iter().map(|one| &one.countries));
        let place = *places.entry(sets.map(|set| set.contains(country)).collect()).or_insert(profiles.len());
        match profiles.get_mut(place) {
            Some(profile) => profile.countries.insert(country),
            None => profiles.push(Profile { countries: [country].into_iter().collect(), sample: country }),
        }
    }
    profiles
}

/// One row of each that allow the same.
pub(super) fn distinct(rows: &[Row]) -> Vec<&Row> {
    let mut seen = FxHashSet::default();
    rows.iter().filter(|row| seen.insert(row.allowed)).collect()
}
