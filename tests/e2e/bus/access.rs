//! As whom a node connects, and how little it has to be allowed.

use std::time::Duration;

use async_nats::ConnectOptions;
use meridian_tests::{Authority, BusOperator, BusProbe, BusServer, Setup, eventually, get, nkey_seed, patiently};
use serde_json::json;

use super::{becomes, has, report, reports, routed, table, world};

/// All that a node publishes and subscribes to.
const PUBLISH: [&str; 6] = [
    "$JS.API.STREAM.INFO.KV_meridian",
    "$JS.API.CONSUMER.CREATE.KV_meridian",
    "$JS.API.DIRECT.GET.KV_meridian",
    "$JS.API.DIRECT.GET.KV_meridian.>",
    "$JS.FC.KV_meridian.>",
    "meridian.load.>",
];
const REPORT: &str = "$KV.meridian.nodes.a";
const SUBSCRIBE: [&str; 2] = ["_INBOX.>", "meridian.load.>"];

/// A node on this bus, as this somebody, gets its tables, reports, and leaves.
async fn follows(bus: &BusServer, setup: Setup) {
    let world = world().await;
    let probe = bus.probe().await;
    probe.create_bucket().await;
    let revision = probe.put("table", table(&world, "1")).await;
    let mut node = setup.start().await;
    has(&node, revision).await;
    let revision = probe.put("table", table(&world, "2")).await;
    has(&node, revision).await;
    reports(&probe, "a", "its report", |report| report["revision"] == revision).await;
    let log = node.log().all().join("\n");
    assert!(!log.to_lowercase().contains("permission"), "{log}");
    node.signal("TERM");
    node.exited().await;
    assert_eq!(report(&probe, "a").await, None);
}

/// The permissions in the server's words.
fn permissions(publish: &[&str]) -> String {
    format!("publish: {{ allow: {publish:?} }}\nsubscribe: {{ allow: {SUBSCRIBE:?} }}")
}

#[tokio::test]
async fn by_user_and_password() {
    let bus = BusServer::with().user("edge", "right").start().await;
    let setup = routed(&bus, "a", ", user = \"edge\", password_file = \"password\"");
    let mut node = setup.clone().file("password", "wrong\n").start_waiting().await;
    eventually("a reason", async || {
        let text = node.ask(&get("/ready")).await.text().to_lowercase();
        if text.contains("authorization violation") { Ok(()) } else { Err(text) }
    })
    .await;
    // The file is read at each attempt.
    node.replace("password", "right\n");
    let probe = bus.probe().await;
    probe.create_bucket().await;
    let world = world().await;
    let revision = probe.put("table", table(&world, "1")).await;
    node.serves().await;
    has(&node, revision).await;
}

#[tokio::test]
async fn by_a_password_in_the_address_which_is_not_shown() {
    let bus = BusServer::with().user("edge", "s3cr3t").start().await;
    let lines = format!("bus = {{ servers = [\"nats://edge:s3cr3t@{}\"] }}", bus.address());
    let node = Setup::new("eu", "").name("a").bus(&lines).start_waiting().await;
    becomes(&node, "a connection", |status| status["bus"]["servers"].as_str().is_some()).await;
    for path in ["/status", "/ready", "/metrics"] {
        let text = node.ask(&get(path)).await.text().to_owned();
        assert!(!text.contains("s3cr3t"), "{text}");
    }
    drop(node);
    follows(&bus, Setup::new("eu", "").name("a").bus(&lines)).await;
}

#[tokio::test]
async fn by_token() {
    let bus = BusServer::with().token("secret").start().await;
    follows(&bus, routed(&bus, "a", ", token_file = \"token\"").file("token", "secret\n")).await;
}

