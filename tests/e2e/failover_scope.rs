//! How far a request goes from its first choice, and reads of replicas whose age nobody knows.

use loadtest::origin::Behaviour;
use meridian_tests::{Client, Node, Setup, World, eventually, get, put};

const REGIONS: &[(&str, &str)] = &[("first", "DE"), ("second", "FR"), ("third", "US")];

const SCOPES: &str = r#"
[jurisdictions]
eu = { countries = ["@EU"] }
[[routes]]
name = "any"
[[routes]]
name = "within"
path = "/within"
failover = "jurisdiction"
[[routes]]
name = "only"
path = "/only"
failover = "region"
"#;

async fn start(rest: &str) -> (World, Node, Client) {
    let world = World::probed_often(REGIONS, rest).await;
    let node = Setup::new("first", world.table()).start().await;
    node.all_up().await;
    let client = Client::http1(node.http());
    (world, node, client)
}

#[tokio::test]
async fn requests_stay_within_the_failover_scope_of_their_route() {
    let (world, node, client) = start(SCOPES).await;
    for path in ["/any", "/within", "/only"] {
        client.send(&get(path).from("DE")).await.assert_served_by("first");
    }
    world.kill("first").await;
    // At once, since an attempt finds out before the probes do, and when they have.
    client.send(&get("/only").from("DE")).await;
    eventually("first is down", async || {
        let status = node.status().await;
        if status["regions"][0]["health"] == "down" { Ok(()) } else { Err(format!("{status:#}")) }
    })
    .await;
    client.send(&get("/any").from("DE")).await.assert_served_by("second");
    client.send(&get("/within").from("DE")).await.assert_served_by("second");
    client.send(&put("/only", "newer").from("DE")).await.assert_refused(503, "unavailable");
    let explained = node.ask(&get("/explain?country=DE&path=/only")).await.json();
    assert_eq!(explained["route_terms"]["failover"], "region");
    assert_eq!(explained["eligible"], serde_json::json!([]), "{explained:#}");
    let why = &explained["regions"][1]["why"];
    assert!(why.to_string().contains("the first choice or nothing"), "{why:#}");
    world.kill("second").await;
    eventually("second is given up", async || {
        let answer = client.send(&get("/any").from("DE")).await;
        if answer.region().as_deref() == Some("third") { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    let answer = client.send(&get("/within").from("DE")).await;
    assert!(answer.status == 503 || answer.status == 502, "{answer:?}");
    let strays: Vec<String> = ["second", "third"]
        .iter()
        .flat_map(|region| {
            world.received(region).into_iter().map(move |received| format!("{region} {}", received.path))
        })
        .filter(|received| received.ends_with("/only") || received == "third /within")
        .collect();
    assert_eq!(strays, [""; 0]);
    world.revive("first").await;
}

#[tokio::test]
async fn a_replica_that_reports_no_lag_serves_no_read_that_needs_to_know() {
    let route = |name: &str, more: &str| {
        format!("[[routes]]\nname = \"{name}\"\npath = \"/{name}\"\nmax_replication_lag = \"60s\"\n{more}\n")
    };
    let rest = format!("{}{}", route("strict", "lag_unknown = \"ineligible\""), route("lax", ""));
    let world = World::probed_often(REGIONS, &rest).await;
    let table =
        world.table().replacen("priority = 1\n", "priority = 1\nrole = \"warm\"\ncapabilities = [\"read\"]\n", 1);
    let table = table.replacen("priority = 2\n", "priority = 2\nrole = \"warm\"\n", 1);
    let node = Setup::new("first", &table).start().await;
    node.all_up().await;
    let client = Client::http1(node.http());
    // What is written here is nobody's copy.
    client.send(&get("/strict").from("DE")).await.assert_served_by("first");
    world.kill("first").await;
    eventually("first is given up", async || {
        let answer = client.send(&get("/lax").from("DE")).await;
        if answer.region().as_deref() == Some("second") { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    eventually("no replica is known to be fresh", async || {
        let answer = client.send(&get("/strict").from("DE")).await;
        if answer.refusal() == (503, Some("unavailable".to_owned())) { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    client.send(&put("/strict", "newer").from("DE")).await.assert_served_by("third");
    for (lag, served) in [("61", false), ("59", true)] {
        let answer = http::Response::builder().header("x-replication-lag", lag).body(bytes::Bytes::new());
        let answer = Behaviour::Answer(answer.expect("an answer"));
        world.origin("second").behave(
            move |received| {
                if received.path == "/health" { answer.clone() } else { Behaviour::Normal }
            },
        );
        eventually(&format!("reads at a lag of {lag} s"), async || {
            let answer = client.send(&get("/strict").from("DE")).await;
            let by_second = answer.region().as_deref() == Some("second");
            if by_second == served { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
    }
    let reads =
        |region: &str| world.received(region).iter().filter(|one| one.path == "/strict" && one.method == "GET").count();
    assert_eq!(reads("third"), 0);
    assert!(reads("second") > 0);
}
