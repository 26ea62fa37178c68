//! Several nodes on one bus: each has each table, and the clients notice nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use config::bus::NodeState;
use loadtest::{RequestSpec, Target};
use meridian_tests::load::{Load, assert_all_served};
use meridian_tests::{BusPublisher, BusServer, Node, Published, Setup, World};

const REGIONS: [(&str, &str); 5] = [("us", "US"), ("ie", "IE"), ("de", "DE"), ("br", "BR"), ("in", "IN")];

async fn world() -> World {
    World::of_regions(&REGIONS, "[[routes]]\nname = \"all\"\n").await
}

fn table(world: &World, version: u32) -> String {
    world.table().replace("version = \"1\"", &format!("version = \"{version}\""))
}

/// A node in each region, by its name. They wait for their first table.
async fn start(bus: &BusServer) -> BTreeMap<String, Node> {
    let mut nodes = BTreeMap::new();
    for (region, _) in REGIONS {
        let (name, routing) = (format!("{region}-1"), format!("bus = {{ servers = [\"{}\"] }}", bus.url()));
        nodes.insert(name.clone(), Setup::new(region, "").name(&name).bus(&routing).start_waiting().await);
    }
    nodes
}

/// Waits until every node has reported that it has this table in force.
async fn is_everywhere(publisher: &mut BusPublisher, published: &Published, nodes: &BTreeMap<String, Node>) {
    let names: BTreeSet<String> = nodes.keys().cloned().collect();
    let seen = publisher.propagation(published, &names, PATIENCE).await;
    assert!(seen.missing.is_empty(), "revision {}: {:#?}", published.revision, seen.missing);
}

#[tokio::test]
async fn every_node_has_the_table_and_reports_it() {
    let (world, bus) = (world().await, BusServer::start().await);
    let mut publisher = BusPublisher::connect(&bus).await;
    let mut nodes = start(&bus).await;
    let published = publisher.publish(&table(&world, 7)).await;
    is_everywhere(&mut publisher, &published, &nodes).await;
    let reports = publisher.bus().reports().await.expect("reports");
    let regions: BTreeSet<(&str, &str)> = reports.iter().map(|(r, _)| (r.region.as_str(), r.node.as_str())).collect();
    let expected = REGIONS.map(|(region, _)| (region, format!("{region}-1")));
    assert_eq!(regions, expected.iter().map(|(region, node)| (*region, node.as_str())).collect());
    for (report, _) in &reports {
        let found = (report.state, report.revision, report.version.as_str(), report.sha256.as_str());
        assert_eq!(found, (NodeState::Applied, published.revision, "7", published.sha256.as_str()), "{}", report.node);
        assert!(report.refused.is_none() && report.problems.is_empty() && !report.staged, "{report:?}");
    }
    for (name, node) in &mut nodes {
        node.serves().await;
        let status = node.status().await;
        assert_eq!(status["bus"]["table"]["sha256"], published.sha256.as_str(), "{name}: {status}");
        assert_eq!(status["table"]["version"], "7", "{name}: {status}");
    }
}

#[tokio::test]
async fn thirty_tables_in_a_row_reach_every_node_and_fail_no_request() {
    let (world, bus) = (world().await, BusServer::start().await);
    let mut publisher = BusPublisher::connect(&bus).await;
    let first = publisher.publish(&table(&world, 1)).await;
    let mut nodes = start(&bus).await;
    is_everywhere(&mut publisher, &first, &nodes).await;
    for node in nodes.values_mut() {
        node.serves().await;
    }
    let get = |_| RequestSpec::get("api.example.com", "/");
    let loads: Vec<Load> =
        nodes.values().take(2).map(|node| Load::start(Target::http1(node.http()), 40.0, get)).collect();
    for load in &loads {
        load.more(5, "answers before the tables", |_| true).await;
    }
    let mut last = first;
    for version in 2..=31 {
        let published = publisher.publish(&table(&world, version)).await;
        assert!(published.revision > last.revision);
        is_everywhere(&mut publisher, &published, &nodes).await;
        last = published;
    }
    for load in loads {
        load.more(5, "answers after the tables", |_| true).await;
        assert_all_served(&load.stop().await);
    }
    for (name, node) in &nodes {
        let metrics = node.metrics().await;
        let applied = metrics.sum("meridian_bus_events_total", &[("event", "applied")]);
        assert_eq!(applied, Some(31.0), "{name} has skipped one, or taken one twice");
        let bad = metrics.named("meridian_bus_events_total").filter(|series| {
            let event = series.label("event").unwrap_or_default();
            ["rejected", "quarantined", "ignored", "report_failed"].contains(&event) && series.value > 0.0
        });
        assert_eq!(bad.count(), 0, "{name}: {}", metrics.text());
        assert_eq!(node.status().await["table"]["revision"], last.revision, "{name}");
    }
}

/// For a machine that is busy with the rest of the suite.
const PATIENCE: Duration = Duration::from_secs(20);
