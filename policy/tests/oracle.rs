//! Every decision, compared with a naive one written from the contract.
//!
//! `MERIDIAN_ORACLE_CASES` asks for more cases, `MERIDIAN_ORACLE_SEED` for others.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use policy::decide::{is_lawful, order};
use policy::emergency::EmergencySpec;
use policy::failover::FailoverScope;
use policy::route::Criticality;
use policy::table::TableSpec;
use policy::{
    CurrentTable, Facts, Health, LawTime, Method, Payload, Permits, Reason, RegionSet, RegionView, Table, Verdict,
    decide,
};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

mod naive;
mod worlds;

use naive::{Book, Choice, Request, Standing, law, law_in_every_condition, most_specific, refused_in_emergency};
use worlds::{Question, TODAY, incident, questions, table, tables};

/// How often each kind of case came up.
type Seldom = RefCell<BTreeMap<&'static str, u32>>;

#[test]
fn decisions_are_those_of_the_oracle() {
    let seen = Seldom::default();
    let tables = tables(500);
    worlds::check(tables, (table(), questions()), |(spec, asked)| {
        let (book, table) = (Book::new(&spec), Table::new(spec.clone()).expect("a table"));
        for question in asked.iter().map(|asked| asked.of(&spec)) {
            let case = Case { book: &book, table: &table, question: &question, seen: &seen };
            case.check().map_err(|difference| TestCaseError::fail(format!("{difference}\n{question:#?}")))?;
        }
        Ok(())
    });
    assert_reached(&seen.into_inner(), tables);
}

/// Each kind of case came up at least this often in ten thousand.
fn assert_reached(seen: &BTreeMap<&'static str, u32>, tables: u32) {
    println!("{seen:#?}");
    let cases = tables * worlds::QUESTIONS as u32;
    for (kind, floor) in FLOORS {
        let floor = floor * cases / 10_000;
        assert!(seen.get(kind).copied().unwrap_or(0) >= floor, "fewer than {floor} of {cases} cases: {kind}");
    }
    let unclear = seen.get("unclear").copied().unwrap_or(0);
    assert!(unclear * 100 <= cases, "{unclear} of {cases} cases are too close to tell");
}

const FLOORS: &[(&str, u32)] = &[
    ("forward", 3000),
    ("no route", 200),
    ("residency_prohibited", 1000),
    ("residency_unavailable", 150),
    ("unavailable", 500),
    ("table_expired", 300),
    ("expired, but the law has no say", 80),
    ("a page instead of a problem", 80),
    ("own and opened regions", 100),
    ("opened regions only", 300),
    ("safeguarded", 200),
    ("consent opens", 200),
    ("consent is missed", 200),
    ("a read opens", 200),
    ("a write is kept at home", 200),
    ("a read with a payload is kept at home", 20),
    ("a global class under an unknown origin", 100),
    ("several countries differ", 150),
    ("several countries allow less than each", 3),
    ("declared jurisdictions narrow", 100),
    ("an unknown origin is served under a law", 60),
    ("spills", 800),
    ("weight or ramp moves off", 1000),
    ("drawn by hash", 200),
    ("pinned and first", 400),
    ("pinned and not eligible", 300),
    ("pinned to a draining region", 80),
    ("held to one region", 80),
    ("shared by three or more", 50),
    ("kept by its address", 500),
    ("several words", 40),
    ("too far", 400),
    ("too stale", 30),
    ("of unknown age", 20),
    ("outside the failover scope", 300),
    ("refused for the failover scope", 30),
    ("three attempts or more", 1000),
];

/// One question asked of one table.
struct Case<'a> {
    book: &'a Book<'a>,
    table: &'a Table,
    question: &'a Question,
    seen: &'a Seldom,
}

