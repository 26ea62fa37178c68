//! Nodes by a shared secret, where something between the regions ends the TLS.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use loadtest::origin::Behaviour;
use meridian_tests::{
    Answer, Client, Node, RawConnection, Sent, Setup, World, bespoke, empty, eventually, full, geo, get, post, request,
};

use super::{LAW, SECRET, region_is};

const OTHER_SECRET: &str = "fedcba9876543210fedcba9876543210";

/// A node of the German region, whose secrets are these.
async fn gateway(world: &World, secrets: &str) -> Node {
    Setup::new("there", world.table()).plain().secret(secrets).start().await
}

/// A node of the American region that reaches the German one by a gateway.
async fn node(world: &World, gateway: SocketAddr, secrets: &str) -> Node {
    let through = format!("[regions.there]\ngateway = \"http://{gateway}\"\n");
    let table = world.table().replacen("[regions.there]\n", &through, 1);
    Setup::new("here", &table).secret(secrets).start().await
}

fn world() -> impl Future<Output = World> {
    World::probed_often(&[("there", "DE"), ("here", "US")], LAW)
}

/// A balancer that ends connections, and says in its own words where they come from. It keeps the heads that it passes
/// on, as a thief could.
async fn balancer(to: SocketAddr) -> (bespoke::Bespoke, Arc<Mutex<Vec<Sent>>>) {
    let kept: Arc<Mutex<Vec<Sent>>> = Arc::default();
    let seen = kept.clone();
    let balancer = bespoke::http_with_probes(move |request: Request<Incoming>| {
        let seen = seen.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
            let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
            let host = head.headers[http::header::HOST].to_str().expect("a host").to_owned();
            let mut sent = self::request(head.method.as_str(), path).host(&host).body(body);
            let own = ["host", "x-forwarded-for", "x-forwarded-proto", "x-request-id", "content-length", "connection"];
            for (name, value) in head.headers.iter().filter(|(name, _)| !own.contains(&name.as_str())) {
                sent = sent.header(name.as_str(), value.to_str().expect("ASCII"));
            }
            let sent = sent.header("x-forwarded-for", "198.51.100.1").header("x-forwarded-proto", "https");
            seen.lock().expect("a lock").push(sent.clone());
            let answer = Client::http1(to).try_send(&sent).await?;
            Ok(as_response(answer))
        }
    })
    .await;
    (balancer, kept)
}

fn as_response(answer: Answer) -> Response<meridian_tests::Body> {
    let mut response = Response::new(full(answer.body));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response.headers_mut().remove("transfer-encoding");
    response
}

/// What comes from another node has many clients' requests on its connections, and was counted where they came in.
#[tokio::test]
async fn limits_of_clients_do_not_hold_for_nodes() {
    let world = world().await;
    let limits = "connections_per_client = 2\nrequests_in_flight_per_client = 1";
    let there = Setup::new("there", world.table()).plain().secret(SECRET).trusting(&[]).section("limits", limits);
    let there = there.start().await;
    let here = node(&world, there.http(), SECRET).await;
    region_is(&here, "there", "up").await;
    world.behave("there", &Behaviour::Stall);
    let client = Client::http1(here.http());
    let mut held = Vec::new();
    for number in 1..=4 {
        let client = client.clone();
        held.push(tokio::spawn(async move { client.send(&get("/bound").from("DE")).await }));
        eventually("it waits for its origin", async || {
            let count = there.status().await["requests_in_flight"].clone();
            if count == number { Ok(()) } else { Err(count.to_string()) }
        })
        .await;
    }
    world.behave("there", &Behaviour::Normal);
    for request in held {
        request.await.expect("an answer").assert_served_by("there");
    }
    assert_eq!(there.metrics().await.sum("meridian_shed_total", &[]).unwrap_or(0.0), 0.0, "nobody was shed");
}

#[tokio::test]
async fn a_signature_proves_a_node_through_a_balancer() {
    let world = world().await;
    // The secret is being replaced: the sender has the new one first, the receiver the old one.
    let there = gateway(&world, &format!("{SECRET}\n{OTHER_SECRET}\n")).await;
    let (balancer, kept) = balancer(there.http()).await;
    let here = node(&world, balancer.address, &format!("{OTHER_SECRET}\n{SECRET}\n")).await;
    let client = Client::http1(here.http());
    for sent in [get("/bound?a=b").from("DE"), post("/bound", "order").from("DE"), post("/bound", "").from("DE")] {
        let answer = client.send(&sent).await;
        answer.assert_served_by("there");
        let received = world.received("there").pop().expect("a request");
        assert_eq!(received.header("x-client-country"), Some("DE"), "not the balancer's");
        assert_eq!(received.header("x-forwarded-proto"), Some("http"), "as the client came");
        assert_eq!(received.header("x-request-id"), answer.header("x-request-id").as_deref(), "one id on all nodes");
        assert!(!received.headers.keys().any(|name| name.as_str().contains("meridian")), "{received:?}");
    }
    region_is(&here, "there", "up").await;

    // What no origin has seen goes elsewhere: the gateway says so, and has signed it.
    world.kill("there").await;
    for _ in 0..5 {
        client.send(&post("/public", "order").from("DE")).await.assert_served_by("here");
    }
    assert!(world.received("here").iter().all(|received| received.path == "/public"));

    // What was signed is not to be had for anything else.
    world.revive("there").await;
    region_is(&here, "there", "up").await;
    let before = world.received("there").len();
    let kept = kept.lock().expect("a lock").clone();
    let read = kept.iter().find(|sent| sent.is("GET", "/bound?a=b")).expect("a read").clone();
    let order = kept.iter().find(|sent| sent.is("POST", "/bound")).expect("an order").clone();
    let thief = Client::http1(there.http()).from(geo::loopback("US"));
    for (changed, what) in [
        (read.clone().host("other.example.com"), "another host"),
        (read.clone().target("/bound?a=c"), "another query"),
        (read.clone().target("/public"), "another path"),
        (read.clone().method("DELETE"), "another method"),
        (read.clone().body("x"), "a body"),
        (order.clone().body("another order"), "another body"),
        (order.clone().body(""), "no body"),
        (read.clone().header("x-meridian-tenant", "de"), "a field more"),
        (read.clone().header("x_meridian_origin", "US"), "a field more, spelt otherwise"),
        (read.clone().without("x-meridian-origin"), "a field less"),
        (read.clone().replacing("x-meridian-origin", "US"), "another origin"),
        (read.clone().replacing("x-meridian-client", "192.0.2.9"), "another client"),
        (read.clone().replacing("x-meridian-scheme", "https"), "another scheme"),
        (read.clone().replacing("x-meridian-chosen", "here"), "another region"),
    ] {
        let answer = thief.send(&changed).await;
        assert_eq!(answer.refusal(), (421, Some("misdirected".to_owned())), "{what}: {answer:?}");
    }
    assert_eq!(world.received("there").len(), before, "nothing of that has arrived");
    // Without its signature it is a client's own, whom the law of the thief's country leaves both regions.
    let bare = thief.send(&read.without("x-meridian-signature")).await;
    assert_eq!(bare.status, 200, "{bare:?}");
    let served = bare.region().expect("a region");
    assert_eq!(world.received(&served).pop().expect("a request").header("x-client-country"), Some("US"));
}

