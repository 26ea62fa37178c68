//! Regions that come back, or do not come to rest.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use meridian_tests::load::{self, assert_all_served, figures};
use meridian_tests::{Client, Connection, Fleet, Node, eventually, geo, get};

use super::{assert_lawful, becomes, fleet, health, left, probed_fleet, reads, start};

#[tokio::test]
async fn a_flapping_region_is_left_for_good_at_the_second_time() {
    let mut fleet = probed_fleet(1, "", "failback_delay = \"60s\"\noutlier = { base_ejection = \"200ms\" }").await;
    let node = start(&fleet).await;
    let mut connection = connect(&node).await;
    let mut served = vec![serving(&mut connection, 0).await];
    let mut flaps = 0;
    // At least ten times; and on a machine so fast that these are over within its first suspicion, until the second.
    while flaps < 10 || (flaps < 100 && health(&node, "first").await != "waiting") {
        flaps += 1;
        fleet.kill("first");
        for client in 0..20 {
            served.push(serving(&mut connection, client).await);
        }
        fleet.revive("first").await;
        for client in 0..20 {
            served.push(serving(&mut connection, client).await);
        }
    }
    // Time enough for the ejection to end, and for probes to pass.
    becomes(&node, "first", &["waiting"]).await;
    for client in 0..20 {
        served.push(serving(&mut connection, client).await);
    }
    let changes = served.windows(2).filter(|pair| pair[0] != pair[1]).count();
    eprintln!("flapped {flaps} times: {} requests, {changes} change(s) of region", served.len());
    // Once may be a blip, from which it returns at once.
    assert!(changes == 1 || changes == 3, "{served:?}");
    assert_lawful(&mut fleet, &node).await;
}

