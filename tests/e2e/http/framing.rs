//! Where one message ends and the next begins: messages on which two servers could disagree are refused (RFC 9112, 6.3
//! and 11.2).

use meridian_tests::{Authority, Client, Node, RawConnection, Setup, World, get};

use super::EVERYTHING;

/// Each of these with a second request behind it, which must never be served as one.
#[tokio::test]
async fn a_head_that_could_hide_a_second_request_is_refused() {
    let (world, node) = start().await;
    let mut accepted = Vec::new();
    for (what, head) in [
        ("length and chunks", "content-length: 5\r\ntransfer-encoding: chunked\r\n"),
        ("chunks and length", "transfer-encoding: chunked\r\ncontent-length: 5\r\n"),
        ("two lengths", "content-length: 5\r\ncontent-length: 6\r\n"),
        ("a list of lengths", "content-length: 5, 6\r\n"),
        ("a signed length", "content-length: +5\r\n"),
        ("a negative length", "content-length: -5\r\n"),
        ("a hexadecimal length", "content-length: 0x5\r\n"),
        ("an endless length", "content-length: 99999999999999999999\r\n"),
        ("an empty length", "content-length:\r\n"),
        ("compressed chunks", "transfer-encoding: gzip, chunked\r\n"),
        ("chunks not last", "transfer-encoding: chunked, gzip\r\n"),
        ("chunks twice", "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n"),
        ("nearly chunks", "transfer-encoding: xchunked\r\n"),
        ("identity", "transfer-encoding: identity\r\ncontent-length: 5\r\n"),
        ("a space before the colon", "transfer-encoding : chunked\r\n"),
        ("a folded line", "x-folded: a\r\n b\r\ncontent-length: 5\r\n"),
        ("a folded length", "content-length:\r\n 5\r\n"),
        ("a bare line feed", "x-bare: a\ncontent-length: 5\r\n"),
        ("a bare carriage return", "x-bare: a\rcontent-length: 5\r\n"),
        ("a NUL", "x-nul: a\0b\r\n"),
        ("a space in a name", "x name: a\r\n"),
        ("no name", ": a\r\n"),
        ("no colon", "content-length 5\r\n"),
    ] {
        let request = format!(
            "POST /first HTTP/1.1\r\nhost: api.example.com\r\n{head}\r\n0\r\n\r\nGET /second HTTP/1.1\r\n\
             host: api.example.com\r\nconnection: close\r\n\r\n"
        );
        accepted.extend(unless_refused(&world, &node, what, &request).await);
    }
    for (what, request) in [
        ("bare line feeds", "GET /x HTTP/1.1\nhost: api.example.com\nconnection: close\n\n"),
        (
            "chunks in HTTP/1.0",
            "POST /x HTTP/1.0\r\nhost: api.example.com\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("a space too many", "GET  /x HTTP/1.1\r\nhost: api.example.com\r\nconnection: close\r\n\r\n"),
        ("a space in the path", "GET /x y HTTP/1.1\r\nhost: api.example.com\r\nconnection: close\r\n\r\n"),
        ("another version", "GET /x HTTP/1.2\r\nhost: api.example.com\r\nconnection: close\r\n\r\n"),
        ("no version", "GET /x\r\nhost: api.example.com\r\nconnection: close\r\n\r\n"),
        ("no method", " /x HTTP/1.1\r\nhost: api.example.com\r\nconnection: close\r\n\r\n"),
    ] {
        accepted.extend(unless_refused(&world, &node, what, request).await);
    }
    assert!(accepted.is_empty(), "not refused:\n{}", accepted.join("\n"));
    Client::http1(node.http()).send(&get("/")).await.assert_served_by("here");
}

/// Nor may the end of a body: what ends its trailers for some, and not for others, ends the connection.
#[tokio::test]
async fn trailers_that_end_with_a_line_feed_alone_hide_nothing() {
    let (world, node) = start().await;
    for end in ["0\r\nA: b\n\n", "0\r\n\n", "0\r\nA: b\n\r\n"] {
        let request = format!(
            "POST /first HTTP/1.1\r\nhost: api.example.com\r\ntransfer-encoding: chunked\r\n\r\n{end}\
             GET /second HTTP/1.1\r\nhost: api.example.com\r\nconnection: close\r\n\r\n"
        );
        let answer = RawConnection::open(node.http()).await.exchange(request).await;
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{end:?}: {answer}");
    }
    assert!(world.received("here").iter().all(|received| received.path != "/second"));
}

/// However it arrives: over TLS, byte by byte, or behind a sound request.
#[tokio::test]
async fn a_bad_head_cannot_hide() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let authority = Authority::default();
    let certificate = authority.certify(&["api.example.com"]);
    let node = Setup::new("here", world.table()).plain().tls(&[&certificate]).start().await;
    let bad = "POST /bad HTTP/1.1\r\nhost: api.example.com\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n\
        0\r\n\r\n";

    let secure = RawConnection::open_tls(node.https(), &authority, "api.example.com", b"http/1.1").await;
    let answer = secure.exchange(bad).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "over TLS: {answer}");

    let mut connection = RawConnection::open(node.http()).await;
    for byte in bad.bytes() {
        // It may be closed before the last of it.
        if connection.try_write([byte]).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let (answer, _) = connection.read_to_end().await;
    assert!(answer.starts_with(b"HTTP/1.1 400"), "byte by byte: {}", String::from_utf8_lossy(&answer));

    for sound in [
        "GET /good HTTP/1.1\r\nhost: api.example.com\r\n\r\n",
        "POST /good HTTP/1.1\r\nhost: api.example.com\r\ncontent-length: 5\r\n\r\nhello",
        "POST /good HTTP/1.1\r\nhost: api.example.com\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    ] {
        let answer = RawConnection::open(node.http()).await.exchange(format!("{sound}{bad}")).await;
        assert!(answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.1 400"), "{answer}");
        let arrived = world.received("here");
        assert!(arrived.iter().all(|received| received.path == "/good"), "behind {sound:?}: {arrived:?}");
    }
}

/// What is in a body is nobody's head.
#[tokio::test]
async fn a_body_may_look_like_anything() {
    let (world, node) = start().await;
    let mut connection = RawConnection::open(node.http()).await;
    for body in [
        "GET / HTTP/1.1\nhost: api.example.com\n\n",
        "POST / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "\r\n\r\n\n\n\r\r",
    ] {
        let head = "POST /x HTTP/1.1\r\nhost: api.example.com\r\n";
        for (framing, sent) in [
            (format!("content-length: {}", body.len()), body.to_owned()),
            ("transfer-encoding: chunked".to_owned(), format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())),
        ] {
            // At once, and in two pieces of which the second begins like a head.
            connection.write(format!("{head}{framing}\r\n\r\n{sent}")).await;
            assert!(connection.read_answer().await.0.starts_with("HTTP/1.1 200"), "{body:?}");
            connection.write(format!("{head}{framing}\r\n\r\n")).await;
            connection.write(&sent).await;
            assert!(connection.read_answer().await.0.starts_with("HTTP/1.1 200"), "{body:?}");
            let received = world.received("here").pop().expect("a request");
            assert_eq!(&received.body[..], body.as_bytes());
        }
    }
}

