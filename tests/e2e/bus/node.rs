//! A node that takes its table from the bus.

use meridian_tests::{BusServer, Client, Node, Setup, World, eventually, get};
use serde_json::Value;

/// A node of region `eu` with a snapshot.
fn setup(bus: &BusServer, name: &str) -> Setup {
    let routing = format!("bus = {{ servers = [\"{}\"], snapshot = \"last-good.toml\" }}", bus.url());
    Setup::new("eu", "").name(name).bus(&routing)
}

fn table(world: &World, version: &str) -> String {
    world.table().replace("version = \"1\"", &format!("version = \"{version}\""))
}

async fn world() -> World {
    let routes = "[[routes]]\nname = \"all\"\n";
    World::of_regions(&[("eu", "DE"), ("us", "US")], routes).await
}

/// Waits until the node has this revision in force.
async fn has(node: &Node, revision: u64) -> Value {
    eventually("the revision in force", async || {
        let status = node.status().await;
        if status["table"]["revision"] == revision { Ok(status) } else { Err(status["bus"].to_string()) }
    })
    .await
}

#[tokio::test]
async fn a_node_without_a_table_is_not_ready_and_says_why() {
    let world = world().await;
    let bus = BusServer::start().await;
    let mut node = setup(&bus, "a").start_waiting().await;
    let ready = node.ask(&get("/ready")).await;
    assert_eq!(ready.status, 503);
    eventually("a reason", async || {
        let text = node.ask(&get("/ready")).await.text().to_owned();
        if text.contains("there is no bucket") { Ok(()) } else { Err(text) }
    })
    .await;
    let probe = bus.probe().await;
    probe.create_bucket().await;
    let revision = probe.put("table", table(&world, "1").into_bytes()).await;
    node.serves().await;
    has(&node, revision).await;
    assert_eq!(node.ask(&get("/ready")).await.status, 200);
    assert_eq!(Client::http1(node.http()).send(&get("/")).await.status, 200);
}