#[tokio::test]
async fn a_region_that_dies_while_nobody_asks_is_not_asked() {
    let mut fleet = probed_fleet(1, "", "").await;
    let node = start(&fleet).await;
    fleet.kill("first");
    becomes(&node, "first", &["down"]).await;
    let answer = Client::http1(node.http()).send(&get("/").from("US")).await;
    answer.assert_served_by("second");
    assert_eq!(answer.attempts(), 1);
    assert_lawful(&mut fleet, &node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_whose_probes_lie_is_tried_ever_more_rarely() {
    // Suspicions of 200, 400, 600, … ms, and back at once after each.
    let failover = "failback_delay = \"0s\"\nramp = [100]\noutlier = { base_ejection = \"200ms\" }\n\
        retry_budget = { per_second = 100 }";
    let mut fleet = probed_fleet(1, "", failover).await;
    let node = start(&fleet).await;
    fleet.behave("first", "status=503").await;
    let load = reads(&node);
    load.more(800, "served elsewhere", |seen| load::region(seen) == Some("second")).await;
    let seen = load.stop().await;
    let asked = fleet.received("first").await.len();
    eprintln!("probes that lie: {}, {asked} asked there", figures(&seen));
    assert_all_served(&seen);
    // Six suspicions in four seconds at five failures each, and what was under way. A constant 200 ms would be twenty.
    assert!(asked <= 80, "{asked}");
    assert_lawful(&mut fleet, &node).await;
}

#[tokio::test]
async fn those_who_have_nothing_else_return_at_once() {
    // The failback delay is as long as it is by default: five minutes.
    let mut fleet = probed_fleet(1, "", "").await;
    let node = start(&fleet).await;
    let client = Client::http1(node.http());
    client.send(&get("/").from("US")).await.assert_served_by("first");
    for region in ["first", "second"] {
        fleet.kill(region);
    }
    // First while the node still has to find out, then when it knows.
    for _ in 0..20 {
        client.send(&get("/").from("US")).await.assert_refused(503, "residency_unavailable");
    }
    for region in ["first", "second"] {
        becomes(&node, region, &["down"]).await;
    }
    client.send(&get("/").from("US")).await.assert_refused(503, "residency_unavailable");

    fleet.revive("first").await;
    let revived = Instant::now();
    eventually("service", async || {
        let answer = client.send(&get("/").from("US")).await;
        if answer.status == 200 { Ok(answer) } else { Err(format!("{answer:?}")) }
    })
    .await
    .assert_served_by("first");
    let took = revived.elapsed();
    eprintln!("all dead: served {took:.0?} after the return");
    assert!(took < Duration::from_secs(5), "{took:?}");
    for _ in 0..20 {
        client.send(&get("/").from("US")).await.assert_served_by("first");
    }
    assert_lawful(&mut fleet, &node).await;
}

#[tokio::test]
async fn a_suspected_region_is_the_last_resort_and_is_used() {
    // No probe says anything: what is left is suspicion, which forbids nothing.
    let mut fleet = fleet(1, "", "").await;
    let node = start(&fleet).await;
    let mut connection = connect(&node).await;
    fleet.behave("first", "status=503").await;
    for client in 0..10 {
        assert_eq!(serving(&mut connection, client).await, "second");
    }
    left(&node, "first").await;
    becomes(&node, "first", &["suspected"]).await;
    let before = fleet.received("first").await.len();
    assert_eq!(serving(&mut connection, 0).await, "second");
    assert_eq!(fleet.received("first").await.len(), before, "the last resort has no clients");
    fleet.behave("first", "normal").await;
    fleet.kill("second");
    for client in 0..10 {
        assert_eq!(serving(&mut connection, client).await, "first");
    }
    assert_lawful(&mut fleet, &node).await;
}

#[tokio::test]
async fn a_region_returns_step_by_step_and_is_set_back_at_once() {
    let failover = "failback_delay = \"1s\"\nramp = [10, 50, 100]\nramp_step = \"4s\"\n\
        outlier = { base_ejection = \"100ms\" }";
    let mut fleet = probed_fleet(1, "", failover).await;
    let node = start(&fleet).await;
    let mut connection = connect(&node).await;
    assert_eq!(at_home(&mut connection).await.len(), CLIENTS);
    lose(&mut fleet, &node, &mut connection).await;

    fleet.revive("first").await;
    climb(&mut connection, 1).await;
    // Asked anew: the step may have begun in the middle of the last round.
    let share = at_home(&mut connection).await;
    assert!((3..=20).contains(&share.len()), "about 10 of {CLIENTS}: {share:?}");
    // Nobody stays for a region that has just failed again.
    lose(&mut fleet, &node, &mut connection).await;

    fleet.revive("first").await;
    let again = climb(&mut connection, CLIENTS).await;
    assert_eq!(again.len(), CLIENTS);
    becomes(&node, "first", &["up"]).await;
    assert_lawful(&mut fleet, &node).await;
}

/// The first region dies; nobody notices but by where they are served, and then nobody is served there.
async fn lose(fleet: &mut Fleet, node: &Node, connection: &mut Connection) {
    fleet.kill("first");
    assert!(at_home(connection).await.is_empty());
    becomes(node, "first", &["down"]).await;
    assert!(at_home(connection).await.is_empty());
}

/// Follows the clients as they return, until `enough` have: not before the failback delay, and who is there stays.
async fn climb(connection: &mut Connection, enough: usize) -> BTreeSet<u16> {
    let revived = Instant::now();
    let mut steps = vec![BTreeSet::new()];
    while steps.last().is_some_and(|last| last.len() < enough) {
        let started = Instant::now();
        let next = at_home(connection).await;
        let last = steps.last().expect("the one before");
        assert!(last.is_subset(&next), "who is there stays: {last:?}, then {next:?}");
        assert!(next.is_empty() || started.elapsed() + (started - revived) >= Duration::from_secs(1), "too early");
        if next.len() > last.len() {
            eprintln!("recovery: {} of {CLIENTS} after {:.0?}", next.len(), revived.elapsed());
        }
        steps.push(next);
        assert!(
            revived.elapsed() < Duration::from_secs(20),
            "{:?}",
            steps.iter().map(BTreeSet::len).collect::<Vec<_>>()
        );
    }
    if enough == CLIENTS {
        let halves = steps.iter().filter(|step| (35..=65).contains(&step.len())).count();
        assert!(halves > 0, "half of them for a while: {:?}", steps.iter().map(BTreeSet::len).collect::<Vec<_>>());
    }
    steps.pop().expect("the last")
}

/// Which clients are served in the first region; everybody is served.
async fn at_home(connection: &mut Connection) -> BTreeSet<u16> {
    let mut home = BTreeSet::new();
    for client in 0..CLIENTS as u16 {
        if serving(connection, client).await == "first" {
            home.insert(client);
        }
    }
    home
}

async fn connect(node: &Node) -> Connection {
    Client::http1(node.http()).connect().await.expect("a connection")
}

/// Where a client is served.
async fn serving(connection: &mut Connection, client: u16) -> String {
    let answer = connection.send(&get("/").on_behalf_of(geo::address_v6("US", client))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.region().expect("a region")
}

const CLIENTS: usize = 100;
