//! Whose word counts: what a client says of itself, what a trusted proxy says, and what is meant for one hop only.

use bytes::Bytes;
use http::Response;
use loadtest::origin::{Behaviour, Received};
use meridian_tests::{Client, RawConnection, Setup, World, geo, get, head, post};

use super::EVERYTHING;

#[tokio::test]
async fn nobody_believes_what_a_client_says_of_itself() {
    let world = World::of_regions(&[("here", "US"), ("there", "US")], EVERYTHING).await;
    let node = Setup::new("here", world.table()).start().await;
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        let sent = SPOOFED.iter().fold(get("/"), |sent, (name, value)| sent.header(name, value));
        let answer = client.from(geo::loopback("DE")).send(&sent).await;
        answer.assert_served_by("here");
        let received = last(&world);
        let peer = geo::loopback("DE").to_string();
        for (name, expected) in [
            ("x-forwarded-for", Some(peer.as_str())),
            ("x-forwarded-proto", Some("http")),
            ("x-forwarded-host", Some("api.example.com")),
            ("x-client-country", Some("DE")),
            ("x-client-region", Some("DE-1")),
            ("x-client-city", Some("City of DE")),
            ("x_client_country", None),
            ("x_forwarded_for", None),
            ("x-meridian-region", None),
            ("x-meridian-attempts", None),
            ("forwarded", None),
            ("tracestate", None),
        ] {
            assert_eq!(values(&received, name), expected.into_iter().collect::<Vec<_>>(), "{name}");
        }
        let id = received.header("x-request-id").expect("an id");
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        assert_eq!(values(&received, "x-request-id").len(), 1);
        assert_eq!(answer.header("x-request-id").as_deref(), Some(id), "the client learns it");
        let trace = received.header("traceparent").expect("a trace");
        assert!(trace.starts_with("00-") && trace.len() == 55 && !trace.contains("4bf92f3577b34da6"), "{trace}");
        assert_eq!(values(&received, "traceparent").len(), 1);
    }
    assert!(world.received("there").is_empty());
}

#[tokio::test]
async fn an_untrusted_client_of_no_country_has_none() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let node = Setup::new("here", world.table()).trusting(&[]).start().await;
    let sent = get("/")
        .header("x-client-country", "US")
        .header("x-client-region", "CA")
        .header("x-client-city", "LA")
        .header("http_x_client_country", "US")
        .header("http_x_meridian_region", "us");
    Client::http1(node.http()).send(&sent).await.assert_served_by("here");
    for name in
        ["x-client-country", "x-client-region", "x-client-city", "http_x_client_country", "http_x_meridian_region"]
    {
        assert_eq!(last(&world).header(name), None, "{name}");
    }
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let node = Setup::new("here", world.table()).start().await;
    let client = geo::address("FR", 3).to_string();
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let sent = get("/")
        // What stands to the left of the client's own address is the client's invention.
        .header("x-forwarded-for", &format!("192.0.2.1, {client}"))
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-host", "www.example.com")
        .header("x-request-id", "edge-7.1")
        .header("traceparent", trace)
        .header("tracestate", "vendor=1")
        .header("x-client-country", "US");
    let answer = Client::http1(node.http()).send(&sent).await;
    let received = last(&world);
    let forwarded = format!("192.0.2.1, {client}, 127.0.0.1");
    for (name, expected) in [
        ("x-forwarded-for", forwarded.as_str()),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "www.example.com"),
        ("x-request-id", "edge-7.1"),
        ("traceparent", trace),
        ("tracestate", "vendor=1"),
        // The country follows from the address: the client could have sent it through the proxy.
        ("x-client-country", "FR"),
    ] {
        assert_eq!(values(&received, name), [expected], "{name}");
    }
    assert_eq!(answer.header("x-request-id").as_deref(), Some("edge-7.1"));
}

#[tokio::test]
async fn an_id_that_would_break_a_log_is_replaced() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let node = Setup::new("here", world.table()).start().await;
    for id in ["with space", "with\"quote", &"x".repeat(200)] {
        Client::http1(node.http()).send(&get("/").header("x-request-id", id)).await.assert_served_by("here");
        assert_eq!(last(&world).header("x-request-id").map(str::len), Some(32), "{id}");
    }
}

#[tokio::test]
async fn fields_for_one_hop_stay_on_it() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let node = Setup::new("here", world.table()).start().await;
    let answer = Response::builder()
        .header("connection", "x-answer-hop, keep-alive")
        .header("x-answer-hop", "1")
        .header("keep-alive", "timeout=5")
        .header("proxy-connection", "keep-alive")
        .header("set-cookie", "a=1")
        .header("set-cookie", "b=2")
        .body(Bytes::from_static(b"ok"))
        .expect("an answer");
    world.behave("here", &Behaviour::Answer(answer));
    let request = "GET /x HTTP/1.1\r\nhost: api.example.com\r\nconnection: close, hop-by-name, x-hop\r\n\
        hop-by-name: 1\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\nproxy-connection: keep-alive\r\nte: gzip\r\n\
        upgrade: h2c\r\nexpect: nothing\r\nx-end-to-end: 1\r\naccept: a\r\naccept: b\r\n\r\n";
    let request = request.replace("expect: nothing\r\n", "");
    let answer = RawConnection::open(node.http()).await.exchange(request).await.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    let received = last(&world);
    for name in ["hop-by-name", "x-hop", "keep-alive", "proxy-connection", "te", "upgrade", "connection"] {
        assert_eq!(received.header(name), None, "{name}: {received:?}");
    }
    assert_eq!(received.header("x-end-to-end"), Some("1"));
    assert_eq!(values(&received, "accept"), ["a", "b"]);
    for name in ["x-answer-hop", "keep-alive:", "proxy-connection"] {
        assert!(!answer.contains(&format!("\r\n{name}")), "{name}: {answer}");
    }
    assert!(answer.contains("set-cookie: a=1") && answer.contains("set-cookie: b=2"), "{answer}");
}

