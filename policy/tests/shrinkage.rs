//! What a new table takes away from the fleet and from each jurisdiction.

use std::cell::Cell;
use std::collections::BTreeMap;

use policy::jurisdiction::{DataClass, Scope, SuperRegion, Transfer};
use policy::region::{AdminState, Capabilities, Region, Standby};
use policy::shrinkage::{Shrinkage, shrinkage};
use policy::table::TableSpec;
use policy::{Country, Method, Payload, Table};
use proptest::prelude::*;

mod naive;
mod sample;
mod worlds;

use naive::{Book, Request, Standing, law_in_every_condition};
use sample::{class, countries, jurisdiction, rule};

/// Four regions in the Union with 2000 requests per second each, two elsewhere with 5000; personal data and
/// PII of the Union stay there, of Brazil they may leave.
fn world() -> TableSpec {
    let region = |name: &str, country: &str, rps| Region { capacity_rps: Some(rps), ..sample::region(name, country) };
    let mut spec = sample::spec(vec![
        region("de", "DE", 2000.0),
        region("fr", "FR", 2000.0),
        region("ie", "IE", 2000.0),
        region("nl", "NL", 2000.0),
        region("us", "US", 5000.0),
        region("br", "BR", 5000.0),
    ]);
    spec.jurisdictions = vec![jurisdiction("eu", &["@EU"]), jurisdiction("br", &["BR"])];
    spec.data_classes.push(class("personal", Transfer::Allowed));
    spec.data_classes.push(class("pii", Transfer::Allowed));
    let of_the_union = |class| rule(0, class, &["@EU"], Transfer::WithConsent);
    spec.rules = vec![of_the_union(1), of_the_union(2), rule(1, 1, &["BR"], Transfer::Allowed)];
    spec
}

fn told(old: TableSpec, new: TableSpec) -> Vec<String> {
    let table = |spec| Table::new(spec).expect("a table");
    shrinkage(&table(old), &table(new)).iter().map(Shrinkage::to_string).collect()
}

#[test]
fn what_is_taken_away() {
    type Change = fn(&mut TableSpec);
    let cases: &[(&str, Change, &[&str])] = &[
        ("nothing", |_| {}, &[]),
        ("more everywhere", |new| new.regions[0].capacity_rps = Some(9000.0), &[]),
        (
            "a region drains",
            |new| new.regions[0].state = AdminState::Draining,
            &["fleet: 18000 to 16000 rps, 11 % less", "jurisdiction eu (personal, pii): 8000 to 6000 rps, 25 % less"],
        ),
        (
            "all of the Union's regions but one",
            |new| drop(new.regions.drain(1..4)),
            &["fleet: 18000 to 12000 rps, 33 % less", "jurisdiction eu (personal, pii): 8000 to 2000 rps, 75 % less"],
        ),
        (
            "no clients for one, and no reads of another",
            |new| {
                new.regions[0].weight = 0;
                new.regions[1].capabilities = Capabilities { read: false, write: true };
            },
            &["fleet: 18000 to 14000 rps, 22 % less", "jurisdiction eu (personal, pii): 8000 to 4000 rps, 50 % less"],
        ),
        ("fewer clients of one", |new| new.regions[0].weight = 1, &[]),
        (
            "half the capacity of a region that no law keeps",
            |new| new.regions[4].capacity_rps = Some(2500.0),
            &["fleet: 18000 to 15500 rps, 14 % less"],
        ),
        (
            "the law keeps one class to less, and what it opens does not count",
            |new| new.rules[1] = rule(0, 2, &["DE", "FR"], Transfer::Allowed),
            &["jurisdiction eu (pii): 8000 to 4000 rps, 50 % less"],
        ),
        (
            "both classes lose, one more",
            |new| {
                new.rules[0] = rule(0, 1, &["DE", "FR"], Transfer::Prohibited);
                new.rules[1] = rule(0, 2, &["DE"], Transfer::Prohibited);
            },
            &["jurisdiction eu (pii): 8000 to 2000 rps, 75 % less"],
        ),
        (
            "nothing is left to Brazil",
            |new| {
                new.regions[5].state = AdminState::Disabled;
                new.regions[4].capacity_rps = Some(10_000.0);
            },
            &["jurisdiction br (personal): 5000 to 0 rps, 100 % less"],
        ),
        ("one class has no law any more", |new| drop(new.rules.remove(0)), &[]),
        ("the jurisdiction has another name", |new| new.jurisdictions[0].name = "union".into(), &[]),
        ("the class has another name", |new| new.data_classes[2].name = "secret".into(), &[]),
        (
            "a second law of some of its countries",
            |new| {
                new.jurisdictions.push(jurisdiction("benelux", &["BE", "NL", "LU"]));
                new.rules.push(rule(2, 1, &["NL"], Transfer::Prohibited));
            },
            &["jurisdiction eu (personal): 8000 to 2000 rps, 75 % less"],
        ),
        (
            "countries of a stricter law join",
            |new| {
                new.jurisdictions.push(jurisdiction("jp", &["JP"]));
                new.rules.push(rule(2, 1, &["US"], Transfer::Prohibited));
                new.jurisdictions[0].countries = countries(&["@EU", "JP"]).into();
            },
            &[],
        ),
        (
            "a region whose capacity is not known",
            |new| {
                new.regions[0].capacity_rps = None;
                new.regions.truncate(2);
            },
            &[
                "fleet: 6 to 2 regions, 67 % less",
                "jurisdiction eu (personal, pii): 4 to 2 regions, 50 % less",
                "jurisdiction br (personal): 1 to 0 regions, 100 % less",
            ],
        ),
    ];
    for (what, change, expected) in cases {
        let mut new = world();
        change(&mut new);
        assert_eq!(told(world(), new), *expected, "{what}");
    }
}

