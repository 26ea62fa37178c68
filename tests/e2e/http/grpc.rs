//! gRPC: refusals, deadlines and failures are statuses that its clients understand, and statuses of origins count as
//! HTTP's do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use loadtest::origin::Behaviour;
use meridian_tests::{
    Answer, Authority, Body, Client, Protocol, Sent, Setup, World, bespoke, empty, eventually, patiently, post,
    streamed,
};
use tokio::sync::Notify;

#[tokio::test]
async fn a_refusal_is_a_status_without_a_message() {
    let routes = "[jurisdictions.eu]\ncountries = [\"DE\"]\n[data_classes.bound]\n\
        [residency_defaults]\nunlisted_jurisdiction = \"allow\"\n\
        [[residency]]\njurisdiction = \"eu\"\ndata_classes = [\"bound\"]\nallow = []\nblocked_by = \"https://law.example\"\n\
        [[routes]]\nname = \"bound\"\npath = \"/bound.\"\ndata_class = \"bound\"\n\
        [[routes]]\nname = \"free\"\npath = \"/free.Free/\"\ndata_class = \"public\"\n";
    let routes = routes.replace("path = \"/bound.\"", "path = \"/bound.Bound/\"");
    let world = World::of_regions(&[("first", "US")], &routes).await;
    let node = Setup::new("first", world.table()).section("limits", "body_bytes = 1000\nheader_bytes = 4096").start();
    let node = node.await;
    let too_long = "x".repeat(5000);
    let cases: [(Sent, u16, u8, &str); 6] = [
        (call("/bound.Bound/Get").from("DE"), 451, 7, "residency_prohibited: Data residency rules"),
        (call("/none.None/Get"), 404, 12, "no_route: "),
        (call("/free.Free/Get").header("x-long", &too_long), 431, 8, "too_large: "),
        (call("/free.Free/Get").body(vec![0; 2000]), 413, 8, "too_large: "),
        (call("/free.Free/Get").header("grpc-timeout", "1s"), 400, 3, "bad_request: "),
        (call("/free.Free/Get").header("grpc-timeout", "1S").header("grpc-timeout", "1S"), 400, 3, "bad_request: "),
    ];
    for (sent, status, code, words) in &cases {
        for protocol in [Protocol::Http2, Protocol::Http1] {
            let skipped = node.access_log().count();
            let answer = refused(&Client::http1(node.http()).speaking(protocol), sent, *code, words).await;
            let link = answer.header("link");
            assert_eq!(link.as_deref(), (*status == 451).then_some("<https://law.example>; rel=\"blocked-by\""));
            // Whoever reads the log sees the refusal as that of any other request.
            let line = node.access_log().find_after(skipped, "its line", |line| line.contains("\"reason\"")).await;
            let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            assert_eq!((&line["status"], &line["grpc_status"]), (&(*status).into(), &(*code).into()), "{line}");
        }
    }
    let refusals = [("region", ""), ("route", "bound"), ("grpc_status", "7")];
    assert_eq!(node.metrics().await.sum("meridian_grpc_requests_total", &refusals), Some(2.0));

    world.kill("first").await;
    let client = Client::http2(node.http());
    let answer = eventually("the region is down", async || {
        let answer = client.send(&call("/free.Free/Get")).await;
        if answer.header("grpc-message").is_some_and(|message| message.starts_with("unavailable")) {
            Ok(answer)
        } else {
            Err(format!("{answer:?}"))
        }
    })
    .await;
    assert_eq!((answer.status.as_u16(), answer.header("grpc-status").as_deref()), (200, Some("14")));
    assert_eq!(answer.header("grpc-retry-pushback-ms").as_deref(), Some("5000"));
}

#[tokio::test]
async fn a_misdirected_call_is_unavailable() {
    let world = World::of_regions(&[("first", "US")], super::EVERYTHING).await;
    let authority = Authority::default();
    let certificate = authority.certify(&["api.example.com"]);
    let node = Setup::new("first", world.table()).tls(&[&certificate]).start().await;
    let client = Client::http2(node.https()).over_tls(&authority, "api.example.com");
    client.send(&call("/a.B/C")).await.assert_served_by("first");
    refused(&client, &call("/a.B/C").host("other.example.com"), 14, "misdirected: ").await;
}

