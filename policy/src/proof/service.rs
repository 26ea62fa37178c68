//! Who is served by which regions, and who by none.

use rustc_hash::FxHashMap;

use super::clients::Clients;
use super::finding::{Case, Cause, Finding, Gap, subject};
use super::kind::Kind;
use super::law::{Clause, Law, Row};
use super::request::{Part, Routes};
use crate::jurisdiction::ClassId;
use crate::origin::Origin;
use crate::region::{Access, RegionSet};
use crate::residency::{Opening, Source};
use crate::route::RouteId;
use crate::table::{Table, TableSpec, UnknownOrigin};

/// Whose service rests on which regions: it lasts while one of them is up, and ends with the last.
#[derive(Clone, Debug, PartialEq)]
pub struct Reliance {
    /// The clients.
    pub clients: Clients,
    /// Their data.
    pub class: ClassId,
    /// The routes.
    pub routes: Routes,
    /// Which of the routes' requests.
    pub part: Part,
    /// With consent or without.
    pub consent: Consent,
    /// The regions; at least one.
    pub regions: RegionSet,
}

/// Which requests rely on some regions, by consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Consent {
    /// All.
    Either,
    /// Those without; consent opens more.
    Without,
    /// Those with.
    With,
}

impl Reliance {
    /// Returns what is lost with its regions: `pii of br (route a)`.
    pub fn describe(&self, spec: &TableSpec) -> String {
        let consent = match self.consent {
            Consent::Either => "",
            Consent::Without => ", without consent",
            Consent::With => ", with consent",
        };
        format!("{}{consent}", subject(spec, &self.clients, self.class, self.part, &self.routes))
    }
}

/// What is known of everybody's service so far.
pub(super) struct Service<'a> {
    table: &'a Table,
    draining: RegionSet,
    anybody: bool,
    findings: Vec<Finding>,
    gaps: Merged<(ClassId, Part, Cause), Case>,
    reliances: Merged<(ClassId, Part, Consent, RegionSet), ()>,
    unserving: Vec<(Part, Vec<RouteId>)>,
}

/// Clients and routes of which the same is true, in the order in which they were found.
struct Merged<Key, Sample> {
    places: FxHashMap<(Key, Clients), usize>,
    list: Vec<(Key, Clients, Sample, Routes)>,
}

/// Clients of one kind of route of which the same is true, with a sample.
type Grouped<Key, Sample> = Vec<(Key, Clients, Sample)>;

/// What is true of one client's requests of one access.
#[derive(PartialEq)]
enum Fact {
    Lacks(Cause),
    Relies(Consent, RegionSet),
}

impl<'a> Service<'a> {
    pub(super) fn new(table: &'a Table, draining: RegionSet) -> Self {
        Self {
            table,
            draining,
            anybody: false,
            findings: Vec::new(),
            gaps: Merged::new(),
            reliances: Merged::new(),
            unserving: Vec::new(),
        }
    }

    /// Takes in a kind of routes.
    pub(super) fn add(&mut self, law: &Law<'_>, rows: &[Row], kind: &Kind) {
        let draining = self.draining;
        let takes_new = |access| kind.able(access).without(&draining);
        let can: Vec<Access> =
            kind.usual_accesses().map(|(access, _)| access).filter(|access| !takes_new(*access).is_empty()).collect();
        if can.is_empty() {
            self.unserve(Part::All, &kind.routes);
        }
        for (access, _) in kind.usual_accesses().filter(|(access, _)| !can.is_empty() && !can.contains(access)) {
            self.unserve(kind.part(access), &kind.routes);
        }
        self.anybody |= rows.iter().any(|row| {
            kind.usual_accesses().any(|(access, _)| {
                let opening = Opening { consent: kind.takes_consent, access };
                !row.allowed[opening.index()].all().and(kind.able(access)).is_empty()
            })
        });
        let mut gaps: Grouped<(Part, Cause), Case> = Vec::new();
        let mut reliances: Grouped<(Part, Consent, RegionSet), ()> = Vec::new();
        for row in rows {
            for (part, access, fact) in facts(law, kind, row, &can, takes_new) {
                match fact {
                    Fact::Lacks(cause) => {
                        let consent = kind.takes_consent && cause != Cause::OnlyWithConsent;
                        let sample = || Some(Case::new(self.table, kind.sample(access)?, &row.origin, consent));
                        join(&mut gaps, (part, cause), row, sample);
                    }
                    Fact::Relies(consent, regions) => {
                        join(&mut reliances, (part, consent, regions), row, || Some(()));
                    }
                }
            }
        }
        for ((part, cause), clients, case) in gaps {
            self.gaps.add((kind.class, part, cause), clients, case, &kind.routes);
        }
        for ((part, consent, regions), clients, ()) in reliances {
            self.reliances.add((kind.class, part, consent, regions), clients, (), &kind.routes);
        }
    }

