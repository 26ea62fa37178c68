//! Writes that go to a standby: when most of the fleet finds the primary down, and the standby says that it is primary.

use loadtest::origin::Behaviour;
use meridian_tests::{BusPublisher, BusServer, Client, Node, Setup, World, eventually_within, get, put};
use serde_json::Value;

const SECRET: &str = "correct horse battery staple, and a fleet of three nodes";

const REST: &str = "[[routes]]\nname = \"all\"\n[failover]\nfailback_delay = \"0s\"\nramp = [100]\n";

/// Longer than it takes to find a region down, and to promote another.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// A primary, its copy, a bus with a table that says so, and three nodes, of which one is in the primary's region.
struct Stage {
    world: World,
    bus: BusServer,
    nodes: Vec<Node>,
}

impl Stage {
    async fn new() -> Stage {
        Stage::with("").await
    }

    /// One whose nodes have this, too, in their `bus = {}`.
    async fn with(more: &str) -> Stage {
        let world = World::probed_often(&[("main", "DE"), ("copy", "FR")], REST).await;
        say(&world, "main", "primary");
        say(&world, "copy", "replica");
        let bus = BusServer::start().await;
        BusPublisher::connect(&bus).await.publish(&table(&world)).await;
        let mut nodes = Vec::new();
        for (name, region) in [("n1", "main"), ("n2", "copy"), ("n3", "copy")] {
            let routing = format!("bus = {{ servers = [\"{}\"]{more} }}", bus.url());
            nodes.push(Setup::new(region, "").name(name).bus(&routing).secret(SECRET).start().await);
        }
        let stage = Stage { world, bus, nodes };
        for node in &stage.nodes {
            becomes(node, "all three hear each other", |writer| {
                writer["holder"] == "primary" && writer["heard_nodes"] == 3 && writer["known_nodes"] == 3
            })
            .await;
            writes_go_to(node, "main").await;
        }
        stage
    }
}

fn table(world: &World) -> String {
    let standby = "priority = 1\nrole = \"warm\"\ncapabilities = [\"read\"]\nstandby = { promote_after = \"10s\", \
                   of = [\"main\"], writes = \"when_primary\", max_replication_lag = \"60s\" }\n";
    world.table().replacen("priority = 1\n", standby, 1)
}

/// Has the endpoints of a region say what they are; a replica is up to date.
fn say(world: &World, region: &str, role: &'static str) {
    let mut answer = http::Response::builder().header("x-replication-role", role);
    if role == "replica" {
        answer = answer.header("x-replication-lag", "0.5");
    }
    let answer = answer.body(bytes::Bytes::new()).expect("an answer");
    world.origin(region).behave(move |received| match received.path.as_str() {
        "/health" => Behaviour::Answer(answer.clone()),
        _ => Behaviour::Normal,
    });
}

async fn writer(node: &Node) -> Value {
    let status = node.status().await;
    let regions = status["regions"].as_array().expect("regions");
    regions.iter().find(|region| region["name"] == "copy").expect("the standby")["writer"].clone()
}

async fn becomes(node: &Node, what: &str, is: impl Fn(&Value) -> bool) {
    eventually_within(PATIENCE, what, async || {
        let writer = writer(node).await;
        if is(&writer) { Ok(()) } else { Err(writer.to_string()) }
    })
    .await;
}

async fn write(node: &Node) -> Option<String> {
    Client::http1(node.http()).send(&put("/things/1", "new")).await.region()
}

async fn writes_go_to(node: &Node, region: &str) {
    eventually_within(PATIENCE, &format!("writes go to {region}"), async || {
        let served = write(node).await;
        if served.as_deref() == Some(region) { Ok(()) } else { Err(format!("{served:?}: {}", writer(node).await)) }
    })
    .await;
}

async fn writes_are_refused(node: &Node) {
    let answer = Client::http1(node.http()).send(&put("/things/1", "new")).await;
    answer.assert_refused(503, "unavailable");
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
}

async fn region(node: &Node, name: &str) -> Value {
    let status = node.status().await;
    let regions = status["regions"].as_array().expect("regions");
    regions.iter().find(|region| region["name"] == name).expect("the region").clone()
}

