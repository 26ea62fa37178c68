//! When a request may be tried again, and where: never in a way that an origin could act on it twice, unless it is
//! idempotent or has a key.

use std::time::{Duration, Instant};

use http::{Response, StatusCode};
use loadtest::origin::Behaviour;
use meridian_tests::{Answer, Client, Node, Protocol, Setup, SmallTable, World, bespoke, get, post, put, request};

use super::EVERYTHING;

#[tokio::test]
async fn what_is_idempotent_or_keyed_is_replayed_whole() {
    let (world, node) = start(EVERYTHING).await;
    world.behave("first", &Behaviour::CloseBeforeHead);
    let body = "0123456789".repeat(1_000);
    for protocol in [Protocol::Http1, Protocol::Http2] {
        for sent in [
            get("/"),
            put("/", body.clone()),
            request("DELETE", "/"),
            post("/", body.clone()).header("idempotency-key", "7"),
            post("/", "").header("idempotency-key", "7"),
        ] {
            let (first, second) = (world.received("first").len(), world.received("second").len());
            let answer = Client::http1(node.http()).speaking(protocol).send(&sent).await;
            answer.assert_served_by("second");
            assert_eq!(answer.attempts(), 2);
            let (first, second) =
                (world.received("first").split_off(first), world.received("second").split_off(second));
            assert_eq!((first.len(), second.len()), (1, 1), "{sent:?}");
            assert_eq!(first[0].body_length, second[0].body_length, "{sent:?}");
            assert!(second[0].body == body.as_bytes() || second[0].body.is_empty(), "{sent:?}");
            assert_eq!(first[0].header("x-request-id"), second[0].header("x-request-id"), "one request, one id");
        }
    }
}

#[tokio::test]
async fn what_is_neither_is_executed_at_most_once() {
    let (world, node) = start(EVERYTHING).await;
    world.behave("first", &Behaviour::CloseBeforeHead);
    for (number, sent) in [post("/", "order"), post("/", ""), request("PATCH", "/")].into_iter().enumerate() {
        let answer = Client::http1(node.http()).send(&sent).await;
        answer.assert_refused(502, "upstream_failed");
        assert_eq!(world.received("first").len(), number + 1, "{sent:?}");
    }
    world.assert_nothing_outside(&["first"]);
}

#[tokio::test]
async fn what_was_never_sent_goes_on_whatever_it_is() {
    let (world, node) = start(EVERYTHING).await;
    world.kill("first").await;
    for sent in [get("/"), post("/", "order"), request("PATCH", "/"), put("/", "x".repeat(1 << 20))] {
        let answer = Client::http1(node.http()).send(&sent).await;
        answer.assert_served_by("second");
    }
    assert_eq!(world.received("second").len(), 4, "each once");
    let failovers = [("from_region", "first"), ("to_region", "second")];
    assert!(node.metrics().await.sum("meridian_failovers_total", &failovers).is_some_and(|count| count >= 1.0));
}

#[tokio::test]
async fn a_body_too_long_to_keep_is_not_replayed_in_part() {
    let routes = "[[routes]]\nname = \"all\"\nretry = { body_bytes = 1000 }\n";
    let (world, node) = start(routes).await;
    world.behave("first", &Behaviour::CloseBeforeHead);
    let client = Client::http1(node.http());
    client.send(&put("/", "x".repeat(1_000))).await.assert_served_by("second");
    client.send(&put("/", "x".repeat(1_001))).await.assert_refused(502, "upstream_failed");
    let lengths: Vec<u64> = world.received("second").iter().map(|received| received.body_length).collect();
    assert_eq!(lengths, [1_000]);
}

#[tokio::test]
async fn an_unwelcome_status_sends_a_reader_on() {
    let routes = "[[routes]]\nname = \"all\"\nretry = { statuses = [503] }\n";
    let (world, node) = start(routes).await;
    world.behave("first", &Behaviour::Status(StatusCode::SERVICE_UNAVAILABLE));
    let client = Client::http1(node.http());
    let answer = client.send(&get("/")).await;
    answer.assert_served_by("second");
    assert_eq!(answer.header("x-meridian-attempts").as_deref(), Some("2"));

    // An order may have been taken: its answer is its answer.
    let answer = client.send(&post("/", "order")).await;
    assert_eq!((answer.status.as_u16(), answer.region().as_deref()), (503, Some("first")));
    assert_eq!(answer.attempts(), 1);
    // So is a status that nobody asked to retry.
    world.behave("first", &Behaviour::Status(StatusCode::INTERNAL_SERVER_ERROR));
    let answer = client.send(&get("/")).await;
    assert_eq!((answer.status.as_u16(), answer.region().as_deref()), (500, Some("first")));

    // When nobody has a better answer, the origin's own is it.
    world.behave("first", &Behaviour::Status(StatusCode::SERVICE_UNAVAILABLE));
    let tired = Response::builder().status(503).header("x-tired", "1").body("tired".into()).expect("an answer");
    world.behave("second", &Behaviour::Answer(tired));
    for sent in [get("/"), put("/", "new")] {
        let answer = client.send(&sent).await;
        assert_eq!(answer.status, 503);
        assert!(answer.header("x-origin").is_some(), "{answer:?}");
        assert_eq!(answer.header("x-origin"), answer.region(), "it is an origin's answer, from where it says");
        assert_eq!(answer.attempts(), 3, "after both, one of them again");
    }
}

