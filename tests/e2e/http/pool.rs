//! Connections to origins are kept, and nothing that happens to an idle one costs a client anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loadtest::origin::Behaviour;
use meridian_tests::{
    Answer, Authority, Client, Node, Setup, SmallTable, World, bespoke, eventually, get, patiently, post,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use super::EVERYTHING;

#[tokio::test]
async fn connections_are_used_again() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let node = Setup::new("here", world.table()).threads(1).start().await;
    let origin = world.origin("here");
    // The one probe of this test has a connection of its own.
    eventually("the probe", async || if origin.requests() == 1 { Ok(()) } else { Err("none".to_owned()) }).await;
    let probed = origin.connections();
    let mut connection = Client::http1(node.http()).connect().await.expect("a connection");
    for _ in 0..50 {
        connection.send(&post("/", "x")).await.assert_served_by("here");
    }
    // Another client of the same thread may use it, too.
    Client::http2(node.http()).send(&get("/")).await.assert_served_by("here");
    assert_eq!(origin.connections() - probed, 1, "51 requests on one connection");
}

/// An answer that nobody gets, since another try had a better one.
#[tokio::test]
async fn a_short_answer_that_is_thrown_away_leaves_its_connection() {
    let world = World::of_regions(&[("here", "US"), ("other", "US")], EVERYTHING).await;
    let node = Setup::new("here", world.table()).threads(1).start().await;
    let origin = world.origin("here");
    eventually("the probe", async || if origin.requests() == 1 { Ok(()) } else { Err("none".to_owned()) }).await;
    for (length, connections) in [(1000, 1), (100_000, 3)] {
        let mut refusal = http::Response::new(bytes::Bytes::from(vec![b'x'; length]));
        *refusal.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
        world.behave("here", &Behaviour::Answer(refusal));
        let before = origin.connections();
        for _ in 0..3 {
            let answer = Client::http1(node.http()).send(&get("/")).await;
            answer.assert_served_by("other");
            assert_eq!(answer.attempts(), 2);
        }
        // The first of the second kind is on the one that the first kind has left.
        assert_eq!(origin.connections() - before, connections - u64::from(length > 16_384), "{length}");
    }
}

#[tokio::test]
async fn stale_connections_cost_nothing() {
    let world = World::of_regions(&[("here", "US"), ("other", "US")], EVERYTHING).await;
    let node = Setup::new("here", world.table()).threads(1).start().await;
    let origin = world.origin("here");
    for round in 0..10 {
        // Several idle connections, all of which the origin's restart closes.
        let client = Client::http2(node.http());
        let mut connection = client.connect().await.expect("a connection");
        connection.send(&get("/warm")).await.assert_served_by("here");
        origin.kill().await;
        origin.revive().await.expect("its port");
        let answer = connection.send(&post("/order", "one")).await;
        answer.assert_served_by("here");
        assert_eq!(answer.attempts(), 1, "nothing was tried in vain");
        let orders = world.received("here").iter().filter(|received| received.path == "/order").count();
        assert_eq!(orders, round + 1, "each order once");
    }
    assert!(world.received("other").is_empty());
}

/// An origin (HAProxy, nginx) says 408 to a connection that idles, and closes it. Taken for the answer to the next
/// request, it would be somebody else's.
#[tokio::test]
async fn an_unasked_answer_is_never_delivered() {
    let (idle, told) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let origin = {
        let (idle, told) = (idle.clone(), told.clone());
        bespoke::tcp(move |mut visit| {
            let (idle, told) = (idle.clone(), told.clone());
            async move {
                loop {
                    visit.connection.write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nmine").await;
                    if visit.number == 0 {
                        break;
                    }
                    if visit.connection.read_until_or_close("\r\n\r\n").await.is_none() {
                        return;
                    }
                }
                idle.notified().await;
                let unasked = "HTTP/1.1 408 Request Timeout\r\ncontent-length: 5\r\n\r\nyours";
                visit.connection.write(unasked).await;
                told.notify_one();
                // Open until the node closes it.
                visit.connection.read_to_end().await;
            }
        })
        .await
    };
    let node = start(&origin).await;
    let mut connection = Client::http1(node.http()).connect().await.expect("a connection");
    assert_eq!(connection.send(&get("/1")).await.text(), "mine");
    idle.notify_one();
    told.notified().await;
    for _ in 0..3 {
        let answer = connection.send(&get("/2")).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "mine"));
    }
}

#[tokio::test]
async fn bytes_behind_an_answer_belong_to_nobody() {
    let origin = bespoke::tcp(|mut visit| async move {
        let smuggled = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
        visit.connection.write(format!("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood{smuggled}")).await;
        visit.connection.read_to_end().await;
    })
    .await;
    let node = start(&origin).await;
    let mut connection = Client::http1(node.http()).connect().await.expect("a connection");
    for _ in 0..5 {
        assert_eq!(connection.send(&get("/")).await.text(), "good");
    }
}

