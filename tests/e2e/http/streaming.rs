//! Large bodies pass through at the pace of the slower side, in bounded memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use meridian_tests::{Client, Node, Pieces, Setup, SmallTable, bespoke, full, get, patiently, post, streamed, within};
use tokio::sync::watch;

use super::EVERYTHING;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_waits_for_a_slow_reader() {
    let written = Arc::new(AtomicU64::new(0));
    let counter = written.clone();
    let origin = bespoke::http(move |_: Request<Incoming>| {
        let counter = counter.clone();
        async move {
            let (pieces, body) = streamed();
            tokio::spawn(pour(pieces, counter));
            Ok(Response::new(body))
        }
    })
    .await;
    let node = start(&origin).await;
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        written.store(0, Ordering::Relaxed);
        let before = node.resident_bytes();
        let mut answers = Vec::new();
        for _ in 0..STREAMS {
            let mut connection = client.connect().await.expect("a connection");
            let message = connection.message(&get("/"));
            answers.push((connection.head(message).await.expect("an answer"), connection));
        }
        assert_bounded(&node, before, stalled(&written).await);
        let (mut answer, _connection) = answers.pop().expect("an answer");
        let mut read = 0;
        let reading = async {
            while let Some(frame) = answer.frame().await {
                read += frame.expect("no error").into_data().map_or(0, |data| data.len() as u64);
            }
        };
        within(Duration::from_secs(60), "the whole download", reading).await;
        assert_eq!(read, TOTAL);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_waits_for_a_slow_origin() {
    let (go, gate) = watch::channel(false);
    let origin = bespoke::http(move |request: Request<Incoming>| {
        let mut gate = gate.clone();
        async move {
            // A failed wait is the end of the test.
            let _ = gate.wait_for(|open| *open).await;
            let mut body = request.into_body();
            let mut read = 0;
            while let Some(frame) = body.frame().await {
                read += frame.map_err(std::io::Error::other)?.data_ref().map_or(0, |data| data.len() as u64);
            }
            Ok(Response::new(full(read.to_string())))
        }
    })
    .await;
    let node = start(&origin).await;
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        go.send_replace(false);
        let written = Arc::new(AtomicU64::new(0));
        let before = node.resident_bytes();
        let mut uploads = Vec::new();
        for _ in 0..STREAMS {
            let mut connection = client.connect().await.expect("a connection");
            let (pieces, body) = streamed();
            let message = connection.message(&post("/", "")).map(|_| body);
            tokio::spawn(pour(pieces, written.clone()));
            uploads.push(tokio::spawn(async move {
                connection.head(message).await?.into_body().collect().await.map_err(std::io::Error::other)
            }));
        }
        assert_bounded(&node, before, stalled(&written).await);
        go.send_replace(true);
        for upload in uploads {
            let counted = within(Duration::from_secs(60), "the answer", upload).await.expect("no panic");
            let counted = counted.expect("an answer").to_bytes();
            assert_eq!(std::str::from_utf8(&counted), Ok(TOTAL.to_string().as_str()), "every byte has arrived");
        }
    }
}

/// Writes [`TOTAL`] bytes as fast as they are taken.
async fn pour(pieces: Pieces, written: Arc<AtomicU64>) {
    for _ in 0..TOTAL / PIECE as u64 {
        if !pieces.send(vec![b'x'; PIECE]).await {
            return;
        }
        written.fetch_add(PIECE as u64, Ordering::Relaxed);
    }
}

/// Waits until a counter has moved and then stood still for half a second, and gives it.
async fn stalled(counter: &AtomicU64) -> u64 {
    let standing = async {
        let mut last = (0, Instant::now());
        loop {
            let now = counter.load(Ordering::Relaxed);
            if now != last.0 {
                last = (now, Instant::now());
            } else if now > 0 && last.1.elapsed() > Duration::from_millis(500) {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    patiently("a stop of the stream", standing).await
}

/// Most of what is under way is in the kernel's socket buffers, tens of MB for each stream where they may grow so far;
/// and the allocator keeps some tens of MB whatever the number of streams.
#[track_caller]
fn assert_bounded(node: &Node, before: u64, held: u64) {
    let all = TOTAL * STREAMS;
    assert!(held < all * 3 / 4, "{held} of {all} bytes were taken though nobody reads them");
    let grown = node.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "the node has grown by {grown} bytes");
}

async fn start(origin: &bespoke::Bespoke) -> Node {
    let table = SmallTable::new(EVERYTHING).region("here", "US", &[origin.address]);
    Setup::new("here", &table.text()).start().await
}

const PIECE: usize = 65_536;
const TOTAL: u64 = 256 << 20;
const STREAMS: u64 = 2;
