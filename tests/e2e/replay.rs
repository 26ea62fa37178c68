//! `meridian replay`: yesterday's requests, decided again.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use meridian_tests::{Client, Ended, Setup, World, example, get, meridian, run, run_in};
use serde_json::{Value, json};
use tempfile::TempDir;

const GDPR: &str = "allow = { jurisdictions = [\"eu\"] }";

/// A line of a log; `more` replaces fields.
fn line(country: &str, path: &str, more: &Value) -> String {
    let mut line = json!({
        "time": "2026-11-20T10:00:00.500Z", "request_id": "1", "client": null,
        "countries": if country.is_empty() { vec![] } else { vec![country] },
        "client_key": "00000000000000ff", "protocol": "HTTP/2", "method": "GET", "host": "api.example.com", "path": path,
        "consent": false, "declared": [], "pinned": null, "from": "us-west-2", "route": "agents",
        "data_class": "user_data", "table_version": "1", "status": 200, "reason": null, "region": "eu-west-1",
        "attempts": 1, "safeguards": false, "duration_ms": 1.0, "response_bytes": 2, "complete": true,
    });
    for (key, value) in more.as_object().expect("an object") {
        line[key] = value.clone();
    }
    line.to_string()
}

/// A directory with the two regions of somaagent as `old.toml`, as `new.toml` with a text replaced, and a log.
fn directory(from: &str, to: &str, lines: &[String]) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let old = fs::read_to_string(example("somaagent.toml")).expect("the example");
    assert!(old.contains(from), "{from}");
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).expect("a file");
    write("old.toml", &old);
    write("new.toml", &old.replacen(from, to, 1));
    write("access.jsonl", &(lines.join("\n") + "\n"));
    fs::copy(example("somaagent-maintenance.html"), directory.path().join("somaagent-maintenance.html"))
        .expect("a file");
    directory
}

fn replay(directory: &Path, more: &[&str]) -> Ended {
    run_in(directory, &[&["replay", "--log", "access.jsonl", "--table", "new.toml"], more].concat())
}

fn report(directory: &Path, more: &[&str]) -> Value {
    let ended = replay(directory, &[more, &["--format", "json"]].concat());
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    serde_json::from_str(&ended.stdout).expect("JSON")
}

fn paths() -> Vec<String> {
    let mut lines: Vec<String> = (0..30).map(|_| line("DE", "/v1/agents/x", &json!({}))).collect();
    lines.extend((0..10).map(|_| line("US", "/v1/agents/x", &json!({ "region": "us-west-2" }))));
    lines
}

/// What could not be decided may hide anything: a pipeline is not told that all is well.
#[test]
fn what_is_left_out_is_no_all_clear() {
    let gone = line("DE", "/v1/agents/x", &json!({ "from": "gone-1" }));
    let directory = directory("2026-11-21.1", "2026-11-21.2", &[gone]);
    let ended = replay(directory.path(), &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("nothing was decided, so nothing is known"), "{}", ended.stdout);
    let ended = replay(directory.path(), &["--against", "old.toml", "--fail-on", "widening"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("could not be decided"), "{}", ended.stderr);
}

#[test]
fn the_same_table_changes_nothing() {
    let directory = directory("2026-11-21.1", "2026-11-21.2", &paths());
    for against in [&["--against", "old.toml"][..], &[]] {
        let report = report(directory.path(), against);
        assert_eq!(report["unchanged"], 40, "{report:#}");
        assert_eq!((&report["moved"]["requests"], &report["refused"]["requests"]), (&json!(0), &json!(0)));
        assert_eq!(report["residency"]["forbidden"]["requests"], 0);
        assert_eq!(report["lines"]["decided"], 40);
    }
    let all = ["--against", "old.toml", "--fail-on", "widening,refused,moved"];
    assert_eq!(replay(directory.path(), &all).code, Some(0));
}

#[test]
fn a_wider_law_moves_requests_and_is_flagged_with_a_command_that_explains() {
    let wider = "allow = { regions = [\"us-west-2\"] }";
    let directory = directory(GDPR, wider, &paths());
    let report = report(directory.path(), &["--against", "old.toml"]);
    assert_eq!(report["moved"]["requests"], 30);
    assert_eq!(report["moved"]["by"][0]["from"], "eu-west-1");
    assert_eq!(report["moved"]["by"][0]["to"], "us-west-2");
    let widened = &report["residency"]["widened"];
    assert_eq!(widened["requests"], 30);
    assert_eq!(
        (&widened["by"][0]["jurisdictions"], &widened["by"][0]["data_class"]),
        (&json!("eu"), &json!("user_data"))
    );
    assert_eq!(widened["by"][0]["example"]["line"], 1);
    assert_eq!(report["residency"]["forbidden"]["requests"], 30, "they were served in eu-west-1");
    assert!(report["latency_ms"]["before"]["mean"].as_f64() > report["latency_ms"]["after"]["mean"].as_f64());
    assert_eq!(report["latency_ms"]["before"]["p95"], 130.0);
    let american = report["capacity"].as_array().expect("a list").iter().find(|each| each["region"] == "us-west-2");
    let american = american.expect("the region");
    assert_eq!((&american["peak_before"], &american["peak_after"]), (&json!(10), &json!(40)));

    // The command is one to paste.
    let explain = widened["by"][0]["example"]["explain"].as_str().expect("a command");
    let command = explain.replacen("meridian", &meridian().display().to_string(), 1);
    let output = Command::new("sh").args(["-c", &command]).current_dir(directory.path()).output().expect("a shell");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("FORWARD to us-west-2"), "{explain}: {output:?}");

    let text = replay(directory.path(), &["--against", "old.toml"]).stdout;
    for words in ["moved", "eu-west-1 → us-west-2", "WIDER     30 requests", "FORBIDDEN 30 requests", "130.0", explain]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    for what in ["widening", "moved"] {
        let ended = replay(directory.path(), &["--against", "old.toml", "--fail-on", what]);
        assert_eq!(ended.code, Some(1), "{what}: {ended:?}");
        assert!(ended.stderr.contains("30 request"), "{ended:?}");
    }
    assert_eq!(replay(directory.path(), &["--against", "old.toml", "--fail-on", "refused"]).code, Some(0));
}