#[tokio::test]
async fn an_origin_that_closes_after_each_answer_is_served_as_well() {
    let visits = Arc::new(AtomicUsize::new(0));
    let counter = visits.clone();
    let origin = bespoke::tcp(move |mut visit| {
        counter.fetch_add(1, Ordering::Relaxed);
        async move {
            // Announced or not.
            let close = if visit.number.is_multiple_of(2) { "connection: close\r\n" } else { "" };
            visit.connection.write(format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{close}\r\nok")).await;
        }
    })
    .await;
    let node = start(&origin).await;
    let mut connection = Client::http1(node.http()).connect().await.expect("a connection");
    for _ in 0..30 {
        assert_eq!(connection.send(&post("/", "")).await.text(), "ok");
    }
    assert_eq!(visits.load(Ordering::Relaxed), 30, "each request once");
}

#[tokio::test]
async fn idle_connections_are_closed_in_time() {
    let closed = Arc::new(Notify::new());
    let notify = closed.clone();
    let origin = bespoke::tcp(move |mut visit| {
        let notify = notify.clone();
        async move {
            visit.connection.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            visit.connection.read_to_end().await;
            notify.notify_one();
        }
    })
    .await;
    let table = SmallTable::new(EVERYTHING).region("here", "US", &[origin.address]).text();
    let node = Setup::new("here", &table).section("upstream", "idle_timeout = \"100ms\"").start().await;
    assert_eq!(Client::http1(node.http()).send(&get("/")).await.text(), "ok");
    patiently("the idle connection's end", closed.notified()).await;
}

#[tokio::test]
async fn a_client_that_leaves_frees_what_it_held() {
    let (arrived, left) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let origin = {
        let (arrived, left) = (arrived.clone(), left.clone());
        bespoke::tcp(move |mut visit| {
            let (arrived, left) = (arrived.clone(), left.clone());
            async move {
                arrived.notify_one();
                // No answer: only the end of the connection is of interest.
                visit.connection.read_to_end().await;
                left.notify_one();
            }
        })
        .await
    };
    let node = start(&origin).await;
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        let mut connection = client.connect().await.expect("a connection");
        let waiting = tokio::spawn(async move { connection.try_send(&get("/")).await });
        patiently("the request at its origin", arrived.notified()).await;
        assert_eq!(node.status().await["requests_in_flight"], 1);
        waiting.abort();
        patiently("the upstream connection's end", left.notified()).await;
        eventually("nothing is in flight", async || {
            let status = node.status().await;
            let held = (status["requests_in_flight"].clone(), status["regions"][0]["requests_in_flight"].clone());
            if held == (0.into(), 0.into()) { Ok(()) } else { Err(format!("{held:?}")) }
        })
        .await;
    }
}

async fn start(origin: &bespoke::Bespoke) -> Node {
    let table = SmallTable::new(EVERYTHING).region("here", "US", &[origin.address]);
    Setup::new("here", &table.text()).threads(1).start().await
}

/// The version is each hop's own (RFC 9110, 2.5): a client of HTTP/1.1 keeps its connection.
#[tokio::test]
async fn an_answer_of_http_1_0_goes_down_as_http_1_1() {
    let origin =
        bespoke::tcp(|mut visit| async move { visit.connection.write("HTTP/1.0 200 OK\r\n\r\nold").await }).await;
    let node = start(&origin).await;
    let mut connection = Client::http1(node.http()).connect().await.expect("a connection");
    for _ in 0..3 {
        let message = connection.message(&get("/"));
        let response = connection.head(message).await.expect("an answer on the same connection");
        assert_eq!(response.version(), http::Version::HTTP_11);
        assert_eq!(Answer::read(response).await.expect("all of it").text(), "old");
    }
}

/// What an origin sends beyond its answer may wait in TLS, where the socket does not show it: here the head fills the
/// node's first read to its last byte, and another answer stands behind it in the same record.
#[tokio::test]
async fn what_tls_holds_behind_an_answer_belongs_to_nobody() {
    let authority = Authority::default();
    let acceptor = TlsAcceptor::from(Arc::new(authority.certify(&["localhost"]).server_config()));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let head = |size: usize| {
        let start = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-pad: ";
        format!("{start}{}\r\n\r\n", "p".repeat(size - start.len() - 4))
    };
    let answers = format!("{}HTTP/1.1 418 Poison\r\ncontent-length: 0\r\n\r\n", head(8192));
    let origin = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, answers) = (acceptor.clone(), answers.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut read = [0; 4096];
                while matches!(stream.read(&mut read).await, Ok(1..)) {
                    if stream.write_all(answers.as_bytes()).await.is_err() || stream.flush().await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let table = SmallTable::new(EVERYTHING).region("here", "US", &[address]).text();
    let node = Setup::new("here", &table.replace("\"127.0.0.1:", "\"https://localhost:"))
        .file("upstream-ca.pem", authority.pem())
        .section("upstream", "certificate_authorities = [\"upstream-ca.pem\"]")
        .threads(1)
        .start()
        .await;
    let mut connection = Client::http1(node.http()).connect().await.expect("a connection");
    for _ in 0..5 {
        assert_eq!(connection.send(&get("/")).await.status, 200);
    }
    origin.abort();
}
