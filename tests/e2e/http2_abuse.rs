//! One client that uses up what HTTP/2 lets it: its connection or its stream ends, and others are served as before.

use std::collections::BTreeSet;
use std::time::Duration;

use loadtest::origin::Behaviour;
use meridian_tests::frames::{Frame, reason};
use meridian_tests::{Authority, Client, Frames, Node, RawConnection, Setup, SmallTable, World, get};

/// A page is left while its pictures load: what is cancelled is cancelled, and the rest comes.
#[tokio::test]
async fn cancelled_streams_leave_their_connection_to_the_others() {
    let (world, node) = start("").await;
    world.behave("here", &Behaviour::Slow(Duration::from_millis(500)));
    let mut client = Frames::connect(node.http()).await;
    let streams: Vec<u32> = (0..100).map(|number| 2 * number + 1).collect();
    let (cancelled, others) = streams.split_at(40);
    let requests: Vec<u8> = streams.iter().flat_map(|stream| request(*stream)).collect();
    let resets: Vec<u8> = cancelled.iter().flat_map(|stream| reset(*stream)).collect();
    client.write_all(&[requests, resets].concat()).await;
    let mut answered = BTreeSet::new();
    while answered.len() < others.len() {
        let frame = client.read().await.unwrap_or_else(|| panic!("closed after {} answers", answered.len()));
        assert_ne!(frame.kind, GOAWAY, "after {} answers", answered.len());
        if frame.kind == HEADERS {
            assert_eq!(frame.payload.first(), Some(&STATUS_200));
            answered.insert(frame.stream);
        }
    }
    assert_eq!(answered, others.iter().copied().collect());
    // Nor is it any nearer to its end.
    client.write_all(&request(201)).await;
    while client.read().await.expect("an open connection").stream != 201 {}
    assert_eq!(node.metrics().await.sum("meridian_client_abuse_total", &[]), None);
}

/// What is cancelled before anybody has seen it is nobody's business.
#[tokio::test]
async fn a_stream_that_is_reset_at_once_is_not_served() {
    let (world, node) = start("").await;
    let mut client = Frames::connect(node.http()).await;
    // From now on there is a connection to the origin.
    client.write_all(&request(1)).await;
    while client.read().await.expect("an open connection").stream != 1 {}
    client.write_all(&[request(3), reset(3), request(5)].concat()).await;
    while client.read().await.expect("an open connection").stream != 5 {}
    assert_eq!(world.received("here").len(), 2);
}

/// Each of them costs its sender little.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_ends_its_connection_and_no_other() {
    let (world, node) = start("").await;
    let mut beside = Client::http2(node.http()).connect().await.expect("a connection");
    for (kind, flood) in floods() {
        let mut flooder = Frames::connect(node.http()).await;
        flooder.write_all(&flood).await;
        assert_eq!(flooder.read_to_goaway().await, Some(reason::ENHANCE_YOUR_CALM), "{kind}");
        flooder.closed().await;
        beside.send(&get("/")).await.assert_served_by("here");
        meridian_tests::eventually(kind, async || {
            let counted = node.metrics().await.sum("meridian_client_abuse_total", &[("kind", kind)]);
            if counted == Some(1.0) { Ok(()) } else { Err(format!("{counted:?}")) }
        })
        .await;
    }
    assert!(world.received("here").len() < 500, "{} requests of floods", world.received("here").len());
    let log = node.log().all();
    let told: Vec<&String> = log.iter().filter(|line| line.contains("its client floods it")).collect();
    assert!((1..=3).contains(&told.len()), "{told:#?}");
    assert!(told[0].contains("127.0.0.0") && told[0].contains("ping"), "{told:#?}");
}

