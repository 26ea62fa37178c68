//! Clients that take their time: each connection ends by itself, and those that work are left alone.

use std::time::Duration;

use loadtest::origin::Behaviour;
use meridian_tests::{Authority, Client, Node, RawConnection, Setup, World, get, patiently};
use tokio::io::{AsyncRead, AsyncWrite};

#[tokio::test]
async fn a_head_that_never_ends_is_cut() {
    let (_world, authority, node) = start().await;
    for beginning in ["", "G", "GET / HTTP/1.1\r\nhost: api.exam", "PRI * HTTP/2.0\r\n\r\nSM", INCOMPLETE_HTTP2] {
        ends(RawConnection::open(node.http()).await, beginning, beginning).await;
    }
    // Without any TLS, amid the handshake, and after it.
    for beginning in ["", "\u{16}\u{3}\u{1}"] {
        ends(RawConnection::open(node.https()).await, beginning, "TLS").await;
    }
    for (alpn, beginnings) in [
        (&b"http/1.1"[..], ["", "GET / HTTP/1.1\r\nhost: api.exam"]),
        // The preface never comes, or nothing after it.
        (b"h2", ["", INCOMPLETE_HTTP2]),
    ] {
        for beginning in beginnings {
            let connection = RawConnection::open_tls(node.https(), &authority, "api.example.com", alpn).await;
            ends(connection, beginning, "over TLS").await;
        }
    }
    // The connections that are gone are not counted any more.
    meridian_tests::eventually("no connections", async || {
        let connections = node.status().await["connections"].clone();
        if connections == 0 { Ok(()) } else { Err(connections.to_string()) }
    })
    .await;
}

/// A browser opens connections ahead of its need, and uses them when it has one.
#[tokio::test]
async fn a_connection_that_is_not_used_yet_is_idle() {
    let (_world, authority, node) = start_with("header_timeout = \"300ms\"\nkeep_alive = \"30s\"").await;
    let request = "GET / HTTP/1.1\r\nhost: api.example.com\r\n\r\n";
    let mut plain = RawConnection::open(node.http()).await;
    let mut proxied = RawConnection::open(node.http()).await;
    proxied.write("PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\n").await;
    let before_tls = RawConnection::open(node.https()).await;
    let mut secure = RawConnection::open_tls(node.https(), &authority, "api.example.com", b"http/1.1").await;
    let http2 = Client::http2(node.https()).over_tls(&authority, "api.example.com");
    let mut http2 = http2.connect().await.expect("a connection");
    let mut plain_http2 = Client::http2(node.http()).connect().await.expect("a connection");
    // What has begun is cut meanwhile, twice over.
    for beginning in ["G", "PRI * HTTP/2.0\r\n", INCOMPLETE_HTTP2, "PROXY TCP4 "] {
        ends(RawConnection::open(node.http()).await, beginning, beginning).await;
    }
    ends(RawConnection::open(node.https()).await, "\u{16}\u{3}\u{1}", "amid the handshake").await;
    for beginning in ["PRI * HTTP/2.0\r\n", INCOMPLETE_HTTP2] {
        let connection = RawConnection::open_tls(node.https(), &authority, "api.example.com", b"h2").await;
        ends(connection, beginning, "over TLS").await;
    }
    for connection in [&mut plain, &mut proxied] {
        connection.write(request).await;
        assert!(connection.read_answer().await.0.starts_with("HTTP/1.1 200"));
    }
    secure.write(request).await;
    assert!(secure.read_answer().await.0.starts_with("HTTP/1.1 200"));
    let mut late = before_tls.secure(&authority, "api.example.com", b"http/1.1").await;
    late.write(request).await;
    assert!(late.read_answer().await.0.starts_with("HTTP/1.1 200"));
    for connection in [&mut http2, &mut plain_http2] {
        connection.send(&get("/")).await.assert_served_by("here");
    }
}

/// GOAWAY comes before the end, so that a client knows that a request on its way was not served.
#[tokio::test]
async fn an_http2_connection_that_was_never_used_ends_with_a_goaway() {
    let (_world, authority, node) = start_with("header_timeout = \"30s\"\nkeep_alive = \"300ms\"").await;
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0";
    let mut connection = RawConnection::open_tls(node.https(), &authority, "api.example.com", b"h2").await;
    connection.write(preface).await;
    assert!(String::from_utf8_lossy(&connection.read_to_end().await.0).contains(GOAWAY));
    let mut connection = RawConnection::open(node.http()).await;
    connection.write(preface).await;
    assert!(String::from_utf8_lossy(&connection.read_to_end().await.0).contains(GOAWAY));
    for silent in [RawConnection::open(node.http()).await, RawConnection::open(node.https()).await] {
        ends(silent, "", "not a byte").await;
    }
}

/// The clock of a head does not start anew with each byte.
#[tokio::test]
async fn a_head_that_trickles_in_is_cut() {
    let (_world, _, node) = start().await;
    let mut connection = RawConnection::open(node.http()).await;
    let trickle = async {
        connection.write("GET / HTTP/1.1\r\nhost: api.example.com\r\n").await;
        while connection.try_write("x: 1\r\n").await.is_ok() {
            tokio::time::sleep(HEADER_TIMEOUT / 8).await;
        }
    };
    patiently("the end of a trickling connection", trickle).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let (_world, authority, node) = start().await;
    let plain = Client::http1(node.http());
    let secure = Client::http2(node.https()).over_tls(&authority, "api.example.com");
    for client in
        [plain.clone(), Client::http2(node.http()), secure.clone(), secure.speaking(meridian_tests::Protocol::Http1)]
    {
        let mut connection = client.connect().await.expect("a connection");
        for _ in 0..3 {
            connection.send(&get("/")).await.assert_served_by("here");
        }
        connection.closed().await;
    }
}

