//! What probes ask of an endpoint, and what passes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use loadtest::Protocol;
use loadtest::origin::{Behaviour, Origin, OriginConfig};
use meridian_tests::{Authority, Node, Setup, bespoke, eventually, full, get, streamed};

#[tokio::test]
async fn every_path_must_pass() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let origin = origin(protocol).await;
        let node = start(&[(protocol, &origin)], "kind = \"http\", paths = [\"/live\", \"/ready\", \"/deep\"]").await;
        settled(&node, &origin, "up").await;
        // In order, and one after the other on one connection for each probe.
        let paths: Vec<String> = origin.received().into_iter().take(6).map(|received| received.path).collect();
        assert_eq!(paths, ["/live", "/ready", "/deep", "/live", "/ready", "/deep"]);
        assert!(origin.connections() <= origin.requests().div_ceil(3) + 1);
        origin.behave(|received| status(received.path == "/ready", 500));
        node_says(&node, "down").await;
        origin.set_behaviour(Behaviour::Normal);
        node_says(&node, "up").await;
    }
}

#[tokio::test]
async fn only_these_statuses_pass() {
    let origin = origin(Protocol::Http1).await;
    let node = start(&[(Protocol::Http1, &origin)], "statuses = [204, \"300-302\"]").await;
    node_says(&node, "down").await;
    for (code, expected) in [(302, "up"), (303, "down"), (204, "up"), (503, "down")] {
        origin.behave(move |_| status(true, code));
        node_says(&node, expected).await;
    }
}

#[tokio::test]
async fn the_host_and_the_body_are_what_the_table_says() {
    let origin = origin(Protocol::Http1).await;
    let node = start(&[(Protocol::Http1, &origin)], "host = \"health.example.com\", body = \"all good\"").await;
    node_says(&node, "down").await;
    assert_eq!(origin.received()[0].header("host"), Some("health.example.com"));
    // Within the first 64 KiB, however much there is.
    for (before, after, expected) in [(0, 0, "up"), (70_000, 0, "down"), (60_000, 5_000_000, "up"), (65_530, 0, "down")]
    {
        let body = Bytes::from([&vec![b'x'; before][..], b"all good", &vec![b'x'; after]].concat());
        origin.behave(move |_| Behaviour::Answer(Response::new(body.clone())));
        node_says(&node, expected).await;
    }
}

#[tokio::test]
async fn a_bare_connection_is_enough_for_tcp() {
    // It accepts, and says nothing.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let accepted = Arc::new(AtomicUsize::new(0));
    let counter = accepted.clone();
    let address = listener.local_addr().expect("an address");
    let task = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::Relaxed);
            held.push(stream);
        }
    });
    let node = serve(&table(&[format!("http://{address}")], "kind = \"tcp\"")).await;
    eventually(
        "three probes",
        async || if accepted.load(Ordering::Relaxed) >= 3 { Ok(()) } else { Err(String::new()) },
    )
    .await;
    node_says(&node, "up").await;
    task.abort();
    node_says(&node, "down").await;
}

#[tokio::test]
async fn tcp_to_a_tls_endpoint_is_a_handshake_with_a_certificate_that_is_good() {
    let authority = Authority::default();
    for (certificate, expected) in
        [(authority.certify(&["127.0.0.1"]), "up"), (authority.certify_expired(&["127.0.0.1"]), "down")]
    {
        let tls = Some(certificate.server_config());
        let origin = Origin::start(OriginConfig { tls, ..OriginConfig::named("here") }).await.expect("a free port");
        let table = table(&[format!("https://{}", origin.address())], "kind = \"tcp\"");
        let setup = Setup::new("here", &table).file("ca.pem", authority.pem());
        let node = setup.section("upstream", "certificate_authorities = [\"ca.pem\"]").start().await;
        eventually("three probes", async || if origin.connections() >= 3 { Ok(()) } else { Err(String::new()) }).await;
        node_says(&node, expected).await;
        assert_eq!(origin.requests(), 0);
    }
}

