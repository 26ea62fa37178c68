//! Origins that speak HTTP/2: requests share connections, bodies and trailers stream both ways, and a request is
//! repeated exactly when its origin says that it was not acted on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use loadtest::Protocol;
use loadtest::origin::{Origin, OriginConfig};
use meridian_tests::frames::reason;
use meridian_tests::streams::{Stream, StreamClient};
use meridian_tests::{
    Answer, Authority, Client, Frames, Node, Setup, bespoke, eventually, full, get, patiently, post, streamed,
};
use tokio::sync::{Notify, watch};

use super::EVERYTHING;

#[tokio::test]
async fn requests_share_one_connection() {
    let origin = named("first", Protocol::Http2).await;
    let node = start(&[&format!("h2c://{}", origin.address())]).await;
    let probed = after_probe(&origin).await;
    let mut connection = Client::http1(node.http()).connect().await.expect("a connection");
    for _ in 0..20 {
        connection.send(&post("/", "x")).await.assert_served_by("first");
    }
    let many = (0..50).map(|_| {
        let client = Client::http1(node.http());
        tokio::spawn(async move { client.send(&post("/", "x")).await.assert_served_by("first") })
    });
    for answered in many.collect::<Vec<_>>() {
        answered.await.expect("an answer");
    }
    assert_eq!(origin.connections() - probed, 1, "70 requests on one connection");
    let received = origin.received().pop().expect("a request");
    for name in ["connection", "host", "upgrade", "transfer-encoding"] {
        assert!(!received.headers.contains_key(name), "{received:?}");
    }
}

#[tokio::test]
async fn many_at_once_wait_for_one_connection() {
    let origin = named("first", Protocol::Http2).await;
    let node = start(&[&format!("h2c://{}", origin.address())]).await;
    let probed = after_probe(&origin).await;
    let many: Vec<_> = (0..50)
        .map(|_| {
            let client = Client::http1(node.http());
            tokio::spawn(async move { client.send(&get("/")).await.assert_served_by("first") })
        })
        .collect();
    for answered in many {
        answered.await.expect("an answer");
    }
    assert_eq!(origin.connections() - probed, 1);
}

#[tokio::test]
async fn alpn_agrees_on_it_over_tls_or_nothing_is_sent() {
    let authority = Authority::default();
    let tls = || Some(authority.certify(&["127.0.0.1"]).server_config());
    let config = |name: &str| OriginConfig { tls: tls(), ..OriginConfig::named(name) };
    let first = Origin::start(config("first")).await.expect("a port");
    let second = Origin::start(OriginConfig { protocol: Protocol::Http2, ..config("second") }).await.expect("a port");
    let endpoints = [format!("h2://{}", first.address()), format!("h2://{}", second.address())];
    let setup = setup(&[&endpoints[0], &endpoints[1]]).file("ca.pem", authority.pem());
    let node = setup.section("upstream", "certificate_authorities = [\"ca.pem\"]").start().await;
    // The first speaks HTTP/1.1 only.
    let answer = Client::http1(node.http()).send(&post("/", "order")).await;
    answer.assert_served_by("second");
    assert_eq!((answer.attempts(), first.requests(), second.requests()), (2, 0, 1));
}

#[tokio::test]
async fn an_origin_of_http1_never_gets_a_byte_of_a_request() {
    let origin = named("first", Protocol::Http1).await;
    let good = named("second", Protocol::Http2).await;
    let node = start(&[&format!("h2c://{}", origin.address()), &format!("h2c://{}", good.address())]).await;
    for _ in 0..3 {
        Client::http1(node.http()).send(&post("/", "order")).await.assert_served_by("second");
    }
    assert_eq!((origin.requests(), good.requests()), (0, 3));
}

