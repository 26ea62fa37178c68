//! Faults of real processes, judged by what clients got and by what origins received.
//!
//! Clients are American, and `first` and `second` may serve them, in this order; `abroad` never may.

mod answers;
mod load;
mod recovery;
mod residency;
mod writes;

use std::time::{Duration, Instant};

use meridian_tests::{Fleet, Node, Setup, SmallTable, eventually};

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

fn table(route: &str, failover: &str) -> SmallTable {
    SmallTable::new(&format!(
        "{LAW}\n[[routes]]\nname = \"all\"\ndata_class = \"personal\"\n{route}\n[failover]\n{failover}"
    ))
}

/// Plain and TLS-less, for what is not a question of load.
async fn start(fleet: &Fleet) -> Node {
    Setup::new("first", fleet.table()).start().await
}

/// How long it takes from now until traffic has taken a region, or an endpoint of it, out of rotation.
async fn ejection(node: &Node, region: &str) -> Duration {
    let start = Instant::now();
    eventually(&format!("an ejection in {region}"), async || {
        let metrics = node.metrics().await;
        let ejections = metrics.sum("meridian_ejections_total", &[("region", region)]).unwrap_or(0.0);
        if ejections >= 1.0 { Ok(()) } else { Err("there was none".to_owned()) }
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
    let status = node.status().await;
    let regions = status["regions"].as_array().expect("regions");
    let region = regions.iter().find(|entry| entry["name"] == region).expect("the region");
    region["health"].as_str().expect("a word").to_owned()
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

[[residency]]
jurisdiction = "us"
data_classes = ["personal"]
allow = { countries = ["US"] }
transfer = "prohibited"
"#;