/// A client that goes on sending gets its GOAWAY and an orderly end, and no reset.
#[tokio::test]
async fn a_client_that_goes_on_sending_gets_its_goaway() {
    let (_world, node) = start("").await;
    let flood = Frame::bytes(PING, 0, 0, &[0; 8]).repeat(1000);
    // DATA of no stream.
    let fault = Frame::bytes(DATA, 0, 0, &[0; 8]);
    for (sent, why) in [(flood, reason::ENHANCE_YOUR_CALM), (fault, reason::PROTOCOL_ERROR)] {
        let mut client = RawConnection::open(node.http()).await;
        let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &Frame::bytes(SETTINGS, 0, 0, &[])[..]].concat();
        client.write([preface, sent].concat()).await;
        client.read_bytes_until(&Frame::bytes(GOAWAY, 0, 0, &[[0; 4], why.to_be_bytes()].concat())).await;
        for _ in 0..20 {
            client.write(Frame::bytes(PING, 0, 0, &[0; 8]).repeat(1000)).await;
        }
        client.finish().await.expect("an open connection");
        assert!(client.closes_cleanly().await, "{why}");
    }
    // One that neither sends nor closes is not waited for.
    let mut client = RawConnection::open(node.http()).await;
    client.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    client.write(Frame::bytes(PING, 0, 0, &[0; 8]).repeat(1000)).await;
    meridian_tests::eventually("its place is free", async || {
        let open = node.metrics().await.sum("active_connections", &[]);
        if open == Some(0.0) { Ok(()) } else { Err(format!("{open:?}")) }
    })
    .await;
    assert!(client.closes_cleanly().await);
}

/// Each connection stays within what one may cancel at one time.
#[tokio::test]
async fn a_flood_over_many_connections_ends_too() {
    let world = World::of_regions(&[("here", "US")], "[[routes]]\nname = \"all\"\n").await;
    // The client is no trusted proxy: what one of those cancels is its clients'.
    let node = Setup::new("here", world.table()).trusting(&["192.0.2.0/24"]).start().await;
    let burst: Vec<u8> = (0..150).flat_map(|n| [request(2 * n + 1), reset(2 * n + 1)].concat()).collect();
    let mut goes_on = true;
    for _ in 0..30 {
        let mut client = Frames::connect(node.http()).await;
        client.write_all(&burst).await;
        goes_on = lives(&mut client).await;
        if !goes_on {
            break;
        }
    }
    assert!(!goes_on, "4500 requests cancelled, 150 on each connection");
    // What is not cancelled is served.
    Client::http2(node.http()).send(&get("/")).await.assert_served_by("here");
}

/// Many clients on one connection of a balancer, whose origin hangs, give up after it has answered many; and there is an end.
#[tokio::test]
async fn a_balancer_may_cancel_by_what_it_has_had_answered() {
    let (world, node) = start("").await;
    let mut client = Frames::connect(node.http()).await;
    let mut streams = (0..).map(|number| 2 * number + 1);
    for _ in 0..40 {
        let several: Vec<u32> = streams.by_ref().take(10).collect();
        client.write_all(&several.iter().flat_map(|stream| request(*stream)).collect::<Vec<u8>>()).await;
        let mut answered = 0;
        while answered < several.len() {
            let frame = client.read().await.expect("an open connection");
            answered += usize::from(frame.stream > 0 && frame.flags & END_STREAM != 0);
        }
    }
    world.behave("here", &Behaviour::Slow(Duration::from_secs(60)));
    let mut cancelled = 0;
    let goes_on = loop {
        let several: Vec<u32> = streams.by_ref().take(80).collect();
        client.write_all(&several.iter().flat_map(|stream| request(*stream)).collect::<Vec<u8>>()).await;
        if !lives(&mut client).await {
            break false;
        }
        client.write_all(&several.iter().flat_map(|stream| reset(*stream)).collect::<Vec<u8>>()).await;
        if !lives(&mut client).await {
            break false;
        }
        cancelled += several.len();
        // 100 a second are free.
        if cancelled > 50_000 {
            break true;
        }
    };
    assert!(!goes_on && cancelled >= 1900, "ended after {cancelled}");
}

/// Returns whether a connection goes on, once the node has read what was sent on it.
async fn lives(client: &mut Frames) -> bool {
    client.write(PING, 0, 0, &[0; 8]).await;
    loop {
        match client.read().await {
            Some(frame) if frame.kind == GOAWAY => return false,
            Some(frame) if frame.kind == PING => return true,
            Some(_) => {}
            None => return false,
        }
    }
}

/// Over TLS, too, the end is between two frames.
#[tokio::test]
async fn a_flood_over_tls_ends_with_a_goaway() {
    let authority = Authority::default();
    let world = World::of_regions(&[("here", "US")], "[[routes]]\nname = \"all\"\n").await;
    let node = Setup::new("here", world.table()).tls(&[&authority.certify(&["api.example.com"])]).start().await;
    let connection = meridian_tests::RawConnection::open(node.https()).await;
    let mut connection = connection.secure(&authority, "api.example.com", b"h2").await;
    let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &Frame::bytes(SETTINGS, 0, 0, &[])[..]].concat();
    connection.write([preface, Frame::bytes(PING, 0, 0, &[0; 8]).repeat(500)].concat()).await;
    let goaway = Frame::bytes(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 11]);
    connection.read_bytes_until(&goaway).await;
}

