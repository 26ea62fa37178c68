//! Interim answers, and content that waits for one, over HTTP/2.

use bytes::Bytes;
use h2::client::ResponseFuture;
use http::{Request, Response};
use meridian_tests::bespoke::{self, Bespoke};
use meridian_tests::streams::{StreamClient, interim};
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

/// Where it does not, the client hears no 100, and what it has not sent is not missed.
#[tokio::test]
async fn content_that_waits_and_is_not_wanted_does_not_come() {
    let refusal = "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno";
    let origin = answering(refusal).await;
    let node = start(&origin).await;
    let mut client = StreamClient::connect(node.http()).await;
    let (mut answer, _sending) = client.begin(put("5")).await;
    assert!(interim(&mut answer).await.is_none(), "no 100 before it");
    let (head, body) = finish(answer).await;
    assert_eq!((head.status().as_u16(), body.as_str()), (403, "no"));
}

/// An origin that says nothing gets the content after a while; and what the node refuses itself it does not ask for.
#[tokio::test]
async fn content_that_waits_comes_in_the_end_unless_the_node_refuses_it() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let node = Setup::new("here", world.table()).section("limits", "body_bytes = 100").start().await;
    let mut client = StreamClient::connect(node.http()).await;
    let (mut answer, mut sending) = client.begin(put("5")).await;
    assert_eq!(interim(&mut answer).await.expect("a word").status(), 100);
    sending.send_data("hello".into(), true).expect("an open stream");
    assert_eq!(finish(answer).await.0.status(), 200);
    assert_eq!(&world.received("here").pop().expect("a request").body[..], b"hello");
    let (mut answer, _sending) = client.begin(put("101")).await;
    assert!(interim(&mut answer).await.is_none());
    assert_eq!(finish(answer).await.0.status(), 413);
    // A client that has sent it already is not held up.
    let (answer, mut sending) = client.begin(put("5")).await;
    sending.send_data("hello".into(), true).expect("an open stream");
    assert_eq!(finish(answer).await.0.status(), 200);
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
            let mut content = request.into_body();
            while let Some(data) = content.data().await {
                let length = data.expect("content").len();
                content.flow_control().release_capacity(length).expect("a window");
            }
            let mut sending = respond.send_response(Response::new(()), false).expect("an open stream");
            sending.send_data("ok".into(), true).expect("an open stream");
        }
    })
    .await;
    let table = SmallTable::new(EVERYTHING).region_at("here", "US", &format!("h2c://{}", origin.address)).text();
    let node = Setup::new("here", &table).threads(1).start().await;
    let request = "GET / HTTP/1.1\r\nhost: api.example.com\r\nconnection: close\r\n\r\n";
    let heads = RawConnection::open(node.http()).await.exchange(request).await;
    assert!(heads.starts_with("HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\n"), "{heads}");
    assert_eq!(expected.recv().await, Some(None));
    let mut client = StreamClient::connect(node.http()).await;
    let (mut answer, mut sending) = client.begin(put("5")).await;
    assert_eq!(interim(&mut answer).await.expect("hints").status(), 103);
    assert_eq!(interim(&mut answer).await.expect("a word").status(), 100);
    assert_eq!(expected.recv().await, Some(Some("100-continue".parse().expect("a value"))));
    sending.send_data("hello".into(), true).expect("an open stream");
    assert!(interim(&mut answer).await.is_none(), "one is enough");
    assert_eq!(finish(answer).await.1, "ok");
}

/// An origin that answers every request on a connection with these bytes, and closes.
async fn answering(answer: &'static str) -> Bespoke {
    bespoke::tcp(move |mut visit| async move { visit.connection.write(answer).await }).await
}

async fn start(origin: &Bespoke) -> Node {
    let table = SmallTable::new(EVERYTHING).region("here", "US", &[origin.address]).text();
    Setup::new("here", &table).threads(1).start().await
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