#[tokio::test]
async fn what_is_no_call_gets_documents() {
    let world = World::of_regions(&[("first", "US")], "[[routes]]\nname = \"all\"\npath = \"/there\"\n").await;
    let node = Setup::new("first", world.table()).start().await;
    let client = Client::http2(node.http());
    for kind in ["application/grpc-web", "application/grpc-web+proto", "application/grpcx", "application/json"] {
        client.send(&post("/", "x").header("content-type", kind)).await.assert_refused(404, "no_route");
    }
    client.send(&call("/").method("PUT")).await.assert_refused(404, "no_route");
}

#[tokio::test]
async fn unavailable_without_a_message_goes_elsewhere() {
    let first = status_alone("14").await;
    let (second, served) = counting().await;
    let node = two_regions(&[&first, &second], "").start().await;
    let client = Client::http2(node.http());
    for number in 1..=3 {
        let answer = client.send(&call("/a.B/Charge")).await;
        assert_eq!((answer.region().as_deref(), answer.attempts()), (Some("second"), 2), "{answer:?}");
        assert_eq!(answer.trailers["grpc-status"], "0");
        assert_eq!(served.load(Ordering::Relaxed), number);
    }
    let metrics = node.metrics().await;
    let attempts = [("region", "first"), ("outcome", "grpc_status")];
    assert_eq!(metrics.sum("meridian_attempts_total", &attempts), Some(3.0));
    let calls = [("region", "second"), ("route", "all"), ("grpc_status", "0")];
    assert_eq!(metrics.sum("meridian_grpc_requests_total", &calls), Some(3.0));
}

#[tokio::test]
async fn other_statuses_are_repeated_with_a_key_only() {
    for (code, keyed_attempts) in [("4", 2), ("8", 2), ("13", 2), ("5", 1), ("0", 1)] {
        let first = status_alone(code).await;
        let (second, _) = counting().await;
        let node = two_regions(&[&first, &second], "").start().await;
        let client = Client::http2(node.http());
        let answer = client.send(&call("/a.B/Charge")).await;
        assert_eq!((answer.header("grpc-status").as_deref(), answer.attempts()), (Some(code), 1), "{answer:?}");
        let keyed = client.send(&call("/a.B/Charge").header("idempotency-key", "7")).await;
        assert_eq!(keyed.attempts(), keyed_attempts, "{code}: {keyed:?}");
    }
    // A service that says UNAVAILABLE of what it has acted on is left out.
    let first = status_alone("14").await;
    let (second, served) = counting().await;
    let node = two_regions(&[&first, &second], "retry = { grpc_statuses = [8] }").start().await;
    let answer = Client::http2(node.http()).send(&call("/a.B/Charge").header("idempotency-key", "7")).await;
    assert_eq!((answer.header("grpc-status").as_deref(), answer.attempts()), (Some("14"), 1), "{answer:?}");
    assert_eq!(served.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_status_after_a_message_is_not_repeated() {
    let first = bespoke::http2(|_| async move {
        let (pieces, body) = streamed();
        tokio::spawn(async move {
            pieces.send(&MESSAGE[..]).await;
            pieces.end_with(status("14")).await;
        });
        Ok(grpc(body))
    })
    .await;
    let (second, served) = counting().await;
    let node = two_regions(&[&first, &second], "affinity = { kind = \"cookie\" }").start().await;
    let answer = Client::http2(node.http()).send(&call("/a.B/List").header("idempotency-key", "7")).await;
    assert_eq!((&answer.trailers["grpc-status"], answer.attempts()), (&HeaderValue::from_static("14"), 1));
    assert_eq!(answer.body, MESSAGE[..]);
    assert_eq!(served.load(Ordering::Relaxed), 0);
    eventually("its count", async || {
        let count = node.metrics().await.sum("meridian_grpc_requests_total", &[("grpc_status", "14")]);
        if count == Some(1.0) { Ok(()) } else { Err(format!("{count:?}")) }
    })
    .await;
}

#[tokio::test]
async fn nobody_is_pinned_where_it_failed() {
    for (code, pinned) in [("13", false), ("0", true), ("5", true)] {
        let first = status_alone(code).await;
        let node = two_regions(&[&first], "affinity = { kind = \"cookie\" }").start().await;
        let answer = Client::http2(node.http()).send(&call("/a.B/Charge")).await;
        assert_eq!(answer.headers.contains_key("set-cookie"), pinned, "{code}: {answer:?}");
    }
}

#[tokio::test]
async fn origins_get_what_is_left_of_the_deadline() {
    let origin = |code: &'static str| async move {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let origin = bespoke::http2(move |request: Request<Incoming>| {
            let timeout = request.headers().get_all("grpc-timeout").iter().cloned().collect::<Vec<_>>();
            sender.send(timeout).expect("the test");
            async move { Ok(trailers_only(code)) }
        });
        (origin.await, receiver)
    };
    let ((first, mut at_first), (second, mut at_second)) = (origin("14").await, origin("0").await);
    let node = two_regions(&[&first, &second], "").start().await;
    let client = Client::http2(node.http());
    client.send(&call("/a.B/C").header("grpc-timeout", "5000m")).await;
    let [left, less] = [at_first.try_recv(), at_second.try_recv()].map(|seen| {
        let seen = seen.expect("a call");
        assert_eq!(seen.len(), 1, "{seen:?}");
        let text = seen[0].to_str().expect("text").to_owned();
        text.strip_suffix('u').unwrap_or_else(|| panic!("microseconds: {text}")).parse::<u64>().expect("a number")
    });
    assert!((1_000_000..5_000_000).contains(&left) && less < left, "{less} of {left}");
    client.send(&call("/a.B/C")).await;
    assert_eq!((at_first.try_recv(), at_second.try_recv()), (Ok(vec![]), Ok(vec![])), "none where the client has none");
}

