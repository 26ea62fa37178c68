//! What holds of every decision, whatever the table: shown on random tables and requests.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use policy::decide::{is_lawful, order};
use policy::failover::FailoverScope;
use policy::jurisdiction::{ClassId, DataClass, JurisdictionId, Scope, Transfer};
use policy::route::{Criticality, RouteSpec};
use policy::table::{TableSpec, UnknownOrigin, UnlistedJurisdiction};
use policy::{
    Country, CurrentTable, Facts, Health, Method, Origin, Payload, Permits, Reason, RegionId, RegionSet, RegionView,
    Snapshot, Table, Verdict, Writes, decide,
};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestCaseError;

#[path = "properties/dates.rs"]
mod dates;
mod naive;
mod sample;
mod worlds;

use naive::{Book, Choice, Request, is_restricted, law, most_specific, near_and_fresh};
use worlds::{Question, asked, check, id, questions, table, tables, thousandths, transfer};

type Names = BTreeSet<String>;

fn built(spec: &TableSpec) -> Table {
    Table::new(spec.clone()).expect("a table")
}

/// The regions that the law allows.
fn lawful(table: &Table, facts: &Facts<'_>) -> RegionSet {
    table.regions().map(|(id, _)| id).filter(|id| is_lawful(table, facts, *id)).collect()
}

fn forwarded(table: &Table, question: &Question) -> Option<Permits> {
    match decide(table, &question.facts(), &question.seen()) {
        Verdict::Forward(permits) => Some(permits),
        Verdict::Refuse(_) => None,
    }
}

/// The order, or nothing when refused.
fn ordered(table: &Table, question: &Question) -> Vec<RegionId> {
    let route = table.find_route(question.host, question.path, question.method);
    route.map_or_else(Vec::new, |route| order(table, route, &question.facts(), &question.seen()))
}

fn named(table: &Table, ids: &[RegionId]) -> Vec<String> {
    ids.iter().map(|id| table.region(*id).name.clone()).collect()
}

/// Counts what a property was really put to: a property of nothing proves nothing.
#[derive(Default)]
struct Times(Cell<u32>);

impl Times {
    fn note(&self, happened: bool) {
        self.0.set(self.0.get() + u32::from(happened));
    }

    fn at_least(&self, floor: u32) {
        assert!(self.0.get() >= floor, "only {} times", self.0.get());
    }
}

/// The narrower scope's regions are some of the wider's; with nothing wrong all have the same first; and whatever
/// is down costs a scope that region and gives it none.
#[test]
fn a_failover_scope_narrows_and_no_failure_widens_it() {
    let (narrowed, refused, failed) = (Times::default(), Times::default(), Times::default());
    check(tables(100), (table(), questions()), |(spec, asked)| {
        let scoped = [FailoverScope::Any, FailoverScope::Jurisdiction, FailoverScope::Region].map(|failover| {
            let mut spec = spec.clone();
            spec.routes.iter_mut().for_each(|route| route.failover = failover);
            built(&spec)
        });
        let idle = RegionView { lag: Some(Duration::ZERO), ..RegionView::default() };
        for question in asked.iter().map(|asked| asked.of(&spec)) {
            let orders = scoped.each_ref().map(|table| ordered(table, &question));
            let [any, jurisdiction, region] =
                orders.each_ref().map(|order| order.iter().copied().collect::<RegionSet>());
            prop_assert!(region.is_subset(&jurisdiction) && jurisdiction.is_subset(&any));
            prop_assert!(region.len() < 2);
            narrowed.note(jurisdiction != any && jurisdiction != region);
            refused.note(region.is_empty() && !any.is_empty());
            let at_rest = Question { view: vec![idle; spec.regions.len()], excess_ms: Vec::new(), ..question.clone() };
            let [first, rest @ ..] = scoped.each_ref().map(|table| ordered(table, &at_rest).first().copied());
            prop_assert!(rest.into_iter().all(|other| other == first), "{:?} {:?}", first, rest);
            for (table, order) in scoped.iter().zip(&orders).skip(1) {
                let mut less = question.clone();
                for (id, _) in
                    table.regions().filter(|(id, _)| !jurisdiction.contains(*id) || Some(id) == order.first())
                {
                    less.view[id.index()].health = Health::Down;
                }
                let left: Vec<RegionId> =
                    order.iter().copied().filter(|id| less.view[id.index()].health != Health::Down).collect();
                prop_assert_eq!(ordered(table, &less), left);
                failed.note(!order.is_empty());
            }
        }
        Ok(())
    });
    narrowed.at_least(50);
    refused.at_least(50);
    failed.at_least(500);
}

