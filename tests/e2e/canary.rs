//! A version on trial: who gets it, how its share grows, and what ends it.

use std::collections::BTreeSet;
use std::time::Duration;

use http::StatusCode;
use loadtest::origin::{Behaviour, Origin, OriginConfig};
use meridian_tests::{Answer, Client, Node, Setup, SmallTable, eventually, geo, get};
use serde_json::Value;

#[tokio::test]
async fn a_fixed_weight_splits_the_clients_by_their_hash() {
    let trial = Trial::start().await;
    let table = trial.table("weight = 30");
    let node = Setup::new("here", &table).start().await;
    let split = on_trial(&node, 300).await;
    assert!((70..=110).contains(&split.len()), "{}", split.len());
    assert_eq!(on_trial(&node, 300).await, split, "a client stays with its version");
    let canary = node.status().await["canary"].take();
    assert_eq!(
        (&canary["version"], &canary["state"], &canary["percent"]),
        (&"v2".into(), &"trying".into(), &30.into())
    );
    assert_eq!((&canary["step"], &canary["steps"]), (&1.into(), &serde_json::json!([30])));
    assert_eq!(canary["canary"]["requests"], 2 * split.len());
    assert_eq!(canary["stable"]["requests"], 600 - 2 * split.len());
    assert_eq!((&canary["stable"]["error_rate"], &canary["last_decision"]), (&0.0.into(), &Value::Null));

    // Another node splits them alike, and so does this one with another table.
    let other = Setup::new("here", &table).start().await;
    assert_eq!(on_trial(&other, 300).await, split);
    apply(&node, &trial.table("weight = 60")).await;
    let more = on_trial(&node, 300).await;
    assert!((150..=210).contains(&more.len()) && more.is_superset(&split), "{}", more.len());
    apply(&node, &trial.table("weight = 0")).await;
    assert_eq!(on_trial(&node, 300).await, BTreeSet::new());
}

#[tokio::test]
async fn a_good_canary_goes_step_by_step_and_whom_it_has_it_keeps() {
    let trial = Trial::start().await;
    let steps = "steps = [20, 60, 100]\npace = [\"400ms\", \"200ms\"]\n\
        success = { requests = 30, error_rate = 0.001, p95 = \"10s\" }\nfailure = { error_rate = 0.005, p95 = \"10s\" }";
    let node = Setup::new("here", &trial.table(steps)).start().await;
    let mut had = BTreeSet::new();
    let mut shares = BTreeSet::new();
    let mut requests = 0;
    eventually("the promotion", async || {
        let has = on_trial(&node, 60).await;
        assert!(has.is_superset(&had), "{had:?} had it, {has:?} have it");
        had = has;
        requests += had.len();
        let canary = node.status().await["canary"].take();
        shares.insert(canary["percent"].as_u64());
        if canary["state"] == "promoted" { Ok(()) } else { Err(canary.to_string()) }
    })
    .await;
    assert_eq!(on_trial(&node, 60).await.len(), 60);
    assert_eq!(shares, [Some(20), Some(60), Some(100)].into());

    // Each request counts in one step.
    let mut counted = node.status().await["canary"]["canary"]["requests"].as_u64().expect("a count");
    let mut skipped = 0;
    for (message, percent) in [("canary advanced", 20), ("canary advanced", 60), ("canary promoted", 100)] {
        let event = node.logged_after(skipped, message).await;
        assert_eq!((&event["version"], &event["percent"]), (&"v2".into(), &percent.into()), "{event}");
        let in_step = event["requests"].as_u64().expect("a count");
        assert!(in_step >= 30, "{event}");
        counted += in_step;
        assert!(event["p95_ms"].as_f64().is_some_and(|ms| ms > 0.0) && event["error_rate"] == 0.0, "{event}");
        let lines = node.log().all();
        skipped = 1 + lines.iter().position(|line| serde_json::from_str(line).ok() == Some(event.clone())).expect("it");
    }
    assert_eq!(counted, requests as u64 + 60);
    let metrics = node.metrics().await;
    let decisions =
        |decision| metrics.sum("meridian_canary_decisions_total", &[("version", "v2"), ("decision", decision)]);
    assert_eq!([decisions("advanced"), decisions("promoted"), decisions("ended")], [Some(2.0), Some(1.0), None]);
    assert_eq!(metrics.sum("meridian_canary_share", &[("version", "v2")]), Some(1.0));
}

