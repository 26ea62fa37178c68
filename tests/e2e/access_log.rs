//! The access log: one line a request, with the facts and without the secrets.

use std::collections::BTreeMap;
use std::time::Duration;

use loadtest::origin::Behaviour;
use loadtest::{Plan, RequestSpec, Target};
use meridian_tests::{Client, Setup, World, eventually, geo, get, post};
use serde_json::{Value, json};

#[tokio::test]
async fn a_line_has_the_facts_of_its_request() {
    let world = World::of_example("erlmcp-aws").await;
    let node = Setup::new("us-east-1", world.table()).start().await;
    let secret = "token=s3cret&name=J%C3%BCrgen";
    let sent = post(&format!("/mcp/x?{secret}"), "my passport").from("DE").header("authorization", "Bearer s3cret");
    Client::http2(node.http()).send(&sent.header("x-request-id", "id-1")).await.assert_served_by("eu-west-1");
    let text = node.access_log().find("the line", |line| line.contains("id-1")).await;
    assert!(!text.contains("s3cret") && !text.contains("rgen") && !text.contains("passport"), "{text}");
    let line: Value = serde_json::from_str(&text).expect("JSON");
    let client = geo::address("DE", 1).to_string();
    let network = client.rsplit_once('.').map(|(network, _)| format!("{network}.0")).expect("IPv4");
    for (field, value) in [
        ("request_id", json!("id-1")),
        ("client", json!(network)),
        ("countries", json!(["DE"])),
        ("protocol", json!("HTTP/2")),
        ("method", json!("POST")),
        ("host", json!("api.example.com")),
        ("path", json!("/mcp/x")),
        ("route", json!("mcp")),
        ("data_class", json!("customer")),
        ("table_version", json!("2026-11-21.1")),
        ("status", json!(200)),
        ("region", json!("eu-west-1")),
        ("attempts", json!(1)),
        ("response_bytes", json!(2)),
        ("complete", json!(true)),
        ("consent", json!(false)),
        ("reason", json!(null)),
    ] {
        assert_eq!(line[field], value, "{field} in {line:#}");
    }
    let time = line["time"].as_str().expect("a time");
    assert!(time.len() == 24 && time.ends_with('Z') && time.as_bytes()[10] == b'T', "RFC 3339 in ms: {time}");
    assert!(line["duration_ms"].as_f64().is_some_and(|took| took > 0.0));
    assert!(!text.contains(&client), "the address is truncated: {text}");
}

#[tokio::test]
async fn every_request_has_one_line_whatever_becomes_of_it() {
    let world = World::of_example("erlmcp-aws").await;
    let node = Setup::new("us-east-1", world.table()).start().await;
    node.all_up().await;
    world.kill("eu-west-1").await;
    let client = Client::http1(node.http());
    client.send(&get("/mcp").from("US").header("x-request-id", "us")).await.assert_served_by("us-east-1");
    client.send(&get("/mcp").from("DE").header("x-request-id", "de")).await.assert_served_by("eu-central-1");
    world.kill("eu-central-1").await;
    client
        .send(&get("/mcp").from("DE").header("x-request-id", "none"))
        .await
        .assert_refused(503, "residency_unavailable");
    let nowhere = post("/v1/tools", "x").from("US").header("x-request-id", "post");
    client.send(&nowhere).await;
    let v6 = get("/mcp").on_behalf_of(geo::address_v6("US", 7)).header("x-request-id", "v6");
    client.send(&v6).await.assert_served_by("us-east-1");

    let mut lines = BTreeMap::new();
    for id in ["us", "de", "none", "post", "v6"] {
        let text = node.access_log().find(id, |line| line.contains(&format!("\"request_id\":\"{id}\""))).await;
        lines.insert(id, serde_json::from_str::<Value>(&text).expect("JSON"));
    }
    assert!(lines["de"]["attempts"].as_u64().is_some_and(|attempts| attempts > 1), "{}", lines["de"]);
    assert_eq!(lines["none"]["reason"], "residency_unavailable");
    assert_eq!((&lines["none"]["status"], &lines["none"]["region"]), (&json!(503), &json!(null)));
    assert_eq!(lines["v6"]["client"], "2001:db8::", "a /48");
    assert_eq!(node.access_log().count(), 5);
}

#[tokio::test]
async fn addresses_are_as_long_as_the_node_file_says() {
    let world = World::of_regions(&[("here", "US")], "[[routes]]\nname = \"all\"\n").await;
    for (setting, shown) in [("full", json!(geo::address("US", 5).to_string())), ("none", json!(null))] {
        let setup = Setup::new("here", world.table()).section("log", &format!("client_addresses = \"{setting}\""));
        let node = setup.start().await;
        Client::http1(node.http()).send(&get("/").on_behalf_of(geo::address("US", 5))).await.assert_served_by("here");
        let text = node.access_log().find("a line", |_| true).await;
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON")["client"], shown);
    }
}

#[tokio::test]
async fn a_client_cannot_forge_lines() {
    let world = World::of_regions(&[("here", "US")], "[[routes]]\nname = \"all\"\n").await;
    let node = Setup::new("here", world.table()).start().await;
    let client = Client::http1(node.http());
    client.send(&get("/%0A%7B%22status%22:200%7D%22,%22x%22:%22")).await;
    client.send(&get("/").header("x-request-id", "x\\ny").host("api.example.com")).await;
    client.send(&get("/last")).await;
    node.access_log().find("the last line", |line| line.contains("/last")).await;
    // Those of another worker are another write.
    let lines = eventually("all lines", async || match node.access_log().all() {
        lines if lines.len() >= 3 => Ok(lines),
        lines => Err(format!("{lines:?}")),
    })
    .await;
    assert_eq!(lines.len(), 3);
    for line in lines {
        assert!(serde_json::from_str::<Value>(&line).is_ok_and(|line| line["path"].is_string()), "{line}");
    }
}