    /// Returns what was found of all kinds together.
    pub(super) fn finish(mut self) -> (Vec<Finding>, Vec<Reliance>) {
        if !self.anybody {
            self.findings.push(Finding::ServesNobody);
        }
        for (part, routes) in self.unserving {
            self.findings.push(Finding::RoutesServeNobody { routes: Routes::new(&routes), part });
        }
        for ((class, part, cause), clients, case, routes) in self.gaps.list {
            self.findings.push(Finding::Unserved(Box::new(Gap { clients, class, routes, part, cause, case })));
        }
        let reliances =
            self.reliances.list.into_iter().map(|((class, part, consent, regions), clients, (), routes)| Reliance {
                clients,
                class,
                routes,
                part,
                consent,
                regions,
            });
        (self.findings, reliances.collect())
    }

    fn unserve(&mut self, part: Part, routes: &[RouteId]) {
        match self.unserving.iter_mut().find(|(known, _)| *known == part) {
            Some((_, known)) => {
                known.extend(routes);
                known.sort_unstable();
            }
            None => self.unserving.push((part, routes.to_vec())),
        }
    }
}

impl<Key: Clone + Eq + std::hash::Hash, Sample> Merged<Key, Sample> {
    fn new() -> Self {
        Self { places: FxHashMap::default(), list: Vec::new() }
    }

    fn add(&mut self, key: Key, clients: Clients, sample: Sample, routes: &[RouteId]) {
        match self.places.get(&(key.clone(), clients)).and_then(|place| self.list.get_mut(*place)) {
            Some((.., known)) => known.add(routes),
            None => {
                self.places.insert((key.clone(), clients), self.list.len());
                self.list.push((key, clients, sample, Routes::new(routes)));
            }
        }
    }
}

fn join<Key: PartialEq, Sample>(
    groups: &mut Grouped<Key, Sample>,
    key: Key,
    row: &Row,
    sample: impl FnOnce() -> Option<Sample>,
) {
    match groups.iter_mut().find(|(known, ..)| *known == key) {
        Some((_, clients, _)) => clients.add(&row.countries),
        None => {
            let mut clients = Clients::default();
            clients.add(&row.countries);
            groups.extend(sample().map(|sample| (key, clients, sample)));
        }
    }
}

/// Returns what is true of a client's requests of each access; of both as one where it is the same.
fn facts(
    law: &Law<'_>,
    kind: &Kind,
    row: &Row,
    accesses: &[Access],
    takes_new: impl Fn(Access) -> RegionSet,
) -> Vec<(Part, Access, Fact)> {
    let mut facts: Vec<(Part, Access, Fact)> = Vec::new();
    for access in accesses {
        let takes_new = takes_new(*access);
        let regions = |consent| row.allowed[Opening { consent, access: *access }.index()].all().and(&takes_new);
        let (without, with) = (regions(false), regions(kind.takes_consent));
        let cause = if without.is_empty() { cause(law, kind, row, *access, &with, &takes_new) } else { None };
        let relied = match without == with {
            true => [(Consent::Either, with), (Consent::Without, RegionSet::EMPTY)],
            false => [(Consent::With, with), (Consent::Without, without)],
        };
        let relied = relied.into_iter().filter(|(_, regions)| !regions.is_empty());
        let relied = relied.map(|(consent, regions)| Fact::Relies(consent, regions));
        for fact in cause.map(Fact::Lacks).into_iter().chain(relied) {
            match facts.iter_mut().find(|(_, _, known)| *known == fact) {
                Some((part, ..)) => *part = Part::All,
                None => facts.push((kind.part(*access), *access, fact)),
            }
        }
    }
    facts
}

