//! When there is too much to do, the unimportant is refused first.

use std::time::Duration;

use loadtest::origin::Behaviour;
use meridian_tests::{Answer, Client, Node, Setup, World, eventually, geo, get};
use tokio::task::JoinHandle;

#[tokio::test]
async fn a_full_node_refuses_the_unimportant_first() {
    let world = World::of_regions(&[("here", "US")], ROUTES).await;
    let node = Setup::new("here", world.table()).section("limits", "requests_in_flight = 10").start().await;
    let client = Client::http1(node.http());
    stall(&world);

    let mut held = hold(&node, 7).await;
    client.send(&get("/sheddable")).await.assert_served_by("here");

    held.extend(hold(&node, 1).await);
    client.send(&get("/sheddable")).await.assert_overloaded();
    client.send(&get("/default")).await.assert_served_by("here");
    client.send(&get("/critical")).await.assert_served_by("here");

    held.extend(hold(&node, 1).await);
    client.send(&get("/default")).await.assert_overloaded();
    client.send(&get("/critical")).await.assert_served_by("here");

    held.extend(hold(&node, 1).await);
    client.send(&get("/critical")).await.assert_overloaded();

    let metrics = node.metrics().await;
    for criticality in ["sheddable", "default", "critical"] {
        let shed = metrics.sum("meridian_shed_total", &[("criticality", criticality), ("reason", "node_full")]);
        assert_eq!(shed, Some(1.0), "{criticality}");
    }
    assert_eq!(metrics.sum("http_requests_total", &[("status", "503")]), Some(3.0));
    assert_eq!(metrics.sum("http_errors_total", &[("reason", "overloaded")]), Some(3.0));
    assert_eq!(world.received("here").len(), 10 + 4, "nothing refused has arrived");

    world.behave("here", &Behaviour::Normal);
    for request in held {
        request.await.expect("an answer").assert_served_by("here");
    }
    client.send(&get("/sheddable")).await.assert_served_by("here");
}

#[tokio::test]
async fn a_full_region_spills_as_far_as_the_law_lets_it() {
    let world = World::of_regions(&[("here", "US"), ("there", "US")], ROUTES).await;
    let limits = "requests_in_flight_per_region = 5";
    let node = Setup::new("here", world.table()).section("limits", limits).start().await;
    let client = Client::http1(node.http());
    stall(&world);
    let held = hold(&node, 5).await;
    for path in ["/default", "/critical", "/sheddable"] {
        client.send(&get(path).from("US")).await.assert_served_by("there");
    }
    client.send(&get("/bound").from("US")).await.assert_overloaded();
    let shed = node.metrics().await.sum("meridian_shed_total", &[("reason", "region_full")]);
    assert_eq!(shed, Some(1.0));
    assert!(world.received("there").iter().all(|received| received.path != "/bound"));
    world.behave("here", &Behaviour::Normal);
    for request in held {
        request.await.expect("an answer").assert_served_by("here");
    }
    client.send(&get("/bound").from("US")).await.assert_served_by("here");
}

/// From 85 % on, long before it is full: the unimportant first, and of the next in proportion.
#[tokio::test]
async fn an_overloaded_region_spills_some_clients_and_keeps_the_others() {
    let world = World::of_regions(&[("here", "US"), ("there", "US")], ROUTES).await;
    let limits = "requests_in_flight_per_region = 200";
    // What is held for long counts as slow, which is not the question here.
    let table = world.table().replace("[failover]", "[failover]\nlatency_p99 = \"1h\"");
    let node = Setup::new("here", &table).section("limits", limits).start().await;
    let client = Client::http1(node.http());
    let kept = async |path: &str| {
        let mut kept = Vec::new();
        for subnet in 0..40 {
            let answer = client.send(&get(path).on_behalf_of(geo::address_v6("US", subnet))).await;
            if answer.region().as_deref() == Some("here") {
                kept.push(subnet);
            }
        }
        kept
    };
    stall(&world);
    assert_eq!(kept("/default").await.len(), 40);
    // 92.5 %: half of the way through the second of three bands.
    let held = hold(&node, 185).await;
    let spilled = eventually("the load is felt", async || {
        let kept = kept("/default").await;
        if (8..=32).contains(&kept.len()) { Ok(kept) } else { Err(format!("{kept:?}")) }
    })
    .await;
    assert_eq!(kept("/critical").await.len(), 40);
    assert_eq!(kept("/sheddable").await.len(), 0);
    let level = eventually("the load is level", async || {
        // Who is kept by its address leaves it as others do.
        let [one, by_address, two] = [kept("/default").await, kept("/by-address").await, kept("/default").await];
        if one == two && one == by_address { Ok(one) } else { Err(format!("{one:?} {by_address:?} {two:?}")) }
    })
    .await;
    assert!(level.iter().all(|client| spilled.contains(client)), "rising, it only spills more: {spilled:?} {level:?}");
    // What the law keeps here stays here, overloaded or not.
    client.send(&get("/bound").from("US")).await.assert_served_by("here");

    world.behave("here", &Behaviour::Normal);
    for request in held {
        request.await.expect("an answer").assert_served_by("here");
    }
    eventually("all are back", async || match kept("/sheddable").await.len() {
        40 => Ok(()),
        kept => Err(kept.to_string()),
    })
    .await;
    assert_eq!(kept("/by-address").await.len(), 40);
}

/// `/stalled` is not answered until told otherwise.
fn stall(world: &World) {
    world.origin("here").behave(|received| {
        if received.path == "/stalled" { Behaviour::Stall } else { Behaviour::Slow(Duration::ZERO) }
    });
}

/// So many more critical requests in flight.
async fn hold(node: &Node, count: usize) -> Vec<JoinHandle<Answer>> {
    let before = in_flight(node).await;
    let client = Client::http1(node.http());
    let send = |client: Client| async move { client.send(&get("/stalled").from("US")).await };
    let held = (0..count).map(|_| tokio::spawn(send(client.clone()))).collect();
    eventually("they are in flight", async || {
        let now = in_flight(node).await;
        if now == before + count as u64 { Ok(()) } else { Err(now.to_string()) }
    })
    .await;
    held
}

async fn in_flight(node: &Node) -> u64 {
    node.status().await["requests_in_flight"].as_u64().expect("a number")
}

const ROUTES: &str = r#"
[jurisdictions.us]
countries = ["US"]

[data_classes.bound]

[residency_defaults]
unlisted_jurisdiction = "allow"

[[residency]]
jurisdiction = "us"
data_classes = ["bound"]
allow = { regions = ["here"] }
transfer = "prohibited"

[[routes]]
name = "stalled"
path = "/stalled"
criticality = "critical"
data_class = "public"

[[routes]]
name = "critical"
path = "/critical"
criticality = "critical"
data_class = "public"

[[routes]]
name = "sheddable"
path = "/sheddable"
criticality = "sheddable"
data_class = "public"

[[routes]]
name = "by-address"
path = "/by-address"
affinity = { kind = "client_ip" }
data_class = "public"

[[routes]]
name = "bound"
path = "/bound"
data_class = "bound"

[[routes]]
name = "default"
data_class = "public"
"#;
