//! Tunnels beside requests: their own limit, their own end, and no part of how full a node or a region is.

use meridian_tests::bespoke::{self, Bespoke};
use meridian_tests::{Client, Node, RawConnection, Setup, SmallTable, eventually, get};
use serde_json::Value;

use super::EVERYTHING;

/// Far more idle tunnels than requests may be in flight.
#[tokio::test]
async fn idle_tunnels_turn_nothing_off() {
    let limits = "requests_in_flight = 5\nrequests_in_flight_per_region = 5\nconnections = 20";
    let (_origin, node) = start(limits).await;
    let mut tunnels = Vec::new();
    for _ in 0..100 {
        tunnels.push(open(&node).await);
    }
    for _ in 0..20 {
        Client::http1(node.http()).send(&get("/plain")).await.assert_served_by("here");
    }
    let status = node.status().await;
    assert_eq!((&status["requests_in_flight"], &status["tunnels"]), (&0.into(), &100.into()), "{status:#}");
    let region = &status["regions"][0];
    assert_eq!((&region["requests_in_flight"], &region["utilisation"]), (&0.into(), &0.0.into()), "{region:#}");
    let metrics = node.metrics().await;
    assert_eq!(metrics.sum("meridian_tunnels", &[("region", "here")]), Some(100.0));
    assert_eq!(metrics.sum("http_requests_total", &[("status", "101")]), Some(100.0), "each is one request, at once");
    // The gauge is of the last tick.
    eventually("no utilisation", async || {
        let used = node.metrics().await.sum("meridian_region_utilisation", &[("region", "here")]);
        if used == Some(0.0) { Ok(()) } else { Err(format!("{used:?}")) }
    })
    .await;
    for tunnel in &mut tunnels {
        tunnel.write("still;").await;
        assert_eq!(tunnel.read_until(";").await, "still;");
    }
    drop(tunnels);
    gone(&node).await;
}

#[tokio::test]
async fn past_their_limit_they_are_refused_before_anybody_is_dialled() {
    let (origin, node) = start("tunnels = 2").await;
    let (first, _second) = (open(&node).await, open(&node).await);
    let mut refused = RawConnection::open(node.http()).await;
    refused.write(UPGRADE).await;
    let (head, body) = refused.read_answer().await;
    assert!(head.starts_with("HTTP/1.1 503") && body.contains("overloaded"), "{head}{body}");
    assert_eq!(origin.asked(), 2, "the third was not sent");
    // One that the origin does not agree to is none, and neither is what is no upgrade.
    Client::http1(node.http()).send(&get("/plain")).await.assert_served_by("here");
    let shed = node.metrics().await.sum("meridian_shed_total", &[("reason", "tunnels")]);
    assert_eq!(shed, Some(1.0));
    drop(first);
    eventually("a place", async || {
        let tunnels = node.status().await["tunnels"].clone();
        if tunnels == 1 { Ok(()) } else { Err(tunnels.to_string()) }
    })
    .await;
    let plain = UPGRADE.replace("/socket", "/plain").replace("connection: upgrade", "connection: upgrade, close");
    for _ in 0..3 {
        assert!(RawConnection::open(node.http()).await.exchange(&plain).await.starts_with("HTTP/1.1 200"));
    }
    let _third = open(&node).await;
    node.overwrite(
        "node.toml",
        std::fs::read_to_string(node.path("node.toml")).expect("it").replace("tunnels = 2", "tunnels = 0"),
    );
    node.logged_after(0, "node file applied").await;
    let mut refused = RawConnection::open(node.http()).await;
    refused.write(UPGRADE).await;
    assert!(refused.read_answer().await.0.starts_with("HTTP/1.1 503"), "0 is none");
}

