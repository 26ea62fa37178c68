//! What a compiled table decides, compared with the law read plainly.

use rustc_hash::FxHashSet;

use super::finding::{Case, Finding, Misjudgement};
use super::kind::{Kind, Routing};
use super::law::{Law, Row};
use super::request::Request;
use crate::attempt::CurrentTable;
use crate::decide::{decide, order};
use crate::facts::Facts;
use crate::failover::FailoverScope;
use crate::jurisdiction::JurisdictionId;
use crate::list::Countries;
use crate::origin::Origin;
use crate::region::{Access, RegionId, RegionSet};
use crate::residency::{Allowed, Opening, Subject};
use crate::route::RouteId;
use crate::table::Table;
use crate::verdict::Verdict;
use crate::view::{Health, RegionView, View, Writes};

/// The comparison so far.
pub(super) struct Comparison<'a> {
    table: &'a Table,
    draining: RegionSet,
    /// What was tried with single regions down: what is eligible.
    singly: FxHashSet<(FailoverScope, RegionSet)>,
    /// What was tried attempt by attempt: what is eligible, and how.
    in_turn: FxHashSet<(FailoverScope, Allowed)>,
    pub(super) count: usize,
    /// Pairs of rows, and of rows and declared jurisdictions, that may still be compared.
    pairs_left: usize,
    /// Looks at a region that may still be spent on failures and attempts.
    visits_left: usize,
    pub(super) findings: Vec<Finding>,
}

/// Every region near and idle, with the writes where it may have them, which none is a replica of, and some of them down.
struct Down(RegionSet);

impl View for Down {
    fn region(&self, id: RegionId) -> RegionView {
        let health = if self.0.contains(id) { Health::Down } else { Health::Up };
        // Writes go wherever they may at times: what the law says of that must hold whoever has them.
        let writes = Writes::Granted;
        RegionView { health, rtt_ms: Some(0.0), writes, ..RegionView::default() }
    }
}

/// One request, and what the law makes of it.
struct Trial<'a> {
    request: &'a Request,
    facts: Facts<'a>,
    allowed: &'a Allowed,
    /// What the table lets serve, draining regions included.
    able: &'a RegionSet,
    failover: FailoverScope,
}

impl<'a> Comparison<'a> {
    pub(super) fn new(table: &'a Table, draining: RegionSet) -> Self {
        Self {
            table,
            draining,
            singly: FxHashSet::default(),
            in_turn: FxHashSet::default(),
            count: 0,
            pairs_left: PAIRS,
            visits_left: VISITS,
            findings: Vec::new(),
        }
    }

    /// Each route's compiled regions are those that can serve it.
    pub(super) fn check_ability(&mut self, routing: &Routing) {
        for (index, able) in routing.able.iter().enumerate() {
            let route = self.table.route(RouteId(index as u32));
            let wrong = [Access::Read, Access::Write].into_iter().find_map(|access| {
                let (said, compiled) = (&able[access as usize], route.able(access));
                let more = compiled.without(said).iter().next().map(|region| (region, Misjudgement::Unable));
                more.or_else(|| said.without(compiled).iter().next().map(|region| (region, Misjudgement::Withheld)))
            });
            if let Some(((region, how), request)) = wrong.zip(routing.requests[index].as_ref()) {
                let case = Case::new(self.table, request, &Origin::Unknown, true);
                self.report(Finding::Misjudged { case, region, how });
            }
        }
    }

