//! What is not idempotent: executed at most once across every fault, and not failed where it was never sent.

use std::collections::BTreeMap;
use std::time::Instant;

use http::Method;
use loadtest::{Observation, RequestSpec, Target};
use meridian_tests::load::{Load, figures, status};
use meridian_tests::{Answer, Client, Fleet, Setup, geo, get, post};

use super::{assert_lawful, fleet};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_was_never_sent_does_not_fail() {
    for fault in ["kill -9", "vanish"] {
        let (struck, seen) = strike(fault).await;
        for seen in seen.iter().filter(|seen| status(seen) != Some(200)) {
            assert!(!is_keyed(seen) && seen.intended < struck, "{fault}: {seen:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keyed_write_survives_what_comes_before_the_head() {
    for fault in ["SIGSTOP", "reset", "close", "status=503"] {
        let (_, seen) = strike(fault).await;
        for seen in seen.iter().filter(|seen| is_keyed(seen)) {
            assert_eq!(status(seen), Some(200), "{fault}: {seen:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_breaks_is_not_repeated() {
    for fault in ["reset-after-head", "reset-in-body", "cut"] {
        strike(fault).await;
    }
}

#[tokio::test]
async fn a_write_on_a_connection_gone_stale_is_not_failed() {
    let mut fleet = fleet(1, "", "outlier = { consecutive_errors = 1000 }").await;
    // Deaths follow each other so fast that the probes of the start may meet one each.
    let table = fleet.table().replace("failures = 2", "failures = 1000");
    assert_ne!(table, fleet.table());
    // With one thread all requests share one pool.
    let node = Setup::new("first", &table).threads(1).start().await;
    let client = Client::http1(node.http());
    for round in 0..10 {
        // So that there are several kept connections.
        let reads = (0..4).map(|_| tokio::spawn(read(client.clone())));
        for read in reads.collect::<Vec<_>>() {
            read.await.expect("no panic").assert_served_by("first");
        }
        fleet.kill("first");
        fleet.revive("first").await;
        let answer = client.send(&post(&format!("/{round}"), "order").from("US")).await;
        answer.assert_served_by("first");
        assert_eq!(answer.attempts(), 1, "a connection is not an attempt");
    }
    let orders = executions(&mut fleet).await;
    assert_eq!(orders, (0..10).map(|round| (format!("/{round}"), 1)).collect());
    assert_lawful(&mut fleet, &node).await;
}

/// Sends writes, every other one with a key, lets the first region fail in this way amid them, and asserts that no
/// write without a key was executed twice. Gives when the fault stood, and what the clients saw.
async fn strike(fault: &str) -> (Instant, Vec<Observation>) {
    // Silence has to end some time.
    let route = if fault == "SIGSTOP" { "retry = { per_try_timeout = \"500ms\" }" } else { "" };
    let mut fleet = fleet(1, route, "").await;
    let setup = Setup::new("first", fleet.table()).section("upstream", "connect_timeout = \"300ms\"");
    let node = setup.without_access_log().start().await;
    let load = Load::start(Target::http1(node.http()), 300.0, write);
    load.more(100, "writes at home", |seen| status(seen) == Some(200)).await;
    match fault {
        "kill -9" => fleet.kill("first"),
        "vanish" => fleet.origin("first").vanish().await,
        "SIGSTOP" => fleet.origin("first").stop(),
        behaviour => fleet.behave("first", behaviour).await,
    }
    let struck = Instant::now();
    load.more(150, "writes elsewhere", |seen| seen.intended > struck && status(seen) == Some(200)).await;
    let seen = load.stop().await;
    eprintln!("writes, {fault}: {}", figures(&seen));
    if fault == "SIGSTOP" {
        // What waits for it in its sockets is executed now.
        fleet.origin("first").go_on();
        Client::http1(node.http()).send(&get("/").from("US")).await.assert_served_by("second");
    }
    let executions = executions(&mut fleet).await;
    for seen in &seen {
        let count = executions.get(&format!("/{}", seen.sequence)).copied().unwrap_or(0);
        assert!(count <= 1 || is_keyed(seen), "{fault}: executed {count} times: {seen:?}");
        assert!(count >= 1 || status(seen) != Some(200), "{fault}: answered, but by nobody: {seen:?}");
    }
    assert_lawful(&mut fleet, &node).await;
    (struck, seen)
}

async fn read(client: Client) -> Answer {
    client.send(&get("/").from("US")).await
}

/// How often each write has arrived at the origins together.
async fn executions(fleet: &mut Fleet) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for (_, arrival) in fleet.received_outside(&[]).await {
        if arrival.method == "POST" {
            *counts.entry(arrival.path).or_default() += 1;
        }
    }
    counts
}

/// An order of its own each time.
fn write(number: u64) -> RequestSpec {
    let client = geo::address("US", (number % 14) as u8 + 1);
    let mut headers = vec![("x-forwarded-for".to_owned(), client.to_string())];
    if number % 2 == 1 {
        headers.push(("idempotency-key".to_owned(), number.to_string()));
    }
    let (method, body) = (Method::POST, "an order".into());
    RequestSpec { method, headers, body, ..RequestSpec::get("api.example.com", format!("/{number}")) }
}

fn is_keyed(seen: &Observation) -> bool {
    seen.sequence % 2 == 1
}