/// Waits for what the standby's clients wait for, `promote_after`, and after it.
async fn time_is_over(node: &Node) {
    eventually_within(PATIENCE, "the standby takes clients", async || {
        let region = region(node, "copy").await;
        if region["standby"] == "promoted" { Ok(()) } else { Err(region["standby"].to_string()) }
    })
    .await;
}

fn written(world: &World, region: &str) -> usize {
    world.received(region).iter().filter(|received| received.method == "PUT").count()
}

#[tokio::test]
async fn writes_follow_the_primary_there_and_back() {
    let stage = Stage::new().await;
    let Stage { world, nodes, .. } = &stage;
    world.kill("main").await;
    for node in nodes {
        becomes(node, "all three find it down, for long enough", |writer| {
            writer["votes"] == 3 && writer["lost_seconds"].as_f64().is_some_and(|lost| lost > 10.0)
        })
        .await;
        // Nobody has promoted it yet.
        writes_are_refused(node).await;
        Client::http1(node.http()).send(&get("/things/1")).await.assert_served_by("copy");
        let explained = node.ask(&get("/explain?country=DE&method=PUT&path=/things/1")).await.json();
        assert!(explained["regions"].to_string().contains("the other may not take them yet"), "{explained:#}");
    }
    assert_eq!(written(world, "copy"), 0, "a replica");

    say(world, "copy", "primary");
    for node in nodes {
        writes_go_to(node, "copy").await;
        becomes(node, "a term of the standby", |writer| writer["holder"] == "standby" && writer["term"] == 1).await;
        let metrics = node.metrics().await;
        let has_writes = |region| metrics.sum("meridian_region_writer", &[("region", region)]);
        assert_eq!((has_writes("main"), has_writes("copy")), (Some(0.0), Some(1.0)));
        let explained = node.ask(&get("/explain?country=DE&method=PUT&path=/things/1")).await.json();
        assert!(explained["regions"].to_string().contains("it has the writes"), "{explained:#}");
    }

    // The old primary is back, and has not heard of it.
    let before = written(world, "main");
    let skipped = nodes[0].log().count();
    world.revive("main").await;
    for node in nodes {
        becomes(node, "both say that they are primary", |writer| writer["split_brain"] == true).await;
        assert_eq!(node.metrics().await.sum("meridian_region_split_brain", &[("region", "copy")]), Some(1.0));
        assert_eq!(write(node).await.as_deref(), Some("copy"));
    }
    nodes[0].logged_after(skipped, "split brain: both regions say that they are primary").await;
    say(world, "main", "replica");
    for node in nodes {
        becomes(node, "one says that it is primary", |writer| writer["split_brain"] == false).await;
        assert_eq!(write(node).await.as_deref(), Some("copy"));
    }
    assert_eq!(written(world, "main"), before, "nothing since it was lost");

    say(world, "copy", "replica");
    say(world, "main", "primary");
    for node in nodes {
        writes_go_to(node, "main").await;
        becomes(node, "a term of the primary", |writer| writer["holder"] == "primary" && writer["term"] == 2).await;
    }
}

#[tokio::test]
async fn what_the_operator_takes_out_of_service_hands_its_writes_over() {
    let Stage { world, bus, nodes } = &Stage::new().await;
    let disabled = table(world).replacen("[regions.main]\n", "[regions.main]\nstate = \"disabled\"\n", 1);
    BusPublisher::connect(bus).await.publish(&disabled).await;
    for node in nodes {
        becomes(node, "the primary counts as lost", |writer| writer["lost_seconds"].is_number()).await;
        writes_are_refused(node).await;
    }
    say(world, "copy", "primary");
    for node in nodes {
        writes_go_to(node, "copy").await;
    }
}

#[tokio::test]
async fn a_node_that_hears_no_majority_promotes_nobody_and_one_that_starts_anew_is_told() {
    let mut stage = Stage::new().await;
    // The others fall silent: they are known all the same.
    stage.nodes[1..].iter().for_each(|node| node.signal("STOP"));
    stage.world.kill("main").await;
    say(&stage.world, "copy", "primary");
    let alone = &stage.nodes[0];
    time_is_over(alone).await;
    becomes(alone, "one of three", |writer| {
        writer["votes"] == 1 && writer["known_nodes"] == 3 && writer["heard_nodes"] == 1 && writer["term"] == 0
    })
    .await;
    writes_are_refused(alone).await;
    assert_eq!(written(&stage.world, "copy"), 0);
    // One that starts anew with it is a majority, and knows by the first how far behind the copy was.
    stage.nodes[1].restart("KILL").await;
    stage.nodes[1].serves().await;
    for node in &stage.nodes[..2] {
        writes_go_to(node, "copy").await;
    }
    // With the old primary back, a third that starts anew takes over what those two have decided.
    stage.world.revive("main").await;
    stage.nodes[2].restart("KILL").await;
    stage.nodes[2].serves().await;
    becomes(&stage.nodes[2], "the standby's term", |writer| writer["term"] == 1).await;
    writes_go_to(&stage.nodes[2], "copy").await;
}

