//! Certificates: new handshakes get the new one, and a pair that does not fit is refused.

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

const ROUTES: &str = "[[routes]]\nname = \"all\"\n";
