//! The node file: what can change while the process runs does, the rest is reported.

use meridian_tests::{Client, Node, Setup, World, eventually, geo, get, post};
use serde_json::Value;

#[tokio::test]
async fn trusted_proxies_and_limits_take_effect() {
    let world = World::of_regions(&[("here", "US")], ROUTES).await;
    let setup = Setup::new("here", world.table()).trusting(&[]);
    let node = setup.clone().start().await;
    let client = Client::http1(node.http());
    let sent = get("/").on_behalf_of(geo::address("DE", 1));
    client.send(&sent).await;
    assert_eq!(last_country(&world), None, "loopback is in no country, and nobody is trusted");

    let limited = setup.trusting(&["127.0.0.0/8"]).section("limits", "body_bytes = 10");
    node.replace("node.toml", limited.node_file());
    eventually("the proxy is trusted", async || {
        client.send(&sent).await;
        let country = last_country(&world);
        if country.as_deref() == Some("DE") { Ok(()) } else { Err(format!("{country:?}")) }
    })
    .await;
    client.send(&post("/", "eleven long")).await.assert_refused(413, "too_large");
    assert!(client.send(&post("/", "ten bytes.")).await.status.is_success());
}

#[tokio::test]
async fn what_needs_a_restart_is_reported_and_not_applied() {
    let world = World::of_regions(&[("here", "US"), ("there", "US")], ROUTES).await;
    let setup = Setup::new("here", world.table());
    let node = setup.clone().start().await;
    let client = Client::http1(node.http());
    client.send(&get("/").from("US")).await.assert_served_by("here");
    for (what, changed) in [
        ("listeners[0].address", setup.node_file().replacen("127.0.0.1:0", "127.0.0.2:0", 1)),
        ("listeners[1].address", setup.clone().plain().plain().node_file()),
        ("node.region", setup.node_file().replacen("region = \"here\"", "region = \"there\"", 1)),
        (
            "admin.address",
            setup.node_file().replacen("[admin]\naddress = \"127.0.0.1:0\"", "[admin]\naddress = \"off\"", 1),
        ),
    ] {
        let skipped = node.log().count();
        node.replace("node.toml", changed);
        let line = node.log().find_after(skipped, what, |line| line.contains("restart") && line.contains(what)).await;
        assert!(line.contains("node.toml"), "{line}");
        let status = eventually(what, async || {
            let status = node.status().await;
            let named = status["needs_restart"].as_array().expect("a list").iter().any(|key| key == what);
            if named { Ok(status) } else { Err(status["needs_restart"].to_string()) }
        })
        .await;
        assert_eq!(status["listeners"], serde_json::json!([node.http().to_string()]));
        client.send(&get("/").from("US")).await.assert_served_by("here");
    }
    assert_eq!(node.status().await["region"], "here");
    node.replace("node.toml", setup.node_file());
    eventually("all is as it was when the node started", async || {
        let named = node.status().await["needs_restart"].clone();
        if named == serde_json::json!([]) { Ok(()) } else { Err(named.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn a_bad_node_file_changes_nothing() {
    let world = World::of_regions(&[("here", "US")], ROUTES).await;
    let setup = Setup::new("here", world.table());
    let node = setup.clone().start().await;
    let client = Client::http1(node.http());
    client.send(&get("/").from("DE")).await.assert_served_by("here");
    let good = setup.node_file();
    for (what, bad, line) in [
        ("syntax", good.replacen("[admin]", "[admin", 1), 1 + position(&good, "[admin]")),
        ("unknown key", good.replacen("trusted_proxies", "trusted_proxys", 1), 1 + position(&good, "trusted_proxies")),
        ("no such database", good.replacen("countries.mmdb", "absent.mmdb", 1), 0),
    ] {
        node.replace("node.toml", bad);
        let shown = eventually(what, async || {
            let shown = problems(&node).await;
            let at_line = |problem: &Value| line == 0 || problem["line"] == line;
            if shown.iter().any(at_line) { Ok(shown) } else { Err(format!("{shown:?}")) }
        })
        .await;
        assert!(shown.iter().all(|problem| problem["message"].as_str().is_some_and(|m| !m.is_empty())));
        client.send(&get("/").from("DE")).await;
        assert_eq!(last_country(&world).as_deref(), Some("DE"), "{what}: the old file is in force");
        node.replace("node.toml", &good);
        eventually("all is well", async || {
            let shown = problems(&node).await;
            if shown.is_empty() { Ok(()) } else { Err(format!("{shown:?}")) }
        })
        .await;
    }
}

/// The `x-client-country` that the origin saw last.
fn last_country(world: &World) -> Option<String> {
    world.received("here").last().expect("a request").header("x-client-country").map(str::to_owned)
}

async fn problems(node: &Node) -> Vec<Value> {
    let status = node.status().await;
    let rejected = status["rejected"].as_array().expect("a list");
    rejected.iter().flat_map(|entry| entry["problems"].as_array().expect("a list").clone()).collect()
}

fn position(text: &str, beginning: &str) -> usize {
    text.lines().position(|line| line.starts_with(beginning)).expect("a line")
}

const ROUTES: &str = "[[routes]]\nname = \"all\"\n";
