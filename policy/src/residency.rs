//! Which regions the law allows, for every origin and data class of a table.
//!
//! A table's rules become, at compile time, one `Allowance` for each data class and each
//! *profile*: a distinct set of jurisdictions and super-regions that some country belongs to.
//! A decision looks its allowance up and intersects bitsets; it never reads a rule.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::country::{Country, CountrySet};
use crate::jurisdiction::{
    ClassId, DataClass, Jurisdiction, JurisdictionId, Rule, Scope, SuperRegion, Transfer, UnknownOrigin,
    UnlistedJurisdiction, WhenUnavailable,
};
use crate::moment::LawTime;
use crate::origin::Origin;
use crate::region::{Access, Region, RegionId, RegionSet};
use crate::standing::{Standing, is_ruled, standing};

/// The residency rules of one table, compiled.
#[derive(Clone, Debug)]
pub struct Residency {
    profile_of: Box<[u16]>,
    profiles: usize,
    /// Each once, however many profiles and classes share it.
    allowances: Box<[Allowance]>,
    /// Positions in `allowances` by class, and in each class: the profiles', the unknown origin's,
    /// and the jurisdictions' own.
    places: Box<[u32]>,
    per_class: usize,
    members: Box<[Vec<JurisdictionId>]>,
}

/// The regions that the law allows for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Allowed {
    /// Regions that every rule selects.
    pub home: RegionSet,
    /// Regions that some rule opens under a condition that holds: a later priority level.
    pub opened: RegionSet,
    /// Those of `opened` that a rule opens with safeguards only: the decision is marked for the audit.
    pub safeguarded: RegionSet,
}

impl Allowed {
    /// Returns every allowed region.
    pub fn all(&self) -> RegionSet {
        self.home.or(&self.opened)
    }

    /// Returns what both allow: at home where both have it at home, safeguarded where either asks for it.
    #[must_use]
    fn and(&self, other: &Self) -> Self {
        let all =
            |word| (self.home.word(word) | self.opened.word(word)) & (other.home.word(word) | other.opened.word(word));
        let home = |word| self.home.word(word) & other.home.word(word);
        let opened = |word| all(word) & !home(word);
        let safeguarded = |word| (self.safeguarded.word(word) | other.safeguarded.word(word)) & opened(word);
        // Whole words, each set in one pass: this is on the path of requests.
        Self {
            home: RegionSet::of_words(home),
            opened: RegionSet::of_words(opened),
            safeguarded: RegionSet::of_words(safeguarded),
        }
    }
}

/// Whose rules hold for a request, and what it brings to open regions beyond theirs.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Where the client may be.
    pub origin: &'a Origin,
    /// Jurisdictions that a trusted source declares, wherever the client is: their rules hold too.
    pub declared: [&'a [JurisdictionId]; 2],
    /// The data.
    pub class: ClassId,
    /// What can open regions.
    pub opening: Opening,
}

/// What a request brings that can open regions beyond a rule's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// It carries consent from a trusted source.
    pub consent: bool,
    /// It reads or writes.
    pub access: Access,
}

impl Opening {
    /// Returns every combination.
    pub fn all() -> impl Iterator<Item = Self> {
        [Access::Read, Access::Write]
            .into_iter()
            .flat_map(|access| [false, true].map(|consent| Self { consent, access }))
    }

    pub(crate) fn index(self) -> usize {
        usize::from(self.consent) | usize::from(self.access == Access::Read) << 1
    }
}

/// What one rule, or what stands in for one, says: these regions, and the rest on a condition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Constraint {
    /// Where it comes from.
    pub source: Source,
    /// The regions that it allows.
    pub inside: RegionSet,
    /// The regions that it never allows.
    pub denied: RegionSet,
    /// When it allows the others.
    pub(crate) outside: Condition,
}

/// Where a constraint comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A residency rule, by its position in the table.
    Rule(usize),
    /// The data class's own `cross_border`, in a jurisdiction that has no rule for the class.
    ClassBorder(JurisdictionId),
    /// The data class's scope: the client's super-region.
    SuperRegion,
    /// `residency_defaults.unlisted_jurisdiction = "refuse"`.
    Unlisted,
    /// `residency_defaults.unknown_origin = "refuse"`.
    Unknown,
}

impl Constraint {
    /// Returns when a region that is not inside is allowed.
    pub(crate) fn condition_of(&self, id: RegionId) -> Condition {
        if self.denied.contains(id) { Condition::NEVER } else { self.outside }
    }
}

