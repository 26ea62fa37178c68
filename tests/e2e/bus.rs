//! The config bus: a real nats-server, real nodes.

mod access;
mod bucket;
mod canary;
mod edge;
mod epochs;
mod fleet;
mod freshness;
mod heartbeat;
mod hostile;
mod interruption;
mod load;
mod outage;
mod parts;
mod publish;
mod reports;
mod rollback;
mod server;
mod signatures;
mod signer;
mod signing;
mod staged;
mod staleness;
mod start;
mod writers;

use async_nats::HeaderMap;
use loadtest::{RequestSpec, Target};
use meridian_tests::load::Load;
use meridian_tests::{BusProbe, BusServer, Client, Node, Setup, World, eventually, get};
use serde_json::Value;

/// A bus with a table on it, and a node that has it in force.
struct Following {
    bus: BusServer,
    probe: BusProbe,
    world: World,
    node: Node,
    /// The table's revision.
    revision: u64,
}

impl Following {
    /// Of a node of region `eu` with a snapshot.
    async fn start() -> Following {
        Following::on(BusServer::start().await, "").await
    }

    /// The same with more in `[routing]`, on this bus.
    async fn on(bus: BusServer, more: &str) -> Following {
        let world = world().await;
        let probe = bus.probe().await;
        probe.create_bucket().await;
        let revision = probe.put("table", table(&world, "first")).await;
        let node = routed(&bus, "a", more).start().await;
        has(&node, revision).await;
        kept(&node, "first").await;
        Following { bus, probe, world, node, revision }
    }

    /// Puts a table of this version, and waits until it is in force.
    async fn publish(&self, version: &str) -> u64 {
        let revision = self.probe.put("table", table(&self.world, version)).await;
        assert_eq!(has(&self.node, revision).await["table"]["version"], version);
        kept(&self.node, version).await;
        revision
    }

    /// Clients' requests, all of which must be served.
    fn load(&self) -> Load {
        Load::start(Target::http1(self.node.http()), 200.0, |number| {
            RequestSpec::get("api.example.com", ["/data", "/open"][number as usize % 2])
        })
    }

    /// Asserts that clients are served.
    async fn assert_serves(&self) {
        let client = Client::http1(self.node.http());
        for path in ["/data", "/open"] {
            client.send(&get(path).from("DE")).await.assert_served_by("eu");
        }
    }
}

/// Waits until the table of this version is in the node's snapshot: it is in force first.
async fn kept(node: &Node, version: &str) {
    eventually("the snapshot", async || {
        let text = std::fs::read_to_string(node.path("last-good.toml")).unwrap_or_default();
        if text.contains(&format!("version = \"{version}\"")) { Ok(()) } else { Err(text) }
    })
    .await;
}

/// Data that stays in Germany, and data that need not.
async fn world() -> World {
    let rest = "[jurisdictions.de]\ncountries = [\"DE\"]\n\
                [data_classes.personal]\n\
                [residency_defaults]\nunlisted_jurisdiction = \"allow\"\n\
                [[residency]]\njurisdiction = \"de\"\ndata_classes = [\"personal\"]\n\
                allow = { countries = [\"DE\"] }\ntransfer = \"prohibited\"\n\
                [[routes]]\nname = \"data\"\npath = \"/data\"\ndata_class = \"personal\"\n\
                [[routes]]\nname = \"open\"\ndata_class = \"public\"\n";
    World::of_regions(&[("eu", "DE"), ("us", "US")], rest).await
}

/// The world's table in this version.
fn table(world: &World, version: &str) -> String {
    world.table().replacen("version = \"1\"", &format!("version = \"{version}\""), 1)
}

/// A node of region `eu` with a snapshot.
fn setup(bus: &BusServer, name: &str) -> Setup {
    routed(bus, name, "")
}

/// The same with more in `[routing]`: keys of the bus, and after a line's end those of the section.
fn routed(bus: &BusServer, name: &str, more: &str) -> Setup {
    let (of_bus, of_section) = more.split_once('\n').unwrap_or((more, ""));
    let server = bus.url();
    let lines = format!("bus = {{ servers = [\"{server}\"], snapshot = \"last-good.toml\"{of_bus} }}\n{of_section}");
    Setup::new("eu", "").name(name).bus(&lines)
}

/// Waits until the node has this revision in force.
async fn has(node: &Node, revision: u64) -> Value {
    becomes(node, "the revision in force", |status| {
        status["table"]["revision"] == revision && status["bus"]["table"]["revision"] == revision
    })
    .await
}

/// Waits until the node has refused this revision, and gives what is wrong with it, in one text.
async fn refuses(node: &Node, revision: u64) -> String {
    let status = becomes(node, "the refusal", |status| {
        let is_told = status["rejected"].as_array().is_some_and(|list| !list.is_empty());
        status["bus"]["refused"]["revision"] == revision && is_told
    })
    .await;
    assert_eq!(status["table"]["revision"], status["bus"]["table"]["revision"], "{status}");
    status["bus"]["problems"].to_string()
}

/// Waits until `/status` is such.
async fn becomes(node: &Node, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(what, async || {
        let status = node.status().await;
        if wanted(&status) { Ok(status) } else { Err(format!("table {}, bus {}", status["table"], status["bus"])) }
    })
    .await
}

/// Waits until the node's report on the bus is such.
async fn reports(probe: &BusProbe, node: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(what, async || {
        let report = report(probe, node).await.ok_or_else(|| "no report".to_owned())?;
        if wanted(&report) { Ok(report) } else { Err(report.to_string()) }
    })
    .await
}

/// The node's report, unless it has none.
async fn report(probe: &BusProbe, node: &str) -> Option<Value> {
    let message = probe.get(&format!("nodes.{node}")).await?;
    serde_json::from_slice(&message.payload).ok()
}

/// How often something has happened on the bus.
async fn counted(node: &Node, event: &str) -> u64 {
    node.metrics().await.sum("meridian_bus_events_total", &[("event", event)]).unwrap_or(0.0) as u64
}

/// What is said beside a table.
fn said(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.insert(*name, *value);
    }
    headers
}
