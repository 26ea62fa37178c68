//! A node near the end of what it has does less, and what matters least first.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Request;
use loadtest::origin::Behaviour;
use meridian_tests::streams::StreamClient;
use meridian_tests::{
    Answer, Client, Node, RawConnection, Setup, SmallTable, World, eventually, geo, get, post, put, request,
};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Uploads of which the node keeps what it may have to send again.
#[tokio::test]
async fn memory_that_runs_out_costs_the_unimportant_first() {
    let world = World::of_regions(&[("here", "US")], ROUTES).await;
    stall(&world);
    let node = Setup::new("here", world.table()).section("limits", "memory = \"96MiB\"\nbody_memory = 0").start().await;
    let client = Client::http1(node.http());
    client.send(&get("/sheddable")).await.assert_served_by("here");
    assert_eq!(status(&node).await["actions"], serde_json::json!([]));

    let mut uploads = JoinSet::new();
    fill(&node, "memory", 0.905, 1000, || upload(&mut uploads, &node)).await;
    client.send(&get("/sheddable")).await.assert_overloaded();
    let critical = client.send(&get("/critical")).await;
    critical.assert_served_by("here");
    assert_eq!(critical.header("connection").as_deref(), Some("close"), "{critical:?}");
    assert!(node.metrics().await.sum("meridian_pressure", &[("resource", "memory")]) >= Some(0.9));
    assert!(
        node.metrics().await.sum("meridian_shed_total", &[("criticality", "sheddable"), ("reason", "memory")])
            >= Some(1.0)
    );
    let file = std::fs::read_to_string(node.path("node.toml")).expect("the node file");
    node.replace("node.toml", file.replace("96MiB", "64MiB"));
    node.logged_after(0, "node file applied").await;
    eventually("there is none at all", async || match status(&node).await["memory"].as_f64() {
        Some(share) if share > 1.0 => Ok(()),
        share => Err(format!("{share:?}")),
    })
    .await;
    client.send(&get("/critical")).await.assert_overloaded();
    for path in ["/live", "/ready", "/status", "/metrics"] {
        assert_eq!(node.ask(&get(path)).await.status, 200, "{path}");
    }
    node.logged_after(0, "the node is near the end of what it has").await;

    uploads.shutdown().await;
    eventually("there is room again", async || match status(&node).await {
        status if status["actions"] == serde_json::json!([]) => Ok(()),
        status => Err(status.to_string()),
    })
    .await;
    client.send(&get("/sheddable")).await.assert_served_by("here");
    let kept = client.send(&get("/critical")).await;
    assert_eq!(kept.header("connection"), None, "{kept:?}");
}