/// What gRPC's clients and eager readers send while a large answer comes is no flood.
#[tokio::test]
async fn an_eager_reader_of_a_large_answer_is_no_flood() {
    let (world, node) = start("").await;
    let large = http::Response::new(bytes::Bytes::from(vec![b'x'; 8 << 20]));
    world.behave("here", &Behaviour::Answer(large));
    let mut client = Frames::connect(node.http()).await;
    client.write_all(&request(1)).await;
    let mut taken = 0;
    while taken < 8 << 20 {
        let frame = client.read().await.unwrap_or_else(|| panic!("closed after {taken} bytes"));
        assert_ne!(frame.kind, GOAWAY, "after {taken} bytes");
        if frame.kind != DATA || frame.payload.is_empty() {
            continue;
        }
        taken += frame.payload.len();
        let mut eager = Frame::bytes(PING, 0, 0, &[0; 8]);
        for piece in frame.payload.chunks(4096) {
            let increment = u32::try_from(piece.len()).expect("a small piece").to_be_bytes();
            eager.extend(Frame::bytes(WINDOW_UPDATE, 0, 0, &increment));
            eager.extend(Frame::bytes(WINDOW_UPDATE, 0, 1, &increment));
        }
        client.write_all(&eager).await;
    }
    assert_eq!(node.metrics().await.sum("meridian_client_abuse_total", &[]), None);
}

/// A client opens no window for one answer, or too little for a short one, and takes others meanwhile.
#[tokio::test]
async fn a_stream_that_stands_still_ends_alone() {
    for window in [0, 1] {
        stands_still(window).await;
    }
}

async fn stands_still(window: u8) {
    let (_world, node) = start("body_timeout = \"600ms\"").await;
    let mut client = Frames::connect(node.http()).await;
    client.write(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, window]).await;
    client.write_all(&request(1)).await;
    let mut ended = None;
    for number in 1..200 {
        let stream = 2 * number + 1;
        let window = Frame::bytes(WINDOW_UPDATE, 0, stream, &[0, 1, 0, 0]);
        client.write_all(&[request(stream), window].concat()).await;
        loop {
            let frame = client.read().await.expect("an open connection");
            assert_ne!(frame.kind, GOAWAY);
            if frame.kind == RST_STREAM {
                assert_eq!(frame.stream, 1, "those that are taken are left alone");
                ended = Some(frame.payload);
            }
            if frame.stream == stream && frame.flags & END_STREAM != 0 {
                break;
            }
        }
        if ended.is_some() {
            break;
        }
        // The pace of the others.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(ended, Some(reason::CANCEL.to_be_bytes().to_vec()));
    meridian_tests::eventually("nothing in flight", async || {
        let left = node.status().await["requests_in_flight"].clone();
        if left == 0 { Ok(()) } else { Err(left.to_string()) }
    })
    .await;
    // And the connection goes on.
    client.ping().await;
    client.write_all(&request(1001)).await;
    while client.read().await.expect("an open connection").stream != 1001 {}
}

/// What the node itself gives up is nobody's fault: all answers of a connection break off at one time.
#[tokio::test]
async fn answers_that_break_off_do_not_end_their_connection() {
    let (goes, _) = tokio::sync::broadcast::channel::<()>(1);
    let all = goes.clone();
    let origin = meridian_tests::bespoke::tcp(move |mut visit| {
        let mut breaks = all.subscribe();
        async move {
            visit.connection.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
            let _ = breaks.recv().await;
        }
    })
    .await;
    let table = SmallTable::new("[[routes]]\nname = \"all\"\n").region("here", "US", &[origin.address]).text();
    let node = Setup::new("here", &table).start().await;
    let mut client = Frames::connect(node.http()).await;
    client.write_all(&(0..100).flat_map(|number| request(2 * number + 1)).collect::<Vec<u8>>()).await;
    let (mut begun, mut reset) = (0, 0);
    while reset < 100 {
        let frame = client.read().await.expect("an open connection");
        assert_ne!(frame.kind, GOAWAY, "after {reset}");
        begun += usize::from(frame.kind == DATA && frame.payload == b"half");
        reset += usize::from(frame.kind == RST_STREAM);
        if begun == 100 && reset == 0 {
            // What it may spend besides is spent.
            client.write_all(&Frame::bytes(PRIORITY, 0, 1, &[0, 0, 0, 0, 3]).repeat(150)).await;
            client.ping().await;
            let _ = goes.send(());
            begun = 0;
        }
    }
    client.ping().await;
}