#[tokio::test]
async fn by_nkey_with_the_least_that_a_node_needs() {
    let seed = nkey_seed();
    let publish = [&PUBLISH[..], &[REPORT]].concat();
    let bus = BusServer::with().nkey(&seed).permissions(&permissions(&publish)).start().await;
    let probe = bus.probe().await;
    follows(&bus, routed(&bus, "a", ", nkey_file = \"seed\"").file("seed", seed.clone())).await;
    // It is not enough to publish, or to take others' reports away.
    let before = probe.get("table").await.expect("a table").sequence;
    let edge = BusProbe::connect(&bus.url(), ConnectOptions::with_nkey(seed)).await.expect("a connection");
    for subject in
        ["$KV.meridian.table", "$KV.meridian.rollout", "$KV.meridian.nodes.b", "$JS.API.STREAM.PURGE.KV_meridian"]
    {
        edge.client().publish(subject, "x".into()).await.expect("a connection");
    }
    let info = edge.client().request("$JS.API.STREAM.INFO.KV_meridian", "".into());
    patiently("an answer, in order", info).await.expect("what it may ask");
    assert_eq!(probe.get("table").await.expect("a table").sequence, before);
    assert!(probe.get("rollout").await.is_none() && probe.get("nodes.b").await.is_none());
}

#[tokio::test]
async fn by_credentials_with_the_least_that_a_node_needs() {
    let operator = BusOperator::default();
    let bus = BusServer::with().operator(&operator).start().await;
    let publish = [&PUBLISH[..], &[REPORT]].concat();
    let creds = operator.credentials_for(&json!({ "pub": { "allow": publish }, "sub": { "allow": SUBSCRIBE } }));
    follows(&bus, routed(&bus, "a", ", credentials = \"node.creds\"").file("node.creds", creds)).await;
}

#[tokio::test]
async fn a_node_that_may_not_report_follows_its_tables_at_once() {
    let bus = BusServer::with().user("edge", "right").permissions(&permissions(&PUBLISH)).start().await;
    let (probe, world) = (bus.probe().await, world().await);
    probe.create_bucket().await;
    let revision = probe.put("table", table(&world, "1")).await;
    let setup = routed(&bus, "a", ", user = \"edge\", password_file = \"password\"").file("password", "right");
    let mut node = setup.start().await;
    has(&node, revision).await;
    for version in ["2", "3"] {
        let began = std::time::Instant::now();
        let revision = probe.put("table", table(&world, version)).await;
        has(&node, revision).await;
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
    becomes(&node, "a word on it", |status| status["bus"]["notes"].to_string().contains("Permissions Violation")).await;
    assert_eq!(report(&probe, "a").await, None);
    node.signal("TERM");
    assert_eq!(node.exited().await.code(), Some(0));
}

#[tokio::test]
async fn over_tls_by_an_authority_of_its_own() {
    let authority = Authority::default();
    let certificate = authority.certify(&["127.0.0.1"]);
    let bus = BusServer::with().tls(&authority, &certificate).start().await;
    let setup = routed(&bus, "a", ", certificate_authorities = [\"ca.pem\"]");
    let stranger = setup.clone().file("ca.pem", Authority::default().pem()).start_waiting().await;
    eventually("a reason", async || {
        let text = stranger.ask(&get("/ready")).await.text().to_owned();
        if text.contains("certificate") { Ok(()) } else { Err(text) }
    })
    .await;
    follows(&bus, setup.file("ca.pem", authority.pem())).await;
}

#[tokio::test]
async fn a_right_that_is_missing_is_named() {
    let bus = BusServer::with().user("edge", "right").permissions(&permissions(&PUBLISH[..1])).start().await;
    bus.probe().await.create_bucket().await;
    let setup = routed(&bus, "a", ", user = \"edge\", password_file = \"password\"").file("password", "right");
    let node = setup.start_waiting().await;
    eventually("a reason", async || {
        let text = node.ask(&get("/ready")).await.text().to_owned();
        if text.contains("$JS.API.CONSUMER.CREATE.KV_meridian") { Ok(()) } else { Err(text) }
    })
    .await;
}
