//! Two nodes: one hands a request to the other region's gateway, which serves it there or refuses.

use http::StatusCode;
use loadtest::origin::Behaviour;
use meridian_tests::{Authority, Client, Node, Setup, World, eventually, geo, get, post};

#[tokio::test]
async fn a_gateway_serves_in_its_region_and_nowhere_else() {
    let fleet = Fleet::start().await;
    let client = Client::http1(fleet.here.http());
    let german = get("/bound").from("DE");
    let answer = client.send(&german).await;
    answer.assert_served_by("there");
    let received = fleet.world.received("there").pop().expect("a request");
    let forwarded = format!("{}, 127.0.0.1, 127.0.0.1", geo::address("DE", 1));
    assert_eq!(received.header("x-forwarded-for"), Some(forwarded.as_str()));
    assert_eq!(received.header("x-client-country"), Some("DE"), "found again from the same address");
    assert_eq!(received.header("x-forwarded-proto"), Some("http"), "as the client came");
    assert_eq!(received.host.as_deref(), Some("api.example.com"));
    assert_eq!(received.header("x-meridian-chosen"), None);
    assert_eq!(received.header("x-request-id"), answer.header("x-request-id").as_deref(), "one id on all nodes");

    fleet.world.kill("there").await;
    for _ in 0..10 {
        for sent in [german.clone(), post("/bound", "x").from("DE")] {
            let answer = client.send(&sent).await;
            assert_eq!(answer.status, 503, "{answer:?}");
        }
    }
    fleet.world.assert_nothing_outside(&["there"]);
    client.send(&get("/public").from("DE")).await.assert_served_by("here");
}

/// The other node says that no origin has seen it, so that it is no risk to send it elsewhere.
#[tokio::test]
async fn an_order_that_a_gateway_could_not_deliver_goes_elsewhere() {
    let fleet = Fleet::start().await;
    fleet.world.kill("there").await;
    let client = Client::http1(fleet.here.http());
    for number in 1..=10 {
        let answer = client.send(&post("/public", "order").from("DE")).await;
        answer.assert_served_by("here");
        assert_eq!(answer.header("x-meridian-unsent"), None, "that is between nodes");
        assert_eq!(fleet.world.received("here").len(), number, "once");
    }
    fleet.world.assert_nothing_outside(&["here"]);
}

/// A gateway that fails over itself must not hide that its own region is down.
#[tokio::test]
async fn a_node_learns_that_a_gateways_region_is_down() {
    let fleet = Fleet::start().await;
    fleet.world.kill("there").await;
    eventually("the region is down", async || {
        let status = fleet.here.status().await;
        let regions = status["regions"].as_array().expect("a list");
        let there = regions.iter().find(|region| region["name"] == "there").expect("the region");
        if there["health"] == "down" { Ok(()) } else { Err(there.to_string()) }
    })
    .await;
}

/// What an origin answers comes down as it is, also where the status is one by which nodes refuse each other.
#[tokio::test]
async fn an_origins_421_is_its_own() {
    let fleet = Fleet::start().await;
    fleet.world.behave("there", &Behaviour::Status(StatusCode::MISDIRECTED_REQUEST));
    let client = Client::http1(fleet.here.http());
    for number in 1..=20 {
        let answer = client.send(&get("/bound").from("DE")).await;
        assert_eq!(answer.status, 421, "{answer:?}");
        assert_eq!(answer.region().as_deref(), Some("there"));
        assert_eq!(fleet.world.received("there").len(), number, "once");
    }
    let refusals = fleet.here.metrics().await.sum("meridian_peer_refusals_total", &[]);
    assert_eq!(refusals.unwrap_or(0.0), 0.0);
    fleet.world.behave("there", &Behaviour::Normal);
    let answer = client.send(&get("/bound").from("DE")).await;
    answer.assert_served_by("there");
    assert_eq!(answer.attempts(), 1, "nothing was held against the gateway");
}

#[tokio::test]
async fn a_node_without_its_peers_falls_back() {
    let fleet = Fleet::start().await;
    let client = Client::http1(fleet.here.http());
    drop(fleet.there);
    client.send(&get("/public").from("DE")).await.assert_served_by("here");
    client.send(&get("/bound").from("DE")).await.assert_refused(503, "residency_unavailable");
    fleet.world.assert_nothing_outside(&["here"]);
    assert!(fleet.world.received("here").iter().all(|received| received.path == "/public"));
}

/// A probe is a node's question, and not a request of a client of unknown origin, whom the law may keep away.
#[tokio::test]
async fn a_gateway_is_probed_whatever_the_law_says_of_unknown_clients() {
    let bound_alone = &ROUTES[..ROUTES.find("[[routes]]\nname = \"public\"").expect("the route")];
    let fleet = Fleet::with(bound_alone).await;
    for (change, expected) in [("kill", "down"), ("revive", "up")] {
        match change {
            "kill" => fleet.world.kill("here").await,
            _ => fleet.world.revive("here").await,
        }
        eventually("the other node knows", async || {
            let status = fleet.there.status().await;
            let regions = status["regions"].as_array().expect("a list");
            let here = regions.iter().find(|region| region["name"] == "here").expect("the region");
            if here["health"] == expected { Ok(()) } else { Err(here.to_string()) }
        })
        .await;
    }
    for node in [&fleet.here, &fleet.there] {
        assert!(!node.access_log().all().iter().any(|line| line.contains("/health")), "a probe is no request");
        assert_eq!(node.metrics().await.sum("http_requests_total", &[]).unwrap_or(0.0), 0.0);
    }
}