/// A field of 3,000 bytes in HPACK's table, and many references to it in each head: as large as a head gets, for little.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_unfold_end_their_connection() {
    let (_world, node) = start("").await;
    // Past all bounds, and past what one head may have.
    for (bombs, references) in [(1, 10_000), (2, 60)] {
        bombs_end(&node, references).await;
        meridian_tests::eventually("a count", async || {
            let counted = node.metrics().await.sum("meridian_client_abuse_total", &[("kind", "rejected")]);
            if counted == Some(f64::from(bombs)) { Ok(()) } else { Err(format!("{counted:?}")) }
        })
        .await;
    }
}

async fn bombs_end(node: &Node, references: usize) {
    let mut bomber = Frames::connect(node.http()).await;
    // A literal with indexing: a name of one byte, and a value whose length is 127 + 2873.
    let large = [b"\x82\x86\x84\x41\x0fapi.example.com\x40\x01x\x7f\xb9\x16", &[b'y'; 3000][..]].concat();
    let mut bombs = Frame::bytes(HEADERS, END_HEADERS | END_STREAM, 1, &large);
    for number in 1..400 {
        let stream = 2 * number + 1;
        let head = [&b"\x82\x86\x84"[..], &vec![0xbe; references]].concat();
        bombs.extend(Frame::bytes(HEADERS, END_HEADERS | END_STREAM, stream, &head));
    }
    bomber.write_all(&bombs).await;
    assert_eq!(bomber.read_to_goaway().await, Some(reason::ENHANCE_YOUR_CALM));
    Client::http2(node.http()).send(&get("/")).await.assert_served_by("here");
}

async fn start(limits: &str) -> (World, Node) {
    let world = World::of_regions(&[("here", "US")], "[[routes]]\nname = \"all\"\n").await;
    let node = Setup::new("here", world.table()).section("limits", limits).start().await;
    (world, node)
}

/// By the kind that is counted, frames that carry nothing.
fn floods() -> Vec<(&'static str, Vec<u8>)> {
    // POST / of api.example.com, whose content is to come.
    let post = Frame::bytes(HEADERS, END_HEADERS, 1, b"\x83\x86\x84\x41\x0fapi.example.com");
    let of_streams = |frames: &dyn Fn(u32) -> Vec<u8>| (0..1000).flat_map(|n| frames(2 * n + 1)).collect::<Vec<u8>>();
    // GET without a path.
    let bad = |stream| Frame::bytes(HEADERS, END_HEADERS | END_STREAM, stream, b"\x82\x86\x41\x0fapi.example.com");
    vec![
        ("ping", Frame::bytes(PING, 0, 0, &[0; 8]).repeat(1000)),
        ("settings", Frame::bytes(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]).repeat(1000)),
        ("priority", Frame::bytes(PRIORITY, 0, 3, &[0, 0, 0, 0, 1]).repeat(1000)),
        ("window_update", Frame::bytes(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).repeat(1000)),
        ("unknown_frame", Frame::bytes(0x77, 0, 0, &[]).repeat(1000)),
        ("empty_data", [post, Frame::bytes(DATA, 0, 1, &[]).repeat(1000)].concat()),
        ("reset", of_streams(&|stream| [request(stream), reset(stream)].concat())),
        ("continuation", {
            let begun = Frame::bytes(HEADERS, 0, 1, b"\x82");
            [begun, Frame::bytes(CONTINUATION, 0, 1, &[]).repeat(1000)].concat()
        }),
        ("rejected", of_streams(&bad)),
    ]
}

/// GET / of api.example.com.
fn request(stream: u32) -> Vec<u8> {
    Frame::bytes(HEADERS, END_HEADERS | END_STREAM, stream, b"\x82\x86\x84\x41\x0fapi.example.com")
}

fn reset(stream: u32) -> Vec<u8> {
    Frame::bytes(RST_STREAM, 0, stream, &reason::CANCEL.to_be_bytes())
}

/// RFC 9113, 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:status: 200` in HPACK's static table.
const STATUS_200: u8 = 0x88;
