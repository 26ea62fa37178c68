//! Two nodes: one hands a request to the other region's gateway, which serves it there or refuses.

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

#[tokio::test]
async fn a_gateway_believes_its_peers_choice_and_nobody_elses() {
    let fleet = Fleet::start().await;
    let gateway = Client::http1(fleet.there.http());
    // A peer that meant another region is told so; it must not be passed on.
    let misled = gateway.send(&get("/public").from("US").header("x-meridian-chosen", "here")).await;
    misled.assert_refused(421, "misdirected");
    fleet.world.assert_nothing_outside(&[]);
    // A client that pretends to be a peer is told so, too, whatever it claims.
    for chosen in ["here", "there", "nowhere"] {
        let pretender = gateway.clone().from(geo::loopback("DE"));
        let answer = pretender.send(&get("/public").header("x-meridian-chosen", chosen)).await;
        answer.assert_refused(421, "misdirected");
    }
    fleet.world.assert_nothing_outside(&[]);
    gateway.from(geo::loopback("DE")).send(&get("/public")).await.assert_served_by("there");
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

struct Fleet {
    world: World,
    here: Node,
    there: Node,
}

impl Fleet {
    /// Each region's gateway has a certificate of its own, beside that of the service.
    async fn start() -> Fleet {
        let world = World::probed_often(&[("there", "DE"), ("here", "US")], ROUTES).await;
        let authority = Authority::default();
        let (service, gateway) = (authority.certify(&["api.example.com"]), authority.certify(&["localhost"]));
        let setup = |region: &str| {
            Setup::new(region, world.table())
                .plain()
                .tls(&[&service, &gateway])
                .file("upstream-ca.pem", authority.pem())
                .section("upstream", "certificate_authorities = [\"upstream-ca.pem\"]")
        };
        let (here, there) = (setup("here").start().await, setup("there").start().await);
        // Only now are the ports known: the table that names them comes as a reload.
        let gateway = |node: &Node| format!("gateway = \"localhost:{}\"\n", node.https().port());
        let table = world
            .table()
            .replacen("version = \"1\"", "version = \"2\"", 1)
            .replacen("[regions.here]\n", &format!("[regions.here]\n{}", gateway(&here)), 1)
            .replacen("[regions.there]\n", &format!("[regions.there]\n{}", gateway(&there)), 1);
        for node in [&here, &there] {
            node.replace("routes.toml", &table);
            eventually("the whole table", async || {
                let version = node.status().await["table"]["version"].clone();
                if version == "2" { Ok(()) } else { Err(version.to_string()) }
            })
            .await;
        }
        Fleet { world, here, there }
    }
}

const ROUTES: &str = r#"
[jurisdictions.de]
countries = ["DE"]

[data_classes.bound]

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
