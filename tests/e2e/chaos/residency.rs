//! Each world's law while its regions fail under load.

use std::time::{Duration, Instant};

use http::Method;
use loadtest::{Observation, RequestSpec, Target};
use meridian_tests::load::{Load, assert_all_served, figures, region, status};
use meridian_tests::{Client, Fleet, Node, Setup, example, geo, get};

use super::becomes;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn erlmcp_aws_loses_its_main_regions() {
    let mut fleet = Fleet::of_example("erlmcp-aws", "").await;
    let node = start_all_up(&fleet, "us-east-1").await;
    let load = load(&node, &[("GET", "/mcp", "US"), ("GET", "/mcp", "DE")]);
    load.more(100, "Europeans at home", |seen| seen.tag == 1 && region(seen) == Some("eu-west-1")).await;
    for (lost, tag, next) in [("us-east-1", 0, "us-west-2"), ("eu-west-1", 1, "eu-central-1")] {
        assert!(fleet.received(next).await.is_empty(), "{next} waits for its turn");
        fleet.kill(lost);
        load.more(50, next, |seen| seen.tag == tag && region(seen) == Some(next)).await;
    }
    let seen = load.stop().await;
    eprintln!("erlmcp-aws: {}", figures(&seen));
    assert_all_served(&seen);
    for (stray, arrival) in fleet.received_outside(&["eu-west-1", "eu-central-1"]).await {
        assert_eq!(arrival.header("x-client-country"), Some("US"), "in {stray}: {arrival:?}");
        assert!(["us-east-1", "us-west-2"].contains(&stray.as_str()), "in {stray}: {arrival:?}");
    }
    assert_no_violation(&node).await;
}

