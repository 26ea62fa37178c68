//! `meridian publish --canary`: some nodes have the table first, and all of them only if those do well.

use http::StatusCode;
use loadtest::origin::Behaviour;
use loadtest::{Observation, RequestSpec, Target};
use meridian_tests::load::{Load, assert_all_served, status};
use meridian_tests::{Node, Running, World};
use serde_json::{Value, json};

use super::counted;
use super::edge::{Edge, REGIONS, assert_says, versioned, without, world};

/// Clients of one node, a few of them.
fn clients(node: &Node) -> Load {
    Load::start(Target::http1(node.http()), RATE, |_| RequestSpec::get("api.example.com", "/"))
}

#[tokio::test]
async fn a_good_table_is_promoted_and_no_client_notices() {
    let (edge, a, b) = Edge::with_two_nodes().await;
    let loads = [clients(&a), clients(&b)];
    let mut publisher =
        edge.start_publish(&edge.table("2"), &["--yes", "--canary", "a-1", "--observe", "2s", "--min-requests", "10"]);
    publisher.stdout().find("the staged table", |line| line.starts_with("staged as revision")).await;
    publisher.stderr().find("the observation", |line| line.starts_with("observing, ")).await;
    assert_eq!(a.status().await["table"]["version"], "2");
    assert_eq!(b.status().await["table"]["version"], "1");
    assert_says(&edge.run(&["fleet"]).await.stdout, &["1 staged"]);
    let ended = publisher.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_says(&ended.stdout, &["on 1 of 2 nodes: a-1", "is in force on 2 nodes"]);
    assert!(!ended.stderr.contains("NOTHING WAS OBSERVED"), "{ended:?}");
    edge.all_have(&["a-1", "b-1"], "2").await;
    assert!(!edge.is_anything_staged().await);
    assert_eq!(counted(&a, "returned").await, 0, "its nodes go from the staged table to the promoted one");
    for load in loads {
        load.more(5, "answers after it", |_| true).await;
        assert_all_served(&load.stop().await);
    }
}

#[tokio::test]
async fn a_table_whose_origins_answer_500_is_rolled_back_and_only_the_canary_saw_it() {
    let bad = world().await;
    for (region, _) in REGIONS {
        bad.behave(region, &Behaviour::Status(StatusCode::INTERNAL_SERVER_ERROR));
    }
    let (canary, others, outcome) = rolled_back(&bad, &["--canary", "b", "--observe", "2s"]).await;
    assert_eq!(outcome["objections"][0]["finding"]["signal"], "errors", "{outcome}");
    assert!(canary.iter().any(|seen| status(seen) == Some(500)), "the canary has tried it");
    assert_all_served(&others);
    assert_eq!(outcome["canary"], json!(["b-1"]), "{outcome}");
}

#[tokio::test]
async fn a_table_whose_origins_refuse_connections_is_rolled_back_and_only_the_canary_saw_it() {
    let bad = world().await;
    for (region, _) in REGIONS {
        bad.kill(region).await;
    }
    // An error for each request until the probes have found the origins dead, and then nobody is left to serve.
    let (canary, others, _) = rolled_back(&bad, &["--canary", "b-1", "--observe", "5m"]).await;
    let is_error = |seen: &Observation| status(seen).is_some_and(|status| status >= 500);
    assert!(canary.iter().any(is_error), "the canary has tried it");
    assert_all_served(&others);
}

/// Publishes a bad table on the canary b-1 while clients send to both nodes. Gives what those of the canary and those
/// of the other node saw, and the outcome.
async fn rolled_back(bad: &World, canary: &[&str]) -> (Vec<Observation>, Vec<Observation>, Value) {
    let (edge, a, b) = Edge::with_two_nodes().await;
    let loads = [clients(&b), clients(&a)];
    for load in &loads {
        load.more(20, "answers before it", |_| true).await;
    }
    let more = [&["--yes", "--format", "json"], canary].concat();
    let ended = edge.publish(&versioned(bad, "bad"), &more).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_says(
        &ended.stderr,
        &["staged table was not published", " %) with the staged table, ", "back on the table of all"],
    );
    let outcome: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!(outcome["outcome"], "withdrawn", "{outcome}");
    let counted = &outcome["objections"][0]["finding"]["staged"]["cases"];
    assert!(counted.is_object(), "{outcome}");
    assert_eq!(edge.live().await, edge.table("1"));
    assert!(!edge.is_anything_staged().await);
    edge.all_have(&["a-1", "b-1"], "1").await;
    let [canary, others] = loads;
    let at_last = canary.ended();
    canary.more(20, "answers after it", |seen| status(seen) == Some(200)).await;
    let (canary, others) = (canary.stop().await, others.stop().await);
    assert!(canary.len() > at_last);
    (canary, others, outcome)
}