#[tokio::test]
async fn whoever_waits_for_an_answer_is_not_idle() {
    let (world, _, node) = start().await;
    world.behave("here", &Behaviour::Slow(KEEP_ALIVE * 3));
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        let mut connection = client.connect().await.expect("a connection");
        connection.send(&get("/")).await.assert_served_by("here");
    }
}

/// A client that uploads in small steps is slow, but alive; one that stops is not.
#[tokio::test]
async fn an_upload_that_stops_is_refused() {
    let (world, _, node) = start().await;
    for framing in ["content-length: 100", "transfer-encoding: chunked"] {
        let mut connection = RawConnection::open(node.http()).await;
        let head = format!("POST / HTTP/1.1\r\nhost: api.example.com\r\n{framing}\r\n\r\n5\r\nhello\r\n");
        connection.write(head).await;
        let (answer, took) = connection.read_to_end().await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 408"), "{framing}: {answer}");
        assert!(took >= BODY_TIMEOUT, "{took:?}");
    }
    let mut connection = RawConnection::open(node.http()).await;
    connection.write("POST / HTTP/1.1\r\nhost: api.example.com\r\ncontent-length: 6\r\n\r\n").await;
    for _ in 0..6 {
        tokio::time::sleep(BODY_TIMEOUT / 3).await;
        connection.write("x").await;
    }
    let (answer, _) = connection.read_answer().await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(world.received("here").iter().filter(|received| received.whole).count(), 1);
}

/// A client that takes nothing of its answer, by not reading or by never opening HTTP/2's window,
/// must not hold a request in flight for ever.
#[tokio::test]
async fn a_client_that_takes_nothing_is_cut() {
    let (world, _, node) = start().await;
    let large = http::Response::new(bytes::Bytes::from(vec![b'x'; 64 << 20]));
    world.origin("here").set_behaviour(Behaviour::Answer(large));
    let mut unread = RawConnection::open(node.http()).await;
    unread.write("GET / HTTP/1.1\r\nhost: api.example.com\r\n\r\n").await;
    let mut closed = RawConnection::open(node.http()).await;
    closed.write(ZERO_WINDOW_HTTP2).await;
    world.origin("here").arrived(2).await;
    meridian_tests::eventually("nothing in flight", async || {
        let status = node.status().await;
        let held = (status["requests_in_flight"].clone(), status["connections"].clone());
        if held.0 == 0 && held.1 == 0 { Ok(()) } else { Err(format!("{held:?}")) }
    })
    .await;
}

/// Many slow clients are no reason to serve the others worse.
#[tokio::test]
async fn others_are_served_meanwhile() {
    let (_world, _, node) = start().await;
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut connection = RawConnection::open(node.http()).await;
        connection.write("GET / HTTP/1.1\r\n").await;
        slow.push(connection);
    }
    for _ in 0..20 {
        Client::http1(node.http()).send(&get("/")).await.assert_served_by("here");
    }
}

async fn ends<S: AsyncRead + AsyncWrite + Unpin>(mut connection: RawConnection<S>, beginning: &str, what: &str) {
    connection.write(beginning).await;
    let (answer, took) = connection.read_to_end().await;
    // HTTP/2 says goodbye, HTTP/1.1 may say 408.
    let text = String::from_utf8_lossy(&answer);
    assert!(!text.contains("200 OK"), "{what:?}: {text}");
    assert!(took < Duration::from_secs(8), "{what:?} took {took:?}");
}

async fn start() -> (World, Authority, Node) {
    let limits = format!(
        "header_timeout = \"{}ms\"\nkeep_alive = \"{}ms\"\nbody_timeout = \"{}ms\"",
        HEADER_TIMEOUT.as_millis(),
        KEEP_ALIVE.as_millis(),
        BODY_TIMEOUT.as_millis()
    );
    start_with(&limits).await
}

async fn start_with(limits: &str) -> (World, Authority, Node) {
    let world = World::of_regions(&[("here", "US")], "[[routes]]\nname = \"all\"\n").await;
    let authority = Authority::default();
    let setup = Setup::new("here", world.table()).plain().with_proxy_header();
    let setup = setup.tls(&[&authority.certify(&["api.example.com"])]);
    let node = setup.section("limits", limits).start().await;
    (world, authority, node)
}

/// The preface, empty settings, and a HEADERS frame that announces a continuation.
const INCOMPLETE_HTTP2: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0\0\0\u{1}\u{1}\0\0\0\0\u{1}\0";

/// The header of a GOAWAY frame of 8 bytes, for stream 0.
const GOAWAY: &str = "\0\0\u{8}\u{7}\0\0\0\0\0";

const HEADER_TIMEOUT: Duration = Duration::from_millis(800);
const KEEP_ALIVE: Duration = Duration::from_millis(500);
const BODY_TIMEOUT: Duration = Duration::from_millis(600);

/// The preface, settings with an initial window of 0, and a GET of `/` on `api.example.com`: three
/// indexed fields, and `:authority` as a literal.
const ZERO_WINDOW_HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
    \0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0\
    \0\0\x14\x01\x05\0\0\0\x01\x82\x86\x84\x41\x0fapi.example.com";
