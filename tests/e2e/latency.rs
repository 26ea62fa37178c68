//! How far regions are, as a node measures it, and what follows.

use std::time::Duration;

use meridian_tests::{BusPublisher, BusServer, Client, Node, Setup, World, eventually, geo, get, relay::Relay, run_in};
use serde_json::Value;

/// The choice is by latency alone, and the window as short as it may be.
const ROUTES: &str = r#"
[latency]
window = "5s"

[latency_ms.here]
near = 20
far = 60

[latency_sla_ms.here]
near = 100

[jurisdictions.de]
countries = ["DE"]

[residency_defaults]
unlisted_jurisdiction = "allow"

[data_classes.bound]

[[residency]]
jurisdiction = "de"
data_classes = ["bound"]
allow = { regions = ["far"] }
transfer = "prohibited"

[scoring.by_latency]
latency = 1

[[routes]]
name = "bound"
path = "/bound"
data_class = "bound"
scoring = "by_latency"

[[routes]]
name = "all"
data_class = "public"
scoring = "by_latency"

[[routes]]
name = "close"
path = "/close"
data_class = "public"
scoring = "by_latency"
max_latency = "90ms"
require_compliance = ["soc2"]
"#;

/// A node in a region that serves nobody, and two regions behind relays, of which either may be the nearer.
struct Stage {
    world: World,
    near: Relay,
    far: Relay,
    table: String,
}