#[tokio::test]
async fn grpc_health_must_say_serving() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let origin = bespoke::http2(move |request: Request<Incoming>| {
        counter.fetch_add(1, Ordering::Relaxed);
        check(request)
    })
    .await;
    for (service, expected) in [("", "up"), ("pay.Pay", "down"), ("unknown.Service", "down")] {
        // The health of an endpoint of HTTP/1 may be asked for in gRPC, too.
        for scheme in ["h2c", "http"] {
            let endpoint = format!("{scheme}://{}", origin.address);
            let node = serve(&table(&[endpoint], &format!("kind = \"grpc\", service = \"{service}\""))).await;
            let before = asked.load(Ordering::Relaxed);
            eventually("three probes", async || {
                if asked.load(Ordering::Relaxed) >= before + 3 { Ok(()) } else { Err(String::new()) }
            })
            .await;
            node_says(&node, expected).await;
        }
    }
}

#[tokio::test]
async fn probes_are_quick_while_something_is_wrong() {
    let origin = origin(Protocol::Http1).await;
    origin.behave(|_| status(true, 500));
    // The first probe fails, and the next would come in an hour.
    let health = "interval = \"1h\", unhealthy_interval = \"100ms\", jitter = 0.0, failures = 3, successes = 3";
    let node = Setup::new("here", &table_with(&[format!("http://{}", origin.address())], health)).start().await;
    node_says(&node, "down").await;
    origin.set_behaviour(Behaviour::Normal);
    node_says(&node, "up").await;
    // All is well: none comes for as long as several would have before.
    let asked = origin.requests();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(origin.requests(), asked);
}

#[tokio::test]
async fn a_reload_keeps_what_probes_have_found() {
    let (bad, good) = (origin(Protocol::Http1).await, origin(Protocol::Http1).await);
    bad.behave(|_| status(true, 500));
    let health = "interval = \"1h\", unhealthy_interval = \"1h\", failures = 1, successes = 1";
    let table = |version: &str| {
        let region = |name: &str, origin: &Origin| {
            let endpoint = origin.address();
            format!("[regions.{name}]\ncountry = \"US\"\nendpoints = [\"{endpoint}\"]\nhealth = {{ {health} }}\n")
        };
        let regions = region("here", &bad) + &region("there", &good);
        format!("version = \"{version}\"\n{regions}[[routes]]\nname = \"all\"\n")
    };
    let node = Setup::new("here", &table("1")).start().await;
    node_says(&node, "down").await;
    // It would pass now; but nobody asks before the hour is over.
    bad.set_behaviour(Behaviour::Normal);
    for version in ["2", "3"] {
        let skipped = node.log().count();
        node.replace("routes.toml", table(version));
        node.logged_after(skipped, "routing table applied").await;
        assert_eq!(node.status().await["regions"][0]["health"], "down");
        let answer = meridian_tests::Client::http1(node.http()).send(&get("/")).await;
        assert_eq!(answer.region().as_deref(), Some("there"));
    }
    assert_eq!(bad.requests(), 1, "one probe");
}

#[tokio::test]
async fn why_a_probe_failed_is_told() {
    let origin = origin(Protocol::Http1).await;
    let good = |_: &loadtest::origin::Received| Behaviour::Answer(Response::new(Bytes::from("ok")));
    origin.behave(good);
    let node = start(&[(Protocol::Http1, &origin)], "body = \"ok\"").await;
    settled(&node, &origin, "up").await;
    probe_failure_is(&node, None).await;
    for (behaviour, expected) in [
        (status(true, 503), "/health answered 503, not 200-399"),
        (Behaviour::Answer(Response::new(Bytes::from("good"))), "the body of /health does not contain \"ok\""),
    ] {
        let skipped = node.log().count();
        origin.behave(move |_| behaviour.clone());
        let line = node.logged_after(skipped, "probe changed an endpoint").await;
        assert_eq!((&line["level"], &line["state"]), (&"WARN".into(), &"down".into()), "{line}");
        assert_eq!(line["why"], expected, "{line}");
        probe_failure_is(&node, Some(expected)).await;
        let skipped = node.log().count();
        origin.behave(good);
        let line = node.logged_after(skipped, "probe changed an endpoint").await;
        assert_eq!((&line["level"], &line["state"]), (&"INFO".into(), &"up".into()), "{line}");
        probe_failure_is(&node, None).await;
    }
    drop(origin);
    let node = serve(&table(&["http://127.0.0.1:1".to_owned()], "kind = \"tcp\"")).await;
    probe_failure_is(&node, Some("no connection: Connection refused (os error 111)")).await;
}

