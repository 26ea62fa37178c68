//! Standby regions: wanted when their primary is lost, promoted after their time, released when it is back.

use meridian_tests::{Client, Node, Setup, World, eventually, get};
use serde_json::Value;

const REGIONS: &[(&str, &str)] = &[("main", "DE"), ("late", "DE"), ("spare", "DE"), ("other", "US")];

const REST: &str = "[[routes]]\nname = \"all\"\n[failover]\nfailback_delay = \"0s\"\nramp = [100]\n";

/// One standby takes clients as soon as it is wanted, the other, which comes before it, in an hour.
async fn start() -> (World, Node, Client) {
    let world = World::probed_often(REGIONS, REST).await;
    let standby = |priority: u8, after: &str| {
        let line = format!("priority = {priority}\n");
        (line.clone(), format!("{line}role = \"warm\"\nstandby = {{ promote_after = \"{after}\", of = [\"main\"] }}\n"))
    };
    let ((late, late_standby), (spare, spare_standby)) = (standby(1, "1h"), standby(2, "0s"));
    let table = world.table().replacen(&late, &late_standby, 1).replacen(&spare, &spare_standby, 1);
    let node = Setup::new("main", &table).start().await;
    node.all_up().await;
    let client = Client::http1(node.http());
    (world, node, client)
}

/// What `/status` says of a region as a standby, and the gauge.
async fn standing(node: &Node, name: &str) -> (String, Option<f64>) {
    let status = node.status().await;
    let region = status["regions"].as_array().expect("regions").iter().find(|region| region["name"] == name);
    let standby = region.expect("the region")["standby"].as_str().unwrap_or("none").to_owned();
    (standby, node.metrics().await.sum("meridian_region_wanted", &[("region", name)]))
}

async fn becomes(node: &Node, name: &str, wanted: (&str, Option<f64>)) {
    eventually(&format!("{name} is {wanted:?}"), async || {
        let found = standing(node, name).await;
        if (found.0.as_str(), found.1) == wanted { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_standby_is_wanted_at_once_and_takes_clients_after_its_time() {
    let (world, node, client) = start().await;
    for (name, standing) in
        [("main", ("none", None)), ("late", ("unwanted", Some(0.0))), ("spare", ("unwanted", Some(0.0)))]
    {
        becomes(&node, name, standing).await;
    }
    client.send(&get("/")).await.assert_served_by("main");
    let skipped = node.log().count();
    world.kill("main").await;
    // Before anybody is promoted the next of the others serves, though both standbys come before it.
    client.send(&get("/")).await.assert_served_by("other");
    becomes(&node, "spare", ("promoted", Some(1.0))).await;
    becomes(&node, "late", ("wanted", Some(1.0))).await;
    let line: Value = node.logged_after(skipped, "standby changed").await;
    let text = line.to_string();
    assert!(text.contains("\"stands_in_for\":\"main\""), "{text}");
    for _ in 0..20 {
        client.send(&get("/")).await.assert_served_by("spare");
    }
    let explained = node.ask(&get("/explain?country=DE")).await.json();
    assert!(explained["regions"].to_string().contains("not promoted: after all others"), "{explained:#}");
    assert!(world.received("late").is_empty());
    // The last resort of whom nothing else is left to.
    world.kill("spare").await;
    world.kill("other").await;
    eventually("the standby that is yet to be promoted serves", async || {
        let answer = client.send(&get("/")).await;
        if answer.region().as_deref() == Some("late") { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    world.revive("spare").await;
    world.revive("main").await;
    becomes(&node, "spare", ("unwanted", Some(0.0))).await;
    becomes(&node, "late", ("unwanted", Some(0.0))).await;
    client.send(&get("/")).await.assert_served_by("main");
}

#[tokio::test]
async fn a_table_that_drains_the_primary_wants_its_standby_and_one_without_standbys_none() {
    let (world, node, _client) = start().await;
    becomes(&node, "late", ("unwanted", Some(0.0))).await;
    let table = std::fs::read_to_string(node.path("routes.toml")).expect("the table");
    node.replace("routes.toml", table.replacen("priority = 0\n", "priority = 0\nstate = \"draining\"\n", 1));
    becomes(&node, "late", ("wanted", Some(1.0))).await;
    node.replace("routes.toml", world.table());
    becomes(&node, "late", ("none", None)).await;
}