    /// What is compiled for each country and class is the law, and what is folded of two as well; `apart`
    /// is one of the rows of each that differ.
    pub(super) fn check_law(&mut self, law: &Law<'_>, rows: &[Row], apart: &[&Row], kinds: &[Kind]) {
        let reads = kinds.iter().find_map(|kind| Some((Access::Read, kind.sample(Access::Read)?)));
        let writes = kinds.iter().find_map(|kind| Some((Access::Write, kind.sample(Access::Write)?)));
        for (access, request) in reads.into_iter().chain(writes) {
            for opening in [false, true].map(|consent| Opening { consent, access }) {
                for row in rows {
                    let allowed = &row.allowed[opening.index()];
                    let countries = row.countries.iter().map(Origin::Country);
                    let unknown = row.countries.is_empty().then_some(Origin::Unknown);
                    for origin in countries.chain(unknown) {
                        self.check_lookup(request, &origin, &[], opening, allowed);
                    }
                }
                for (index, one) in apart.iter().enumerate() {
                    for other in apart.iter().take(index) {
                        if !spend(&mut self.pairs_left, 1) {
                            break;
                        }
                        let (Origin::Country(a), Origin::Country(b)) = (one.origin, other.origin) else { continue };
                        let both = both(&one.allowed[opening.index()], &other.allowed[opening.index()]);
                        let origin = Origin::of([a, b].into_iter().collect());
                        self.check_lookup(request, &origin, &[], opening, &both);
                    }
                }
            }
        }
        let Some(kind) = kinds.iter().find(|kind| kind.takes_declared) else { return };
        for declared in (0..self.table.spec().jurisdictions.len()).map(JurisdictionId) {
            let clauses = law.of_jurisdiction(declared, kind.class);
            for (access, request) in kind.accesses() {
                for opening in [false, true].map(|consent| Opening { consent, access }) {
                    let declares = law.allowed(&clauses, opening);
                    for row in apart {
                        if !spend(&mut self.pairs_left, 1) {
                            break;
                        }
                        let both = both(&row.allowed[opening.index()], &declares);
                        self.check_lookup(request, &row.origin, &[declared], opening, &both);
                    }
                }
            }
        }
    }

    fn check_lookup(
        &mut self,
        request: &Request,
        origin: &Origin,
        declared: &[JurisdictionId],
        opening: Opening,
        allowed: &Allowed,
    ) {
        let route = self.table.route(request.route);
        let declared_on = [route.spec.jurisdictions.as_slice(), declared];
        let subject = Subject { origin, declared: declared_on, class: route.spec.data_class, opening };
        let mut room = None;
        let compiled = self.table.residency().allowed(subject, &mut room);
        self.count += 1;
        let every = RegionSet::first(self.table.spec().regions.len());
        let wrong = difference(&allowed.all(), &every, &compiled.all());
        if wrong.is_none() && compiled == allowed {
            return;
        }
        let case = self.case(request, origin, declared, opening.consent);
        let (region, how) = wrong.unwrap_or_else(|| mismarked(allowed, compiled));
        self.report(finding(case, region, how));
    }

    /// Each route of a kind, for the client under the strictest law, so that none is compiled as another
    /// kind than it says.
    pub(super) fn check_routes(&mut self, rows: &[Row], kind: &Kind, requests: &[Option<Request>]) {
        let Some(unknown) = rows.last() else { return };
        for request in kind.routes.iter().filter_map(|id| requests[id.0 as usize].as_ref()) {
            let access = request.access;
            for opening in [false, true].map(|consent| Opening { consent, access }) {
                let allowed = &unknown.allowed[opening.index()];
                let facts = self.facts(request, unknown.origin, opening.consent);
                let trial = Trial { request, facts, allowed, able: kind.able(access), failover: kind.failover };
                self.check_one(&trial, RegionSet::EMPTY, None);
            }
        }
    }

    /// Every different client of a kind of route: who is permitted, with which regions down.
    pub(super) fn check_kind(&mut self, law: &Law<'_>, apart: &[&Row], kind: &Kind) {
        for (access, request) in kind.accesses() {
            for row in apart {
                for opening in [false, true].map(|consent| Opening { consent, access }) {
                    let allowed = &row.allowed[opening.index()];
                    let facts = self.facts(request, row.origin, opening.consent);
                    self.check(&Trial { request, facts, allowed, able: kind.able(access), failover: kind.failover });
                }
            }
            if !kind.takes_declared {
                continue;
            }
            let Some(row) = apart.first() else { continue };
            for declared in (0..law.spec.jurisdictions.len()).map(JurisdictionId) {
                let clauses = law.of_jurisdiction(declared, kind.class);
                for opening in [false, true].map(|consent| Opening { consent, access }) {
                    let allowed = &both(&row.allowed[opening.index()], &law.allowed(&clauses, opening));
                    let declared = &[declared];
                    let facts = Facts { declared, ..self.facts(request, row.origin, opening.consent) };
                    self.check(&Trial { request, facts, allowed, able: kind.able(access), failover: kind.failover });
                }
            }
        }
    }

