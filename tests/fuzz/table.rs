//! A routing table is taken whole, or refused with reasons; what is taken decides lawfully. The input is
//! its text.

use std::path::Path;

use config::RoutingTable;
use policy::decide::{is_lawful, order};
use policy::proof::prove;
use policy::region::AdminState;
use policy::route::{HostPattern, PathPattern, RouteSpec};
use policy::{
    CountrySet, CurrentTable, Facts, Health, Method, Moment, Origin, Payload, RegionId, RegionSet, RegionView, Table,
    Verdict, decide, explain,
};

use crate::problems::{check_refusal, check_warnings};

pub(crate) fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    // Beside the examples, so that their maintenance page is found.
    let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/examples/fuzzed.toml"));
    let (first, second) =
        (RoutingTable::from_text(file, &text, today()), RoutingTable::from_text(file, &text, today()));
    match (first, second) {
        (Ok(first), Ok(second)) => {
            check_warnings(file, &text, &first.warnings);
            check_table(&first, &text);
            check_same(&first, &second);
            check_decisions(&first.table);
        }
        (Err(first), Err(second)) => {
            check_refusal(file, &text, &first);
            assert_eq!(first, second, "another reading, other problems");
        }
        (first, second) => panic!("another reading, another result: {first:?} {second:?}"),
    }
}

/// When the laws are read.
fn today() -> Moment {
    Moment::from_unix_seconds(1_796_000_000)
}

fn check_table(read: &RoutingTable, text: &str) {
    assert_eq!(&*read.text, text);
    assert_eq!(read.upstreams.len(), read.table.regions().count());
    assert!(!read.proof.has_errors() && !prove(&read.table).has_errors());
    for (id, region) in read.table.regions() {
        assert_eq!(read.table.region_named(&region.name), Some(id));
    }
    for route in &read.table.spec().routes {
        if let HostPattern::Exact(host) | HostPattern::Below(host) = &route.host {
            assert_eq!(*host, host.to_ascii_lowercase());
        }
        let (PathPattern::Exact(path) | PathPattern::Prefix(path)) = &route.path;
        assert!(matches!(route.path, PathPattern::Exact(_)) || !path.ends_with('/'), "a prefix that nothing has");
        let whole = if path.is_empty() { "/" } else { path };
        let form = policy::path::canonical(whole).expect("a route's path is one");
        assert_eq!(form.path, whole, "no request has this path");
    }
}

/// Two nodes that read one table agree on all of it, and open each other's cookies.
fn check_same(first: &RoutingTable, second: &RoutingTable) {
    assert_eq!(format!("{:?}", first.table.spec()), format!("{:?}", second.table.spec()));
    assert_eq!(first.upstreams, second.upstreams);
    assert_eq!(first.warnings, second.warnings);
    assert_eq!(first.files(), second.files());
    assert_eq!(first.affinity.seal("a", "b", 1), second.affinity.seal("a", "b", 1));
}

/// A few requests for each of the first routes, while all is well and while the first region is down.
fn check_decisions(table: &Table) {
    let well = vec![RegionView::default(); table.regions().count()];
    let mut ill = well.clone();
    ill[0].health = Health::Down;
    let from = RegionId::new(0).expect("there is a first region");
    let country = |code: &str| code.parse().expect("a country");
    let origins = [
        Origin::Unknown,
        Origin::Country(country("DE")),
        Origin::Country(country("US")),
        Origin::Countries(["BR", "CN"].map(country).into_iter().collect::<CountrySet>()),
    ];
    for route in table.spec().routes.iter().take(8) {
        let (host, path) = request_for(route);
        let named = Method::NAMED.iter().find(|(_, method)| route.methods.is_none_or(|set| set.contains(*method)));
        assert!(named.is_some_and(|(_, method)| table.find_route(&host, &path, *method).is_some()), "{route:?}");
        for (number, origin) in origins.into_iter().enumerate() {
            let facts = Facts {
                host: &host,
                path: &path,
                method: if number % 2 == 0 { Method::Get } else { Method::Post },
                payload: if number == 2 { Payload::Tunnel } else { Payload::Nothing },
                origin,
                declared: &[],
                consent: number > 1,
                client_at: None,
                client_key: number as u64,
                from,
                pinned: (number == 3).then_some(from),
                only: None,
                criticality: None,
            };
            check_decision(table, &facts, &well);
            check_decision(table, &facts, &ill);
        }
    }
}

fn check_decision(table: &Table, facts: &Facts<'_>, view: &[RegionView]) {
    let _ = explain(table, facts, view, Vec::new());
    let Verdict::Forward(permits) = decide(table, facts, view) else { return };
    assert!(permits.eligible().contains(permits.first()));
    let order = order(table, permits.route(), facts, view);
    assert_eq!(order.iter().copied().collect::<RegionSet>(), *permits.eligible());
    let mut tried = RegionSet::default();
    for expected in order {
        let permit =
            permits.next(table, facts, &tried, &CurrentTable { table, view }).expect("one for each that is eligible");
        assert_eq!(permit.region(), expected);
        assert!(is_lawful(table, facts, permit.region()), "an unlawful permit for {facts:?}");
        assert_ne!(view[permit.region().index()].health, Health::Down);
        match table.region(permit.region()).state {
            AdminState::Serving => {}
            AdminState::Draining => assert_eq!(facts.pinned, Some(permit.region()), "only its own clients"),
            AdminState::Disabled => panic!("a permit for a disabled region"),
        }
        tried.insert(permit.region());
    }
    assert_eq!(permits.next(table, facts, &tried, &CurrentTable { table, view }), None);
}

/// A host and a path that fall under the route, or one more specific.
fn request_for(route: &RouteSpec) -> (String, String) {
    let host = match &route.host {
        HostPattern::Any => "any.example".to_owned(),
        HostPattern::Exact(host) => host.clone(),
        HostPattern::Below(parent) => format!("below.{parent}"),
    };
    let path = match &route.path {
        PathPattern::Exact(path) => path.clone(),
        PathPattern::Prefix(path) => format!("{path}/below"),
    };
    (host, path)
}
