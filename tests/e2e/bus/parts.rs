//! Parts of a node that follows the bus, when they end by themselves.

use meridian_tests::{BusServer, Client, get};

use super::{has, kept, routed, table, world};
use crate::supervision::counted;

#[tokio::test]
async fn a_part_that_panics_is_started_again() {
    for task in ["snapshot", "crash-loop", "bus-loads"] {
        let bus = BusServer::start().await;
        let (world, probe) = (world().await, bus.probe().await);
        probe.create_bucket().await;
        let revision = probe.put("table", table(&world, "first")).await;
        let mut node = routed(&bus, "a", "").environment("MERIDIAN_TEST_PANIC", task).start().await;
        has(&node, revision).await;
        counted(&node, task).await;
        let revision = probe.put("table", table(&world, "second")).await;
        has(&node, revision).await;
        kept(&node, "second").await;
        node.signal("TERM");
        assert_eq!(node.exited().await.code(), Some(0), "{task}");
    }
}

#[tokio::test]
async fn the_thread_of_the_bus_takes_the_node_with_it() {
    let bus = BusServer::start().await;
    let (world, probe) = (world().await, bus.probe().await);
    probe.create_bucket().await;
    probe.put("table", table(&world, "first")).await;
    let mut node = routed(&bus, "a", "").environment("MERIDIAN_TEST_PANIC", "bus").start().await;
    node.logged_after(0, "the thread \"bus\" has panicked: the node ends").await;
    assert_eq!(node.exited().await.code(), Some(1));
}

/// There is nothing to reload yet, and no reason to end.
#[tokio::test]
async fn a_hangup_does_not_end_the_wait_for_a_table() {
    let bus = BusServer::start().await;
    let (world, probe) = (world().await, bus.probe().await);
    probe.create_bucket().await;
    let mut node = routed(&bus, "a", "").start_waiting().await;
    node.signal("HUP");
    node.logged_after(0, "SIGHUP").await;
    assert_eq!(node.status().await["state"], "waiting");
    let revision = probe.put("table", table(&world, "first")).await;
    node.serves().await;
    has(&node, revision).await;
    Client::http1(node.http()).send(&get("/open")).await.assert_served_by("eu");
}