impl Case<'_> {
    fn count(&self, kind: &'static str, happened: bool) {
        if happened {
            *self.seen.borrow_mut().entry(kind).or_default() += 1;
        }
    }

    fn names(&self, ids: &RegionSet) -> BTreeSet<String> {
        ids.iter().map(|id| self.book.name(id).to_owned()).collect()
    }

    fn view(&self, name: &str) -> RegionView {
        self.question.view[self.table.region_named(name).expect("a region").index()]
    }

    fn check(&self) -> Result<(), String> {
        let (facts, view) = (self.question.facts(), &self.question.seen());
        let request = Request::new(self.book.spec, &facts);
        let verdict = decide(self.table, &facts, view);
        let routes = most_specific(&self.book.spec.routes, &request.host, &request.path, request.method);
        let [route] = routes.as_slice() else {
            self.count("no route", true);
            let lawful = self.table.regions().any(|(id, _)| is_lawful(self.table, &facts, id));
            same("the verdict without a route", reason(&verdict), Some(Reason::NoRoute))?;
            return same("lawful regions without a route", lawful, false);
        };
        let law = law(self.book, route, &request);
        let lawful: RegionSet =
            self.table.regions().map(|(id, _)| id).filter(|id| is_lawful(self.table, &facts, *id)).collect();
        same("allowed", self.names(&lawful), law.allowed())?;
        if self.question.expired {
            let restricted = naive::is_restricted(self.book, route, &request);
            self.count(if restricted { "table_expired" } else { "expired, but the law has no say" }, true);
            if restricted {
                return self.check_expired(&verdict, &law);
            }
        }
        let choice = Choice::new(self.book, route, &request, &law, &|name| self.view(name));
        self.count("unclear", choice.unclear);
        if choice.unclear {
            return Ok(());
        }
        self.count_law(route, &request, &law);
        match &verdict {
            Verdict::Refuse(refusal) => {
                same("eligible, though refused", BTreeSet::new(), choice.eligible())?;
                self.count("refused for the failover scope", choice.scoped > 0);
                let expected = match law.allowed().len() {
                    0 => Reason::ResidencyProhibited,
                    // Somebody would serve, were it not for the scope.
                    _ if choice.scoped > 0 => Reason::Unavailable,
                    all if all == self.book.spec.regions.len() => Reason::Unavailable,
                    _ => Reason::ResidencyUnavailable,
                };
                self.count(expected.name(), true);
                same("the reason", refusal.reason, expected)?;
                same(
                    "the refusal's route",
                    refusal.route,
                    self.table.find_route(facts.host, facts.path, facts.method),
                )?;
                let page = refusal.page.as_ref().map(|page| page.to_string());
                self.count("a page instead of a problem", page.is_some());
                let expects_page = expected != Reason::ResidencyProhibited && !law.pages.is_empty();
                same("a page", page.is_some(), expects_page)?;
                same("a page of the law", page.is_none_or(|page| law.pages.contains(&page)), true)
            }
            Verdict::Forward(permits) => {
                self.count("forward", true);
                same("eligible", self.names(permits.eligible()), choice.eligible())?;
                same("the route", &self.table.route(permits.route()).spec.name, &route.name)?;
                self.check_order(permits, &law, &choice)?;
                self.count_choice(route, &request, &law, &choice);
                Ok(())
            }
        }
    }

    /// Nobody is served, whoever could be.
    fn check_expired(&self, verdict: &Verdict, law: &naive::Law) -> Result<(), String> {
        let (facts, view) = (self.question.facts(), &self.question.seen());
        let Verdict::Refuse(refusal) = verdict else { return Err(format!("served by an expired table: {verdict:?}")) };
        let route = self.table.find_route(facts.host, facts.path, facts.method).expect("its route");
        same("the reason", refusal.reason, Reason::TableExpired)?;
        same("the refusal's route", refusal.route, Some(route))?;
        same("a page", refusal.page.is_some(), !law.pages.is_empty())?;
        same("the order", order(self.table, route, &facts, view), Vec::new())
    }

    fn check_order(&self, permits: &Permits, law: &naive::Law, choice: &Choice) -> Result<(), String> {
        let (facts, view) = (self.question.facts(), &self.question.seen());
        let told: Vec<String> =
            order(self.table, permits.route(), &facts, view).iter().map(|id| self.book.name(*id).to_owned()).collect();
        let mut named = BTreeSet::new();
        for name in &told {
            let next = choice.next(&named).ok_or_else(|| format!("{name} is in the order, and nobody was left"))?;
            self.count("drawn by hash", next.drawn && named.is_empty());
            if !next.acceptable.contains(name) {
                return Err(format!(
                    "after {named:?} the order has {name}, the oracle {:?}\n{choice:#?}",
                    next.acceptable
                ));
            }
            named.insert(name.clone());
        }
        same("everyone who is in the order", &named, &choice.eligible())?;
        same("the first", self.book.name(permits.first()), told[0].as_str())?;
        self.count("three attempts or more", told.len() > 2);
        let mut tried = RegionSet::EMPTY;
        let seen = CurrentTable { table: self.table, view };
        for name in &told {
            let permit = permits.next(self.table, &facts, &tried, &seen);
            let permit = permit.ok_or_else(|| format!("no permit for {name}, which the order has"))?;
            same("the permit", self.book.name(permit.region()), name.as_str())?;
            same("the permit's safeguards", permit.is_safeguarded(), law.is_safeguarded(name))?;
            tried.insert(permit.region());
        }
        same("a permit past the order", permits.next(self.table, &facts, &tried, &seen), None)
    }

    fn count_law(&self, route: &policy::route::RouteSpec, request: &Request, law: &naive::Law) {
        let allowed = law.allowed();
        let under = |consent, reads| law_in_every_condition(self.book, route, request, consent, reads).allowed();
        let reads = self
            .table
            .route(self.table.find_route(&request.host, &request.path, request.method).expect("it"))
            .access(request.method, request.payload)
            == policy::region::Access::Read;
        let consent = request.consent;
        self.count("consent opens", consent && under(false, reads) != allowed);
        self.count("consent is missed", !consent && under(true, reads) != allowed);
        self.count("a read opens", reads && under(consent, false) != allowed);
        self.count("a write is kept at home", !reads && under(consent, true) != allowed);
        let payload = request.payload != Payload::Nothing && request.method == Method::Get && route.access.is_none();
        self.count("a read with a payload is kept at home", payload && under(consent, true) != allowed);
        let class = &self.book.spec.data_classes[route.data_class.0];
        let global = class.scope == policy::jurisdiction::Scope::Global;
        self.count("a global class under an unknown origin", global && request.countries.is_none());
        let restricted = allowed.len() < self.book.spec.regions.len();
        self.count(
            "an unknown origin is served under a law",
            request.countries.is_none() && restricted && !allowed.is_empty(),
        );
        let of = |request: &Request| naive::law(self.book, route, request).allowed();
        let undeclared = Request { declared: BTreeSet::new(), ..request.clone() };
        self.count("declared jurisdictions narrow", of(&undeclared) != allowed);
        let countries = request.countries.clone().unwrap_or_default();
        let alone: Vec<_> = countries
            .iter()
            .map(|code| of(&Request { countries: Some([code.clone()].into()), ..request.clone() }))
            .collect();
        self.count("several countries differ", alone.iter().any(|one| *one != alone[0]));
        self.count(
            "several countries allow less than each",
            alone.iter().all(|one| *one != allowed) && alone.len() > 1,
        );
        self.count("several words", self.book.spec.regions.len() > 64);
    }

    fn count_choice(&self, route: &policy::route::RouteSpec, request: &Request, law: &naive::Law, choice: &Choice) {
        use policy::region::AdminState;
        let eligible = choice.eligible();
        let opened = eligible.iter().filter(|name| law.is_opened(name)).count();
        self.count("own and opened regions", opened > 0 && opened < eligible.len());
        self.count("opened regions only", opened == eligible.len());
        self.count("safeguarded", eligible.iter().any(|name| law.is_safeguarded(name)));
        self.count("outside the failover scope", choice.scoped > 0);
        self.count("spills", choice.spills());
        self.count("weight or ramp moves off", choice.moves_off());
        self.count("shared by three or more", choice.sharing() > 2);
        self.count("kept by its address", route.affinity == policy::route::Affinity::ClientIp);
        self.count("held to one region", request.only.is_some());
        if let Some(pinned) = &request.pinned {
            self.count("pinned and first", eligible.contains(pinned));
            self.count("pinned and not eligible", !eligible.contains(pinned));
            let state = self.book.region(pinned).state;
            self.count("pinned to a draining region", eligible.contains(pinned) && state == AdminState::Draining);
        }
        let absent = |name: &&String| law.standings[*name] != Standing::Forbidden && !eligible.contains(*name);
        for name in law.standings.keys().filter(absent) {
            let seen = self.view(name);
            let up = seen.health != Health::Down && naive::at_rest(route, request, law, self.book.region(name));
            let region = self.book.region(name);
            let stale = route.max_replication_lag.is_some_and(|max| naive::is_stale(route, region, &seen, max));
            self.count("too stale", up && stale && seen.lag.is_some());
            self.count("of unknown age", up && stale && seen.lag.is_none());
            self.count("too far", up && !stale && route.failover == FailoverScope::Any);
        }
    }
}

