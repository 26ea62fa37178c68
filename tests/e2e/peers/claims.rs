//! What anybody but a node says in a node's name.

use std::sync::{Arc, Mutex};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use meridian_tests::{Answer, Client, Setup, SmallTable, World, bespoke, empty, geo, get, post, streamed};

use super::LAW;

/// As a node of the US region would have them, of a client in the US that has consented.
const FIELDS: &[(&str, &str)] = &[
    ("x-meridian-chosen", "here"),
    ("x-meridian-origin", "US"),
    ("x-meridian-consent", "x-data-consent"),
    ("x-meridian-tenant", ""),
    ("x-meridian-client", "192.0.2.1"),
    ("x-meridian-scheme", "https"),
    ("x-meridian-request-id", "mine"),
    ("x-meridian-probe", "1"),
    ("x-meridian-unsent", "1"),
    ("x-meridian-region", "here"),
    ("x-meridian-attempts", "7"),
    ("x-meridian-anything", "1"),
];

/// Whatever a client says in these fields, alone or together, in any spelling, directly or through a proxy that is
/// trusted and passes on what it does not know: its data goes where it would go without them.
#[tokio::test]
async fn a_field_makes_nobody_a_node() {
    let world = World::of_regions(&[("here", "US"), ("there", "DE")], LAW).await;
    let node = Setup::new("here", world.table()).geoip("country_header = \"cf-ipcountry\"").start().await;
    world.kill("there").await;
    let spelt = |name: &str| [name.to_owned(), name.replace('-', "_"), name.replacen('-', "_", 1)];
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        // A client in Germany, who connects itself; one whom a balancer names; a tenant under German law; and one
        // of whom the CDN knows better.
        let cases = [
            (client.clone().from(geo::loopback("DE")), get("/bound")),
            (client.clone(), get("/bound").from("DE")),
            (client.clone(), get("/bound").from("US").header("x-tenant", "de")),
            (client.clone(), get("/bound").from("US").header("cf-ipcountry", "DE")),
        ];
        for (client, sent) in cases {
            let refused = |answer: &Answer, what: &str| {
                assert_eq!(answer.refusal(), (503, Some("residency_unavailable".to_owned())), "{what}: {answer:?}");
                assert_eq!(answer.header("x-meridian-unsent"), None, "{what}");
            };
            refused(&client.send(&sent).await, "nothing");
            for (name, value) in FIELDS {
                for name in spelt(name) {
                    refused(&client.send(&sent.clone().header(&name, value)).await, &name);
                }
            }
            for spelling in 0..3 {
                let all =
                    FIELDS.iter().fold(sent.clone(), |sent, (name, value)| sent.header(&spelt(name)[spelling], value));
                refused(&client.send(&all).await, "all of them");
            }
            // Whoever signs claims to be a node, and this one knows none.
            let signed = FIELDS.iter().fold(sent.clone(), |sent, (name, value)| sent.header(name, value));
            let signature = "1;t=1764450000;n=00112233445566778899aabbccddeeff;b=none;m=00";
            client.send(&signed.header("x-meridian-signature", signature)).await.assert_refused(421, "misdirected");
        }
        // And where the law has nothing against it, nothing of them arrives.
        let all = FIELDS.iter().fold(get("/public"), |sent, (name, value)| sent.header(name, value));
        for sent in [all.clone(), all.from("US")] {
            let answer = client.send(&sent).await;
            answer.assert_served_by("here");
            assert_eq!(answer.attempts(), 1);
            assert_ne!(answer.header("x-request-id").as_deref(), Some("mine"));
            let received = world.received("here").pop().expect("a request");
            assert_eq!(received.path, "/public");
            assert!(!received.headers.keys().any(|name| name.as_str().contains("meridian")), "{received:?}");
        }
    }
    assert!(world.received("here").iter().all(|received| received.path == "/public"), "no German data");
}

