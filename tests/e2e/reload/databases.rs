//! Geo databases.

use meridian_tests::{Client, Setup, World, eventually, geo, get, post};

#[tokio::test]
async fn a_new_database_is_in_force_and_a_corrupt_one_is_not() {
    let world = World::of_example("erlmcp-aws").await;
    let node = Setup::new("us-east-1", world.table()).start().await;
    let client = Client::http1(node.http());
    let sent = get("/mcp").from("US");
    client.send(&sent).await.assert_served_by("us-east-1");

    let good = geo::database();
    let cut = &good[..good.len() / 2];
    let mut damaged = good.clone();
    // The tree's beginning: it leads out of the file.
    damaged[..60].fill(0xfe);
    for (what, bad) in [("cut", cut), ("damaged", &damaged), ("empty", &[]), ("no database", b"hello")] {
        node.replace("countries.mmdb", bad);
        eventually(what, async || {
            let status = node.status().await;
            let rejected = status["rejected"].as_array().expect("a list").clone();
            let shown = rejected.iter().any(|entry| {
                entry["source"].as_str().is_some_and(|path| path.ends_with("countries.mmdb"))
                    && entry["problems"].as_array().is_some_and(|problems| !problems.is_empty())
            });
            if shown { Ok(()) } else { Err(format!("{rejected:?}")) }
        })
        .await;
        assert_eq!(node.status().await["geoip"][0]["build_epoch"], 1_767_225_600_u64, "{what}");
        client.send(&sent).await.assert_served_by("us-east-1");
        client.send(&get("/mcp").from("DE")).await.assert_served_by("eu-west-1");
        node.replace("countries.mmdb", &good);
        eventually("nothing is rejected any more", async || {
            let rejected = node.status().await["rejected"].clone();
            if rejected == serde_json::json!([]) { Ok(()) } else { Err(rejected.to_string()) }
        })
        .await;
    }

    // A connection that is open when a client's network moves is judged anew.
    let mut direct = Client::http1(node.http()).from(geo::loopback("US")).connect().await.expect("a connection");
    direct.send(&get("/mcp")).await.assert_served_by("us-east-1");
    let network = format!("{}/32", geo::loopback("US"));
    node.replace("countries.mmdb", geo::database_with(&[(&network, "FR"), ("192.0.2.0/28", "DE")], 1_767_225_601));
    eventually("the new database", async || {
        let status = node.status().await;
        let epoch = status["geoip"][0]["build_epoch"].clone();
        if epoch == 1_767_225_601_u64 { Ok(()) } else { Err(epoch.to_string()) }
    })
    .await;
    client.send(&sent).await.assert_served_by("eu-west-1");
    direct.send(&get("/mcp")).await.assert_served_by("eu-west-1");
}

/// Personal data of the Union stays there.
const LAW: &str = r#"
[jurisdictions.eu]
countries = ["@EU"]

[[residency]]
jurisdiction = "eu"
data_classes = ["personal"]
allow = { countries = ["@EU"] }

[residency_defaults]
unlisted_jurisdiction = "allow"

[[routes]]
name = "all"
data_class = "personal"
"#;

/// The clients of the tests of held databases: 198.18.0.1 to 198.18.149.1.
fn client_of(number: u8) -> std::net::IpAddr {
    std::net::Ipv4Addr::new(198, 18, number, 1).into()
}

/// A database in which these clients are American, and the others German.
fn american(clients: std::ops::Range<u8>, build_epoch: u64) -> Vec<u8> {
    let networks: Vec<String> = clients.map(|number| format!("198.18.{number}.0/24")).collect();
    let moved = networks.iter().map(|network| (network.as_str(), "US"));
    geo::database_of(&[("198.18.0.0/16", "DE")].into_iter().chain(moved).collect::<Vec<_>>(), build_epoch)
}

async fn held_becomes(
    node: &meridian_tests::Node,
    what: &str,
    wanted: impl Fn(&serde_json::Value) -> bool,
) -> serde_json::Value {
    eventually(what, async || {
        let held = node.status().await["geoip_held"].clone();
        if wanted(&held) { Ok(()) } else { Err(held.to_string()) }
    })
    .await;
    node.status().await["geoip_held"].clone()
}

