//! WebSockets over HTTP/2 (RFC 8441), of clients and of origins: tunnels as those of HTTP/1.1 are, on a stream.

mod origin;

use h2::Reason;
use h2::ext::Protocol;
use http::{Method, Request, Version};
use meridian_tests::frames::reason;
use meridian_tests::streams::{Stream, StreamClient, accept_of};
use meridian_tests::{Authority, Client, Frames, Node, RawConnection, Setup, SmallTable, eventually, get};
use serde_json::{Value, json};

use self::origin::Origin;
use super::EVERYTHING;

/// What is asked of an origin of HTTP/1.1, and what becomes of its answer.
#[tokio::test]
async fn an_extended_connect_is_an_upgrade_to_an_origin_of_http1() {
    let (origin, node) = with_http1("").await;
    let mut client = StreamClient::connect(node.http()).await;
    let mut request = connect("/socket?a=b");
    request.headers_mut().insert("sec-websocket-protocol", "chat".parse().expect("a value"));
    request.headers_mut().insert("sec-websocket-key", "Y2xpZW50J3Mgb3duIGtleQ==".parse().expect("a value"));
    let (answer, mut stream) = client.send(request).await;
    assert_eq!((answer.status(), answer.version()), (http::StatusCode::OK, Version::HTTP_2));
    assert_eq!(answer.headers()["x-meridian-region"], "here");
    assert_eq!(answer.headers()["sec-websocket-protocol"], "chat");
    for gone in ["sec-websocket-accept", "upgrade", "connection", "content-length"] {
        assert!(!answer.headers().contains_key(gone), "{answer:?}");
    }
    let head = origin.heads().pop().expect("a request");
    assert!(head.starts_with("GET /socket?a=b HTTP/1.1\r\n"), "{head}");
    assert!(!head.contains("Y2xpZW50"), "{head}");
    for field in ["host: api.example.com", "upgrade: websocket", "connection: upgrade", "sec-websocket-version: 13"] {
        assert!(head.contains(&format!("\r\n{field}\r\n")), "{field}: {head}");
    }
    converse(&mut stream).await;
    // Beside the tunnel its connection serves on.
    let other = Request::get("http://api.example.com/plain").body(()).expect("a request");
    let (answer, mut plain) = client.send(other).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(plain.read_until("plain").await, "plain");
    assert_eq!(node.status().await["tunnels"], 1);
    stream.write("bye;").await;
    assert_eq!(stream.read_to_end().await, ("bye;".to_owned(), None), "the origin has hung up");
    stream.finish();
    gone(&node).await;
    let line = tunnels_line(&node).await;
    assert_eq!((&line["method"], &line["protocol"], &line["upgrade"]), (&json!("GET"), &json!("HTTP/2"), &json!(true)));
    assert_eq!((&line["status"], &line["tunnel"]["ended"]), (&json!(200), &json!("closed")), "{line}");
}

/// Either side may say that it sends no more, and still hears the other out.
#[tokio::test]
async fn half_a_close_is_passed_on_and_bytes_are_counted() {
    let (_origin, node) = with_http1("").await;
    let mut stream = StreamClient::connect(node.http()).await.open("/socket").await;
    stream.write("0123456789;").await;
    assert_eq!(stream.read_until(";").await, "0123456789;");
    stream.finish();
    assert_eq!(
        stream.read_to_end().await,
        ("11 bytes;".to_owned(), None),
        "what the origin says once it has heard all"
    );
    gone(&node).await;
    let line = tunnels_line(&node).await;
    assert_eq!(line["tunnel"], json!({ "bytes_up": 11, "bytes_down": 20, "ended": "closed" }), "{line}");
    let metrics = node.metrics().await;
    for (direction, bytes) in [("up", 11.0), ("down", 20.0)] {
        let counted = metrics.sum("meridian_tunnel_bytes_total", &[("region", "here"), ("direction", direction)]);
        assert_eq!(counted, Some(bytes), "{direction}");
    }
    assert_eq!(metrics.sum("http_requests_total", &[("method", "GET"), ("status", "200")]), Some(1.0));
}

/// An answer that the client would take for a tunnel, and is none; and others, which are its answer.
#[tokio::test]
async fn only_what_an_origin_agrees_to_is_a_tunnel() {
    let (_origin, node) = with_http1("").await;
    let mut client = StreamClient::connect(node.http()).await;
    for (path, status, body) in [
        ("/forged", 502, "upstream_failed"),
        ("/silent", 502, "upstream_failed"),
        ("/plain", 502, "upstream_failed"),
        ("/refused", 403, "not for you"),
    ] {
        let (answer, mut stream) = client.ask("websocket", path, "US").await;
        assert_eq!(answer.status(), status, "{path}");
        let (text, end) = stream.read_to_end().await;
        assert!(text.contains(body) && end.is_none(), "{path}: {text} {end:?}");
    }
    gone(&node).await;
}

