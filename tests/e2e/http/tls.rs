//! TLS on both sides: versions, key exchange, names, and whom we believe upstream.

use std::sync::Arc;

use loadtest::origin::{Origin, OriginConfig};
use meridian_tests::{Authority, Certificate, Client, Protocol, RawConnection, Setup, SmallTable, World, get, post};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, NamedGroup, ProtocolVersion, SignatureScheme};

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

/// RSA for old clients, ECDSA for all others: of one name, of a wildcard, and for clients that ask for no name.
#[tokio::test]
async fn a_name_has_a_certificate_of_each_algorithm() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let authority = Authority::default();
    let rsa = authority.certify_rsa(&["api.example.com", "old.example.com", "127.0.0.1"]);
    let ecdsa = authority.certify(&["api.example.com", "new.example.com", "127.0.0.1"]);
    let wild_rsa = authority.certify_rsa(&["*.wild.example.com"]);
    let wild_ecdsa = authority.certify(&["*.wild.example.com"]);
    for ecdsa_first in [true, false] {
        let mut certificates = [&ecdsa, &rsa, &wild_ecdsa, &wild_rsa];
        if !ecdsa_first {
            certificates.reverse();
        }
        let node = Setup::new("here", world.table()).tls(&certificates).start().await;
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            for (names, expected) in [("rsa", [&rsa, &wild_rsa]), ("ecdsa", [&ecdsa, &wild_ecdsa])] {
                let [exact, wild] = expected;
                let unnamed = if ecdsa_first { exact } else { wild };
                for (name, certificate) in
                    [("api.example.com", exact), ("a.wild.example.com", wild), ("127.0.0.1", unnamed)]
                {
                    let client = Client::http1(node.https()).over(verifying(names, version), name);
                    let what = format!("{name} by {names} over {version:?}, ECDSA first: {ecdsa_first}");
                    let mut connection = client.connect().await.unwrap_or_else(|error| panic!("{what}: {error}"));
                    let shown = connection.tls.clone().and_then(|session| session.certificate);
                    assert_eq!(shown.as_ref(), Some(&certificate.der), "{what}");
                    connection.send(&get("/").host(name)).await.assert_served_by("here");
                }
                // TLS does not tell which of the two a client has got: it may use the names of either.
                let client = Client::http2(node.https()).over(verifying(names, version), "api.example.com");
                let mut connection = client.connect().await.expect("a connection");
                for (host, status) in [("old.example.com", 200), ("new.example.com", 200), ("a.wild.example.com", 421)]
                {
                    assert_eq!(connection.send(&get("/").host(host)).await.status, status, "{host}");
                }
            }
        }
    }
}

/// A client that can verify signatures of one algorithm only, and believes everybody.
fn verifying(algorithm: &str, version: &'static rustls::SupportedProtocolVersion) -> ClientConfig {
    let is_of = |name: &str| name.to_lowercase().starts_with(algorithm);
    let mut provider = aws_lc_rs::default_provider();
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let schemes = schemes.into_iter().filter(|scheme| is_of(&format!("{scheme:?}"))).collect();
    provider.cipher_suites.retain(|suite| {
        let name = format!("{:?}", suite.suite());
        let is_of_tls_1_3 = name.starts_with("TLS13_");
        is_of_tls_1_3 || is_of(name.strip_prefix("TLS_ECDHE_").expect("an ephemeral exchange"))
    });
    ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])
        .expect("TLS versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Believer(schemes)))
        .with_no_client_auth()
}

#[derive(Debug)]
struct Believer(Vec<SignatureScheme>);

impl ServerCertVerifier for Believer {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

/// Clients that resolve names with a search list ask for them with the root's dot; some certificates have it, too.
#[tokio::test]
async fn a_final_dot_of_a_name_is_no_part_of_it() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let authority = Authority::default();
    let first = authority.certify(&["first.example.com"]);
    let second = authority.certify(&["second.example.com"]);
    let dotted = authority.certify(&["dotted.example.com."]);
    let wild = authority.certify(&["*.example.com"]);
    let node = Setup::new("here", world.table()).tls(&[&first, &second, &dotted, &wild]).start().await;
    for (name, expected) in [
        ("second.example.com", &second),
        ("second.example.com.", &second),
        ("SECOND.example.com.", &second),
        ("dotted.example.com", &dotted),
        ("dotted.example.com.", &dotted),
        ("third.example.com.", &wild),
    ] {
        let flight = server_flight(node.https(), name).await;
        let has =
            |certificate: &Certificate| flight.windows(certificate.der.len()).any(|part| part == &*certificate.der);
        assert!(has(expected), "{name}");
        assert!([&first, &second, &dotted, &wild].into_iter().filter(|certificate| has(certificate)).count() == 1);
    }
    let mut connection =
        Client::http1(node.https()).over_tls(&authority, "second.example.com").connect().await.expect("a connection");
    for (host, status) in [("second.example.com.", 200), ("SECOND.example.com", 200), ("first.example.com.", 421)] {
        assert_eq!(connection.send(&get("/").host(host)).await.status, status, "{host}");
    }
}

/// What a server says to a hello of TLS 1.2 that asks for a name, up to its certificate, which is in the clear. rustls leaves
/// out a final dot: it is written over a letter, which changes no length.
async fn server_flight(address: std::net::SocketAddr, name: &str) -> Vec<u8> {
    let asked = match name.strip_suffix('.') {
        Some(plain) => format!("{plain}x"),
        None => name.to_owned(),
    };
    let config = verifying("ecdsa", &rustls::version::TLS12);
    let name_of_client = ServerName::try_from(asked.clone()).expect("a name");
    let mut client = rustls::ClientConnection::new(Arc::new(config), name_of_client).expect("a client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("a hello");
    let asked = asked.to_lowercase();
    let at = hello.windows(asked.len()).position(|part| part.eq_ignore_ascii_case(asked.as_bytes())).expect("a name");
    hello[at..at + name.len()].copy_from_slice(name.as_bytes());
    let mut connection = RawConnection::open(address).await;
    connection.write(hello).await;
    // The record of ServerHelloDone: nothing follows it until the client goes on.
    connection.read_bytes_until(b"\x0e\0\0\0").await
}

/// `curl --http1.0` offers nothing else.
#[tokio::test]
async fn http_1_0_may_be_all_that_a_client_offers() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let authority = Authority::default();
    let node = Setup::new("here", world.table()).tls(&[&authority.certify(&[HOST])]).start().await;
    let old = RawConnection::open_tls(node.https(), &authority, HOST, b"http/1.0").await;
    let answer = old.exchange(format!("GET / HTTP/1.0\r\nhost: {HOST}\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let other = RawConnection::open(node.https()).await.try_secure(&authority, HOST, b"spdy/3").await;
    let error = other.err().expect("an alert").to_string();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
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
