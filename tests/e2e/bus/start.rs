//! A node's start: from the bus, else from its snapshot, else it waits and says why.

use std::time::{Duration, Instant};

use meridian_tests::{BusServer, Client, Node, eventually, get};

use super::{Following, becomes, counted, has, setup, table};

/// Waits until `/ready` says this while there is no table.
async fn waits(node: &Node, why: &str) {
    eventually("a reason", async || {
        let answer = node.ask(&get("/ready")).await;
        let text = answer.text().to_owned();
        if answer.status == 503 && text.contains(why) { Ok(()) } else { Err(text) }
    })
    .await;
}

#[tokio::test]
async fn without_bus_and_snapshot_it_waits_and_refuses_connections() {
    let mut bus = BusServer::start().await;
    bus.kill();
    let mut node = setup(&bus, "a").plain().start_waiting().await;
    waits(&node, "Connection refused").await;
    waits(&node, "there is no snapshot").await;
    assert_eq!(node.ask(&get("/live")).await.status, 200);
    assert_eq!(node.ask(&get("/explain?path=/")).await.status, 503);
    let status = node.status().await;
    assert_eq!((&status["state"], &status["bus"]["connection"]["state"]), (&"waiting".into(), &"disconnected".into()));
    assert!(node.log().all().iter().all(|line| !line.contains("\"kind\":\"http\"")), "nothing else listens");
    let told = Instant::now();
    node.signal("TERM");
    assert_eq!(node.exited().await.code(), Some(0));
    assert!(told.elapsed() < Duration::from_secs(5), "{:?}", told.elapsed());
}

#[tokio::test]
async fn without_a_bus_it_serves_from_its_snapshot_until_the_bus_confirms_it() {
    let mut following = Following::start().await;
    following.bus.kill();
    let began = Instant::now();
    following.node.restart("TERM").await;
    following.node.serves().await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    following.assert_serves().await;
    let status = following.node.status().await;
    assert_eq!(status["table"]["revision"], following.revision, "{status}");
    assert_eq!(status["bus"]["table"]["from_snapshot"], true, "{status}");
    assert_eq!(following.node.ask(&get("/ready")).await.status, 200);
    following.bus.revive().await;
    let confirmed = |status: &serde_json::Value| status["bus"]["table"]["from_snapshot"] == false;
    becomes(&following.node, "the confirmation", confirmed).await;
    following.publish("next").await;
}

#[tokio::test]
async fn a_snapshot_that_was_changed_is_not_used() {
    let mut following = Following::start().await;
    following.bus.kill();
    let text = std::fs::read_to_string(following.node.path("last-good.toml")).expect("a snapshot");
    following.node.overwrite("last-good.toml", text.replacen("country = \"DE\"", "country = \"FR\"", 1));
    following.node.restart("KILL").await;
    waits(&following.node, "the hash differs").await;
    following.bus.revive().await;
    following.node.serves().await;
    has(&following.node, following.revision).await;
    following.assert_serves().await;
    // It is written beside all else.
    eventually("a snapshot that is whole again", async || {
        let healed = std::fs::read_to_string(following.node.path("last-good.toml")).expect("a snapshot");
        if healed == text { Ok(()) } else { Err(healed) }
    })
    .await;
}

#[tokio::test]
async fn a_bus_that_says_nothing_does_not_hold_up_a_start() {
    let mut following = Following::start().await;
    following.bus.stop();
    let began = Instant::now();
    following.node.restart("KILL").await;
    following.node.serves().await;
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    following.assert_serves().await;
    following.bus.go_on();
    following.publish("next").await;
}

#[tokio::test]
async fn a_newer_table_on_a_living_bus_wins_over_the_snapshot() {
    let mut following = Following::start().await;
    following.node.signal("STOP");
    let revision = following.probe.put("table", table(&following.world, "newer")).await;
    following.node.restart("KILL").await;
    following.node.serves().await;
    let status = has(&following.node, revision).await;
    assert_eq!(status["bus"]["table"]["from_snapshot"], false, "{status}");
    let log = following.node.log().all().join("\n");
    assert!(!log.contains("started from the snapshot"), "{log}");
}

/// The start's patience with a silent bus must not touch a bus that has answered.
#[tokio::test]
async fn a_start_that_goes_well_is_one_connection() {
    let following = Following::start().await;
    let seen = following.node.log().count();
    // Longer than any patience of the start: two renewals of its report.
    let mut heard = following.probe.subscribe("$KV.meridian.nodes.a").await;
    heard.next().await;
    heard.next().await;
    assert_eq!(following.node.status().await["bus"]["connection"]["sessions"], 1);
    assert_eq!(counted(&following.node, "applied").await, 1);
    let log = following.node.log().all();
    assert!(!log[seen..].iter().any(|line| line.contains("the config bus is away")), "{log:?}");
}

/// A bucket without a table is as good as no bus.
#[tokio::test]
async fn a_bucket_without_a_table_does_not_hold_up_a_start() {
    let mut following = Following::start().await;
    following.probe.delete("table").await;
    following.node.restart("KILL").await;
    following.node.serves().await;
    following.assert_serves().await;
    let status = becomes(&following.node, "a word on it", |status| {
        status["bus"]["ignored"].as_str().is_some_and(|why| why.contains("deleted"))
    });
    assert_eq!(status.await["bus"]["table"]["from_snapshot"], true);
    following.publish("again").await;
}

/// A node that never had a table takes the first that is published, at once.
#[tokio::test]
async fn an_empty_bus_is_waited_for() {
    let bus = BusServer::start().await;
    let mut node = setup(&bus, "a").start_waiting().await;
    waits(&node, "there is no bucket").await;
    let probe = bus.probe().await;
    probe.create_bucket().await;
    waits(&node, "there is no table on the bus").await;
    let bad = probe.put("table", "version = 1").await;
    waits(&node, &format!("revision {bad} was refused")).await;
    let world = super::world().await;
    let revision = probe.put("table", table(&world, "1")).await;
    node.serves().await;
    has(&node, revision).await;
    assert_eq!(Client::http1(node.http()).send(&get("/open")).await.status, 200);
}
