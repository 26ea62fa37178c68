//! A region that is reached through a node of its own fails, or that node does.

use std::collections::BTreeMap;

use http::Method;
use loadtest::{RequestSpec, Target};
use meridian_tests::load::{self, Load, figures, status};
use meridian_tests::{Client, Fleet, Node, Setup, geo, get};

use super::{assert_lawful, fleet, reads};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_gateway_costs_no_request_that_may_be_repeated() {
    let (mut fleet, node, gateway) = start().await;
    let load = Load::start(Target::http1(node.http()), 200.0, request);
    load.more(100, "served through the gateway", |seen| load::region(seen) == Some("first")).await;
    drop(gateway);
    load.more(200, "served at home", |seen| load::region(seen) == Some("second")).await;
    let seen = load.stop().await;
    eprintln!("gateway killed: {}", figures(&seen));
    for seen in seen.iter().filter(|seen| !is_order(seen.sequence)) {
        assert_eq!(status(seen), Some(200), "{seen:?}");
    }
    // An order that the gateway may have taken is lost with it, and never asked for again.
    let mut orders = BTreeMap::new();
    for (_, arrival) in fleet.received_outside(&[]).await {
        *orders.entry(arrival.path).or_insert(0) += 1;
    }
    for seen in seen.iter().filter(|seen| is_order(seen.sequence)) {
        let count = orders.get(&format!("/{}", seen.sequence)).copied().unwrap_or(0);
        assert!(count <= 1 && (count == 1 || status(seen) != Some(200)), "{count} times: {seen:?}");
    }
    assert_lawful(&mut fleet, &node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_in_a_row_do_not_multiply_a_storm() {
    let (mut fleet, node, gateway) = start().await;
    fleet.behave("first", "status=503").await;
    fleet.kill("second");
    let load = reads(&node);
    load.more(400, "answers", |seen| status(seen).is_some()).await;
    let seen = load.stop().await;
    let received = fleet.received("first").await.len();
    eprintln!("503 behind a gateway: {}, {received} received", figures(&seen));
    assert!(received as f64 <= seen.len() as f64 * 1.25 + 30.0 * 1.25, "{received} for {}", seen.len());
    assert_lawful(&mut fleet, &gateway).await;
    assert_lawful(&mut fleet, &node).await;
}

#[tokio::test]
async fn what_a_gateways_region_has_lost_is_not_looked_for_elsewhere() {
    let (mut fleet, node, gateway) = start().await;
    let client = Client::http1(node.http());
    client.send(&get("/").from("US")).await.assert_served_by("first");
    fleet.kill("first");
    for _ in 0..20 {
        client.send(&get("/").from("US")).await.assert_served_by("second");
    }
    fleet.kill("second");
    for _ in 0..20 {
        let answer = client.send(&get("/").from("US")).await;
        assert_eq!(answer.refusal(), (503, Some("residency_unavailable".to_owned())), "{answer:?}");
    }
    assert_lawful(&mut fleet, &gateway).await;
    assert_lawful(&mut fleet, &node).await;
}

/// A node of the second region, and one of the first, through which it reaches that.
async fn start() -> (Fleet, Node, Node) {
    let fleet = fleet(1, "", "").await;
    let gateway = Setup::new("first", fleet.table()).secret(SECRET).start().await;
    let through = format!("[regions.first]\ngateway = \"http://{}\"", gateway.http());
    let node = Setup::new("second", &fleet.table().replace("[regions.first]", &through)).secret(SECRET).start().await;
    (fleet, node, gateway)
}

/// Every other one is an order that must not be repeated.
fn request(number: u64) -> RequestSpec {
    let headers = vec![("x-forwarded-for".to_owned(), geo::address("US", (number % 14) as u8 + 1).to_string())];
    let method = if is_order(number) { Method::POST } else { Method::GET };
    RequestSpec { method, headers, ..RequestSpec::get("api.example.com", format!("/{number}")) }
}

fn is_order(number: u64) -> bool {
    number % 2 == 1
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";
