//! `meridian check --against`: what changes for whom.

use std::fs;

use meridian_tests::{Ended, Setup, example, run_in, shipped};
use serde_json::Value;
use tempfile::TempDir;

/// A directory with an example as `old.toml`, and as `new.toml` with some texts replaced.
fn changed(name: &str, changes: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let old = shipped(name.trim_end_matches(".toml"));
    let mut new = old.clone();
    for (from, to) in changes {
        assert!(new.contains(from), "{from:?} is not in {name}");
        new = new.replacen(from, to, 1);
    }
    fs::write(directory.path().join("old.toml"), old).expect("a file");
    fs::write(directory.path().join("new.toml"), new).expect("a file");
    fs::copy(example("somaagent-maintenance.html"), directory.path().join("somaagent-maintenance.html"))
        .expect("a file");
    directory
}

fn compare(directory: &TempDir, more: &[&str]) -> Ended {
    run_in(directory.path(), &[&["check", "--against", "old.toml", "new.toml"], more].concat())
}

fn json(directory: &TempDir) -> Value {
    let ended = compare(directory, &["--format", "json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    serde_json::from_str(&ended.stdout).expect("JSON")
}

#[test]
fn the_same_table_is_no_difference() {
    let directory = changed("erlmcp-gcp.toml", &[("2026-11-21.1", "2026-11-21.2")]);
    let ended = compare(&directory, &["--fail-on", "any"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("no difference but the version"), "{}", ended.stdout);
    assert_eq!(json(&directory)["diff"]["law"], serde_json::json!([]));
}

/// Data that no rule bounds may go there; and without cookies, no comment is a difference.
#[test]
fn a_region_in_a_new_country_is_flagged_and_a_comment_is_not() {
    let region = "[regions.cn-north-1]\ncountry = \"CN\"\nendpoints = [\"10.9.0.1:80\"]\n\n[regions.eu-west-1]";
    let directory = changed("somaagent.toml", &[("[regions.eu-west-1]", region)]);
    let ended = compare(&directory, &["--fail-on", "widening"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let line = ended.stdout.lines().find(|line| line.trim_start().starts_with("NEW PLACE")).expect("a new place");
    assert!(line.contains("cn-north-1 in CN"), "{line}");
    assert_eq!(json(&directory)["diff"]["new_places"][0]["country"], "CN");

    let directory = changed("somaagent.toml", &[("[regions.eu-west-1]", "# a comment\n[regions.eu-west-1]")]);
    let ended = compare(&directory, &["--fail-on", "any"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn a_widening_is_flagged_and_fails_a_pipeline() {
    let directory = changed(
        "somaagent.toml",
        &[("allow = { jurisdictions = [\"eu\"] }", "allow = { countries = [\"@EU\", \"US\"] }")],
    );
    let ended = compare(&directory, &[]);
    assert_eq!(ended.code, Some(0), "told, and no failure: {ended:?}");
    let line = ended.stdout.lines().find(|line| line.trim_start().starts_with("WIDER")).expect("a widening");
    for word in ["eu (37 countries)", "\"agents\" (user_data)", "us-west-2", "forbids"] {
        assert!(line.contains(word), "{word}: {line}");
    }
    assert_eq!(ended.stdout.matches("WIDER ").count(), 1, "one change of a rule is one line: {}", ended.stdout);

    for (fail_on, code) in [("widening", 1), ("shrinking", 0), ("any", 1), ("shrinking,widening", 1)] {
        let ended = compare(&directory, &["--fail-on", fail_on]);
        assert_eq!(ended.code, Some(code), "{fail_on}: {ended:?}");
        if code == 1 {
            assert!(ended.stderr.trim_end().lines().last().is_some_and(|line| line.contains("new.toml")), "{ended:?}");
        }
    }
    let report = json(&directory);
    assert_eq!(
        (&report["good"], &report["widening"], &report["shrinking"]),
        (&true.into(), &true.into(), &false.into())
    );
    let change = &report["diff"]["law"][0];
    assert_eq!(change["gained"][0]["region"], "us-west-2");
    assert_eq!(change["who"]["groups"][0]["name"], "eu");
    assert_eq!(change["routes"][0]["new_class"], "user_data");
}

#[test]
fn a_laxer_route_inside_a_strict_one_is_a_widening() {
    let more = "[[routes]]\nname = \"shared\"\npath = \"/v1/agents/shared\"\ndata_class = \"public\"\n\n[[routes]]\nname = \"assets\"";
    let directory = changed("somaagent.toml", &[("[[routes]]\nname = \"assets\"", more)]);
    let ended = compare(&directory, &["--fail-on", "widening"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for words in ["\"agents\", now \"shared\" (public, before user_data) at /v1/agents/shared/*", "taken", "added"] {
        assert!(ended.stdout.contains(words), "{words}: {}", ended.stdout);
    }
}

#[test]
fn stricter_and_elsewhere_are_told_too() {
    let directory = changed(
        "erlmcp-gcp.toml",
        &[
            (
                "allow = [{ jurisdictions = [\"eu\"] }, { regions = [\"europe-west2\"], countries = [\"list:eu_adequacy\"] }]",
                "allow = []",
            ),
            ("name = \"docs\"", "name = \"documents\""),
            ("endpoints = [\"10.1.0.11:8080\", ", "endpoints = ["),
            ("failback_delay = \"300s\"", "failback_delay = \"10s\""),
        ],
    );
    let ended = compare(&directory, &["--fail-on", "widening"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for words in [
        "none left",
        "answered 451",
        "renamed   \"docs\" to \"documents\"",
        "regions.us-central1.endpoints",
        "failover.failback_delay: 300s → 10s",
    ] {
        assert!(ended.stdout.contains(words), "{words}: {}", ended.stdout);
    }
    assert_eq!(compare(&directory, &["--fail-on", "shrinking"]).code, Some(1));
}

#[test]
fn a_node_file_stands_for_its_table() {
    let table = "version = \"1\"\n[regions.here]\ncountry = \"US\"\nendpoints = [\"127.0.0.1:1\"]\n[[routes]]\nname = \"all\"\n";
    let directory = Setup::new("here", table).write();
    let old = table.replace("\"US\"", "\"CA\"");
    fs::write(directory.path().join("old.toml"), old).expect("a file");
    let ended = run_in(directory.path(), &["check", "--against", "old.toml", "node.toml"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("regions.here.country: CA → US"), "{}", ended.stdout);
    let ended = run_in(directory.path(), &["check", "--against", "node.toml", "old.toml"]);
    assert!(ended.stdout.contains("regions.here.country: US → CA"), "{ended:?}");
}

#[test]
fn bad_files_exit_with_2_and_are_named() {
    let directory = changed("erlmcp-gcp.toml", &[]);
    fs::write(directory.path().join("bad.toml"), "[regions").expect("a file");
    for (arguments, expected) in [
        (&["--against", "bad.toml", "new.toml"][..], "bad.toml"),
        (&["--against", "old.toml", "bad.toml"], "bad.toml"),
        (&["--against", "absent.toml", "new.toml"], "absent.toml"),
        (&["--against", "old.toml", "new.toml", "new.toml"], "one FILE"),
        (&["--fail-on", "widening", "new.toml"], "--against"),
        (&["--against", "old.toml", "new.toml", "--fail-on", "everything"], "everything"),
    ] {
        let ended = run_in(directory.path(), &[&["check"], arguments].concat());
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
        assert!(ended.stderr.contains(expected), "{arguments:?}: {ended:?}");
    }
}
