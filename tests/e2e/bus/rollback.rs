//! `meridian rollback`, `history` and `fleet`: what was there, what is there, and back again.

use serde_json::{Value, json};

use super::edge::{Edge, assert_says};

#[tokio::test]
async fn earlier_tables_come_back_by_default_and_by_revision() {
    let (edge, _a, _b) = Edge::with_two_nodes().await;
    edge.published("2").await;
    edge.published("3").await;
    let (_, history) = edge.json(&["history"]).await;
    let revisions: Vec<String> =
        history.as_array().expect("rows").iter().map(|row| row["revision"].to_string()).collect();
    let versions: Vec<_> = history.as_array().expect("rows").iter().map(|row| &row["version"]).collect();
    assert_eq!(versions, ["3", "2", "1"]);

    let ended = edge.run(&["rollback"]).await;
    assert_eq!(ended.code, Some(2), "nobody was asked: {ended:?}");
    let ended = edge.run(&["rollback", "--dry-run"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(edge.live().await, edge.table("3"));

    let ended = edge.run(&["rollback", "--yes"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    edge.all_have(&["a-1", "b-1"], "2").await;
    let first = revisions.last().expect("a revision");
    let ended = edge.run(&["rollback", "--to", first, "--yes", "--note", "all the way"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    edge.all_have(&["a-1", "b-1"], "1").await;
    assert_eq!(edge.live().await, edge.table("1"));

    let ended = edge.run(&["rollback", "--to", "4711", "--yes"]).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_says(&ended.stderr, &["4711", first]);
    let ended = edge.run(&["rollback", "--to", first, "--yes"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_says(&ended.stdout, &["nothing to publish"]);

    let (_, history) = edge.json(&["history"]).await;
    let rows = history.as_array().expect("rows");
    let live: Vec<_> = rows.iter().map(|row| row["live"] == true).collect();
    assert_eq!(live, [true, false, false, false, false], "{history}");
    assert_eq!(rows[0]["note"], format!("rollback to revision {first}: all the way"));
    let text = edge.run(&["history"]).await.stdout;
    let live = format!("{} live", rows[0]["revision"]);
    assert!(text.lines().nth(1).is_some_and(|line| line.starts_with(&live) && line.ends_with("all the way")), "{text}");
    assert_eq!(text.matches(" live").count(), 1, "{text}");
}

#[tokio::test]
async fn a_deleted_table_comes_back_and_the_nodes_keep_it_meanwhile() {
    let (edge, a, _b) = Edge::with_two_nodes().await;
    edge.bus.probe().await.delete("table").await;
    let history = edge.run(&["history"]).await.stdout;
    assert!(history.lines().nth(1).is_some_and(|line| line.contains("deleted")), "{history}");
    assert!(!history.contains("live"), "{history}");
    assert_says(&edge.run(&["fleet"]).await.stdout, &["2 nodes: there is no table on the bus"]);
    assert_eq!(a.status().await["table"]["version"], "1");
    let ended = edge.run(&["rollback", "--yes"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_says(&ended.stdout, &["is in force on 2 nodes"]);
    assert_eq!(edge.live().await, edge.table("1"));
}

#[tokio::test]
async fn a_bus_with_nothing_on_it_says_so() {
    let edge = Edge::new().await;
    let ended = edge.run(&["rollback", "--yes"]).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_says(&ended.stderr, &["no table on the bus to go back to"]);
    assert_says(&edge.run(&["history"]).await.stdout, &["nothing was published here yet"]);
    assert_says(&edge.run(&["fleet"]).await.stdout, &["no node reports; there is no table on the bus"]);
    edge.bus.probe().await.delete_bucket().await;
    let ended = edge.run(&["history"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_says(&ended.stderr, &["no bucket \"meridian\"", "meridian publish"]);
}

#[tokio::test]
async fn the_fleet_is_shown_and_a_node_behind_fails_a_pipeline() {
    let (edge, _a, b) = Edge::with_two_nodes().await;
    let (code, fleet) = edge.json(&["fleet", "--fail-on", "rejected,lagging,silent"]).await;
    assert_eq!(code, Some(0), "{fleet}");
    let live = fleet["live"]["revision"].clone();
    for (row, (name, region)) in fleet["nodes"].as_array().expect("nodes").iter().zip([("a-1", "a"), ("b-1", "b")]) {
        let found = (&row["node"], &row["region"], &row["revision"], &row["state"], &row["lag"]);
        assert_eq!(found, (&name.into(), &region.into(), &live, &json!(["applied"]), &json!(null)), "{row}");
    }
    assert_says(&edge.run(&["fleet"]).await.stdout, &["NODE", "a-1", "2 nodes: 2 on revision"]);

    // A node that does not run takes no table, and is waited for no longer than was said.
    b.signal("STOP");
    let ended = edge.publish(&edge.table("2"), &["--yes", "--wait", "1s"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_says(&ended.stderr, &["after 1s 1 of 2 nodes have not said that they have it: b-1 (on revision"]);
    let (code, fleet) = edge.json(&["fleet", "--fail-on", "lagging"]).await;
    assert_eq!((code, &fleet["nodes"][1]["lag"]["publications"]), (Some(1), &1.into()), "{fleet}");
    b.signal("CONT");
    edge.all_have(&["a-1", "b-1"], "2").await;
    assert_eq!(edge.run(&["fleet", "--fail-on", "lagging"]).await.code, Some(0));
}

#[tokio::test]
async fn a_fleet_that_is_watched_is_shown_as_it_changes() {
    let (edge, _a, _b) = Edge::with_two_nodes().await;
    let mut documents = edge.start(&["fleet", "--watch", "--format", "json"]);
    let mut text = edge.start(&["fleet", "--watch"]);
    documents.stdout().find("both nodes", |line| revisions(line) == [1, 1]).await;
    text.stdout().find("both nodes", |line| line.contains("2 nodes: 2 on revision 1")).await;
    edge.published("2").await;
    let all = |line: &str| matches!(revisions(line)[..], [first, second] if first == second && first > 1);
    documents.stdout().find("the next table on both", all).await;
    text.stdout()
        .find("the next table on both", |line| line.starts_with("2 nodes: 2 on") && line.contains("\"2\""))
        .await;
    for watching in [&mut documents, &mut text] {
        watching.signal("INT");
        assert_eq!(watching.ended().await.code, Some(0));
    }
}

/// Each node's revision in a picture of the fleet.
fn revisions(line: &str) -> Vec<u64> {
    let picture: Value = serde_json::from_str(line).expect("a document a line");
    let nodes = picture["nodes"].as_array().expect("nodes");
    nodes.iter().filter_map(|node| node["revision"].as_u64()).collect()
}