#[tokio::test]
async fn no_other_protocol_passes() {
    let (origin, node) = with_http1("").await;
    let mut client = StreamClient::connect(node.http()).await;
    for protocol in ["connect-udp", "connect-ip", "webtransport", "h2c"] {
        let (answer, mut stream) = client.ask(protocol, "/socket", "US").await;
        assert_eq!(answer.status(), 501, "{protocol}");
        let (problem, _) = stream.read_to_end().await;
        assert!(problem.contains("bad_request"), "{problem}");
    }
    let mut plain = Request::new(());
    *plain.method_mut() = Method::CONNECT;
    *plain.uri_mut() = "api.example.com:443".parse().expect("an authority");
    assert_eq!(client.send(plain).await.0.status(), 400);
    assert!(origin.heads().is_empty());
    // And with another method the pseudo-field is malformed: frame by frame, since no library sends it.
    let mut frames = Frames::connect(node.http()).await;
    let head = [&b"\x82\x86\x84\x41\x0fapi.example.com\x00\x09:protocol\x09websocket"[..]].concat();
    frames.write(1, 5, 1, &head).await;
    loop {
        let frame = frames.read().await.expect("an open connection");
        if frame.stream == 1 {
            assert_eq!(frame.kind, 3, "{frame:?}");
            break;
        }
    }
}

#[tokio::test]
async fn a_reset_of_either_side_ends_the_tunnel() {
    let (origin, node) = with_http1("").await;
    let mut client = StreamClient::connect(node.http()).await;
    let mut stream = client.open("/socket").await;
    stream.write("x;").await;
    assert_eq!(stream.read_until(";").await, "x;");
    stream.sending.send_reset(Reason::CANCEL);
    eventually("the origin hears of it", async || if origin.ended() == 1 { Ok(()) } else { Err(String::new()) }).await;
    gone(&node).await;
    assert_eq!(tunnels_line(&node).await["tunnel"]["ended"], "broken");
    let mut stream = client.open("/socket").await;
    stream.write("reset;").await;
    assert_eq!(stream.read_to_end().await, ("last;".to_owned(), Some(Reason::CANCEL)), "and what came before it");
    gone(&node).await;
    // And the end of the connection, by whatever is on it.
    let _stream = client.open("/socket").await;
    assert_eq!(node.status().await["tunnels"], 1);
    drop((client, _stream));
    gone(&node).await;
}

/// A client that has said its last word may still give the tunnel up: nobody waits for it to idle.
#[tokio::test]
async fn a_reset_after_the_last_word_ends_the_tunnel() {
    let (_origin, node) = with_http1("").await;
    let mut client = StreamClient::connect(node.http()).await;
    let mut stream = client.open("/socket").await;
    stream.write("hush;").await;
    assert_eq!(stream.read_until(";").await, "hush;");
    stream.finish();
    // What is reset at once does not say it.
    let mut frames = Frames::connect(node.http()).await;
    frames.ping().await;
    stream.sending.send_reset(Reason::CANCEL);
    gone(&node).await;
    assert_eq!(tunnels_line(&node).await["tunnel"]["ended"], "broken");
}

/// The bytes of a tunnel are no content, of whatever length: its stream is refused, and no other.
#[tokio::test]
async fn a_connect_with_a_length_is_refused_alone() {
    let (origin, node) = with_http1("").await;
    let mut client = StreamClient::connect(node.http()).await;
    let mut beside = client.open("/socket").await;
    for length in ["0", "5"] {
        let mut plain = Request::new(());
        *plain.method_mut() = Method::CONNECT;
        *plain.uri_mut() = "api.example.com:443".parse().expect("an authority");
        for mut request in [connect("/socket"), plain] {
            request.headers_mut().insert("content-length", length.parse().expect("a value"));
            let (answer, mut stream) = client.send(request).await;
            assert_eq!(answer.status(), 400, "{length}");
            assert!(stream.read_to_end().await.0.contains("a CONNECT has a Content-Length"));
        }
    }
    assert_eq!(origin.heads().len(), 1);
    beside.write("x;").await;
    assert_eq!(beside.read_until(";").await, "x;");
    let refused = node.metrics().await.sum("http_requests_total", &[("status", "400")]);
    assert_eq!(refused, Some(4.0));
}