/// The origin may have seen the head of these, but never the end of a body.
#[tokio::test]
async fn a_broken_chunk_is_the_clients_fault() {
    let (world, node) = start().await;
    for (what, body) in [
        ("no number", "zz\r\nhello\r\n0\r\n\r\n"),
        ("an endless number", "fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        ("a signed number", "+5\r\nhello\r\n0\r\n\r\n"),
        ("too long", "3\r\nhello\r\n0\r\n\r\n"),
        ("a bare line feed", "5\nhello\n0\n\n"),
    ] {
        let request = format!("POST /x HTTP/1.1\r\nhost: api.example.com\r\ntransfer-encoding: chunked\r\n\r\n{body}");
        let answer = RawConnection::open(node.http()).await.exchange(request).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{what}: {answer:?}");
        assert!(answer.contains("\"reason\":\"bad_request\""), "{what}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{what}: {answer:?}");
    }
    assert!(world.received("here").iter().all(|received| !received.whole), "{:?}", world.received("here"));
}

#[tokio::test]
async fn a_body_that_breaks_off_never_counts_as_whole() {
    let (world, node) = start().await;
    for framing in ["content-length: 100", "transfer-encoding: chunked"] {
        let mut connection = RawConnection::open(node.http()).await;
        connection.write(format!("PUT /x HTTP/1.1\r\nhost: api.example.com\r\n{framing}\r\n\r\n5\r\nhello\r\n")).await;
        connection.finish().await.expect("an open connection");
        let (answer, _) = connection.read_to_end().await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{framing}: {answer}");
    }
    assert!(world.received("here").iter().all(|received| !received.whole), "{:?}", world.received("here"));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (world, node) = start().await;
    let mut connection = RawConnection::open(node.http()).await;
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: api.example.com\r\n\r\n");
    let post = "POST /2 HTTP/1.1\r\nhost: api.example.com\r\ncontent-length: 5\r\n\r\nhello";
    connection.write(format!("{}{post}{}", request("/1"), request("/3"))).await;
    for _ in 0..3 {
        let (head, body) = connection.read_answer().await;
        assert!(head.starts_with("HTTP/1.1 200") && body == "ok", "{head}{body}");
    }
    let received = world.received("here");
    let paths: Vec<&str> = received.iter().map(|received| received.path.as_str()).collect();
    assert_eq!(paths, ["/1", "/2", "/3"]);
    assert_eq!(&received[1].body[..], b"hello");
}

/// What came instead of one 400 and nothing at the origin.
async fn unless_refused(world: &World, node: &Node, what: &str, request: &str) -> Option<String> {
    let before = world.received("here").len();
    let answer = RawConnection::open(node.http()).await.exchange(request).await;
    let statuses: Vec<&str> = answer.lines().filter(|line| line.starts_with("HTTP/")).collect();
    let arrived = world.received("here").len() - before;
    let is_refused =
        matches!(statuses[..], [status] if status.contains(" 400 ") || status.contains(" 505 ")) && arrived == 0;
    (!is_refused).then(|| format!("{what}: {statuses:?}, and {arrived} requests at the origin"))
}

async fn start() -> (World, Node) {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let node = Setup::new("here", world.table()).start().await;
    (world, node)
}
