//! Interim answers, and content that waits for one, over HTTP/2.

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::ext::Protocol;
use http::{Method, Request, Response};
use meridian_tests::bespoke::{self, Bespoke};
use meridian_tests::streams::{Stream, StreamClient, accept_of, interim};
use meridian_tests::{Node, RawConnection, Setup, SmallTable, World, patiently};

use super::EVERYTHING;

/// Those of an origin of HTTP/1.1 reach a client of HTTP/2 before the answer, without what is not for it.
#[tokio::test]
async fn those_of_http1_go_down() {
    let origin = answering(
        "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nconnection: x-hop\r\n\
         x-hop: y\r\nx-meridian-region: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
    )
    .await;
    let node = start(&origin).await;
    let mut client = StreamClient::connect(node.http()).await;
    let (mut answer, _) = client.begin(get()).await;
    assert_eq!(interim(&mut answer).await.expect("an interim answer").status(), 102);
    let hints = interim(&mut answer).await.expect("another");
    assert_eq!(
        (hints.status().as_u16(), &hints.headers()["link"]),
        (103, &"</a.css>; rel=preload".parse().expect("a value"))
    );
    assert_eq!(hints.headers().len(), 1, "{hints:?}");
    assert!(interim(&mut answer).await.is_none());
    let (head, body) = finish(answer).await;
    assert_eq!((head.status().as_u16(), &body[..]), (200, "ok"));
}

/// One that says how long its content is, which it has not, does not mislead clients of HTTP/2 about the answer.
#[tokio::test]
async fn what_they_say_of_content_does_not_go_down() {
    let origin = answering(
        "HTTP/1.1 103 Early Hints\r\ncontent-length: 0\r\ntrailer: x-a\r\nlink: </a.css>\r\n\r\n\
         HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
    )
    .await;
    let node = start(&origin).await;
    let mut client = StreamClient::connect(node.http()).await;
    let (mut answer, _) = client.begin(get()).await;
    let hints = interim(&mut answer).await.expect("an interim answer");
    assert_eq!((hints.status().as_u16(), hints.headers().len()), (103, 1), "{hints:?}");
    assert_eq!(finish(answer).await.1, "ok");
    let heads = RawConnection::open(node.http()).await.exchange(GET).await;
    assert!(heads.starts_with("HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\n"), "{heads}");
}

/// Some clients of gRPC take the first head for the answer: calls get no other, whatever they wait for.
#[tokio::test]
async fn calls_get_none() {
    let of_http1 = bespoke::tcp(|mut visit| async move {
        assert!(!visit.head.to_ascii_lowercase().contains("expect:"), "{}", visit.head);
        visit.connection.write("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n").await;
        visit.connection.read_until("hello").await;
        visit.connection.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await;
    })
    .await;
    let of_http2 = bespoke::streams(false, |request, mut respond| async move {
        assert!(!request.headers().contains_key("expect"), "{request:?}");
        for status in [100, 102, 103] {
            respond.send_informational(head(status)).expect("an open stream");
        }
        answer_all(request, respond).await;
    })
    .await;
    for endpoint in [of_http1.address.to_string(), format!("h2c://{}", of_http2.address)] {
        let node = before(&endpoint).await;
        for kind in ["application/grpc", "application/grpc+proto"] {
            let mut client = StreamClient::connect(node.http()).await;
            let call = Request::post("http://api.example.com/a.B/C").header("content-type", kind);
            let call = call.header("te", "trailers").header("expect", "100-continue").body(()).expect("a request");
            let (mut answer, mut sending) = client.begin(call).await;
            sending.send_data("hello".into(), true).expect("an open stream");
            let told = interim(&mut answer).await;
            assert!(told.is_none(), "{endpoint} {kind}: {told:?}");
            assert_eq!(finish(answer).await.0.status(), 200);
            let call = format!(
                "POST /a.B/C HTTP/1.1\r\nhost: api.example.com\r\ncontent-type: {kind}\r\nconnection: close\r\n\
                 content-length: 5\r\nexpect: 100-continue\r\n\r\nhello"
            );
            let heads = RawConnection::open(node.http()).await.exchange(&call).await;
            assert!(heads.starts_with("HTTP/1.1 200 OK\r\n"), "{endpoint} {kind}: {heads}");
        }
        // Of anything else, they do.
        let mut client = StreamClient::connect(node.http()).await;
        let request = Request::post("http://api.example.com/").header("content-type", "application/grpc-web");
        let (mut answer, mut sending) = client.begin(request.body(()).expect("a request")).await;
        sending.send_data("hello".into(), true).expect("an open stream");
        assert!(interim(&mut answer).await.is_some(), "{endpoint}");
    }
}