#[tokio::test]
async fn one_that_idles_is_reset_alone() {
    let (_origin, node) = with_http1("tunnel_idle_timeout = \"1s\"").await;
    let mut client = StreamClient::connect(node.http()).await;
    let mut stream = client.open("/socket").await;
    assert_eq!(stream.read_to_end().await, (String::new(), Some(Reason::CANCEL)));
    assert_eq!(tunnels_line(&node).await["tunnel"]["ended"], "idle");
    let mut next = client.open("/socket").await;
    next.write("x;").await;
    assert_eq!(next.read_until(";").await, "x;");
}

#[tokio::test]
async fn their_number_is_limited_with_those_of_http1() {
    let (origin, node) = with_http1("tunnels = 2\nrequests_in_flight = 3").await;
    let mut client = StreamClient::connect(node.http()).await;
    let (first, _second) = (client.open("/socket").await, upgraded(&node).await);
    let (answer, mut stream) = client.ask("websocket", "/socket", "US").await;
    assert_eq!(answer.status(), 503);
    assert!(stream.read_to_end().await.0.contains("overloaded"));
    assert_eq!(origin.heads().len(), 2, "the third was not sent");
    eventually("none is in flight", async || {
        let in_flight = node.status().await["requests_in_flight"].clone();
        if in_flight == 0 { Ok(()) } else { Err(in_flight.to_string()) }
    })
    .await;
    drop(first);
    eventually("a place", async || {
        let tunnels = node.status().await["tunnels"].clone();
        if tunnels == 1 { Ok(()) } else { Err(tunnels.to_string()) }
    })
    .await;
    client.open("/socket").await;
}

/// A table that takes the region away.
#[tokio::test]
async fn one_whose_region_is_revoked_is_reset() {
    let (_origin, node) = with_http1("").await;
    let mut client = StreamClient::connect(node.http()).await;
    let mut stream = client.open("/socket").await;
    let table = std::fs::read_to_string(node.path("routes.toml")).expect("the table");
    node.replace("routes.toml", table.replace("[regions.here]", "[regions.here]\nstate = \"disabled\""));
    assert_eq!(stream.read_to_end().await, (String::new(), Some(Reason::CANCEL)));
    let line = tunnels_line(&node).await;
    assert_eq!((&line["tunnel"]["ended"], &line["reason"]), (&json!("revoked"), &json!("revoked")), "{line}");
    assert_eq!(client.ask("websocket", "/socket", "US").await.0.status(), 503);
}

/// GOAWAY lets it live, and the drain's deadline ends it.
#[tokio::test]
async fn a_drain_lets_tunnels_live_until_its_deadline() {
    let (_origin, mut node) = with_http1_and("", "[failover]\ndrain_timeout = \"3s\"\n").await;
    let mut client = StreamClient::connect(node.http()).await;
    let mut stream = client.open("/socket").await;
    node.signal("TERM");
    node.logged_after(0, "draining").await;
    stream.write("still;").await;
    assert_eq!(stream.read_until(";").await, "still;");
    let (rest, _) = stream.read_to_end().await;
    assert_eq!(rest, "");
    client.closed().await;
    assert_eq!(node.exited().await.code(), Some(0));
    node.logged_after(0, "the drain's time is up").await;
}

#[tokio::test]
async fn one_over_tls_is_one_too() {
    let (_origin, node, authority) = with_tls().await;
    let tls = tls_stream(&node, &authority).await;
    let mut stream = StreamClient::over(tls).await.open("/socket").await;
    converse(&mut stream).await;
}

