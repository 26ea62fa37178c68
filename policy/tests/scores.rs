//! What decides between regions that the law leaves.
#![allow(missing_docs)]

use policy::client_way::ClientAt;
use policy::globe::Coordinates;
use policy::hash::client_key;
use policy::jurisdiction::Transfer;
use policy::region::{AdminState, Region, Role};
use policy::route::{Affinity, Criticality, RouteSpec};
use policy::score::{CurveShape, LatencyCurve, LatencyFrom, Weights};
use policy::table::{TableError, TableSpec};
use policy::{Facts, Health, Method, Origin, Payload, RegionId, RegionView, Table, Verdict, decide};

mod sample;

use sample::{class, jurisdiction, region, route, rule, spec};

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
        client_at: None,
        client_key: client_key(&client.to_be_bytes()),
        from: id(0),
        pinned: None,
        only: None,
        criticality: None,
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

/// A node in Virginia has the request; regions there, in Dublin and in Mumbai.
#[test]
fn a_score_by_the_client_is_the_same_at_every_node() {
    let at = |name, country, coordinates| Region { coordinates: Some(coordinates), ..region(name, country) };
    let mut spec =
        spec(vec![at("us", "US", (39.0, -77.5)), at("eu", "IE", (53.3, -6.3)), at("ap", "IN", (19.1, 72.9))]);
    spec.scorings[0].weights = Weights { latency: 1.0, load: 0.0, compliance: 0.0, cost: 0.0 };
    let view = vec![RegionView { rtt_ms: Some(1.0), ..RegionView::default() }, up()[1], up()[2]];
    let first = |spec: &TableSpec, from: usize, place: Option<(f64, f64)>, excess_ms: &[f32]| {
        let coordinates = place.map(|(lat, lon)| Coordinates::new(lat, lon).expect("a place"));
        let client_at = coordinates.map(|coordinates| ClientAt { coordinates, excess_ms });
        let table = Table::new(spec.clone()).expect("a table");
        let facts = Facts { client_at, from: id(from), ..facts(1, "/") };
        match decide(&table, &facts, view.as_slice()) {
            Verdict::Forward(permits) => permits.first().index(),
            Verdict::Refuse(refusal) => panic!("{refusal:?}"),
        }
    };
    let (berlin, delhi, newark) = (Some((52.5, 13.4)), Some((28.6, 77.2)), Some((40.7, -74.2)));
    for client in [berlin, delhi, newark, None] {
        assert_eq!(first(&spec, 0, client, &[]), 0, "by the node: where it is");
    }
    spec.scorings[0].latency_from = LatencyFrom::Client;
    for from in 0..3 {
        let firsts = [berlin, delhi, newark].map(|client| first(&spec, from, client, &[]));
        assert_eq!(firsts, [1, 2, 0], "whichever node has it");
    }
    assert_eq!(first(&spec, 0, None, &[]), 0, "by the node, where the client's place is not known");
    // What is measured of the country says that its way to Dublin is longer than the one to Virginia.
    assert_eq!(first(&spec, 0, berlin, &[0.0, 200.0, 200.0]), 0);
    assert_eq!(first(&spec, 0, berlin, &[20.0, 20.0, 20.0]), 1);
    spec.routes[0].affinity = Affinity::ClientIp;
    assert_eq!(first(&spec, 0, berlin, &[0.0, 200.0, 200.0]), 1, "who is kept by address is not moved by measurements");
    // The limit is of the way that the request takes.
    spec.routes[0].max_latency = Some(std::time::Duration::from_millis(20));
    assert_eq!(first(&spec, 0, berlin, &[]), 0);
}

