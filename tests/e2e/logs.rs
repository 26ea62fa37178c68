//! The node's logs: whatever becomes of those who read them, the node goes on.

use meridian_tests::{Client, Node, Setup, World, eventually, get};

/// With tracing this verbose, a few requests log more than a pipe and the node's queue hold.
const VERBOSE: &str = "trace";

#[tokio::test]
async fn a_log_whose_reader_is_gone_stops_nothing() {
    let (world, setup) = site().await;
    let mut node = setup.with_stderr_closed().start().await;
    Client::http1(node.http()).send(&get("/")).await.assert_served_by("here");
    goes_on(&world, &node).await;
    eventually("the status says so", async || {
        let log = node.status().await["log"].clone();
        let says = log["state"] == "failing" && log["error"].as_str().is_some_and(|why| why.contains("Broken pipe"));
        if says && log["since"].as_u64() > Some(0) { Ok(()) } else { Err(log.to_string()) }
    })
    .await;
    node.signal("TERM");
    assert_eq!(node.exited().await.code(), Some(0));
}

#[tokio::test]
async fn a_log_that_nobody_reads_stops_nothing() {
    let (world, setup) = site().await;
    let mut node = setup.environment("MERIDIAN_LOG", VERBOSE).with_stderr_unread().start().await;
    let client = Client::http2(node.http());
    eventually("more than there is room for", async || {
        for _ in 0..20 {
            // Over HTTP/2, whose library traces each frame.
            client.send(&get("/")).await.assert_served_by("here");
        }
        match node.metrics().await.sum("meridian_log_lost_total", &[]) {
            Some(lost) if lost > 100.0 => Ok(()),
            lost => Err(format!("{lost:?}")),
        }
    })
    .await;
    goes_on(&world, &node).await;
    eventually("the status says so", async || {
        let log = node.status().await["log"].clone();
        if log["state"] == "behind" && log["dropped"].as_u64() > Some(100) { Ok(()) } else { Err(log.to_string()) }
    })
    .await;
    node.signal("TERM");
    assert_eq!(node.exited().await.code(), Some(0));
}

#[tokio::test]
async fn the_status_says_how_the_access_log_is() {
    let (_world, setup) = site().await;
    let node = setup.clone().start().await;
    let status = node.status().await;
    for log in ["access_log", "log"] {
        assert_eq!((&status[log]["state"], &status[log]["dropped"]), (&"writing".into(), &0.into()), "{status}");
    }
    let node = setup.clone().with_stdout_closed().start().await;
    Client::http1(node.http()).send(&get("/")).await.assert_served_by("here");
    eventually("a dead log", async || {
        let log = node.status().await["access_log"].clone();
        if log["state"] == "failing" && log["since"].as_u64() > Some(0) { Ok(()) } else { Err(log.to_string()) }
    })
    .await;
    let node = setup.without_access_log().start().await;
    assert_eq!(node.status().await["access_log"]["state"], "off");
}

#[tokio::test]
async fn a_hangup_opens_the_logs_anew_and_looks_at_the_files() {
    let (_world, setup) = site().await;
    let node = setup.with_stdout_in_a_file().start().await;
    let client = Client::http1(node.http());
    let lines = async |name: &str, count: usize| {
        eventually(name, async || {
            let text = std::fs::read_to_string(node.path(name)).unwrap_or_default();
            if text.lines().count() == count { Ok(()) } else { Err(text) }
        })
        .await;
    };
    client.send(&get("/")).await.assert_served_by("here");
    lines("access.log", 1).await;
    std::fs::rename(node.path("access.log"), node.path("access.log.1")).expect("a renamed file");
    client.send(&get("/")).await.assert_served_by("here");
    lines("access.log.1", 2).await;
    let skipped = node.log().count();
    node.signal("HUP");
    node.logged_after(skipped, "SIGHUP").await;
    node.logged_after(skipped, "node file applied").await;
    lines("access.log", 0).await;
    client.send(&get("/")).await.assert_served_by("here");
    lines("access.log", 1).await;
    lines("access.log.1", 2).await;
}

/// What a library warns of for each connection of a client, whom it does not name, is not in the log.
#[tokio::test]
async fn clients_do_not_write_the_log() {
    let (_world, setup) = site().await;
    let node = setup.start().await;
    let skipped = node.log().count();
    for _ in 0..20 {
        let mut client = meridian_tests::RawConnection::open(node.http()).await;
        // A PING's answer that nobody has asked for, a frame of no stream, and rubbish.
        client.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        client
            .write([&[0, 0, 0, 4, 0, 0, 0, 0, 0][..], &[0, 0, 8, 6, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]].concat())
            .await;
        client.write([0xff; 64]).await;
        client.read_to_end().await;
    }
    Client::http2(node.http()).send(&get("/")).await.assert_served_by("here");
    let said: Vec<String> = node.log().all().into_iter().skip(skipped).filter(|line| !line.contains("probe")).collect();
    assert_eq!(said, [""; 0]);
}

/// Health is followed, and a table that changes is put in force.
async fn goes_on(world: &World, node: &Node) {
    world.kill("there").await;
    eventually("a region that is down", async || {
        let status = node.status().await;
        let regions = status["regions"].as_array().expect("regions").clone();
        match regions.iter().find(|region| region["name"] == "there") {
            Some(region) if region["health"] != "up" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    node.replace("routes.toml", world.table().replacen("version = \"1\"", "version = \"next\"", 1));
    eventually("the next table", async || {
        let version = node.status().await["table"]["version"].clone();
        if version == "next" { Ok(()) } else { Err(version.to_string()) }
    })
    .await;
    Client::http1(node.http()).send(&get("/")).await.assert_served_by("here");
}

async fn site() -> (World, Setup) {
    let world = World::probed_often(&[("here", "US"), ("there", "US")], "[[routes]]\nname = \"all\"\n").await;
    let setup = Setup::new("here", world.table());
    (world, setup)
}