/// Each request that waits for its origin has two.
#[tokio::test]
async fn descriptors_that_run_out_cost_the_unimportant_first() {
    let world = World::of_regions(&[("here", "US")], ROUTES).await;
    stall(&world);
    let node = Setup::new("here", world.table()).with_open_files(400).start().await;
    let client = Client::http1(node.http());
    let mut held = JoinSet::new();
    // Far enough from the end that connections are taken, by which one sheddable request in three or so is refused.
    fill(&node, "descriptors", 0.87, 225, || hold(&mut held, &node)).await;
    let mut refused = 0;
    for number in 0..40 {
        let of = |path: &str| get(path).on_behalf_of(geo::address_v6("US", number));
        let answer = client.send(&of("/sheddable")).await;
        if answer.status != 200 {
            answer.assert_overloaded();
            refused += 1;
        }
        client.send(&of("/critical")).await.assert_served_by("here");
    }
    assert!(refused > 0, "of 40");
    assert!(node.metrics().await.sum("meridian_shed_total", &[("reason", "descriptors")]) >= Some(1.0));
    held.shutdown().await;
    eventually("there is room again", async || {
        let answer = client.send(&get("/sheddable")).await;
        if answer.status == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
}

/// Those that idle make room; no request is refused for them.
#[tokio::test]
async fn connections_that_run_out_are_closed_where_they_idle() {
    let world = World::of_regions(&[("here", "US")], ROUTES).await;
    let node = Setup::new("here", world.table()).section("limits", "connections = 20").start().await;
    let request = "GET /sheddable HTTP/1.1\r\nhost: api.example.com\r\n\r\n";
    let mut http2 = Client::http2(node.http()).connect().await.expect("a connection");
    http2.send(&get("/sheddable")).await.assert_served_by("here");
    let mut idle = Vec::new();
    for _ in 0..18 {
        let mut connection = RawConnection::open(node.http()).await;
        connection.write(request).await;
        let (head, _) = connection.read_answer().await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        idle.push(connection);
    }
    // All of them are held open here, and idle: it is the node that closes some, and no more than it takes.
    eventually("there is room again", async || match status(&node).await["connections"].as_f64() {
        Some(share) if share < 0.9 => Ok(()),
        share => Err(format!("{share:?}")),
    })
    .await;
    // Those that are left may be as many as it takes for the next to be one too many.
    drop((idle, http2));
    eventually("nobody is left", async || match status(&node).await["connections"].as_f64() {
        Some(share) if share < 0.5 => Ok(()),
        share => Err(format!("{share:?}")),
    })
    .await;
    let shed = node.metrics().await.sum("meridian_shed_total", &[]).unwrap_or(0.0);
    assert_eq!(shed, 0.0);
    let answer = Client::http1(node.http()).send(&get("/sheddable")).await;
    assert_eq!(answer.header("connection"), None, "{answer:?}");
}

/// Requests without end on one thread: others wait for their turn, and who asks the node how it is does not.
#[tokio::test]
async fn the_admin_listener_answers_while_the_workers_lag() {
    let world = World::of_regions(&[("here", "US")], ROUTES).await;
    let node = Setup::new("here", world.table()).threads(1).without_access_log().start().await;
    let client = Client::http1(node.http());
    let flood = Flood::start(node.http(), 500);
    eventually("the worker lags", async || match status(&node).await {
        status if status["lag"].as_f64() > Some(0.92) => Ok(()),
        status => Err(status.to_string()),
    })
    .await;
    for path in ["/live", "/ready", "/metrics"] {
        assert_eq!(node.ask(&get(path)).await.status, 200, "{path}");
    }
    eventually("the unimportant is refused", async || match client.send(&get("/sheddable")).await {
        answer if answer.status == 503 => {
            answer.assert_overloaded();
            Ok(())
        }
        answer => Err(format!("{answer:?}")),
    })
    .await;
    client.send(&get("/critical")).await.assert_served_by("here");
    assert!(node.metrics().await.sum("meridian_shed_total", &[("reason", "lag")]) >= Some(1.0));
    drop(flood);
    eventually("it does not any more", async || {
        let answer = client.send(&get("/sheddable")).await;
        if answer.status == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
}

/// A body that is not kept goes up once.
#[tokio::test]
async fn what_all_requests_keep_has_a_bound() {
    let world = World::of_regions(&[("here", "US")], ROUTES).await;
    for (limit, status, attempts) in [("0", 200, 2), ("\"1GiB\"", 200, 2), ("\"100KiB\"", 502, 1)] {
        let limits = format!("body_memory = {limit}");
        let node = Setup::new("here", world.table()).section("limits", &limits).start().await;
        for client in [Client::http1(node.http()), Client::http2(node.http())] {
            let first = AtomicBool::new(true);
            world.origin("here").behave(move |received| {
                let is_first = received.path == "/critical" && first.swap(false, Ordering::Relaxed);
                if is_first { Behaviour::CloseBeforeHead } else { Behaviour::Normal }
            });
            let before = world.received("here").len();
            let answer = client.send(&put("/critical", vec![b'x'; 200 << 10])).await;
            assert_eq!(answer.status, status, "{limit}: {answer:?}");
            let received = world.received("here").split_off(before);
            let lengths: Vec<u64> = received.iter().map(|received| received.body_length).collect();
            assert_eq!(lengths, vec![200 << 10; attempts], "{limit}");
        }
        eventually("all is given back", async || match self::status(&node).await["body_bytes"].as_u64() {
            Some(0) => Ok(()),
            held => Err(format!("{held:?}")),
        })
        .await;
    }
}

/// An origin that never opens TLS takes nothing. The windows of a connection would let its client send 25 MB.
#[tokio::test]
async fn what_clients_send_ahead_of_origins_has_a_bound() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = silent.local_addr().expect("an address");
    let _origin = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((connection, _)) = silent.accept().await {
            open.push(connection);
        }
    });
    let table = SmallTable::new("[[routes]]\nname = \"all\"\ntimeout = \"3s\"\n").region_at(
        "here",
        "US",
        &format!("https://{address}"),
    );
    let setup = Setup::new("here", &table.text()).section("upstream", "connect_timeout = \"60s\"");
    let node = setup.section("limits", "body_memory = \"1MiB\"").start().await;
    let mut client = StreamClient::connect(node.http()).await;
    let mut streams = Vec::new();
    for _ in 0..40 {
        let request = Request::post("http://api.example.com/").body(()).expect("a request");
        let (answer, mut sending) = client.begin(request).await;
        sending.send_data(vec![b'x'; 256 << 10].into(), false).expect("a stream");
        streams.push((answer, sending));
    }
    let held = async || self::status(&node).await["body_bytes"].as_u64().expect("a number");
    eventually("the node holds what it may", async || match held().await {
        bytes if bytes >= 1 << 20 => Ok(()),
        bytes => Err(bytes.to_string()),
    })
    .await;
    for _ in 0..50 {
        let bytes = held().await;
        assert!(bytes <= (1 << 20) + (64 << 10), "{bytes}");
        let answer = Client::http2(node.http()).send(&request("TRACE", "/")).await;
        answer.assert_refused(405, "method_not_allowed");
    }
    assert_eq!(node.metrics().await.sum("meridian_body_bytes", &[]).map(|bytes| bytes >= 1_048_576.0), Some(true));
    // With the requests goes what they hold.
    eventually("all is given back", async || match held().await {
        0 => Ok(()),
        bytes => Err(bytes.to_string()),
    })
    .await;
}

/// Sends requests that the node answers itself, as fast as it takes them.
/// Connections with requests without end, on a thread of their own: what they take of this machine is not taken from those
/// who ask the node how it is. Dropped, it ends.
struct Flood {
    _stop: oneshot::Sender<()>,
}

impl Flood {
    fn start(address: std::net::SocketAddr, connections: usize) -> Self {
        let (stop, stopped) = oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let _all: JoinSet<()> = (0..connections).map(|_| flood(address)).collect();
                let _dropped = stopped.await;
            });
        });
        Self { _stop: stop }
    }
}

