//! `meridian publish`: what is refused before anything is written, who wins, and whether the nodes have it.

use meridian_tests::{BusServer, Running, run};
use serde_json::Value;

use super::edge::{Edge, assert_says, without};

#[tokio::test]
async fn a_bad_table_is_told_with_its_line_and_nothing_is_written() {
    let edge = Edge::new().await;
    let bad = edge.table("1").replacen("country = \"DE\"", "country = \"DEUTSCHLAND\"", 1);
    let ended = edge.publish(&bad, &["--yes"]).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let line = bad.lines().position(|line| line.contains("DEUTSCHLAND")).expect("a line") + 1;
    assert_says(&ended.stderr, &[&format!("routes.toml:{line}:"), "regions.a.country"]);
    let ended = edge.run(&["publish", "/nowhere/routes.toml"]).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_says(&ended.stderr, &["/nowhere/routes.toml"]);
    assert!(edge.bus.probe().await.get("table").await.is_none());
}

#[tokio::test]
async fn without_a_bus_it_fails_and_says_which() {
    let edge = Edge::new().await;
    let path = edge.write("routes.toml", &edge.table("1"));
    let mut gone = BusServer::start().await;
    gone.kill();
    for command in [&["publish", path.as_str(), "--yes"][..], &["rollback", "--yes"], &["history"], &["fleet"]] {
        let ended = Running::start(&[command, &["--bus", &gone.url()]].concat()).ended().await;
        assert_eq!(ended.code, Some(1), "{command:?} {ended:?}");
        assert_says(&ended.stderr, &["cannot connect to", &gone.address().to_string()]);
    }
    let ended = run(&["publish", &path, "--bus", "localhost"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_says(&ended.stderr, &["nats://127.0.0.1:4222"]);
}

#[tokio::test]
async fn a_table_is_compared_asked_for_and_in_force_on_every_node() {
    let (edge, _a, _b) = Edge::with_two_nodes().await;
    let wider = edge.table("2").replace("allow = { regions = [\"a\"] }", "allow = { regions = [\"a\", \"b\"] }");

    let ended = edge.publish(&wider, &[]).await;
    assert_eq!(ended.code, Some(2), "nobody was asked: {ended:?}");
    assert_says(&ended.stdout, &["WIDER", "held", "revision 1"]);
    assert_says(&ended.stderr, &["publish a revision after 1 to 2 nodes?", "--yes", "--dry-run"]);

    let ended = edge.publish(&wider, &["--dry-run"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_says(&ended.stdout, &["WIDER", "a dry run: nothing was written"]);
    assert_eq!(edge.live().await, edge.table("1"));

    let ended = edge.publish(&wider, &["--yes", "--note", "for the French"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_says(&ended.stdout, &["WIDER", "is in force on 2 nodes"]);
    edge.all_have(&["a-1", "b-1"], "2").await;
    assert_eq!(edge.live().await, wider);

    let before = edge.json(&["history"]).await;
    let ended = edge.publish(&wider, &["--yes"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_says(&ended.stdout, &["nothing to publish"]);
    assert_eq!(edge.json(&["history"]).await, before);
    assert_eq!(before.1[0]["note"], "for the French");
}

/// An emergency goes the way of every table, shows whom it refuses, and waits for no other word, whatever it takes away.
#[tokio::test]
async fn an_emergency_is_published_and_taken_back() {
    let (edge, a, b) = Edge::with_two_nodes().await;
    let everything = "\n[emergency]\nread_only = \"all\"\nshed = \"default\"\npage_text = \"<p>later\"\n";
    let ended = edge.publish(&(edge.table("2") + everything), &["--yes"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_says(&ended.stdout, &["emergency.read_only: everybody's writes are refused", "is in force on 2 nodes"]);
    edge.all_have(&["a-1", "b-1"], "2").await;
    for node in [&a, &b] {
        assert_eq!(node.status().await["emergency"]["read_only"], "all");
    }
    let ended = edge.publish(&edge.table("3"), &["--yes"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    edge.all_have(&["a-1", "b-1"], "3").await;
    for node in [&a, &b] {
        assert_eq!(node.status().await["emergency"], Value::Null);
    }
}

#[tokio::test]
async fn the_first_table_makes_the_bucket_and_its_outcome_is_one_document() {
    let edge = Edge::new().await;
    edge.bus.probe().await.delete_bucket().await;
    let path = edge.write("routes.toml", &edge.table("1"));

    let (code, outcome) = edge.json(&["publish", &path, "--yes", "--new-epoch"]).await;
    assert_eq!((code, &outcome["outcome"]), (Some(0), &"published".into()), "{outcome}");
    let expected = [("revision", 1), ("after", 0), ("epoch", 1)];
    expected.iter().for_each(|(field, value)| assert_eq!(outcome[field], *value, "{field}: {outcome}"));
    assert_eq!((&outcome["version"], &outcome["error"]), (&"1".into(), &Value::Null), "{outcome}");
    let _node = edge.node("a-1", "a").await;
    edge.all_have(&["a-1"], "1").await;

    let (code, outcome) = edge.json(&["publish", &path, "--yes"]).await;
    assert_eq!((code, &outcome["outcome"], &outcome["revision"]), (Some(0), &"unchanged".into(), &1.into()));

    let path = edge.write("routes.toml", &edge.table("2"));
    let (code, outcome) = edge.json(&["publish", &path, "--yes"]).await;
    assert_eq!((code, &outcome["nodes"]["applied"]), (Some(0), &serde_json::json!(["a-1"])), "{outcome}");
    assert!(outcome["took_ms"].is_u64() && outcome["diff"].is_object(), "{outcome}");
    let (code, outcome) = edge.json(&["publish", &edge.write("routes.toml", &edge.table("3"))]).await;
    assert_eq!((code, &outcome["outcome"]), (Some(2), &"not_published".into()), "{outcome}");
    assert!(outcome["error"].as_str().expect("an error").contains("--yes"), "{outcome}");
}

/// Both have compared with the same revision when they are told to go on.
#[tokio::test]
async fn of_two_publishers_one_wins_and_the_other_is_told() {
    let edge = Edge::new().await;
    edge.published("0").await;
    for round in 1..=3 {
        let versions = [format!("{round}-left"), format!("{round}-right")];
        let mut publishers: Vec<Running> = Vec::new();
        for version in &versions {
            let path = edge.write(&format!("{version}.toml"), &edge.table(version));
            publishers.push(Running::on_terminal(&["publish", &path, "--bus", &edge.bus.url()]));
        }
        for publisher in &publishers {
            publisher.stdout().find("the difference", |line| line.contains("no difference but the version")).await;
        }
        publishers.iter_mut().for_each(|publisher| publisher.answer("y"));
        let mut ended = Vec::new();
        for publisher in &mut publishers {
            ended.push(publisher.ended().await);
        }
        let codes: Vec<Option<i32>> = ended.iter().map(|ended| ended.code).collect();
        let winner = codes.iter().position(|code| *code == Some(0)).unwrap_or_else(|| panic!("{ended:?}"));
        let loser = 1 - winner;
        assert_eq!(codes[loser], Some(1), "{ended:?}");
        assert_eq!(edge.live().await, edge.table(&versions[winner]));
        let (_, history) = edge.json(&["history"]).await;
        assert_eq!(history.as_array().expect("rows").len(), round + 1, "{history}");
        let by = history[0]["by"].as_str().expect("a name");
        let first = format!("version \"{}\"", versions[winner]);
        assert_says(&ended[loser].stdout, &["nothing was written", by, &first, "meridian history"]);
    }
}

#[tokio::test]
async fn whoever_says_no_at_the_terminal_writes_nothing() {
    let edge = Edge::new().await;
    edge.published("1").await;
    let path = edge.write("routes.toml", &edge.table("2"));
    for answer in ["n", ""] {
        let mut publisher = Running::on_terminal(&["publish", &path, "--bus", &edge.bus.url()]);
        publisher.answer(answer);
        let ended = publisher.ended().await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert_says(&ended.stdout, &["though no node reports yet? [y/N]", "nothing was written"]);
    }
    assert_eq!(edge.live().await, edge.table("1"));
}

#[tokio::test]
async fn what_takes_most_away_is_refused_until_it_is_allowed() {
    let (edge, _a, _b) = Edge::with_two_nodes().await;
    edge.published("2").await;
    // Of three regions one takes clients.
    let table = edge.table("3").replacen("priority = 1\n", "priority = 1\nweight = 0\n", 1);
    let small = table.replacen("priority = 2\n", "priority = 2\nweight = 0\n", 1);
    let ended = edge.publish(&small, &["--yes"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_says(&ended.stderr, &["takes away more than 50 %", "fleet", "add --allow-shrink fleet"]);
    assert_eq!(edge.live().await, edge.table("2"));
    let (code, outcome) = edge.json(&["publish", &edge.write("routes.toml", &small), "--yes"]).await;
    assert_eq!((code, outcome["shrinkage"].as_array().map(Vec::len)), (Some(1), Some(1)), "{outcome}");

    let ended = edge.publish(&small, &["--yes", "--allow-shrink", "fleet"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    edge.all_have(&["a-1", "b-1"], "3").await;
    assert_says(&edge.run(&["history"]).await.stdout, &["allows fleet to shrink"]);
}

#[tokio::test]
async fn a_node_that_rejects_the_table_is_named_and_a_rollback_puts_it_right() {
    let (edge, _a, b) = Edge::with_two_nodes().await;
    let ended = edge.publish(&without(&edge.table("2"), "b"), &["--yes"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_says(&ended.stderr, &["b-1 rejects it:", "\"b\"", "1 of 2 nodes reject it", "meridian rollback"]);
    assert!(!ended.stderr.contains("a-1 rejects"), "{ended:?}");
    assert_eq!(b.status().await["table"]["version"], "1", "it stays on the table before");

    let fleet = edge.run(&["fleet", "--fail-on", "rejected"]).await;
    assert_eq!(fleet.code, Some(1), "{fleet:?}");
    assert_says(&fleet.stdout, &["rejected", "b-1 rejects revision", "2 nodes: 1 on revision", "1 rejected"]);
    assert_says(&fleet.stderr, &["b-1"]);

    let ended = edge.run(&["rollback", "--yes"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_says(&ended.stdout, &["is in force on 2 nodes"]);
    edge.assert_good("a-1", "1").await;
    edge.assert_good("b-1", "1").await;
    assert_eq!(edge.run(&["fleet", "--fail-on", "rejected,lagging,silent"]).await.code, Some(0));
}

#[tokio::test]
async fn a_bucket_that_was_wiped_needs_a_new_epoch() {
    let (mut edge, _a, _b) = Edge::with_two_nodes().await;
    edge.published("2").await;
    edge.published("3").await;
    edge.bus.wipe();
    edge.bus.revive().await;
    edge.bus.probe().await.create_bucket().await;
    edge.all_have(&["a-1", "b-1"], "3").await;
    let ended = edge.publish(&edge.table("4"), &["--yes"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_says(&ended.stderr, &["made anew", "with --new-epoch"]);
    assert!(edge.bus.probe().await.get("table").await.is_none(), "nothing was written");
    let ended = edge.publish(&edge.table("4"), &["--yes", "--new-epoch"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_says(&ended.stdout, &["is in force on 2 nodes"]);
    assert_eq!(edge.report("a-1").await.epoch, 2);
    // And the epoch is carried forward.
    edge.published("5").await;
    edge.all_have(&["a-1", "b-1"], "5").await;
}

/// A node that nobody would know as one at a gateway does not take a table with gateways, and its publisher hears why.
#[tokio::test]
async fn a_table_with_gateways_is_refused_by_nodes_without_peers() {
    let (edge, a, b) = Edge::with_two_nodes().await;
    let gateways = edge.table("2").replacen("[regions.a]\n", "[regions.a]\ngateway = \"gw.example.com:443\"\n", 1);
    assert!(gateways.contains("gateway"), "{gateways}");
    let ended = edge.publish(&gateways, &["--yes"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_says(&(ended.stdout + &ended.stderr), &["regions.a.gateway", "[peers]"]);
    for node in [&a, &b] {
        assert_eq!(node.status().await["table"]["version"], "1", "it stays on the table before");
    }
}
