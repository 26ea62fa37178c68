//! What a node asks of a gateway before it sends a request there, and of itself before it has any.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response};
use hyper::body::Incoming;
use loadtest::origin::Behaviour;
use meridian_tests::streams::{StreamClient, accept_of};
use meridian_tests::{
    Authority, Client, Node, RawConnection, Setup, World, bespoke, empty, eventually, get, post, run,
};

use super::{LAW, SECRET, region_is};

async fn world() -> World {
    World::probed_often(&[("there", "DE"), ("here", "US")], LAW).await
}

/// A node of the American region that reaches the German one by a gateway, as one of these nodes.
async fn node(world: &World, gateway: &str, nodes: &Authority) -> Node {
    let through = format!("[regions.there]\ngateway = \"{gateway}\"\n");
    let table = world.table().replacen("[regions.there]\n", &through, 1);
    let own = nodes.certify(&["localhost", "here.nodes.example.com"]);
    Setup::new("here", &table).peer(nodes, &own).start().await
}

/// Not even when its certificate is good for its name: then the node would be a client there, and its requests be
/// decided by where the node is.
#[tokio::test]
async fn a_gateway_that_does_not_ask_who_calls_gets_nothing() {
    let (world, nodes) = (world().await, Authority::default());
    let own = nodes.certify(&["localhost", "there.nodes.example.com"]);
    let there = Setup::new("there", world.table()).tls(&[&own]).start().await;
    let here = node(&world, &format!("localhost:{}", there.https().port()), &nodes).await;
    let client = Client::http1(here.http());
    for sent in [get("/bound"), post("/bound", "x")] {
        client.send(&sent.from("DE")).await.assert_refused(503, "residency_unavailable");
    }
    let why = region_is(&here, "there", "down").await;
    assert!(why.contains("did not ask for this node's certificate"), "{why}");
    world.assert_nothing_outside(&[]);
    let refused = here.metrics().await.sum("meridian_peer_refusals_total", &[("cause", "gateway_does_not_ask")]);
    assert!(refused.is_some_and(|count| count > 0.0), "{refused:?}");
}

#[tokio::test]
async fn whoever_is_no_node_gets_no_request_at_a_gateways_address() {
    let (world, nodes, others) = (world().await, Authority::default(), Authority::default());
    for (certificate, expected) in [
        (others.certify(&["localhost", "there.nodes.example.com"]), "none of peers.certificate_authorities"),
        (nodes.certify_expired(&["localhost", "there.nodes.example.com"]), "not valid now"),
        (nodes.certify(&["there.nodes.example.com"]), "not valid for name"),
        (nodes.certify(&["localhost", "there.other.example.com"]), "none of peers.names"),
    ] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let impostor = bespoke::http2_over_tls(certificate.server_config(), move |_: Request<Incoming>| {
            count.fetch_add(1, Ordering::Relaxed);
            async { Ok(Response::builder().header("x-meridian-unsent", "1").body(empty()).expect("an answer")) }
        })
        .await;
        let here = node(&world, &format!("localhost:{}", impostor.address.port()), &nodes).await;
        let client = Client::http1(here.http());
        client.send(&post("/bound", "x").from("DE")).await.assert_refused(503, "residency_unavailable");
        client.send(&get("/public").from("DE")).await.assert_served_by("here");
        let why = region_is(&here, "there", "down").await;
        assert!(why.contains("shows no node's certificate") && why.contains(expected), "{expected}: {why}");
        assert_eq!(asked.load(Ordering::Relaxed), 0, "not even a probe");
    }
    world.assert_nothing_outside(&["here"]);
}

