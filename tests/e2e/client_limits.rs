//! What one client may have at a time: it cannot take the place of all others.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use loadtest::origin::Behaviour;
use meridian_tests::{
    Answer, Authority, Client, Node, RawConnection, Sent, Setup, World, bespoke, eventually, geo, get, post,
};
use tokio::task::JoinHandle;

#[tokio::test]
async fn a_client_past_its_connections_is_closed_before_tls() {
    let world = World::of_regions(&[("here", "US")], ROUTES).await;
    let authority = Authority::default();
    let certificate = authority.certify(&["api.example.com"]);
    let setup = Setup::new("here", world.table()).plain().tls(&[&certificate]);
    let node = setup.section("limits", "connections_per_client = 2").start().await;

    let first = open(node.http(), STRANGER).await;
    let second = RawConnection::open_from(node.https(), STRANGER).await;
    let mut second = second.secure(&authority, "api.example.com", b"http/1.1").await;
    for listener in [node.http(), node.https()] {
        let mut third = RawConnection::open_from(listener, STRANGER).await;
        let (bytes, _) = third.read_to_end().await;
        assert!(bytes.is_empty(), "not a word before TLS");
    }
    // Others are served as before: who is no trusted proxy, and who is one and carries many.
    let _others = (open(node.http(), OTHER).await, open(node.http(), OTHER).await);
    let mut proxied = Vec::new();
    for _ in 0..5 {
        proxied.push(open(node.http(), Ipv4Addr::LOCALHOST.into()).await);
    }
    second.write(REQUEST).await;
    assert!(second.read_answer().await.0.starts_with("HTTP/1.1 200"), "what it has goes on");

    assert_eq!(shed(&node, "client_connections").await, Some(2.0));
    let told = node.logged_after(0, "a connection is closed: its client has as many").await;
    assert_eq!((&told["client"], &told["most"]), (&"127.0.0.0".into(), &2.into()), "{told}");
    let lines = node.log().all();
    let lines = lines.iter().filter(|line| line.contains("connections_per_client")).count();
    assert_eq!(lines, 1, "one line in a while");

    drop(first);
    place_for_one_more(&node, STRANGER).await;
}

/// One that was ended by a GOAWAY has its socket for a while, so that the GOAWAY arrives: it has its place as long.
#[tokio::test]
async fn a_connection_that_lingers_counts() {
    let world = World::of_regions(&[("here", "US")], ROUTES).await;
    let node = Setup::new("here", world.table()).section("limits", "connections_per_client = 1").start().await;
    let mut first = RawConnection::open_from(node.http(), STRANGER).await;
    // SETTINGS, and DATA of no stream.
    first.write([&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..], &[0; 9]].concat()).await;
    let (bytes, _) = first.read_to_end().await;
    assert!(bytes.windows(4).any(|frame| frame == [8, 7, 0, 0]), "a GOAWAY: {bytes:?}");
    let (bytes, _) = RawConnection::open_from(node.http(), STRANGER).await.read_to_end().await;
    assert!(bytes.is_empty());
    assert_eq!(shed(&node, "client_connections").await, Some(1.0));
    drop(first);
    place_for_one_more(&node, STRANGER).await;
}

/// Behind a load balancer the client is whom the PROXY header names; of IPv6, its /64.
#[tokio::test]
async fn the_client_is_whom_the_proxy_header_names() {
    let world = World::of_regions(&[("here", "US")], ROUTES).await;
    let setup = Setup::new("here", world.table()).plain().with_proxy_header();
    let node = setup.section("limits", "connections_per_client = 2").start().await;
    let named = async |address: IpAddr| {
        let mut connection = RawConnection::open(node.http()).await;
        let family = if address.is_ipv4() { "TCP4" } else { "TCP6" };
        let own = if address.is_ipv4() { "127.0.0.1" } else { "::1" };
        connection.write(format!("PROXY {family} {address} {own} 1 2\r\n{REQUEST}")).await;
        let head = connection.read_until_or_close("\r\n\r\n").await;
        head.map(|head| (head.starts_with("HTTP/1.1 200"), connection))
    };
    let next_door = |address: IpAddr| match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() ^ 0xffff).into()),
    };
    let mut held = Vec::new();
    for (client, other) in
        [(geo::address("DE", 1), geo::address("DE", 2)), (geo::address_v6("DE", 1), geo::address_v6("DE", 2))]
    {
        held.push(named(client).await.expect("the first"));
        held.push(named(next_door(client)).await.expect("the second"));
        assert!(named(client).await.is_none(), "the third of {client}");
        assert!(named(next_door(client)).await.is_none(), "the third of {client}");
        held.push(named(other).await.expect("one of another"));
    }
    assert!(held.iter().all(|(served, _)| *served));
    assert_eq!(shed(&node, "client_connections").await, Some(4.0));
}