/// They come when the origin says them, not with the answer.
#[tokio::test]
async fn they_do_not_wait_for_the_answer() {
    let origin = bespoke::tcp(|mut visit| async move {
        visit.connection.write("HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n").await;
        visit.connection.read_to_end().await;
    })
    .await;
    let node = start(&origin).await;
    let mut client = StreamClient::connect(node.http()).await;
    let (mut answer, _) = client.begin(get()).await;
    assert_eq!(interim(&mut answer).await.expect("an interim answer").status(), 103);
}

/// Sixteen of a request at most, and none larger than all of them may be.
#[tokio::test]
async fn there_is_an_end_to_them() {
    let many = "HTTP/1.1 103 Early Hints\r\na: b\r\n\r\n".repeat(100);
    let large = format!("HTTP/1.1 103 Early Hints\r\na: {}\r\n\r\n", "x".repeat(40_000)).repeat(3);
    for (sent, passed) in [(many, 16), (large, 1)] {
        let sent: &'static str = format!("{sent}HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").leak();
        let origin = answering(sent).await;
        let node = start(&origin).await;
        let mut client = StreamClient::connect(node.http()).await;
        let (mut answer, _) = client.begin(get()).await;
        let mut heads = 0;
        while interim(&mut answer).await.is_some() {
            heads += 1;
        }
        assert_eq!((heads, finish(answer).await.1.as_str()), (passed, "ok"));
    }
}