#[tokio::test]
async fn trailers_pass_both_ways_as_grpc_needs_them() {
    let origin = bespoke::http2(|request: Request<Incoming>| async move {
        assert_eq!((request.version(), request.headers()["te"].as_bytes()), (Version::HTTP_2, &b"trailers"[..]));
        assert_eq!(request.headers()["content-type"], "application/grpc");
        assert_eq!(request.uri().authority().map(|authority| authority.as_str()), Some("api.example.com"));
        let received = request.into_body().collect().await.expect("a whole request");
        let sent = received.trailers().map(|trailers| trailers["x-checksum"].clone()).expect("trailers");
        let (pieces, body) = streamed();
        tokio::spawn(async move {
            pieces.send(received.to_bytes()).await;
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            trailers.insert("x-checksum", sent);
            pieces.end_with(trailers).await;
        });
        let mut response = Response::new(body);
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        Ok(response)
    })
    .await;
    let node = start(&[&format!("h2c://{}", origin.address)]).await;
    let mut connection = Client::http2(node.http()).connect().await.expect("a connection");
    let sent = post("/echo.Echo/Say", "").header("te", "trailers").header("content-type", "application/grpc");
    let (pieces, body) = streamed();
    tokio::spawn(async move {
        pieces.send("\0\0\0\0\x05hello").await;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", HeaderValue::from_static("7"));
        pieces.end_with(trailers).await;
    });
    let message = connection.message(&sent).map(|_| body);
    let answer = Answer::read(connection.head(message).await.expect("a head")).await.expect("an answer");
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "\0\0\0\0\x05hello"));
    assert_eq!(
        (&answer.trailers["grpc-status"], &answer.trailers["x-checksum"]),
        (&"0".parse().unwrap(), &"7".parse().unwrap())
    );
    assert_eq!(answer.header("content-type").as_deref(), Some("application/grpc"));
}

#[tokio::test]
async fn large_bodies_stream_both_ways() {
    let origin = bespoke::http2(|request: Request<Incoming>| async move {
        Ok(Response::new(request.into_body().map_err(std::io::Error::other).boxed_unsync()))
    })
    .await;
    let node = start(&[&format!("h2c://{}", origin.address)]).await;
    let large: Vec<u8> = (0..10_000_000_u32).map(|n| (n % 251) as u8).collect();
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        // As an echo, up and down at once.
        let answer = client.send(&post("/", large.clone())).await;
        assert!(answer.status == 200 && answer.body == large, "{} bytes", answer.body.len());
    }
}

#[tokio::test]
async fn a_slow_reader_holds_up_nobody_else() {
    let origin = bespoke::http2(|request: Request<Incoming>| async move {
        let large = request.uri().path() == "/large";
        Ok(Response::new(full(vec![b'x'; if large { 20_000_000 } else { 300_000 }])))
    })
    .await;
    let node = start(&[&format!("h2c://{}", origin.address)]).await;
    let mut held = Vec::new();
    for _ in 0..30 {
        let mut connection = Client::http1(node.http()).connect().await.expect("a connection");
        let message = connection.message(&get("/large"));
        held.push((connection.head(message).await.expect("a head"), connection));
    }
    for _ in 0..10 {
        assert_eq!(Client::http1(node.http()).send(&get("/")).await.body.len(), 300_000);
    }
}

#[tokio::test]
async fn a_stream_past_a_go_away_is_repeated_elsewhere() {
    for code in [reason::NO_ERROR, reason::INTERNAL_ERROR] {
        let first = bespoke::frames(&[], move |mut frames: Frames, _| async move {
            let Some(stream) = frames.request().await else { return };
            frames.go_away(stream - 1, code).await;
            frames.closed().await;
        })
        .await;
        let (node, second) = beside(&first).await;
        for sent in [post("/", "order"), get("/")] {
            let answer = Client::http1(node.http()).send(&sent).await;
            answer.assert_served_by("second");
            assert_eq!(answer.attempts(), 2);
        }
        assert_eq!(second.received().last().map(|received| received.method.clone()), Some(http::Method::GET));
        assert_eq!(second.requests(), 2);
    }
}