/// Of a table whose routes are all default, and whose requests may be less.
#[test]
fn a_request_that_is_less_critical_than_every_route_spills_first() {
    let mut spec = spec(vec![region("a", "US"), region("b", "US")]);
    spec.regions[0].priority = 0;
    spec.regions[1].priority = 1;
    let spilled = |spec: &TableSpec, criticality, pressure| {
        let table = Table::new(spec.clone()).expect("a table");
        let view = [RegionView { pressure, ..RegionView::default() }, RegionView::default()];
        let is_elsewhere = |client: &u32| {
            let facts = Facts { criticality, ..facts(*client, "/") };
            matches!(decide(&table, &facts, view.as_slice()), Verdict::Forward(permits) if permits.first() == id(1))
        };
        (0..2_000).filter(is_elsewhere).count() / 20
    };
    let (lowered, raised) = (Some(Criticality::Sheddable), Some(Criticality::Critical));
    assert!((45..55).contains(&spilled(&spec, None, 0.925)), "half of the way from 0.85 to 1");
    spec.lowers_criticality = true;
    for (pressure, of_sheddable, of_default) in [(0.85, 0, 0), (0.924, 98, 0), (0.926, 100, 1), (1.0, 100, 100)] {
        let near = |found: usize, expected: usize| found.abs_diff(expected) <= 2;
        assert!(near(spilled(&spec, lowered, pressure), of_sheddable), "{pressure}");
        assert!(near(spilled(&spec, None, pressure), of_default), "{pressure}");
        assert!(near(spilled(&spec, raised, pressure), of_default), "{pressure}: nobody raises it");
    }
}

const CLIENTS: u32 = 20_000;

/// Three regions with shares of 40, 35 and 25; the first is the node's own, and by far the best by score.
fn shared() -> TableSpec {
    let of = |name, country, share| Region { share: Some(share), ..region(name, country) };
    let mut spec = spec(vec![of("us", "US", 40), of("eu", "IE", 35), of("ap", "IN", 25)]);
    spec.latency_ms = vec![(id(0), id(1), 80.0), (id(0), id(2), 200.0)];
    spec
}

fn up() -> Vec<RegionView> {
    vec![RegionView::default(); 3]
}

/// Checks the percentage of the clients that each region has, to two points.
#[track_caller]
fn assert_split(firsts: &[usize], expected: [f64; 3]) {
    let percent = |index| {
        let count = firsts.iter().filter(|first| **first == index).count();
        count as f64 * 100.0 / firsts.len() as f64
    };
    for (index, expected) in expected.into_iter().enumerate() {
        let found = percent(index);
        assert!(
            (found - expected).abs() <= 2.0 && (expected > 0.0 || found == 0.0),
            "{index}: {found} % of {expected} %"
        );
    }
}

#[test]
fn shares_split_the_clients_whatever_the_scores() {
    assert_split(&firsts(&shared(), &up(), "/", CLIENTS), [40.0, 35.0, 25.0]);
    // Only proportions matter; and neither capacity nor load below the mark has a say.
    let mut other = shared();
    other.regions.iter_mut().zip([8, 7, 5]).for_each(|(region, share)| region.share = Some(share));
    other.regions[2].capacity_rps = Some(1e6);
    let mut loaded = up();
    (loaded[0].utilisation, loaded[1].rtt_ms) = (0.8, Some(500.0));
    assert_eq!(firsts(&other, &loaded, "/", CLIENTS), firsts(&shared(), &up(), "/", CLIENTS));
}

#[test]
fn a_scoring_may_leave_shares_aside() {
    let mut spec = shared();
    spec.scorings[0].shares = false;
    assert_split(&firsts(&spec, &up(), "/", 1000), [100.0, 0.0, 0.0]);
}

#[test]
fn clients_of_a_region_that_leaves_are_divided_by_the_shares_of_the_others_and_nobody_else_moves() {
    let before = firsts(&shared(), &up(), "/", CLIENTS);
    for gone in 0..3 {
        let mut view = up();
        view[gone].health = Health::Down;
        let after = firsts(&shared(), &view, "/", CLIENTS);
        assert!(before.iter().zip(&after).all(|(before, after)| before == after || *before == gone));
        let mut expected = [40.0, 35.0, 25.0];
        expected[gone] = 0.0;
        let left: f64 = expected.iter().sum();
        assert_split(&after, expected.map(|share| share * 100.0 / left));
        // The clients that moved are a sample of all.
        let moved = || before.iter().zip(&after).filter(|(before, _)| **before == gone).map(|(_, after)| *after);
        assert_split(&moved().collect::<Vec<_>>(), expected.map(|share| share * 100.0 / left));
    }
}