#[tokio::test]
async fn nobody_can_have_fields_dropped_that_say_who_they_are() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let node = Setup::new("here", world.table()).start().await;
    let client = geo::address("FR", 3);
    let request = format!(
        "POST / HTTP/1.1\r\nhost: api.example.com\r\ncontent-length: 4\r\nx-forwarded-for: {client}\r\n\
         connection: close, host, content-length, x-forwarded-for, x-client-country, x-request-id\r\n\r\nbody"
    );
    let answer = RawConnection::open(node.http()).await.exchange(request).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let received = last(&world);
    assert_eq!(received.header("x-client-country"), Some("FR"));
    assert_eq!(received.header("x-forwarded-for"), Some(format!("{client}, 127.0.0.1").as_str()));
    assert_eq!((received.host.as_deref(), &received.body[..]), (Some("api.example.com"), &b"body"[..]));
    assert!(received.header("x-request-id").is_some());
}

#[tokio::test]
async fn an_origin_cannot_pose_as_the_proxy() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let node = Setup::new("here", world.table()).start().await;
    let answer = Response::builder()
        .header("x-meridian-region", "elsewhere")
        .header("x-meridian-attempts", "9")
        .header("x-request-id", "mine")
        .body(Bytes::new())
        .expect("an answer");
    world.behave("here", &Behaviour::Answer(answer));
    let answer = Client::http1(node.http()).send(&get("/")).await;
    assert_eq!(answer.region().as_deref(), Some("here"));
    assert_eq!(answer.attempts(), 1);
    let id = answer.header("x-request-id");
    assert_eq!(id.as_deref(), last(&world).header("x-request-id"), "one id for client and origin");
}

#[tokio::test]
async fn our_own_answers_have_an_id_and_no_region() {
    let routes = "[[routes]]\nname = \"some\"\npath = \"/some\"\n";
    let world = World::of_regions(&[("here", "US")], routes).await;
    let node = Setup::new("here", world.table()).start().await;
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        let answer = client.send(&get("/other").header("x-request-id", "edge-1")).await;
        answer.assert_refused(404, "no_route");
        assert_eq!(answer.header("x-request-id").as_deref(), Some("edge-1"));
        // RFC 9110, 9.3.2: with the length that it would have, and not a byte of it.
        let length = answer.header("content-length");
        let answer = client.send(&head("/other").header("x-request-id", "edge-1")).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (404, ""));
        assert!(length.is_some() && answer.header("content-length") == length, "{answer:?}");
    }
    world.assert_nothing_outside(&[]);
}

/// RFC 9113, 8.2.3: HTTP/2 may split the cookie field, HTTP/1.1 may not have it twice.
#[tokio::test]
async fn split_cookies_are_joined() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let node = Setup::new("here", world.table()).start().await;
    let sent = get("/").header("cookie", "a=1").header("cookie", "b=2; c=3");
    Client::http2(node.http()).send(&sent).await.assert_served_by("here");
    assert_eq!(values(&last(&world), "cookie"), ["a=1; b=2; c=3"]);
}

#[tokio::test]
async fn a_request_arrives_as_it_was_sent() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let node = Setup::new("here", world.table()).start().await;
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        let sent = post("/a%20b/c;d=1?q=%2F..%2f&r=ü".trim_end_matches('ü'), "body").header("x-any", "thing");
        client.send(&sent.host("api.example.com:8443")).await.assert_served_by("here");
        let received = last(&world);
        assert_eq!((received.method.as_str(), received.path.as_str()), ("POST", "/a%20b/c;d=1?q=%2F..%2f&r="));
        assert_eq!(received.host.as_deref(), Some("api.example.com:8443"));
        assert_eq!(received.version, http::Version::HTTP_11);
        assert_eq!(received.header("x-any"), Some("thing"));
        assert_eq!(received.header("content-length"), Some("4"));
        assert_eq!(received.header("transfer-encoding"), None);
    }
}

fn last(world: &World) -> Received {
    world.received("here").pop().expect("a request")
}

fn values<'a>(received: &'a Received, name: &str) -> Vec<&'a str> {
    received.headers.get_all(name).iter().map(|value| value.to_str().expect("ASCII")).collect()
}

/// Everything that a client could say of itself, and would like us to believe.
const SPOOFED: [(&str, &str); 16] = [
    ("x-forwarded-for", "192.0.2.1"),
    ("x-forwarded-for", "192.0.2.2, 127.0.0.1"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "evil.example.com"),
    ("x-client-country", "US"),
    ("x-client-region", "CA"),
    ("x-client-city", "LA"),
    ("x-request-id", "mine"),
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ("tracestate", "vendor=1"),
    ("forwarded", "for=192.0.2.1"),
    // CGI and its heirs cannot tell these from their hyphenated names.
    ("x_client_country", "US"),
    ("X_Forwarded_For", "192.0.2.1"),
    ("x-meridian-region", "there"),
    ("x-meridian-attempts", "7"),
    ("x-forwarded-for", "2001:db8::1"),
];