/// When the regions outside a constraint open: the conjunction of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Condition {
    pub(crate) never: bool,
    pub(crate) consent: bool,
    pub(crate) read_only: bool,
    pub(crate) safeguards: bool,
}

impl Condition {
    const NEVER: Self = Self { never: true, consent: false, read_only: false, safeguards: false };

    /// At least as strict as both: `with_consent` and `requires_local_copy` do not imply each
    /// other, so that "the stricter wins" asks for both.
    fn and(self, other: Self) -> Self {
        Self {
            never: self.never || other.never,
            consent: self.consent || other.consent,
            read_only: self.read_only || other.read_only,
            safeguards: self.safeguards || other.safeguards,
        }
    }

    pub(crate) fn holds(self, opening: Opening) -> bool {
        !self.never && (!self.consent || opening.consent) && (!self.read_only || opening.access == Access::Read)
    }
}

impl From<Transfer> for Condition {
    fn from(transfer: Transfer) -> Self {
        let free = Condition::default();
        match transfer {
            Transfer::Prohibited => Condition::NEVER,
            Transfer::WithConsent => Condition { consent: true, ..free },
            Transfer::WithSafeguards => Condition { safeguards: true, ..free },
            Transfer::RequiresLocalCopy => Condition { read_only: true, ..free },
            Transfer::Allowed => free,
        }
    }
}

/// The combined constraints of one profile on one class, ready for intersection.
#[derive(Clone, Debug)]
struct Allowance {
    /// What is allowed, by [`Opening::index`].
    allowed: Box<[Allowed; 4]>,
    constraints: Vec<Constraint>,
    page: Option<Arc<str>>,
    blocked_by: Option<Arc<str>>,
}

impl Allowance {
    fn combine(constraints: Vec<Constraint>, regions: RegionSet, rules: &[Rule]) -> Self {
        let holding = || {
            constraints.iter().filter_map(|constraint| match constraint.source {
                Source::Rule(rule) => rules.get(rule),
                _ => None,
            })
        };
        let pages = holding().filter_map(|rule| match &rule.when_unavailable {
            WhenUnavailable::Maintenance(page) => Some((&rule.regulation, page)),
            WhenUnavailable::Reject => None,
        });
        let blocked_by = holding().filter_map(|rule| Some((&rule.regulation, rule.blocked_by.as_ref()?)));
        // Of several, always the same: the order in the file has no say.
        let page = pages.min().map(|(_, page)| page.clone());
        let blocked_by = blocked_by.min().map(|(_, url)| url.clone());
        let nothing = Allowed { home: RegionSet::EMPTY, opened: RegionSet::EMPTY, safeguarded: RegionSet::EMPTY };
        let mut allowed = Box::new([nothing; 4]);
        for id in regions.iter() {
            let mut outside = constraints.iter().filter(|constraint| !constraint.inside.contains(id)).peekable();
            let at_home = outside.peek().is_none();
            let condition = outside.fold(Condition::default(), |all, constraint| all.and(constraint.condition_of(id)));
            for opening in Opening::all() {
                let allowed = &mut allowed[opening.index()];
                if at_home {
                    allowed.home.insert(id);
                } else if condition.holds(opening) {
                    allowed.opened.insert(id);
                    if condition.safeguards {
                        allowed.safeguarded.insert(id);
                    }
                }
            }
        }
        Self { allowed, constraints, page, blocked_by }
    }
}

impl Residency {
    /// Compiles the rules. Ids inside them must be of the same table.
    pub(crate) fn new(law: &Law<'_>) -> Self {
        let mut profiles: FxHashMap<(Vec<usize>, Vec<usize>, bool), u16> = FxHashMap::default();
        let mut samples: Vec<Country> = Vec::new();
        let mut profile_of = vec![0_u16; Country::SLOTS].into_boxed_slice();
        for country in Country::all() {
            let holding = |sets: &mut dyn Iterator<Item = bool>| -> Vec<usize> {
                sets.enumerate().filter_map(|(index, holds)| holds.then_some(index)).collect()
            };
            let key = (
                holding(&mut law.jurisdictions.iter().map(|j| j.countries.so_far().contains(country))),
                holding(&mut law.super_regions.iter().map(|s| s.countries.contains(country))),
                law.lists(country),
            );
            profile_of[country.slot()] = *profiles.entry(key).or_insert_with(|| {
                samples.push(country);
                (samples.len() - 1) as u16
            });
        }
        let regions = RegionSet::first(law.regions.len());
        let classes = 0..law.data_classes.len();
        let every = classes.flat_map(|class| {
            let known = samples.iter().map(move |country| law.constraints_of(*country, class));
            let unknown = std::iter::once_with(move || law.constraints_of_unknown(class));
            let declared = (0..law.jurisdictions.len()).map(move |id| law.constraints_of_declared(id, class));
            known.chain(unknown).chain(declared)
        });
        let mut known: FxHashMap<Vec<Constraint>, u32> = FxHashMap::default();
        let mut allowances = Vec::new();
        let mut place_of = |constraints: Vec<Constraint>| {
            *known.entry(constraints).or_insert_with_key(|constraints| {
                allowances.push(Allowance::combine(constraints.clone(), regions, law.rules));
                (allowances.len() - 1) as u32
            })
        };
        let places = every.map(&mut place_of).collect();
        let members = samples.iter().map(|country| law.jurisdictions_of(*country)).collect();
        let per_class = samples.len() + 1 + law.jurisdictions.len();
        Self { profile_of, profiles: samples.len(), allowances: allowances.into(), places, per_class, members }
    }

