//! A law with dates, denials and control: what origins receive before and after a date, and what the commands say.

use std::fs;
use std::time::{Duration, SystemTime};

use meridian_tests::{Client, Ended, Setup, World, eventually, example, get, run, run_in};
use serde_json::Value;
use tempfile::TempDir;

/// Everything is personal, and the rule of the Union is this.
fn law(rule: &str) -> String {
    format!(
        "[jurisdictions.eu]\ncountries = [\"@EU\"]\n[residency_defaults]\nunlisted_jurisdiction = \"allow\"\n\
         [[residency]]\njurisdiction = \"eu\"\ndata_classes = [\"personal\"]\n{rule}\n\
         [[routes]]\nname = \"all\"\ndata_class = \"personal\"\nconsent_header = \"x-consent\"\n"
    )
}

/// A time that many seconds from now, as a table has it.
fn in_seconds(seconds: u64) -> String {
    let then = SystemTime::now() + Duration::from_secs(seconds);
    let since = then.duration_since(SystemTime::UNIX_EPOCH).expect("a time after 1970");
    policy::Moment::from_unix_seconds(i64::try_from(since.as_secs()).expect("a time")).to_string()
}

#[tokio::test]
async fn what_a_rule_opens_is_closed_at_the_moment_it_ends() {
    let ends = in_seconds(8);
    let rule =
        format!("allow = {{ countries = [\"@EU\", \"GB\"] }}\ntransfer = \"with_consent\"\nvalid_until = \"{ends}\"");
    let world = World::of_regions(&[("gb", "GB"), ("us", "US"), ("eu", "DE")], &law(&rule)).await;
    let node = Setup::new("gb", world.table()).start().await;
    let client = Client::http1(node.http());
    let ask = async |consent: &str| client.send(&get("/").from("DE").header("x-consent", consent)).await;
    ask("no").await.assert_served_by("gb");

    let status = node.status().await;
    assert_eq!(status["law"]["next_boundary"], ends.as_str(), "{status:#}");
    let left = node.metrics().await.sum("meridian_law_boundary_seconds", &[]).expect("the series");
    assert!((0.0..=8.0).contains(&left), "{left}");

    eventually("the law changes by date", async || {
        let crossed = node.metrics().await.sum("meridian_table_reloads_total", &[("outcome", "boundary")]);
        if crossed == Some(1.0) { Ok(()) } else { Err(format!("{crossed:?}")) }
    })
    .await;
    let before = [world.received("gb").len(), world.received("us").len()];
    for consent in ["no", "granted"] {
        ask(consent).await.assert_served_by("eu");
    }
    world.kill("eu").await;
    for consent in ["no", "granted"] {
        ask(consent).await.assert_refused(503, "residency_unavailable");
    }
    assert_eq!([world.received("gb").len(), world.received("us").len()], before, "closed, with consent and without");
    let metrics = node.metrics().await;
    assert_eq!(metrics.sum("meridian_law_boundary_seconds", &[]), Some(f64::INFINITY));
    assert_eq!(metrics.sum("data_residency_violations_total", &[]), Some(0.0));
    assert_eq!(node.status().await["law"]["next_boundary"], Value::Null);
}

#[tokio::test]
async fn what_a_rule_denies_is_never_reached() {
    let operated = |country: &str| format!("operator = {{ name = \"Cloud\", country = \"{country}\" }}");
    let rule =
        "allow = { countries = [\"@EU\"] }\ntransfer = \"with_consent\"\ndeny = { operator_countries = [\"US\"] }";
    let world = World::of_regions(&[("de", "DE"), ("fr", "FR"), ("br", "BR")], &law(rule)).await;
    let mut table = world.table().to_owned();
    for (region, operator) in [("de", "US"), ("fr", "FR"), ("br", "US")] {
        let head = format!("[regions.{region}]\n");
        table = table.replace(&head, &format!("{head}{}\n", operated(operator)));
    }
    let node = Setup::new("de", &table).start().await;
    let client = Client::http1(node.http());
    let ask = async || client.send(&get("/").from("DE").header("x-consent", "granted")).await;
    ask().await.assert_served_by("fr");
    world.kill("fr").await;
    ask().await.assert_refused(503, "residency_unavailable");
    world.assert_nothing_outside(&["fr"]);
    let clear = client.send(&get("/").from("JP")).await;
    clear.assert_served_by("de");
}

/// A directory with tables of three regions by name, each with its rule.
fn tables(rules: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, rule) in rules {
        let regions: String = [("de", "DE"), ("gb", "GB"), ("us", "US")]
            .map(|(name, country)| {
                format!("[regions.{name}]\ncountry = \"{country}\"\nendpoints = [\"{name}.example:80\"]\n")
            })
            .concat();
        fs::write(directory.path().join(name), format!("{regions}{}", law(rule))).expect("a file");
    }
    directory
}

fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