/// What is asked of an origin of HTTP/2 for a client of HTTP/1.1.
#[tokio::test]
async fn an_upgrade_is_an_extended_connect_to_an_origin_of_http2() {
    let (origin, node) = with_http2(&[]).await;
    let mut client = RawConnection::open(node.http()).await;
    client.write(UPGRADE).await;
    let head = client.read_until("\r\n\r\n").await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    for field in ["upgrade: websocket", "connection: upgrade", "x-meridian-region: here", "x-from: origin"] {
        assert!(head.contains(&format!("\r\n{field}\r\n")), "{field}: {head}");
    }
    let accept = format!("sec-websocket-accept: {}", accept_of("dGhlIHNhbXBsZSBub25jZQ==").to_ascii_lowercase());
    assert!(head.contains(&accept), "{head}");
    let asked = origin.heads().pop().expect("a request");
    assert_eq!(asked, "CONNECT websocket http://api.example.com/socket version 13");
    for number in 0..10 {
        client.write(format!("message {number};")).await;
        assert_eq!(client.read_until(";").await, format!("message {number};"));
    }
    let long = format!("{};", "x".repeat(700_000));
    client.write(&long).await;
    assert_eq!(client.read_until(";").await.len(), long.len());
    client.finish().await.expect("half a close");
    let (rest, _) = client.read_to_end().await;
    assert!(String::from_utf8_lossy(&rest).ends_with(" bytes;"), "what the origin says once it has heard all");
    gone(&node).await;
    assert_eq!(tunnels_line(&node).await["status"], 101);
    // A reset of the origin's, an answer that does not agree, and a client that goes.
    let mut client = upgraded(&node).await;
    client.write("reset;").await;
    client.read_to_end().await;
    gone(&node).await;
    let refused = UPGRADE.replace("/socket", "/refused").replace("connection: upgrade", "connection: upgrade, close");
    let answer = RawConnection::open(node.http()).await.exchange(refused).await;
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("not for you"), "{answer}");
    let client = upgraded(&node).await;
    drop(client);
    gone(&node).await;
    eventually("all have ended at the origin", async || {
        if origin.ended() == 3 { Ok(()) } else { Err(origin.ended().to_string()) }
    })
    .await;
}

#[tokio::test]
async fn http2_on_both_sides() {
    let (origin, node) = with_http2(&[]).await;
    let mut client = StreamClient::connect(node.http()).await;
    let mut stream = client.open("/socket").await;
    assert_eq!(origin.heads().pop().expect("a request"), "CONNECT websocket http://api.example.com/socket version 13");
    converse(&mut stream).await;
    stream.finish();
    assert!(stream.read_to_end().await.0.ends_with(" bytes;"));
    let mut stream = client.open("/socket").await;
    stream.write("reset;").await;
    assert_eq!(stream.read_to_end().await.1, Some(Reason::CANCEL));
    let mut stream = client.open("/socket").await;
    stream.sending.send_reset(Reason::CANCEL);
    eventually("a reset at the origin", async || {
        let resets = origin.resets();
        if resets == [reason::CANCEL] { Ok(()) } else { Err(format!("{resets:?}")) }
    })
    .await;
    gone(&node).await;
    let (answer, mut stream) = client.ask("websocket", "/refused", "US").await;
    assert_eq!((answer.status().as_u16(), stream.read_to_end().await), (403, ("not for you".to_owned(), None)));
}

/// An origin that has said all that it has to say may refuse to hear more: that cuts nothing off.
#[tokio::test]
async fn an_origin_of_http2_may_end_first() {
    let (_origin, node) = with_http2(&[]).await;
    let mut stream = StreamClient::connect(node.http()).await.open("/socket").await;
    stream.write("over;").await;
    assert_eq!(stream.read_to_end().await, ("over;".to_owned(), None));
    stream.write("more;").await;
    stream.finish();
    gone(&node).await;
    assert_eq!(tunnels_line(&node).await["tunnel"]["ended"], "closed");
}

/// So may one that then gives the tunnel up: nobody waits for its client to say more.
#[tokio::test]
async fn a_reset_after_the_origins_last_word_ends_the_tunnel() {
    let (_origin, node) = with_http2(&[]).await;
    let mut stream = StreamClient::connect(node.http()).await.open("/socket").await;
    stream.write("leave;").await;
    assert_eq!(stream.read_until(";").await, "leave;");
    stream.write("now;").await;
    gone(&node).await;
    assert_eq!(tunnels_line(&node).await["tunnel"]["ended"], "broken");
}

/// An origin that sends short messages faster than their client takes them waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_messages_wait_for_a_slow_client() {
    let (_origin, node) = with_http2(&[]).await;
    let mut client = upgraded(&node).await;
    client.write("many;").await;
    let mut before = None;
    eventually("nothing moves", async || {
        let down = node.metrics().await.sum("meridian_tunnel_bytes_total", &[("direction", "down")]);
        let stands_still = down > Some(1_000_000.0) && before == down;
        before = down;
        if stands_still { Ok(()) } else { Err(format!("{down:?}")) }
    })
    .await;
    for number in 0..origin::MANY {
        let message = client.read_until_or_close(";").await;
        assert_eq!(message.map(|message| message.len()), Some(100), "message {number}");
    }
}

