//! A publication with a canary that does not come to its end: its publisher is gone, told to stop, or overtaken.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use config::bus::{NodeState, Publication, Stage};
use meridian_tests::{BusPublisher, Node};
use serde_json::Value;

use super::becomes;
use super::canary::staged;
use super::edge::{Edge, assert_says};

/// For as long as no test lasts.
const LONG: [&str; 4] = ["--canary", "a-1", "--observe", "5m"];

async fn version(node: &Node) -> String {
    node.status().await["table"]["version"].as_str().expect("a version").to_owned()
}

#[tokio::test]
async fn without_its_publisher_the_canary_has_a_lease_and_nobody_else_publishes() {
    let (edge, a, _b) = Edge::with_two_nodes().await;
    let began = seconds();
    let mut publisher = staged(&edge, &["--canary", "a-1", "--observe", "2s", "--wait", "10s"]).await;
    publisher.signal("KILL");
    publisher.ended().await;
    let status = a.status().await;
    let until = status["bus"]["staged_until"].as_u64().expect("a time");
    // 2 s, 10 s and a minute.
    assert!((began + 71..=seconds() + 73).contains(&until), "from {began}: {status}");
    assert_eq!(version(&a).await, "2");
    for command in [&["publish"][..], &["publish", "--canary", "b-1"]] {
        let path = edge.write("routes.toml", &edge.table("3"));
        let ended = edge.run(&[command, &[&path, "--yes"]].concat()).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert_says(&ended.stderr, &["under way", "staged version \"2\"", "on a-1", "meridian rollback"]);
    }
    assert_eq!(edge.live().await, edge.table("1"));
}

/// The publisher is this test, which never comes back to it.
#[tokio::test]
async fn when_the_lease_is_over_the_canary_returns_by_itself() {
    let (edge, a, _b) = Edge::with_two_nodes().await;
    let stage = Stage { nodes: ["a-1".to_owned()].into(), lease: Duration::from_secs(2) };
    let issued_ms = seconds() * 1_000;
    let staged = Publication { stage: Some(stage), ..Publication::new(edge.table("2"), 1, issued_ms, "tests") };
    BusPublisher::connect(&edge.bus).await.bus().publish(&staged, 0).await.expect("a revision");
    a.logged_after(0, "the staged table lapsed").await;
    edge.all_have(&["a-1", "b-1"], "1").await;
    assert_eq!(version(&a).await, "1");
    // What is left of it on the bus is in nobody's way.
    edge.published("3").await;
    edge.all_have(&["a-1", "b-1"], "3").await;
}

#[tokio::test]
async fn somebody_else_can_withdraw_it() {
    let (edge, a, _b) = Edge::with_two_nodes().await;
    let mut publisher = staged(&edge, &LONG).await;
    publisher.signal("KILL");
    publisher.ended().await;
    let ended = edge.run(&["rollback", "--dry-run"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(version(&a).await, "2");
    let ended = edge.run(&["rollback"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_says(&ended.stdout, &["staged by", "it was withdrawn, and its node is back on the table of all"]);
    assert_eq!(version(&a).await, "1");
    assert_eq!(edge.live().await, edge.table("1"), "the table of all is as it was");

    // A publisher that still observes is told.
    let mut publisher = staged(&edge, &LONG).await;
    let ended = edge.run(&["rollback"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ended = publisher.ended().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_says(&ended.stderr, &["not published: somebody else withdrew it"]);
    edge.all_have(&["a-1", "b-1"], "1").await;
}

#[tokio::test]
async fn an_interrupted_publisher_withdraws_first() {
    let (edge, a, _b) = Edge::with_two_nodes().await;
    for signal in ["INT", "TERM"] {
        let mut publisher = staged(&edge, &LONG).await;
        publisher.signal(signal);
        let ended = publisher.ended().await;
        assert_eq!(ended.code, Some(1), "{signal}: {ended:?}");
        assert_says(&ended.stderr, &["not published: interrupted", "its node is back on the table of all"]);
        assert_eq!(version(&a).await, "1");
        assert!(!edge.is_anything_staged().await);
    }
    let report = edge.report("a-1").await;
    assert_eq!((report.state, report.staged), (NodeState::Applied, false), "{report:?}");
}

#[tokio::test]
async fn an_interrupted_wait_says_what_is_published() {
    let (edge, _a, b) = Edge::with_two_nodes().await;
    b.signal("STOP");
    let mut publisher = edge.start_publish(&edge.table("2"), &["--yes", "--format", "json"]);
    publisher.stderr().find("progress", |line| line.contains("1 of 2 nodes applied")).await;
    publisher.signal("INT");
    let ended = publisher.ended().await;
    b.signal("CONT");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_says(
        &ended.stderr,
        &["interrupted; revision", "is published, and `meridian fleet` shows which nodes have it"],
    );
    let outcome: Value = serde_json::from_str(&ended.stdout).expect("a document");
    assert_eq!(outcome["outcome"], "published", "{outcome}");
    edge.all_have(&["a-1", "b-1"], "2").await;
}

#[tokio::test]
async fn garbage_in_the_place_of_a_staged_table_can_be_taken_away() {
    let (edge, a, _b) = Edge::with_two_nodes().await;
    edge.bus.probe().await.put("rollout", "garbage").await;
    becomes(&a, "a word on it", |status| status["bus"]["notes"].to_string().contains("the staged table")).await;
    let ended = edge.run(&["rollback", "--staged"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_says(&ended.stdout, &["was deleted"]);
    becomes(&a, "no word on it", |status| status["bus"]["notes"] == serde_json::json!([])).await;
    assert_eq!(version(&a).await, "1");
}

#[tokio::test]
async fn another_publication_ends_the_trial_and_stays() {
    let (edge, _a, _b) = Edge::with_two_nodes().await;
    let mut publisher = staged(&edge, &LONG).await;
    // Meridian's own publishers wait; other tools of the bus do not.
    let mut other = BusPublisher::connect(&edge.bus).await;
    other.publish(&edge.table("3")).await;
    let ended = publisher.ended().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_says(&ended.stderr, &["was published meanwhile by tests"]);
    edge.all_have(&["a-1", "b-1"], "3").await;
    assert_eq!(edge.live().await, edge.table("3"));
    assert!(!edge.is_anything_staged().await);
}

#[tokio::test]
async fn a_bus_that_is_away_for_a_while_ends_no_trial() {
    let (mut edge, _a, _b) = Edge::with_two_nodes().await;
    let mut publisher = staged(&edge, &["--canary", "a-1", "--observe", "4s", "--min-requests", "0"]).await;
    edge.bus.kill();
    edge.bus.revive().await;
    let ended = publisher.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    edge.all_have(&["a-1", "b-1"], "2").await;
}

/// Since 1970.
fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs()
}
