//! What nodes say of themselves on the bus.

use std::time::Duration;

use meridian_tests::{BusPublisher, BusServer, eventually};

use super::{Following, becomes, has, report, reports, setup};

#[tokio::test]
async fn who_is_told_to_go_takes_its_report_along() {
    let mut following = Following::start().await;
    let told = reports(&following.probe, "a", "a report", |report| report["state"] == "applied").await;
    assert_eq!((&told["region"], &told["revision"]), (&"eu".into(), &following.revision.into()), "{told}");
    let log = following.probe.get("table").await.expect("a table");
    assert_eq!(told["sha256"].as_str().map(str::len), Some(64), "{told} of {log:?}");
    following.node.signal("TERM");
    assert_eq!(following.node.exited().await.code(), Some(0));
    assert_eq!(report(&following.probe, "a").await, None);

    // The same while it waits for its first table.
    let bus = BusServer::start().await;
    let probe = bus.probe().await;
    probe.create_bucket().await;
    let mut node = setup(&bus, "b").start_waiting().await;
    reports(&probe, "b", "a report of waiting", |report| report["state"] == "waiting").await;
    node.signal("TERM");
    assert_eq!(node.exited().await.code(), Some(0));
    assert_eq!(report(&probe, "b").await, None);
}

#[tokio::test]
async fn two_nodes_of_one_name_say_so() {
    let following = Following::start().await;
    let second = setup(&following.bus, "a").start().await;
    has(&second, following.revision).await;
    for node in [&following.node, &second] {
        becomes(node, "a word on the name", |status| {
            status["bus"]["notes"].to_string().contains("another process reports as node")
        })
        .await;
    }
    eventually("a report that says so", async || {
        let report = report(&following.probe, "a").await.unwrap_or_default();
        if report["notes"].to_string().contains("another process") { Ok(()) } else { Err(report.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn expired_reports_are_pruned_and_leave_nothing_behind() {
    let bus = BusServer::start().await;
    let (probe, publisher) = (bus.probe().await, BusPublisher::connect(&bus).await);
    probe.put("nodes.dead", "{}").await;
    probe.put("nodes.left", "{}").await;
    probe.delete("nodes.left").await;
    let table = probe.put("table", "a table").await;
    assert_eq!(publisher.bus().prune(Duration::from_secs(3600)).await.expect("an answer"), 0);
    assert_eq!(publisher.bus().prune(Duration::ZERO).await.expect("an answer"), 2);
    assert_eq!(probe.stream().await.cached_info().state.messages, 1);
    assert_eq!(probe.get("table").await.expect("the table").sequence, table);
}

/// A restart under the same name is no second node.
#[tokio::test]
async fn a_restart_is_no_namesake() {
    let mut following = Following::start().await;
    reports(&following.probe, "a", "a report", |_| true).await;
    following.node.restart("KILL").await;
    following.node.serves().await;
    let mut heard = following.probe.subscribe("$KV.meridian.nodes.a").await;
    heard.next().await;
    heard.next().await;
    let status = following.node.status().await;
    assert_eq!(status["bus"]["notes"], serde_json::json!([]), "{status}");
}
