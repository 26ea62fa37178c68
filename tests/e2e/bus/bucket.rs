//! Buckets that somebody else made: they serve, and what they cost is told.

use std::time::Duration;

use async_nats::jetstream::stream::{self, StorageType};
use meridian_tests::{BusCluster, BusProbe, Client, Running};
use serde_json::Value;

use super::edge::{Edge, assert_says};

/// A bucket as `meridian publish` makes it.
fn own() -> stream::Config {
    stream::Config {
        name: "KV_meridian".to_owned(),
        subjects: vec!["$KV.meridian.>".to_owned()],
        max_messages_per_subject: 64,
        discard: stream::DiscardPolicy::New,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        num_replicas: 1,
        ..stream::Config::default()
    }
}

/// Publishes to a fleet of one on such a bucket, twice and once with a canary, rolls back, and gives what is told.
async fn works(bucket: stream::Config) -> (Vec<String>, Value, String) {
    let edge = Edge::without_bucket().await;
    edge.bus.probe().await.jetstream().create_stream(bucket).await.expect("a bucket");
    let ended = edge.publish(&edge.table("1"), &["--yes", "--no-wait"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let node = edge.node("a-1", "a").await;
    edge.all_have(&["a-1"], "1").await;
    let (code, told) = edge.json(&["publish", &edge.write("2.toml", &edge.table("2")), "--yes"]).await;
    assert_eq!(code, Some(0), "{told}");
    edge.assert_good("a-1", "2").await;
    let canary = ["--yes", "--canary", "a-1", "--observe", "1s", "--min-requests", "0"];
    let ended = edge.publish(&edge.table("3"), &canary).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    edge.assert_good("a-1", "3").await;
    let (code, fleet) = edge.json(&["fleet"]).await;
    assert_eq!(code, Some(0), "{fleet}");
    let kinds = fleet["bucket"].as_array().expect("a list").iter();
    let kinds = kinds.map(|trouble| trouble["kind"].as_str().expect("a word").to_owned()).collect();
    Client::http1(node.http()).send(&meridian_tests::get("/all")).await.assert_served_by("a");
    let rolled = edge.run(&["rollback", "--yes"]).await;
    (kinds, told["warnings"].clone(), format!("{:?} {}{}", rolled.code, rolled.stdout, rolled.stderr))
}

#[tokio::test]
async fn our_own_has_no_weakness() {
    let (kinds, warnings, rolled) = works(own()).await;
    assert_eq!((kinds, warnings), (vec![], Value::Array(vec![])));
    assert!(rolled.starts_with("Some(0)"), "{rolled}");
}

/// As nats-py's `create_key_value` makes it, and each weakness alone.
#[tokio::test]
async fn others_work_and_what_they_cost_is_told() {
    let nats_py = stream::Config { max_messages_per_subject: 1, allow_direct: false, ..own() };
    let (kinds, warnings, rolled) = works(nats_py).await;
    assert_eq!(kinds, ["history", "no_direct_gets"]);
    assert_says(&warnings.to_string(), &["keeps 1 of its tables", "$JS.API.STREAM.MSG.GET.KV_BUCKET"]);
    assert!(rolled.starts_with("Some(2)") && rolled.contains("no earlier table"), "{rolled}");

    let short = stream::Config { max_age: Duration::from_secs(3600), storage: StorageType::Memory, ..own() };
    let (kinds, warnings, rolled) = works(short).await;
    assert_eq!(kinds, ["ttl", "memory"]);
    assert_says(&warnings.to_string(), &["deletes what is older than 1h", "a restart of nats-server loses the table"]);
    assert!(rolled.starts_with("Some(0)"), "{rolled}");
}

/// Three servers: they keep the bucket together, unless somebody says otherwise, and then the fleet is told.
#[tokio::test]
async fn a_cluster_keeps_the_bucket_together() {
    let (world, cluster) = (super::edge::world().await, BusCluster::start(3).await);
    let directory = tempfile::tempdir().expect("a directory");
    let table = directory.path().join("routes.toml");
    std::fs::write(&table, world.table()).expect("a file");
    let table = table.to_str().expect("a path in UTF-8");
    let urls = cluster.urls().join(",");
    let run = async |arguments: &[&str]| Running::start(&[arguments, &["--bus", &urls]].concat()).ended().await;
    let ended = run(&["publish", table, "--yes", "--no-wait"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_says(&ended.stdout, &["kept by 3 servers"]);
    let options = async_nats::ConnectOptions::new();
    let probe = BusProbe::connect(&cluster.urls()[0], options).await.expect("a connection");
    assert_eq!(probe.stream().await.cached_info().config.num_replicas, 3);
    let ended = run(&["fleet"]).await;
    assert!(ended.code == Some(0) && !ended.stdout.contains("warning"), "{ended:?}");

    let alone = ["publish", table, "--yes", "--no-wait", "--bucket", "alone", "--replicas", "1"];
    let ended = run(&alone).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_says(&ended.stderr, &["one server of the cluster keeps the bucket"]);
    let ended = run(&["publish", table, "--yes", "--no-wait", "--bucket", "many", "--replicas", "5"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_says(&ended.stderr, &["fewer than 5 servers"]);
}

#[tokio::test]
async fn one_server_keeps_what_one_server_can() {
    let edge = Edge::without_bucket().await;
    let ended = edge.publish(&edge.table("1"), &["--yes", "--no-wait", "--replicas", "3"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_says(&ended.stderr, &["fewer than 3 servers", "--replicas 1"]);
    let ended = edge.publish(&edge.table("1"), &["--yes", "--no-wait", "--replicas", "1"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}