#[tokio::test]
async fn a_stream_that_a_go_away_covers_ends_well_and_the_next_takes_a_new_connection() {
    let (go, gate) = watch::channel(false);
    let asked = Arc::new(Notify::new());
    let arrived = asked.clone();
    let origin = bespoke::frames(&[], move |mut frames: Frames, number| {
        let (mut gate, arrived) = (gate.clone(), arrived.clone());
        async move {
            while let Some(stream) = frames.request().await {
                if number == 0 {
                    frames.go_away(stream, reason::NO_ERROR).await;
                    frames.ping().await;
                    arrived.notify_one();
                    // A failed wait is the end of the test.
                    let _ = gate.wait_for(|open| *open).await;
                }
                frames.answer(stream, &format!("connection {number}")).await;
            }
        }
    })
    .await;
    let node = start(&[&format!("h2c://{}", origin.address)]).await;
    let client = Client::http1(node.http());
    let first = {
        let client = client.clone();
        tokio::spawn(async move { client.send(&post("/", "order")).await })
    };
    patiently("the first request", asked.notified()).await;
    for _ in 0..3 {
        let answer = client.send(&post("/", "order")).await;
        assert_eq!((answer.text(), answer.attempts()), ("connection 1", 1));
    }
    go.send(true).expect("a gate");
    assert_eq!(first.await.expect("an answer").text(), "connection 0");
}

#[tokio::test]
async fn a_refused_stream_is_repeated_and_no_other_reset_is() {
    for (code, repeated) in [(reason::REFUSED_STREAM, true), (reason::INTERNAL_ERROR, false), (reason::CANCEL, false)] {
        let first = bespoke::frames(&[], move |mut frames: Frames, _| async move {
            while let Some(stream) = frames.request().await {
                frames.reset(stream, code).await;
            }
        })
        .await;
        let (node, second) = beside(&first).await;
        let client = Client::http1(node.http());
        let answer = client.send(&post("/", "order")).await;
        if repeated {
            answer.assert_served_by("second");
        } else {
            assert_eq!(answer.refusal(), (502, Some("upstream_failed".to_owned())), "{code}");
        }
        assert_eq!(second.requests(), u64::from(repeated));
        client.send(&get("/")).await.assert_served_by("second");
        client.send(&post("/", "order").header("idempotency-key", "1")).await.assert_served_by("second");
    }
}

/// The stream of an upload counts until it ends, whatever its answer: what would wait for it at the connection could not be
/// taken back, and goes to another.
#[tokio::test]
async fn an_upload_that_outlasts_its_answer_keeps_its_place() {
    let (heads, mut received) = tokio::sync::mpsc::unbounded_channel();
    let origin = bespoke::frames(&[(MAX_CONCURRENT_STREAMS, 1)], move |mut frames: Frames, number| {
        let heads = heads.clone();
        async move {
            while let Some(frame) = frames.read().await {
                if frame.kind == HEADERS {
                    heads.send((number, frame.stream)).expect("the test");
                    frames.answer(frame.stream, &format!("connection {number}")).await;
                } else if frame.kind == RST_STREAM {
                    heads.send((number, 0)).expect("the test");
                }
            }
        }
    })
    .await;
    let node = start(&[&format!("h2c://{}", origin.address)]).await;
    let mut uploading = StreamClient::connect(node.http()).await;
    let upload = Request::post("http://api.example.com/").body(()).expect("a request");
    let (_, mut upload) = uploading.send(upload).await;
    assert_eq!(upload.read_to_end().await, ("connection 0".to_owned(), None));
    let client = Client::http1(node.http());
    for _ in 0..3 {
        assert_eq!(client.send(&get("/")).await.text(), "connection 1");
    }
    // It is given up, and with that its place is free.
    drop(upload);
    let mut next = async || patiently("what the origin hears", received.recv()).await.expect("an origin");
    for expected in [(0, 1), (1, 1), (1, 3), (1, 5), (0, 0)] {
        assert_eq!(next().await, expected);
    }
    eventually("the first connection", async || {
        let answer = client.send(&get("/")).await;
        if answer.text() == "connection 0" { Ok(()) } else { Err(answer.text().to_owned()) }
    })
    .await;
}