#[test]
fn what_if_a_region_is_down_or_too_small() {
    let directory = directory("capacity_rps = 20000", "capacity_rps = 25", &paths());
    let down = report(directory.path(), &["--against", "old.toml", "--down", "eu-west-1"]);
    assert_eq!(down["refused"]["requests"], 30);
    assert_eq!(
        (&down["refused"]["by"][0]["status"], &down["refused"]["by"][0]["reason"]),
        (&json!(503), &json!("residency_unavailable"))
    );
    assert_eq!(down["residency"]["widened"]["requests"], 0);
    assert_eq!(replay(directory.path(), &["--down", "eu-west-1", "--fail-on", "refused"]).code, Some(1));
    let all_american: Vec<String> =
        (0..26).map(|_| line("US", "/v1/agents/x", &json!({ "region": "us-west-2" }))).collect();
    fs::write(directory.path().join("access.jsonl"), all_american.join("\n")).expect("a file");
    let report = report(directory.path(), &["--load", "eu-west-1=0.5"]);
    assert_eq!(
        report["capacity"][0],
        json!({
            "region": "us-west-2", "peak_before": 26, "peak_after": 26, "capacity_rps": 25.0, "exceeded": true
        })
    );
    assert!(replay(directory.path(), &[]).stdout.contains("EXCEEDED"));
}

#[test]
fn bad_lines_are_counted_and_passed_over() {
    let nothing = json!({ "route": null, "region": null, "status": 308 });
    let overloaded = json!({ "region": null, "status": 503, "reason": "overloaded" });
    let lines = [
        String::new(),
        "Starting up".to_owned(),
        line("DE", "/v1/agents/x", &json!({ "time": "9999999-01-01", "client_key": "zz" })),
        "{\"time\":1}".to_owned(),
        line("DE", "/v1/agents/x", &nothing),
        line("DE", "/v1/agents/x", &overloaded),
        line("DE", "/v1/agents/x", &json!({ "from": "us-gone-1" })),
        line("", "/v1/agents/%zz", &json!({})),
        line("DE", "/v1/agents/x", &json!({ "declared": ["nobody"] })),
    ];
    let directory = directory("2026-11-21.1", "2", &lines);
    let report = report(directory.path(), &[]);
    assert_eq!(
        report["lines"],
        json!({
            "readable": 6, "unreadable": 2, "decided": 4, "never_decided": 1, "undecidable": 1
        })
    );
    assert!(report["unreadable"].as_str().is_some_and(|first| first.starts_with("line 2:")), "{report:#}");
    assert!(report["undecidable"].as_str().is_some_and(|first| first.contains("us-gone-1")), "{report:#}");
    assert_eq!(report["failed_otherwise"], 1);
    assert_eq!(report["refused"]["by"][0]["reason"], "bad_request");
}

