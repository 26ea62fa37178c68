//! Nodes by their certificates.

use meridian_tests::{Authority, Certificate, Client, Node, Sent, Setup, World, eventually, geo, get, post};

use super::LAW;

/// A region's node, and what it knows nodes by.
struct Gateway {
    world: World,
    nodes: Authority,
    clients: Authority,
    node: Node,
}

impl Gateway {
    async fn start() -> Gateway {
        let world = World::of_regions(&[("there", "DE"), ("here", "US")], LAW).await;
        let (nodes, clients) = (Authority::default(), Authority::default());
        let own = nodes.certify(&["localhost", "there.nodes.example.com"]);
        let service = clients.certify(&["api.example.com"]);
        let node = Setup::new("there", world.table()).tls(&[&service]).peer(&nodes, &own).start().await;
        Gateway { world, nodes, clients, node }
    }

    /// Somebody who shows this certificate.
    fn shown(&self, certificate: &Certificate) -> Client {
        Client::http2(self.node.https()).as_node(&self.nodes, "localhost", certificate)
    }

    fn good(&self) -> Certificate {
        self.nodes.certify(&["here.nodes.example.com"])
    }
}

/// What a node says with a request of a German client.
fn passed_on(sent: Sent) -> Sent {
    [
        ("x-meridian-chosen", "there"),
        ("x-meridian-origin", "DE"),
        ("x-meridian-client", &geo::address("DE", 1).to_string()),
        ("x-meridian-scheme", "https"),
        ("x-meridian-request-id", "id-1"),
    ]
    .into_iter()
    .fold(sent, |sent, (name, value)| sent.header(name, value))
}

#[tokio::test]
async fn a_node_is_known_by_its_certificate() {
    let gateway = Gateway::start().await;
    let good = gateway.good();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        for client in [Client::http1(gateway.node.https()), Client::http2(gateway.node.https())] {
            let client = client.as_node_over(&gateway.nodes, "localhost", &good, &[version]);
            let answer = client.send(&passed_on(get("/bound"))).await;
            answer.assert_served_by("there");
            assert_eq!(answer.header("x-request-id").as_deref(), Some("id-1"));
            let received = gateway.world.received("there").pop().expect("a request");
            assert_eq!(received.header("x-client-country"), Some("DE"));
            assert_eq!(received.header("x-forwarded-proto"), Some("https"), "as the client came");
            assert!(!received.headers.keys().any(|name| name.as_str().contains("meridian")));
        }
    }
    // What it says in other names is a client's.
    let client = gateway.shown(&good);
    let american = passed_on(get("/bound")).header("x-data-consent", "granted");
    let american = american.header("x-meridian-tenant", "de");
    client.send(&american).await.assert_served_by("there");
    for (sent, what) in [
        (get("/public"), "nothing"),
        (get("/public").header("x-meridian-chosen", "there"), "a part"),
        (passed_on(get("/public")).header("x-meridian-chosen", "there"), "something twice"),
        (get("/public").from("DE"), "what only proxies say"),
    ] {
        let answer = client.send(&sent).await;
        assert_eq!(answer.refusal(), (421, Some("misdirected".to_owned())), "{what}: {answer:?}");
    }
    // A node that meant another region is told so; it must not be passed on.
    let elsewhere = get("/public").header("x-meridian-chosen", "here").header("x-meridian-probe", "1");
    client.send(&elsewhere).await.assert_refused(421, "misdirected");
    gateway.world.assert_nothing_outside(&["there"]);
}

