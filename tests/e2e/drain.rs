//! The end of a node's life: announced, awaited, and without a failed request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loadtest::origin::Behaviour;
use meridian_tests::{
    Authority, Client, Connection, Node, RawConnection, Setup, World, bespoke, eventually, get, post,
};

#[tokio::test]
async fn sigterm_under_load_fails_nothing() {
    let (world, authority, mut node) = start("").await;
    let served = Arc::new(AtomicUsize::new(0));
    let secure = Client::http1(node.https()).over_tls(&authority, "api.example.com");
    let clients = [
        Client::http1(node.http()),
        Client::http2(node.http()),
        secure.clone(),
        secure.speaking(meridian_tests::Protocol::Http2),
    ];
    let mut tasks = Vec::new();
    for client in clients.iter().cycle().take(16) {
        let connection = client.connect().await.expect("a connection");
        tasks.push(tokio::spawn(work(connection, served.clone())));
    }
    eventually("everybody works", async || {
        let count = served.load(Ordering::Relaxed);
        if count > 300 { Ok(()) } else { Err(count.to_string()) }
    })
    .await;
    node.signal("TERM");
    let status = node.exited().await;
    assert_eq!(status.code(), Some(0), "{:#?}", node.log().all());
    for task in tasks {
        task.await.expect("no failed request");
    }
    assert_eq!(world.received("here").len(), served.load(Ordering::Relaxed), "what was not answered was not begun");
}

/// Sends request after request on one connection until the node asks it to close.
async fn work(mut connection: Connection, served: Arc<AtomicUsize>) {
    loop {
        match connection.try_send(&post("/", "order")).await {
            Ok(answer) => {
                answer.assert_served_by("here");
                served.fetch_add(1, Ordering::Relaxed);
                if answer.header("connection").as_deref() == Some("close") {
                    return;
                }
            }
            // The node has said goodbye: the request was not sent, or lies past the last one that it promised to serve
            // (RFC 9113, 6.8). Whether that is so shows at the origin.
            Err(error) => {
                let cause = error.get_ref().and_then(|error| error.downcast_ref::<hyper::Error>()).expect("of hyper");
                let goodbye = format!("{cause:?}").contains("GoAway(b\"\", NO_ERROR, Remote)");
                assert!(goodbye || cause.is_canceled() || cause.is_closed(), "{error:?}");
                return;
            }
        }
    }
}

/// A browser's connections ahead of its need may be idle for longer than anybody waits for a drain.
#[tokio::test]
async fn connections_that_were_never_used_are_not_waited_for() {
    let (_world, authority, mut node) = start("").await;
    let unused = [RawConnection::open(node.http()).await, RawConnection::open(node.https()).await];
    let secure = RawConnection::open_tls(node.https(), &authority, "api.example.com", b"http/1.1").await;
    eventually("they are open", async || match node.status().await["connections"].clone() {
        open if open == 3 => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    node.signal("TERM");
    assert_eq!(node.exited().await.code(), Some(0));
    drop((unused, secure));
}

#[tokio::test]
async fn a_request_in_flight_is_answered() {
    let (world, _, mut node) = start("").await;
    world.behave("here", &Behaviour::Stall);
    let mut waiting = Vec::new();
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        waiting.push(tokio::spawn(async move { client.send(&post("/", "order")).await }));
    }
    eventually("both are on their way", async || {
        let count = world.received("here").len();
        if count == 2 { Ok(()) } else { Err(count.to_string()) }
    })
    .await;
    node.signal("TERM");
    node.logged_after(0, "draining").await;
    eventually("no new connections", async || match Client::http1(node.http()).connect().await {
        Ok(_) => Err("accepted".to_owned()),
        Err(_) => Ok(()),
    })
    .await;
    assert!(node.is_running());
    world.behave("here", &Behaviour::Normal);
    for answer in waiting {
        answer.await.expect("an answer").assert_served_by("here");
    }
    assert_eq!(node.exited().await.code(), Some(0));
    assert_eq!(world.received("here").len(), 2, "each order once");
}

#[tokio::test]
async fn the_drain_ends_at_its_timeout() {
    let origin = bespoke::http(|_| async { std::future::pending::<std::io::Result<_>>().await }).await;
    let table = meridian_tests::SmallTable::new(&format!("{ROUTES}[failover]\ndrain_timeout = \"1s\"\n"));
    let mut node = Setup::new("here", &table.region("here", "US", &[origin.address]).text()).start().await;
    let mut stuck = RawConnection::open(node.http()).await;
    stuck.write("GET / HTTP/1.1\r\nhost: api.example.com\r\n\r\n").await;
    eventually("it is on its way", async || {
        let count = node.status().await["requests_in_flight"].clone();
        if count == 1 { Ok(()) } else { Err(count.to_string()) }
    })
    .await;
    node.signal("TERM");
    assert_eq!(node.exited().await.code(), Some(0));
    node.logged_after(0, "the drain's time is up").await;
}

#[tokio::test]
async fn sigint_does_not_wait() {
    let (world, _, mut node) = start("").await;
    world.behave("here", &Behaviour::Stall);
    let client = Client::http1(node.http());
    let waiting = tokio::spawn(async move { client.try_send(&get("/")).await });
    eventually("it is on its way", async || {
        if world.received("here").is_empty() { Err("nothing yet".to_owned()) } else { Ok(()) }
    })
    .await;
    node.signal("INT");
    node.exited().await;
    assert!(waiting.await.expect("no panic").is_err(), "it was cut");
}

#[tokio::test]
async fn a_drain_on_request_announces_and_goes_on() {
    let (_world, _, mut node) = start("").await;
    assert_eq!(node.ask(&get("/ready")).await.status, 200);
    let admin = node.admin();
    let refused = [
        post("/drain", "").header("origin", "https://evil.example.com").host(&admin.to_string()),
        post("/drain", "").header("origin", "null").host(&admin.to_string()),
        post("/drain", "").host("evil.example.com"),
        post("/drain", "").host(&format!("evil.example.com:{}", admin.port())),
    ];
    for sent in refused {
        let answer = Client::http1(admin).send(&sent).await;
        assert_eq!(answer.status, 403, "{sent:?}");
    }
    assert_eq!(node.ask(&get("/drain")).await.status, 405);
    assert_eq!(node.ask(&get("/ready")).await.status, 200, "nothing has happened");

    let mut before = Client::http1(node.http()).connect().await.expect("a connection");
    before.send(&get("/")).await.assert_served_by("here");
    assert!(node.ask(&post("/drain", "")).await.status.is_success());
    let ready = node.ask(&get("/ready")).await;
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("draining"), "{ready:?}");
    assert_eq!(node.status().await["state"], "draining");
    let answer = before.send(&get("/")).await;
    answer.assert_served_by("here");
    assert_eq!(answer.header("connection").as_deref(), Some("close"));
    // A load balancer that is late still finds it serving.
    Client::http1(node.http()).send(&get("/")).await.assert_served_by("here");
    Client::http2(node.http()).send(&get("/")).await.assert_served_by("here");
    assert!(node.ask(&post("/drain", "")).await.status.is_success(), "twice is once");
    node.signal("TERM");
    assert_eq!(node.exited().await.code(), Some(0));
}