    fn facts<'q>(&self, request: &'q Request, origin: Origin, consent: bool) -> Facts<'q> {
        Facts {
            host: &request.host,
            path: &request.path,
            method: request.method,
            payload: request.payload,
            origin,
            declared: &[],
            consent,
            client_at: None,
            client_key: 0,
            from: RegionId(0),
            pinned: None,
            only: None,
            criticality: None,
        }
    }

    fn check(&mut self, trial: &Trial<'_>) {
        let eligible = self.check_one(trial, RegionSet::EMPTY, None);
        let part = |set: &RegionSet| set.and(&eligible);
        let Allowed { home, opened, safeguarded } = *trial.allowed;
        // What one of these checks costs: for each eligible region, a decision or two among all.
        let cost = 2 * eligible.len() * self.table.spec().regions.len();
        if self.singly.insert((trial.failover, eligible)) && spend(&mut self.visits_left, cost) {
            self.check_failures(trial, eligible);
        }
        let split = Allowed { home: part(&home), opened: part(&opened), safeguarded: part(&safeguarded) };
        if self.in_turn.insert((trial.failover, split)) && spend(&mut self.visits_left, cost) {
            self.check_attempts(trial, eligible);
            self.check_levers(trial);
        }
    }

    /// Decides with these regions down; gives what is then eligible by the law.
    fn check_one(&mut self, trial: &Trial<'_>, down: RegionSet, pinned: Option<RegionId>) -> RegionSet {
        let facts = Facts { pinned, ..trial.facts };
        let mut able = *trial.able;
        for draining in self.draining.iter().filter(|id| Some(*id) != pinned) {
            able.remove(draining);
        }
        let lawful = trial.allowed.all();
        let able = self.in_scope(trial, &facts, lawful.and(&able)).without(&down);
        self.count += 1;
        let found = match decide(self.table, &facts, &Down(down)) {
            Verdict::Forward(permits) => {
                let mut found = *permits.eligible();
                found.insert(permits.first());
                if permits.safeguarded != trial.allowed.safeguarded.contains(permits.first()) {
                    self.report_trial(trial, &down, permits.first(), Some(Misjudgement::Mismarked));
                }
                found
            }
            Verdict::Refuse(_) => RegionSet::EMPTY,
        };
        if let Some((region, how)) = difference(&lawful, &able, &found) {
            self.report_trial(trial, &down, region, how);
        }
        lawful.and(&able)
    }

    /// Returns what is left of the regions that may and can serve by the failover scope: what is eligible with none
    /// down, if the scope of one of them leaves exactly that; else nothing, or all where nothing is eligible, neither of
    /// which is what is found. Which of them is the first choice, distance decides.
    fn in_scope(&self, trial: &Trial<'_>, facts: &Facts<'_>, able: RegionSet) -> RegionSet {
        if trial.failover == FailoverScope::Any {
            return able;
        }
        let found = match decide(self.table, facts, &Down(RegionSet::EMPTY)) {
            Verdict::Forward(permits) => *permits.eligible(),
            Verdict::Refuse(_) => RegionSet::EMPTY,
        };
        let scope = |first: RegionId| match trial.failover {
            FailoverScope::Jurisdiction => self.around(facts, first),
            FailoverScope::Region | FailoverScope::Any => [first].into_iter().collect(),
        };
        if able.iter().any(|first| scope(first).and(&able) == found) {
            found
        } else if found.is_empty() {
            able
        } else {
            // No first choice leaves that: the scope is not kept.
            RegionSet::EMPTY
        }
    }

    /// Returns the regions in all the jurisdictions of the request that have a region, or else in all that have it, or
    /// else in its country.
    fn around(&self, facts: &Facts<'_>, first: RegionId) -> RegionSet {
        let spec = self.table.spec();
        let country = |id: RegionId| self.table.region(id).country;
        let route = self.table.find_route(facts.host, facts.path, facts.method);
        let by_route = route.map(|id| spec.routes[id.0 as usize].jurisdictions.as_slice()).unwrap_or_default();
        let (having, holding): (Vec<_>, Vec<_>) = {
            let having = spec.jurisdictions.iter().enumerate();
            let having = having.filter(|(_, one)| one.countries.now().contains(country(first)));
            let holds = |index: usize, countries: &Countries| {
                let declared = by_route.iter().chain(facts.declared).any(|id| id.0 == index);
                declared || facts.origin.countries().iter().any(|client| countries.so_far().contains(client))
            };
            (having.clone().collect(), having.filter(|(index, one)| holds(*index, &one.countries)).collect())
        };
        let within = if holding.is_empty() { having } else { holding };
        let is_within = |id: &RegionId| match within.as_slice() {
            [] => country(*id) == country(first),
            all => all.iter().all(|(_, one)| one.countries.now().contains(country(*id))),
        };
        self.table.regions().map(|(id, _)| id).filter(is_within).collect()
    }

    /// Each eligible region down, each alone up, and none up.
    fn check_failures(&mut self, trial: &Trial<'_>, eligible: RegionSet) {
        let every = RegionSet::first(self.table.spec().regions.len());
        for region in eligible.iter().filter(|_| eligible.len() > 1) {
            let alone = [region].into_iter().collect();
            self.check_one(trial, alone, None);
            self.check_one(trial, every.without(&alone), None);
        }
        self.check_one(trial, eligible, None);
    }

    /// What could lift a region that is forbidden, or that drains.
    fn check_levers(&mut self, trial: &Trial<'_>) {
        let every = RegionSet::first(self.table.spec().regions.len());
        let forbidden = every.without(&trial.allowed.all()).iter().next();
        let draining = self.draining;
        for pinned in forbidden.into_iter().chain(draining.iter()) {
            self.check_one(trial, RegionSet::EMPTY, Some(pinned));
        }
        if let Some(forbidden) = forbidden {
            let facts = Facts { only: Some(forbidden), ..trial.facts };
            if let Verdict::Forward(_) = decide(self.table, &facts, &Down(RegionSet::EMPTY)) {
                self.report_trial(trial, &RegionSet::EMPTY, forbidden, None);
            }
        }
    }

    /// The permits of the attempts, if each failed in turn, and the order that explanations show.
    fn check_attempts(&mut self, trial: &Trial<'_>, eligible: RegionSet) {
        let view = Down(RegionSet::EMPTY);
        let current = CurrentTable { table: self.table, view: &view };
        let mut attempts = Vec::new();
        if let Verdict::Forward(permits) = decide(self.table, &trial.facts, &view) {
            let mut tried = RegionSet::EMPTY;
            while let Some(permit) = permits.next(self.table, &trial.facts, &tried, &current) {
                self.count += 1;
                attempts.push((permit.region(), permit.is_safeguarded()));
                if tried.contains(permit.region()) {
                    break;
                }
                tried.insert(permit.region());
            }
        }
        let told = order(self.table, trial.request.route, &trial.facts, &view);
        if let Some((region, how)) = astray(trial.allowed, &eligible, &attempts, &told) {
            let tried = attempts.iter().map(|(id, _)| *id).take_while(|id| *id != region);
            self.report_trial(trial, &tried.collect(), region, how);
        }
    }

    fn case(&self, request: &Request, origin: &Origin, declared: &[JurisdictionId], consent: bool) -> Case {
        let spec = self.table.spec();
        let header = spec.routes[request.route.0 as usize].jurisdiction_header.clone();
        let names: Vec<&str> = declared.iter().map(|id| spec.jurisdictions[id.0].name.as_str()).collect();
        let declared = header.filter(|_| !names.is_empty()).map(|header| (header, names.join(",")));
        Case { declared, ..Case::new(self.table, request, origin, consent) }
    }

    fn report_trial(&mut self, trial: &Trial<'_>, down: &RegionSet, region: RegionId, how: Option<Misjudgement>) {
        let Facts { origin, declared, consent, .. } = &trial.facts;
        let down = down.iter().map(|id| self.table.region(id).name.clone()).collect();
        let case = Case { down, ..self.case(trial.request, origin, declared, *consent) };
        self.report(finding(case, region, how));
    }

    fn report(&mut self, finding: Finding) {
        // One fault shows itself in thousands of ways.
        if self.findings.len() < SHOWN {
            self.findings.push(finding);
        }
    }
}