#[test]
fn the_same_inputs_give_the_same_verdict() {
    check(tables(100), (table(), questions()), |(spec, asked)| {
        let (table, again) = (built(&spec), built(&spec));
        for question in asked.iter().map(|asked| asked.of(&spec)) {
            let verdict = decide(&table, &question.facts(), &question.seen());
            prop_assert_eq!(&verdict, &decide(&table, &question.facts(), &question.seen()));
            prop_assert_eq!(&verdict, &decide(&again, &question.facts(), &question.seen()));
            prop_assert_eq!(ordered(&table, &question), ordered(&again, &question));
        }
        Ok(())
    });
}

/// Attempts with `current` in force, in its ids, each failing in turn.
fn attempts(
    pinned: &Table,
    permits: &Permits,
    question: &Question,
    current: &Table,
    view: &Snapshot<'_>,
) -> Vec<RegionId> {
    let mut tried = RegionSet::EMPTY;
    let mut dialled = Vec::new();
    while let Some(permit) = permits.next(pinned, &question.facts(), &tried, &CurrentTable { table: current, view }) {
        let name = &current.region(permit.region()).name;
        let known = pinned.region_named(name).expect("a permit is for a region of both tables");
        assert!(!tried.contains(known), "{name} is given twice");
        tried.insert(known);
        dialled.push(permit.region());
    }
    dialled
}

/// The request as another table understands it; `None` when that table cannot keep what it asks.
fn translated(request: &Request, was: &RouteSpec, is: &RouteSpec, current: &TableSpec) -> Option<Request> {
    let has = |name: &String| current.regions.iter().any(|region| region.name == *name);
    let keeps = |name: &String| current.jurisdictions.iter().any(|jurisdiction| jurisdiction.name == *name);
    let possible = has(&request.from) && request.only.iter().all(has) && request.declared.iter().all(keeps);
    let same_consent = (&was.consent_header, &was.consent_claim) == (&is.consent_header, &is.consent_claim);
    possible.then(|| Request {
        consent: request.consent && same_consent,
        pinned: request.pinned.clone().filter(has),
        ..request.clone()
    })
}

#[test]
fn every_attempt_after_a_reload_satisfies_both_tables_and_none_is_missed() {
    let (given, withheld, refused) = (Times::default(), Times::default(), Times::default());
    check(tables(400), (table(), table(), questions(), asked()), |(old, new, asked, later)| {
        let (pinned, current) = (built(&old), built(&new));
        let (old_book, new_book) = (Book::new(&old), Book::new(&new));
        let later = later.of(&new);
        for question in asked.iter().map(|asked| asked.of(&old)) {
            let Some(permits) = forwarded(&pinned, &question) else { continue };
            let dialled = attempts(&pinned, &permits, &question, &current, &later.seen());

            let request = Request::new(&old, &question.facts());
            let was = most_specific(&old.routes, &request.host, &request.path, request.method)[0];
            let under_the_old = law(&old_book, was, &request);
            // Whatever its regions are like by now: its law, its route and how far that fails over.
            let (rtt_ms, lag, writes) = (Some(0.0), Some(Duration::ZERO), Writes::Granted);
            let fresh = RegionView { rtt_ms, lag, writes, ..RegionView::default() };
            let then = Choice::new(&old_book, was, &request, &under_the_old, &|_| fresh);
            if then.unclear {
                continue;
            }
            let allowed_then = then.eligible();
            let by_the_old = |name: &&String| allowed_then.contains(*name);
            let routes = most_specific(&new.routes, &request.host, &request.path, request.method);
            let now = routes.first().and_then(|is| Some((*is, translated(&request, was, is, &new)?)));
            // An expired table serves nobody whose data either table's law restricts.
            let cut_off = later.expired
                && (is_restricted(&old_book, was, &request)
                    || now.as_ref().is_some_and(|(is, request)| is_restricted(&new_book, is, request)));
            refused.note(cut_off);
            let expected: Names = match &now {
                None => Names::new(),
                Some(_) if cut_off => Names::new(),
                Some((is, request)) => {
                    let under_the_new = law(&new_book, is, request);
                    let seen = |name: &str| later.view[current.region_named(name).expect("its own").index()];
                    let choice = Choice::new(&new_book, is, request, &under_the_new, &seen);
                    if choice.unclear {
                        continue;
                    }
                    // The old route's limits, by what is known now.
                    let limits = |name: &&String| near_and_fresh(&new_book, was, request, name, &seen(name));
                    if choice.eligible().iter().any(|name| limits(&name).1) {
                        continue;
                    }
                    withheld.note(!choice.eligible().iter().all(|name| by_the_old(&name)));
                    choice.eligible().iter().filter(by_the_old).filter(|name| limits(name).0).cloned().collect()
                }
            };
            given.note(!dialled.is_empty());
            prop_assert_eq!(named(&current, &dialled).into_iter().collect::<Names>(), expected);
            for region in &dialled {
                let before = pinned.region_named(&current.region(*region).name).expect("in both");
                prop_assert!(is_lawful(&pinned, &question.facts(), before));
            }
        }
        Ok(())
    });
    given.at_least(500);
    withheld.at_least(500);
    refused.at_least(20);
}

