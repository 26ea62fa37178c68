//! Parts of a node that end by themselves: they are started again, or the node ends in order.

use loadtest::Protocol;
use loadtest::origin::{Origin, OriginConfig};
use meridian_tests::dns::Dns;
use meridian_tests::{Client, Node, Setup, World, eventually, get};

#[tokio::test]
async fn a_part_that_panics_is_started_again() {
    for task in ["listener", "admin", "health", "boundary", "reload", "clock", "overload", "log", "access-log"] {
        let world = World::probed_often(&[("here", "US")], "[[routes]]\nname = \"all\"\n").await;
        let mut node = setup(&world, task).start().await;
        node.logged_after(0, "a panic").await;
        let told = node.logged_after(0, "a task of the node has panicked").await;
        assert_eq!(told["task"], task);
        counted(&node, task).await;
        assert_eq!(node.ask(&get("/ready")).await.status, 200, "{task}");
        Client::http1(node.http()).send(&get("/")).await.assert_served_by("here");
        node.access_log().find("the request's line", |line| line.contains("\"status\":200")).await;
        let skipped = node.log().count();
        node.replace("routes.toml", world.table().replacen("version = \"1\"", "version = \"next\"", 1));
        node.logged_after(skipped, "routing table applied").await;
        world.kill("here").await;
        eventually("a region that is down", async || {
            let status = node.status().await;
            if status["regions"][0]["health"] == "up" { Err(status["regions"].to_string()) } else { Ok(()) }
        })
        .await;
        node.signal("TERM");
        assert_eq!(node.exited().await.code(), Some(0), "{task}");
    }
}

#[tokio::test]
async fn a_part_that_panics_again_and_again_ends_the_node() {
    let world = World::of_regions(&[("here", "US")], "[[routes]]\nname = \"all\"\n").await;
    let mut node = setup(&world, "health:5").start().await;
    node.logged_after(0, "the task \"health\" has ended 5 times within a minute: the node ends").await;
    assert_eq!(node.exited().await.code(), Some(1));
    assert!(node.log().all().iter().any(|line| line.starts_with("meridian: the task")), "{:#?}", node.log().all());
}

/// Another would be given its connections.
#[tokio::test]
async fn a_worker_that_panics_ends_the_node() {
    let world = World::of_regions(&[("here", "US")], "[[routes]]\nname = \"all\"\n").await;
    let mut node = setup(&world, "worker").start().await;
    node.logged_after(0, "the thread \"worker\" has panicked: the node ends").await;
    assert_eq!(node.exited().await.code(), Some(1));
}

#[tokio::test]
async fn look_ups_that_panic_begin_anew() {
    let origin = Origin::start(OriginConfig { protocol: Protocol::Http1, ..OriginConfig::named("here") }).await;
    let origin = origin.expect("a port");
    let dns = Dns::start().await;
    dns.point("origin.test", &[std::net::Ipv4Addr::LOCALHOST]);
    let table = format!(
        "version = \"1\"\n[regions.here]\ncountry = \"US\"\nendpoints = [\"http://origin.test:{}\"]\n\
         health = {{ kind = \"tcp\", interval = \"100ms\", failures = 1000 }}\n[[routes]]\nname = \"all\"\n",
        origin.address().port()
    );
    let node = Setup::new("here", &table)
        .section("upstream", &format!("nameservers = [\"{}\"]", dns.address))
        .environment("MERIDIAN_TEST_PANIC", "resolver")
        .start()
        .await;
    node.logged_after(0, "the look-ups of a name have panicked").await;
    eventually("an answer", async || match Client::http1(node.http()).send(&get("/")).await.status {
        status if status == 200 => Ok(()),
        status => Err(status.to_string()),
    })
    .await;
    counted(&node, "resolver").await;
}

/// A file that makes a reload panic changes nothing, is told of, and does not hold up the next.
#[tokio::test]
async fn a_reload_that_panics_is_refused() {
    let world = World::of_regions(&[("here", "US")], "[[routes]]\nname = \"all\"\n").await;
    let node = setup(&world, "reading").start().await;
    let table = |version: &str| world.table().replacen("version = \"1\"", &format!("version = \"{version}\""), 1);
    node.replace("routes.toml", table("2"));
    node.logged_after(0, "reload failed").await;
    let status = node.status().await;
    assert_eq!(status["table"]["version"], "1");
    assert!(status["rejected"].to_string().contains("please report it"), "{status}");
    node.replace("routes.toml", table("3"));
    node.logged_after(0, "routing table applied").await;
    let status = node.status().await;
    assert_eq!((&status["table"]["version"], &status["rejected"]), (&"3".into(), &serde_json::json!([])));
}

fn setup(world: &World, task: &str) -> Setup {
    Setup::new("here", world.table()).environment("MERIDIAN_TEST_PANIC", task)
}

/// Waits until the end of the task is counted.
pub(crate) async fn counted(node: &Node, task: &str) {
    eventually("the task's end is counted", async || {
        let metrics = node.metrics().await;
        let counts = ["meridian_task_ends_total", "meridian_panics_total"].map(|name| metrics.sum(name, &[]));
        let of_task = metrics.sum("meridian_task_ends_total", &[("task", task)]);
        if counts == [Some(1.0); 2] && of_task == Some(1.0) { Ok(()) } else { Err(format!("{counts:?} {of_task:?}")) }
    })
    .await;
}
