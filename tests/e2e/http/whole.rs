//! Messages arrive whole and undamaged, or visibly cut; and what one of them looks like is held against nobody.

use loadtest::origin::Behaviour;
use meridian_tests::bespoke::{self, Bespoke};
use meridian_tests::frames::reason;
use meridian_tests::{Client, Frames, Node, RawConnection, Setup, SmallTable, World, eventually, get, patiently};

use super::EVERYTHING;

/// An origin that answers every request on a connection with these bytes, and closes.
async fn answering(answer: &'static str) -> Bespoke {
    bespoke::tcp(move |mut visit| async move { visit.connection.write(answer).await }).await
}

async fn start(endpoints: &[&str]) -> Node {
    let mut table = SmallTable::new(EVERYTHING);
    for (name, endpoint) in ["here", "there"].iter().zip(endpoints) {
        table = table.region_at(name, "US", endpoint);
    }
    Setup::new("here", &table.text()).threads(1).start().await
}

/// What cannot be passed on is asked for once, fails with its own reason, and says nothing of its origin: with five in a row
/// an endpoint would be out.
#[tokio::test]
async fn what_an_answer_looks_like_is_no_evidence() {
    let fields = "a: b\r\n".repeat(1100);
    let many: &'static str = format!("HTTP/1.1 200 OK\r\n{fields}\r\n").leak();
    for (what, answer) in [
        ("too many fields", many),
        ("a malformed name", "HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n"),
        ("two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"),
        ("another coding", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        ("a coding alone", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nx"),
    ] {
        let origin = answering(answer).await;
        let node = start(&[&origin.address.to_string()]).await;
        for _ in 0..10 {
            let answer = Client::http1(node.http()).send(&get("/")).await;
            answer.assert_refused(502, "upstream_malformed");
        }
        let metrics = node.metrics().await;
        let attempts = metrics.sum("meridian_attempts_total", &[("outcome", "malformed")]);
        assert_eq!(attempts, Some(10.0), "{what}: each was tried once");
        assert_eq!(node.status().await["regions"][0]["endpoints"][0]["up"], true, "{what}");
        assert_eq!(metrics.sum("meridian_ejections_total", &[]).unwrap_or(0.0), 0.0, "{what}");
    }
}

/// The same of content that turns out malformed after its head: it is cut, and that is all.
#[tokio::test]
async fn malformed_content_is_cut_and_no_evidence() {
    let origin = answering("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n").await;
    let node = start(&[&origin.address.to_string()]).await;
    for _ in 0..10 {
        let answer = RawConnection::open(node.http()).await.exchange(REQUEST).await;
        assert!(answer.contains("\r\nhello") && !answer.ends_with("0\r\n\r\n"), "{answer}");
    }
    assert_eq!(node.status().await["regions"][0]["endpoints"][0]["up"], true);
}

/// A stream that is reset has not ended, whatever code that bears.
#[tokio::test]
async fn an_http2_answer_that_is_reset_is_cut() {
    for (what, code) in [("no error", reason::NO_ERROR), ("cancelled", reason::CANCEL)] {
        let origin = bespoke::frames(&[], move |mut frames: Frames, _| async move {
            while let Some(stream) = frames.request().await {
                // 200, and half of an answer.
                frames.write(1, 4, stream, &[0x88]).await;
                frames.write(0, 0, stream, b"half").await;
                frames.reset(stream, code).await;
            }
        })
        .await;
        let node = start(&[&format!("h2c://{}", origin.address)]).await;
        let answer = RawConnection::open(node.http()).await.exchange(REQUEST).await;
        assert!(answer.contains("half") && !answer.contains("0\r\n\r\n"), "{what}: {answer}");
        let error = Client::http2(node.http()).try_send(&get("/")).await;
        assert!(error.is_err(), "{what}: {error:?}");
        assert_eq!(node.metrics().await.sum("http_errors_total", &[("reason", "upstream_broke_off")]), Some(2.0));
    }
}

/// The same upwards: an upload that its client resets is not a shorter upload.
#[tokio::test]
async fn an_http2_request_that_is_reset_is_cut() {
    let (sender, mut received) = tokio::sync::mpsc::unbounded_channel();
    let origin = bespoke::tcp(move |mut visit| {
        let sender = sender.clone();
        async move {
            visit.connection.read_until("partial").await;
            let _ = sender.send("begun".to_owned());
            let (bytes, _) = visit.connection.read_to_end().await;
            let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
        }
    })
    .await;
    let node = start(&[&origin.address.to_string()]).await;
    for code in [reason::NO_ERROR, reason::CANCEL] {
        let mut frames = Frames::connect(node.http()).await;
        let stream = frames.post("api.example.com", "/upload").await;
        frames.write(0, 0, stream, b"partial").await;
        patiently("the upload's beginning", received.recv()).await.expect("an upload");
        frames.reset(stream, code).await;
        let rest = patiently("the upload's end", received.recv()).await.expect("an upload");
        assert!(!rest.contains("0\r\n\r\n"), "{code}: {rest:?}");
    }
}

/// Interim answers of an origin reach an HTTP/1.1 client, without what is not for it; and one of 1.0 gets none.
#[tokio::test]
async fn interim_answers_go_down() {
    let origin = answering(
        "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nx-meridian-region: \
         x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
    )
    .await;
    let node = start(&[&origin.address.to_string()]).await;
    let answer = RawConnection::open(node.http()).await.exchange(REQUEST).await;
    let heads: Vec<&str> = answer.split("\r\n\r\n").map(|head| head.lines().next().unwrap_or_default()).collect();
    assert_eq!(heads, ["HTTP/1.1 102 Processing", "HTTP/1.1 103 Early Hints", "HTTP/1.1 200 OK", "ok"], "{answer}");
    assert!(answer.contains("link: </a.css>") && !answer.contains("x-meridian-region: x"), "{answer}");
    let old = "GET / HTTP/1.0\r\nhost: api.example.com\r\n\r\n";
    let answer = RawConnection::open(node.http()).await.exchange(old).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// What an origin says of where else to find it, and what is no trailer, stays here.
#[tokio::test]
async fn what_is_not_for_clients_stays_here() {
    let origin = answering(
        "HTTP/1.1 200 OK\r\nalt-svc: h3=\":443\"\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n2\r\nok\r\n0\r\n\
         alt-svc: h3=\":443\"\r\nset-cookie: meridian-affinity.all=x\r\ncontent-length: 9\r\nx-sum: 7\r\n\
         connection: x\r\n\r\n",
    )
    .await;
    let node = start(&[&origin.address.to_string()]).await;
    let request = "GET / HTTP/1.1\r\nhost: api.example.com\r\nte: trailers\r\nconnection: te, close\r\n\r\n";
    let answer = RawConnection::open(node.http()).await.exchange(request).await;
    assert!(!answer.contains("alt-svc"), "{answer}");
    assert!(answer.ends_with("2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n"), "{answer}");
    // Without a word that it takes them, a client gets none.
    let answer = RawConnection::open(node.http()).await.exchange(REQUEST).await;
    assert!(answer.ends_with("2\r\nok\r\n0\r\n\r\n"), "{answer}");
}

/// A client that closes its side after its request (`nc -N`, BusyBox's wget) gets the answer, also of pipelined ones.
#[tokio::test]
async fn a_client_that_half_closes_is_answered() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let node = Setup::new("here", world.table()).start().await;
    world.behave("here", &Behaviour::Stall);
    let mut connection = RawConnection::open(node.http()).await;
    connection
        .write("GET /1 HTTP/1.1\r\nhost: api.example.com\r\n\r\nGET /2 HTTP/1.1\r\nhost: api.example.com\r\n\r\n")
        .await;
    connection.finish().await.expect("half a close");
    world.origin("here").arrived(1).await;
    world.behave("here", &Behaviour::Normal);
    let (bytes, _) = connection.read_to_end().await;
    let answers = String::from_utf8_lossy(&bytes).matches("HTTP/1.1 200").count();
    assert_eq!(answers, 2);
}

/// A client that sends nothing of the content that it has announced, to an origin that answers without it, holds neither
/// its own connection nor the origin's once it was cut.
#[tokio::test]
async fn an_upload_that_never_comes_is_let_go() {
    let (sender, mut ended) = tokio::sync::mpsc::unbounded_channel();
    let origin = bespoke::tcp(move |mut visit| {
        let sender = sender.clone();
        async move {
            visit.connection.write("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno").await;
            visit.connection.read_to_end().await;
            let _ = sender.send(());
        }
    })
    .await;
    let table = SmallTable::new(EVERYTHING).region("here", "US", &[origin.address]);
    let setup = Setup::new("here", &table.text()).threads(1);
    let node = setup.section("limits", "keep_alive = \"500ms\"\nbody_timeout = \"500ms\"").start().await;
    let mut connection = RawConnection::open(node.http()).await;
    connection.write("POST / HTTP/1.1\r\nhost: api.example.com\r\ncontent-length: 10\r\n\r\n").await;
    assert!(connection.read_answer().await.0.starts_with("HTTP/1.1 404"));
    patiently("the end of the origin's connection", ended.recv()).await.expect("its end");
    assert!(connection.closes_cleanly().await || connection.try_write("x").await.is_err());
}

/// An origin that refuses an upload before it begins, keeps it from beginning.
#[tokio::test]
async fn an_expectation_is_the_origins_to_meet() {
    let origin = answering("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno").await;
    let node = start(&[&origin.address.to_string()]).await;
    let head = "PUT / HTTP/1.1\r\nhost: api.example.com\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n";
    let answer = RawConnection::open(node.http()).await.exchange(head).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "no 100 before it: {answer}");
}

/// A quiet stream lives for longer than its route's `timeout`, and its end is nobody's failure.
#[tokio::test]
async fn a_quiet_stream_is_nobodys_failure() {
    let origin = bespoke::tcp(|mut visit| async move {
        let stream = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n";
        visit.connection.write(stream).await;
        visit.connection.read_to_end().await;
    })
    .await;
    let route = "[[routes]]\nname = \"all\"\ntimeout = \"300ms\"\nstream_idle_timeout = \"900ms\"\n";
    let table = SmallTable::new(route).region("here", "US", &[origin.address]);
    let node = Setup::new("here", &table.text()).threads(1).start().await;
    for _ in 0..6 {
        let started = std::time::Instant::now();
        let answer = RawConnection::open(node.http()).await.exchange(REQUEST).await;
        assert!(answer.contains("data: 1"), "{answer}");
        assert!(started.elapsed().as_millis() >= 900, "{:?}", started.elapsed());
    }
    assert_eq!(node.status().await["regions"][0]["endpoints"][0]["up"], true);
    assert_eq!(node.metrics().await.sum("http_errors_total", &[("reason", "stream_idle")]), Some(6.0));
}

/// A cookie in as many pieces as HTTP/2 likes is one field; its bytes count all the same.
#[tokio::test]
async fn cookie_crumbs_are_one_field() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let node = Setup::new("here", world.table()).start().await;
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        let crumbs = (0..150).fold(get("/"), |sent, number| sent.header("cookie", &format!("c{number}=x")));
        client.send(&crumbs).await.assert_served_by("here");
        let cookie = world.received("here").pop().expect("a request").header("cookie").map(str::len);
        assert_eq!(cookie, Some((0..150).map(|number| format!("c{number}=x; ").len()).sum::<usize>() - 2));
        let large = "x".repeat(3000);
        let crumbs = (0..50).fold(get("/"), |sent, number| sent.header("cookie", &format!("c{number}={large}")));
        let refused = client.try_send(&crumbs).await;
        assert!(refused.is_ok_and(|answer| answer.status == 431));
    }
}

/// What the parser refuses is an answer like any other: counted, logged, and with a reason.
#[tokio::test]
async fn what_cannot_be_read_is_answered_and_logged() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let node = Setup::new("here", world.table()).start().await;
    let long = "x".repeat(70_000);
    for (request, status) in [
        ("\u{16}\u{3}\u{1}\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/3.0\r\n\r\n".to_owned(), 505),
        (format!("GET /{long} HTTP/1.1\r\n\r\n"), 414),
        (format!("GET / HTTP/1.1\r\nx: {long}{long}\r\n\r\n"), 431),
        ("GET / HTTP/1.1\r\nhost: api.example.com\r\nbad name: x\r\n\r\n".to_owned(), 400),
    ] {
        let answer = RawConnection::open(node.http()).await.exchange(&request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        eventually("the metric", async || {
            let counted = node.metrics().await.sum("http_requests_total", &[("status", &status.to_string())]);
            if counted >= Some(1.0) { Ok(()) } else { Err(format!("{status}: {counted:?}")) }
        })
        .await;
    }
}

const REQUEST: &str = "GET / HTTP/1.1\r\nhost: api.example.com\r\nconnection: close\r\n\r\n";