#[tokio::test]
async fn an_idle_node_leaves_at_once() {
    let (_world, _, mut node) = start("").await;
    node.signal("TERM");
    assert_eq!(node.exited().await.code(), Some(0));
}

/// Whoever sends connections here has yet to hear that they should go elsewhere.
#[tokio::test]
async fn a_node_that_leaves_takes_connections_while_it_says_so() {
    let (_world, _, mut node) = start_with("", Some("2s")).await;
    let asked = std::time::Instant::now();
    node.signal("TERM");
    node.logged_after(0, "draining").await;
    let ready = node.ask(&get("/ready")).await;
    assert!(ready.status == 503 && ready.text().contains("draining"), "{ready:?}");
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        client.send(&get("/")).await.assert_served_by("here");
    }
    let answer = Client::http1(node.http()).send(&get("/")).await;
    assert_eq!(answer.header("connection").as_deref(), Some("close"));
    assert_eq!(node.exited().await.code(), Some(0));
    assert!(asked.elapsed() >= std::time::Duration::from_secs(2), "{:?}", asked.elapsed());
}

/// A second signal, and the drain's own time, end the announcement.
#[tokio::test]
async fn an_announcement_is_part_of_the_drain() {
    let (_world, _, mut node) = start_with("[failover]\ndrain_timeout = \"1s\"\n", Some("1h")).await;
    node.signal("TERM");
    assert_eq!(node.exited().await.code(), Some(0));
    let (_world, _, mut node) = start_with("", Some("1h")).await;
    node.signal("TERM");
    node.logged_after(0, "draining").await;
    node.signal("INT");
    assert_eq!(node.exited().await.code(), Some(0));
    node.logged_after(0, "interrupted while draining").await;
}

/// What the kernel has accepted when the node stops to is served, not reset.
#[tokio::test]
async fn connections_that_wait_when_the_node_stops_are_served() {
    let (world, _, mut node) = start("").await;
    node.signal("STOP");
    let mut waiting = Vec::new();
    for _ in 0..50 {
        let mut connection = RawConnection::open(node.http()).await;
        connection.write("POST / HTTP/1.1\r\nhost: api.example.com\r\ncontent-length: 5\r\n\r\norder").await;
        waiting.push(connection);
    }
    node.signal("TERM");
    node.signal("CONT");
    for mut connection in waiting {
        // Some may be served before the node has seen the signal.
        let (head, _) = connection.read_answer().await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }
    assert_eq!(node.exited().await.code(), Some(0));
    assert_eq!(world.received("here").len(), 50);
}

#[tokio::test]
async fn every_signal_is_heeded_or_ignored() {
    let (_world, _, mut node) = start("").await;
    for signal in ["HUP", "USR1", "USR2"] {
        node.signal(signal);
        Client::http1(node.http()).send(&get("/")).await.assert_served_by("here");
    }
    node.logged_after(0, "SIGHUP").await;
    assert!(node.is_running());
    node.signal("QUIT");
    assert_eq!(node.exited().await.code(), Some(0));
    node.logged_after(0, "draining").await;
}

async fn start(rest: &str) -> (World, Authority, Node) {
    start_with(rest, None).await
}

async fn start_with(rest: &str, announce: Option<&str>) -> (World, Authority, Node) {
    let world = World::of_regions(&[("here", "US")], &format!("{ROUTES}{rest}")).await;
    let authority = Authority::default();
    let certificate = authority.certify(&["api.example.com"]);
    let mut setup = Setup::new("here", world.table()).plain().tls(&[&certificate]);
    if let Some(announce) = announce {
        setup = setup.section("drain", &format!("announce = \"{announce}\""));
    }
    (world, authority, setup.start().await)
}

const ROUTES: &str = "[[routes]]\nname = \"all\"\n";
