//! Requests of the past, decided again.

use policy::diff::Laws;
use policy::jurisdiction::Transfer;
use policy::replay::{Again, Asked, Refused, ReplayOutcome, ReplaySide, residency_change};
use policy::table::TableSpec;
use policy::{Country, Health, Method, Origin, Payload, Table};

mod sample;
use sample::{class, jurisdiction, region, route, rule, spec};

fn base() -> TableSpec {
    let mut spec = spec(vec![region("us", "US"), region("ie", "IE"), region("br", "BR")]);
    spec.jurisdictions = vec![jurisdiction("eu", &["@EU"]), jurisdiction("br", &["BR"])];
    spec.data_classes.push(class("personal", Transfer::Allowed));
    spec.rules = vec![rule(0, 1, &["@EU"], Transfer::WithConsent), rule(1, 1, &["BR"], Transfer::Prohibited)];
    spec.routes.push(route("api", "/v3", 1));
    spec.routes[1].consent_header = Some("x-consent".into());
    spec.routes[1].jurisdiction_header = Some("x-tenant".into());
    spec
}

fn table(change: impl FnOnce(&mut TableSpec)) -> Table {
    let mut spec = base();
    change(&mut spec);
    Table::new(spec).unwrap()
}

fn asked(country: &str) -> Asked<'static> {
    let origin = country.parse::<Country>().map_or(Origin::Unknown, Origin::Country);
    Asked {
        host: "api.example.com",
        path: "/v3/x",
        method: Method::Get,
        payload: Payload::Nothing,
        origin,
        consent: false,
        declared: &[],
        client_key: 1,
        client_at: None,
        from: "us",
        pinned: None,
        criticality: None,
    }
}

fn outcome(table: &Table, again: Option<Again>) -> String {
    match again.expect("the deciding region").outcome {
        ReplayOutcome::Served(region) => table.region(region).name.clone(),
        ReplayOutcome::Refused(Refused { status, reason }) => format!("{status} {reason}"),
    }
}

#[test]
fn names_and_paths_are_read_as_a_node_reads_them() {
    let table = table(|_| {});
    let stage = ReplaySide::at_rest(&table);
    let decide = |asked: Asked<'_>| outcome(&table, stage.decide(&asked, None));
    assert_eq!(decide(asked("DE")), "ie");
    assert_eq!(decide(Asked { path: "/%76%33/x", ..asked("DE") }), "ie", "one form for a path");
    assert_eq!(decide(Asked { path: "/a%2F..%2Fb", ..asked("DE") }), "400 bad_request");
    assert_eq!(decide(Asked { path: "/v3%2Fx", ..asked("DE") }), "400 bad_request", "two routes");
    assert_eq!(decide(asked("??")), "451 residency_prohibited");
    assert_eq!(decide(Asked { pinned: Some("br"), path: "/", ..asked("DE") }), "br");
    assert_eq!(decide(Asked { pinned: Some("gone"), ..asked("DE") }), "ie");
    let tenant = ["br".to_owned()];
    assert_eq!(decide(Asked { declared: &tenant, ..asked("US") }), "br");
    assert_eq!(decide(Asked { declared: &["nobody".to_owned()], ..asked("US") }), "400 bad_request");
    assert!(stage.decide(&Asked { from: "gone", ..asked("DE") }, None).is_none());
    let mut stage = ReplaySide::at_rest(&table);
    stage.view[1].health = Health::Down;
    assert_eq!(outcome(&table, stage.decide(&asked("DE"), None)), "503 residency_unavailable");
}

#[test]
fn what_was_heard_counts_only_where_it_would_be_heard_again() {
    let old = table(|_| {});
    let consenting = Asked { consent: true, ..asked("DE") };
    let tenant = ["br".to_owned()];
    let lawful = |new: &Table, asked: &Asked<'_>| {
        ReplaySide::at_rest(new).decide(asked, Some(&old)).and_then(|again| again.lawful).map(|set| set.len())
    };
    assert_eq!(lawful(&old, &consenting), Some(3));
    let elsewhere = table(|new| new.routes[1].consent_header = Some("x-other".into()));
    assert_eq!(lawful(&elsewhere, &consenting), Some(1), "nobody has consented there");
    let deaf = table(|new| new.routes[1].jurisdiction_header = None);
    let of_a_tenant = Asked { declared: &tenant, ..asked("US") };
    assert_eq!((lawful(&old, &of_a_tenant), lawful(&deaf, &of_a_tenant)), (Some(1), Some(3)));
}

#[test]
fn a_residency_change_is_one_of_the_law() {
    let old = table(|_| {});
    let change = |new: &Table, asked: &Asked<'_>| {
        let laws = Laws::new(&old, new).unwrap();
        let (before, after) = (ReplaySide::at_rest(&old), ReplaySide::at_rest(new));
        let (was, is) = (before.decide(asked, None).unwrap(), after.decide(asked, Some(&old)).unwrap());
        residency_change(&laws, asked, (&old, &was), (new, &is))
    };
    let wider = table(|new| new.rules[0].transfer = Transfer::Allowed);
    let found = change(&wider, &asked("DE")).unwrap();
    assert!(found.widens());
    assert_eq!(found.gained.iter().map(|gain| gain.region.as_str()).collect::<Vec<_>>(), ["us", "br"]);
    assert_eq!(change(&wider, &asked("US")), None);
    assert_eq!(change(&wider, &Asked { consent: true, ..asked("DE") }), None, "they could go there before");
    let narrower = table(|new| new.rules[0].transfer = Transfer::Prohibited);
    let found = change(&narrower, &Asked { consent: true, ..asked("DE") }).unwrap();
    assert!(!found.widens() && found.lost == ["us", "br"]);
    let public = table(|new| new.routes.truncate(1));
    assert!(change(&public, &asked("DE")).is_some_and(|found| found.widens()), "another route, another class");
    let nowhere = table(|new| drop(new.routes.remove(0)));
    assert_eq!(change(&nowhere, &Asked { path: "/", ..asked("DE") }), None, "404 is no law");
}
