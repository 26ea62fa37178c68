//! A small fleet on a bus, and what its operator does about it.

use std::collections::BTreeSet;

use config::bus::{NodeReport, NodeState};
use meridian_tests::{BusProbe, BusPublisher, BusServer, Ended, Node, Running, Setup, World, eventually};
use serde_json::Value;
use tempfile::TempDir;

/// Three regions, of which `a` is preferred. `/held` may be served in `a` only.
pub(super) const REGIONS: [(&str, &str); 3] = [("a", "DE"), ("b", "FR"), ("c", "IT")];

const REST: &str = r#"
[jurisdictions.de]
countries = ["DE"]

[data_classes.bound]

[residency_defaults]
unlisted_jurisdiction = "allow"

[[residency]]
jurisdiction = "de"
data_classes = ["bound"]
allow = { regions = ["a"] }
transfer = "prohibited"

[[routes]]
name = "held"
path = "/held"
data_class = "bound"

[[routes]]
name = "all"
data_class = "public"
"#;

/// A bus with a bucket, the origins of a table, and nodes of the test's making.
pub(super) struct Edge {
    pub(super) world: World,
    pub(super) bus: BusServer,
    /// For the tables that are published.
    directory: TempDir,
}

impl Edge {
    pub(super) async fn new() -> Edge {
        let edge = Edge::without_bucket().await;
        edge.bus.probe().await.create_bucket().await;
        edge
    }

    /// With a bus on which there is nothing.
    pub(super) async fn without_bucket() -> Edge {
        let (world, bus) = (world().await, BusServer::start().await);
        Edge { world, bus, directory: tempfile::tempdir().expect("a directory") }
    }

    /// With version 1 of the table as revision 1, and two nodes that have it.
    pub(super) async fn with_two_nodes() -> (Edge, Node, Node) {
        let edge = Edge::new().await;
        let ended = edge.publish(&edge.table("1"), &["--yes", "--no-wait"]).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let (a, b) = tokio::join!(edge.node("a-1", "a"), edge.node("b-1", "b"));
        edge.all_have(&["a-1", "b-1"], "1").await;
        (edge, a, b)
    }

    /// A node on this bus that has a table.
    pub(super) async fn node(&self, name: &str, region: &str) -> Node {
        let mut node = self.setup(name, region, "").start_waiting().await;
        node.serves().await;
        node
    }

    /// A node on this bus, with more in its `[routing] bus`.
    pub(super) fn setup(&self, name: &str, region: &str, more: &str) -> Setup {
        Setup::new(region, "").name(name).bus(&format!("bus = {{ servers = [\"{}\"]{more} }}", self.bus.url()))
    }

    /// The table, as another version.
    pub(super) fn table(&self, version: &str) -> String {
        versioned(&self.world, version)
    }

    /// Writes a table to a file of that name, and gives its path.
    pub(super) fn write(&self, name: &str, table: &str) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, table).expect("a file");
        path.to_str().expect("a path in UTF-8").to_owned()
    }

    /// Starts a command on this bus.
    pub(super) fn start(&self, arguments: &[&str]) -> Running {
        Running::start(&[arguments, &["--bus", &self.bus.url()]].concat())
    }

    /// Starts a command on this bus, of which nobody hears.
    pub(super) fn start_unheard(&self, arguments: &[&str]) -> Running {
        Running::unheard(&[arguments, &["--bus", &self.bus.url()]].concat())
    }

    /// Runs a command on this bus.
    pub(super) async fn run(&self, arguments: &[&str]) -> Ended {
        self.start(arguments).ended().await
    }

    /// Runs a command whose output is JSON.
    pub(super) async fn json(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let ended = self.run(&[arguments, &["--format", "json"]].concat()).await;
        let json = serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("no JSON: {error}: {ended:?}"));
        (ended.code, json)
    }

    /// `meridian publish` of this text.
    pub(super) async fn publish(&self, table: &str, more: &[&str]) -> Ended {
        self.start_publish(table, more).ended().await
    }

    /// The same in the background.
    pub(super) fn start_publish(&self, table: &str, more: &[&str]) -> Running {
        let path = self.write("routes.toml", table);
        self.start(&[&["publish", &path], more].concat())
    }

    /// Publishes this version of the table, and waits until all nodes have it.
    pub(super) async fn published(&self, version: &str) {
        let ended = self.publish(&self.table(version), &["--yes"]).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }

    /// The text of the live table.
    pub(super) async fn live(&self) -> String {
        let live = self.bus.probe().await.get("table").await.expect("a table");
        String::from_utf8(live.payload.to_vec()).expect("a table in UTF-8")
    }

    /// Waits until these nodes, and no others, report that they have this version of the table of all in force.
    pub(super) async fn all_have(&self, names: &[&str], version: &str) {
        let publisher = BusPublisher::connect(&self.bus).await;
        let names: BTreeSet<&str> = names.iter().copied().collect();
        eventually(&format!("version {version} on {names:?}"), async || {
            let reports: Vec<NodeReport> =
                publisher.bus().reports().await.expect("reports").into_iter().map(|(report, _)| report).collect();
            let has_it = |report: &&NodeReport| report.version == version && !report.staged;
            let found: BTreeSet<&str> = reports.iter().filter(has_it).map(|report| report.node.as_str()).collect();
            if found == names && reports.len() == names.len() { Ok(()) } else { Err(format!("{reports:#?}")) }
        })
        .await;
    }

    /// What a node reports.
    pub(super) async fn report(&self, name: &str) -> NodeReport {
        let reports = BusPublisher::connect(&self.bus).await.bus().reports().await.expect("reports");
        reports.into_iter().map(|(report, _)| report).find(|report| report.node == name).expect("a report")
    }

    /// Asserts that a node has this table of all, and refuses none.
    pub(super) async fn assert_good(&self, name: &str, version: &str) {
        let report = self.report(name).await;
        assert_eq!((report.state, report.version.as_str()), (NodeState::Applied, version), "{report:?}");
    }

    /// Whatever is staged on the bus.
    pub(super) async fn is_anything_staged(&self) -> bool {
        is_value(&self.bus.probe().await, "rollout").await
    }
}

/// Another world of the same regions and rules.
pub(super) async fn world() -> World {
    World::of_regions(&REGIONS, REST).await
}

/// The table of a world, as another version.
pub(super) fn versioned(world: &World, version: &str) -> String {
    world.table().replace("version = \"1\"", &format!("version = \"{version}\""))
}

/// A table without a region.
pub(super) fn without(table: &str, region: &str) -> String {
    let head = format!("[regions.{region}]");
    let mut is_in = false;
    let kept = table.lines().filter(|line| {
        if line.starts_with('[') {
            is_in = *line == head;
        }
        !is_in
    });
    kept.collect::<Vec<_>>().join("\n") + "\n"
}

/// Asserts that a text has all of these words.
#[track_caller]
pub(super) fn assert_says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in\n{text}");
    }
}

async fn is_value(probe: &BusProbe, key: &str) -> bool {
    probe.get(key).await.is_some_and(|message| !message.payload.is_empty())
}
