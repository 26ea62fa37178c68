//! Bytes that no client would send: the process lives, answers nothing that it should not, and serves afterwards.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use meridian_tests::frames::Frame;
use meridian_tests::{Authority, Client, Node, Setup, World, get};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_listener_survives() {
    survives(|node| node.http(), 2_500).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tls_listener_survives() {
    survives(|node| node.https(), 1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_listener_survives() {
    survives(|node| node.admin(), 500).await;
}

/// Frames without end, from a client that reads nothing: each costs the sender little, and must not cost the node more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_frames_do_no_harm() {
    let world = World::of_regions(&[("here", "US")], "[[routes]]\nname = \"all\"\n").await;
    let limits = "header_timeout = \"1s\"\nkeep_alive = \"1s\"";
    let mut node = Setup::new("here", world.table()).section("limits", limits).without_access_log().start().await;
    Client::http2(node.http()).send(&get("/")).await.assert_served_by("here");
    let before = node.resident_bytes();
    // GET / of api.example.com, without a body.
    let request = |stream: u32| Frame::bytes(1, 0x5, stream, b"\x82\x86\x84\x41\x0fapi.example.com");
    for (what, flood) in [
        ("PING", Frame::bytes(6, 0, 0, &[0; 8]).repeat(100_000)),
        ("SETTINGS", Frame::bytes(4, 0, 0, &[0, 4, 0, 1, 0, 0]).repeat(100_000)),
        ("empty DATA", [request(1), Frame::bytes(0, 0, 1, &[]).repeat(100_000)].concat()),
        ("CONTINUATION", [Frame::bytes(1, 0, 1, b"\x82"), Frame::bytes(9, 0, 1, &[0x82; 100]).repeat(20_000)].concat()),
        (
            "rapid resets",
            (0..20_000_u32)
                .flat_map(|n| [request(2 * n + 1), Frame::bytes(3, 0, 2 * n + 1, &[0, 0, 0, 8])].concat())
                .collect(),
        ),
        ("WINDOW_UPDATE", Frame::bytes(8, 0, 0, &[0, 0, 0, 1]).repeat(100_000)),
        ("PRIORITY", Frame::bytes(2, 0, 3, &[0, 0, 0, 0, 1]).repeat(100_000)),
    ] {
        let target = node.http();
        let flooding = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(target).expect("a connection");
            stream.set_write_timeout(Some(Duration::from_secs(2))).expect("a socket");
            // The node may stop reading, or close: both are its right.
            let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
            let _ = stream.write_all(&flood);
            stream
        });
        let flooder = flooding.await.expect("no panic");
        Client::http2(node.http()).send(&get("/")).await.assert_served_by("here");
        let grown = node.resident_bytes().saturating_sub(before);
        assert!(grown < 64 << 20, "{what}: the node has grown by {grown} bytes");
        drop(flooder);
    }
    assert!(node.is_running());
    assert!(world.received("here").len() < 1_000, "resets are not requests: {}", world.received("here").len());
}

