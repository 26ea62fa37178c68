//! What decides between regions that the law leaves.
#![allow(missing_docs)]

use policy::hash::client_key;
use policy::region::{AdminState, Region};
use policy::score::{LatencyCurve, Weights};
use policy::table::TableSpec;
use policy::{Facts, Method, Origin, Payload, RegionId, RegionView, Table, Verdict, decide};

mod sample;

use sample::{region, spec};

fn id(index: usize) -> RegionId {
    RegionId::new(index).expect("an id")
}

fn facts(client: u32, path: &str) -> Facts<'_> {
    Facts {
        host: "api.example.com",
        path,
        method: Method::Get,
        payload: Payload::Nothing,
        origin: Origin::Country("US".parse().expect("a country")),
        declared: &[],
        consent: false,
        client_key: client_key(&client.to_be_bytes()),
        from: id(0),
        pinned: None,
        only: None,
    }
}

/// The first region of each client, by index.
fn firsts(spec: &TableSpec, view: &[RegionView], path: &str, clients: u32) -> Vec<usize> {
    let table = Table::new(spec.clone()).expect("a table");
    let first = |client| match decide(&table, &facts(client, path), view) {
        Verdict::Forward(permits) => permits.first().index(),
        Verdict::Refuse(refusal) => panic!("{refusal:?}"),
    };
    (0..clients).map(first).collect()
}

/// Of two regions, 120 and 140 ms away by the table, and 5 and 45 ms by measurement.
#[test]
fn the_curve_says_how_much_a_millisecond_is_worth() {
    let here = Region { state: AdminState::Disabled, ..region("here", "US") };
    let mut spec = spec(vec![here, region("near", "US"), region("far", "US")]);
    spec.latency_ms = vec![(id(0), id(1), 120.0), (id(0), id(2), 140.0)];
    spec.scorings[0].weights = Weights { latency: 1.0, load: 0.0, compliance: 0.0, cost: 0.0 };
    let mut measured = vec![RegionView::default(); 3];
    (measured[1].rtt_ms, measured[2].rtt_ms) = (Some(5.0), Some(45.0));
    for (curve, by_table, by_measurement, points) in [
        ("line", false, false, "62 and 54, 100 and 91.7"),
        ("steps", true, false, "50 and 50, 100 and 90"),
        ("point_per_10ms", true, true, "88 and 86, 99.5 and 95.5"),
        ("point_per_ms", true, false, "0 and 0, 95 and 55"),
    ] {
        spec.scorings[0].latency_curve = LatencyCurve::built_in(curve).expect("a curve");
        let ties = |view: &[RegionView]| firsts(&spec, view, "/", 50).contains(&2);
        let found = (ties(&[RegionView::default(); 3]), ties(&measured));
        assert_eq!(found, (by_table, by_measurement), "{curve}: {points} points");
    }
}