fn reason(verdict: &Verdict) -> Option<Reason> {
    match verdict {
        Verdict::Forward(_) => None,
        Verdict::Refuse(refusal) => Some(refusal.reason),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "what is compared is made for it")]
fn same<T: PartialEq + std::fmt::Debug>(what: &str, engine: T, oracle: T) -> Result<(), String> {
    if engine == oracle { Ok(()) } else { Err(format!("{what}: the crate says {engine:?}, the oracle {oracle:?}")) }
}

/// An emergency refuses what it names, for its own reason, and decides nothing else: all else is as without it.
#[test]
fn emergencies_are_those_of_the_oracle() {
    let seen = Seldom::default();
    let count = |kind: &'static str, happened: bool| {
        *seen.borrow_mut().entry(kind).or_default() += u32::from(happened);
    };
    let tables = tables(500);
    worlds::check(tables, (table(), incident(), questions()), |(spec, incident, asked)| {
        let emergency = incident.of(&spec);
        let in_emergency = TableSpec { emergency: Some(emergency.clone()), ..spec.clone() };
        let peaceful = Table::new(spec.clone()).expect("a table");
        let table = Table::new(in_emergency.clone()).expect("a table in an emergency");
        let book = Book::new(&spec);
        for question in asked.iter().map(|asked| asked.of(&spec)) {
            let said = [None, Some(Criticality::Sheddable), Some(Criticality::Default), Some(Criticality::Critical)];
            let criticality = said[question.client_key as usize % said.len()];
            let facts = Facts { criticality, ..question.facts() };
            let request = Request::new(&spec, &facts);
            let [before, now] = [&peaceful, &table].map(|table| decide(table, &facts, &question.seen()));
            prop_assert_eq!(lawful(&peaceful, &facts), lawful(&table, &facts), "the law is none of its business");
            let routes = most_specific(&spec.routes, &request.host, &request.path, request.method);
            let route = routes.first();
            let expected = route.and_then(|route| {
                refused_in_emergency(&book, &emergency, route, &request, criticality, TODAY.unix_seconds())
            });
            let id = table.find_route(facts.host, facts.path, facts.method);
            let ordered = |table: &Table| id.map(|id| order(table, id, &facts, &question.seen())).unwrap_or_default();
            let Some(expected) = expected else {
                prop_assert_eq!(&before, &now, "{:?} is none of its business", question);
                prop_assert_eq!(ordered(&peaceful), ordered(&table));
                count("not refused", true);
                continue;
            };
            let Verdict::Refuse(refusal) = &now else {
                return Err(TestCaseError::fail(format!("{now:?}, not {expected}: {question:#?}")));
            };
            prop_assert_eq!((refusal.reason.name(), refusal.reason.status(), refusal.route), (expected, 503, id));
            prop_assert_eq!(&refusal.page, &emergency.page);
            prop_assert_eq!(ordered(&table), Vec::new());
            count(expected, true);
            count("refused, and served without", matches!(before, Verdict::Forward(_)));
            count("refused, of an unknown client", request.countries.is_none() && expected == "emergency_read_only");
            // An attempt after a reload into the emergency.
            let Verdict::Forward(permits) = &before else { continue };
            let current = CurrentTable { table: &table, view: &question.seen() };
            prop_assert_eq!(permits.next(&peaceful, &facts, &RegionSet::EMPTY, &current), None);
            let since = policy::attempt::switched_off_since(&peaceful, &facts, &table);
            prop_assert_eq!(since.map(|refusal| refusal.reason.name()), Some(expected));
            let revoked = policy::attempt::revoked(&peaceful, &facts, permits.first(), &current);
            prop_assert_eq!(revoked.is_some(), expected != "emergency_shed" || question.expired && revoked.is_some());
            // And one after the emergency, and one without any change.
            let over = CurrentTable { table: &peaceful, view: &question.seen() };
            prop_assert_eq!(policy::attempt::revoked(&table, &facts, permits.first(), &over), None);
        }
        // It may be none of the law's business, but it has an end.
        if let Some(until) = emergency.until {
            prop_assert!(until <= TODAY || !table.holds_at(until.into()));
            let after = table.at(until.into()).expect("the same table, later");
            prop_assert!(after.emergency().is_none());
            // While the clock is in doubt, it goes on as long as it may not be over.
            let seconds = incident.doubt;
            let (earliest, latest) = (until.plus_seconds(seconds[0]), until.plus_seconds(seconds[1]));
            let doubtful = table.at(LawTime::between(earliest, latest)).expect("the same table, in doubt");
            let now = earliest.min(latest).unix_seconds();
            prop_assert_eq!(doubtful.emergency().is_some(), now < until.unix_seconds());
            count("in force in doubt", doubtful.emergency().is_some() && earliest.max(latest) >= until);
            count("over in doubt", doubtful.emergency().is_none() && earliest != latest);
            // What depends on no list of countries, which may change by date as well.
            let emergency = EmergencySpec { read_only: None, ..emergency };
            let in_doubt = TableSpec { emergency: Some(emergency.clone()), ..doubtful.spec().clone() };
            let doubtful = Table::new(in_doubt).expect("a table in doubt");
            for question in asked.iter().map(|asked| asked.of(&spec)) {
                let facts = question.facts();
                let request = Request::new(&spec, &facts);
                let routes = most_specific(&spec.routes, &request.host, &request.path, request.method);
                let expected = routes.first().and_then(|route| {
                    refused_in_emergency(&book, &emergency, route, &request, question.criticality, now)
                });
                let found = policy::attempt::switched_off_since(&peaceful, &facts, &doubtful);
                prop_assert_eq!(found.map(|refusal| refusal.reason.name()), expected, "{:?}", question);
            }
        }
        Ok(())
    });
    let seen = seen.into_inner();
    println!("{seen:#?}");
    for kind in ["emergency_route_off", "emergency_read_only", "emergency_shed"] {
        assert!(seen[kind] >= 4 * tables / 10, "{kind}: {seen:#?}");
    }
    for kind in ["in force in doubt", "over in doubt"] {
        assert!(seen[kind] >= tables / 50, "{kind}: {seen:#?}");
    }
    for kind in ["not refused", "refused, and served without", "refused, of an unknown client"] {
        assert!(seen[kind] >= 3 * tables / 10, "{kind}: {seen:#?}");
    }
}