/// Trailers come after the decision, and origins that merge them into the head would believe them.
#[tokio::test]
async fn nobody_vouches_for_anything_in_trailers() {
    let seen: Arc<Mutex<Vec<HeaderMap>>> = Arc::default();
    let kept = seen.clone();
    let origin = bespoke::http2(move |request: Request<Incoming>| {
        let kept = kept.clone();
        async move {
            let whole = request.into_body().collect().await.map_err(std::io::Error::other)?;
            kept.lock().expect("a lock").push(whole.trailers().cloned().unwrap_or_default());
            Ok(Response::new(empty()))
        }
    })
    .await;
    let table = SmallTable::new(LAW).region("here", "US", &[origin.address]).text();
    let table = table.replace(&format!("\"{}\"", origin.address), &format!("\"h2c://{}\"", origin.address));
    let node = Setup::new("here", &table).start().await;
    let more = [
        ("x_meridian_chosen", "here"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-proto", "https"),
        ("x-client-country", "US"),
        ("x-data-consent", "granted"),
        ("x-request-id", "mine"),
        ("authorization", "Bearer mine"),
    ];
    let checksum = ("x-checksum", "7");
    let mut trailers = HeaderMap::new();
    for (name, value) in FIELDS.iter().chain(&more).chain([&checksum]) {
        trailers.append(name.parse::<HeaderName>().expect("a name"), HeaderValue::from_static(value));
    }
    let declared = trailers.keys().map(HeaderName::as_str).collect::<Vec<_>>().join(", ");
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        for client in [client.clone(), client.from(geo::loopback("US"))] {
            let mut connection = client.connect().await.expect("a connection");
            let (pieces, body) = streamed();
            let mut message = connection.message(&post("/bound", "").from("US").header("te", "trailers")).map(|_| body);
            message.headers_mut().insert("trailer", declared.parse().expect("a value"));
            let sending = async {
                assert!(pieces.send("body").await);
                pieces.end_with(trailers.clone()).await;
            };
            let (answer, ()) = tokio::join!(connection.head(message), sending);
            assert_eq!(answer.expect("an answer").status(), 200);
            let seen = seen.lock().expect("a lock").pop().expect("a request");
            let names: Vec<&str> = seen.keys().map(HeaderName::as_str).collect();
            assert_eq!(names, ["x-checksum"]);
        }
    }
}

/// An origin says nothing in a node's name either, in a head or in trailers, and has no say in where clients stay.
#[tokio::test]
async fn an_origin_says_nothing_in_a_nodes_name() {
    let origin = bespoke::http(|_: Request<Incoming>| async {
        let mut trailers = HeaderMap::new();
        for name in ["x-meridian-unsent", "x-meridian-region", "x-checksum"] {
            trailers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        let (pieces, body) = streamed();
        tokio::spawn(async move {
            pieces.send("body").await;
            pieces.end_with(trailers).await;
        });
        let response = Response::builder()
            .status(503)
            .header("x-meridian-unsent", "1")
            .header("x-meridian-region", "elsewhere")
            .header("x_meridian_attempts", "9")
            .header("set-cookie", "a=b")
            .header("set-cookie", "meridian-affinity.public=1.2.there; Path=/")
            .header("trailer", "x-meridian-unsent, x-meridian-region, x-checksum");
        Ok(response.body(body).expect("an answer"))
    })
    .await;
    let world = World::of_regions(&[("there", "US")], "").await;
    let table = SmallTable::new(LAW).region("here", "US", &[origin.address]).region(
        "there",
        "US",
        &[world.region("there")[0].address()],
    );
    let node = Setup::new("here", &table.text()).start().await;
    let order = post("/public", "order").header("te", "trailers");
    for (client, sent) in
        [(Client::http1(node.http()), order.clone().header("connection", "te")), (Client::http2(node.http()), order)]
    {
        // Not idempotent: it is repeated only if no origin has seen it.
        let answer = client.send(&sent).await;
        assert_eq!((answer.status.as_u16(), answer.region().as_deref()), (503, Some("here")));
        assert_eq!(answer.header("set-cookie").as_deref(), Some("a=b"));
        let reserved = |name: &&HeaderName| name.as_str().contains("meridian");
        assert_eq!(answer.headers.keys().filter(reserved).collect::<Vec<_>>(), ["x-meridian-region"]);
        let trailers: Vec<&str> = answer.trailers.keys().map(HeaderName::as_str).collect();
        assert_eq!(trailers, ["x-checksum"]);
    }
    assert!(world.received("there").is_empty(), "an order is not repeated");
}