#[tokio::test]
async fn a_canary_that_fails_is_ended_and_stays_ended_until_the_table_says_otherwise() {
    let trial = Trial::start().await;
    let node = Setup::new("here", &trial.table("steps = [50]")).start().await;
    treat(&trial.canary, Behaviour::Status(StatusCode::INTERNAL_SERVER_ERROR));
    eventually("the end", async || {
        ask(&node, 20).await;
        ended(&node).await
    })
    .await;
    for answer in ask(&node, 100).await {
        assert_eq!((answer.status.as_u16(), served_by(&answer)), (200, "stable".to_owned()));
    }
    let event = node.logged_after(0, "canary ended").await;
    assert_eq!(
        (&event["version"], &event["cause"], &event["percent"]),
        (&"v2".into(), &"error_rate".into(), &50.into())
    );
    assert_eq!((&event["level"], &event["stable_errors"]), (&"WARN".into(), &0.into()), "{event}");
    let canary = node.status().await["canary"].take();
    assert_eq!((&canary["percent"], &canary["step"]), (&0.into(), &Value::Null));
    let decision = canary["last_decision"].as_str().expect("a decision");
    assert!(decision.starts_with("ended at 50 % for its errors: "), "{decision}");
    let metrics = node.metrics().await;
    assert_eq!(metrics.sum("meridian_canary_share", &[("version", "v2")]), Some(0.0));
    assert_eq!(metrics.sum("meridian_canary_decisions_total", &[("decision", "ended")]), Some(1.0));
    let requests = |track, outcome| {
        metrics.sum("meridian_canary_requests_total", &[("version", "v2"), ("track", track), ("outcome", outcome)])
    };
    assert!(requests("canary", "error") >= Some(5.0) && requests("stable", "ok") >= Some(5.0), "{}", metrics.text());
    assert_eq!((requests("canary", "ok"), requests("stable", "error")), (Some(0.0), Some(0.0)));

    // Another table with the same canary does not try it again; one with another does; one with none has nothing to show.
    let elsewhere = trial.table("steps = [50]") + "[[routes]]\nname = \"another\"\npath = \"/another\"\n";
    apply(&node, &elsewhere).await;
    assert_eq!(node.status().await["canary"]["state"], "ended");
    assert_eq!(on_trial(&node, 60).await, BTreeSet::new());
    treat(&trial.canary, Behaviour::Normal);
    apply(&node, &trial.table("steps = [60]")).await;
    let canary = node.status().await["canary"].take();
    assert_eq!((&canary["state"], &canary["canary"]["requests"]), (&"trying".into(), &0.into()));
    assert_eq!(canary["last_decision"], Value::Null);
    apply(&node, &trial.small_table("").text()).await;
    assert_eq!(node.status().await["canary"], Value::Null);
    let metrics = node.metrics().await;
    assert!(!metrics.text().contains("v2"), "{}", metrics.text());
}

#[tokio::test]
async fn a_trouble_of_both_versions_does_not_end_it() {
    let trial = Trial::start().await;
    let table = trial.table("weight = 50\n\n[failover]\noutlier = { consecutive_errors = 1000 }");
    let node = Setup::new("here", &table).start().await;
    treat(&trial.canary, Behaviour::Status(StatusCode::INTERNAL_SERVER_ERROR));
    treat(&trial.stable, Behaviour::Status(StatusCode::INTERNAL_SERVER_ERROR));
    ask(&node, 200).await;
    eventually("a tick has seen all", async || {
        let metrics = node.metrics().await;
        let errors = metrics.sum("meridian_canary_requests_total", &[("outcome", "error")]);
        if errors == Some(200.0) { Ok(()) } else { Err(format!("{errors:?}")) }
    })
    .await;
    let canary = node.status().await["canary"].take();
    assert_eq!((&canary["state"], &canary["percent"]), (&"trying".into(), &50.into()), "{canary}");
    assert_eq!((&canary["canary"]["error_rate"], &canary["canary"]["p95_ms"]), (&1.0.into(), &Value::Null));

    // Once it is over for the stable version alone, it is the canary's own.
    treat(&trial.stable, Behaviour::Normal);
    eventually("the end", async || {
        ask(&node, 50).await;
        ended(&node).await
    })
    .await;
}