#[tokio::test]
async fn a_draining_region_keeps_its_pinned_clients_through_its_gateway() {
    let routes = ROUTES.replace("name = \"public\"", "name = \"public\"\naffinity = { kind = \"cookie\" }");
    let routes = format!("[affinity]\nsecret = \"0123456789abcdef0123456789abcdef\"\n{routes}");
    let fleet = Fleet::with(&routes).await;
    let client = Client::http1(fleet.here.http());
    // The first in the table is `there`.
    let pinned = client.send(&get("/public").from("DE")).await;
    pinned.assert_served_by("there");
    let cookie = pinned.header("set-cookie").expect("a cookie");
    let cookie = cookie.split(';').next().expect("a value");
    let draining = fleet.table.replace("version = \"2\"", "version = \"3\"");
    fleet.apply(&draining.replace("[regions.there]\n", "[regions.there]\nstate = \"draining\"\n"), "3").await;
    client.send(&get("/public").from("DE")).await.assert_served_by("here");
    for sent in [get("/public"), post("/public", "x")] {
        let answer = client.send(&sent.from("DE").header("cookie", cookie)).await;
        answer.assert_served_by("there");
        assert_eq!((answer.attempts(), answer.header("set-cookie")), (1, None));
    }
}

/// While a stricter table reaches one node before the other, a client must not be able to consent for itself: the
/// first node has no reason yet to take the header out.
#[tokio::test]
async fn a_client_cannot_consent_through_a_node_that_knows_no_consent() {
    let fleet = Fleet::with(ROUTES).await;
    let law = |transfer: &str, more: &str| {
        let rule = format!(
            "[jurisdictions.us]\ncountries = [\"US\"]\n\
             [[residency]]\njurisdiction = \"us\"\ndata_classes = [\"bound\"]\n\
             allow = {{ countries = [\"US\"] }}\ntransfer = \"{transfer}\"\n[[routes]]\nname = \"bound\"\n{more}"
        );
        let version = format!("version = \"{transfer}\"");
        fleet.table.replace("version = \"2\"", &version).replace("[[routes]]\nname = \"bound\"\n", &rule)
    };
    let stricter = law("with_consent", "consent_header = \"x-data-consent\"\n");
    let tables = [(&fleet.here, law("allowed", ""), "allowed"), (&fleet.there, stricter.clone(), "with_consent")];
    for (node, table, version) in tables {
        in_force(node, &table, version).await;
    }
    fleet.world.kill("here").await;
    let client = Client::http1(fleet.here.http()).from(geo::loopback("US"));
    let consenting = ["x-data-consent", "x_data_consent", "x-meridian-consent", "x_meridian_consent"];
    for header in consenting {
        let said = if header.contains("meridian") { "x-data-consent" } else { "granted" };
        let answer = client.send(&get("/bound").header(header, said)).await;
        assert_eq!(answer.status, 503, "{header}: {answer:?}");
    }
    fleet.world.assert_nothing_outside(&[]);
    // A proxy that may say so does so to both, once both listen for it.
    in_force(&fleet.here, &stricter, "with_consent").await;
    let trusted = Client::http1(fleet.here.http());
    trusted.send(&get("/bound").from("US").header("x-data-consent", "granted")).await.assert_served_by("there");
    trusted.send(&get("/bound").from("US")).await.assert_refused(503, "residency_unavailable");
    client.send(&get("/bound").header("x-data-consent", "granted")).await.assert_refused(503, "residency_unavailable");
}

async fn in_force(node: &Node, table: &str, version: &str) {
    node.replace("routes.toml", table);
    eventually("the table is in force", async || {
        let now = node.status().await["table"]["version"].clone();
        if now == version { Ok(()) } else { Err(now.to_string()) }
    })
    .await;
}

pub(super) struct Fleet {
    /// The table with the gateways, version 2.
    table: String,
    pub(super) world: World,
    pub(super) here: Node,
    there: Node,
}

impl Fleet {
    /// Each node has a certificate of the fleet's, beside that of the service, which another authority certifies.
    pub(super) async fn start() -> Fleet {
        Fleet::with(ROUTES).await
    }

    async fn with(routes: &str) -> Fleet {
        let world = World::probed_often(&[("there", "DE"), ("here", "US")], routes).await;
        let (clients, nodes) = (Authority::default(), Authority::default());
        let service = clients.certify(&["api.example.com"]);
        let setup = |region: &str| {
            let own = nodes.certify(&["localhost", &format!("{region}.nodes.example.com")]);
            Setup::new(region, world.table()).plain().tls(&[&service]).peer(&nodes, &own)
        };
        let (here, there) = (setup("here").start().await, setup("there").start().await);
        // Only now are the ports known: the table that names them comes as a reload.
        let gateway = |node: &Node| format!("gateway = \"localhost:{}\"\n", node.https().port());
        let table = world
            .table()
            .replacen("version = \"1\"", "version = \"2\"", 1)
            .replacen("[regions.here]\n", &format!("[regions.here]\n{}", gateway(&here)), 1)
            .replacen("[regions.there]\n", &format!("[regions.there]\n{}", gateway(&there)), 1);
        let fleet = Fleet { table, world, here, there };
        fleet.apply(&fleet.table, "2").await;
        fleet
    }

    /// Puts a table in force on both nodes.
    async fn apply(&self, table: &str, version: &str) {
        for node in [&self.here, &self.there] {
            in_force(node, table, version).await;
        }
    }
}

const ROUTES: &str = r#"
[jurisdictions.de]
countries = ["DE"]

[data_classes.bound]

[residency_defaults]
unlisted_jurisdiction = "allow"

[[residency]]
jurisdiction = "de"
data_classes = ["bound"]
allow = { countries = ["DE"] }
transfer = "prohibited"

[[routes]]
name = "bound"
path = "/bound"
data_class = "bound"

[[routes]]
name = "public"
data_class = "public"
"#;