#[test]
fn what_the_calendar_will_bring_is_told() {
    let day = 86_400;
    let (ends, later) = (in_seconds(10 * day), in_seconds(500 * day));
    let rule = format!(
        "allow = {{ countries = [\"@EU\", \"GB\"] }}\nvalid_until = \"{ends}\"\n\
         [[residency]]\njurisdiction = \"eu\"\ndata_classes = [\"personal\"]\n\
         allow = {{ countries = [\"@EU\", \"US\"] }}\nvalid_from = \"{later}\""
    );
    let directory = tables(&[("t.toml", &rule)]);
    let near = run_in(directory.path(), &["check", "--horizon", "400d", "t.toml"]);
    assert_eq!(near.code, Some(0), "{near:?}");
    assert!(near.stdout.contains(&ends) && !near.stdout.contains(&later), "{}", near.stdout);
    let line = near.stdout.lines().find(|line| line.contains("no longer to gb")).expect("who loses");
    assert!(line.contains("loses") && line.contains("eu (") && line.contains("\"all\" (personal)"), "{line}");
    let far = json(&run_in(directory.path(), &["check", "--horizon", "600d", "--format", "json", "t.toml"]));
    let changes = far["files"][0]["horizon"]["changes"].as_array().expect("a list").clone();
    assert_eq!(changes.len(), 2, "{far:#}");
    assert_eq!((&changes[0]["at"], &changes[0]["law"][0]["lost"]), (&Value::from(ends), &serde_json::json!(["gb"])));
    assert_eq!(changes[1]["law"][0]["gained"][0]["region"], "us");
    let none = run_in(directory.path(), &["check", "--horizon", "5d", "t.toml"]);
    assert!(none.stdout.contains("no date of this table changes"), "{}", none.stdout);
}

#[test]
fn a_later_end_is_a_widening() {
    let day = 86_400;
    let rule = |days: u64| {
        format!("allow = {{ countries = [\"@EU\", \"GB\"] }}\nvalid_until = \"{}\"", in_seconds(days * day))
    };
    let directory = tables(&[("old.toml", &rule(10)), ("new.toml", &rule(20))]);
    let compare =
        |old: &str, new: &str| run_in(directory.path(), &["check", "--against", old, new, "--fail-on", "widening"]);
    let widened = compare("old.toml", "new.toml");
    assert_eq!(widened.code, Some(1), "{widened:?}");
    assert!(
        widened.stdout.contains("where requests may go from ") && widened.stdout.contains("WIDER"),
        "{}",
        widened.stdout
    );
    assert!(widened.stdout.contains("; until "), "the dates themselves: {}", widened.stdout);
    let narrowed = compare("new.toml", "old.toml");
    assert_eq!(narrowed.code, Some(0), "{narrowed:?}");
}

#[test]
fn a_decision_is_explained_as_of_a_day() {
    let table = example("erlmcp-gcp.toml").display().to_string();
    let at = |day: &str, more: &[&str]| {
        let asked = [
            &["explain", "--table", &table, "--from", "europe-west2", "--country", "DE", "--host", "api.example.com"][..],
            &["--path", "/v3/identity", "--at", day],
            more,
        ];
        run(&asked.concat())
    };
    let allowed = |day: &str| {
        let told = json(&at(day, &["--format", "json"]));
        told["allowed"].as_array().expect("a list").iter().any(|name| name == "europe-west2")
    };
    assert!(allowed("2031-12-26T23:59:59Z"), "the decision on the United Kingdom still holds");
    assert!(!allowed("2031-12-27"), "it is over");
    let page = at("2031-12-26", &[]).stdout;
    assert!(page.contains("the next date of this table is 2031-12-27"), "{page}");
    assert_eq!(at("27.12.2031", &[]).code, Some(2));
}

#[test]
fn rules_that_do_not_bind_are_explained_with_their_dates() {
    let rule = "allow = { countries = [\"@EU\", \"GB\"] }\nvalid_until = \"2030-01-01\"\n\
        [[residency]]\njurisdiction = \"eu\"\ndata_classes = [\"personal\"]\n\
        allow = { countries = [\"@EU\"] }\ndeny = { countries = [\"US\"] }\ntransfer = \"allowed\"\nvalid_from = \"2030-06-01\"";
    let directory = tables(&[("t.toml", rule)]);
    let at = |day: &str| {
        let asked = ["explain", "--table", "t.toml", "--from", "de", "--country", "DE", "--at", day];
        let ended = run_in(directory.path(), &asked);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stdout.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let page = at("2029-01-01");
    assert!(
        page.contains("(until 2030-01-01): only de, gb") && page.contains("not in force before 2030-06-01"),
        "{page}"
    );
    let page = at("2030-03-01");
    assert!(page.contains("OVER since 2030-01-01") && page.contains("only de"), "{page}");
    assert!(page.contains("the rule is over since 2030-01-01, and opens nothing any more"), "{page}");
    let page = at("2031-01-01");
    assert!(page.contains("over since 2030-01-01, when line") && page.contains("never us"), "{page}");
    assert!(page.contains("denied by the rule, it is in US"), "{page}");
}

#[test]
fn a_log_is_decided_by_the_law_of_its_time() {
    let directory = tables(&[("t.toml", "allow = { countries = [\"@EU\", \"GB\"] }\nvalid_until = \"2025-06-01\"")]);
    let line = |time: &str| {
        serde_json::json!({
            "time": time, "countries": ["DE"], "client_key": "00000000000000ff", "method": "GET", "host": "any",
            "path": "/", "from": "gb", "route": "all", "status": 200, "region": "gb",
        })
        .to_string()
    };
    let log = ["2025-05-31T23:59:59Z", "2025-06-01T00:00:00Z", "2025-05-01T00:00:00Z"].map(line).join("\n");
    fs::write(directory.path().join("log.jsonl"), log + "\n").expect("a file");
    let forbidden = |more: &[&str]| {
        let asked = [&["replay", "--log", "log.jsonl", "--table", "t.toml", "--format", "json"], more].concat();
        json(&run_in(directory.path(), &asked))["residency"]["forbidden"]["requests"].clone()
    };
    assert_eq!(forbidden(&[]), 1, "the one after the end");
    assert_eq!(forbidden(&["--at", "2025-01-01"]), 0);
    assert_eq!(forbidden(&["--at", "2026-01-01"]), 3);
}
