//! Origins that are there and answer badly, late, in part, or not at all.

use std::time::{Duration, Instant};

use meridian_tests::load::{self, assert_all_served, figures};
use meridian_tests::{Client, Fleet, Protocol, RawConnection, Setup, get, post};

use super::{assert_lawful, becomes, fleet, left, reads, reads_at, start};

#[tokio::test]
async fn a_blackhole_costs_a_connect_timeout_and_then_nothing() {
    let mut fleet = fleet(1, "", "").await;
    let setup = Setup::new("first", fleet.table()).section("upstream", "connect_timeout = \"200ms\"");
    let node = setup.start().await;
    let client = Client::http1(node.http());
    client.send(&get("/").from("US")).await.assert_served_by("first");
    fleet.origin("first").vanish().await;
    for number in 0..5 {
        // Nothing was ever sent, so that anything may go on.
        for sent in [get("/"), post(&format!("/order/{number}"), "order")] {
            let answer = client.send(&sent.from("US")).await;
            answer.assert_served_by("second");
            assert!(answer.attempts() <= 2, "{answer:?}");
        }
    }
    left(&node, "first").await;
    let answer = client.send(&get("/").from("US")).await;
    answer.assert_served_by("second");
    assert_eq!(answer.attempts(), 1);
    assert_eq!(fleet.received("first").await.len(), 1, "what came before");
    let orders = fleet.received("second").await.into_iter().filter(|arrival| arrival.method == "POST").count();
    assert_eq!(orders, 5, "each once");
    assert_lawful(&mut fleet, &node).await;
}

#[tokio::test]
async fn a_reset_after_the_head_breaks_the_answer_and_is_charged() {
    break_answers("reset-after-head").await;
}

#[tokio::test]
async fn a_reset_in_the_body_breaks_the_answer_and_is_charged() {
    break_answers("reset-in-body").await;
}

async fn break_answers(behaviour: &str) {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut fleet = fleet(1, "", "").await;
        let node = start(&fleet).await;
        let client = Client::http1(node.http()).speaking(protocol);
        fleet.behave("first", behaviour).await;
        let start = Instant::now();
        let mut broken = 0;
        loop {
            let mut connection = client.connect().await.expect("a connection");
            let client = meridian_tests::geo::address_v6("US", broken as u16);
            match connection.try_send(&get("/").on_behalf_of(client)).await {
                // Nobody has seen the head yet, or nobody asks there any more: a whole answer is from one origin.
                Ok(answer) => {
                    answer.assert_served_by("second");
                    assert_eq!(answer.text(), "ok");
                    if answer.attempts() == 1 {
                        break;
                    }
                }
                // What has begun cannot be taken back; on HTTP/2 only the stream is lost.
                Err(_) if protocol == Protocol::Http1 => connection.closed().await,
                Err(_) => {}
            }
            broken += 1;
            assert!(start.elapsed() < Duration::from_secs(5), "{broken}: each is charged to the endpoint");
        }
        eprintln!("{behaviour}, {protocol:?}: left after {broken} in {:.0?}", start.elapsed());
        // Nothing shows that it was not the requests: so many of so many clients do.
        assert!(broken >= 10, "{broken}");
        left(&node, "first").await;
        assert_eq!(fleet.received("first").await.len(), broken, "each was asked there once");
        assert_lawful(&mut fleet, &node).await;
    }
}