#[tokio::test]
async fn a_database_that_moves_too_many_clients_is_held_until_somebody_accepts_it() {
    let world = World::of_regions(&[("us", "US"), ("eu", "IE")], LAW).await;
    let setup = Setup::new("us", world.table()).database(Some(american(0..0, 1))).geoip("max_change = \"2%\"");
    let mut node = setup.start().await;
    let client = Client::http1(node.http());
    for number in 0..150 {
        client.send(&get("/").on_behalf_of(client_of(number))).await.assert_served_by("eu");
    }
    let held = |metrics: meridian_tests::Metrics| metrics.sum("meridian_geoip_held", &[]);
    assert_eq!(held(node.metrics().await), Some(0.0));

    // Two of 150: less than 2 %.
    node.replace("countries.mmdb", american(148..150, 2));
    eventually("the small change", async || {
        let epoch = node.status().await["geoip"][0]["build_epoch"].clone();
        if epoch == 2 { Ok(()) } else { Err(epoch.to_string()) }
    })
    .await;
    client.send(&get("/").on_behalf_of(client_of(149))).await.assert_served_by("us");

    // Ten more are too many.
    let logged = node.log().all().len();
    node.replace("countries.mmdb", american(138..150, 3));
    let status = held_becomes(&node, "the held database", |held| !held.is_null()).await;
    assert_eq!(status["databases"][0]["build_epoch"], 3);
    assert_eq!(status["databases"][0]["build_epoch_in_force"], 2);
    assert_eq!((&status["change"]["by"], &status["change"]["clients"]), (&"clients".into(), &150.into()));
    assert_eq!((&status["change"]["clients_moved"], &status["max_change"]), (&10.into(), &0.02.into()));
    assert_eq!(status["change"]["moves"][0]["from"], serde_json::json!(["eu"]));
    assert_eq!(status["change"]["moves"][0]["to"], serde_json::json!(["unlisted"]));
    assert_eq!(node.status().await["geoip"][0]["build_epoch"], 2, "the one before is in force");
    client.send(&get("/").on_behalf_of(client_of(140))).await.assert_served_by("eu");
    assert_eq!(held(node.metrics().await), Some(1.0));
    let warning = node.logged_after(logged, "geo databases held").await;
    assert_eq!((&warning["level"], &warning["moved"]), (&"WARN".into(), &"6.67 %".into()), "{warning}");
    assert!(node.ask(&get("/ready")).await.text().contains("countries.mmdb"), "a warning, and ready");

    // What else changes in the node file counts, and does not let the database in.
    let file = std::fs::read_to_string(node.path("node.toml")).expect("the node file");
    let logged = node.log().all().len();
    node.replace("node.toml", file.replace("trusted_proxies = [", "trusted_proxies = [\"127.0.0.2/32\", "));
    node.logged_after(logged, "node file applied").await;
    let other = Client::http1(node.http()).from("127.0.0.2".parse().expect("an address"));
    other.send(&get("/").on_behalf_of(client_of(140))).await.assert_served_by("eu");
    assert!(!node.status().await["geoip_held"].is_null());

    // A page of somebody's browser has no say, nor has who means another release.
    let accept = |query: &str| post(&format!("/geoip/accept{query}"), "");
    assert_eq!(node.ask(&accept("").header("origin", "https://example.com")).await.status, 403);
    assert_eq!(node.ask(&accept("?build_epoch=2")).await.status, 409);
    assert_eq!(node.ask(&accept("?epoch=3")).await.status, 400);
    assert_eq!(node.ask(&get("/geoip/accept")).await.status, 405);
    client.send(&get("/").on_behalf_of(client_of(140))).await.assert_served_by("eu");
    let accepted = node.ask(&accept("?build_epoch=3")).await;
    assert_eq!((accepted.status.as_u16(), &accepted.json()["change"]["clients_moved"]), (200, &10.into()));
    client.send(&get("/").on_behalf_of(client_of(140))).await.assert_served_by("us");
    assert_eq!(held(node.metrics().await), Some(0.0));
    assert_eq!(node.status().await["geoip"][0]["build_epoch"], 3);
    assert_eq!(node.ask(&accept("")).await.status, 409);

    // What goes back to the one in force, or is good, ends the hold; each file is judged anew.
    node.replace("countries.mmdb", american(0..150, 4));
    held_becomes(&node, "held again", |held| held["change"]["clients_moved"] == 138).await;
    node.replace("countries.mmdb", american(50..150, 5));
    held_becomes(&node, "the later one", |held| held["databases"][0]["build_epoch"] == 5).await;
    node.replace("countries.mmdb", american(138..150, 3));
    held_becomes(&node, "no longer held", serde_json::Value::is_null).await;
    assert_eq!(held(node.metrics().await), Some(0.0));
    client.send(&get("/").on_behalf_of(client_of(60))).await.assert_served_by("eu");

    // A restart with it is somebody's word.
    node.replace("countries.mmdb", american(50..150, 6));
    held_becomes(&node, "held once more", |held| !held.is_null()).await;
    node.restart("KILL").await;
    node.serves().await;
    assert_eq!(node.status().await["geoip_held"], serde_json::Value::Null);
    Client::http1(node.http()).send(&get("/").on_behalf_of(client_of(60))).await.assert_served_by("us");
}

/// With too few clients, the address space is asked; and `"off"` asks nobody.
#[tokio::test]
async fn a_node_with_few_clients_goes_by_address_space() {
    let world = World::of_regions(&[("us", "US"), ("eu", "IE")], LAW).await;
    let setup = Setup::new("us", world.table()).database(Some(american(0..0, 1)));
    let node = setup.clone().start().await;
    let client = Client::http1(node.http());
    client.send(&get("/").on_behalf_of(client_of(7))).await.assert_served_by("eu");
    // 26 of 256 are a little more than the 10 % that nobody had to write.
    node.replace("countries.mmdb", american(0..26, 2));
    let status = held_becomes(&node, "held", |held| !held.is_null()).await;
    assert_eq!((&status["change"]["by"], &status["change"]["clients"]), (&"address_space".into(), &1.into()));
    assert_eq!((&status["change"]["share"], &status["max_change"]), (&(26.0 / 256.0).into(), &0.1.into()));
    node.replace("countries.mmdb", american(0..25, 3));
    held_becomes(&node, "in force", serde_json::Value::is_null).await;
    client.send(&get("/").on_behalf_of(client_of(7))).await.assert_served_by("us");

    let node = setup.geoip("max_change = \"off\"").start().await;
    node.replace("countries.mmdb", american(0..150, 4));
    eventually("in force at once", async || {
        let epoch = node.status().await["geoip"][0]["build_epoch"].clone();
        if epoch == 4 { Ok(()) } else { Err(epoch.to_string()) }
    })
    .await;
}
