//! The law read plainly from the specification: each clause asked about each region.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::country::{Country, CountrySet};
use crate::jurisdiction::{ClassId, JurisdictionId, Rule, Scope, Transfer};
use crate::list::Countries;
use crate::origin::Origin;
use crate::region::{Access, RegionId, RegionSet};
use crate::residency::{Allowed, Opening, Source};
use crate::table::{TableSpec, UnknownOrigin, UnlistedJurisdiction};

/// The law of a specification.
pub(super) struct Law<'a> {
    pub(super) spec: &'a TableSpec,
    /// The regions that each rule selects, had it no end, and all of them for one that only denies; the
    /// denied ones among them.
    pub(super) selected: Vec<RegionSet>,
    /// The regions that each rule denies.
    denied: Vec<RegionSet>,
    /// The countries of each jurisdiction, as they protect clients and as regions are in them.
    territories: Vec<Territory>,
}

/// The countries of a jurisdiction at the time of the law.
struct Territory {
    /// Whose clients its rules protect.
    protects: CountrySet,
    /// Those of them that it certainly has.
    lists: CountrySet,
    /// In which regions are its own.
    holds: CountrySet,
}

/// One thing that the law asks: these regions, or any other on the transfers' conditions.
#[derive(Clone)]
pub(super) struct Clause {
    pub(super) source: Source,
    pub(super) inside: RegionSet,
    /// The regions that it never allows.
    denied: RegionSet,
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
            let wanted = regions().filter(|(id, region)| match &rule.allow {
                Some(allow) => allow.iter().any(|selector| selector.selects(*id, region, &spec.jurisdictions)),
                None => true,
            });
            wanted.map(|(id, _)| id).collect()
        });
        let denied = spec.rules.iter().map(|rule| {
            let denies =
                |(id, region)| rule.deny.as_ref().is_some_and(|deny| deny.denies(id, region, &spec.jurisdictions));
            regions().filter(|(id, region)| denies((*id, *region))).map(|(id, _)| id).collect()
        });
        let territories = spec.jurisdictions.iter().map(|one| Territory::of(spec, &one.countries));
        Self { selected: selected.collect(), denied: denied.collect(), territories: territories.collect(), spec }
    }

    /// Returns the rows of a class for every profile, and the unknown client's last; with the jurisdictions that
    /// the route declares.
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

    /// Returns the regions that all clauses allow.
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

    /// Returns what the law asks of a jurisdiction's data of a class.
    pub(super) fn of_jurisdiction(&self, jurisdiction: JurisdictionId, class: ClassId) -> Vec<Clause> {
        let data_class = &self.spec.data_classes[class.0];
        if data_class.scope == Scope::Global {
            return Vec::new();
        }
        let of_it = |rule: &Rule| rule.jurisdiction == jurisdiction && rule.data_classes.contains(&class);
        let holds = self.located_in(&self.territories[jurisdiction.0].holds);
        let border = data_class.cross_border;
        let mut clauses = Vec::new();
        let mut is_ruled = false;
        for (index, rule) in self.spec.rules.iter().enumerate().filter(|(_, rule)| of_it(rule)) {
            let (at, denied) = (self.spec.at, self.denied[index]);
            let selected = self.selected[index].without(&denied);
            let only_denies = rule.allow.is_none();
            is_ruled |= !only_denies && rule.period.from.is_none_or(|from| from <= at.earliest());
            if rule.period.from.is_some_and(|from| from > at.latest()) || self.is_succeeded(rule, class) {
                continue;
            }
            let is_over = rule.period.until.is_some_and(|until| until <= at.latest());
            clauses.push(Clause {
                source: Source::Rule(index),
                inside: if is_over && !only_denies { selected.and(&holds) } else { selected },
                denied,
                transfers: match only_denies {
                    true => [Transfer::Allowed; 2],
                    false if is_over => [Transfer::Prohibited; 2],
                    false => [rule.transfer, border],
                },
            });
        }
        if !is_ruled && border != Transfer::Allowed {
            let denied = RegionSet::EMPTY;
            let source = Source::ClassBorder(jurisdiction);
            clauses.push(Clause { source, inside: holds, denied, transfers: [border; 2] });
        }
        clauses
    }

    /// Returns whether a rule is over, and one of the same jurisdiction and regulation that began later stands for
    /// it.
    fn is_succeeded(&self, rule: &Rule, class: ClassId) -> bool {
        let now = self.spec.at.earliest();
        rule.period.until.is_some_and(|until| until <= now)
            && self.spec.rules.iter().any(|other| {
                let begins_later = match (rule.period.from, other.period.from) {
                    (_, None) => false,
                    (None, Some(from)) => from <= now,
                    (Some(before), Some(from)) => before < from && from <= now,
                };
                begins_later
                    && (other.jurisdiction, &other.regulation) == (rule.jurisdiction, &rule.regulation)
                    && other.data_classes.contains(&class)
                    && !(other.allow.is_none() && rule.allow.is_some())
                    && !(other.deny.is_none() && rule.deny.is_some())
            })
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
        let jurisdictions = self.territories.iter().enumerate().filter(|(_, one)| holds(&one.protects));
        let held: Vec<JurisdictionId> = jurisdictions.map(|(index, _)| JurisdictionId(index)).collect();
        let mut clauses: Vec<Clause> = held.iter().flat_map(|id| self.of_jurisdiction(*id, class)).collect();
        // An unknown client may be in a country that no jurisdiction lists.
        let unlisted = match origin {
            Origin::Country(country) => !self.territories.iter().any(|one| one.lists.contains(*country)),
            Origin::Countries(_) => held.is_empty(),
            Origin::Unknown => true,
        };
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

    /// Returns what the law asks of somebody who may be in any country of these jurisdictions.
    fn of_somebody_in(&self, jurisdictions: &[JurisdictionId], class: ClassId) -> Vec<Clause> {
        let spec = self.spec;
        let mut clauses: Vec<Clause> = jurisdictions.iter().flat_map(|id| self.of_jurisdiction(*id, class)).collect();
        if spec.data_classes[class.0].scope == Scope::SuperRegion {
            let somewhere =
                |country: &Country| jurisdictions.iter().any(|id| self.territories[id.0].protects.contains(*country));
            let mut seen = FxHashSet::default();
            for country in Country::all().filter(somewhere) {
                let around = spec.super_regions.iter().filter(|one| one.countries.contains(country));
                let inside = around.fold(RegionSet::EMPTY, |all, one| all.or(&self.located_in(&one.countries)));
                if seen.insert(inside) {
                    clauses.push(Clause { inside, ..nowhere(Source::SuperRegion) });
                }
            }
            if jurisdictions.iter().all(|id| self.territories[id.0].lists.is_empty()) {
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
    /// Returns whether it allows a region.
    pub(super) fn allows(&self, region: RegionId, opening: Opening) -> bool {
        self.inside.contains(region) || (self.opens(opening) && !self.denied.contains(region))
    }

    /// Returns the regions that it allows, of all.
    pub(super) fn allowed(&self, opening: Opening, every: &RegionSet) -> RegionSet {
        every.iter().filter(|region| self.allows(*region, opening)).collect()
    }

    /// Returns whether the regions outside that it does not deny are open.
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

    /// Returns whether another that holds as well asks for all that this one does.
    pub(super) fn is_implied_by(&self, other: &Self) -> bool {
        let never = Opening::all().all(|opening| !other.opens(opening));
        other.inside.is_subset(&self.inside)
            && self.denied.is_subset(&other.denied)
            && Opening::all().all(|opening| self.opens(opening) || !other.opens(opening))
            && (never || !self.asks_safeguards() || other.asks_safeguards())
    }
}

fn nowhere(source: Source) -> Clause {
    Clause { source, inside: RegionSet::EMPTY, denied: RegionSet::EMPTY, transfers: [Transfer::Prohibited; 2] }
}

impl Territory {
    fn of(spec: &TableSpec, countries: &Countries) -> Self {
        let [mut protects, mut lists, mut holds] = [*countries.written(); 3];
        for entry in countries.lists().iter().flat_map(|id| &spec.lists[id.0].entries) {
            let Some(country) = entry.country else { continue };
            let [from, until] = [entry.period.from, entry.period.until];
            if from.is_none_or(|from| from <= spec.at.latest()) {
                protects.insert(country);
            }
            let begun = from.is_none_or(|from| from <= spec.at.earliest());
            if begun {
                lists.insert(country);
            }
            if begun && until.is_none_or(|until| until > spec.at.latest()) && !entry.partial {
                holds.insert(country);
            }
        }
        Self { protects, lists, holds }
    }
}

/// Returns every country, by what it belongs to.
pub(super) fn profiles(spec: &TableSpec) -> Vec<Profile> {
    let mut places: FxHashMap<Vec<bool>, usize> = FxHashMap::default();
    let mut profiles: Vec<Profile> = Vec::new();
    for country in Country::all() {
        let sets = spec.jurisdictions.iter().flat_map(|one| [one.countries.so_far(), one.countries.listed()]);
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