#[test]
fn what_kind_of_law_restricts_a_class() {
    type Change = fn(&mut TableSpec);
    let cases: &[(&str, Change, &[&str])] = &[
        ("no rule", |_| {}, &[]),
        (
            "the class's border",
            |spec| spec.data_classes[1].cross_border = Transfer::Prohibited,
            &["jurisdiction eu (personal): 8000 to 6000 rps, 25 % less"],
        ),
        (
            "a super-region",
            |spec| {
                spec.super_regions = vec![SuperRegion { name: "emea".into(), countries: countries(&["@EMEA"]) }];
                spec.data_classes[1].scope = Scope::SuperRegion;
            },
            // Brazil is in none, and has had nothing before.
            &["jurisdiction eu (personal): 8000 to 6000 rps, 25 % less"],
        ),
        (
            "a global class, whatever its rules",
            |spec| {
                spec.rules = vec![rule(0, 1, &["@EU"], Transfer::Prohibited)];
                spec.data_classes[1] = DataClass { scope: Scope::Global, ..spec.data_classes[1].clone() };
            },
            &[],
        ),
        (
            "a jurisdiction that only tenants have",
            |spec| {
                spec.jurisdictions[0].countries = countries(&[]).into();
                spec.rules = vec![rule(0, 1, &["@EU"], Transfer::Prohibited)];
            },
            &["jurisdiction eu (personal): 8000 to 6000 rps, 25 % less"],
        ),
    ];
    for (what, change, expected) in cases {
        let mut old = world();
        old.rules.clear();
        change(&mut old);
        let mut new = old.clone();
        new.regions[0].state = AdminState::Disabled;
        let fleet = "fleet: 18000 to 16000 rps, 11 % less";
        assert_eq!(told(old, new), [&[fleet], *expected].concat(), "{what}");
    }
}

#[test]
fn a_shrinkage_has_a_name_and_a_share() {
    let mut new = world();
    new.regions[0].state = AdminState::Disabled;
    let found = shrinkage(&Table::new(world()).expect("a table"), &Table::new(new).expect("a table"));
    let known: Vec<_> = found.iter().map(|one| (one.name(), (one.lost() * 1000.0).round())).collect();
    assert_eq!(known, [("fleet", 111.0), ("eu", 250.0)]);
    let json = serde_json::to_value(&found[1]).expect("JSON");
    assert_eq!(json["scope"]["jurisdiction"]["classes"], serde_json::json!(["personal", "pii"]));
}

/// The capacity of the law's own regions, by the naive law, for a client of a country or, with none,
/// for a tenant of a jurisdiction whose client is where no law holds.
fn capacity(book: &Book<'_>, class: &str, client: Client<'_>, rps: bool) -> f64 {
    let spec = book.spec;
    let class = spec.data_classes.iter().position(|known| known.name == class).expect("a class");
    let route = policy::route::RouteSpec { ..sample::route("any", "/", class) };
    let (countries, declared) = match client {
        Client::Country(country) => ([country.code().to_owned()].into(), Default::default()),
        Client::Tenant(jurisdiction) => (Default::default(), [jurisdiction.to_owned()].into()),
    };
    let request = Request {
        host: "any".into(),
        path: "/".into(),
        method: Method::Get,
        payload: Payload::Nothing,
        countries: Some(countries),
        declared,
        consent: false,
        client_at: None,
        criticality: None,
        client_key: 0,
        from: String::new(),
        pinned: None,
        only: None,
    };
    let law = law_in_every_condition(book, &route, &request, false, true);
    let own = spec.regions.iter().filter(|region| law.standings[&region.name] == Standing::Own);
    let taking =
        own.filter(|region| region.state == AdminState::Serving && region.weight > 0 && region.capabilities.read);
    taking.map(|region| if rps { region.capacity_rps.expect("a number") } else { 1.0 }).sum()
}

