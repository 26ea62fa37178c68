//! Faults of real processes, judged by what clients got and by what origins received.
//!
//! Clients are American, and `first` and `second` may serve them, in this order; `abroad` never may.

mod answers;
mod gateways;
mod load;
mod recovery;
mod residency;
mod writes;

use std::time::{Duration, Instant};

use loadtest::{RequestSpec, Target};
use meridian_tests::load::Load;
use meridian_tests::{Fleet, Node, Setup, SmallTable, eventually, geo};
use serde_json::Value;

/// A fleet with so many endpoints in the first region, and one in each other. `route` and `failover` are lines of TOML.
async fn fleet(endpoints: usize, route: &str, failover: &str) -> Fleet {
    let regions = [("first", "US", endpoints), ("second", "US", 1), ("abroad", "DE", 1)];
    Fleet::of_regions(&regions, table(route, failover)).await
}

/// The same, probed several times a second.
async fn probed_fleet(endpoints: usize, route: &str, failover: &str) -> Fleet {
    let regions = [("first", "US", endpoints), ("second", "US", 1), ("abroad", "DE", 1)];
    Fleet::of_regions(&regions, table(route, failover).probed_often()).await
}

/// Unless it says otherwise, regions return after five minutes, as they do by default: not in the time of a test.
fn table(route: &str, failover: &str) -> SmallTable {
    let delay = if failover.contains("failback_delay") { "" } else { "failback_delay = \"5m\"" };
    let route = format!("[[routes]]\nname = \"all\"\ndata_class = \"personal\"\n{route}");
    SmallTable::new(&format!("{LAW}\n{route}\n[failover]\n{delay}\n{failover}"))
}

/// Plain and TLS-less, for what is not a question of load.
async fn start(fleet: &Fleet) -> Node {
    Setup::new("first", fleet.table()).start().await
}

/// Reads over HTTP/1.1 at a moderate rate.
fn reads(node: &Node) -> Load {
    reads_at(200.0, node)
}

/// Reads over HTTP/1.1, so many a second.
fn reads_at(rate: f64, node: &Node) -> Load {
    Load::start(Target::http1(node.http()), rate, |number| {
        let client = geo::address("US", (number % 14) as u8 + 1);
        let headers = vec![("x-forwarded-for".to_owned(), client.to_string())];
        RequestSpec { headers, ..RequestSpec::get("api.example.com", "/") }
    })
}

/// How long it takes from now until an endpoint of a region is out of rotation, by what traffic or probes have shown.
async fn left(node: &Node, region: &str) -> Duration {
    let start = Instant::now();
    eventually(&format!("an endpoint of {region} out of rotation"), async || {
        let shown = shown(node, region).await;
        let endpoints = shown["endpoints"].as_array().expect("endpoints");
        if endpoints.iter().any(|endpoint| endpoint["up"] == false) { Ok(()) } else { Err(shown.to_string()) }
    })
    .await;
    start.elapsed()
}

/// Waits until `/status` says of a region's health that it is one of these.
async fn becomes(node: &Node, region: &str, wanted: &[&str]) {
    eventually(&format!("{region} is {wanted:?}"), async || {
        let health = health(node, region).await;
        if wanted.contains(&health.as_str()) { Ok(()) } else { Err(format!("it is {health}")) }
    })
    .await;
}

/// What `/status` says of a region's health.
async fn health(node: &Node, region: &str) -> String {
    shown(node, region).await["health"].as_str().expect("a word").to_owned()
}

/// What `/status` says of a region.
async fn shown(node: &Node, region: &str) -> Value {
    let mut status = node.status().await;
    let regions = status["regions"].as_array_mut().expect("regions");
    regions.iter_mut().find(|entry| entry["name"] == region).expect("the region").take()
}

/// Asserts that no byte of a client's has gone where it must not.
async fn assert_lawful(fleet: &mut Fleet, node: &Node) {
    fleet.assert_nothing_outside(&["first", "second"]).await;
    assert_eq!(node.metrics().await.sum("data_residency_violations_total", &[]), Some(0.0));
}

const LAW: &str = r#"
[jurisdictions.us]
countries = ["US"]

[data_classes.personal]

[residency_defaults]
unlisted_jurisdiction = "allow"

[[residency]]
jurisdiction = "us"
data_classes = ["personal"]
allow = { countries = ["US"] }
transfer = "prohibited"
"#;
