//! Certificates: new handshakes get the new one, and a pair that does not fit is refused.

use std::time::Duration;

use loadtest::{RequestSpec, Target};
use meridian_tests::load::{Load, assert_all_served};
use meridian_tests::{Authority, Certificate, Client, Node, Setup, World, eventually, get};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_handshakes_get_the_new_certificate() {
    let world = World::of_regions(&[("here", "US")], ROUTES).await;
    let authority = Authority::default();
    let first = authority.certify(&["api.example.com"]);
    let node = Setup::new("here", world.table()).tls(&[&first]).start().await;
    let client = Client::http1(node.https()).over_tls(&authority, "api.example.com");
    let mut old = client.connect().await.expect("a connection");
    assert_eq!(certificate(&old), first.der);
    let target = Target::http1(node.https()).over(authority.load("api.example.com"));
    let load = Load::start(target, 100.0, |_| RequestSpec::get("api.example.com", "/"));

    for _ in 0..3 {
        let next = authority.certify(&["api.example.com", "new.example.com"]);
        install(&node, &next);
        presented(&client, &next).await;
    }
    // A connection outlives the certificate that it was opened with.
    old.send(&get("/")).await.assert_served_by("here");
    assert_all_served(&load.stop().await);
    let status = node.status().await;
    assert_eq!(status["certificates"][0]["names"], "api.example.com, new.example.com", "{status:#}");
    assert_eq!(status["rejected"], serde_json::json!([]), "{status:#}");
}

#[tokio::test]
async fn a_pair_that_does_not_fit_is_refused() {
    let world = World::of_regions(&[("here", "US")], ROUTES).await;
    let authority = Authority::default();
    let first = authority.certify(&["api.example.com"]);
    let node = Setup::new("here", world.table()).tls(&[&first]).start().await;
    let client = Client::http1(node.https()).over_tls(&authority, "api.example.com");
    let foreign = authority.certify(&["api.example.com"]);
    for (what, file, content) in [
        ("another's key", "tls-0-key.pem", foreign.key_pem.clone()),
        ("no key", "tls-0-key.pem", "nothing".to_owned()),
        ("no certificate", "tls-0.pem", String::new()),
    ] {
        first.write(node.directory(), "tls-0");
        node.replace(file, content);
        eventually(what, async || {
            let status = node.status().await;
            let rejected = status["rejected"].as_array().expect("a list");
            let shown = rejected.iter().any(|entry| entry["source"].as_str().is_some_and(|path| path.ends_with(file)));
            if shown { Ok(()) } else { Err(format!("{rejected:?}")) }
        })
        .await;
        let mut connection = client.connect().await.expect("a connection");
        assert_eq!(certificate(&connection), first.der, "{what}: the old one is in force");
        connection.send(&get("/")).await.assert_served_by("here");
    }
    let next = authority.certify(&["api.example.com"]);
    install(&node, &next);
    presented(&client, &next).await;
    eventually("nothing is rejected any more", async || {
        let rejected = node.status().await["rejected"].clone();
        if rejected == serde_json::json!([]) { Ok(()) } else { Err(rejected.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn a_certificate_is_shown_from_its_first_second_to_its_last() {
    let world = World::of_regions(&[("here", "US")], ROUTES).await;
    let authority = Authority::default();
    let names = &["api.example.com"];
    let soon = authority.certify_until(names, Duration::from_secs(4), YEAR);
    let ends = authority.certify_until(names, Duration::ZERO, Duration::from_secs(4));
    let expired = authority.certify_expired(&["old.example.com"]);
    // Neither what is over nor what is still to come keeps the node from its start.
    let node = Setup::new("here", world.table()).tls(&[&expired, &soon, &ends]).start().await;
    let states = async || {
        let status = node.status().await;
        let states = status["certificates"].as_array().expect("a list").iter();
        states.map(|shown| shown["state"].as_str().expect("a state").to_owned()).collect::<Vec<_>>()
    };
    let warnings: Vec<String> = node.log().all().into_iter().filter(|line| line.contains("not shown")).collect();
    for part in ["tls-0.pem", "has expired", "tls-1.pem", "not valid before", "listeners[0].tls.certificates"] {
        assert!(warnings.iter().any(|line| line.contains(part)), "{part}: {warnings:?}");
    }
    let client = Client::http1(node.https()).over_tls(&authority, "api.example.com");
    if states().await == ["expired", "not_yet_valid", "valid"] {
        presented(&client, &ends).await;
    }
    // No file changes, and nobody says anything.
    presented(&client, &soon).await;
    eventually("the other has expired", async || match states().await {
        states if states == ["expired", "valid", "expired"] => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    presented(&client, &soon).await;
    let expiry = node.metrics().await.sum("meridian_certificate_expiry_seconds", &[("name", "old.example.com")]);
    assert!(expiry.is_some_and(|left| left < 0.0), "{expiry:?}");
    // The others are renewed all the same.
    let next = authority.certify(names);
    next.write(node.directory(), "tls-1");
    presented(&client, &next).await;
}

#[tokio::test]
async fn a_broken_pair_keeps_its_predecessor_and_nobody_else_from_being_renewed() {
    let world = World::of_regions(&[("here", "US")], ROUTES).await;
    let authority = Authority::default();
    let [one, other] = ["one.example.com", "other.example.com"];
    let (first, second) = (authority.certify(&[one]), authority.certify(&[other]));
    let node = Setup::new("here", world.table()).tls(&[&first]).tls(&[&second]).start().await;
    let https: Vec<_> = node.listeners().iter().filter(|(kind, _)| kind == "https").map(|(_, at)| *at).collect();
    let clients =
        [(https[0], one), (https[1], other)].map(|(address, name)| Client::http1(address).over_tls(&authority, name));
    node.replace("tls-0.pem", "nothing");
    let next = authority.certify(&[other]);
    next.write(node.directory(), "tls-1");
    presented(&clients[1], &next).await;
    presented(&clients[0], &first).await;
    eventually("the broken one is named, and it alone", async || {
        let status = node.status().await;
        let rejected = status["rejected"].as_array().expect("a list");
        let sources: Vec<&str> = rejected.iter().filter_map(|entry| entry["source"].as_str()).collect();
        let is_named = matches!(sources.as_slice(), [source] if source.ends_with("tls-0.pem"));
        if is_named { Ok(()) } else { Err(format!("{rejected:?}")) }
    })
    .await;
    let mended = authority.certify(&[one]);
    mended.write(node.directory(), "tls-0");
    presented(&clients[0], &mended).await;
    eventually("nothing is rejected", async || {
        let rejected = node.status().await["rejected"].clone();
        if rejected == serde_json::json!([]) { Ok(()) } else { Err(rejected.to_string()) }
    })
    .await;
}

/// Key first: for a moment the pair does not fit, and that must not show.
fn install(node: &Node, certificate: &Certificate) {
    node.replace("tls-0-key.pem", &certificate.key_pem);
    node.replace("tls-0.pem", &certificate.certificate_pem);
}

async fn presented(client: &Client, wanted: &Certificate) {
    eventually("the new certificate", async || {
        let shown = certificate(&client.connect().await.expect("a connection"));
        if shown == wanted.der { Ok(()) } else { Err("another one".to_owned()) }
    })
    .await;
}

fn certificate(connection: &meridian_tests::Connection) -> rustls::pki_types::CertificateDer<'static> {
    connection.tls.as_ref().and_then(|session| session.certificate.clone()).expect("a certificate")
}

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
const ROUTES: &str = "[[routes]]\nname = \"all\"\n";