#[derive(Clone, Copy)]
enum Client<'a> {
    Country(Country),
    Tenant(&'a str),
}

/// What the naive law says that each jurisdiction loses, at most, of a class; nothing where it loses
/// nothing.
fn losses(old: &Book<'_>, new: &Book<'_>, rps: bool) -> BTreeMap<String, f64> {
    let mut losses = BTreeMap::new();
    for (name, then) in &old.protected {
        let Some(now) = new.protected.get(name) else { continue };
        for class in &old.spec.data_classes {
            let begun = |rule: &naive::Rule| rule.from.is_none_or(|from| from <= old.now());
            let of_it = |rule: &&naive::Rule| rule.jurisdiction == *name && rule.data_classes.contains(&class.name);
            let ruled = || old.rules.iter().filter(of_it).any(begun);
            let own = class.cross_border != Transfer::Allowed || ruled();
            let kept = new.spec.data_classes.iter().any(|other| other.name == class.name);
            if class.scope == Scope::Global || !own && class.scope != Scope::SuperRegion || !kept {
                continue;
            }
            let shared = then.intersection(now).map(|code| Client::Country(worlds::country(code)));
            for client in shared.chain(own.then_some(Client::Tenant(name))) {
                let (before, after) =
                    (capacity(old, &class.name, client, rps), capacity(new, &class.name, client, rps));
                if after < before {
                    let lost: &mut f64 = losses.entry(name.clone()).or_default();
                    *lost = lost.max(1.0 - after / before);
                }
            }
        }
    }
    losses
}

#[test]
fn what_jurisdictions_lose_is_what_the_naive_law_takes() {
    let (lost, by_rps) = (Cell::new(0), Cell::new(0));
    let choices = (any::<bool>(), any::<bool>());
    let inputs = (worlds::table(), worlds::table(), choices);
    worlds::check(worlds::tables(200), inputs, |(mut old, mut new, (rps, same_law))| {
        if same_law {
            new = with_the_regions_of(&new, &old);
        }
        for region in old.regions.iter_mut().chain(&mut new.regions) {
            region.capacity_rps = if rps { region.capacity_rps.or(Some(700.0)) } else { None };
        }
        let [was, is] = [&old, &new].map(|spec| Table::new(spec.clone()).expect("a table"));
        let found = shrinkage(&was, &is);
        let of_jurisdictions = found.iter().filter(|one| one.name() != "fleet");
        let told: BTreeMap<String, f64> = of_jurisdictions.map(|one| (one.name().to_owned(), one.lost())).collect();
        let expected = losses(&Book::new(&old), &Book::new(&new), rps);
        prop_assert_eq!(told.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        prop_assert!(told.iter().all(|(name, lost)| (lost - expected[name]).abs() < 1e-9), "{told:?} {expected:?}");
        lost.set(lost.get() + told.len());
        by_rps.set(by_rps.get() + if rps { told.len() } else { 0 });
        prop_assert_eq!(shrinkage(&was, &was), []);
        Ok(())
    });
    assert!(lost.get() >= 60 && by_rps.get() >= 20, "{lost:?} {by_rps:?}");
}

/// A table whose regions are what another's are, under their own names and in their own countries.
fn with_the_regions_of(other: &TableSpec, table: &TableSpec) -> TableSpec {
    let mut spec = table.clone();
    for (region, other) in spec.regions.iter_mut().zip(other.regions.iter().cycle()) {
        let (name, country) = (region.name.clone(), region.country);
        let standby = other.standby.clone().map(|standby| Standby { of: Vec::new(), writes: None, ..standby });
        *region = Region { name, country, standby, ..other.clone() };
    }
    // Some region must have clients.
    spec.regions[0].weight = 100;
    spec
}

/// 64 regions, each country a jurisdiction of its own, 256 rules.
#[test]
fn the_largest_table_is_compared() {
    let old = sample::largest(true);
    let mut new = old.clone();
    new.regions.iter_mut().step_by(2).for_each(|region| region.state = AdminState::Disabled);
    let found = shrinkage(&Table::new(old).expect("a table"), &Table::new(new).expect("a table"));
    assert!(found.len() > 200, "{}", found.len());
}
