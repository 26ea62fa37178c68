//! Active-passive: with us-east-1 down reads go to eu-west-1 and writes get 503. Active everywhere: data stays where
//! it belongs, and scores choose among what is left.

use loadtest::origin::Behaviour;
use meridian_tests::{Client, Node, Setup, World, eventually, geo, get, post, put};

#[tokio::test]
async fn the_copy_serves_reads_and_refuses_writes() {
    let world = World::of_example("cortex-active-passive").await;
    let (client, node) = start(&world, "us-east-1").await;
    node.all_up().await;
    for sent in [get("/api/v1/things"), put("/api/v1/things/1", "new"), post("/api/v1/search", "query")] {
        client.send(&sent.from("US")).await.assert_served_by("us-east-1");
    }
    world.kill("us-east-1").await;
    for _ in 0..20 {
        client.send(&get("/api/v1/things").from("US")).await.assert_served_by("eu-west-1");
        client.send(&post("/api/v1/search", "a POST that reads").from("US")).await.assert_served_by("eu-west-1");
        for write in [put("/api/v1/things/1", "newer"), post("/api/v1/things", "newest")] {
            let answer = client.send(&write.from("US")).await;
            assert_eq!(answer.status, 503, "{answer:?}");
            assert!(answer.header("retry-after").is_some(), "{answer:?}");
            assert_eq!(answer.region(), None);
        }
    }
    // A replica that is too far behind serves no reads either; one that catches up does.
    for (lag, served) in [("60.5", false), ("59", true), ("3600", false), ("0", true)] {
        replicate(&world, "eu-west-1", lag);
        eventually(&format!("reads at a lag of {lag} s"), async || {
            let answer = client.send(&get("/api/v1/things").from("US")).await;
            if (answer.status == 200) == served { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
    }
    for received in world.received("eu-west-1") {
        let reads = received.method == "GET" || received.path == "/api/v1/search";
        assert!(reads, "{received:?}");
    }
    assert!(world.received("ap-south-1").is_empty(), "it can do nothing");

    world.revive("us-east-1").await;
    eventually("us-east-1 writes again", async || {
        let answer = client.send(&put("/api/v1/things/1", "newest").from("US")).await;
        if answer.status == 200 { Ok(answer) } else { Err(format!("{answer:?}")) }
    })
    .await
    .assert_served_by("us-east-1");
}

/// Its probes answer that it lags by so many seconds.
fn replicate(world: &World, region: &str, lag: &str) {
    let answer = http::Response::builder().header("x-replication-lag", lag).body(bytes::Bytes::new());
    let answer = answer.expect("an answer");
    world.origin(region).behave(move |received| match received.path.as_str() {
        "/health" => Behaviour::Answer(answer.clone()),
        _ => Behaviour::Normal,
    });
}

#[tokio::test]
async fn data_stays_where_it_belongs() {
    let world = World::of_example("cortex").await;
    let (client, _node) = start(&world, "us-east-1").await;
    for (country, path, region) in [
        ("FR", "/api/v1/things", "eu-west-1"),
        ("CH", "/coordination/status", "eu-west-1"),
        ("CA", "/api/v1/things", "us-east-1"),
        ("MX", "/coordination/status", "us-east-1"),
        ("IN", "/coordination/status", "ap-south-1"),
        ("IN", "/api/v1/things", "ap-south-1"),
    ] {
        client.send(&get(path).from(country)).await.assert_served_by(region);
    }

    world.kill("eu-west-1").await;
    client.send(&get("/coordination/status").from("FR")).await.assert_refused(503, "residency_unavailable");
    client.send(&get("/api/v1/things").from("GB")).await.assert_refused(503, "residency_unavailable");
    world.kill("ap-south-1").await;
    client.send(&get("/coordination/status").from("IN")).await.assert_refused(503, "residency_unavailable");
    client.send(&post("/api/v1/things", "x").from("IN")).await.assert_refused(503, "residency_unavailable");
    // A read may use a copy abroad, as long as there is one at home.
    client.send(&get("/api/v1/things").from("IN")).await.assert_served_by("us-east-1");
    for received in world.received("us-east-1") {
        match received.header("x-client-country") {
            Some("IN") => assert_eq!((received.method.as_str(), received.path.as_str()), ("GET", "/api/v1/things")),
            country => assert!(matches!(country, Some("CA" | "MX")), "{received:?}"),
        }
    }
}

#[tokio::test]
async fn scores_choose_and_latency_bounds() {
    let world = World::of_example("cortex").await;
    let (client, node) = start(&world, "us-east-1").await;
    let explained = |path: &str| format!("/explain?country=CA&host=api.example.com&path={path}");
    let batch = node.ask(&get(&explained("/api/v1/batch"))).await.json();
    let shares: Vec<&serde_json::Value> =
        batch["regions"].as_array().expect("regions").iter().map(|region| &region["share"]).collect();
    assert_eq!(shares, [25, 35, 40], "{batch:#}");
    let interactive = node.ask(&get(&explained("/api/v1/interactive"))).await.json();
    assert_eq!(interactive["order"], serde_json::json!(["us-east-1", "eu-west-1"]), "ap-south-1 is 200 ms away");
    world.kill("us-east-1").await;
    client.send(&get("/api/v1/interactive").from("CA")).await.assert_served_by("eu-west-1");
    world.kill("eu-west-1").await;
    let answer = client.send(&get("/api/v1/interactive").from("CA")).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(world.received("ap-south-1").is_empty());
    // Where nothing bounds the distance, the farthest is better than none.
    client.send(&get("/api/v1/batch").from("CA")).await.assert_served_by("ap-south-1");
}

#[tokio::test]
async fn traffic_is_shared_among_those_that_may_serve_it() {
    let world = World::of_example("cortex").await;
    let (client, _node) = start(&world, "us-east-1").await;
    let mut connection = client.connect().await.expect("a connection");
    let mut counts = [0_u32; 3];
    for subnet in 0..200 {
        let answer = connection.send(&get("/api/v1/batch").on_behalf_of(geo::address_v6("JP", subnet))).await;
        let region = answer.region().expect("a region");
        counts
            [["us-east-1", "eu-west-1", "ap-south-1"].iter().position(|name| *name == region).expect("one of them")] +=
            1;
    }
    // Of 200 by 40/35/25: 80, 70 and 50, to three standard deviations.
    let near = counts.iter().zip([80_u32, 70, 50]).all(|(count, expected)| count.abs_diff(expected) <= 21);
    assert!(near, "{counts:?}");
}

#[tokio::test]
async fn an_unknown_client_is_treated_like_europes() {
    let world = World::of_example("cortex").await;
    let (client, _node) = start(&world, "us-east-1").await;
    for path in ["/coordination/status", "/api/v1/things"] {
        client.send(&get(path).on_behalf_of(geo::UNLISTED)).await.assert_served_by("eu-west-1");
    }
    world.assert_nothing_outside(&["eu-west-1"]);
}

async fn start(world: &World, region: &str) -> (Client, Node) {
    let node = Setup::new(region, world.table()).start().await;
    (Client::http1(node.http()), node)
}