#[test]
fn an_expired_table_refuses_what_the_law_restricts_and_changes_nothing_else() {
    let (refused, free) = (Times::default(), Times::default());
    check(tables(150), (table(), questions()), |(spec, asked)| {
        let table = built(&spec);
        for question in asked.iter().map(|asked| asked.of(&spec)) {
            let [fresh, expired] = [false, true].map(|expired| Question { expired, ..question.clone() });
            let Some(id) = table.find_route(question.host, question.path, question.method) else { continue };
            let [before, after] = [&fresh, &expired].map(|one| decide(&table, &one.facts(), &one.seen()));
            if !table.route(id).is_restricted() {
                prop_assert_eq!(lawful(&table, &question.facts()).len(), spec.regions.len());
                prop_assert_eq!(&before, &after);
                prop_assert_eq!(ordered(&table, &fresh), ordered(&table, &expired));
                free.note(matches!(after, Verdict::Forward(_)));
                continue;
            }
            let reason = match after {
                Verdict::Forward(permits) => return Err(TestCaseError::fail(format!("{permits:?}"))),
                Verdict::Refuse(refusal) => refusal.reason,
            };
            prop_assert_eq!(reason, Reason::TableExpired);
            prop_assert_eq!(ordered(&table, &expired), Vec::new());
            // The table expires between the decision and an attempt.
            let Verdict::Forward(permits) = before else { continue };
            for tried in [RegionSet::EMPTY, [permits.first()].into_iter().collect()] {
                let seen = CurrentTable { table: &table, view: &expired.seen() };
                prop_assert_eq!(permits.next(&table, &question.facts(), &tried, &seen), None);
            }
            refused.note(true);
        }
        Ok(())
    });
    refused.at_least(500);
    free.at_least(300);
}

