//! What HTTP asks of those in between: to say that they are there, to end loops, and to answer what is for them.

use meridian_tests::{Client, RawConnection, Setup, SmallTable, World, bespoke, get};

use super::EVERYTHING;

#[tokio::test]
async fn messages_say_through_whom_they_have_come() {
    let origin = bespoke::tcp(|mut visit| async move {
        let via = visit.head.lines().find_map(|line| line.strip_prefix("via: ")).unwrap_or("none").to_owned();
        let answer = format!("HTTP/1.1 200 OK\r\nvia: 1.0 cache\r\nx-seen: {via}\r\ncontent-length: 0\r\n\r\n");
        visit.connection.write(answer).await;
    })
    .await;
    let table = SmallTable::new(EVERYTHING).region("here", "US", &[origin.address]);
    let node = Setup::new("here", &table.text()).start().await;
    let sent = get("/").header("via", "1.1 before").header("connection", "via");
    let answer = Client::http1(node.http()).send(&sent).await;
    let seen = answer.header("x-seen").expect("what the origin saw");
    let name = seen.strip_prefix("1.1 before, 1.1 ").expect("both in one list");
    assert!(name.starts_with("meridian-"), "{seen}");
    let down: Vec<_> = answer.headers.get_all("via").iter().map(|value| value.to_str().expect("text")).collect();
    assert_eq!(down.join(", "), format!("1.0 cache, 1.1 {name}"));
    let answer = Client::http2(node.http()).send(&get("/")).await;
    assert_eq!(answer.header("x-seen"), Some(format!("2.0 {name}")));
}

/// A node whose endpoint is its own listener asks itself once, and not until its descriptors are out.
#[tokio::test]
async fn a_request_that_comes_back_is_refused() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let node = Setup::new("here", world.table()).start().await;
    // Probes that only connect are none of the requests that are counted.
    let table = SmallTable::new(EVERYTHING).region_at("here", "US", &node.http().to_string());
    let skipped = node.log().count();
    node.replace("routes.toml", table.version("2").text());
    node.logged_after(skipped, "routing table applied").await;
    for client in [Client::http1(node.http()), Client::http2(node.http())] {
        let answer = client.send(&get("/")).await;
        assert_eq!(answer.refusal(), (508, Some("loop".to_owned())));
    }
    let counted = node.metrics().await.sum("http_requests_total", &[("status", "508")]);
    assert_eq!(counted, Some(4.0), "each twice: once by itself");
}

#[tokio::test]
async fn trace_is_for_routes_that_name_it() {
    let routes = "[[routes]]\nname = \"traced\"\npath = \"/traced\"\nmethods = [\"GET\", \"TRACE\"]\n\
        [[routes]]\nname = \"all\"\n";
    let world = World::of_regions(&[("here", "US")], routes).await;
    let node = Setup::new("here", world.table()).start().await;
    let head =
        |path| format!("TRACE {path} HTTP/1.1\r\nhost: api.example.com\r\ncookie: a=b\r\nconnection: close\r\n\r\n");
    let answer = RawConnection::open(node.http()).await.exchange(head("/")).await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert!(answer.contains("allow: GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH\r\n"), "{answer}");
    world.assert_nothing_outside(&[]);
    let answer = RawConnection::open(node.http()).await.exchange(head("/traced")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn max_forwards_counts_down_to_this_node() {
    let world = World::of_regions(&[("here", "US")], EVERYTHING).await;
    let node = Setup::new("here", world.table()).start().await;
    for (method, sent, status, seen) in [
        ("OPTIONS", "0", 200, None),
        ("OPTIONS", "1", 200, Some("0")),
        ("OPTIONS", "x", 400, None),
        ("GET", "0", 200, Some("0")),
    ] {
        let before = world.received("here").len();
        let head = format!(
            "{method} / HTTP/1.1\r\nhost: api.example.com\r\nmax-forwards: {sent}\r\nconnection: close\r\n\r\n"
        );
        let answer = RawConnection::open(node.http()).await.exchange(head).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {sent}: {answer}");
        let received = world.received("here");
        let seen_there = received.get(before).and_then(|request| request.header("max-forwards"));
        assert_eq!(seen_there, seen, "{method} {sent}");
        assert_eq!(answer.contains("allow: "), method == "OPTIONS" && sent == "0", "{answer}");
    }
}