#[test]
fn a_greater_share_takes_clients_and_gives_none_up() {
    let before = firsts(&shared(), &up(), "/", CLIENTS);
    let mut more = shared();
    more.regions[2].share = Some(75);
    let after = firsts(&more, &up(), "/", CLIENTS);
    assert_split(&after, [26.7, 23.3, 50.0]);
    assert!(before.iter().zip(&after).all(|(before, after)| before == after || *after == 2));
}

/// Levels, weights, ramps and overload go before shares.
#[test]
fn shares_divide_among_equals_only() {
    let mut ramping = up();
    ramping[0].health = Health::Ramping(50);
    // Of its 40, 20 stay; the other 20 are divided 35 to 25.
    assert_split(&firsts(&shared(), &ramping, "/", CLIENTS), [20.0, 46.7, 33.3]);
    let mut weighed = shared();
    weighed.regions[0].weight = 50;
    assert_split(&firsts(&weighed, &up(), "/", CLIENTS), [20.0, 46.7, 33.3]);
    let mut full = up();
    full[0].pressure = 0.925;
    assert_split(&firsts(&shared(), &full, "/", CLIENTS), [20.0, 46.7, 33.3]);
    let mut standby = shared();
    (standby.regions[2].role, standby.regions[2].priority) = (Role::Warm, 1);
    assert_split(&firsts(&standby, &up(), "/", CLIENTS), [53.3, 46.7, 0.0]);
}

#[test]
fn shares_divide_what_the_law_leaves() {
    let mut spec = shared();
    spec.jurisdictions = vec![jurisdiction("us", &["US"])];
    spec.data_classes.push(class("personal", Transfer::Allowed));
    spec.rules = vec![rule(0, 1, &["IE", "IN"], Transfer::Prohibited)];
    spec.routes.push(route("api", "/v3", 1));
    assert_split(&firsts(&spec, &up(), "/v3", CLIENTS), [0.0, 58.3, 41.7]);
    // What a rule opens comes after what it selects, and is divided likewise.
    spec.rules = vec![rule(0, 1, &["US"], Transfer::Allowed)];
    assert_split(&firsts(&spec, &up(), "/v3", 1000), [100.0, 0.0, 0.0]);
    let mut view = up();
    view[0].health = Health::Down;
    assert_split(&firsts(&spec, &view, "/v3", CLIENTS), [0.0, 58.3, 41.7]);
}

#[test]
fn shares_stand_together_or_not_at_all() {
    let mut spec = shared();
    spec.regions[1].share = None;
    let mixed = TableError::MixedShares { with: "us".into(), without: "eu".into() };
    assert_eq!(Table::new(spec.clone()).err(), Some(mixed));
    spec.regions[1].priority = 1;
    assert!(Table::new(spec.clone()).is_ok(), "another priority");
    (spec.regions[1].priority, spec.regions[1].role) = (0, Role::Cold);
    assert!(Table::new(spec.clone()).is_ok(), "cold regions stand by themselves");
    spec.regions[0].share = Some(0);
    assert!(matches!(Table::new(spec).err(), Some(TableError::BadNumber { .. })));
}

#[test]
fn an_explanation_tells_the_share_by_which_it_was_drawn() {
    let table = Table::new(shared()).expect("a table");
    let told = policy::explain(&table, &facts(1, "/"), up().as_slice(), Vec::new());
    for (region, others) in told.regions.iter().zip([["ap", "eu"], ["ap", "us"], ["eu", "us"]]) {
        let mut tied = region.tied_with.clone();
        tied.sort_unstable();
        assert_eq!(tied, others);
        let why = region.why.iter().find(|why| why.rule == "share").expect("a note");
        let share = region.share.expect("a share");
        assert_eq!(why.effect, format!("{share} of 100 of the clients of its level, by hash, whatever the scores"));
    }
    assert!(told.scoring.expect("a scoring").shares);
    let mut by_score = shared();
    by_score.scorings[0].shares = false;
    let table = Table::new(by_score).expect("a table");
    let told = policy::explain(&table, &facts(1, "/"), up().as_slice(), Vec::new());
    assert!(told.regions.iter().all(|region| region.share.is_none() && !region.tied), "{told:#?}");
}