#[tokio::test]
async fn nodes_have_as_many_connections_as_they_need() {
    let world = World::of_regions(&[("here", "US")], ROUTES).await;
    let (nodes, clients) = (Authority::default(), Authority::default());
    let own = nodes.certify(&["localhost", "here.nodes.example.com"]);
    let service = clients.certify(&["api.example.com"]);
    let setup = Setup::new("here", world.table()).tls(&[&service]).peer(&nodes, &own);
    let node = setup.section("limits", "connections_per_client = 1").start().await;
    let other_node = Client::http2(node.https()).from(STRANGER);
    let other_node = other_node.as_node(&nodes, "localhost", &nodes.certify(&["there.nodes.example.com"]));
    let mut held = Vec::new();
    for number in 0..4 {
        // Its place is free once the handshake is over here too, which the answer shows.
        let mut connection = other_node.connect().await.unwrap_or_else(|error| panic!("{number}: {error}"));
        let asked = get("/").header("x-meridian-chosen", "here").header("x-meridian-probe", "1");
        assert_eq!(connection.send(&asked).await.status, 200, "{number}");
        held.push(connection);
    }
    let client = Client::http2(node.https()).from(STRANGER).over_tls(&clients, "api.example.com");
    let mut first = client.connect().await.expect("a client's first");
    first.send(&get("/")).await.assert_served_by("here");
    assert!(client.try_send(&get("/")).await.is_err(), "its second");
}

#[tokio::test]
async fn a_client_past_its_requests_gets_429() {
    let world = World::of_regions(&[("here", "US")], ROUTES).await;
    let node = Setup::new("here", world.table()).section("limits", "requests_in_flight_per_client = 3").start().await;
    world.origin("here").behave(|received| {
        if received.path == "/stalled" { Behaviour::Stall } else { Behaviour::Slow(std::time::Duration::ZERO) }
    });
    let client = Client::http1(node.http());
    let of = |sent: Sent, number: u8| sent.on_behalf_of(geo::address_v6("US", u16::from(number)));
    let next_door = |sent: Sent| match geo::address_v6("US", 1) {
        IpAddr::V6(v6) => sent.on_behalf_of(IpAddr::V6((v6.to_bits() ^ 0xabc).into())),
        IpAddr::V4(_) => sent,
    };
    let held = vec![
        hold(&Client::http1(node.http()), of(get("/stalled"), 1)),
        hold(&Client::http2(node.http()), of(get("/stalled"), 1)),
        hold(&Client::http2(node.http()), next_door(get("/stalled"))),
    ];
    eventually("they are in flight", async || {
        let count = node.status().await["requests_in_flight"].clone();
        if count == 3 { Ok(()) } else { Err(count.to_string()) }
    })
    .await;

    for sent in [of(get("/"), 1), next_door(get("/")), of(post("/", "content"), 1)] {
        for client in [Client::http1(node.http()), Client::http2(node.http())] {
            let answer = client.send(&sent).await;
            answer.assert_refused(429, "client_limit");
            assert!(answer.header("retry-after").is_some_and(|after| after.parse::<u32>().is_ok()), "{answer:?}");
        }
    }
    let page = client.send(&of(get("/"), 1).header("accept", "text/html")).await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (429, Some("text/html; charset=utf-8".to_owned())));
    let call = post("/", vec![0; 5]).header("content-type", "application/grpc").header("te", "trailers");
    let call = Client::http2(node.http()).send(&of(call, 1)).await;
    assert_eq!((call.status.as_u16(), call.header("grpc-status").as_deref()), (200, Some("8")), "{call:?}");
    assert!(call.header("grpc-message").is_some_and(|message| message.starts_with("client_limit")), "{call:?}");
    let arrived = world.received("here").into_iter().filter(|received| received.path != "/stalled").count();
    assert_eq!(arrived, 0, "nothing refused has arrived");

    // Another client, and a proxy that names nobody: that is no client.
    client.send(&of(get("/"), 2)).await.assert_served_by("here");
    client.send(&get("/")).await.assert_served_by("here");
    let metrics = node.metrics().await;
    assert_eq!(metrics.sum("meridian_shed_total", &[("reason", "client_limit")]), Some(8.0));
    assert_eq!(metrics.sum("http_errors_total", &[("reason", "client_limit")]), Some(8.0));

    world.behave("here", &Behaviour::Normal);
    for request in held {
        request.await.expect("an answer").assert_served_by("here");
    }
    // Its clients have the answers' ends a moment before the node has let go of them.
    eventually("they are over", async || {
        let count = node.status().await["requests_in_flight"].clone();
        if count == 0 { Ok(()) } else { Err(count.to_string()) }
    })
    .await;
    client.send(&of(get("/"), 1)).await.assert_served_by("here");
}