/// To be served as a client would be worse: the law of the node's own address would be that of all its requests.
#[tokio::test]
async fn whoever_shows_another_certificate_gets_no_connection() {
    let gateway = Gateway::start().await;
    let other = Authority::default();
    for (certificate, cause) in [
        (gateway.nodes.certify_expired(&["here.nodes.example.com"]), "certificate_expired"),
        (other.certify(&["here.nodes.example.com"]), "certificate_foreign"),
        (gateway.clients.certify(&["here.nodes.example.com"]), "certificate_foreign"),
        (gateway.nodes.certify(&["here.other.example.com"]), "certificate_misnamed"),
        (gateway.nodes.certify(&["nodes.example.com"]), "certificate_misnamed"),
        (gateway.nodes.certify(&["a.here.nodes.example.com"]), "certificate_misnamed"),
        (gateway.nodes.certify(&["127.0.0.1"]), "certificate_misnamed"),
    ] {
        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            for client in [Client::http1(gateway.node.https()), Client::http2(gateway.node.https())] {
                let client = client.as_node_over(&gateway.nodes, "localhost", &certificate, &[version]);
                for sent in [passed_on(get("/bound")), get("/public"), post("/public", "x")] {
                    assert!(client.try_send(&sent).await.is_err(), "{cause}");
                }
            }
        }
        // The client may see the end before the node has counted it.
        eventually("they are counted", async || {
            let counted = gateway.node.metrics().await;
            let count = counted.sum("meridian_peer_refusals_total", &[("side", "client"), ("cause", cause)]);
            if count.is_some_and(|count| count >= 12.0) { Ok(()) } else { Err(format!("{cause}: {count:?}")) }
        })
        .await;
    }
    gateway.world.assert_nothing_outside(&[]);
    // Clients show none, and are asked for none that they would have.
    let client = Client::http2(gateway.node.https()).over_tls(&gateway.clients, "api.example.com");
    client.send(&get("/public").from("DE")).await.assert_served_by("there");
    let pretends = passed_on(get("/bound")).header("x-forwarded-for", &geo::address("US", 1).to_string());
    client.send(&pretends).await.assert_served_by("there");
    let received = gateway.world.received("there").pop().expect("a request");
    assert_eq!(received.header("x-client-country"), Some("US"), "a client like any other");
}

/// Connections between nodes live for days.
#[tokio::test]
async fn an_authority_that_is_taken_away_counts_on_no_live_connection() {
    let gateway = Gateway::start().await;
    let client = gateway.shown(&gateway.good());
    let mut live = client.connect().await.expect("a connection");
    live.send(&passed_on(get("/bound"))).await.assert_served_by("there");
    let next = Authority::default();
    let own = next.certify(&["localhost", "there.nodes.example.com"]);
    gateway.node.replace("node-key.pem", &own.key_pem);
    gateway.node.replace("node.pem", &own.certificate_pem);
    gateway.node.replace("peers-ca.pem", next.pem());
    eventually("the live connection counts no more", async || {
        let answer = live.try_send(&passed_on(get("/bound"))).await;
        match answer.map(|answer| answer.status.as_u16()) {
            Ok(421) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let served = gateway.world.received("there").len();
    assert!(client.try_send(&passed_on(get("/bound"))).await.is_err(), "nor a new one");
    let renewed = Client::http2(gateway.node.https());
    let renewed = renewed.as_node(&next, "localhost", &next.certify(&["here.nodes.example.com"]));
    assert_eq!(gateway.world.received("there").len(), served);
    renewed.send(&passed_on(get("/bound"))).await.assert_served_by("there");
}

/// A node's own certificate is one of those that expire.
#[tokio::test]
async fn a_nodes_own_certificate_is_watched() {
    let gateway = Gateway::start().await;
    let status = gateway.node.status().await;
    let certificates = status["certificates"].as_array().expect("a list");
    let shown: Vec<_> = certificates.iter().filter(|shown| shown["listener"] == "peers").collect();
    let [own] = shown.as_slice() else { panic!("{status}") };
    assert_eq!(own["names"], "localhost, there.nodes.example.com");
    assert!(own["expires_in_seconds"].as_i64().is_some_and(|left| left > 0), "{own}");
    let metrics = gateway.node.metrics().await;
    assert!(
        metrics.text().contains("meridian_certificate_expiry_seconds{name=\"localhost, there.nodes.example.com\"}")
    );
    // A bad one is refused, and told, and changes nothing.
    let foreign = Authority::default().certify(&["localhost", "there.nodes.example.com"]);
    gateway.node.replace("node-key.pem", &foreign.key_pem);
    gateway.node.replace("node.pem", &foreign.certificate_pem);
    eventually("it is refused", async || {
        let rejected = gateway.node.status().await["rejected"].to_string();
        if rejected.contains("certificate_authorities") { Ok(()) } else { Err(rejected) }
    })
    .await;
    gateway.shown(&gateway.good()).send(&passed_on(get("/bound"))).await.assert_served_by("there");
}