#[test]
fn old_logs_need_the_region_that_decided() {
    let mut old: Value = serde_json::from_str(&line("DE", "/v1/agents/x", &json!({}))).expect("JSON");
    for key in ["from", "declared", "pinned"] {
        old.as_object_mut().expect("an object").remove(key);
    }
    let directory = directory("2026-11-21.1", "2", &[String::new(), old.to_string()]);
    let ended = replay(directory.path(), &[]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("line 2") && ended.stderr.contains("--from"), "{ended:?}");
    assert_eq!(report(directory.path(), &["--from", "eu-west-1"])["unchanged"], 1);
}

#[test]
fn a_log_can_come_by_stdin() {
    let directory = directory("2026-11-21.1", "2", &paths());
    let log = fs::File::open(directory.path().join("access.jsonl")).expect("the log");
    let output = Command::new(meridian())
        .args(["replay", "--log", "-", "--table", "new.toml"])
        .current_dir(directory.path())
        .stdin(Stdio::from(log))
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("40 decided again"), "{output:?}");
}

#[test]
fn bad_input_exits_with_2() {
    let directory = directory("2026-11-21.1", "2", &["nonsense".to_owned()]);
    for (more, expected) in [
        (&[][..], "line 1"),
        (&["--down", "eu-west1"], "did you mean \"eu-west-1\""),
        (&["--load", "eu-west-1"], "REGION=0.9"),
        (&["--from", "nowhere"], "nowhere"),
        (&["--fail-on", "widening"], "--against"),
        (&["--against", "absent.toml"], "absent.toml"),
    ] {
        let ended = replay(directory.path(), more);
        assert_eq!(ended.code, Some(2), "{more:?}: {ended:?}");
        assert!(ended.stderr.contains(expected), "{more:?}: {ended:?}");
    }
    let absent =
        run(&["replay", "--log", "absent.jsonl", "--table", example("somaagent.toml").to_str().expect("UTF-8")]);
    assert_eq!(absent.code, Some(2), "{absent:?}");
    assert!(absent.stderr.contains("absent.jsonl"), "{absent:?}");
}

/// What a node writes is what a replay reads: the same table decides the same again.
#[tokio::test]
async fn the_log_of_a_node_is_replayed_as_it_was() {
    let world = World::of_example("erlmcp-aws").await;
    let node = Setup::new("us-east-1", world.table()).start().await;
    let client = Client::http1(node.http());
    for (country, id) in [("DE", "a"), ("US", "b"), ("FR", "c"), ("JP", "d")] {
        client.send(&get("/mcp?x=1").from(country).header("x-request-id", id)).await;
        node.access_log().find(id, |line| line.contains(&format!("\"request_id\":\"{id}\""))).await;
    }
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("access.jsonl"), node.access_log().all().join("\n")).expect("a file");
    fs::write(directory.path().join("new.toml"), world.table()).expect("a file");
    let report = report(directory.path(), &[]);
    assert_eq!((&report["lines"]["decided"], &report["unchanged"]), (&json!(4), &json!(4)), "{report:#}");
}

/// A log of before `latency_from = "client"` says nothing of where clients are: that nobody moves is not known of it.
#[test]
fn requests_without_coordinates_are_no_proof_where_the_new_table_goes_by_clients() {
    let near = json!({ "coordinates": [52.5, 13.4] });
    let lines: Vec<String> = (0..3).map(|_| line("DE", "/v1/agents/x", &json!({}))).collect();
    let known: Vec<String> = (0..3).map(|_| line("DE", "/v1/agents/x", &near)).collect();
    let directory = directory("2026-11-21.1", "2", &lines);
    let new = fs::read_to_string(directory.path().join("new.toml")).expect("the table");
    let new = format!("{new}\n[scoring.balanced]\nlatency_from = \"client\"\n");
    fs::write(directory.path().join("new.toml"), new).expect("a file");
    let told = report(directory.path(), &[]);
    assert_eq!((&told["by_client"], &told["without_coordinates"]), (&json!(3), &json!(3)), "{told:#}");
    let ended = replay(directory.path(), &["--fail-on", "moved"]);
    assert!(ended.code != Some(0) && ended.stderr.contains("no coordinates"), "{ended:?}");
    assert!(ended.stdout.contains("3 of 3 on routes that go by how far clients are"), "{ended:?}");
    fs::write(directory.path().join("access.jsonl"), known.join("\n") + "\n").expect("a file");
    assert_eq!(replay(directory.path(), &["--fail-on", "moved"]).code, Some(0));
}