    /// Returns the regions allowed. `room` is where they are put together when more than one set of rules holds;
    /// else they are borrowed as they were compiled.
    pub fn allowed<'a>(&'a self, subject: Subject<'_>, room: &'a mut Option<Allowed>) -> &'a Allowed {
        let mut all = self.allowances_of(subject);
        let index = subject.opening.index();
        // An origin is at least one country, or unknown.
        let first = all.next().unwrap_or_else(|| self.of_unknown(subject.class));
        let first = &first.allowed[index];
        let Some(second) = all.next() else { return first };
        let both = first.and(&second.allowed[index]);
        room.insert(all.fold(both, |sum, more| sum.and(&more.allowed[index])))
    }

    /// Returns whether the law keeps data of a class from some region: for some client, wherever they are, whatever
    /// jurisdictions are declared for them, with or without consent, to read or to write. What it opens on no more
    /// than safeguards, or only as a later level, it does not keep away.
    pub(crate) fn restricts(&self, class: ClassId, regions: &RegionSet) -> bool {
        let places = &self.places[class.0 * self.per_class..][..self.per_class];
        let mut allowances = places.iter().map(|place| &self.allowances[*place as usize]);
        allowances.any(|allowance| allowance.allowed.iter().any(|allowed| allowed.all() != *regions))
    }

    /// Returns the constraints behind [`Residency::allowed`], each once.
    pub(crate) fn constraints(&self, subject: Subject<'_>) -> Vec<&Constraint> {
        let mut found: Vec<&Constraint> = Vec::new();
        for constraint in self.allowances_of(subject).flat_map(|allowance| &allowance.constraints) {
            let same = |seen: &&Constraint| seen.source == constraint.source && seen.inside == constraint.inside;
            if !found.iter().any(same) {
                found.push(constraint);
            }
        }
        found
    }

    /// Returns the maintenance page to show while the allowed regions are down, where a rule has one.
    pub fn maintenance_page(&self, subject: Subject<'_>) -> Option<Arc<str>> {
        self.allowances_of(subject).filter_map(|allowance| allowance.page.clone()).min()
    }

    /// Returns the URL of whoever wants the data kept away, where a rule that holds says it.
    pub(crate) fn blocked_by(&self, subject: Subject<'_>) -> Option<Arc<str>> {
        self.allowances_of(subject).filter_map(|allowance| allowance.blocked_by.clone()).min()
    }

    /// Returns every allowance that must hold at once.
    fn allowances_of<'a, 'q>(&'a self, subject: Subject<'q>) -> impl Iterator<Item = &'a Allowance> + use<'a, 'q> {
        let Subject { origin, class, declared, .. } = subject;
        let (unknown, one, several) = match origin {
            Origin::Unknown => (true, None, None),
            Origin::Country(country) => (false, Some(*country), None),
            Origin::Countries(countries) => (countries.is_empty(), None, Some(countries.iter())),
        };
        let unknown = unknown.then(|| self.of_unknown(class));
        let countries = one.into_iter().chain(several.into_iter().flatten());
        let declared = declared.into_iter().flatten().map(move |id| self.of_declared(*id, class));
        unknown.into_iter().chain(countries.map(move |country| self.of_country(country, class))).chain(declared)
    }

    /// Returns the jurisdictions that a country belongs to.
    pub fn jurisdictions(&self, country: Country) -> &[JurisdictionId] {
        &self.members[usize::from(self.profile_of[country.slot()])]
    }

    /// Returns the regions that a jurisdiction's own rules keep a class to, wherever the client is; `None` where it
    /// asks nothing for the class.
    pub(crate) fn home_of(&self, jurisdiction: JurisdictionId, class: ClassId) -> Option<&RegionSet> {
        let allowance = self.of_declared(jurisdiction, class);
        // What is at home is so whatever the request brings.
        (!allowance.constraints.is_empty()).then(|| &allowance.allowed[0].home)
    }

    fn of_country(&self, country: Country, class: ClassId) -> &Allowance {
        self.at(class, usize::from(self.profile_of[country.slot()]))
    }

    fn of_unknown(&self, class: ClassId) -> &Allowance {
        self.at(class, self.profiles)
    }

    fn of_declared(&self, jurisdiction: JurisdictionId, class: ClassId) -> &Allowance {
        self.at(class, self.profiles + 1 + jurisdiction.0)
    }

    fn at(&self, class: ClassId, place: usize) -> &Allowance {
        &self.allowances[self.places[class.0 * self.per_class + place] as usize]
    }
}