async fn survives(address: fn(&Node) -> SocketAddr, count: usize) {
    let world = World::of_regions(&[("here", "US")], "[[routes]]\nname = \"all\"\n").await;
    let authority = Authority::default();
    let certificate = authority.certify(&["api.example.com"]);
    let limits = "header_timeout = \"500ms\"\nkeep_alive = \"500ms\"\nbody_timeout = \"500ms\"";
    let setup = Setup::new("here", world.table()).plain().tls(&[&certificate]).section("limits", limits);
    let mut node = setup.without_access_log().start().await;
    let target = address(&node);
    let throwing = tokio::task::spawn_blocking(move || {
        let mut random = fastrand::Rng::with_seed(SEED);
        for number in 0..count {
            throw(target, &hostile(&mut random, number));
        }
    });
    throwing.await.expect("no panic");

    assert!(node.is_running());
    let secure = Client::http2(node.https()).over_tls(&authority, "api.example.com");
    for client in [Client::http1(node.http()), Client::http2(node.http()), secure] {
        client.send(&get("/")).await.assert_served_by("here");
    }
    let log = node.log().all();
    assert!(!log.iter().any(|line| line.contains("panicked")), "{log:#?}");
    meridian_tests::eventually("nothing is left over", async || {
        let status = node.status().await;
        let left = (status["connections"].clone(), status["requests_in_flight"].clone());
        if left == (0.into(), 0.into()) { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    assert_eq!(node.metrics().await.sum("data_residency_violations_total", &[]), Some(0.0));
}

/// Sends bytes, takes a little of what comes back, and leaves, as often as not without saying goodbye.
fn throw(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_nodelay(true).expect("a socket");
    stream.set_read_timeout(Some(Duration::from_millis(2))).expect("a socket");
    // The node may have closed it already, which is its right.
    let _ = stream.write_all(bytes);
    let mut answer = [0; 4096];
    let _ = stream.read(&mut answer);
}

/// Noise, or a sound beginning with something wrong in it.
fn hostile(random: &mut fastrand::Rng, number: usize) -> Vec<u8> {
    let mut bytes = SEEDS[number % SEEDS.len()].to_vec();
    match random.u8(..4) {
        0 => bytes = (0..random.usize(1..600)).map(|_| random.u8(..)).collect(),
        1 => bytes.truncate(random.usize(..=bytes.len())),
        2 => {
            // Twice, with a seam somewhere.
            let seam = random.usize(..=bytes.len());
            let again = bytes[seam..].to_vec();
            bytes.extend(again);
        }
        _ => {}
    }
    for _ in 0..random.usize(..6) {
        if bytes.is_empty() {
            break;
        }
        let at = random.usize(..bytes.len());
        match random.u8(..4) {
            0 => bytes[at] = random.u8(..),
            1 => bytes[at] ^= 1 << random.u8(..8),
            2 => drop(bytes.remove(at)),
            _ => bytes.insert(at, *random.choice(b"\r\n\0 :;%/\x80\xff").expect("some")),
        }
    }
    bytes
}

/// What to start from: requests of every kind, HTTP/2 frames, a ClientHello, a PROXY header.
const SEEDS: [&[u8]; 14] = [
    b"GET / HTTP/1.1\r\nhost: api.example.com\r\n\r\n",
    b"POST /x?y=z HTTP/1.1\r\nhost: api.example.com\r\ncontent-length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nhost: api.example.com\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntrailer: x\r\n\r\nffffffff;a=b\r\nx\r\n0\r\nx: 1\r\n\r\n",
    b"PUT / HTTP/1.1\r\nhost: api.example.com\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\nx",
    b"GET /%2e%2e/%00/\xff HTTP/1.1\r\nhost: [::1]:80\r\nx-forwarded-for: 1.2.3.4, unknown, \xff\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: api.example.com\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\x81\x85\x37\xfa\x21\x3d",
    b"CONNECT api.example.com:443 HTTP/1.1\r\nhost: api.example.com:443\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nhost: api.example.com\r\n\r\nGET http://u@h:99999/ HTTP/1.0\r\n\r\n",
    // Preface, SETTINGS, HEADERS (GET / in static table entries), DATA, RST_STREAM, PING, GOAWAY.
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x04\x01\x05\0\0\0\x01\x82\x86\x84\x41\
      \0\0\x01\0\x01\0\0\0\x01x\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08\0\0\x08\x06\0\0\0\0\0\0\0\0\0\0\0\0\0",
    // SETTINGS with extreme values, WINDOW_UPDATE past the maximum, PRIORITY on itself.
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x0c\x04\0\0\0\0\0\0\x04\xff\xff\xff\xff\0\x05\0\0\0\0\
      \0\0\x04\x08\0\0\0\0\0\x7f\xff\xff\xff\0\0\x05\x02\0\0\0\0\x01\0\0\0\x01\xff",
    // A ClientHello's beginning, with the name of a host.
    b"\x16\x03\x01\0\x60\x01\0\0\x5c\x03\x03\0\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\
      \x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\0\0\x02\x13\x01\x01\0\0\x31\0\0\0\x14\0\x12\0\0\x0fapi.exa\
      mple.com\0\x2b\0\x03\x02\x03\x04\0\x0a\0\x04\0\x02\0\x1d\0\x0d\0\x04\0\x02\x04\x03",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\nhost: api.example.com\r\n\r\n",
    b"\r\n\r\n\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\0\x01\0\x02",
];

/// Any number: the same bytes each time, so that a failure can be had again.
const SEED: u64 = 7;