/// An answer that is as long as it says is whole, whatever becomes of its connection.
#[tokio::test]
async fn an_answer_is_whole_by_its_length_when_its_connection_ends() {
    for goes in [false, true] {
        let origin = bespoke::frames(&[], move |mut frames: Frames, _| async move {
            let Some(stream) = frames.request().await else { return };
            // 200, and `content-length: 2`.
            frames.write(HEADERS, END_HEADERS, stream, b"\x88\x0f\x0d\x012").await;
            frames.write(DATA, 0, stream, b"ok").await;
            if goes {
                frames.go_away(stream, reason::INTERNAL_ERROR).await;
            }
        })
        .await;
        let node = start(&[&format!("h2c://{}", origin.address)]).await;
        let mut client = StreamClient::connect(node.http()).await;
        let request = Request::get("http://api.example.com/").body(()).expect("a request");
        let (answer, mut sending) = client.begin(request).await;
        sending.send_data(Bytes::new(), true).expect("an open stream");
        let receiving = patiently("an answer", answer).await.expect("an answer").into_body();
        let mut stream = Stream::new(sending, receiving);
        assert_eq!(stream.read_to_end().await, ("ok".to_owned(), None), "{goes}");
    }
}

/// HTTP/2 has no 101 (RFC 9113, 8.6), and a client of HTTP/1.1 would take what follows for another protocol.
#[tokio::test]
async fn an_answer_that_switches_protocols_is_malformed() {
    let origin = bespoke::frames(&[], |mut frames: Frames, _| async move {
        while let Some(stream) = frames.request().await {
            // HPACK: the name of `:status`, and a value as it is.
            frames.write(HEADERS, END_HEADERS, stream, b"\x08\x03101").await;
            frames.answer(stream, "ok").await;
        }
    })
    .await;
    let node = start(&[&format!("h2c://{}", origin.address)]).await;
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        let answer = client.send(&post("/", "order")).await;
        assert_eq!(answer.refusal(), (502, Some("upstream_malformed".to_owned())));
    }
}

#[tokio::test]
async fn a_lost_connection_may_have_been_acted_on() {
    // With and without the word that the stream is among those served.
    for covered in [false, true] {
        let first = bespoke::frames(&[], move |mut frames: Frames, _| async move {
            let Some(stream) = frames.request().await else { return };
            if covered {
                frames.go_away(stream, reason::NO_ERROR).await;
            }
        })
        .await;
        let (node, second) = beside(&first).await;
        let client = Client::http1(node.http());
        assert_eq!(client.send(&post("/", "order")).await.refusal(), (502, Some("upstream_failed".to_owned())));
        assert_eq!(second.requests(), 0);
        client.send(&get("/")).await.assert_served_by("second");
    }
}

#[tokio::test]
async fn a_peers_limit_on_streams_is_kept_to() {
    let most = Arc::new(AtomicUsize::new(0));
    let connections = Arc::new(AtomicUsize::new(0));
    let (go, gate) = watch::channel(false);
    let origin = {
        let (most, connections) = (most.clone(), connections.clone());
        bespoke::frames(&[(MAX_CONCURRENT_STREAMS, 2)], move |mut frames: Frames, _| {
            let (most, connections, mut gate) = (most.clone(), connections.clone(), gate.clone());
            async move {
                connections.fetch_add(1, Ordering::Relaxed);
                let mut open = Vec::new();
                while open.len() < 2 {
                    let Some(stream) = frames.request().await else { return };
                    open.push(stream);
                    most.fetch_max(open.len(), Ordering::Relaxed);
                }
                let _ = gate.wait_for(|open| *open).await;
                for stream in open {
                    frames.answer(stream, "ok").await;
                }
                frames.closed().await;
            }
        })
        .await
    };
    let node = start(&[&format!("h2c://{}", origin.address)]).await;
    let many: Vec<_> = (0..6)
        .map(|_| {
            let client = Client::http1(node.http());
            tokio::spawn(async move { client.send(&post("/", "order")).await.text().to_owned() })
        })
        .collect();
    eventually("three connections", async || match connections.load(Ordering::Relaxed) {
        3 => Ok(()),
        other => Err(format!("{other} connections")),
    })
    .await;
    go.send(true).expect("a gate");
    for answered in many {
        assert_eq!(answered.await.expect("an answer"), "ok");
    }
    assert_eq!((most.load(Ordering::Relaxed), connections.load(Ordering::Relaxed)), (2, 3));
}