#[tokio::test]
async fn erlmcp_aws_does_not_count_on_a_cold_region_that_fails_its_probes() {
    let mut fleet = Fleet::of_example("erlmcp-aws", "").await;
    fleet.origin("eu-central-1").treat_probes("status=503").await;
    let node = start(&fleet, "eu-west-1").await;
    let client = Client::http1(node.http());
    client.send(&get("/mcp").from("DE")).await.assert_served_by("eu-west-1");
    fleet.kill("eu-west-1");
    for _ in 0..20 {
        client.send(&get("/mcp").from("DE")).await.assert_refused(503, "residency_unavailable");
    }
    fleet.assert_nothing_outside(&["eu-west-1"]).await;
    fleet.origin("eu-central-1").treat_probes("normal").await;
    becomes_served(&client, "DE", "/mcp", "eu-central-1").await;
    fleet.assert_nothing_outside(&["eu-west-1", "eu-central-1"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn erlmcp_gcp_keeps_brazilian_pii_though_its_region_is_lost() {
    let home = "southamerica-east1";
    let mut fleet = Fleet::of_example("erlmcp-gcp", "").await;
    let node = start_all_up(&fleet, home).await;
    let load = load(&node, &[("GET", "/v3/identity", "BR"), ("GET", "/v3/telemetry", "BR")]);
    load.more(100, "all at home", |seen| region(seen) == Some(home)).await;
    let doomed = Instant::now();
    fleet.kill(home);
    let struck = Instant::now();
    load.more(50, "identities refused", |seen| seen.tag == 0 && status(seen) == Some(503)).await;
    load.more(50, "telemetry elsewhere", |seen| region(seen).is_some_and(|region| region != home)).await;
    let client = Client::http1(node.http());
    client.send(&get("/v3/identity").from("BR")).await.assert_refused(503, "residency_unavailable");
    let seen = load.stop().await;
    eprintln!("erlmcp-gcp: {}", figures(&seen));
    let (identities, telemetry): (Vec<_>, Vec<_>) = seen.iter().partition(|seen| seen.tag == 0);
    assert_all_served(telemetry);
    assert_refused_from(&identities, home, doomed, struck);
    for (stray, arrival) in fleet.received_outside(&[home]).await {
        assert!(arrival.path.starts_with("/v3/telemetry"), "in {stray}: {arrival:?}");
    }
    assert_no_violation(&node).await;

    // It has nobody to give way to: who has nothing else is back as soon as it is.
    fleet.revive(home).await;
    becomes_served(&client, "BR", "/v3/identity", home).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cortex_reads_from_the_copy_and_refuses_writes() {
    let mut fleet = Fleet::of_example("cortex-active-passive", "threshold = 0.2").await;
    let node = start_all_up(&fleet, "us-east-1").await;
    let load = load(&node, &[("PUT", "/api/v1/things", "US"), ("GET", "/api/v1/things", "US")]);
    load.more(100, "all at home", |seen| region(seen) == Some("us-east-1")).await;
    let doomed = Instant::now();
    fleet.kill("us-east-1");
    let struck = Instant::now();
    load.more(50, "writes refused", |seen| seen.tag == 0 && status(seen) == Some(503)).await;
    load.more(50, "reads from the copy", |seen| region(seen) == Some("eu-west-1")).await;
    let seen = load.stop().await;
    eprintln!("cortex: {}", figures(&seen));
    let (writes, reads): (Vec<_>, Vec<_>) = seen.iter().partition(|seen| seen.tag == 0);
    assert_all_served(reads);
    assert_refused_from(&writes, "us-east-1", doomed, struck);
    let copied = fleet.received("eu-west-1").await;
    assert!(copied.iter().all(|arrival| arrival.method == "GET"), "{copied:?}");
    fleet.assert_nothing_outside(&["us-east-1", "eu-west-1"]).await;
    assert_no_violation(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somaagent_shows_europeans_the_page_and_moves_the_others() {
    let mut fleet = Fleet::of_example("somaagent", "").await;
    let node = start_all_up(&fleet, "eu-west-1").await;
    let load = load(&node, &[("GET", "/v1/agents", "DE"), ("GET", "/v1/agents", "JP")]);
    load.more(100, "all at home", |seen| region(seen) == Some("eu-west-1")).await;
    let doomed = Instant::now();
    fleet.kill("eu-west-1");
    let struck = Instant::now();
    load.more(50, "the page", |seen| seen.tag == 0 && status(seen) == Some(503)).await;
    load.more(50, "the others elsewhere", |seen| region(seen) == Some("us-west-2")).await;
    let page = Client::http1(node.http()).send(&get("/v1/agents").from("DE").header("accept", "text/html")).await;
    assert_eq!((page.status.as_u16(), page.text()), (503, maintenance_page().as_str()));
    becomes(&node, "eu-west-1", &["down"]).await;
    let seen = load.stop().await;
    eprintln!("somaagent: {}", figures(&seen));
    let (europeans, others): (Vec<_>, Vec<_>) = seen.iter().partition(|seen| seen.tag == 0);
    assert_all_served(others);
    assert_refused_from(&europeans, "eu-west-1", doomed, struck);
    for arrival in fleet.received("us-west-2").await {
        assert_eq!(arrival.header("x-client-country"), Some("JP"), "{arrival:?}");
    }
    assert_no_violation(&node).await;
}

async fn start(fleet: &Fleet, region: &str) -> Node {
    let setup = Setup::new(region, fleet.table()).file("somaagent-maintenance.html", maintenance_page());
    setup.without_access_log().start().await
}

/// The same, once cold regions have passed their probes.
async fn start_all_up(fleet: &Fleet, region: &str) -> Node {
    let node = start(fleet, region).await;
    node.all_up().await;
    node
}

fn maintenance_page() -> String {
    std::fs::read_to_string(example("somaagent-maintenance.html")).expect("the page")
}

/// Requests of two kinds (method, path, country) by turns; the tag tells them apart.
fn load(node: &Node, kinds: &'static [(&'static str, &'static str, &'static str); 2]) -> Load {
    Load::start(Target::http1(node.http()), 200.0, move |number| {
        let tag = (number % 2) as usize;
        let (method, path, country) = kinds[tag];
        let client = geo::address(country, (number / 2 % 14) as u8 + 1);
        let headers = vec![("x-forwarded-for".to_owned(), client.to_string())];
        let method: Method = method.parse().expect("a method");
        RequestSpec { method, headers, tag, ..RequestSpec::get("api.example.com", format!("{path}/{number}")) }
    })
}

/// Asserts that those who have no other region were served until it died, and refused from then on. Over what was on
/// its way when it died (by `struck` it had) its origin died.
fn assert_refused_from(seen: &[&Observation], home: &str, doomed: Instant, struck: Instant) {
    for seen in seen {
        let expected: &[u16] = match () {
            () if seen.intended + seen.latency < doomed => &[200],
            // A connection that has answered within the last 5 ms is not looked at before it is used.
            () if seen.intended > struck + Duration::from_millis(20) => &[503],
            () => &[200, 502, 503],
        };
        assert!(status(seen).is_some_and(|status| expected.contains(&status)), "{expected:?}: {seen:?}");
        assert!(status(seen) != Some(200) || region(seen) == Some(home), "{seen:?}");
    }
}

async fn becomes_served(client: &Client, country: &str, path: &str, region: &str) {
    let what = format!("{country} in {region}");
    let answer = meridian_tests::eventually(&what, async || {
        let answer = client.send(&get(path).from(country)).await;
        if answer.status == 200 { Ok(answer) } else { Err(format!("{answer:?}")) }
    });
    answer.await.assert_served_by(region);
}

async fn assert_no_violation(node: &Node) {
    assert_eq!(node.metrics().await.sum("data_residency_violations_total", &[]), Some(0.0));
}