#[tokio::test]
async fn one_attempt_is_one_attempt() {
    let routes = "[[routes]]\nname = \"all\"\nretry = { attempts = 1 }\n";
    let (world, node) = start(routes).await;
    world.behave("first", &Behaviour::CloseBeforeHead);
    Client::http1(node.http()).send(&get("/")).await.assert_refused(502, "upstream_failed");
    world.assert_nothing_outside(&["first"]);
}

#[tokio::test]
async fn an_origin_that_stalls_is_left_at_the_timeout() {
    let routes = "[[routes]]\nname = \"slow\"\ntimeout = \"1s\"\n\
        [[routes]]\nname = \"impatient\"\npath = \"/impatient\"\ntimeout = \"10s\"\nretry = { per_try_timeout = \"300ms\" }\n";
    let (world, node) = start(routes).await;
    world.behave("first", &Behaviour::Stall);
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        for sent in [get("/"), post("/", "order")] {
            let start = Instant::now();
            let answer = client.send(&sent).await;
            answer.assert_refused(504, "upstream_timeout");
            let took = start.elapsed();
            assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(6), "{took:?}");
        }
        let answer = client.send(&get("/impatient")).await;
        answer.assert_served_by("second");
        assert_eq!(answer.attempts(), 2);
        client.send(&post("/impatient", "order")).await.assert_refused(504, "upstream_timeout");
    }
    assert!(world.received("second").iter().all(|received| received.method == "GET"));
}

#[tokio::test]
async fn a_cut_body_breaks_the_answer_instead_of_ending_it() {
    let (world, node) = start(EVERYTHING).await;
    world.behave("first", &Behaviour::CutBody);
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        let mut connection = client.connect().await.expect("a connection");
        let message = connection.message(&get("/"));
        let response = connection.head(message).await.expect("a head");
        assert_eq!(response.status(), 200);
        let rest = Answer::read(response).await;
        assert!(rest.is_err(), "a short body must not look whole: {rest:?}");
    }
    world.assert_nothing_outside(&["first"]);
}

#[tokio::test]
async fn an_answer_that_stops_is_broken_off_at_the_timeout() {
    let origin = bespoke::tcp(|mut visit| async move {
        visit.connection.write("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
        visit.connection.read_to_end().await;
    })
    .await;
    let routes = "[[routes]]\nname = \"all\"\ntimeout = \"1s\"\n";
    let node =
        Setup::new("here", &SmallTable::new(routes).region("here", "US", &[origin.address]).text()).start().await;
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        let start = Instant::now();
        assert!(client.try_send(&get("/")).await.is_err());
        assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn an_origin_that_talks_nonsense_has_failed() {
    let long: &'static str = format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(1 << 20)).leak();
    for (nonsense, reason) in [
        ("hello\r\n\r\n", "upstream_failed"),
        ("HTTP/1.1\r\n\r\n", "upstream_failed"),
        ("HTTP/2.0 200 OK\r\n\r\n", "upstream_failed"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "upstream_failed"),
        ("HTTP/1.1 99 Low\r\n\r\n", "upstream_failed"),
        // It speaks HTTP, and only this answer is bad.
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!", "upstream_malformed"),
        ("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", "upstream_malformed"),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "upstream_malformed"),
        ("HTTP/1.1 200 OK\r\nx: \0\r\n\r\n", "upstream_malformed"),
        (long, "upstream_malformed"),
    ] {
        let shown: String = nonsense.chars().take(60).collect();
        let origin = bespoke::tcp(move |mut visit| {
            // The node may close as soon as it has seen enough.
            async move { drop(visit.connection.try_write(nonsense).await) }
        })
        .await;
        let table = SmallTable::new(EVERYTHING).region("here", "US", &[origin.address]).text();
        let node = Setup::new("here", &table).start().await;
        for client in [Client::http1(node.http()), Client::http2(node.http())] {
            let answer = client.send(&get("/")).await;
            assert_eq!(answer.refusal(), (502, Some(reason.to_owned())), "{shown}");
        }
    }
}

#[tokio::test]
async fn every_endpoint_of_a_region_is_tried_before_giving_up() {
    // Three attempts, two endpoints that are dead, one alive.
    let world = World::of_regions(&[("a", "US"), ("b", "US"), ("c", "US")], EVERYTHING).await;
    let addresses: Vec<String> =
        ["a", "b", "c"].iter().map(|name| format!("\"{}\"", world.origin(name).address())).collect();
    let table = format!(
        "version = \"1\"\n[regions.here]\ncountry = \"US\"\nendpoints = [{}]\nhealth = {{ interval = \"1h\" }}\n{EVERYTHING}",
        addresses.join(", ")
    );
    let node = Setup::new("here", &table).threads(1).start().await;
    world.kill("a").await;
    world.kill("b").await;
    for _ in 0..6 {
        let answer = Client::http1(node.http()).send(&post("/", "order")).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-origin").as_deref()), (200, Some("c")), "{answer:?}");
    }
}

#[tokio::test]
async fn all_endpoints_dead_is_a_clear_answer() {
    let (world, node) = start(EVERYTHING).await;
    world.kill("first").await;
    world.kill("second").await;
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        for sent in [get("/"), post("/", "order")] {
            let (status, reason) = client.send(&sent).await.refusal();
            assert_eq!(status, 503, "{reason:?}");
            assert!(reason.is_some());
        }
    }
}

async fn start(routes: &str) -> (World, Node) {
    let world = World::of_regions(&[("first", "US"), ("second", "US")], routes).await;
    // So many errors in a row are none of these tests' business.
    let table = world.table().replace("[failover]", "[failover]\noutlier = { consecutive_errors = 1000 }");
    let node = Setup::new("first", &table).start().await;
    (world, node)
}
