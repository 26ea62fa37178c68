//! Connections to origins that were opened before a reload get no request after it, where the node would open them
//! otherwise now.

use loadtest::Protocol;
use loadtest::origin::{Behaviour, Origin, OriginConfig};
use meridian_tests::{Authority, Client, Node, Setup, SmallTable, eventually, get, is_probe, post};

#[tokio::test]
async fn replaced_authorities_reach_connections_that_are_open() {
    for (scheme, protocol) in [("https", Protocol::Http1), ("h2", Protocol::Http2)] {
        let (trusted, other) = (Authority::default(), Authority::default());
        let origin = origin(&trusted, protocol).await;
        let node = start(&format!("{scheme}://{}", origin.address()), &trusted).await;
        let client = Client::http1(node.http());
        client.send(&post("/1", "x")).await.assert_served_by("origin");
        let connections = origin.connections();
        client.send(&post("/2", "x")).await.assert_served_by("origin");
        assert_eq!(origin.connections(), connections, "{scheme}: the connection is kept");

        // The same authority once more changes nothing.
        replace(&node, &format!("{}\n", trusted.pem())).await;
        client.send(&post("/3", "x")).await.assert_served_by("origin");
        assert_eq!(origin.connections(), connections, "{scheme}: the connection is kept");

        // One request is under way when its connection's authority is replaced.
        let under_way = {
            let client = client.clone();
            tokio::spawn(async move { client.send(&post("/stalls", "x")).await })
        };
        origin.arrived(origin.requests() + 1).await;
        replace(&node, &other.pem()).await;
        let received = origin.requests();
        for _ in 0..3 {
            let answer = client.send(&post("/4", "x")).await;
            assert!([502, 503].contains(&answer.status.as_u16()), "{scheme}: {answer:?}");
        }
        let later: Vec<_> = origin.received().into_iter().filter(|received| received.path == "/4").collect();
        assert!(later.is_empty(), "{scheme}: {later:?}");
        assert!(origin.requests() >= received);
        origin.set_behaviour(Behaviour::Normal);
        under_way.await.expect("an answer").assert_served_by("origin");
        let answer = client.send(&get("/5")).await;
        assert!(
            [502, 503].contains(&answer.status.as_u16()),
            "{scheme}: what it leaves behind is not used: {answer:?}"
        );

        replace(&node, &trusted.pem()).await;
        // The probes have found nobody meanwhile.
        eventually("the origin is back", async || {
            let answer = client.send(&post("/6", "x")).await;
            if answer.status == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
    }
}

async fn origin(authority: &Authority, protocol: Protocol) -> Origin {
    let tls = Some(authority.certify(&["127.0.0.1"]).server_config());
    let origin = Origin::start(OriginConfig { tls, protocol, ..OriginConfig::named("origin") }).await.expect("a port");
    origin.behave(|received| match received.path.as_str() {
        "/stalls" if !is_probe(received) => Behaviour::Stall,
        _ => Behaviour::Normal,
    });
    origin
}

/// A node that is probed once, as long as all is well.
async fn start(endpoint: &str, authority: &Authority) -> Node {
    let nowhere = "127.0.0.1:1".parse().expect("an address");
    let table = SmallTable::new("[[routes]]\nname = \"all\"\n").region("origin", "US", &[nowhere]);
    let table = table.text().replace("\"127.0.0.1:1\"", &format!("\"{endpoint}\""));
    let setup = Setup::new("origin", &table).threads(1).file("ca.pem", authority.pem());
    setup.section("upstream", "certificate_authorities = [\"ca.pem\"]").start().await
}

async fn replace(node: &Node, authorities: &str) {
    let skipped = node.log().count();
    node.replace("ca.pem", authorities);
    node.logged_after(skipped, "certificates applied").await;
}