#[tokio::test]
async fn http1_origins_get_it_too_and_other_requests_keep_theirs() {
    let world = World::of_regions(&[("first", "US")], super::EVERYTHING).await;
    let node = Setup::new("first", world.table()).start().await;
    let client = Client::http2(node.http());
    client.send(&call("/a.B/C").header("grpc-timeout", "7S")).await;
    client.send(&post("/", "x").header("grpc-timeout", "7S")).await;
    let received = world.received("first");
    let timeouts: Vec<_> = received.iter().map(|request| request.header("grpc-timeout")).collect();
    assert!(timeouts[0].is_some_and(|left| left.ends_with('u') && left.starts_with("69")), "{timeouts:?}");
    assert_eq!(timeouts[1], Some("7S"));
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_with_its_status() {
    let silent = bespoke::http2(|_| std::future::pending()).await;
    let node = two_regions(&[&silent], "").start().await;
    let client = Client::http2(node.http());
    let started = Instant::now();
    for timeout in ["300m", "0n", "1n"] {
        refused(&client, &call("/a.B/C").header("grpc-timeout", timeout), 4, "upstream_timeout: ").await;
    }
    // An upload that goes on does not stop the clock.
    let mut connection = client.connect().await.expect("a connection");
    let (pieces, body) = streamed();
    let message = connection.message(&call("/a.B/Put").header("grpc-timeout", "300m")).map(|_| body);
    let uploading = tokio::spawn(async move {
        while pieces.send("x").await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let answer = Answer::read(connection.head(message).await.expect("a head")).await.expect("an answer");
    assert_eq!(answer.header("grpc-status").as_deref(), Some("4"), "{answer:?}");
    uploading.abort();
    assert!(started.elapsed() < Duration::from_secs(20), "the route's time is 30 s");
    // That was the clients' doing.
    assert_eq!(node.metrics().await.sum("meridian_ejections_total", &[]).unwrap_or(0.0), 0.0);
}

#[tokio::test]
async fn an_answer_ends_at_its_deadline_with_its_status() {
    let gone = Arc::new(Notify::new());
    let origin = {
        let gone = gone.clone();
        bespoke::http2(move |_| {
            let gone = gone.clone();
            async move {
                let (pieces, body) = streamed();
                tokio::spawn(async move {
                    pieces.send(&MESSAGE[..]).await;
                    // Nobody takes any more once the stream is reset.
                    while pieces.send(&b""[..]).await {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    gone.notify_one();
                });
                Ok(grpc(body))
            }
        })
        .await
    };
    let node = two_regions(&[&origin], "").start().await;
    let answer = Client::http2(node.http()).send(&call("/a.B/Watch").header("grpc-timeout", "400m")).await;
    assert_eq!(answer.body, MESSAGE[..]);
    assert_eq!(answer.trailers["grpc-status"], "4", "{answer:?}");
    patiently("the stream's end at its origin", gone.notified()).await;
    let line = node.access_log().find("its line", |line| line.contains("\"grpc_status\":4")).await;
    assert!(line.contains("\"reason\":\"upstream_timeout\"") && line.contains("\"complete\":false"), "{line}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_ends_with_a_status_over_http2() {
    let came = Arc::new(Notify::new());
    let origin = {
        let came = came.clone();
        bespoke::http2(move |_| {
            let came = came.clone();
            async move {
                let (pieces, body) = streamed();
                tokio::spawn(async move {
                    // A message and half of another.
                    pieces.send([&MESSAGE[..], &MESSAGE[..4]].concat()).await;
                    came.notified().await;
                    pieces.break_off().await;
                });
                Ok(grpc(body))
            }
        })
        .await
    };
    let node = two_regions(&[&origin], "").start().await;
    let mut connection = Client::http2(node.http()).connect().await.expect("a connection");
    let message = connection.message(&call("/a.B/Watch"));
    let mut answer = connection.head(message).await.expect("a head");
    let first = patiently("a piece", answer.body_mut().frame()).await.expect("a piece").expect("a piece");
    assert_eq!(first.into_data().expect("data"), [&MESSAGE[..], &MESSAGE[..4]].concat());
    came.notify_one();
    let answer = Answer::read(answer).await.expect("trailers");
    assert_eq!(answer.trailers["grpc-status"], "14");
    assert!(answer.trailers["grpc-message"].to_str().expect("text").starts_with("upstream_broke_off: "));
    let line = node.access_log().find("its line", |line| line.contains("upstream_broke_off")).await;
    assert!(line.contains("\"grpc_status\":14") && line.contains("\"complete\":false"), "{line}");
    assert_eq!(node.metrics().await.sum("http_errors_total", &[("reason", "upstream_broke_off")]), Some(1.0));
    // Who cannot be told so sees that it is cut off, and so does who asks for something else.
    came.notify_one();
    Client::http1(node.http()).try_send(&call("/a.B/Watch")).await.expect_err("half an answer");
    came.notify_one();
    Client::http2(node.http()).try_send(&post("/", "x")).await.expect_err("half an answer");
}

#[tokio::test]
async fn a_canary_whose_calls_fail_is_ended() {
    for late in [false, true] {
        let stable = bespoke::http2(|_| async { Ok(grpc_answer("0")) }).await;
        let canary =
            bespoke::http2(move |_| async move { Ok(if late { grpc_answer("13") } else { trailers_only("13") }) });
        let canary = canary.await;
        let table = format!(
            "version = \"1\"\n[regions.here]\ncountry = \"US\"\nhealth = {{ kind = \"tcp\", interval = \"1h\" }}\n\
             endpoints = [{{ address = \"h2c://{}\", version = \"v1\" }}, {{ address = \"h2c://{}\", version = \"v2\" }}]\n\
             [[routes]]\nname = \"all\"\n[canary]\nversion = \"v2\"\nsteps = [50]\n",
            stable.address, canary.address
        );
        let node = Setup::new("here", &table).start().await;
        let client = Client::http2(node.http());
        eventually("the canary's end", async || {
            for number in 1..=20 {
                client.send(&call("/a.B/C").on_behalf_of([100, 64, 0, number].into())).await;
            }
            let state = node.status().await["canary"]["state"].clone();
            if state == "ended" { Ok(()) } else { Err(format!("late: {late}, {state}")) }
        })
        .await;
    }
}

#[tokio::test]
async fn a_gateways_own_failure_comes_down_as_a_status_and_is_not_repeated() {
    let fleet = super::gateway::Fleet::start().await;
    let client = Client::http2(fleet.here.http());
    client.send(&call("/public").from("DE").header("grpc-timeout", "7S")).await.assert_served_by("there");
    let received = fleet.world.received("there").pop().expect("a call");
    let left = received.header("grpc-timeout").map(str::to_owned);
    assert!(left.as_ref().is_some_and(|left| left.starts_with('6') && left.ends_with('u')), "{left:?}");
    fleet.world.behave("there", &Behaviour::CloseBeforeHead);
    for number in 2..=4 {
        refused(&client, &call("/public").from("DE"), 14, "upstream_failed: ").await;
        assert_eq!(fleet.world.received("there").len(), number, "once: it may have been acted on");
    }
    fleet.world.assert_nothing_outside(&["there"]);
    let line = fleet.here.access_log().find("its line", |line| line.contains("\"status\":502")).await;
    assert!(line.contains("/public") && line.contains("\"grpc_status\":14"), "{line}");
    // What no origin has seen goes elsewhere.
    fleet.world.kill("there").await;
    client.send(&call("/public").from("DE")).await.assert_served_by("here");
}

/// Asserts that a call gets nothing but this status, and these words first.
async fn refused(client: &Client, sent: &Sent, code: u8, words: &str) -> Answer {
    let mut connection = client.connect().await.expect("a connection");
    let message = connection.message(sent);
    let response = connection.head(message).await.expect("a head");
    assert!(response.body().is_end_stream(), "trailers only: {response:?}");
    let answer = Answer::read(response).await.expect("an answer");
    assert_eq!((answer.status.as_u16(), answer.header("grpc-status")), (200, Some(code.to_string())), "{answer:?}");
    assert_eq!(answer.header("content-type").as_deref(), Some("application/grpc"));
    assert!(answer.header("grpc-message").is_some_and(|message| message.starts_with(words)), "{words}: {answer:?}");
    assert!(answer.body.is_empty() && answer.header("x-request-id").is_some(), "{answer:?}");
    answer
}

/// A call with one message.
fn call(path: &str) -> Sent {
    post(path, &MESSAGE[..]).header("content-type", "application/grpc").header("te", "trailers")
}

/// An origin whose answers are this status, and nothing else.
async fn status_alone(code: &'static str) -> bespoke::Bespoke {
    bespoke::http2(move |_| async move { Ok(trailers_only(code)) }).await
}

/// An origin that answers with a message and OK, and counts.
async fn counting() -> (bespoke::Bespoke, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let origin = bespoke::http2(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        async { Ok(grpc_answer("0")) }
    });
    (origin.await, count)
}

fn grpc_answer(code: &'static str) -> Response<Body> {
    let (pieces, body) = streamed();
    tokio::spawn(async move {
        pieces.send(&MESSAGE[..]).await;
        pieces.end_with(status(code)).await;
    });
    grpc(body)
}

fn trailers_only(code: &'static str) -> Response<Body> {
    let mut response = grpc(empty());
    response.headers_mut().extend(status(code));
    response
}

fn grpc(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

fn status(code: &'static str) -> HeaderMap {
    HeaderMap::from_iter([("grpc-status".parse().expect("a name"), HeaderValue::from_static(code))])
}

/// Regions `first`, `second` of these origins, which probes only connect to, and one route with these lines.
fn two_regions(origins: &[&bespoke::Bespoke], route: &str) -> Setup {
    let mut table = "version = \"1\"\n".to_owned();
    for (priority, (name, origin)) in ["first", "second"].iter().zip(origins).enumerate() {
        table.push_str(&format!(
            "[regions.{name}]\ncountry = \"US\"\npriority = {priority}\nendpoints = [\"h2c://{}\"]\n\
             health = {{ kind = \"tcp\", interval = \"1h\" }}\n",
            origin.address
        ));
    }
    table.push_str(&format!("[[routes]]\nname = \"all\"\n{route}\n"));
    // So many errors in a row are none of these tests' business.
    table.push_str("[failover]\noutlier = { consecutive_errors = 1000 }\n");
    Setup::new("first", &table).threads(1)
}

/// A message of five bytes, with its prefix.
const MESSAGE: &[u8; 10] = b"\0\0\0\0\x05hello";