/// The most pairs that are compared: a few tenths of a second.
const PAIRS: usize = 200_000;

/// The most looks at a region that failures and attempts may cost: likewise.
const VISITS: usize = 20_000_000;

/// Takes a cost out of what is left; false, and nothing is taken, when it is more than that.
fn spend(left: &mut usize, cost: usize) -> bool {
    left.checked_sub(cost).map(|rest| *left = rest).is_some()
}

/// Returns what a set of countries, or a country and a declared jurisdiction, allow: what both do.
fn both(one: &Allowed, other: &Allowed) -> Allowed {
    let home = one.home.and(&other.home);
    let opened = one.all().and(&other.all()).without(&home);
    Allowed { home, opened, safeguarded: one.safeguarded.or(&other.safeguarded).and(&opened) }
}

/// Returns where what was found is not what is both lawful and able; `None` for how is a leak.
pub(super) fn difference(
    lawful: &RegionSet,
    able: &RegionSet,
    found: &RegionSet,
) -> Option<(RegionId, Option<Misjudgement>)> {
    let first = |set: RegionSet, how| set.iter().next().map(|region| (region, how));
    first(found.without(lawful), None)
        .or_else(|| first(found.without(able), Some(Misjudgement::Unable)))
        .or_else(|| first(lawful.and(able).without(found), Some(Misjudgement::Withheld)))
}

