//! Idle connections on HTTP/1.1 give their buffers back, and nobody can tell.

use bytes::Bytes;
use loadtest::origin::Behaviour;
use meridian_tests::{Authority, Client, Node, RawConnection, Setup, World, eventually, get};
use tokio::io::{AsyncRead, AsyncWrite};

use super::EVERYTHING;

#[tokio::test]
async fn a_connection_at_rest_serves_the_next_request() {
    let (world, authority, node) = start("").await;
    let plain = RawConnection::open(node.http()).await;
    let secure = RawConnection::open_tls(node.https(), &authority, "api.example.com", b"http/1.1").await;
    let (mut plain, mut secure) = (plain, secure);
    for round in 1..=3 {
        for path in ["/a", "/b"] {
            served(&mut plain, path).await;
            served(&mut secure, path).await;
        }
        resting(&node, 2).await;
        assert_eq!(world.received("here").len(), round * 4);
    }
    // The certificate that it was opened with is no matter any more.
    authority.certify(&["api.example.com", "new.example.com"]).write(node.directory(), "tls-0");
    eventually("the new certificate", async || {
        let status = node.status().await;
        let names = &status["certificates"][0]["names"];
        if names == "api.example.com, new.example.com" { Ok(()) } else { Err(names.to_string()) }
    })
    .await;
    served(&mut secure, "/").await;
}

/// What wakes a connection may be a part of a head only, and a head is looked at as ever.
#[tokio::test]
async fn a_head_in_pieces_wakes_it() {
    let (_world, _, node) = start("header_timeout = \"1s\"").await;
    let mut pieces = RawConnection::open(node.http()).await;
    served(&mut pieces, "/").await;
    resting(&node, 1).await;
    for byte in request("/in-pieces").bytes() {
        pieces.write([byte]).await;
    }
    assert!(pieces.read_answer().await.0.starts_with("HTTP/1.1 200"));

    let mut ambiguous = RawConnection::open(node.http()).await;
    served(&mut ambiguous, "/").await;
    resting(&node, 2).await;
    let head = "POST / HTTP/1.1\r\nhost: api.example.com\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n";
    let answer = ambiguous.exchange(head).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");

    let mut endless = RawConnection::open(node.http()).await;
    served(&mut endless, "/").await;
    resting(&node, 2).await;
    endless.write("GET / HTTP/1.1\r\nhost: api.exam").await;
    let (answer, _) = endless.read_to_end().await;
    assert!(!String::from_utf8_lossy(&answer).contains("200 OK"));
}

/// The beginning of the next head, which came with the request before, waits for its end as long as the client likes
/// within `keep_alive`, and is not lost.
#[tokio::test]
async fn half_a_pipelined_head_is_kept() {
    let (world, _, node) = start("").await;
    let (first, second) = (request("/first"), request("/second"));
    let mut others = Vec::new();
    for cut in [1, 10, second.len() - 1] {
        let mut connection = RawConnection::open(node.http()).await;
        connection.write(format!("{first}{}", &second[..cut])).await;
        assert!(connection.read_answer().await.0.starts_with("HTTP/1.1 200"), "cut at {cut}");
        others.push((connection, cut));
    }
    // One that idles since later rests by now: so would those above.
    let mut later = RawConnection::open(node.http()).await;
    served(&mut later, "/").await;
    resting(&node, 1).await;
    for (mut connection, cut) in others {
        connection.write(&second[cut..]).await;
        assert!(connection.read_answer().await.0.starts_with("HTTP/1.1 200"), "cut at {cut}");
    }
    let seconds = world.received("here").iter().filter(|received| received.path.ends_with("/second")).count();
    assert_eq!(seconds, 3);
}

/// An answer's last bytes may wait for a client that takes its time, when HTTP has long finished the request.
#[tokio::test]
async fn an_answer_that_is_not_taken_is_not_lost() {
    let (world, _, node) = start("").await;
    world.origin("here").behave(|received| {
        // A probe asks for none.
        let length = received.path[1..].parse().unwrap_or(1);
        Behaviour::Answer(http::Response::new(Bytes::from(vec![b'x'; length])))
    });
    let mut slow = Vec::new();
    for length in (1..=20).map(|part| part * 400_000) {
        let mut connection = RawConnection::open(node.http()).await;
        connection.write(request(&format!("/{length}"))).await;
        slow.push((connection, length));
    }
    // The shortest answers fit into the sockets' buffers.
    eventually("some at rest", async || match count(&node).await {
        0.0 => Err("none".to_owned()),
        _ => Ok(()),
    })
    .await;
    for (mut connection, length) in slow {
        let (head, body) = connection.read_answer().await;
        assert!(head.starts_with("HTTP/1.1 200"), "{length}: {head}");
        assert_eq!(body.len(), length);
    }
}

