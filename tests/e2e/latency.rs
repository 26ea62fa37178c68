//! How far regions are, as a node measures it, and what follows.

use std::time::Duration;

use meridian_tests::{BusPublisher, BusServer, Client, Node, Setup, World, eventually, get, relay::Relay};
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