/// A client that waits is told to go on, however much it was told before.
#[tokio::test]
async fn the_word_that_content_waits_for_has_room() {
    // With what it takes beside, all but ten bytes of what goes down.
    let large = format!("HTTP/1.1 103 Early Hints\r\na: {}\r\n\r\n", "x".repeat(64 * 1024 - 16 - 5 - 10));
    let origin = bespoke::tcp(move |mut visit| {
        let large = large.clone();
        async move {
            visit.connection.write(large).await;
            visit.connection.write("HTTP/1.1 100 Continue\r\n\r\n").await;
            visit.connection.read_until("hello").await;
            visit.connection.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let node = start(&origin).await;
    let mut client = StreamClient::connect(node.http()).await;
    let (mut answer, mut sending) = client.begin(put("5")).await;
    assert_eq!(interim(&mut answer).await.expect("hints").status(), 103);
    assert_eq!(interim(&mut answer).await.expect("a word").status(), 100);
    sending.send_data("hello".into(), true).expect("an open stream");
    assert_eq!(finish(answer).await.1, "ok");
}

/// Content that waits is sent once the origin wants it.
#[tokio::test]
async fn content_that_waits_comes_when_the_origin_wants_it() {
    let (sender, mut heads) = tokio::sync::mpsc::unbounded_channel();
    let origin = bespoke::tcp(move |mut visit| {
        let sender = sender.clone();
        async move {
            let _ = sender.send(visit.head.to_ascii_lowercase());
            visit.connection.write("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n").await;
            visit.connection.read_until("hello").await;
            visit.connection.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let node = start(&origin).await;
    let mut client = StreamClient::connect(node.http()).await;
    let (mut answer, mut sending) = client.begin(put("5")).await;
    assert_eq!(interim(&mut answer).await.expect("hints").status(), 103);
    assert_eq!(interim(&mut answer).await.expect("a word").status(), 100);
    let head = heads.recv().await.expect("a request");
    assert!(head.contains("\r\nexpect: 100-continue\r\n"), "it is the origin's to answer: {head}");
    sending.send_data("hello".into(), true).expect("an open stream");
    assert!(interim(&mut answer).await.is_none(), "one is enough");
    assert_eq!(finish(answer).await.1, "ok");
}

/// Where it does not, the client hears no 100.
#[tokio::test]
async fn content_that_waits_and_is_not_wanted_does_not_come() {
    let refusal = "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno";
    let (sender, mut heads) = tokio::sync::mpsc::unbounded_channel();
    let origin = bespoke::tcp(move |mut visit| {
        let sender = sender.clone();
        async move {
            visit.connection.write(refusal).await;
            let _ = sender.send(visit.head.to_ascii_lowercase());
        }
    })
    .await;
    let node = start(&origin).await;
    let mut client = StreamClient::connect(node.http()).await;
    let (mut answer, _sending) = client.begin(put("5")).await;
    assert!(interim(&mut answer).await.is_none(), "no 100 before it");
    let (head, body) = finish(answer).await;
    assert_eq!((head.status().as_u16(), body.as_str()), (403, "no"));
    let head = heads.recv().await.expect("a request");
    assert!(head.contains("\r\nexpect: 100-continue\r\n"), "it was asked: {head}");
}

/// An origin that says nothing gets the content after a while.
#[tokio::test]
async fn content_that_waits_comes_in_the_end() {
    let of_http1 = bespoke::tcp(|mut visit| async move {
        assert!(visit.head.to_ascii_lowercase().contains("\r\nexpect: 100-continue\r\n"), "{}", visit.head);
        visit.connection.read_until("hello").await;
        visit.connection.write("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await;
    })
    .await;
    let of_http2 = bespoke::streams(false, |request, respond| async move {
        assert_eq!(request.headers()["expect"], "100-continue");
        answer_all(request, respond).await;
    })
    .await;
    for endpoint in [of_http1.address.to_string(), format!("h2c://{}", of_http2.address)] {
        let node = before(&endpoint).await;
        let mut client = StreamClient::connect(node.http()).await;
        let (mut answer, mut sending) = client.begin(put("5")).await;
        assert_eq!(interim(&mut answer).await.expect("a word").status(), 100, "{endpoint}");
        sending.send_data("hello".into(), true).expect("an open stream");
        let (head, body) = finish(answer).await;
        assert_eq!((head.status().as_u16(), body.as_str()), (200, "hello"), "{endpoint}");
    }
}

/// What the node refuses itself it does not ask for, and whoever has sent it already is not held up.
#[tokio::test]
async fn content_that_the_node_refuses_is_not_asked_for() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let node = Setup::new("here", world.table()).section("limits", "body_bytes = 100").start().await;
    let mut client = StreamClient::connect(node.http()).await;
    let (mut answer, _sending) = client.begin(put("101")).await;
    assert!(interim(&mut answer).await.is_none());
    assert_eq!(finish(answer).await.0.status(), 413);
    assert_eq!(world.received("here").len(), 0);
    let (answer, mut sending) = client.begin(put("5")).await;
    sending.send_data("hello".into(), true).expect("an open stream");
    assert_eq!(finish(answer).await.0.status(), 200);
    assert_eq!(&world.received("here").pop().expect("a request").body[..], b"hello");
}

/// Those of an origin of HTTP/2 reach clients of both versions, and its word on content that waits is passed on.
#[tokio::test]
async fn those_of_http2_go_down() {
    let (sender, mut expected) = tokio::sync::mpsc::unbounded_channel();
    let origin = bespoke::streams(false, move |request, mut respond| {
        let sender = sender.clone();
        async move {
            let _ = sender.send(request.headers().get("expect").cloned());
            let head =
                |status: u16, link| Response::builder().status(status).header("link", link).body(()).expect("a head");
            respond.send_informational(head(103, "</a.css>")).expect("an open stream");
            if request.headers().contains_key("expect") {
                respond.send_informational(head(100, "none")).expect("an open stream");
            }
            answer_all(request, respond).await;
        }
    })
    .await;
    let node = before(&format!("h2c://{}", origin.address)).await;
    let heads = RawConnection::open(node.http()).await.exchange(GET).await;
    assert!(heads.starts_with("HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\n"), "{heads}");
    assert_eq!(expected.recv().await, Some(None));
    let mut client = StreamClient::connect(node.http()).await;
    let (mut answer, mut sending) = client.begin(put("5")).await;
    assert_eq!(interim(&mut answer).await.expect("hints").status(), 103);
    assert_eq!(interim(&mut answer).await.expect("a word").status(), 100);
    assert_eq!(expected.recv().await, Some(Some("100-continue".parse().expect("a value"))));
    sending.send_data("hello".into(), true).expect("an open stream");
    assert!(interim(&mut answer).await.is_none(), "one is enough");
    assert_eq!(finish(answer).await.1, "hello");
}

/// Those before the answer to a WebSocket reach clients of both versions from origins of both, as many as before any other,
/// and a 100, for which nothing waits, does not.
#[tokio::test]
async fn those_before_a_tunnel_go_down() {
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\ncontent-length: 7\r\n\r\n".repeat(20);
    let of_http1 = bespoke::tcp(move |mut visit| {
        let hints = hints.clone();
        async move {
            let key = visit.head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap_or_default();
            let accept = accept_of(key);
            visit
                .connection
                .write(format!("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n{hints}"))
                .await;
            let agreed = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n";
            visit.connection.write(format!("{agreed}sec-websocket-accept: {accept}\r\n\r\nhello;")).await;
            visit.connection.read_to_end().await;
        }
    })
    .await;
    let of_http2 = bespoke::streams(true, |request, mut respond| async move {
        let hints = || Response::builder().status(103).header("link", "</a.css>").body(()).expect("a head");
        for interim in [head(102), head(100)].into_iter().chain((0..20).map(|_| hints())) {
            respond.send_informational(interim).expect("an open stream");
        }
        let mut sending = respond.send_response(head(200), false).expect("an open stream");
        sending.send_data("hello;".into(), false).expect("an open stream");
        drop(request.into_body().data().await);
    })
    .await;
    for endpoint in [of_http1.address.to_string(), format!("h2c://{}", of_http2.address)] {
        let node = before(&endpoint).await;
        let mut client = StreamClient::connect(node.http()).await;
        let (mut answer, sending) = client.begin(websocket()).await;
        assert_eq!(interim(&mut answer).await.expect("an interim answer").status(), 102, "{endpoint}");
        for number in 1..16 {
            let hints = interim(&mut answer).await.expect("another");
            assert_eq!((hints.status().as_u16(), hints.headers().len()), (103, 1), "{endpoint} {number}: {hints:?}");
        }
        assert!(interim(&mut answer).await.is_none(), "{endpoint}: no more");
        let (head, receiving) = patiently("an answer", answer).await.expect("an answer").into_parts();
        assert_eq!(head.status, 200, "{endpoint}");
        assert_eq!(Stream::new(sending, receiving).read_until(";").await, "hello;", "{endpoint}");
        let mut raw = RawConnection::open(node.http()).await;
        raw.write(UPGRADE).await;
        assert!(raw.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 102 "), "{endpoint}");
        for number in 1..16 {
            let hints = raw.read_until("\r\n\r\n").await;
            assert_eq!(hints, "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n", "{endpoint} {number}");
        }
        assert!(raw.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 101 "), "{endpoint}");
        assert_eq!(raw.read_until(";").await, "hello;", "{endpoint}");
    }
}

/// They come when the origin says them, and a refusal after them is the answer.
#[tokio::test]
async fn those_before_a_tunnel_do_not_wait_for_its_answer() {
    let (told, wait) = tokio::sync::watch::channel(false);
    let of_http2 = bespoke::streams(true, move |_request, mut respond| {
        let mut wait = wait.clone();
        async move {
            respond.send_informational(head(103)).expect("an open stream");
            wait.wait_for(|told| *told).await.expect("a test");
            let mut sending = respond.send_response(head(403), false).expect("an open stream");
            sending.send_data("no".into(), true).expect("an open stream");
        }
    })
    .await;
    let node = before(&format!("h2c://{}", of_http2.address)).await;
    let mut client = StreamClient::connect(node.http()).await;
    let (mut answer, _sending) = client.begin(websocket()).await;
    assert_eq!(interim(&mut answer).await.expect("an interim answer").status(), 103);
    told.send(true).expect("an origin");
    let (head, body) = finish(answer).await;
    assert_eq!((head.status().as_u16(), body.as_str()), (403, "no"));
}

/// HTTP/2 has no 101 (RFC 9113, 8.6): an origin that sends one is not waited for.
#[tokio::test]
async fn a_tunnel_that_switches_protocols_is_malformed() {
    let of_http2 = bespoke::streams(true, |_request, mut respond| async move {
        respond.send_informational(head(101)).expect("an open stream");
        std::future::pending::<()>().await;
    })
    .await;
    let node = before(&format!("h2c://{}", of_http2.address)).await;
    let upgrade = UPGRADE.replace("connection: upgrade", "connection: upgrade, close");
    let answer = RawConnection::open(node.http()).await.exchange(upgrade).await;
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("upstream_malformed"), "{answer}");
}

/// An origin that answers every request on a connection with these bytes, and closes.
async fn answering(answer: &'static str) -> Bespoke {
    bespoke::tcp(move |mut visit| async move { visit.connection.write(answer).await }).await
}

/// Reads a request's content, and answers with that.
async fn answer_all(request: Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>) {
    let (mut content, mut received) = (request.into_body(), Vec::new());
    while let Some(data) = content.data().await {
        let data = data.expect("content");
        content.flow_control().release_capacity(data.len()).expect("a window");
        received.extend_from_slice(&data);
    }
    let mut sending = respond.send_response(head(200), false).expect("an open stream");
    sending.send_data(received.into(), true).expect("an open stream");
}

fn head(status: u16) -> Response<()> {
    Response::builder().status(status).body(()).expect("a head")
}

async fn start(origin: &Bespoke) -> Node {
    before(&origin.address.to_string()).await
}

/// A node whose only region has this endpoint.
async fn before(endpoint: &str) -> Node {
    let table = SmallTable::new(EVERYTHING).region_at("here", "US", endpoint).text();
    Setup::new("here", &table).threads(1).start().await
}

const GET: &str = "GET / HTTP/1.1\r\nhost: api.example.com\r\nconnection: close\r\n\r\n";

const UPGRADE: &str = "GET / HTTP/1.1\r\nhost: api.example.com\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A WebSocket's extended CONNECT.
fn websocket() -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = "http://api.example.com/".parse().expect("a target");
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    request.headers_mut().insert("sec-websocket-version", "13".parse().expect("a value"));
    request
}

fn get() -> Request<()> {
    Request::get("http://api.example.com/").body(()).expect("a request")
}

/// A request whose content, of this length, waits.
fn put(length: &str) -> Request<()> {
    let request = Request::put("http://api.example.com/").header("expect", "100-continue");
    request.header("content-length", length).body(()).expect("a request")
}

/// Waits for an answer and its content.
async fn finish(answer: ResponseFuture) -> (Response<()>, String) {
    let (head, mut receiving) = patiently("an answer", answer).await.expect("an answer").into_parts();
    let mut body = Vec::new();
    while let Some(data) = patiently("content", receiving.data()).await {
        let data: Bytes = data.expect("content");
        receiving.flow_control().release_capacity(data.len()).expect("a window");
        body.extend_from_slice(&data);
    }
    (Response::from_parts(head, ()), String::from_utf8_lossy(&body).into_owned())
}
