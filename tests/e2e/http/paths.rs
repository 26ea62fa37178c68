//! Which route a path means: the one that every origin would read, or none.

use meridian_tests::{RawConnection, Setup, World};

#[tokio::test]
async fn a_path_that_can_be_read_in_two_ways_is_refused() {
    let (world, node) = start().await;
    let mut accepted = Vec::new();
    for path in [
        "/public/../private",
        "/public/./private",
        "/public/..",
        "/public/.",
        "/..",
        "/public/%2e%2e/private",
        "/public/%2E./private",
        "/public/.%2e/private",
        "/public/%2e/private",
        "/public%2f..%2fprivate",
        "/public/%2e%2e%2fprivate",
        "/public/..;/private",
        "/public/..;x=1/private",
        "/public/%2e%2e;/private",
        "/public\\..\\private",
        "/public/%5c..%5cprivate",
        "/public/%00",
        "/public/%",
        "/public/%2",
        "/public/%zz",
        "*",
    ] {
        let answer = ask(node.http(), path).await;
        if !answer.starts_with("HTTP/1.1 400") {
            accepted.push(format!("{path}: {}", answer.lines().next().unwrap_or_default()));
        }
    }
    assert!(accepted.is_empty(), "not refused:\n{}", accepted.join("\n"));
    // Each side of the slash belongs to another route.
    for path in ["/private%2Fx", "/%70rivate%2fx", "//private%2Fx"] {
        let answer = ask(node.http(), path).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("bad_request"), "{path}: {answer}");
    }
    world.assert_nothing_outside(&[]);
}

#[tokio::test]
async fn every_spelling_of_a_path_leads_to_its_route() {
    let (world, node) = start().await;
    for (path, region) in [
        ("/private", "home"),
        ("/private/", "home"),
        ("/private/x", "home"),
        ("/private?x=1", "home"),
        ("/%70rivate/x", "home"),
        ("//private//x", "home"),
        ("///private", "home"),
        ("/private/a%2Fb", "home"),
        ("/private/%252e%252e/x", "home"),
        ("/privately", "away"),
        ("/Private", "away"),
        ("/public/..x/x..", "away"),
        ("/public/...", "away"),
        ("/public/a%2Fb", "away"),
        ("/public?x=/../private", "away"),
        ("/public/%C3%BC", "away"),
        ("/.well-known/x", "away"),
        ("/", "away"),
    ] {
        let answer = ask(node.http(), path).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        let received = world.received(region).pop().unwrap_or_else(|| panic!("{path} has not come to {region}"));
        assert_eq!(received.path, path, "an origin gets what the client has sent");
    }
    assert_eq!(world.received("home").len() + world.received("away").len(), 18);
    // A fragment never leaves its browser; if it does, it goes no further.
    let answer = ask(node.http(), "/public#private").await;
    let arrived = world.received("away").pop().expect("a request").path;
    assert!(answer.starts_with("HTTP/1.1 400") || arrived == "/public", "{arrived}: {answer}");
}

#[tokio::test]
async fn connect_is_not_served() {
    let (world, node) = start().await;
    for line in ["CONNECT api.example.com:443 HTTP/1.1", "CONNECT /public HTTP/1.1", "CONNECT 10.0.0.1:22 HTTP/1.1"] {
        let request = format!("{line}\r\nhost: api.example.com\r\nconnection: close\r\n\r\n");
        let answer = RawConnection::open(node.http()).await.exchange(request).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{line}: {answer}");
    }
    world.assert_nothing_outside(&[]);
}

async fn ask(address: std::net::SocketAddr, path: &str) -> String {
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: api.example.com\r\nx-forwarded-for: 192.0.2.1\r\nconnection: close\r\n\r\n"
    );
    RawConnection::open(address).await.exchange(request).await
}

/// `/private` is for one region only, everything else is served in another first.
async fn start() -> (World, meridian_tests::Node) {
    let world = World::of_regions(&[("away", "DE"), ("home", "US")], ROUTES).await;
    let node = Setup::new("away", world.table()).start().await;
    (world, node)
}

const ROUTES: &str = r#"
[jurisdictions.us]
countries = ["US"]

[data_classes.bound]

[residency_defaults]
unlisted_jurisdiction = "allow"

[[residency]]
jurisdiction = "us"
data_classes = ["bound"]
allow = { countries = ["US"] }
transfer = "prohibited"

[[routes]]
name = "private"
path = "/private"
data_class = "bound"

[[routes]]
name = "rest"
data_class = "public"
"#;