/// All who know of a promotion start anew while the standby is gone and the old primary, which lacks what was written since,
/// says that it is the primary: what they know is on their disks.
#[tokio::test]
async fn a_fleet_that_starts_anew_has_not_forgotten_who_has_the_writes() {
    let Stage { world, bus: _bus, mut nodes } = Stage::with(", snapshot = \"last-good.toml\"").await;
    world.kill("main").await;
    say(&world, "copy", "primary");
    for node in &nodes {
        writes_go_to(node, "copy").await;
    }
    let before = written(&world, "main");
    world.kill("copy").await;
    world.revive("main").await;
    for node in &mut nodes {
        node.restart("KILL").await;
        node.serves().await;
    }
    for node in &nodes {
        becomes(node, "the standby's term, and all three hear each other", |writer| {
            writer["term"] == 1 && writer["heard_nodes"] == 3 && writer["votes"] == 3
        })
        .await;
        writes_are_refused(node).await;
    }
    assert_eq!(written(&world, "main"), before, "it lacks what the standby has");
    world.revive("copy").await;
    for node in &nodes {
        writes_go_to(node, "copy").await;
    }
    assert_eq!(written(&world, "main"), before);
}

/// Once a node says that it is ready it has asked both, and a write gets no 503; of two that do not answer it does not wait
/// for longer than a probe may take.
#[tokio::test]
async fn a_node_is_ready_once_it_knows_who_has_the_writes() {
    let world = World::probed_often(&[("main", "DE"), ("copy", "FR")], REST).await;
    say(&world, "main", "primary");
    say(&world, "copy", "replica");
    let node = Setup::new("main", &table(&world)).start().await;
    eventually_within(PATIENCE, "it is ready", async || {
        let ready = node.ask(&get("/ready")).await;
        if ready.status == 200 {
            return Ok(());
        }
        assert!(ready.text().contains("who has the writes of copy"), "{ready:?}");
        Err(ready.text().to_owned())
    })
    .await;
    assert_eq!(write(&node).await.as_deref(), Some("main"));

    for region in ["main", "copy"] {
        world.origin(region).behave(|_| Behaviour::Stall);
    }
    let node = Setup::new("main", &table(&world)).start().await;
    let first = node.ask(&get("/ready")).await;
    assert_eq!(first.status, 503, "{first:?}");
    eventually_within(PATIENCE, "it waits no longer", async || {
        let ready = node.ask(&get("/ready")).await.text().to_owned();
        if ready.contains("who has the writes") { Err(ready) } else { Ok(()) }
    })
    .await;
}

#[tokio::test]
async fn without_a_bus_writes_stay_with_the_primary_and_the_start_says_so() {
    let world = World::probed_often(&[("main", "DE"), ("copy", "FR")], REST).await;
    say(&world, "main", "primary");
    say(&world, "copy", "replica");
    let node = Setup::new("main", &table(&world)).start().await;
    node.logged_after(0, "standby.writes has no effect here").await;
    writes_go_to(&node, "main").await;
    world.kill("main").await;
    say(&world, "copy", "primary");
    time_is_over(&node).await;
    writes_are_refused(&node).await;
    assert_eq!(written(&world, "copy"), 0);
    assert_eq!(region(&node, "main").await["writes"], "primary_lost");
    world.revive("main").await;
    // Others may have promoted the standby: this node cannot know.
    eventually_within(PATIENCE, "both say that they are primary", async || {
        let writes = region(&node, "main").await["writes"].clone();
        if writes == "contested" { Ok(()) } else { Err(writes.to_string()) }
    })
    .await;
    writes_are_refused(&node).await;
    say(&world, "copy", "replica");
    writes_go_to(&node, "main").await;
}