/// Three regions of which none is better by the table, for clients kept by their address.
fn by_address() -> TableSpec {
    let mut spec = spec(vec![region("a", "US"), region("b", "US"), region("c", "US")]);
    spec.latency_ms = vec![(id(0), id(0), 5.0), (id(0), id(1), 5.0), (id(0), id(2), 5.0)];
    spec.routes[0].affinity = Affinity::ClientIp;
    spec
}

/// Region a at this load, and its pressure after it.
fn loaded(utilisation: f32) -> Vec<RegionView> {
    let mut view = up();
    view[0] = RegionView { utilisation, pressure: utilisation, rtt_ms: Some(400.0), ..RegionView::default() };
    view
}

#[test]
fn affinity_by_address_keeps_clients_until_the_region_is_overloaded() {
    let home = firsts(&by_address(), &up(), "/", CLIENTS);
    assert_split(&home, [33.3; 3]);
    for utilisation in [0.3, 0.7, 0.85] {
        assert_eq!(firsts(&by_address(), &loaded(utilisation), "/", CLIENTS), home, "at {utilisation}");
    }
    let mut gone: Vec<bool> = vec![false; home.len()];
    for (utilisation, share) in [(0.88, 0.2), (0.925, 0.5), (0.97, 0.8), (1.0, 1.0)] {
        let now = firsts(&by_address(), &loaded(utilisation), "/", CLIENTS);
        let left: Vec<bool> = home.iter().zip(&now).map(|(home, now)| home != now).collect();
        assert!(home.iter().zip(&left).all(|(home, left)| *home == 0 || !left), "clients of other regions stay");
        assert!(gone.iter().zip(&left).all(|(before, now)| *now || !before), "who has left stays away while it lasts");
        let of_a = home.iter().filter(|home| **home == 0).count() as f64;
        let found = left.iter().filter(|left| **left).count() as f64 / of_a;
        assert!((found - share).abs() < 0.02, "at {utilisation}: {found}");
        // They are divided between the others, and each goes where it went before.
        let moved = now.iter().zip(&left).filter(|(_, left)| **left).map(|(now, _)| *now).collect::<Vec<_>>();
        assert_split(&moved, [0.0, 50.0, 50.0]);
        gone = left;
    }
    assert_eq!(firsts(&by_address(), &loaded(0.85), "/", CLIENTS), home, "all come back");
}

#[test]
fn affinity_by_address_lets_the_unimportant_leave_first() {
    let mut spec = by_address();
    let of = |name: &str, criticality| RouteSpec { criticality, affinity: Affinity::ClientIp, ..route(name, name, 0) };
    spec.routes = vec![
        of("/sheddable", Criticality::Sheddable),
        of("/default", Criticality::Default),
        of("/critical", Criticality::Critical),
    ];
    let left = |path: &str| {
        let (home, now) = (firsts(&spec, &up(), path, 2000), firsts(&spec, &loaded(0.925), path, 2000));
        let of_a = home.iter().filter(|home| **home == 0).count();
        home.iter().zip(&now).filter(|(home, now)| home != now).count() as f64 / of_a as f64
    };
    assert_eq!((left("/sheddable"), left("/critical")), (1.0, 0.0));
    assert!((left("/default") - 0.5).abs() < 0.05, "{}", left("/default"));
}

/// The margin within which regions share clients is of points, however few they all have.
#[test]
fn the_margin_is_the_same_among_low_scores() {
    let here = Region { state: AdminState::Disabled, ..region("here", "US") };
    let mut spec = spec(vec![here, region("near", "US"), region("far", "US")]);
    spec.scorings[0].weights = Weights { latency: 1.0, load: 0.0, compliance: 0.0, cost: 0.0 };
    for points in [3.5, 0.5, 0.0] {
        let knots = vec![(10.0, 4.0), (20.0, points)];
        spec.scorings[0].latency_curve = LatencyCurve::new(CurveShape::Line, knots).expect("a curve");
        let mut view = vec![RegionView::default(); 3];
        (view[1].rtt_ms, view[2].rtt_ms) = (Some(10.0), Some(20.0));
        assert!(firsts(&spec, &view, "/", 200).contains(&2), "4 points and {points}");
    }
}
