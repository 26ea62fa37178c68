//! TLS on both sides: versions, key exchange, names, and whom we believe upstream.

use std::sync::Arc;

use loadtest::origin::{Origin, OriginConfig};
use meridian_tests::{Authority, Client, Protocol, RawConnection, Setup, SmallTable, World, get, post};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, NamedGroup, ProtocolVersion};

use super::EVERYTHING;

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken_with_both_protocols() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let authority = Authority::default();
    let node = Setup::new("here", world.table()).tls(&[&authority.certify(&[HOST])]).start().await;
    for (version, name) in
        [(&rustls::version::TLS12, ProtocolVersion::TLSv1_2), (&rustls::version::TLS13, ProtocolVersion::TLSv1_3)]
    {
        for (protocol, alpn) in [(Protocol::Http1, "http/1.1"), (Protocol::Http2, "h2")] {
            let client = Client::http1(node.https()).speaking(protocol).over_tls_version(&authority, HOST, version);
            let mut connection = client.connect().await.expect("a connection");
            let session = connection.tls.clone().expect("a session");
            assert_eq!((session.version, session.alpn.as_deref()), (Some(name), Some(alpn)));
            let answer = connection.send(&get("/")).await;
            answer.assert_served_by("here");
            let received = world.received("here").pop().expect("a request");
            assert_eq!(received.header("x-forwarded-proto"), Some("https"));
        }
    }
}

#[tokio::test]
async fn the_key_exchange_withstands_quantum_computers() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let authority = Authority::default();
    let node = Setup::new("here", world.table()).tls(&[&authority.certify(&[HOST])]).start().await;
    let modern = Client::http2(node.https()).over_tls(&authority, HOST).connect().await.expect("a connection");
    assert_eq!(modern.tls.expect("a session").group, Some(NamedGroup::X25519MLKEM768));

    // A client without it is served all the same.
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1];
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("TLS versions")
        .with_root_certificates(authority.roots())
        .with_no_client_auth();
    let mut older = Client::http1(node.https()).over(config, HOST).connect().await.expect("a connection");
    assert_eq!(older.tls.clone().expect("a session").group, Some(NamedGroup::X25519));
    older.send(&get("/")).await.assert_served_by("here");
}

#[tokio::test]
async fn the_name_chooses_the_certificate() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let authority = Authority::default();
    let first = authority.certify(&["first.example.com", "127.0.0.1"]);
    let second = authority.certify(&["second.example.com"]);
    let wild = authority.certify(&["*.example.com"]);
    let node = Setup::new("here", world.table()).tls(&[&first, &second, &wild]).start().await;
    for (name, expected) in [
        ("first.example.com", &first),
        ("SECOND.example.com", &second),
        ("third.example.com", &wild),
        // An address is no name to ask for: the first certificate is for those who ask for none.
        ("127.0.0.1", &first),
    ] {
        let client = Client::http1(node.https()).over_tls(&authority, name);
        let mut connection = client.connect().await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let shown = connection.tls.clone().and_then(|session| session.certificate);
        assert_eq!(shown.as_ref(), Some(&expected.der), "{name}");
        connection.send(&get("/").host(name)).await.assert_served_by("here");
    }
}

#[tokio::test]
async fn whoever_does_not_speak_tls_gets_nothing_and_does_no_harm() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let authority = Authority::default();
    let node = Setup::new("here", world.table()).tls(&[&authority.certify(&[HOST])]).start().await;
    let request = "GET / HTTP/1.1\r\nhost: api.example.com\r\n\r\n";
    let answer = RawConnection::open(node.https()).await.exchange(request).await;
    assert!(!answer.contains("200"), "{answer}");
    // A stranger's authority.
    let stranger = Client::http1(node.https()).over_tls(&Authority::default(), HOST).connect().await;
    assert!(stranger.is_err());
    world.assert_nothing_outside(&[]);
    Client::http1(node.https()).over_tls(&authority, HOST).send(&get("/")).await.assert_served_by("here");
}

#[tokio::test]
async fn an_origin_that_cannot_prove_its_name_gets_nothing() {
    let authority = Authority::default();
    let start = async |name: &str, authority: &Authority| {
        let tls = Some(authority.certify(&["localhost"]).server_config());
        Origin::start(OriginConfig { tls, ..OriginConfig::named(name) }).await.expect("a free port")
    };
    let proven = start("proven", &authority).await;
    let foreign = start("foreign", &Authority::default()).await;
    let table = SmallTable::new(
        "[[routes]]\nname = \"proven\"\npath = \"/proven\"\nrequire_compliance = [\"proven\"]\n\
         [[routes]]\nname = \"foreign\"\npath = \"/foreign\"\nrequire_compliance = [\"foreign\"]\n",
    )
    .region_with("proven", "US", &[proven.address()], "compliance = [\"proven\"]")
    .region_with("foreign", "US", &[foreign.address()], "compliance = [\"foreign\"]")
    .text();
    let table = table.replace("\"127.0.0.1:", "\"https://localhost:");
    let node = Setup::new("proven", &table)
        .file("upstream-ca.pem", authority.pem())
        .section("upstream", "certificate_authorities = [\"upstream-ca.pem\"]")
        .start()
        .await;
    let client = Client::http1(node.http());
    client.send(&get("/proven")).await.assert_served_by("proven");
    for sent in [get("/foreign"), post("/foreign", "secret")] {
        let answer = client.send(&sent).await;
        assert!([502, 503].contains(&answer.status.as_u16()), "{answer:?}");
    }
    assert_eq!(foreign.requests(), 0, "{:?}", foreign.received());
    assert!(foreign.connections() > 0, "it was tried");
}

const HOST: &str = "api.example.com";