/// What `/status` says of the first endpoint's last probe.
async fn probe_failure_is(node: &Node, expected: Option<&str>) {
    eventually("the last probe's failure", async || {
        let found = node.status().await["regions"][0]["endpoints"][0]["last_probe_failure"].clone();
        if found.as_str() == expected { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
}

/// Whether the first endpoint is up. (Its region comes back more slowly, by its failback.)
async fn node_says(node: &Node, expected: &str) {
    eventually("the endpoint's health", async || {
        let up = node.status().await["regions"][0]["endpoints"][0]["up"] == true;
        if up == (expected == "up") { Ok(()) } else { Err(format!("up is {up}")) }
    })
    .await;
}

/// The same once several probes have been there.
async fn settled(node: &Node, origin: &Origin, expected: &str) {
    eventually("several probes", async || if origin.requests() >= 6 { Ok(()) } else { Err(String::new()) }).await;
    node_says(node, expected).await;
}

async fn origin(protocol: Protocol) -> Origin {
    Origin::start(OriginConfig { protocol, ..OriginConfig::named("here") }).await.expect("a free port")
}

async fn start(origins: &[(Protocol, &Origin)], health: &str) -> Node {
    let scheme = |protocol: &Protocol| if *protocol == Protocol::Http2 { "h2c" } else { "http" };
    let endpoints: Vec<String> =
        origins.iter().map(|(protocol, origin)| format!("{}://{}", scheme(protocol), origin.address())).collect();
    serve(&table(&endpoints, health)).await
}

async fn serve(table: &str) -> Node {
    Setup::new("here", table).start().await
}

/// A table of one region, which is asked many times a second.
fn table(endpoints: &[String], health: &str) -> String {
    let often = "interval = \"100ms\", unhealthy_interval = \"100ms\", timeout = \"5s\", failures = 2, successes = 2";
    table_with(endpoints, &format!("{often}, {health}"))
}

fn table_with(endpoints: &[String], health: &str) -> String {
    format!(
        "version = \"1\"\n[regions.here]\ncountry = \"US\"\nendpoints = {endpoints:?}\nhealth = {{ {health} }}\n\
         [[routes]]\nname = \"all\"\n"
    )
}

fn status(if_so: bool, code: u16) -> Behaviour {
    if if_so { Behaviour::Status(StatusCode::from_u16(code).expect("a status")) } else { Behaviour::Normal }
}

/// What a real server says of three services: a message, and trailers; or an error in the head alone.
async fn check(request: Request<Incoming>) -> std::io::Result<Response<meridian_tests::Body>> {
    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
    assert_eq!((&request.headers()["content-type"], &request.headers()["te"]), (&grpc(), &"trailers".parse().unwrap()));
    let body = request.into_body().collect().await.expect("a whole request").to_bytes();
    let mut response = match &body[..] {
        b"\0\0\0\0\0" => answer(&b"\0\0\0\0\x02\x08\x01"[..]),
        b"\0\0\0\0\x09\x0a\x07pay.Pay" => answer(&b"\0\0\0\0\x02\x08\x02"[..]),
        _ => {
            let mut response = Response::new(full(""));
            response.headers_mut().insert("grpc-status", HeaderValue::from_static("5"));
            response
        }
    };
    response.headers_mut().insert("content-type", grpc());
    Ok(response)
}

/// A message, and `grpc-status: 0` in the trailers.
fn answer(message: &'static [u8]) -> Response<meridian_tests::Body> {
    let (pieces, body) = streamed();
    tokio::spawn(async move {
        pieces.send(message).await;
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        pieces.end_with(trailers).await;
    });
    Response::new(body)
}

fn grpc() -> HeaderValue {
    HeaderValue::from_static("application/grpc")
}