/// Returns why nobody serves a client without consent; `with_consent` would. `None` when the table says outright
/// that nobody does.
fn cause(
    law: &Law<'_>,
    kind: &Kind,
    row: &Row,
    access: Access,
    with_consent: &RegionSet,
    takes_new: &RegionSet,
) -> Option<Cause> {
    let consenting = Opening { consent: true, access };
    let is_refused = row.clauses.iter().any(|clause| match clause.source {
        Source::Rule(rule) => {
            law.spec.rules[rule].allow.as_ref().is_some_and(Vec::is_empty) && !clause.opens(consenting)
        }
        Source::Unlisted | Source::Unknown => true,
        Source::ClassBorder(_) | Source::SuperRegion => false,
    });
    if !with_consent.is_empty() {
        return Some(Cause::OnlyWithConsent);
    }
    let own = row.clauses.get(..row.own).unwrap_or_default();
    if is_refused {
        // What is said outright of some jurisdiction is not said of clients who may be elsewhere.
        let inherited = row.origin == Origin::Unknown
            && law.spec.unknown_origin != UnknownOrigin::Refuse
            && law.allowed(own, consenting).all().and(takes_new).is_empty();
        return inherited.then_some(Cause::Strictest);
    }
    let lawful = row.allowed[Opening { consent: kind.takes_consent, access }.index()].all();
    if !lawful.is_empty() {
        return Some(Cause::Unable(lawful));
    }
    // Where the route's own jurisdictions leave nothing by themselves, they contradict each other, whoever asks.
    let tenants = row.clauses.get(row.own..).unwrap_or_default();
    let is_served = |clauses| !law.allowed(clauses, consenting).all().and(takes_new).is_empty();
    if !tenants.is_empty() && is_served(own) && is_served(tenants) {
        return Some(Cause::Tenant);
    }
    if !row.allowed[consenting.index()].all().is_empty() {
        return Some(Cause::ConsentNotTaken);
    }
    match core(law, row, consenting) {
        Cause::Contradiction(sources) if row.origin == Origin::Unknown && !is_of_one(law, &sources) => {
            Some(Cause::Strictest)
        }
        Cause::SuperRegion | Cause::NoSuperRegion if row.origin == Origin::Unknown => Some(Cause::Strictest),
        cause => Some(cause),
    }
}

/// Returns whether all are of one jurisdiction: then they leave its own clients without a region, too.
fn is_of_one(law: &Law<'_>, sources: &[Source]) -> bool {
    let jurisdiction = |source: &Source| match source {
        Source::Rule(rule) => Some(law.spec.rules[*rule].jurisdiction),
        Source::ClassBorder(jurisdiction) => Some(*jurisdiction),
        Source::SuperRegion | Source::Unlisted | Source::Unknown => None,
    };
    let first = sources.first().and_then(jurisdiction);
    first.is_some() && sources.iter().all(|source| jurisdiction(source) == first)
}

/// Returns the fewest clauses found that leave no region together.
fn core(law: &Law<'_>, row: &Row, opening: Opening) -> Cause {
    let every = RegionSet::first(law.spec.regions.len());
    let leaves_none = |clauses: &[&Clause]| {
        let mut allowed = clauses.iter().map(|clause| clause.allowed(opening, &every));
        let first = allowed.next();
        first.is_some_and(|first| allowed.fold(first, |all, some| all.and(&some)).is_empty())
    };
    let mut core: Vec<&Clause> = row.clauses.iter().filter(|clause| clause.allowed(opening, &every) != every).collect();
    let mut at = 0;
    while at < core.len() {
        let mut fewer = core.clone();
        fewer.remove(at);
        if leaves_none(&fewer) {
            core = fewer;
        } else {
            at += 1;
        }
    }
    match core.as_slice() {
        [one] => match one.source {
            Source::Rule(rule) => Cause::Rule(rule),
            Source::ClassBorder(_) => Cause::Border,
            _ if law.spec.super_regions.iter().any(|one| row.countries.is_subset(&one.countries)) => Cause::SuperRegion,
            _ => Cause::NoSuperRegion,
        },
        several => Cause::Contradiction(several.iter().map(|clause| clause.source).collect()),
    }
}