#[tokio::test]
async fn a_table_that_the_canary_rejects_goes_no_further() {
    let (edge, a, b) = Edge::with_two_nodes().await;
    let ended = edge.publish(&without(&edge.table("2"), "b"), &["--yes", "--canary", "b,a-1"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_says(&ended.stdout, &["on 2 of 2 nodes: a-1, b-1"]);
    assert_says(&ended.stderr, &["b-1 rejects it: ", "staged table was not published", "it was withdrawn"]);
    edge.all_have(&["a-1", "b-1"], "1").await;
    assert_eq!(edge.live().await, edge.table("1"));
    for node in [a, b] {
        assert_eq!(node.status().await["table"]["version"], "1");
    }
    // What was wrong with the staged table is of no interest any more.
    let fleet = edge.run(&["fleet", "--fail-on", "rejected,lagging,silent"]).await;
    assert_eq!(fleet.code, Some(0), "{fleet:?}");
}

#[tokio::test]
async fn whoever_is_no_canary_is_told_with_the_nearest() {
    let (edge, _a, _b) = Edge::with_two_nodes().await;
    for (canary, words) in [
        ("a-2", &["a-2", "did you mean \"a-1\"?"][..]),
        ("a-1,mars", &["\"mars\"", "there are a, a-1, b, b-1"]),
        ("0%", &["0%"]),
        ("101%", &["at most 100%"]),
    ] {
        let ended = edge.publish(&edge.table("2"), &["--yes", "--canary", canary]).await;
        assert_eq!(ended.code, Some(2), "{canary}: {ended:?}");
        assert_says(&ended.stderr, words);
    }
    let ended = edge.publish(&edge.table("2"), &["--canary", "50%"]).await;
    assert_eq!(ended.code, Some(2), "nobody was asked: {ended:?}");
    assert_says(&ended.stderr, &["stage a revision after 1 on 1 of 2 nodes ("]);
    assert!(edge.bus.probe().await.get("rollout").await.is_none(), "nothing was written");
    assert_eq!(edge.live().await, edge.table("1"));
}

#[tokio::test]
async fn a_canary_without_clients_proves_little() {
    let (edge, _a, _b) = Edge::with_two_nodes().await;
    let brief = ["--yes", "--canary", "a-1", "--observe", "1s"];
    let ended = edge.publish(&edge.table("2"), &[&brief[..], &["--min-requests", "1"]].concat()).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_says(&ended.stderr, &["0 requests came to the canary, and --min-requests asks for 1"]);
    edge.all_have(&["a-1", "b-1"], "1").await;
    let unseen = [&brief[..], &["--min-requests", "0"]].concat();
    let ended = edge.publish(&edge.table("2"), &unseen).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_says(&ended.stderr, &["NOTHING WAS OBSERVED"]);
    edge.all_have(&["a-1", "b-1"], "2").await;
}

#[tokio::test]
async fn a_canary_that_dies_takes_its_table_along() {
    let (edge, a, _b) = Edge::with_two_nodes().await;
    let mut publisher = staged(&edge, &["--canary", "a-1", "--observe", "5m", "--wait", "3s"]).await;
    a.signal("KILL");
    let ended = publisher.ended().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_says(&ended.stderr, &["a-1 no longer reports", "no node that had it reports any more"]);
    edge.assert_good("b-1", "1").await;
    assert!(!edge.is_anything_staged().await);
}

/// A publisher of version 2 that observes its canary.
pub(super) async fn staged(edge: &Edge, canary: &[&str]) -> Running {
    let publisher = edge.start_publish(&edge.table("2"), &[&["--yes"], canary].concat());
    publisher.stderr().find("the observation", |line| line.starts_with("observing, ")).await;
    publisher
}

/// Requests a second of each node.
const RATE: f64 = 40.0;