/// It is closed as any other: when the client does so, when `keep_alive` is over, and when the node drains.
#[tokio::test]
async fn a_connection_at_rest_ends() {
    for (how, limits) in [("client", ""), ("keep_alive", "keep_alive = \"2s\""), ("drain", "")] {
        let (_world, authority, node) = start(limits).await;
        let mut plain = RawConnection::open(node.http()).await;
        let mut secure = RawConnection::open_tls(node.https(), &authority, "api.example.com", b"http/1.1").await;
        served(&mut plain, "/").await;
        served(&mut secure, "/").await;
        resting(&node, 2).await;
        match how {
            "client" => {
                plain.finish().await.expect("an open connection");
                secure.finish().await.expect("an open connection");
            }
            "drain" => node.signal("TERM"),
            _ => {}
        }
        assert!(plain.closes_cleanly().await, "{how}");
        assert!(secure.closes_cleanly().await, "{how}: without a close_notify");
        if how != "drain" {
            resting(&node, 0).await;
            eventually("no connections", async || {
                let connections = node.status().await["connections"].clone();
                if connections == 0 { Ok(()) } else { Err(connections.to_string()) }
            })
            .await;
        }
    }
}

/// What connections at rest have given back goes back to the system, though nothing else happens on the node.
#[tokio::test]
async fn the_memory_goes_back_to_the_system() {
    let (_world, _, node) = start("").await;
    let mut connections = Vec::new();
    for _ in 0..600 {
        let mut connection = RawConnection::open(node.http()).await;
        // It has a buffer until its head is whole.
        connection.write("GET / HTTP/1.1\r\nhost: api.example.com\r\nx-padding: ".to_owned() + &"x".repeat(3000)).await;
        connections.push(connection);
    }
    eventually("connections", async || {
        let connections = node.status().await["connections"].clone();
        if connections == 600 { Ok(()) } else { Err(connections.to_string()) }
    })
    .await;
    let busy = node.resident_bytes();
    for connection in &mut connections {
        connection.write("\r\n\r\n").await;
        assert!(connection.read_answer().await.0.starts_with("HTTP/1.1 200"));
    }
    eventually("less memory", async || match node.resident_bytes() {
        at_rest if at_rest + 600 * 1024 < busy => Ok(()),
        at_rest => Err(format!("{at_rest} of {busy} bytes")),
    })
    .await;
    resting(&node, 600).await;
}

/// Only what is asked on HTTP/1.1 and answered rests: not HTTP/2, whose state both ends share, no request in flight, and
/// nothing whose first head is awaited.
#[tokio::test]
async fn whatever_is_busy_does_not_rest() {
    let (world, _, node) = start("").await;
    let mut http2 = Client::http2(node.http()).connect().await.expect("a connection");
    http2.send(&get("/")).await.assert_served_by("here");
    let silent = RawConnection::open(node.http()).await;
    world.origin("here").behave(|received| match received.path.as_str() {
        "/stalled" => Behaviour::Stall,
        _ => Behaviour::Normal,
    });
    let mut waiting = RawConnection::open(node.http()).await;
    waiting.write(request("/stalled")).await;
    world.origin("here").arrived(2).await;
    let mut later = RawConnection::open(node.http()).await;
    served(&mut later, "/").await;
    resting(&node, 1).await;
    world.behave("here", &Behaviour::Normal);
    assert!(waiting.read_answer().await.0.starts_with("HTTP/1.1 200"));
    http2.send(&get("/")).await.assert_served_by("here");
    drop(silent);
}

async fn served<S: AsyncRead + AsyncWrite + Unpin>(connection: &mut RawConnection<S>, path: &str) {
    connection.write(request(path)).await;
    let (head, _) = connection.read_answer().await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: api.example.com\r\n\r\n")
}

async fn count(node: &Node) -> f64 {
    node.metrics().await.sum("meridian_resting_connections", &[]).expect("the gauge")
}

async fn resting(node: &Node, wanted: u32) {
    eventually("connections at rest", async || match count(node).await {
        count if count == f64::from(wanted) => Ok(()),
        count => Err(format!("{count} instead of {wanted}")),
    })
    .await;
}

async fn start(limits: &str) -> (World, Authority, Node) {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let authority = Authority::default();
    let setup = Setup::new("here", world.table()).plain().tls(&[&authority.certify(&["api.example.com"])]);
    let node = setup.section("limits", limits).start().await;
    (world, authority, node)
}
