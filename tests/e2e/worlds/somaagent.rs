//! A: us-west-2 down, all its traffic to eu-west-1. B: eu-west-1 down, EU users get a maintenance page and only
//! non-EU traffic shifts. C: recovery in steps of 10, 50 and 100 per cent of the clients.

use std::collections::BTreeSet;

use meridian_tests::{Client, Node, Setup, World, example, geo, get, post};

#[tokio::test]
async fn a_american_traffic_moves_to_europe() {
    let world = World::of_example("somaagent").await;
    let (client, _node) = start(&world, "us-west-2").await;
    client.send(&get("/v1/agents/7").from("US")).await.assert_served_by("us-west-2");
    world.kill("us-west-2").await;
    for _ in 0..20 {
        for sent in [get("/v1/agents/7"), post("/v1/agents", "x"), get("/assets/logo.svg")] {
            client.send(&sent.from("US")).await.assert_served_by("eu-west-1");
        }
    }
}

#[tokio::test]
async fn b_europeans_see_the_maintenance_page_and_others_move() {
    let world = World::of_example("somaagent").await;
    let (client, _node) = start(&world, "eu-west-1").await;
    client.send(&get("/v1/agents/7").from("DE")).await.assert_served_by("eu-west-1");
    client.send(&get("/v1/agents/7").from("JP")).await.assert_served_by("eu-west-1");
    world.kill("eu-west-1").await;
    for _ in 0..20 {
        let page = client.send(&get("/v1/agents/7").from("DE").header("accept", "text/html,*/*;q=0.8")).await;
        assert_eq!(page.status, 503, "{page:?}");
        assert_eq!(page.header("content-type").as_deref(), Some("text/html; charset=utf-8"));
        assert_eq!(page.text(), maintenance_page());
        assert!(page.header("retry-after").is_some(), "{page:?}");
        assert_eq!(page.header("cache-control").as_deref(), Some("no-store"));
        // A page is for people; programs read why.
        client.send(&get("/v1/agents/7").from("DE")).await.assert_refused(503, "residency_unavailable");
        client.send(&get("/v1/agents/7").from("JP")).await.assert_served_by("us-west-2");
    }
    // What is public is for everybody everywhere.
    client.send(&get("/assets/logo.svg").from("DE")).await.assert_served_by("us-west-2");
    for received in world.received("us-west-2") {
        let lawful = received.path.starts_with("/assets") || received.header("x-client-country") == Some("JP");
        assert!(lawful, "{received:?}");
    }
}

/// The runbook's other way: while eu-west-1 is being repaired, the Union's users read, and nothing of theirs changes.
#[tokio::test]
async fn b_europeans_are_read_only_while_others_go_on() {
    let world = World::of_example("somaagent").await;
    let (client, node) = start(&world, "eu-west-1").await;
    let skipped = node.log().count();
    let page = "<p>Your agents can be looked at, and not be changed, until 18:00 UTC.";
    let emergency = format!("\n[emergency]\nread_only = [\"eu\"]\npage_text = \"{page}\"\n");
    node.replace("routes.toml", world.table().replacen("version = \"", "version = \"incident-", 1) + &emergency);
    node.logged_after(skipped, "routing table applied").await;
    for _ in 0..5 {
        client.send(&get("/v1/agents/7").from("DE")).await.assert_served_by("eu-west-1");
        client.send(&post("/v1/agents", "x").from("DE")).await.assert_refused(503, "emergency_read_only");
        let shown = client.send(&post("/v1/agents", "x").from("NO").header("accept", "text/html")).await;
        assert_eq!((shown.status.as_u16(), shown.text()), (503, page), "{shown:?}");
        client.send(&post("/v1/agents", "x").from("US")).await.assert_served_by("us-west-2");
        client.send(&post("/v1/agents", "x").from("JP")).await.assert_served_by("eu-west-1");
    }
    let writes = world.received("eu-west-1").into_iter().filter(|received| received.method == "POST");
    assert!(writes.clone().count() == 5 && writes.clone().all(|one| one.header("x-client-country") == Some("JP")));
}

#[tokio::test]
async fn c_a_region_returns_step_by_step_and_keeps_whom_it_has() {
    let world = World::of_example("somaagent").await;
    let with_weight = |weight: u32| {
        let region = "[regions.eu-west-1]\n";
        world.table().replacen(region, &format!("{region}weight = {weight}\n"), 1).replacen(
            "version = \"",
            &format!("version = \"weight-{weight}-"),
            1,
        )
    };
    let setup = Setup::new("eu-west-1", &with_weight(10)).file("somaagent-maintenance.html", maintenance_page());
    let node = setup.start().await;
    let mut steps = vec![europes_clients(&node).await];
    for weight in [50, 100] {
        let skipped = node.log().count();
        node.replace("routes.toml", with_weight(weight));
        node.logged_after(skipped, "routing table applied").await;
        steps.push(europes_clients(&node).await);
    }
    let counts: Vec<usize> = steps.iter().map(BTreeSet::len).collect();
    assert!((4..=18).contains(&counts[0]), "about 10 % of {CLIENTS}: {counts:?}");
    assert!((35..=65).contains(&counts[1]), "about 50 % of {CLIENTS}: {counts:?}");
    assert_eq!(counts[2], usize::from(CLIENTS));
    assert!(steps[0].is_subset(&steps[1]), "who is there stays there");
    // Europeans have nowhere else to go, whatever the weight.
    let skipped = node.log().count();
    node.replace("routes.toml", with_weight(10));
    node.logged_after(skipped, "routing table applied").await;
    for host in 1..15 {
        let sent = get("/v1/agents/7").on_behalf_of(geo::address("FR", host));
        Client::http1(node.http()).send(&sent).await.assert_served_by("eu-west-1");
    }
    // The other region is still everybody's last resort.
    world.kill("us-west-2").await;
    assert_eq!(europes_clients(&node).await.len(), usize::from(CLIENTS));
}

/// Which of the Japanese clients are served in Europe.
async fn europes_clients(node: &Node) -> BTreeSet<u16> {
    let mut connection = Client::http1(node.http()).connect().await.expect("a connection");
    let mut served = BTreeSet::new();
    for client in 0..CLIENTS {
        let answer = connection.send(&get("/v1/agents/7").on_behalf_of(geo::address_v6("JP", client))).await;
        match answer.region().as_deref() {
            Some("eu-west-1") => drop(served.insert(client)),
            Some("us-west-2") => {}
            _ => panic!("{answer:?}"),
        }
    }
    served
}

async fn start(world: &World, region: &str) -> (Client, Node) {
    let setup = Setup::new(region, world.table()).file("somaagent-maintenance.html", maintenance_page());
    let node = setup.start().await;
    (Client::http1(node.http()), node)
}

fn maintenance_page() -> String {
    std::fs::read_to_string(example("somaagent-maintenance.html")).expect("the page")
}

const CLIENTS: u16 = 100;