/// A change to a table or a request that asks for more.
#[derive(Clone, Debug)]
enum Restriction {
    /// One more rule, where the class has one already or crosses borders freely.
    Rule(Box<policy::jurisdiction::Rule>),
    /// A rule's transfer.
    Transfer(usize, Transfer),
    /// A class's border.
    Border(usize, Transfer),
    /// One more jurisdiction, by the request or by the route.
    Declared(usize),
    OfTheRoute(usize),
    /// One more country in which the client may be.
    Country(&'static str),
    Unknown,
    NoConsent,
    Write,
    UnlistedRefused,
    UnknownRefused,
    SuperRegion(usize),
}

fn restriction() -> impl Strategy<Value = Restriction> {
    prop_oneof![
        worlds::rule().prop_map(|rule| Restriction::Rule(Box::new(rule))),
        (0..8_usize, transfer()).prop_map(|(rule, transfer)| Restriction::Transfer(rule, transfer)),
        (0..8_usize, transfer()).prop_map(|(class, transfer)| Restriction::Border(class, transfer)),
        (0..8_usize).prop_map(Restriction::Declared),
        (0..8_usize).prop_map(Restriction::OfTheRoute),
        select(worlds::CLIENTS).prop_map(Restriction::Country),
        Just(Restriction::Unknown),
        Just(Restriction::NoConsent),
        Just(Restriction::Write),
        Just(Restriction::UnlistedRefused),
        Just(Restriction::UnknownRefused),
        (0..8_usize).prop_map(Restriction::SuperRegion),
    ]
}

impl Restriction {
    /// Whether it is one for this table and request; if so they are restricted.
    fn apply(self, spec: &mut TableSpec, question: &mut Question) -> bool {
        let (known, classes) = (spec.jurisdictions.len(), spec.data_classes.len());
        match self {
            Restriction::Rule(_) | Restriction::Declared(_) | Restriction::OfTheRoute(_) if known == 0 => return false,
            Restriction::Rule(rule) => {
                // Of a regulation of its own it takes no other's place.
                worlds::add_rule(spec, policy::jurisdiction::Rule { regulation: "one more".into(), ..*rule });
                let (rule, others) = spec.rules.split_last().expect("the one added");
                let says_where = |rule: &policy::jurisdiction::Rule| {
                    rule.allow.is_some() && rule.period.from.is_none_or(|from| from <= spec.at.earliest())
                };
                let holds = |class: &ClassId| {
                    let same = |other: &policy::jurisdiction::Rule| {
                        other.jurisdiction == rule.jurisdiction
                            && other.data_classes.contains(class)
                            && says_where(other)
                    };
                    spec.data_classes[class.0].cross_border == Transfer::Allowed
                        || !says_where(rule)
                        || others.iter().any(same)
                };
                return rule.data_classes.iter().all(holds);
            }
            Restriction::Transfer(at, transfer) => {
                let Some(rule) = spec.rules.get_mut(at) else { return false };
                let stricter = is_stricter(transfer, rule.transfer);
                rule.transfer = transfer;
                return stricter;
            }
            Restriction::Border(at, transfer) => {
                let class = &mut spec.data_classes[at % classes];
                let stricter = is_stricter(transfer, class.cross_border);
                class.cross_border = transfer;
                return stricter;
            }
            Restriction::Declared(at) => question.declared.push(JurisdictionId(at % known)),
            Restriction::OfTheRoute(at) => {
                spec.routes.iter_mut().for_each(|route| route.jurisdictions.push(JurisdictionId(at % known)));
            }
            Restriction::Country(code) => {
                let mut countries = question.origin.countries();
                if countries.is_empty() {
                    return false;
                }
                countries.insert(worlds::country(code));
                question.origin = Origin::of(countries);
            }
            Restriction::Unknown => {
                question.origin = Origin::Unknown;
                // One who hides is treated like the clients of those jurisdictions, which may be less strict.
                return !matches!(spec.unknown_origin, UnknownOrigin::Like(_));
            }
            Restriction::NoConsent => question.consent = false,
            Restriction::Write => {
                spec.routes.iter_mut().for_each(|route| route.access = Some(policy::region::Access::Write));
            }
            Restriction::UnlistedRefused => spec.unlisted_jurisdiction = UnlistedJurisdiction::Refuse,
            Restriction::UnknownRefused => spec.unknown_origin = UnknownOrigin::Refuse,
            Restriction::SuperRegion(at) => {
                let class = &mut spec.data_classes[at % classes];
                if class.scope != Scope::Jurisdiction {
                    return false;
                }
                *class = DataClass { scope: Scope::SuperRegion, ..class.clone() };
            }
        }
        true
    }
}

/// Whether a transfer implies another: whatever opens under the first opens under the second.
fn is_stricter(one: Transfer, other: Transfer) -> bool {
    one == other || one == Transfer::Prohibited || matches!(other, Transfer::Allowed | Transfer::WithSafeguards)
}

#[test]
fn a_restriction_never_widens_what_is_allowed() {
    let narrowed = Times::default();
    check(tables(150), (table(), questions(), proptest::collection::vec(restriction(), worlds::QUESTIONS)), |input| {
        let (spec, asked, restrictions) = input;
        let table = built(&spec);
        for (question, restriction) in asked.iter().map(|asked| asked.of(&spec)).zip(restrictions) {
            let (mut stricter, mut asking) = (spec.clone(), question.clone());
            if !restriction.clone().apply(&mut stricter, &mut asking) {
                continue;
            }
            let before = lawful(&table, &question.facts());
            let after = lawful(&built(&stricter), &asking.facts());
            prop_assert!(after.is_subset(&before), "{restriction:?} {question:?}: {before:?} became {after:?}");
            narrowed.note(after != before);
        }
        Ok(())
    });
    narrowed.at_least(200);
}

#[test]
fn what_an_unknown_client_may_reach_every_client_may() {
    let served = Times::default();
    check(tables(200), (table(), questions()), |(spec, asked)| {
        let table = built(&spec);
        let said = table.spec();
        let jurisdictions = || said.jurisdictions.iter().map(|one| one.countries.so_far());
        let sets = || jurisdictions().chain(said.super_regions.iter().map(|around| &around.countries));
        // One country of each that belong to the same: the law knows no more of them.
        let belongs = |country| sets().map(|set| set.contains(country)).collect::<Vec<bool>>();
        let representatives: BTreeMap<_, _> = Country::all().map(|country| (belongs(country), country)).collect();
        for question in asked.iter().map(|asked| asked.of(&spec)) {
            let of = |origin| lawful(&table, &Facts { origin, ..question.facts() });
            let unknown = of(Origin::Unknown);
            served.note(!unknown.is_empty());
            let stands_for = |country: &Country| match &spec.unknown_origin {
                UnknownOrigin::Strictest | UnknownOrigin::Refuse => true,
                // For clients of these jurisdictions and of no other.
                UnknownOrigin::Like(like) => {
                    let of_it = table.residency().jurisdictions(*country);
                    !of_it.is_empty() && of_it.iter().all(|id| like.contains(id))
                }
            };
            for country in representatives.values().filter(|country| stands_for(country)) {
                prop_assert!(unknown.is_subset(&of(Origin::Country(*country))), "{country}: {question:?}");
            }
        }
        Ok(())
    });
    served.at_least(500);
}

#[test]
fn several_countries_may_reach_what_each_may() {
    check(tables(200), (table(), questions()), |(spec, asked)| {
        let table = built(&spec);
        for question in asked.iter().map(|asked| asked.of(&spec)) {
            let of = |origin| lawful(&table, &Facts { origin, ..question.facts() });
            let each =
                question.origin.countries().iter().map(|country| of(Origin::Country(country))).collect::<Vec<_>>();
            if let Some(all) = each.into_iter().reduce(|all, one| all.and(&one)) {
                prop_assert_eq!(of(question.origin), all);
            }
        }
        Ok(())
    });
}

/// Taking down a region in the middle may reorder others, when it was the best of its level and so
/// drew the line of the tie margin; the first and the last never do.
#[test]
fn a_region_that_fails_leaves_the_rest_as_told() {
    let of_three = Times::default();
    check(tables(300), (table(), questions(), 0..70_usize), |(spec, asked, which)| {
        let table = built(&spec);
        for question in asked.iter().map(|asked| asked.of(&spec)) {
            let before = ordered(&table, &question);
            let Some((first, rest)) = before.split_first() else { continue };
            let without = |region: RegionId| {
                let mut question = question.clone();
                question.view[region.index()].health = Health::Down;
                (ordered(&table, &question), lawful(&table, &question.facts()))
            };
            prop_assert_eq!(&without(*first).0, rest, "what comes next");
            let (last, rest) = before.split_last().expect("the first, if no other");
            prop_assert_eq!(&without(*last).0, rest, "what came before");

            let any = before[which % before.len()];
            let (after, allowed) = without(any);
            let others: RegionSet = before.iter().copied().filter(|region| *region != any).collect();
            prop_assert_eq!(after.into_iter().collect::<RegionSet>(), others);
            prop_assert_eq!(allowed, lawful(&table, &question.facts()), "the law does not look at health");
            of_three.note(before.len() > 2);
        }
        Ok(())
    });
    of_three.at_least(500);
}

#[test]
fn only_a_pin_puts_an_opened_region_before_one_of_the_laws_own() {
    let mixed = Times::default();
    check(tables(400), (table(), questions()), |(spec, asked)| {
        let (book, table) = (Book::new(&spec), built(&spec));
        for question in asked.iter().map(|asked| asked.of(&spec)) {
            let request = Request::new(&spec, &question.facts());
            let routes = most_specific(&spec.routes, &request.host, &request.path, request.method);
            let Some(route) = routes.first() else { continue };
            let law = law(&book, route, &request);
            let mut order = ordered(&table, &question);
            order.retain(|region| question.pinned != Some(*region));
            let opened: Vec<bool> = order.iter().map(|region| law.is_opened(book.name(*region))).collect();
            prop_assert!(opened.is_sorted(), "{opened:?}");
            mixed.note(opened.first() != opened.last());
        }
        Ok(())
    });
    mixed.at_least(100);
}

#[test]
fn the_order_in_the_file_has_no_say() {
    let served = Times::default();
    let shuffles = proptest::collection::vec(any::<u32>(), 100);
    check(tables(300), (table(), questions(), shuffles), |(spec, asked, shuffle)| {
        let shuffled = Shuffled::new(&spec, &shuffle);
        let (table, other) = (built(&spec), built(&shuffled.spec));
        for question in asked.iter().map(|asked| asked.of(&spec)) {
            let elsewhere = shuffled.question(&question);
            let told = named(&table, &ordered(&table, &question));
            prop_assert_eq!(&told, &named(&other, &ordered(&other, &elsewhere)));
            let allowed = |table: &Table, question: &Question| -> Names {
                lawful(table, &question.facts()).iter().map(|id| table.region(id).name.clone()).collect()
            };
            prop_assert_eq!(allowed(&table, &question), allowed(&other, &elsewhere));
            let reason = |table: &Table, question: &Question| match decide(table, &question.facts(), &question.seen()) {
                Verdict::Forward(_) => None,
                Verdict::Refuse(refusal) => Some((refusal.reason, refusal.page.is_some())),
            };
            prop_assert_eq!(reason(&table, &question), reason(&other, &elsewhere));
            served.note(told.len() > 1);
        }
        Ok(())
    });
    served.at_least(1000);
}

/// A table with everything in another order, and where everything went.
struct Shuffled {
    spec: TableSpec,
    regions: Vec<usize>,
    jurisdictions: Vec<usize>,
}

impl Shuffled {
    fn new(was: &TableSpec, keys: &[u32]) -> Self {
        let regions = places(was.regions.len(), keys);
        let jurisdictions = places(was.jurisdictions.len(), keys);
        let classes = places(was.data_classes.len(), keys);
        let scorings = places(was.scorings.len(), keys);
        let mut spec = was.clone();
        spec.regions = rearranged(&was.regions, &regions);
        spec.jurisdictions = rearranged(&was.jurisdictions, &jurisdictions);
        spec.super_regions = rearranged(&was.super_regions, &places(was.super_regions.len(), keys));
        spec.data_classes = rearranged(&was.data_classes, &classes);
        spec.scorings = rearranged(&was.scorings, &scorings);
        spec.rules = rearranged(&was.rules, &places(was.rules.len(), keys));
        spec.routes = rearranged(&was.routes, &places(was.routes.len(), keys));
        spec.latency_ms.iter_mut().for_each(|(from, to, _)| {
            (*from, *to) = (id(regions[from.index()]), id(regions[to.index()]));
        });
        let moved = |known: &JurisdictionId| JurisdictionId(jurisdictions[known.0]);
        if let UnknownOrigin::Like(like) = &mut spec.unknown_origin {
            like.iter_mut().for_each(|known| *known = moved(known));
        }
        for rule in &mut spec.rules {
            rule.jurisdiction = moved(&rule.jurisdiction);
            rule.data_classes.iter_mut().for_each(|class| class.0 = classes[class.0]);
            if let Some(deny) = &mut rule.deny {
                if let Some(set) = &mut deny.regions {
                    *set = set.iter().map(|region| id(regions[region.index()])).collect();
                }
                deny.jurisdictions.iter_mut().flatten().for_each(|known| *known = moved(known));
            }
            for selector in rule.allow.iter_mut().flatten() {
                if let Some(set) = &mut selector.regions {
                    *set = set.iter().map(|region| id(regions[region.index()])).collect();
                }
                selector.jurisdictions.iter_mut().flatten().for_each(|known| *known = moved(known));
            }
        }
        for route in &mut spec.routes {
            route.data_class.0 = classes[route.data_class.0];
            route.scoring = scorings[route.scoring];
            route.jurisdictions.iter_mut().for_each(|known| *known = moved(known));
        }
        Self { spec, regions, jurisdictions }
    }