fn lawful(table: &Table, facts: &Facts<'_>) -> RegionSet {
    table.regions().map(|(id, _)| id).filter(|id| is_lawful(table, facts, *id)).collect()
}

#[test]
fn routes_are_those_of_a_scan_over_all() {
    let found = RefCell::new(BTreeSet::new());
    worlds::check(tables(500), table(), |spec: TableSpec| {
        let table = Table::new(spec.clone()).expect("a table");
        for host in ["api.example.com", "www.example.com", "y.x.api.example.com", "example.com", "com", "a.com", "test"]
        {
            for path in
                ["/", "/v3", "/v3/", "/v3/users", "/v3/users/7", "/v3/usersx", "/v3/health", "/v3/health/x", "/v33"]
            {
                for method in [Method::Get, Method::Post, Method::Delete, Method::Other] {
                    let id = table.find_route(host, path, method);
                    let indexed = id.map(|id| table.route(id).spec.name.as_str());
                    let scanned = most_specific(&spec.routes, host, path, method);
                    prop_assert!(scanned.len() < 2, "the generator makes no such tables");
                    let scanned = scanned.first().map(|route| route.name.as_str());
                    prop_assert_eq!(indexed, scanned, "{:?} {}{}", method, host, path);
                    found.borrow_mut().extend(scanned.map(str::to_owned));
                }
            }
        }
        Ok(())
    });
    assert!(found.into_inner().len() >= 5, "routes of every position win somewhere");
}