#[tokio::test]
async fn a_slow_canary_is_ended_by_its_p95() {
    let trial = Trial::start().await;
    let marks = "weight = 50\nsuccess = { p95 = \"250ms\" }\nfailure = { error_rate = 0.005, p95 = \"250ms\" }";
    let node = Setup::new("here", &trial.table(marks)).start().await;
    treat(&trial.canary, Behaviour::Slow(Duration::from_millis(500)));
    eventually("the end", async || {
        let clients = (0..60).map(|client| {
            let (connect, sent) = (Client::http1(node.http()), get("/").on_behalf_of(geo::address_v6("US", client)));
            tokio::spawn(async move { connect.send(&sent).await })
        });
        for answer in clients.collect::<Vec<_>>() {
            assert_eq!(answer.await.expect("an answer").status, 200);
        }
        ended(&node).await
    })
    .await;
    let event = node.logged_after(0, "canary ended").await;
    assert_eq!((&event["cause"], &event["errors"]), (&"latency_p95".into(), &0.into()), "{event}");
    assert!(event["p95_ms"].as_f64().is_some_and(|ms| ms >= 500.0), "{event}");
    assert!(event["requests"].as_u64().is_some_and(|requests| requests >= 100), "{event}");
    assert_eq!(on_trial(&node, 60).await, BTreeSet::new());
}

#[tokio::test]
async fn clients_of_a_dead_canary_are_served_by_the_stable_version() {
    let trial = Trial::start().await;
    let node = Setup::new("here", &trial.table("weight = 50")).start().await;
    assert!(on_trial(&node, 100).await.len() > 30);
    trial.canary.kill().await;
    for answer in ask(&node, 100).await {
        assert_eq!((answer.status.as_u16(), served_by(&answer)), (200, "stable".to_owned()));
    }
}

#[tokio::test]
async fn a_reload_of_something_else_changes_nothing() {
    let trial = Trial::start().await;
    let table = trial.table("steps = [30, 100]\npace = \"1h\"");
    let node = Setup::new("here", &table).start().await;
    let split = on_trial(&node, 100).await;
    let before = node.status().await["canary"].take();
    assert_eq!(before["canary"]["requests"], split.len());
    let moved = table.replacen("[canary]", "[[routes]]\nname = \"another\"\npath = \"/another\"\n\n[canary]", 1);
    apply(&node, &moved).await;
    let after = node.status().await["canary"].take();
    assert_eq!((&after["canary"], &after["stable"]), (&before["canary"], &before["stable"]));
    assert_eq!(on_trial(&node, 100).await, split);
    apply(&node, &table.replacen("pace = \"1h\"", "pace = \"2h\"", 1)).await;
    let anew = node.status().await["canary"].take();
    assert_eq!((&anew["canary"]["requests"], &anew["stable"]["requests"]), (&0.into(), &0.into()));
    assert_eq!(on_trial(&node, 100).await, split, "the same clients all the same");
}

/// One region with an endpoint of each version.
struct Trial {
    stable: Origin,
    canary: Origin,
}

impl Trial {
    async fn start() -> Trial {
        let origin = async |name| Origin::start(OriginConfig::named(name)).await.expect("a free port");
        Trial { stable: origin("stable").await, canary: origin("canary").await }
    }

    /// With these lines of `[canary]`.
    fn table(&self, lines: &str) -> String {
        self.small_table(&format!("[canary]\nversion = \"v2\"\n{lines}\n")).text()
    }

    fn small_table(&self, rest: &str) -> SmallTable {
        let rest = format!("[[routes]]\nname = \"all\"\n\n{rest}");
        let endpoints = [(self.stable.address(), "v1"), (self.canary.address(), "v2")];
        SmallTable::new(&rest).region_of_versions("here", "US", &endpoints)
    }
}

/// How an origin treats all but health probes.
fn treat(origin: &Origin, behaviour: Behaviour) {
    origin.behave(move |received| if received.path == "/health" { Behaviour::Normal } else { behaviour.clone() });
}

/// What so many clients get, one after the other.
async fn ask(node: &Node, clients: u16) -> Vec<Answer> {
    let mut connection = Client::http1(node.http()).connect().await.expect("a connection");
    let mut answers = Vec::new();
    for client in 0..clients {
        answers.push(connection.send(&get("/").on_behalf_of(geo::address_v6("US", client))).await);
    }
    answers
}

/// Which of so many clients get the version on trial, all of them being served.
async fn on_trial(node: &Node, clients: u16) -> BTreeSet<usize> {
    let answers = ask(node, clients).await;
    answers.iter().for_each(|answer| assert_eq!(answer.status, 200, "{answer:?}"));
    (0..answers.len()).filter(|client| served_by(&answers[*client]) == "canary").collect()
}

fn served_by(answer: &Answer) -> String {
    answer.header("x-origin").expect("an origin")
}

async fn ended(node: &Node) -> Result<(), String> {
    let canary = node.status().await["canary"].take();
    if canary["state"] == "ended" { Ok(()) } else { Err(canary.to_string()) }
}

async fn apply(node: &Node, table: &str) {
    let skipped = node.log().count();
    node.replace("routes.toml", table);
    node.logged_after(skipped, "routing table applied").await;
}