#[tokio::test]
async fn a_broken_answer_is_never_glued() {
    let mut fleet = fleet(1, "", "outlier = { consecutive_errors = 1000 }").await;
    let node = start(&fleet).await;
    for behaviour in ["reset-after-head", "reset-in-body", "cut"] {
        fleet.behave("first", behaviour).await;
        let connection = RawConnection::open(node.http()).await;
        let client = meridian_tests::geo::address("US", 1);
        let request = format!("GET / HTTP/1.1\r\nhost: api.example.com\r\nx-forwarded-for: {client}\r\n\r\n");
        let came = connection.exchange(request).await;
        assert!(came.matches("HTTP/1.1 ").count() <= 1, "{behaviour}: {came}");
        let body = came.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        assert!(["", "o"].contains(&body), "{behaviour}: {came}");
    }
    fleet.behave("first", "normal").await;
    Client::http1(node.http()).send(&get("/").from("US")).await.assert_served_by("first");
    fleet.assert_nothing_outside(&["first"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_503_moves_the_readers_on() {
    let mut fleet = fleet(1, "", "").await;
    let node = start(&fleet).await;
    let load = reads(&node);
    load.more(100, "served at home", |seen| load::region(seen) == Some("first")).await;
    fleet.behave("first", "status=503").await;
    let took = left(&node, "first").await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    load.more(200, "served elsewhere", |seen| load::region(seen) == Some("second")).await;
    let seen = load.stop().await;
    eprintln!("503 storm, left after {took:.0?}: {}", figures(&seen));
    assert_all_served(&seen);
    assert_lawful(&mut fleet, &node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_503_everywhere_is_not_amplified() {
    storm(async |fleet| fleet.behave("first", "status=503").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_503_in_the_last_region_is_not_amplified() {
    storm(async |fleet| fleet.kill("first")).await;
}

/// The second region answers with 503 only, and the first fails in this way.
async fn storm(strike: impl AsyncFnOnce(&mut Fleet)) {
    let mut fleet = fleet(1, "", "").await;
    let node = start(&fleet).await;
    fleet.behave("second", "status=503").await;
    strike(&mut fleet).await;
    let load = reads(&node);
    load.more(600, "answers", |seen| load::status(seen) == Some(503)).await;
    let seen = load.stop().await;
    assert!(seen.iter().all(|seen| load::status(seen) == Some(503)), "an answer each, and it is an origin's");
    // A fifth of all attempts, retries among them, and three a second over ten seconds.
    let most = seen.len() as f64 * 1.25 + 30.0 * 1.25;
    for region in ["first", "second"] {
        let received = fleet.received(region).await.len();
        eprintln!("503 everywhere: {} requests of clients, {received} at {region}", seen.len());
        assert!(received as f64 <= most, "{region}: {received} for {} requests", seen.len());
    }
    assert_lawful(&mut fleet, &node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_region_keeps_its_clients_until_it_is_too_slow() {
    for (mark, served) in [("5s", "first"), ("100ms", "second")] {
        let mut fleet = fleet(1, "", &format!("latency_p99 = \"{mark}\"")).await;
        let node = start(&fleet).await;
        let load = reads_at(50.0, &node);
        load.more(20, "served at home", |seen| load::region(seen) == Some("first")).await;
        fleet.behave("first", "slow=200ms").await;
        let slow = Instant::now();
        if served == "second" {
            becomes(&node, "first", &["suspected"]).await;
        }
        let settled = Instant::now();
        load.more(50, "served while it is slow", |seen| load::region(seen) == Some(served)).await;
        let seen = load.stop().await;
        eprintln!("slow, mark {mark}, settled after {:.0?}: {}", settled - slow, figures(&seen));
        assert_all_served(&seen);
        for seen in seen.iter().filter(|seen| seen.intended > settled) {
            assert_eq!(load::region(seen), Some(served), "{seen:?}");
        }
        assert_lawful(&mut fleet, &node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_region_carries_on() {
    let mut fleet = fleet(2, "", "").await;
    let node = start(&fleet).await;
    let load = reads(&node);
    load.more(100, "served at home", |seen| load::region(seen) == Some("first")).await;
    fleet.origin("first").kill();
    left(&node, "first").await;
    let ejected = Instant::now();
    load.more(200, "served by the other half", |seen| load::region(seen) == Some("first")).await;
    let seen = load.stop().await;
    eprintln!("half a region: {}", figures(&seen));
    assert_all_served(&seen);
    for seen in &seen {
        assert_eq!(load::region(seen), Some("first"), "{seen:?}");
        assert!(load::attempts(seen) == Some(1) || seen.intended < ejected, "{seen:?}");
    }
    fleet.assert_nothing_outside(&["first"]).await;
}