/// The other node's authorities, or names, are not those that this one is certified by.
#[tokio::test]
async fn a_node_that_its_gateway_does_not_know_sends_nothing_elsewhere() {
    let (world, nodes, others) = (world().await, Authority::default(), Authority::default());
    let gateway = nodes.certify(&["localhost", "there.nodes.example.com"]);
    let there = Setup::new("there", world.table())
        .tls(&[&gateway])
        .peer(&others, &others.certify(&["there.nodes.example.com"]))
        .start()
        .await;
    for scheme in ["h2", "https"] {
        let here = node(&world, &format!("{scheme}://localhost:{}", there.https().port()), &nodes).await;
        let client = Client::http1(here.http());
        let order = client.send(&post("/public", "order").from("DE")).await;
        if scheme == "h2" {
            // It is certain that it was not acted on. Over HTTP/1.1 it may not be: the refusal comes after the order.
            order.assert_served_by("here");
        }
        let why = region_is(&here, "there", "down").await;
        assert!(why.contains("does not accept this node's certificate"), "{scheme}: {why}");
        for sent in [get("/bound"), post("/bound", "x"), get("/bound")] {
            client.send(&sent.from("DE")).await.assert_refused(503, "residency_unavailable");
        }
    }
    world.assert_nothing_outside(&["here"]);
    assert!(world.received("here").iter().all(|received| received.path == "/public"));
}

/// What regions shed is not offered to all of them in turn: going to one that has just said that it has no room costs the
/// retry budget, which has none.
#[tokio::test]
async fn what_a_region_has_no_room_for_is_not_offered_to_all() {
    const REGIONS: [&str; 3] = ["one", "two", "three"];
    let rest = "[failover]\nretry_budget = { ratio = 0.0, per_second = 0.0 }\n[[routes]]\nname = \"all\"\n";
    let world = World::of_regions(&[("one", "US"), ("two", "US"), ("three", "US"), ("here", "US")], rest).await;
    let mut table = world.table().replace("[regions.here]", "[regions.here]\nstate = \"disabled\"");
    let (mut gateways, mut held) = (Vec::new(), Vec::new());
    for region in REGIONS {
        let setup = Setup::new(region, world.table()).secret(SECRET).section("limits", "requests_in_flight = 1");
        let gateway = setup.start().await;
        // Its one place is taken.
        world.behave(region, &Behaviour::Stall);
        let client = Client::http1(gateway.http());
        held.push(tokio::spawn(async move { client.try_send(&get("/held")).await }));
        world.origin(region).arrived(1).await;
        let through = format!("[regions.{region}]\ngateway = \"http://{}\"", gateway.http());
        table = table.replace(&format!("[regions.{region}]"), &through);
        gateways.push(gateway);
    }
    let node = Setup::new("here", &table).secret(SECRET).start().await;
    for _ in 0..20 {
        Client::http1(node.http()).send(&get("/").from("US")).await.assert_overloaded();
    }
    let mut shed = 0.0;
    for gateway in &gateways {
        shed += gateway.metrics().await.sum("http_errors_total", &[("reason", "overloaded")]).unwrap_or(0.0);
    }
    // One each, and until each region has refused three.
    assert!((20.0..=29.0).contains(&shed), "{shed}");
    let full = node.metrics().await.sum("meridian_attempts_total", &[("outcome", "full")]);
    assert_eq!(full, Some(shed));
    held.into_iter().for_each(|held| held.abort());
}

/// What one region's node sheds another serves that has room, whatever the retry budget.
#[tokio::test]
async fn what_a_region_sheds_goes_where_there_is_room() {
    let rest = "[failover]\nretry_budget = { ratio = 0.0, per_second = 0.0 }\n[[routes]]\nname = \"all\"\n";
    let world = World::of_regions(&[("full", "US"), ("idle", "US"), ("here", "US")], rest).await;
    let setup = Setup::new("full", world.table()).secret(SECRET).section("limits", "requests_in_flight = 1");
    let gateway = setup.start().await;
    // Its one place is taken.
    world.behave("full", &Behaviour::Stall);
    let client = Client::http1(gateway.http());
    let held = tokio::spawn(async move { client.try_send(&get("/held")).await });
    world.origin("full").arrived(1).await;
    let table = world
        .table()
        .replace("[regions.here]", "[regions.here]\nstate = \"disabled\"")
        .replace("[regions.full]", &format!("[regions.full]\ngateway = \"http://{}\"", gateway.http()));
    let node = Setup::new("here", &table).secret(SECRET).start().await;
    for _ in 0..20 {
        Client::http1(node.http()).send(&get("/").from("US")).await.assert_served_by("idle");
    }
    let full = node.metrics().await.sum("meridian_attempts_total", &[("outcome", "full")]);
    assert!(full.is_some_and(|full| full > 0.0), "{full:?}");
    held.abort();
}