/// Whoever does not announce it is passed over, before its first probe as well as after.
#[tokio::test]
async fn an_origin_of_http2_that_takes_none_is_passed_over() {
    let bare = Origin::of_http2(false).await;
    let (origin, node) = with_http2(&[&bare]).await;
    for _ in 0..6 {
        drop(upgraded(&node).await);
    }
    assert_eq!((origin.heads().len(), bare.heads().len()), (6, 0));
    let metrics = node.metrics().await;
    assert_eq!(
        metrics.sum("meridian_attempts_total", &[("outcome", "no_tunnels")]),
        None,
        "none of them was an attempt"
    );
    // Where it is the only one, there is nobody to ask.
    let table = SmallTable::new(EVERYTHING).region_at("here", "US", &format!("h2c://{}", bare.address())).text();
    let node = Setup::new("here", &table).start().await;
    for _ in 0..2 {
        let mut client = RawConnection::open(node.http()).await;
        client.write(UPGRADE).await;
        let (head, _) = client.read_answer().await;
        assert!(head.starts_with("HTTP/1.1 50"), "{head}");
    }
    assert!(bare.heads().is_empty());
    Client::http1(node.http()).send(&get("/plain")).await.assert_served_by("here");
}

async fn with_http1(limits: &str) -> (Origin, Node) {
    with_http1_and(limits, "").await
}

async fn with_http1_and(limits: &str, rest: &str) -> (Origin, Node) {
    let origin = Origin::of_http1().await;
    let table = SmallTable::new(&format!("{EVERYTHING}{rest}")).region("here", "US", &[origin.address()]);
    // For a table that has the other one only.
    let table = table.region("there", "DE", &["127.0.0.1:1".parse().expect("an address")]).text();
    let node = Setup::new("here", &table).section("limits", limits).start().await;
    (origin, node)
}

async fn with_tls() -> (Origin, Node, Authority) {
    let origin = Origin::of_http1().await;
    let authority = Authority::default();
    let certificate = authority.certify(&["api.example.com"]);
    let table = SmallTable::new(EVERYTHING).region("here", "US", &[origin.address()]).text();
    let node = Setup::new("here", &table).tls(&[&certificate]).start().await;
    (origin, node, authority)
}

/// A node before an origin of HTTP/2 that takes tunnels, and others beside it.
async fn with_http2(others: &[&Origin]) -> (Origin, Node) {
    let origin = Origin::of_http2(true).await;
    let mut endpoints: Vec<String> = others.iter().map(|other| format!("h2c://{}", other.address())).collect();
    endpoints.push(format!("h2c://{}", origin.address()));
    let table = SmallTable::new(EVERYTHING).region_at("here", "US", &endpoints[0]).text();
    let table = table.replace(&format!("\"{}\"", endpoints[0]), &format!("\"{}\"", endpoints.join("\", \"")));
    let node = Setup::new("here", &table).start().await;
    (origin, node)
}

async fn tls_stream(node: &Node, authority: &Authority) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    RawConnection::open_tls(node.https(), authority, "api.example.com", b"h2").await.into_inner()
}

async fn converse(stream: &mut Stream) {
    for number in 0..10 {
        stream.write(format!("message {number};")).await;
        assert_eq!(stream.read_until(";").await, format!("message {number};"));
    }
    let long = format!("{};", "x".repeat(700_000));
    // Nobody takes so much at once.
    stream.sending.reserve_capacity(0);
    let mut echoed = 0;
    for piece in long.as_bytes().chunks(20_000) {
        stream.write(piece).await;
    }
    echoed += stream.read_until(";").await.len();
    assert_eq!(echoed, long.len());
}

async fn upgraded(node: &Node) -> RawConnection {
    let mut client = RawConnection::open(node.http()).await;
    client.write(UPGRADE).await;
    let head = client.read_until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    client
}

fn connect(target: &str) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = format!("http://api.example.com{target}").parse().expect("a target");
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    request.headers_mut().insert("sec-websocket-version", "13".parse().expect("a value"));
    request
}

async fn gone(node: &Node) {
    eventually("no tunnel", async || {
        let (status, metrics) = (node.status().await, node.metrics().await);
        let gauge = metrics.sum("meridian_tunnels", &[]);
        if status["tunnels"] == 0 && gauge.is_none_or(|gauge| gauge == 0.0) {
            Ok(())
        } else {
            Err(format!("{gauge:?} {status:#}"))
        }
    })
    .await;
}

/// The line of a tunnel that has ended.
async fn tunnels_line(node: &Node) -> Value {
    let line = node.access_log().find("a tunnel's line", |line| line.contains("\"tunnel\":{")).await;
    serde_json::from_str(&line).expect("JSON")
}

const UPGRADE: &str = "GET /socket HTTP/1.1\r\nhost: api.example.com\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
