use super::*;

/// A node in `a`, of whose way to `b` nobody says anything, and whose scores go by clients.
const TABLE: &str = "\
[regions.a]
country = 'US'
coordinates = [39.0, -77.5]
endpoints = ['10.0.0.1:80']
[regions.b]
country = 'DE'
coordinates = [50.1, 8.7]
endpoints = ['10.0.1.1:80']
[latency_ms.a]
b = 150
[scoring.by_client]
latency = 1.0
latency_from = 'client'
[[routes]]
name = 'r'
scoring = 'by_client'
";

fn routing(generation: u64, persisted: &PersistedState) -> Routing {
    let document = RoutingTable::from_text(std::path::Path::new("routes.toml"), TABLE, clock::wall())
        .unwrap_or_else(|problems| panic!("{problems}"));
    Routing::new(document, "a", 128, Edition { generation, published: None }, persisted).unwrap()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_way_that_nobody_has_measured_is_no_longer_than_the_answers() {
    let routing = routing(1, &PersistedState::default());
    let b = routing.table().region_named("b").unwrap();
    assert_eq!(routing.way(b).as_millis(), 150);
    let answers = &routing.region(b).state.answers;
    (0..200).for_each(|_| answers.observe(ms(20)));
    answers.on_tick();
    let way = routing.way(b);
    assert!(way >= ms(15) && way <= ms(25), "{way:?}");
    (0..2_000).for_each(|_| answers.observe(ms(400)));
    answers.on_tick();
    assert_eq!(routing.way(b).as_millis(), 150);
}

/// As many clients as are needed, at their places and with round trips of so many milliseconds.
fn clients(routing: &Routing, code: &str, degrees: (f64, f64), took: u64) {
    let at = Coordinates::new(degrees.0, degrees.1).unwrap();
    for client in 0..40 {
        routing.client_came(code.parse().unwrap(), client, at, ms(took));
        routing.settle_client_ways();
    }
}

fn excess_ms(routing: &Routing, code: &str) -> Vec<f32> {
    routing.settled_ways().excess_ms(Some(code.parse().unwrap())).to_vec()
}

#[test]
fn what_is_faster_than_light_is_no_clients_way() {
    let routing = routing(1, &PersistedState::default());
    let berlin = (52.5, 13.4);
    // 6,700 km: 67 ms in fibre, and 139 are assumed.
    clients(&routing, "DE", berlin, 60);
    assert!(excess_ms(&routing, "DE").is_empty());
    clients(&routing, "PL", berlin, 80);
    let measured = excess_ms(&routing, "PL");
    assert!(measured.len() == 2 && measured.iter().all(|ms| (-65.0..-50.0).contains(ms)), "{measured:?}");
}

#[test]
fn another_table_knows_from_its_first_request_on_what_is_measured() {
    let persisted = PersistedState::default();
    let before = routing(1, &persisted);
    clients(&before, "DE", (52.5, 13.4), 180);
    let after = routing(2, &persisted);
    assert!(!excess_ms(&after, "DE").is_empty());
    assert_eq!(excess_ms(&after, "DE"), excess_ms(&before, "DE"));
}