/// HTTP/2 is the default between nodes, and a WebSocket goes through all the same.
#[tokio::test]
async fn a_websocket_goes_through_a_gateway() {
    let origin = bespoke::tcp(|mut visit| async move {
        let key = visit.head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).expect("a key");
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
             sec-websocket-accept: {}\r\n\r\n",
            accept_of(key)
        );
        visit.connection.write(answer).await;
        let said = visit.connection.read_until(";").await;
        visit.connection.write(format!("{} {said}", visit.head.contains("x-meridian"))).await;
        visit.connection.read_to_end().await;
    })
    .await;
    let routes = "[[routes]]\nname = \"all\"\ndata_class = \"public\"\n";
    let world = World::probed_often(&[("there", "DE"), ("here", "US")], routes).await;
    let table = world.table().replace(&world.origin("there").address().to_string(), &origin.address.to_string());
    let nodes = Authority::default();
    let own = nodes.certify(&["localhost", "there.nodes.example.com"]);
    let there = Setup::new("there", &table).tls(&[&own]).peer(&nodes, &own).start().await;
    let here = node(&world, &format!("localhost:{}", there.https().port()), &nodes).await;
    region_is(&here, "there", "up").await;
    let mut client = RawConnection::open(here.http()).await;
    client
        .write(
            "GET /socket HTTP/1.1\r\nhost: api.example.com\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-key: a\r\nsec-websocket-version: 13\r\n\r\n",
        )
        .await;
    let head = client.read_until("\r\n\r\n").await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 ") && head.contains("\r\nx-meridian-region: there\r\n"), "{head}");
    client.write("hello;").await;
    assert_eq!(client.read_until(";").await, "false hello;");
    let mut stream = StreamClient::connect(here.http()).await.open("/socket").await;
    stream.write("hello;").await;
    assert_eq!(stream.read_until(";").await, "false hello;");
}

/// At a start, in `check` and at a reload: gateways make no sense where nobody is a node.
#[tokio::test]
async fn a_table_with_gateways_needs_peers() {
    let (world, nodes) = (world().await, Authority::default());
    let with = |gateway: &str| {
        world.table().replacen("[regions.there]\n", &format!("[regions.there]\ngateway = \"{gateway}\"\n"), 1)
    };
    let own = nodes.certify(&["here.nodes.example.com"]);
    for (setup, gateway, remedy) in [
        (Setup::new("here", &with("gw.example.com:443")), "regions.there.gateway", "[peers]"),
        (Setup::new("there", &with("gw.example.com:443")), "regions.there.gateway", "[peers]"),
        (Setup::new("here", &with("http://gw.example.com:80")), "regions.there.gateway", "secret_file"),
        (
            Setup::new("here", &with("h2c://gw.example.com:80")).peer(&nodes, &own),
            "regions.there.gateway",
            "secret_file",
        ),
    ] {
        let directory = setup.write();
        for command in ["check", "run"] {
            let file = directory.path().join("node.toml").display().to_string();
            let arguments = if command == "check" { vec!["check", &file] } else { vec!["run", "--config", &file] };
            let ended = run(&arguments);
            assert_eq!(ended.code, Some(2), "{ended:?}");
            assert!(ended.stderr.contains(gateway) && ended.stderr.contains(remedy), "{ended:?}");
        }
    }
    // A reload of the table, or of the node file, changes nothing then.
    let node = Setup::new("here", world.table()).start().await;
    node.replace("routes.toml", with("gw.example.com:443"));
    eventually("the table is refused", async || {
        let rejected = node.status().await["rejected"].to_string();
        if rejected.contains("certificate_authorities") { Ok(()) } else { Err(rejected) }
    })
    .await;
    Client::http1(node.http()).send(&get("/public").from("US")).await.assert_served_by("there");
    let node = Setup::new("here", &with("http://127.0.0.1:1")).secret(SECRET).start().await;
    let text = std::fs::read_to_string(node.path("node.toml")).expect("a file");
    node.replace("node.toml", text.replace("[peers]\nsecret_file = \"peers.key\"\n", ""));
    eventually("the node file is refused", async || {
        let rejected = node.status().await["rejected"].to_string();
        if rejected.contains("secret_file") { Ok(()) } else { Err(rejected) }
    })
    .await;
}