async fn flood(address: std::net::SocketAddr) {
    let (mut reading, mut writing) = TcpStream::connect(address).await.expect("a connection").into_split();
    let requests = "OPTIONS * HTTP/1.1\r\nhost: api.example.com\r\n\r\n".repeat(100);
    let write = async move { while writing.write_all(requests.as_bytes()).await.is_ok() {} };
    let read = async move {
        let mut buffer = vec![0; 64 * 1024];
        while reading.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    };
    tokio::join!(write, read);
}

/// Adds more until so much of a resource is in use. The node looks ten times a second: what is added meanwhile is a few
/// percent.
async fn fill(node: &Node, resource: &str, share: f64, most: usize, mut add: impl FnMut()) {
    for _ in 0..most {
        if status(node).await[resource].as_f64() >= Some(share) {
            return;
        }
        let before = in_flight(node).await;
        add();
        eventually("one more is in flight", async || {
            let now = in_flight(node).await;
            // Or more than enough are, so that it is not taken.
            let is_full = status(node).await[resource].as_f64() >= Some(share);
            if now > before || is_full { Ok(()) } else { Err(now.to_string()) }
        })
        .await;
    }
    panic!("{most} are not enough: {}", status(node).await);
}

fn upload(uploads: &mut JoinSet<Answer>, node: &Node) {
    let client = Client::http1(node.http());
    uploads.spawn(async move { client.send(&post("/stalled", vec![b'x'; 256 << 10])).await });
}

fn hold(held: &mut JoinSet<Answer>, node: &Node) {
    let client = Client::http1(node.http());
    held.spawn(async move { client.send(&get("/stalled")).await });
}

async fn status(node: &Node) -> Value {
    node.status().await["overload"].clone()
}

async fn in_flight(node: &Node) -> u64 {
    node.status().await["requests_in_flight"].as_u64().expect("a number")
}

fn stall(world: &World) {
    world.origin("here").behave(|received| {
        if received.path == "/stalled" { Behaviour::Stall } else { Behaviour::Slow(Duration::ZERO) }
    });
}

const ROUTES: &str = r#"
[[routes]]
name = "stalled"
path = "/stalled"
criticality = "critical"
timeout = "10m"
retry = { body_bytes = 2097152 }

[[routes]]
name = "critical"
path = "/critical"
criticality = "critical"
retry = { body_bytes = 1048576 }

[[routes]]
name = "sheddable"
path = "/sheddable"
criticality = "sheddable"

[[routes]]
name = "default"
"#;