/// What a proxy has stated of a request that is refused before its law is asked: the access log is replayed.
#[tokio::test]
async fn what_is_refused_is_logged_with_what_is_stated_of_it() {
    let routes = "[[routes]]\nname = \"all\"\nconsent_header = \"x-consent\"\n";
    let world = World::of_regions(&[("here", "US")], routes).await;
    let node = Setup::new("here", world.table()).section("limits", "requests_in_flight_per_client = 1").start().await;
    world.origin("here").behave(|received| {
        if received.path == "/stalled" { Behaviour::Stall } else { Behaviour::Slow(std::time::Duration::ZERO) }
    });
    let held = hold(&Client::http1(node.http()), get("/stalled").from("US"));
    eventually("it is in flight", async || {
        if node.status().await["requests_in_flight"] == 1 { Ok(()) } else { Err(String::new()) }
    })
    .await;
    let refused = Client::http1(node.http()).send(&get("/").from("US").header("x-consent", "granted")).await;
    refused.assert_refused(429, "client_limit");
    let line = node.access_log().find("its line", |line| line.contains("client_limit")).await;
    assert!(line.contains("\"consent\":true") && line.contains("\"countries\":[\"US\"]"), "{line}");
    held.abort();
}

#[tokio::test]
async fn a_tunnel_counts_for_as_long_as_it_lasts() {
    let origin = bespoke::tcp(|mut visit| async move {
        if visit.head.starts_with("GET /socket") {
            visit.connection.write(SWITCHED).await;
        } else {
            visit.connection.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        }
        visit.connection.read_to_end().await;
    })
    .await;
    let table = meridian_tests::SmallTable::new(ROUTES).region("here", "US", &[origin.address]);
    let limits = "requests_in_flight_per_client = 1\nconnections_per_client = 2";
    let node = Setup::new("here", &table.text()).section("limits", limits).start().await;
    let mut tunnel = RawConnection::open_from(node.http(), STRANGER).await;
    tunnel.write(UPGRADE).await;
    assert!(tunnel.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 101"));
    let client = Client::http1(node.http()).from(STRANGER);
    let mut second = client.connect().await.expect("a connection");
    second.send(&get("/")).await.assert_refused(429, "client_limit");
    assert!(client.try_send(&get("/")).await.is_err(), "it has a tunnel and a connection");
    drop(tunnel);
    eventually("a place", async || {
        let answer = second.send(&get("/")).await;
        if answer.status == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
}

/// Connects, and has a request answered, so that the node has certainly counted the connection.
async fn open(listener: SocketAddr, source: IpAddr) -> RawConnection {
    let mut connection = RawConnection::open_from(listener, source).await;
    connection.write(REQUEST).await;
    assert!(connection.read_answer().await.0.starts_with("HTTP/1.1 200"));
    connection
}

/// Sends a request that is not awaited yet.
fn hold(client: &Client, sent: Sent) -> JoinHandle<Answer> {
    let client = client.clone();
    tokio::spawn(async move { client.send(&sent).await })
}

async fn place_for_one_more(node: &Node, source: IpAddr) {
    let client = Client::http1(node.http()).from(source);
    eventually("a place", async || match client.try_send(&get("/")).await {
        Ok(answer) if answer.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

async fn shed(node: &Node, reason: &str) -> Option<f64> {
    node.metrics().await.sum("meridian_shed_total", &[("reason", reason)])
}

const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 78));
const ROUTES: &str = "[[routes]]\nname = \"all\"\n";
const REQUEST: &str = "GET / HTTP/1.1\r\nhost: api.example.com\r\n\r\n";
const UPGRADE: &str = "GET /socket HTTP/1.1\r\nhost: api.example.com\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