#[tokio::test]
async fn silence_is_silence() {
    let world = World::of_regions(&[("here", "US")], "[[routes]]\nname = \"all\"\n").await;
    let mut node = Setup::new("here", world.table()).without_access_log().start().await;
    for _ in 0..10 {
        Client::http1(node.http()).send(&get("/")).await.assert_served_by("here");
    }
    node.signal("TERM");
    node.exited().await;
    assert_eq!(node.access_log().to_end().await, [""; 0]);
}

/// Nobody reads stdout: requests are served, lines are dropped and counted, and the node still ends on request, with a
/// word on how many lines are lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_reader_stops_nothing() {
    let world = World::of_regions(&[("here", "US")], "[[routes]]\nname = \"all\"\n").await;
    let mut node = Setup::new("here", world.table()).with_stdout_unread().start().await;
    // Each line is longer than 4 KB: the pipe is full at once, the queue after some 1,000 lines.
    let path = format!("/{}", "x".repeat(4096));
    let plan = Plan { connections: 16, ..Plan::new(Target::http1(node.http()), 4_000.0, Duration::from_secs(3)) };
    let plan = Plan { timeout: Duration::from_secs(60), ..plan };
    let report = loadtest::run(&plan, |_| RequestSpec::get("api.example.com", path.clone()), |_| {}).await;
    let report = report.expect("a sound plan");
    assert_eq!((report.answered, report.statuses.get(&200)), (12_000, Some(&12_000)), "{report}");
    let dropped = node.metrics().await.sum("meridian_access_log_dropped_total", &[]).expect("a counter");
    assert!(dropped > 1_000.0, "{dropped:?}");
    node.signal("TERM");
    assert_eq!(node.exited().await.code(), Some(0));
    let lost = node.logged_after(0, "the last lines of the access log are lost").await["lines"].as_f64();
    // Of the lines that were being written, the pipe has some, and they are among the lost.
    node.read_access_log();
    let written = node.access_log().to_end().await.len() as f64;
    let all = dropped + lost.expect("a number") + written;
    assert!((12_000.0..=12_010.0).contains(&all), "{dropped} dropped, {lost:?} lost, {written} written");
}

/// What a reader that was behind reads later is whole lines, and each of them once.
#[tokio::test]
async fn a_late_reader_gets_whole_lines() {
    let world = World::of_regions(&[("here", "US")], "[[routes]]\nname = \"all\"\n").await;
    let mut node = Setup::new("here", world.table()).with_stdout_unread().start().await;
    let long = "x".repeat(4096);
    let mut connection = Client::http1(node.http()).connect().await.expect("a connection");
    for number in 0..100 {
        connection.send(&get(&format!("/{number}/{long}"))).await.assert_served_by("here");
    }
    node.read_access_log();
    node.access_log().find("the last line", |line| line.contains("\"path\":\"/99/")).await;
    let lines = node.access_log().all();
    assert_eq!(lines.len(), 100);
    for (number, line) in lines.iter().enumerate() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(line["path"], format!("/{number}/{long}"));
    }
}

#[tokio::test]
async fn the_last_lines_are_written_at_the_end() {
    for (signal, cut) in [("TERM", false), ("INT", true)] {
        let world = World::of_regions(&[("here", "US")], "[[routes]]\nname = \"all\"\n").await;
        let mut node = Setup::new("here", world.table()).start().await;
        let mut connection = Client::http1(node.http()).connect().await.expect("a connection");
        for _ in 0..20 {
            connection.send(&get("/")).await.assert_served_by("here");
        }
        drop(connection);
        let mut waiting = None;
        if cut {
            world.behave("here", &Behaviour::Stall);
            let stuck = Client::http1(node.http());
            waiting = Some(tokio::spawn(async move { stuck.try_send(&get("/stuck")).await }));
            eventually("it is on its way", async || match world.received("here").len() {
                21 => Ok(()),
                count => Err(count.to_string()),
            })
            .await;
        }
        node.signal(signal);
        node.exited().await;
        let lines = node.access_log().to_end().await;
        let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let answered = lines.iter().filter(|line| line["path"] == "/" && line["status"] == 200);
        assert_eq!(answered.count(), 20, "after {signal}: {lines:#?}");
        let stuck = lines.iter().filter(|line| line["path"] == "/stuck" && line["complete"] == false);
        assert_eq!(stuck.count(), usize::from(cut), "after {signal}: {lines:#?}");
        if let Some(waiting) = waiting {
            assert!(waiting.await.expect("no panic").is_err(), "it was cut");
        }
    }
}

#[tokio::test]
async fn a_reader_that_is_gone_is_told_of_once() {
    let world = World::of_regions(&[("here", "US")], "[[routes]]\nname = \"all\"\n").await;
    let mut node = Setup::new("here", world.table()).with_stdout_closed().start().await;
    let client = Client::http1(node.http());
    for _ in 0..3 {
        client.send(&get("/")).await.assert_served_by("here");
    }
    let told = node.logged_after(0, "the access log cannot be written to stdout").await;
    assert!(told["error"].as_str().is_some_and(|error| error.contains("Broken pipe")), "{told}");
    client.send(&get("/")).await.assert_served_by("here");
    node.signal("TERM");
    assert_eq!(node.exited().await.code(), Some(0));
    assert_eq!(node.logged_after(0, "the last lines of the access log are lost").await["lines"], 4);
    let told = node.log().all().iter().filter(|line| line.contains("cannot be written to stdout")).count();
    assert_eq!(told, 1);
}
