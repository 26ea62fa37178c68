//! Request fields that would have an origin serve another request than the one that was decided, or for another
//! client: none reaches it, in whatever spelling, unless the route says so.

use std::sync::{Arc, Mutex};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use meridian_tests::{Client, RawConnection, Setup, SmallTable, World, bespoke, full, geo, get, post, streamed};

use super::EVERYTHING;

#[tokio::test]
async fn no_field_makes_another_request_of_the_one_that_was_decided() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let node = Setup::new("here", world.table()).start().await;
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        // From a client itself, and through a load balancer, which passes on whatever its clients send.
        for client in [client.clone().from(geo::loopback("DE")), client] {
            client.send(&with(get("/"), OVERRIDES.iter().chain(&SPELLINGS))).await.assert_served_by("here");
            let received = world.received("here").pop().expect("a request");
            for name in OVERRIDES.iter().chain(&SPELLINGS) {
                assert_eq!(received.header(name), None, "{name}: {received:?}");
            }
            assert_eq!(received.header("x-own"), Some("1"));
        }
    }
}

#[tokio::test]
async fn only_a_trusted_proxy_says_who_its_client_is() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let node = Setup::new("here", world.table()).start().await;
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        let misspelt = ["x_real_ip", "x_forwarded_port", "client.cert"];
        client.send(&with(get("/"), IDENTITIES.iter().chain(&misspelt))).await.assert_served_by("here");
        let received = world.received("here").pop().expect("a request");
        for name in IDENTITIES {
            assert_eq!(received.header(name), Some("evil"), "{name} of a trusted proxy");
        }
        for name in misspelt {
            assert_eq!(received.header(name), None, "{name}, which a proxy passes on from its client");
        }
        let client = client.from(geo::loopback("DE"));
        client.send(&with(get("/"), &IDENTITIES)).await.assert_served_by("here");
        let received = world.received("here").pop().expect("a request");
        for name in IDENTITIES {
            assert_eq!(received.header(name), None, "{name} of a client");
        }
    }
}

#[tokio::test]
async fn a_route_may_pass_what_its_origins_need() {
    let routes = "[[routes]]\nname = \"legacy\"\npath = \"/legacy\"\n\
        pass_request_headers = [\"X-HTTP-Method-Override\", \"x-real-ip\"]\n[[routes]]\nname = \"all\"\n";
    let world = World::of_regions(&[("here", "US")], routes).await;
    let node = Setup::new("here", world.table()).start().await;
    let client = Client::http1(node.http()).from(geo::loopback("DE"));
    let names = ["x-http-method-override", "x_http_method_override", "x-method-override", "x-real-ip"];
    for (path, passed) in [("/legacy", &["x-http-method-override", "x-real-ip"][..]), ("/", &[])] {
        client.send(&with(get(path), &names)).await.assert_served_by("here");
        let received = world.received("here").pop().expect("a request");
        for name in names {
            assert_eq!(received.header(name).is_some(), passed.contains(&name), "{name} on {path}");
        }
    }
}

/// A proxy passes trailers on from its clients, so that nobody's count, whatever the route passes in a head.
#[tokio::test]
async fn trailers_pass_the_same_filter() {
    let trailers = Arc::new(Mutex::new(Vec::new()));
    let record = trailers.clone();
    let origin = bespoke::http2(move |request: Request<Incoming>| {
        let record = record.clone();
        async move {
            let body = request.into_body().collect().await.map_err(std::io::Error::other)?;
            record.lock().expect("no panic").push(body.trailers().cloned().unwrap_or_default());
            Ok(Response::new(full("served")))
        }
    })
    .await;
    let routes = "[[routes]]\nname = \"all\"\npass_request_headers = [\"x-http-method-override\", \"x-real-ip\"]\n";
    let address = origin.address.to_string();
    let table = SmallTable::new(routes).region("here", "US", &[origin.address]).text();
    let node = Setup::new("here", &table.replace(&address, &format!("h2c://{address}"))).start().await;
    let names = || OVERRIDES.iter().chain(&SPELLINGS).chain(&IDENTITIES);

    let fields: String = names().map(|name| format!("{name}: evil\r\n")).collect();
    let request = format!(
        "POST / HTTP/1.1\r\nhost: api.example.com\r\nte: trailers\r\nconnection: close, te\r\n\
         transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nx-checksum: 7\r\n{fields}\r\n"
    );
    let answer = RawConnection::open(node.http()).await.exchange(request).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let mut connection = Client::http2(node.http()).connect().await.expect("a connection");
    let (pieces, body) = streamed();
    let sent: HeaderMap = names()
        .chain(&["x-checksum"])
        .map(|name| (HeaderName::try_from(*name).expect("a name"), HeaderValue::from_static("7")))
        .collect();
    tokio::spawn(async move {
        pieces.send("x").await;
        pieces.end_with(sent).await;
    });
    let message = connection.message(&post("/", "").header("te", "trailers")).map(|_| body);
    assert_eq!(connection.head(message).await.expect("an answer").status(), 200);

    let received = std::mem::take(&mut *trailers.lock().expect("no panic"));
    let kept: Vec<Vec<&str>> = received.iter().map(|fields| fields.keys().map(HeaderName::as_str).collect()).collect();
    assert_eq!(kept, [["x-checksum"], ["x-checksum"]]);
}

fn with<'a>(sent: meridian_tests::Sent, names: impl IntoIterator<Item = &'a &'a str>) -> meridian_tests::Sent {
    names.into_iter().fold(sent.header("x-own", "1"), |sent, name| sent.header(name, "evil"))
}

const OVERRIDES: [&str; 12] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
    "x-waws-unencoded-url",
    "x-http-host-override",
    "x-envoy-original-path",
    "x-middleware-subrequest",
    "x-accel-mapping",
    "proxy",
];

/// What CGI and its heirs cannot tell from the above.
const SPELLINGS: [&str; 4] =
    ["x_http_method_override", "X-Http_Method-Override", "x.original.url", "http_x_rewrite_url"];

const IDENTITIES: [&str; 14] = [
    "x-real-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "cf-ipcountry",
    "x-client-ip",
    "wl-proxy-client-ip",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-server",
    "x-forwarded-client-cert",
    "x-original-host",
    "x-host",
    "client-cert",
    "remote-user",
];
