//! Too few descriptors: the node says so, takes fewer clients, and goes on.

use std::process::Command;

use meridian_tests::{Client, Node, RawConnection, Setup, World, eventually, get, run_in};

#[tokio::test]
async fn a_limit_that_is_too_low_is_told_and_leaves_room_for_probes() {
    let world = World::of_regions(&[("here", "US")], "[[routes]]\nname = \"all\"\n").await;
    let node = Setup::new("here", world.table()).with_open_files(400).start().await;
    let told = node.log().all().into_iter().find(|line| line.contains("LimitNOFILE=60512")).expect("a warning");
    assert!(told.contains("no more than 225 connections are accepted"), "{told}");
    let mut open = Vec::new();
    for _ in 0..300 {
        open.push(RawConnection::open(node.http()).await);
    }
    eventually("those that are too many", async || {
        let shed = node.metrics().await.sum("meridian_shed_total", &[("reason", "connections")]);
        if shed == Some(75.0) { Ok(()) } else { Err(format!("{shed:?}")) }
    })
    .await;
    for path in ["/live", "/ready"] {
        assert_eq!(node.ask(&get(path)).await.status, 200, "{path}");
    }
    for connection in open.iter_mut().take(50) {
        connection.write("GET / HTTP/1.1\r\nhost: api.example.com\r\n\r\n").await;
        assert!(connection.read_answer().await.0.starts_with("HTTP/1.1 200"), "a request is served");
    }
}

#[tokio::test]
async fn check_tells_what_to_raise() {
    let world = World::of_regions(&[("here", "US")], "[[routes]]\nname = \"all\"\n").await;
    let setup = Setup::new("here", world.table());
    for (connections, told) in [(1_000_000_000, false), (10, true)] {
        let limits = match told {
            true => "connections = 9000000".to_owned(),
            false => format!("connections = 10\ntunnels = 0\nrequests_in_flight = {}", connections.min(10)),
        };
        let directory = setup.clone().section("limits", &limits).write();
        let ended = run_in(directory.path(), &["check", "node.toml"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(ended.stderr.contains("LimitNOFILE="), told, "{ended:?}");
    }
}

/// The soft limit is no reason to take fewer.
#[tokio::test]
async fn the_soft_limit_is_raised() {
    let world = World::of_regions(&[("here", "US")], "[[routes]]\nname = \"all\"\n").await;
    let node = Setup::new("here", world.table()).start().await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", node.pid())).expect("its limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[3], words[4], "{line}");
}

/// A table, and every other kind of file, that came while nothing could be opened is loaded as soon as it can be.
#[tokio::test]
async fn a_reload_without_descriptors_is_made_up_for() {
    let world = World::of_regions(&[("here", "US")], "[[routes]]\nname = \"all\"\n").await;
    let node = Setup::new("here", world.table()).start().await;
    let client = Client::http1(node.http());
    client.send(&get("/")).await.assert_served_by("here");
    limit(&node, "1");
    let skipped = node.log().count();
    node.replace("routes.toml", world.table().replacen("version = \"1\"", "version = \"next\"", 1));
    node.logged_after(skipped, "routing table rejected").await;
    let file = std::fs::read_to_string(node.path("node.toml")).expect("the node file");
    node.replace("node.toml", file + "# again\n");
    node.logged_after(skipped, "node file rejected").await;
    let database = std::fs::read(node.path("countries.mmdb")).expect("the database");
    node.replace("countries.mmdb", database);
    node.logged_after(skipped, "geo database rejected").await;
    node.log().find_after(skipped, "the cause", |line| line.contains("(os error 24)")).await;
    // A connection that cannot be accepted waits.
    let waiting = RawConnection::open(node.http()).await;
    node.logged_after(skipped, "accept failed").await;
    limit(&node, "20000");
    for message in ["routing table applied", "node file applied", "geo databases applied"] {
        node.logged_after(skipped, message).await;
    }
    eventually("all is good", async || {
        let status = node.status().await;
        let is_good = status["table"]["version"] == "next" && status["rejected"] == serde_json::json!([]);
        if is_good { Ok(()) } else { Err(status["rejected"].to_string()) }
    })
    .await;
    let answer = waiting.exchange("GET / HTTP/1.1\r\nhost: api.example.com\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let errors = node.metrics().await.sum("meridian_local_errors_total", &[("kind", "descriptors")]);
    assert!(errors >= Some(1.0), "{errors:?}");
    let told = node.log().all().iter().filter(|line| line.contains("accept failed")).count();
    assert!(told <= 2, "{told} lines of what is tried twenty times a second");
}

/// Those who take nothing of their answers hold no probe up, and go.
#[tokio::test]
async fn clients_of_the_admin_listener_that_take_nothing_leave_room_for_probes() {
    let world = World::of_regions(&[("here", "US")], "[[routes]]\nname = \"all\"\n").await;
    let table = format!("{}# {}\n", world.table(), "x".repeat(512 * 1024));
    let node = Setup::new("here", &table).start().await;
    let request = format!("GET /table HTTP/1.1\r\nhost: {}\r\n\r\n", node.admin());
    let mut greedy = Vec::new();
    for _ in 0..128 {
        let mut connection = RawConnection::open(node.admin()).await;
        // More answers than the sockets' buffers hold.
        connection.write(request.repeat(8)).await;
        greedy.push(connection);
    }
    for path in ["/live", "/ready"] {
        assert_eq!(node.ask(&get(path)).await.status, 200, "{path}");
    }
    eventually("they are gone", async || match node.ask(&get("/status")).await.status {
        status if status == 200 => Ok(()),
        status => Err(status.to_string()),
    })
    .await;
    drop(greedy);
}

/// Sets the soft limit of a running node: what it has open stays.
fn limit(node: &Node, soft: &str) {
    let done = Command::new("prlimit").args([&format!("--pid={}", node.pid()), &format!("--nofile={soft}:")]).status();
    assert!(done.expect("prlimit of util-linux").success());
}
