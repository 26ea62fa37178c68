//! How slowly a client may send its content, and what is a stream that may rest.

use std::io;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use meridian_tests::bespoke::Bespoke;
use meridian_tests::{
    Answer, Body, Client, Node, Pieces, RawConnection, Sent, Setup, SmallTable, bespoke, full, patiently, post,
    streamed,
};
use tokio::task::JoinHandle;

/// A call whose client pauses between its messages, for longer than an upload may.
#[tokio::test]
async fn a_call_over_http2_may_rest() {
    let origin = bespoke::http2(counted_call).await;
    let node = start(&at_http2(&origin), "", LIMITS).await;
    let (pieces, answer) = begin(&Client::http2(node.http()), &call()).await;
    for _ in 0..2 {
        assert!(pieces.send(&b"\0\0\0\0\0"[..]).await);
        tokio::time::sleep(BODY_TIMEOUT * 3).await;
    }
    drop(pieces);
    let answer = answer.await.expect("no panic");
    assert_eq!(answer.trailers.get("grpc-status"), Some(&HeaderValue::from_static("0")), "{answer:?}");
    assert_eq!(answer.text(), "10");
}

/// What only calls itself a call has no more time than others.
#[tokio::test]
async fn a_call_over_http1_may_not() {
    let origin = bespoke::http(counted).await;
    let node = start(&origin.address.to_string(), "", LIMITS).await;
    let (pieces, answer) = begin(&Client::http2(node.http()), &call()).await;
    assert!(pieces.send(&b"\0\0\0\0\0"[..]).await);
    let answer = answer.await.expect("no panic");
    assert_eq!(answer.header("grpc-status").as_deref(), Some("4"), "{answer:?}");
    let origin = bespoke::http2(counted_call).await;
    let node = start(&at_http2(&origin), "", LIMITS).await;
    let answer = RawConnection::open(node.http()).await.exchange(format!("{CHUNKED}\r\n5\r\nhello\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    let is_call = format!("{CHUNKED}content-type: application/grpc\r\n\r\n5\r\nhello\r\n");
    let mut connection = RawConnection::open(node.http()).await;
    connection.write(is_call).await;
    let head = connection.read_until("\r\n\r\n").await;
    assert!(head.contains("grpc-status: 4"), "{head}");
}

/// On routes that say so, whatever does not say how long it is.
#[tokio::test]
async fn an_upload_without_a_length_may_rest_where_the_route_says_so() {
    let origin = bespoke::http(counted).await;
    let route = "stream_idle_timeout = \"3s\"";
    let node = start(&origin.address.to_string(), route, LIMITS).await;
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        let (pieces, answer) = begin(&client, &post("/", "")).await;
        for _ in 0..2 {
            assert!(pieces.send("hello").await);
            tokio::time::sleep(BODY_TIMEOUT * 2).await;
        }
        drop(pieces);
        assert_eq!(answer.await.expect("no panic").text(), "10");

        // Not for ever; and that is nobody's failure.
        let started = Instant::now();
        let (pieces, answer) = begin(&client, &post("/", "")).await;
        assert!(pieces.send("hello").await);
        assert_eq!(answer.await.expect("no panic").status, 408);
        assert!(started.elapsed() >= Duration::from_secs(3), "{:?}", started.elapsed());
    }
    let head = "POST / HTTP/1.1\r\nhost: api.example.com\r\ncontent-length: 10\r\n\r\nhello";
    let (answer, took) = {
        let mut connection = RawConnection::open(node.http()).await;
        connection.write(head).await;
        connection.read_to_end().await
    };
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 408") && took < Duration::from_secs(3), "{took:?}: {answer}");
    nobodys_failure(&node).await;
}

/// An origin that takes its time is no pause of the client's.
#[tokio::test]
async fn the_origins_time_is_not_the_clients() {
    let origin = bespoke::http(slowly).await;
    let node = start(&origin.address.to_string(), "", LIMITS).await;
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        let answer = client.send(&post("/", vec![b'x'; LARGE])).await;
        assert_eq!(answer.text(), LARGE.to_string());
    }
}

/// One byte now and then, each well within the longest pause.
#[tokio::test]
async fn an_upload_that_trickles_is_ended() {
    let origin = bespoke::http(counted).await;
    let node = start(&origin.address.to_string(), "", &format!("{LIMITS}\nbody_rate = 1000")).await;
    for (round, client) in [Client::http1(node.http()), Client::http2(node.http())].into_iter().enumerate() {
        for sent in [post("/", ""), post("/", "").header("content-length", "1000")] {
            let (pieces, mut answer) = begin(&client, &sent).await;
            let started = Instant::now();
            let answer = loop {
                tokio::select! {
                    answer = &mut answer => break answer.expect("no panic"),
                    _ = pieces.send("x") => tokio::time::sleep(BODY_TIMEOUT / 10).await,
                }
            };
            answer.assert_refused(408, "bad_request");
            assert!(started.elapsed() >= BODY_TIMEOUT, "{:?}", started.elapsed());
        }
        let ended = node.metrics().await.sum("meridian_client_abuse_total", &[("kind", "slow_body")]);
        assert_eq!(ended, Some((round + 1) as f64 * 2.0));
    }
    // Whoever keeps the rate is left alone, for however long.
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        let (pieces, answer) = begin(&client, &post("/", "")).await;
        for _ in 0..20 {
            assert!(pieces.send(vec![b'x'; 1000]).await);
            tokio::time::sleep(BODY_TIMEOUT / 10).await;
        }
        drop(pieces);
        assert_eq!(answer.await.expect("no panic").text(), "20000");
        client.send(&post("/", "small")).await.assert_served_by("here");
    }
    nobodys_failure(&node).await;
}