impl Stage {
    async fn new() -> Stage {
        let world = World::probed_often(&[("here", "US"), ("near", "FR"), ("far", "DE")], ROUTES).await;
        let near = Relay::before(world.origin("near").address(), ms(20)).await;
        let far = Relay::before(world.origin("far").address(), ms(60)).await;
        let table = world
            .table()
            .replace(&world.origin("near").address().to_string(), &near.address().to_string())
            .replace(&world.origin("far").address().to_string(), &far.address().to_string())
            .replace("country = \"US\"\npriority = 0", "country = \"US\"\npriority = 9")
            .replace("country = \"FR\"\npriority = 1", "country = \"FR\"\npriority = 1\ncompliance = [\"soc2\"]")
            .replace("country = \"DE\"\npriority = 2", "country = \"DE\"\npriority = 1");
        Stage { world, near, far, table }
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

async fn explained(node: &Node, path: &str, region: &str) -> Value {
    let answer = node.ask(&get(&format!("/explain?country=DE&path={path}"))).await;
    let explanation = answer.json();
    let regions = explanation["regions"].as_array().expect("regions");
    regions.iter().find(|each| each["name"] == region).expect("the region").clone()
}

async fn serves(node: &Node, path: &str) -> Option<String> {
    Client::http1(node.http()).send(&get(path).from("DE")).await.region()
}

async fn served_by(node: &Node, path: &str, region: &str) {
    eventually(region, async || match serves(node, path).await {
        Some(found) if found == region => Ok(()),
        found => Err(format!("{found:?}, {}", explained(node, path, region).await)),
    })
    .await;
}

#[tokio::test]
async fn the_choice_follows_the_way_and_no_measurement_opens_what_the_law_closes() {
    let stage = Stage::new().await;
    let node = Setup::new("here", &stage.table).start().await;
    node.all_up().await;
    served_by(&node, "/", "near").await;
    served_by(&node, "/close", "near").await;

    // 120 ms instead of 20, and the other 5 instead of 60.
    stage.near.set_round_trip(ms(120));
    stage.far.set_round_trip(ms(30));
    served_by(&node, "/", "far").await;
    eventually("explain says why", async || {
        let (near, far) = (explained(&node, "/", "near").await, explained(&node, "/", "far").await);
        let is_measured = [&near, &far].iter().all(|region| region["latency_source"] == "measured");
        let is_near = |region: &Value, ms: f64| {
            let median = region["measured"]["median_ms"].as_f64().unwrap_or_default();
            region["latency_ms"].as_f64().is_some_and(|used| used > 0.7 * ms) && (ms..ms + 60.0).contains(&median)
        };
        if is_measured && is_near(&near, 120.0) && is_near(&far, 30.0) { Ok(()) } else { Err(format!("{near} {far}")) }
    })
    .await;
    // Past max_latency there is nobody left for this route.
    let refused = Client::http1(node.http()).send(&get("/close").from("DE")).await;
    assert!(refused.status == 503 && refused.region().is_none(), "{refused:?}");

    let metrics = node.metrics().await;
    let of = |quantile| metrics.sum("meridian_region_latency_seconds", &[("to", "near"), ("quantile", quantile)]);
    assert!(of("0.5") >= Some(0.12) && of("0.95") >= of("0.5"), "{}", metrics.text());
    assert_eq!(metrics.sum("meridian_region_latency_sla_seconds", &[("from", "here"), ("to", "near")]), Some(0.1));
    node.log()
        .find("round trips are longer than their SLA", |line| line.contains("round trips are longer than their SLA"))
        .await;

    // Whatever is measured: the bound data's one region is the far one, and was from the start.
    stage.near.set_round_trip(ms(0));
    stage.far.set_round_trip(ms(200));
    served_by(&node, "/", "near").await;
    for _ in 0..20 {
        assert_eq!(serves(&node, "/bound").await.as_deref(), Some("far"));
    }
    node.log()
        .find("round trips are within their SLA again", |line| line.contains("round trips are within their SLA again"))
        .await;
    assert!(stage.world.received("near").iter().all(|received| received.path != "/bound"));
    assert!(stage.world.received("here").is_empty());
}

#[tokio::test]
async fn a_table_without_a_window_is_believed() {
    let stage = Stage::new().await;
    stage.near.set_round_trip(ms(100));
    stage.far.set_round_trip(ms(0));
    let table = stage.table.replace("window = \"5s\"", "window = \"0s\"");
    let node = Setup::new("here", &table).start().await;
    node.all_up().await;
    eventually("probes have been answered", async || {
        served_by(&node, "/", "near").await;
        let probed = stage.world.origin("near").received().len() > 5;
        if probed { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    let near = explained(&node, "/", "near").await;
    assert_eq!(
        (&near["latency_source"], &near["measured"], &near["rtt_ms"]),
        (&"table".into(), &Value::Null, &Value::Null)
    );

    // A reload has it measured, and another believes the table again.
    node.replace("routes.toml", &stage.table);
    served_by(&node, "/", "far").await;
    node.replace("routes.toml", &table);
    served_by(&node, "/", "near").await;
}

#[tokio::test]
async fn a_node_that_cannot_measure_yet_goes_by_its_neighbours() {
    let stage = Stage::new().await;
    stage.near.set_round_trip(ms(150));
    stage.far.set_round_trip(ms(10));
    let bus = BusServer::start().await;
    BusPublisher::connect(&bus).await.publish(&stage.table).await;
    let routing = format!("bus = {{ servers = [\"{}\"] }}", bus.url());
    let old = Setup::new("here", "").name("old").bus(&routing).start().await;
    served_by(&old, "/", "far").await;
    // The new one's first probes are on their way for longer than this takes.
    let new = Setup::new("here", "").name("new").bus(&routing).start().await;
    eventually("it has heard", async || {
        let near = explained(&new, "/", "near").await;
        if near["rtt_ms"].as_f64() > Some(100.0) { Ok(()) } else { Err(near.to_string()) }
    })
    .await;
    served_by(&new, "/", "far").await;
}

#[tokio::test]
async fn how_far_clients_are_is_counted_once_for_each_connection_of_theirs() {
    let world = World::of_regions(&[("here", "US")], "[[routes]]\nname = \"all\"\n").await;
    let count = async |trusted: &[&str]| {
        let node = Setup::new("here", world.table()).trusting(trusted).start().await;
        for _ in 0..2 {
            let mut connection = Client::http1(node.http()).connect().await.expect("a connection");
            for _ in 0..3 {
                connection.send(&get("/")).await.assert_served_by("here");
            }
        }
        let metrics = node.metrics().await;
        metrics.sum("meridian_client_round_trip_seconds_count", &[("country", "none")])
    };
    assert_eq!(count(&["192.0.2.0/24"]).await, Some(2.0));
    // Behind a proxy, it is the proxy's.
    assert_eq!(count(&["127.0.0.1/32"]).await, None);
}

/// Regions in Virginia, where the node is, and in Frankfurt; routes that score by the node and by the client.
const BY_CLIENT: &str = r#"
[latency]
window = "5s"

[scoring.by_node]
latency = 1

[scoring.by_client]
latency = 1
latency_from = "client"

[jurisdictions.us]
countries = ["US"]

[residency_defaults]
unlisted_jurisdiction = "allow"

[data_classes.bound]

[[residency]]
jurisdiction = "us"
data_classes = ["bound"]
allow = { countries = ["US"] }
transfer = "prohibited"

[[routes]]
name = "bound"
path = "/bound"
data_class = "bound"
scoring = "by_client"

[[routes]]
name = "by-client"
path = "/by-client"
data_class = "public"
scoring = "by_client"

[[routes]]
name = "by-node"
data_class = "public"
scoring = "by_node"
"#;

/// Clients in Berlin and in New York, and one whose network says that it hides.
fn places() -> Vec<u8> {
    let at = |country: &str, latitude: f64, longitude: f64| {
        serde_json::json!({
            "country": { "iso_code": country },
            "location": { "latitude": latitude, "longitude": longitude, "accuracy_radius": 20 },
        })
    };
    let mut hidden = at("DE", 52.52, 13.41);
    hidden["traits"] = serde_json::json!({ "is_anonymous_proxy": true });
    geo::of_records(&[
        ("192.0.2.0/28", at("DE", 52.52, 13.41)),
        ("192.0.2.16/28", at("US", 40.71, -74.01)),
        // By its country's law an American; where it is has no say in that.
        ("192.0.2.32/28", at("US", 52.52, 13.41)),
        ("192.0.2.48/28", hidden),
        ("192.0.2.64/28", serde_json::json!({ "country": { "iso_code": "DE" } })),
        ("127.8.0.0/16", at("DE", 39.0, -77.5)),
        ("127.9.0.0/16", at("US", 52.52, 13.41)),
    ])
}

async fn by_client() -> (World, String) {
    let world = World::probed_often(&[("virginia", "US"), ("frankfurt", "DE")], BY_CLIENT).await;
    let table = world
        .table()
        .replace("[regions.virginia]\n", "[regions.virginia]\ncoordinates = [39.0, -77.5]\n")
        .replace("[regions.frankfurt]\n", "[regions.frankfurt]\ncoordinates = [50.1, 8.7]\n")
        .replace("priority = 1", "priority = 0");
    (world, table)
}

#[tokio::test]
async fn a_route_may_go_by_how_far_its_clients_are_and_never_beyond_the_law() {
    let (world, table) = by_client().await;
    let node = Setup::new("virginia", &table).database(Some(places())).start().await;
    node.all_up().await;
    let (berlin, new_york, american_in_berlin) = ("192.0.2.1", "192.0.2.17", "192.0.2.33");
    let client = Client::http1(node.http());
    let send = async |path: &str, address: &str| {
        client.send(&get(path).header("x-forwarded-for", address)).await.region().expect("a region")
    };
    for (path, address, region) in [
        ("/by-client", berlin, "frankfurt"),
        ("/by-client", new_york, "virginia"),
        ("/by-client", american_in_berlin, "frankfurt"),
        ("/bound", american_in_berlin, "virginia"),
        ("/bound", new_york, "virginia"),
        // Hidden, and of a place that nobody knows: by the table, from the node.
        ("/by-client", "192.0.2.49", "virginia"),
        ("/by-client", "192.0.2.65", "virginia"),
    ] {
        assert_eq!(send(path, address).await, region, "{path} {address}");
    }
    assert!(world.received("frankfurt").iter().all(|received| received.path == "/by-client"));

    let told = |path: &str| get(&format!("/explain?ip={berlin}&path={path}"));
    let by_client = node.ask(&told("/by-client")).await.json();
    let frankfurt = &by_client["regions"][0];
    assert_eq!(
        (&by_client["scoring"]["latency_from"], &by_client["origin"]["coordinates"], &frankfurt["latency_source"]),
        (&"client".into(), &serde_json::json!([52.5, 13.4]), &"client_distance".into()),
        "{by_client:#}"
    );
    assert!((10.0..20.0).contains(&frankfurt["latency_ms"].as_f64().expect("a number")), "{frankfurt}");
    let by_node = node.ask(&told("/")).await.json();
    assert_eq!(
        (&by_node["scoring"]["latency_from"], &by_node["origin"]["coordinates"]),
        (&"node".into(), &Value::Null)
    );

    // The log has what `replay` needs to come to the same.
    let line = node.access_log().find("its line", |line| line.contains("\"path\":\"/by-client\"")).await;
    assert!(line.contains("\"coordinates\":[53.0,13.0]"), "to a degree: {line}");
}

/// A node measures the clients that connect to it, and goes by that for others of their country.
#[tokio::test]
async fn what_is_measured_of_a_countrys_clients_moves_the_others() {
    let (_world, table) = by_client().await;
    let node = Setup::new("virginia", &table).database(Some(places())).start().await;
    let mut host = 0_u8;
    eventually("it is measured", async || {
        // Those that are said to be in Berlin cannot be: no light comes from there in a loopback's time.
        for network in [9, 8] {
            host = host % 250 + 1;
            let client = Client::http1(node.http()).from(std::net::IpAddr::from([127, network, host, 1]));
            assert_eq!(client.send(&get("/by-client")).await.status, 200);
        }
        let status = node.status().await;
        match status["regions"][1]["client_excess_ms"]["DE"].as_f64() {
            Some(ms) if (-5.0..5.0).contains(&ms) => Ok(()),
            _ => Err(status["regions"].to_string()),
        }
    })
    .await;
    assert_eq!(node.status().await["regions"][1]["client_excess_ms"]["US"], Value::Null);
    let told = node.ask(&get("/explain?ip=192.0.2.1&path=/by-client")).await.json();
    let virginia = &told["regions"][1];
    assert_eq!(virginia["latency_source"], "client_measured", "{virginia}");
    // 6,700 km, and nothing of the 5 ms that are assumed of a client's access.
    let ms = virginia["latency_ms"].as_f64().expect("a number");
    assert!((125.0..145.0).contains(&ms), "{ms}");
}

/// Of countries alone, no client has coordinates.
#[tokio::test]
async fn a_table_that_goes_by_clients_wants_a_database_that_places_them() {
    let (_world, table) = by_client().await;
    let check = |database: Vec<u8>| {
        let directory = Setup::new("virginia", &table).database(Some(database)).write();
        run_in(directory.path(), &["check", "node.toml"])
    };
    let says = |ended: &meridian_tests::Ended| format!("{}{}", ended.stdout, ended.stderr).contains("has coordinates");
    let of_countries = check(geo::database());
    assert!(of_countries.code == Some(0) && says(&of_countries), "{of_countries:?}");
    let of_places = check(places());
    assert!(of_places.code == Some(0) && !says(&of_places), "{of_places:?}");
}