/// The parts of a table that make its law.
pub(crate) struct Law<'a> {
    pub(crate) regions: &'a [Region],
    pub(crate) jurisdictions: &'a [Jurisdiction],
    pub(crate) super_regions: &'a [SuperRegion],
    pub(crate) data_classes: &'a [DataClass],
    pub(crate) rules: &'a [Rule],
    pub(crate) unknown_origin: &'a UnknownOrigin,
    pub(crate) unlisted: UnlistedJurisdiction,
    pub(crate) at: LawTime,
}

impl Law<'_> {
    fn jurisdictions_of(&self, country: Country) -> Vec<JurisdictionId> {
        let members = self.jurisdictions.iter().enumerate().filter(|(_, j)| j.countries.so_far().contains(country));
        members.map(|(index, _)| JurisdictionId(index)).collect()
    }

    /// Returns whether some jurisdiction certainly has a country.
    fn lists(&self, country: Country) -> bool {
        self.jurisdictions.iter().any(|jurisdiction| jurisdiction.countries.listed().contains(country))
    }

    fn constraints_of(&self, country: Country, class: usize) -> Vec<Constraint> {
        let data_class = &self.data_classes[class];
        if data_class.scope == Scope::Global {
            return Vec::new();
        }
        let jurisdictions = self.jurisdictions_of(country);
        let mut constraints: Vec<Constraint> =
            jurisdictions.iter().flat_map(|id| self.constraints_in(*id, class)).collect();
        if !self.lists(country) && self.unlisted == UnlistedJurisdiction::Refuse {
            constraints.push(self.nowhere(Source::Unlisted));
        }
        if data_class.scope == Scope::SuperRegion {
            constraints.push(self.super_region_of(country));
        }
        constraints
    }

    fn constraints_of_unknown(&self, class: usize) -> Vec<Constraint> {
        if self.data_classes[class].scope == Scope::Global {
            return Vec::new();
        }
        match self.unknown_origin {
            UnknownOrigin::Strictest => self.strictest_constraints(class),
            UnknownOrigin::Like(jurisdictions) => self.constraints_like(jurisdictions, class),
            UnknownOrigin::Refuse => vec![self.nowhere(Source::Unknown)],
        }
    }

    /// Returns what these jurisdictions ask, and the super-regions of their countries: the client may be in any of
    /// them.
    fn constraints_like(&self, jurisdictions: &[JurisdictionId], class: usize) -> Vec<Constraint> {
        let mut constraints: Vec<Constraint> =
            jurisdictions.iter().flat_map(|id| self.constraints_in(*id, class)).collect();
        if self.data_classes[class].scope == Scope::SuperRegion {
            let territories = || jurisdictions.iter().map(|id| &self.jurisdictions[id.0].countries);
            let countries: CountrySet = territories().flat_map(|countries| countries.so_far().iter()).collect();
            if territories().all(|countries| countries.listed().is_empty()) {
                constraints.push(self.nowhere(Source::SuperRegion));
            }
            for around in countries.iter().map(|country| self.super_region_of(country)) {
                if !constraints.contains(&around) {
                    constraints.push(around);
                }
            }
        }
        constraints
    }

    /// Returns the strictest reading: the client may be in any jurisdiction that restricts this class, in any
    /// super-region or in none, and in a country that no jurisdiction lists.
    fn strictest_constraints(&self, class: usize) -> Vec<Constraint> {
        let data_class = &self.data_classes[class];
        let mut constraints: Vec<Constraint> =
            (0..self.jurisdictions.len()).flat_map(|index| self.constraints_in(JurisdictionId(index), class)).collect();
        if self.unlisted == UnlistedJurisdiction::Refuse {
            constraints.push(self.nowhere(Source::Unlisted));
        }
        if data_class.scope == Scope::SuperRegion {
            constraints.extend(self.super_regions.iter().map(|s| Constraint {
                inside: self.select(|_, region| s.countries.contains(region.country)),
                ..self.nowhere(Source::SuperRegion)
            }));
            let around = |country| self.super_regions.iter().any(|s| s.countries.contains(country));
            if !Country::all().all(around) {
                constraints.push(self.nowhere(Source::SuperRegion));
            }
        }
        constraints
    }

    /// Returns the regions of the super-regions that a country belongs to.
    fn super_region_of(&self, country: Country) -> Constraint {
        let around = self.super_regions.iter().filter(|s| s.countries.contains(country));
        let inside = around
            .map(|s| self.select(|_, region| s.countries.contains(region.country)))
            .fold(RegionSet::EMPTY, |all, some| all.or(&some));
        Constraint { inside, ..self.nowhere(Source::SuperRegion) }
    }

    /// Returns what a declared jurisdiction asks, wherever the client is.
    fn constraints_of_declared(&self, jurisdiction: usize, class: usize) -> Vec<Constraint> {
        match self.data_classes[class].scope {
            Scope::Global => Vec::new(),
            Scope::Jurisdiction | Scope::SuperRegion => self.constraints_in(JurisdictionId(jurisdiction), class),
        }
    }

    fn constraints_in(&self, jurisdiction: JurisdictionId, class: usize) -> Vec<Constraint> {
        let class = ClassId(class);
        let border = Condition::from(self.data_classes[class.0].cross_border);
        let rules = self.rules.iter().enumerate();
        let for_it = rules.filter(|(_, rule)| rule.jurisdiction == jurisdiction && rule.data_classes.contains(&class));
        let ruled = for_it.filter_map(|(index, rule)| match standing(self.rules, index, class, self.at) {
            Standing::InForce => Some(self.constraint_of(index, rule, border)),
            Standing::Ended => Some(self.rest_of(index, rule)),
            Standing::NotYet | Standing::Succeeded(_) => None,
        });
        let mut constraints: Vec<Constraint> = ruled.collect();
        if border != Condition::default() && !is_ruled(self.rules, jurisdiction, class, self.at) {
            let source = Source::ClassBorder(jurisdiction);
            constraints.push(Constraint { inside: self.own(jurisdiction), outside: border, ..self.nowhere(source) });
        }
        constraints
    }

    /// Returns what a rule in force asks.
    fn constraint_of(&self, index: usize, rule: &Rule, border: Condition) -> Constraint {
        let denied = self.denied_by(rule);
        let inside = match &rule.allow {
            Some(allow) => self.select(|id, region| allow.iter().any(|s| s.selects(id, region, self.jurisdictions))),
            None => RegionSet::first(self.regions.len()),
        };
        let outside = match &rule.allow {
            Some(_) => Condition::from(rule.transfer).and(border),
            None => Condition::default(),
        };
        Constraint { source: Source::Rule(index), inside: inside.without(&denied), denied, outside }
    }

    /// Returns what is left of a rule that is over: nothing that it opened abroad, and all that it denied.
    fn rest_of(&self, index: usize, rule: &Rule) -> Constraint {
        // A rule that only denies opens nothing.
        let whole = self.constraint_of(index, rule, Condition::NEVER);
        match rule.allow {
            Some(_) => Constraint { inside: whole.inside.and(&self.own(rule.jurisdiction)), ..whole },
            None => whole,
        }
    }

    fn denied_by(&self, rule: &Rule) -> RegionSet {
        let Some(deny) = &rule.deny else { return RegionSet::EMPTY };
        self.select(|id, region| deny.denies(id, region, self.jurisdictions))
    }

    /// Returns the regions in a jurisdiction's own countries.
    fn own(&self, jurisdiction: JurisdictionId) -> RegionSet {
        let countries = self.jurisdictions[jurisdiction.0].countries.now();
        self.select(|_, region| countries.contains(region.country))
    }

    fn nowhere(&self, source: Source) -> Constraint {
        Constraint { source, inside: RegionSet::EMPTY, denied: RegionSet::EMPTY, outside: Condition::NEVER }
    }

    fn select(&self, wanted: impl Fn(RegionId, &Region) -> bool) -> RegionSet {
        let ids = self.regions.iter().enumerate().filter_map(|(index, region)| Some((RegionId::new(index)?, region)));
        ids.filter(|(id, region)| wanted(*id, region)).map(|(id, _)| id).collect()
    }
}