#[tokio::test]
async fn one_that_idles_for_too_long_ends_and_one_that_does_not_goes_on() {
    let (_origin, node) = start("tunnel_idle_timeout = \"1s\"").await;
    let (mut idle, mut busy) = (open(&node).await, open(&node).await);
    let began = std::time::Instant::now();
    let talk = async {
        while began.elapsed() < std::time::Duration::from_secs(3) {
            busy.write("ping;").await;
            assert_eq!(busy.read_until(";").await, "ping;");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let ends = async {
        assert_eq!(idle.read_to_end().await.0, b"");
        assert!(began.elapsed() < std::time::Duration::from_millis(2900), "{:?}", began.elapsed());
    };
    tokio::join!(talk, ends);
    let line = tunnels_line(&node).await;
    assert_eq!((&line["tunnel"]["ended"], &line["complete"]), (&"idle".into(), &false.into()), "{line}");
    let metrics = node.metrics().await;
    assert_eq!(metrics.sum("meridian_tunnels_ended_total", &[("region", "here"), ("cause", "idle")]), Some(1.0));
}

/// Either side may say that it sends no more, and still hears the other out.
#[tokio::test]
async fn half_a_close_is_passed_on_and_bytes_are_counted() {
    let (_origin, node) = start("").await;
    let mut client = open(&node).await;
    client.write("0123456789;").await;
    assert_eq!(client.read_until(";").await, "0123456789;");
    client.finish().await.expect("half a close");
    let (rest, _) = client.read_to_end().await;
    assert_eq!(String::from_utf8_lossy(&rest), "11 bytes;", "what the origin says once it has heard all");
    gone(&node).await;
    let line = tunnels_line(&node).await;
    assert_eq!(line["tunnel"], serde_json::json!({ "bytes_up": 11, "bytes_down": 20, "ended": "closed" }), "{line}");
    assert_eq!((&line["status"], &line["response_bytes"]), (&101.into(), &20.into()));
    assert_eq!((&line["complete"], &line["upgrade"], &line["reason"]), (&true.into(), &true.into(), &Value::Null));
    let metrics = node.metrics().await;
    for (direction, bytes) in [("up", 11.0), ("down", 20.0)] {
        let counted = metrics.sum("meridian_tunnel_bytes_total", &[("region", "here"), ("direction", direction)]);
        assert_eq!(counted, Some(bytes), "{direction}");
    }
    assert_eq!(metrics.sum("meridian_tunnel_seconds_count", &[("region", "here")]), Some(1.0));
    assert_eq!(metrics.sum("meridian_tunnels_ended_total", &[("cause", "closed")]), Some(1.0));
}

/// A drain waits for tunnels, and ends them at its deadline.
#[tokio::test]
async fn a_drain_lets_tunnels_live_until_its_deadline() {
    let (_origin, mut node) = start_with("", "[failover]\ndrain_timeout = \"3s\"\n").await;
    let mut tunnel = open(&node).await;
    node.signal("TERM");
    node.logged_after(0, "draining").await;
    tunnel.write("still;").await;
    assert_eq!(tunnel.read_until(";").await, "still;");
    assert_eq!(tunnel.read_to_end().await.0, b"");
    assert_eq!(node.exited().await.code(), Some(0));
    node.logged_after(0, "the drain's time is up").await;
}

/// An origin that agrees to tunnels at `/socket`, sends back what comes, and at the end of it says how much that was.
struct Counting {
    _origin: Bespoke,
    asked: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Counting {
    /// How many tunnels it was asked for.
    fn asked(&self) -> usize {
        self.asked.load(std::sync::atomic::Ordering::Relaxed)
    }
}

async fn start(limits: &str) -> (Counting, Node) {
    start_with(limits, "").await
}

async fn start_with(limits: &str, rest: &str) -> (Counting, Node) {
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = asked.clone();
    let origin = bespoke::tcp(move |mut visit| {
        let count = count.clone();
        async move {
            if !visit.head.starts_with("GET /socket ") {
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nplain";
                visit.connection.write(answer).await;
                return;
            }
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let answer = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
            visit.connection.write(answer).await;
            let mut heard = 0;
            while let Some(message) = visit.connection.read_until_or_close(";").await {
                heard += message.len();
                visit.connection.write(message).await;
            }
            // The client may be gone.
            let _ = visit.connection.try_write(format!("{heard} bytes;")).await;
        }
    })
    .await;
    let table = SmallTable::new(&format!("{EVERYTHING}{rest}")).region("here", "US", &[origin.address]).text();
    let node = Setup::new("here", &table).section("limits", limits).start().await;
    (Counting { _origin: origin, asked }, node)
}

async fn open(node: &Node) -> RawConnection {
    let mut client = RawConnection::open(node.http()).await;
    client.write(UPGRADE).await;
    let head = client.read_until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    client
}

async fn gone(node: &Node) {
    eventually("no tunnel", async || {
        let (status, metrics) = (node.status().await, node.metrics().await);
        let gauge = metrics.sum("meridian_tunnels", &[]);
        if status["tunnels"] == 0 && gauge == Some(0.0) { Ok(()) } else { Err(format!("{gauge:?} {status:#}")) }
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