/// What is a stream, by the word of its route or over HTTP/2 both ways, has no rate.
#[tokio::test]
async fn a_stream_may_trickle() {
    let limits = format!("{LIMITS}\nbody_rate = 1000000");
    let (plain, http2) = (bespoke::http(counted).await, bespoke::http2(counted_call).await);
    for (node, sent) in [
        (start(&plain.address.to_string(), "stream_idle_timeout = \"1m\"", &limits).await, post("/", "")),
        (start(&at_http2(&http2), "", &limits).await, call()),
    ] {
        let (pieces, answer) = begin(&Client::http2(node.http()), &sent).await;
        for _ in 0..20 {
            assert!(pieces.send("x").await);
            tokio::time::sleep(BODY_TIMEOUT / 10).await;
        }
        drop(pieces);
        assert_eq!(answer.await.expect("no panic").text(), "20");
    }
}

/// An origin that takes little at a time has its client send little at a time.
#[tokio::test]
async fn a_slow_origin_makes_no_slow_client() {
    let origin = bespoke::http(slowly).await;
    let node = start(&origin.address.to_string(), "", &format!("{LIMITS}\nbody_rate = 1000000")).await;
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        let answer = client.send(&post("/", vec![b'x'; LARGE])).await;
        assert_eq!(answer.text(), LARGE.to_string());
    }
}

/// A client that trickles on beside an answer which has begun holds neither for longer.
#[tokio::test]
async fn an_upload_beside_its_answer_is_ended_too() {
    let early = |_: Request<Incoming>| async {
        let (pieces, body) = streamed();
        tokio::spawn(async move {
            pieces.send("early").await;
            // Until nobody takes it any more.
            while pieces.send("").await {
                tokio::time::sleep(BODY_TIMEOUT / 10).await;
            }
        });
        Ok(Response::new(body))
    };
    let (plain, http2) = (bespoke::http(early).await, bespoke::http2(early).await);
    for endpoint in [plain.address.to_string(), at_http2(&http2)] {
        let node = start(&endpoint, "", &format!("{LIMITS}\nbody_rate = 1000")).await;
        let mut connection = RawConnection::open(node.http()).await;
        connection.write(format!("{CHUNKED}\r\n")).await;
        connection.read_until("early").await;
        let trickle = async {
            while connection.try_write("1\r\nx\r\n").await.is_ok() {
                tokio::time::sleep(BODY_TIMEOUT / 10).await;
            }
        };
        patiently("its end", trickle).await;
        let ended = node.metrics().await.sum("meridian_client_abuse_total", &[("kind", "slow_body")]);
        assert_eq!(ended, Some(1.0), "{endpoint}");
        nobodys_failure(&node).await;
    }
}

/// Sends a request's head, and returns where its content goes, and its answer.
async fn begin(client: &Client, sent: &Sent) -> (Pieces, JoinHandle<Answer>) {
    let mut connection = client.connect().await.expect("a connection");
    let (pieces, body) = streamed();
    let message = connection.message(sent).map(|_| body);
    let answer = tokio::spawn(async move {
        Answer::read(connection.head(message).await.expect("an answer")).await.expect("a whole answer")
    });
    (pieces, answer)
}

async fn nobodys_failure(node: &Node) {
    assert_eq!(node.status().await["regions"][0]["endpoints"][0]["up"], true);
    let metrics = node.metrics().await;
    for metric in ["meridian_ejections_total", "meridian_suspicions_total"] {
        assert_eq!(metrics.sum(metric, &[]).unwrap_or(0.0), 0.0, "{metric}");
    }
}

/// Says how much has come.
async fn counted(request: Request<Incoming>) -> io::Result<Response<Body>> {
    let body = request.into_body().collect().await.map_err(io::Error::other)?;
    Ok(Response::new(full(body.to_bytes().len().to_string())))
}

/// The same of one that rests twice, for longer than a client may pause.
async fn slowly(request: Request<Incoming>) -> io::Result<Response<Body>> {
    let mut body = request.into_body();
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let before = read;
        read += frame.map_err(io::Error::other)?.data_ref().map_or(0, bytes::Bytes::len);
        if [LARGE / 3, LARGE / 3 * 2].iter().any(|mark| (before..read).contains(mark)) {
            tokio::time::sleep(BODY_TIMEOUT * 3).await;
        }
    }
    Ok(Response::new(full(read.to_string())))
}

/// The same as a call's answer.
async fn counted_call(request: Request<Incoming>) -> io::Result<Response<Body>> {
    let body = request.into_body().collect().await.map_err(io::Error::other)?;
    let (pieces, answer) = streamed();
    tokio::spawn(async move {
        pieces.send(body.to_bytes().len().to_string()).await;
        let status = HeaderMap::from_iter([("grpc-status".parse().expect("a name"), HeaderValue::from_static("0"))]);
        pieces.end_with(status).await;
    });
    let mut answer = Response::new(answer);
    answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(answer)
}

fn at_http2(origin: &Bespoke) -> String {
    format!("h2c://{}", origin.address)
}

fn call() -> Sent {
    post("/a.B/Put", "").header("content-type", "application/grpc").header("te", "trailers")
}

async fn start(endpoint: &str, route: &str, limits: &str) -> Node {
    let table = SmallTable::new(&format!("[[routes]]\nname = \"all\"\n{route}\n")).region_at("here", "US", endpoint);
    Setup::new("here", &table.text()).section("limits", limits).start().await
}

const BODY_TIMEOUT: Duration = Duration::from_millis(500);
const LIMITS: &str = "body_timeout = \"500ms\"";
const CHUNKED: &str = "POST /a.B/Put HTTP/1.1\r\nhost: api.example.com\r\ntransfer-encoding: chunked\r\n";
/// Far more than is buffered anywhere.
const LARGE: usize = 48 << 20;