#[tokio::test]
async fn an_origin_that_restarts_costs_nothing() {
    let origin = named("first", Protocol::Http2).await;
    let node = start(&[&format!("h2c://{}", origin.address())]).await;
    let mut connection = Client::http1(node.http()).connect().await.expect("a connection");
    for round in 1..=10 {
        connection.send(&get("/warm")).await.assert_served_by("first");
        origin.kill().await;
        origin.revive().await.expect("its port");
        let answer = connection.send(&post("/order", "one")).await;
        answer.assert_served_by("first");
        assert_eq!(answer.attempts(), 1, "nothing was tried in vain");
        let orders = origin.received().iter().filter(|received| received.path == "/order").count();
        assert_eq!(orders, round, "each order once");
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_time() {
    let closed = Arc::new(Notify::new());
    let notify = closed.clone();
    let origin = bespoke::frames(&[], move |mut frames: Frames, _| {
        let notify = notify.clone();
        async move {
            while let Some(stream) = frames.request().await {
                frames.answer(stream, "ok").await;
            }
            notify.notify_one();
        }
    })
    .await;
    let setup = setup(&[&format!("h2c://{}", origin.address)]);
    let node = setup.section("upstream", "idle_timeout = \"100ms\"").start().await;
    assert_eq!(Client::http1(node.http()).send(&get("/")).await.text(), "ok");
    patiently("the idle connection's end", closed.notified()).await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_stream_only() {
    let reset = Arc::new(Notify::new());
    let arrived = Arc::new(Notify::new());
    let origin = {
        let (reset, arrived) = (reset.clone(), arrived.clone());
        bespoke::frames(&[], move |mut frames: Frames, _| {
            let (reset, arrived) = (reset.clone(), arrived.clone());
            async move {
                let Some(first) = frames.request().await else { return };
                arrived.notify_one();
                while let Some(frame) = frames.read().await {
                    if frame.kind == RST_STREAM && frame.stream == first {
                        reset.notify_one();
                        break;
                    }
                }
                while let Some(stream) = frames.request().await {
                    frames.answer(stream, "the same connection").await;
                }
            }
        })
        .await
    };
    let node = start(&[&format!("h2c://{}", origin.address)]).await;
    let mut connection = Client::http1(node.http()).connect().await.expect("a connection");
    let waiting = tokio::spawn(async move { connection.try_send(&get("/")).await });
    patiently("the request at its origin", arrived.notified()).await;
    waiting.abort();
    patiently("the stream's end", reset.notified()).await;
    assert_eq!(Client::http1(node.http()).send(&get("/")).await.text(), "the same connection");
}

/// A node whose first region is this origin, and whose second is a good one.
async fn beside(first: &bespoke::Bespoke) -> (Node, Origin) {
    let second = named("second", Protocol::Http2).await;
    let node = start(&[&format!("h2c://{}", first.address), &format!("h2c://{}", second.address())]).await;
    (node, second)
}

async fn start(endpoints: &[&str]) -> Node {
    setup(endpoints).start().await
}

/// A node with one thread, and a region for each of these endpoints, `first` and `second`, which probes only connect to.
fn setup(endpoints: &[&str]) -> Setup {
    let mut table = "version = \"1\"\n".to_owned();
    for (priority, (name, endpoint)) in ["first", "second"].iter().zip(endpoints).enumerate() {
        table.push_str(&format!(
            "[regions.{name}]\ncountry = \"US\"\npriority = {priority}\nendpoints = [\"{endpoint}\"]\n\
             health = {{ kind = \"tcp\", interval = \"1h\" }}\n"
        ));
    }
    table.push_str(EVERYTHING);
    // So many errors in a row are none of these tests' business.
    table.push_str("\n[failover]\noutlier = { consecutive_errors = 1000 }\n");
    Setup::new("first", &table).threads(1)
}

async fn named(name: &str, protocol: Protocol) -> Origin {
    Origin::start(OriginConfig { protocol, ..OriginConfig::named(name) }).await.expect("a free port")
}

/// The connections of an origin so far, once the one probe of the test has been there.
async fn after_probe(origin: &Origin) -> u64 {
    eventually("the probe", async || if origin.connections() == 1 { Ok(1) } else { Err("none".to_owned()) }).await
}

const MAX_CONCURRENT_STREAMS: u16 = 3;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_HEADERS: u8 = 4;