    fn question(&self, was: &Question) -> Question {
        let moved = |region: RegionId| id(self.regions[region.index()]);
        // Of regions past its end there is none.
        let mut excess_ms = was.excess_ms.clone();
        excess_ms.resize(self.regions.len(), 0.0);
        Question {
            declared: was.declared.iter().map(|known| JurisdictionId(self.jurisdictions[known.0])).collect(),
            from: moved(was.from),
            pinned: was.pinned.map(moved),
            only: was.only.map(moved),
            view: rearranged(&was.view, &self.regions),
            excess_ms: rearranged(&excess_ms, &self.regions),
            ..was.clone()
        }
    }
}

/// Where each position goes: their ranks by the keys.
fn places(count: usize, keys: &[u32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by_key(|at| keys[*at]);
    let mut places = vec![0; count];
    order.into_iter().enumerate().for_each(|(place, at)| places[at] = place);
    places
}

fn rearranged<T: Clone>(items: &[T], places: &[usize]) -> Vec<T> {
    let mut moved: Vec<(usize, T)> = places.iter().copied().zip(items.iter().cloned()).collect();
    moved.sort_by_key(|(place, _)| *place);
    moved.into_iter().map(|(_, item)| item).collect()
}

/// Whether the nearer of two regions is first for a client, under that pressure or that weight.
fn stays(criticality: usize, pressure: f32, weight: u8, client_key: u64) -> bool {
    stays_as(criticality, None, pressure, weight, client_key)
}

/// The same where a trusted source says how critical the request is.
fn stays_as(criticality: usize, said: Option<Criticality>, pressure: f32, weight: u8, client_key: u64) -> bool {
    let mut spec = sample::spec(vec![sample::region("a", "US"), sample::region("b", "US")]);
    spec.regions[0].weight = weight;
    let all =
        [("sheddable", Criticality::Sheddable), ("default", Criticality::Default), ("critical", Criticality::Critical)];
    spec.routes = all.map(|(name, criticality)| RouteSpec { criticality, ..sample::route(name, name, 0) }).into();
    spec.routes.iter_mut().for_each(|route| route.path = policy::route::PathPattern::Exact(format!("/{}", route.name)));
    let table = built(&spec);
    let near = RegionView { rtt_ms: Some(10.0), ..RegionView::default() };
    let far = RegionView { rtt_ms: Some(200.0), ..near };
    let path = format!("/{}", all[criticality].0);
    let facts = Facts {
        host: "api.example.com",
        path: &path,
        method: Method::Get,
        payload: Payload::Nothing,
        origin: Origin::Unknown,
        declared: &[],
        consent: false,
        client_at: None,
        client_key,
        from: id(0),
        pinned: None,
        only: None,
        criticality: said,
    };
    match decide(&table, &facts, [RegionView { pressure, ..near }, far].as_slice()) {
        Verdict::Forward(permits) => permits.first() == id(0),
        Verdict::Refuse(refusal) => panic!("{refusal:?}"),
    }
}

#[test]
fn who_is_spilled_or_moved_off_stays_so_when_more_are() {
    let (spilled, moved) = (Times::default(), Times::default());
    let inputs = (any::<u64>(), thousandths(800..1050), thousandths(0..200), 0..=100_u8, 0..=100_u8);
    check(500, inputs, |(key, pressure, more, weight, other)| {
        let [sheddable, default, critical] = [0, 1, 2].map(|each| stays(each, pressure, 100, key));
        prop_assert!(critical >= default && default >= sheddable, "the least important goes first");
        let said = |criticality, said| stays_as(criticality, Some(said), pressure, 100, key);
        prop_assert_eq!(said(2, Criticality::Sheddable), sheddable, "what is said lowers");
        prop_assert_eq!(said(0, Criticality::Critical), sheddable, "and never raises");
        for criticality in 0..3 {
            prop_assert!(stays(criticality, pressure, 100, key) >= stays(criticality, pressure + more, 100, key));
        }
        let (low, high) = (weight.min(other), weight.max(other));
        prop_assert!(stays(1, 0.0, high, key) >= stays(1, 0.0, low, key), "a ramp never bounces a client");
        spilled.note(critical && !sheddable);
        moved.note(stays(1, 0.0, high, key) && !stays(1, 0.0, low, key));
        Ok(())
    });
    spilled.at_least(50);
    moved.at_least(50);
}
