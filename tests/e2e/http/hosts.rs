//! Which host a request is for: one answer, or none.

use meridian_tests::{Authority, Client, RawConnection, Setup, World, get};

#[tokio::test]
async fn an_ambiguous_host_is_refused() {
    let world = World::of_regions(&[("here", "US")], ROUTES).await;
    let node = Setup::new("here", world.table()).start().await;
    for (what, request) in [
        ("two", "GET / HTTP/1.1\r\nhost: api.example.com\r\nhost: api.example.com\r\n"),
        ("two different", "GET / HTTP/1.1\r\nhost: api.example.com\r\nhost: other.example.com\r\n"),
        ("none", "GET / HTTP/1.1\r\n"),
        ("none in HTTP/1.0", "GET / HTTP/1.0\r\n"),
        ("empty", "GET / HTTP/1.1\r\nhost:\r\n"),
        ("user information", "GET / HTTP/1.1\r\nhost: user@api.example.com\r\n"),
        ("password", "GET / HTTP/1.1\r\nhost: user:password@api.example.com\r\n"),
        ("path", "GET / HTTP/1.1\r\nhost: api.example.com/path\r\n"),
        ("list", "GET / HTTP/1.1\r\nhost: api.example.com, other.example.com\r\n"),
        ("space", "GET / HTTP/1.1\r\nhost: api.example.com other\r\n"),
        ("no port", "GET / HTTP/1.1\r\nhost: api.example.com:port\r\n"),
        ("two ports", "GET / HTTP/1.1\r\nhost: api.example.com:80:80\r\n"),
        ("large port", "GET / HTTP/1.1\r\nhost: api.example.com:65536\r\n"),
        ("empty label", "GET / HTTP/1.1\r\nhost: api..example.com\r\n"),
        ("percent", "GET / HTTP/1.1\r\nhost: api%2eexample.com\r\n"),
        ("another in the target", "GET http://other.example.com/ HTTP/1.1\r\nhost: api.example.com\r\n"),
        ("user in the target", "GET http://user@api.example.com/ HTTP/1.1\r\nhost: api.example.com\r\n"),
    ] {
        let request = format!("{request}connection: close\r\n\r\n");
        let answer = RawConnection::open(node.http()).await.exchange(request).await;
        assert!(answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.0 400"), "{what}: {answer}");
        assert!(answer.contains("\"reason\":\"bad_request\""), "{what}: {answer}");
    }
    world.assert_nothing_outside(&[]);
}

#[tokio::test]
async fn one_host_in_any_spelling_is_taken() {
    let world = World::of_regions(&[("here", "US")], ROUTES).await;
    let node = Setup::new("here", world.table()).start().await;
    for (line, host) in [
        ("GET /x HTTP/1.1\r\nhost: api.example.com\r\n", "api.example.com"),
        ("GET /x HTTP/1.1\r\nHOST:   API.Example.COM  \r\n", "API.Example.COM"),
        ("GET /x HTTP/1.1\r\nhost: api.example.com.\r\n", "api.example.com."),
        ("GET /x HTTP/1.1\r\nhost: api.example.com:8443\r\n", "api.example.com:8443"),
        ("GET /x HTTP/1.0\r\nhost: api.example.com\r\n", "api.example.com"),
        ("GET http://api.example.com/x HTTP/1.1\r\nhost: api.example.com\r\n", "api.example.com"),
        ("GET http://api.example.com:80/x HTTP/1.1\r\nhost: api.example.com:80\r\n", "api.example.com:80"),
    ] {
        let answer = RawConnection::open(node.http()).await.exchange(format!("{line}connection: close\r\n\r\n")).await;
        assert!(answer.contains(" 200 OK\r\n"), "{line}: {answer}");
        let received = world.received("here").pop().expect("a request");
        assert_eq!((received.path.as_str(), received.host.as_deref()), ("/x", Some(host)), "{line}");
    }
    let other = Client::http1(node.http()).send(&get("/x").host("other.example.com")).await;
    other.assert_refused(404, "no_route");
    let v6 = Client::http1(node.http()).send(&get("/x").host("[2001:db8::1]:8080")).await;
    v6.assert_refused(404, "no_route");
}

#[tokio::test]
async fn on_http2_authority_and_host_must_agree() {
    let world = World::of_regions(&[("here", "US")], ROUTES).await;
    let node = Setup::new("here", world.table()).start().await;
    let client = Client::http2(node.http());
    client.send(&get("/").header("host", "other.example.com")).await.assert_refused(400, "bad_request");
    client.send(&get("/").header("host", "api.example.com")).await.assert_served_by("here");
    assert_eq!(world.received("here").len(), 1);
}

#[tokio::test]
async fn a_connection_serves_the_names_of_its_certificate_only() {
    let world = World::of_regions(&[("here", "US")], "[[routes]]\nname = \"all\"\n").await;
    let authority = Authority::default();
    let api = authority.certify(&["api.example.com", "api2.example.com"]);
    let other = authority.certify(&["other.example.org", "*.apps.example.org"]);
    // Nobody is trusted: another node may name a gateway in TLS, and carry any host in HTTP.
    let node = Setup::new("here", world.table()).trusting(&[]).tls(&[&api, &other]).start().await;
    for client in [Client::http1(node.https()), Client::http2(node.https())] {
        let mut connection = client.over_tls(&authority, "api.example.com").connect().await.expect("a connection");
        connection.send(&get("/").host("api.example.com")).await.assert_served_by("here");
        connection.send(&get("/").host("API2.example.com:443")).await.assert_served_by("here");
        let seen = world.received("here").len();
        for host in ["other.example.org", "x.apps.example.org", "nobody.example.net", "api.example.com.evil.org"] {
            connection.send(&get("/").host(host)).await.assert_refused(421, "misdirected");
        }
        assert_eq!(world.received("here").len(), seen, "nothing misdirected has arrived");
        connection.send(&get("/").host("api.example.com")).await.assert_served_by("here");
    }
    let mut connection = Client::http2(node.https())
        .over_tls(&authority, "x.apps.example.org")
        .connect()
        .await
        .expect("the other certificate, by its wildcard");
    connection.send(&get("/").host("y.apps.example.org")).await.assert_served_by("here");
    connection.send(&get("/").host("x.y.apps.example.org")).await.assert_refused(421, "misdirected");
}

#[tokio::test]
async fn plain_requests_are_redirected_whole() {
    let world = World::of_regions(&[("here", "US")], ROUTES).await;
    let authority = Authority::default();
    let certificate = authority.certify(&["api.example.com"]);
    let node = Setup::new("here", world.table()).redirecting().tls(&[&certificate]).start().await;
    let client = Client::http1(node.http());
    for (sent, location) in [
        (get("/a/b?c=d&e"), "https://api.example.com/a/b?c=d&e".to_owned()),
        (meridian_tests::post("/", "x"), "https://api.example.com/".to_owned()),
        (get("//evil.example.org"), "https://api.example.com//evil.example.org".to_owned()),
        (get("/x").host("API.example.com:80"), "https://api.example.com/x".to_owned()),
    ] {
        let answer = client.send(&sent).await;
        assert_eq!(answer.status, 308, "{answer:?}");
        assert_eq!(answer.header("location"), Some(location));
    }
    client.send(&get("/").host("user@evil.example.org")).await.assert_refused(400, "bad_request");
    world.assert_nothing_outside(&[]);
}

const ROUTES: &str = "[[routes]]\nname = \"api\"\nhost = \"api.example.com\"\n";