#[tokio::test]
async fn nodes_that_share_no_secret_refuse_each_other() {
    let world = world().await;
    for secrets in [Some(OTHER_SECRET), None] {
        let there = match secrets {
            Some(secrets) => gateway(&world, secrets).await,
            None => Setup::new("there", world.table()).plain().start().await,
        };
        let here = node(&world, there.http(), SECRET).await;
        let why = region_is(&here, "there", "down").await;
        assert!(why.contains("421") && why.contains("does not take this node for one"), "{why}");
        let client = Client::http1(here.http());
        for sent in [get("/bound"), post("/bound", "x")] {
            client.send(&sent.from("DE")).await.assert_refused(503, "residency_unavailable");
        }
        client.send(&get("/public").from("DE")).await.assert_served_by("here");
        let counted = there.metrics().await.sum("meridian_peer_refusals_total", &[("side", "client")]);
        assert!(counted.is_some_and(|count| count > 0.0), "{counted:?}");
    }
    world.assert_nothing_outside(&["here"]);
    assert!(world.received("here").iter().all(|received| received.path == "/public"), "no German data");
}

/// Somebody at a gateway's address says that no origin has seen the order, after having taken it.
#[tokio::test]
async fn a_gateway_that_lies_has_no_order_repeated() {
    // Probed at the start only, and once is not enough to take it down.
    let world = World::of_regions(&[("there", "DE"), ("here", "US")], LAW).await;
    let taken: Arc<Mutex<Vec<HeaderMap>>> = Arc::default();
    let seen = taken.clone();
    let liar = bespoke::http(move |request: Request<Incoming>| {
        let seen = seen.clone();
        async move {
            seen.lock().expect("a lock").push(request.headers().clone());
            let mut response = Response::new(empty());
            *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
            for (name, value) in [
                ("x-meridian-unsent", "1"),
                ("x-meridian-region", "here"),
                ("x-meridian-attempts", "9"),
                ("x-meridian-signature", "1;m=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"),
            ] {
                response.headers_mut().insert(name, HeaderValue::from_static(value));
            }
            Ok(response)
        }
    })
    .await;
    let here = node(&world, liar.address, SECRET).await;
    let client = Client::http1(here.http());
    let answer = client.send(&post("/public", "order").from("DE")).await;
    assert_eq!((answer.status.as_u16(), answer.region().as_deref()), (503, Some("there")), "{answer:?}");
    assert_eq!((answer.attempts(), answer.header("x-meridian-unsent")), (1, None));
    assert_eq!(answer.header("x-meridian-signature"), None);
    assert_eq!(taken.lock().expect("a lock").iter().filter(|head| head.contains_key("content-length")).count(), 1);
    world.assert_nothing_outside(&[]);
    // Its answers to probes are nobody's.
    let world = World::probed_often(&[("there", "DE"), ("here", "US")], LAW).await;
    let here = node(&world, liar.address, SECRET).await;
    let why = region_is(&here, "there", "down").await;
    assert!(why.contains("signed by no node"), "{why}");
}

/// What a client writes where a node signs.
#[tokio::test]
async fn a_signature_is_nobodys_to_write() {
    let world = world().await;
    let there = gateway(&world, SECRET).await;
    let mut connection = RawConnection::open(there.http()).await;
    for value in ["", "1", "1;t=1;n=;b=none;m=", "\u{e9}", &"x".repeat(4000)] {
        let head = format!(
            "GET /public HTTP/1.1\r\nhost: api.example.com\r\nx-meridian-chosen: there\r\nx-meridian-signature: \
             {value}\r\n\r\n"
        );
        connection.write(head).await;
        // The connection may be a balancer's, and other clients' requests may follow on it.
        let answer = connection.read_until("}").await;
        assert!(answer.starts_with("HTTP/1.1 421 "), "{value:?}: {answer}");
    }
    world.assert_nothing_outside(&[]);
}
