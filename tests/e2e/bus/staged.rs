//! Staged tables: for the nodes that they name, while they are newer and their lease lasts.

use meridian_tests::Node;
use serde_json::Value;

use super::{Following, becomes, counted, has, refuses, reports, said, setup, table};

async fn stage(following: &Following, version: &str, nodes: &str, lease_ms: u32) -> u64 {
    let fields = [("Meridian-Nodes", nodes), ("Meridian-Lease-Ms", &lease_ms.to_string())];
    following.probe.put_raw("rollout", table(&following.world, version), said(&fields)).await
}

async fn is_staged(node: &Node, revision: u64) {
    let status = has(node, revision).await;
    assert_eq!(status["bus"]["table"]["staged"], true, "{status}");
    assert!(status["bus"]["staged_until"].as_u64().is_some(), "{status}");
}

async fn is_back(node: &Node, revision: u64) {
    let status = has(node, revision).await;
    assert_eq!(status["bus"]["table"]["staged"], false, "{status}");
    assert_eq!(status["bus"]["staged_until"], Value::Null, "{status}");
}

#[tokio::test]
async fn a_staged_table_is_in_force_where_it_is_named_until_it_is_over() {
    let mut following = Following::start().await;
    let other = setup(&following.bus, "b").start().await;
    has(&other, following.revision).await;
    let all = following.revision;

    // Withdrawn.
    let staged = stage(&following, "staged", "a,c", 60_000).await;
    is_staged(&following.node, staged).await;
    reports(&following.probe, "a", "a staged report", |report| {
        report["staged"] == true && report["revision"] == staged
    })
    .await;
    following.assert_serves().await;
    // A restart, of whatever kind, finds it again.
    following.node.restart("KILL").await;
    following.node.serves().await;
    is_staged(&following.node, staged).await;
    following.probe.delete("rollout").await;
    is_back(&following.node, all).await;
    assert_eq!(counted(&following.node, "returned").await, 1);

    // Its lease is over.
    let staged = stage(&following, "leased", "a", 1_500).await;
    is_staged(&following.node, staged).await;
    is_back(&following.node, all).await;

    // Another takes its place: for this node, then for others.
    let staged = stage(&following, "third", "a", 60_000).await;
    is_staged(&following.node, staged).await;
    let staged = stage(&following, "fourth", "a", 60_000).await;
    is_staged(&following.node, staged).await;
    stage(&following, "fifth", "c", 60_000).await;
    is_back(&following.node, all).await;

    // A newer table for all ends it.
    let staged = stage(&following, "sixth", "a", 60_000).await;
    is_staged(&following.node, staged).await;
    assert_eq!(other.status().await["table"]["revision"], all, "it is not for this one");
    let newer = following.publish("newer").await;
    is_back(&following.node, newer).await;
    has(&other, newer).await;
    assert_eq!(counted(&other, "staged").await, 0);
}

#[tokio::test]
async fn a_bad_staged_table_is_refused_where_it_is_named_and_forgotten_with_it() {
    let following = Following::start().await;
    let fields = said(&[("Meridian-Nodes", "a"), ("Meridian-Lease-Ms", "60000")]);
    let bad = following.probe.put_raw("rollout", "poison", fields).await;
    refuses(&following.node, bad).await;
    reports(&following.probe, "a", "a refusal", |report| {
        report["state"] == "rejected" && report["revision"] == following.revision
    })
    .await;
    following.probe.delete("rollout").await;
    reports(&following.probe, "a", "an end of it", |report| report["state"] == "applied").await;
    // One for nobody is no staged table.
    following.probe.put("rollout", table(&following.world, "for nobody")).await;
    becomes(&following.node, "a word on it", |status| {
        status["bus"]["notes"].to_string().contains("must say for which nodes")
    })
    .await;
    let staged = stage(&following, "good", "a", 60_000).await;
    is_staged(&following.node, staged).await;
    let status = becomes(&following.node, "no word on it", |status| {
        status["bus"]["notes"].as_array().is_some_and(Vec::is_empty)
    });
    status.await;
    following.assert_serves().await;
}