/// Returns where two that allow the same regions differ in how.
fn mismarked(allowed: &Allowed, compiled: &Allowed) -> (RegionId, Option<Misjudgement>) {
    let apart = |one: &RegionSet, other: &RegionSet| one.without(other).or(&other.without(one));
    let wrong = apart(&allowed.home, &compiled.home).or(&apart(&allowed.safeguarded, &compiled.safeguarded));
    (wrong.iter().next().unwrap_or(RegionId(0)), Some(Misjudgement::Mismarked))
}

/// Returns where a chain of attempts, each with its mark for the audit, goes wrong: it must name every eligible
/// region once and nothing else, as the order told does.
pub(super) fn astray(
    allowed: &Allowed,
    eligible: &RegionSet,
    attempts: &[(RegionId, bool)],
    told: &[RegionId],
) -> Option<(RegionId, Option<Misjudgement>)> {
    let mut left = *eligible;
    for ((region, safeguarded), told) in attempts.iter().zip(told.iter().map(Some).chain(std::iter::repeat(None))) {
        if !allowed.all().contains(*region) {
            return Some((*region, None));
        }
        if !left.contains(*region) {
            return Some((*region, Some(Misjudgement::Unable)));
        }
        if *safeguarded != allowed.safeguarded.contains(*region) || told != Some(region) {
            return Some((*region, Some(Misjudgement::Mismarked)));
        }
        left.remove(*region);
    }
    let more = told.get(attempts.len()).map(|region| (*region, Some(Misjudgement::Unable)));
    left.iter().next().map(|region| (region, Some(Misjudgement::Withheld))).or(more)
}

fn finding(case: Case, region: RegionId, how: Option<Misjudgement>) -> Finding {
    match how {
        None => Finding::Leak { case, region },
        Some(how) => Finding::Misjudged { case, region, how },
    }
}

/// So many differences are reported: more say nothing new.
const SHOWN: usize = 8;
