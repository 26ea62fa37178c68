//! `meridian geo`: what databases know, where they disagree, and what changes from one to the next.

use std::fs;
use std::path::Path;

use meridian_tests::{Ended, geo, run_in};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Personal data of the Union stays there, and Switzerland's in Switzerland; a client that nobody knows gets both.
const TABLE: &str = r#"
version = "law-1"
regions.us-1 = { country = "US", endpoints = ["127.0.0.1:1"] }
regions.eu-1 = { country = "IE", endpoints = ["127.0.0.1:1"] }
regions.ch-1 = { country = "CH", endpoints = ["127.0.0.1:1"] }
jurisdictions.eu = { countries = ["@EU"] }
jurisdictions.ch = { countries = ["CH"] }
residency_defaults = { unlisted_jurisdiction = "allow" }

[[residency]]
jurisdiction = "eu"
data_classes = ["personal"]
allow = { countries = ["@EU"] }

[[residency]]
jurisdiction = "ch"
data_classes = ["personal"]
allow = { countries = ["CH"] }

[[routes]]
name = "api"
path = "/api"
data_class = "personal"

[[routes]]
name = "site"
data_class = "public"
"#;

const OLD: &[(&str, &str)] =
    &[("20.0.0.0/16", "DE"), ("20.1.0.0/16", "US"), ("20.2.0.0/16", "FR"), ("2a02::/32", "DE"), ("2a03::/32", "US")];

/// Half of Germany is American, France is gone, Brazil has come, and the American /32 is Swiss.
const NEW: &[(&str, &str)] = &[
    ("20.0.0.0/17", "DE"),
    ("20.0.128.0/17", "US"),
    ("20.1.0.0/16", "US"),
    ("20.3.0.0/16", "BR"),
    ("2a02::/32", "DE"),
    ("2a03::/32", "CH"),
];

/// A directory with `old.mmdb`, `new.mmdb`, `routes.toml`, and `access.jsonl` of these clients and data classes.
fn directory(clients: &[(Option<&str>, &str)]) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, content: &[u8]| fs::write(directory.path().join(name), content).expect("a file");
    write("old.mmdb", &geo::database_of(OLD, 1_767_225_600));
    write("new.mmdb", &geo::database_of(NEW, 1_769_904_000));
    write("routes.toml", TABLE.as_bytes());
    let line = |(client, class): &(Option<&str>, &str)| {
        json!({
            "time": "2026-11-20T10:00:00.500Z", "client": client, "countries": [], "client_key": "00000000000000ff",
            "method": "GET", "host": "h", "path": "/api", "route": "api", "data_class": class, "status": 200,
        })
        .to_string()
    };
    let lines: Vec<String> = clients.iter().map(line).collect();
    write("access.jsonl", (lines.join("\n") + "\n").as_bytes());
    directory
}

fn compare(directory: &Path, more: &[&str]) -> Ended {
    run_in(directory, &[&["geo", "compare", "old.mmdb", "new.mmdb"], more].concat())
}

fn json_of(ended: &Ended) -> Value {
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    serde_json::from_str(&ended.stdout).expect("JSON")
}

/// `FROM → TO: /24s of IPv4, requests, first example` of each flow.
fn flows(flows: &Value) -> Vec<String> {
    let words = |names: &Value| {
        names
            .as_array()
            .expect("a list")
            .iter()
            .map(|name| name.as_str().expect("a name"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let flow = |flow: &Value| {
        let regions = flow.get("regions").map_or(String::new(), |regions| format!(" ({})", words(regions)));
        let (slash24s, requests, example) = (&flow["ipv4_slash24s"], &flow["requests"], &flow["examples"][0]);
        format!("{} → {}{regions}: {slash24s}, {requests}, {example}", words(&flow["from"]), words(&flow["to"]))
            .replace('"', "")
    };
    flows["flows"].as_array().expect("a list").iter().map(flow).collect()
}

#[test]
fn what_changes_from_one_database_to_the_next_is_told() {
    let directory = directory(&[]);
    let report = json_of(&compare(directory.path(), &["--format", "json"]));
    assert_eq!(report["old"]["built"], "2026-01-01");
    assert_eq!(
        (&report["new"]["build_epoch"], &report["new"]["kind"]),
        (&json!(1_769_904_000), &json!("GeoLite2-Country"))
    );
    assert_eq!((&report["table"], &report["law"], &report["log"]), (&Value::Null, &Value::Null, &Value::Null));
    let assigned = &report["assigned"];
    assert_eq!((&assigned["ipv4_slash24s"], &assigned["ipv6_slash48s"]), (&json!(1024.0), &json!(131_072.0)));
    let countries = &report["countries"];
    assert_eq!(countries["same"]["ipv4_share"], 384.0 / 1024.0);
    assert_eq!(
        (&countries["changed"]["ipv4_share"], &countries["changed"]["ipv6_share"]),
        (&json!(0.125), &json!(0.5))
    );
    assert_eq!(flows(&countries["changed"]), ["US → CH: 0.0, 0, 2a03::/32", "DE → US: 128.0, 0, 20.0.128.0/17"]);
    assert_eq!(flows(&countries["lost"]), ["FR → unknown: 256.0, 0, 20.2.0.0/16"]);
    assert_eq!(flows(&countries["gained"]), ["unknown → BR: 256.0, 0, 20.3.0.0/16"]);
    assert_eq!(flows(&report["union"]["leaves"]), ["DE → US: 128.0, 0, 20.0.128.0/17"]);
    assert_eq!(flows(&report["union"]["lost"]), ["FR → unknown: 256.0, 0, 20.2.0.0/16"]);
    assert!(flows(&report["union"]["joins"]).is_empty());

    let text = compare(directory.path(), &[]).stdout;
    for words in ["built 2026-01-01", "DE → US", "e.g. 20.0.128.0/17", "leaves the Union", "12.50 %", "IPv6 /48s"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains("requests"), "there is no log: {text}");
    let same = run_in(directory.path(), &["geo", "compare", "old.mmdb", "old.mmdb", "--fail-on", "leaves-union"]);
    assert_eq!(same.code, Some(0), "{same:?}");
    assert!(same.stdout.contains("100.00 %"), "{same:?}");
}

#[test]
fn a_table_says_for_whom_and_a_log_for_how_many() {
    let clients = [
        (Some("20.0.200.0"), "personal"),
        (Some("20.0.200.0"), "personal"),
        (Some("20.0.200.0"), "public"),
        (Some("20.0.1.0"), "personal"),
        (Some("2a03:0:7::"), "personal"),
        // As 6to4 carries it.
        (Some("2002:1402:0301::"), "personal"),
        (Some("10.0.0.0"), "personal"),
        (None, "personal"),
    ];
    let directory = directory(&clients);
    let log = fs::read_to_string(directory.path().join("access.jsonl")).expect("the log");
    fs::write(directory.path().join("access.jsonl"), format!("nonsense\n{log}")).expect("a file");
    let report =
        json_of(&compare(directory.path(), &["--table", "routes.toml", "--log", "access.jsonl", "--format", "json"]));
    assert_eq!(report["table"], json!({ "file": "routes.toml", "version": "law-1" }));
    assert_eq!(
        report["log"],
        json!({
            "file": "access.jsonl", "requests": 7, "unreadable": 1, "without_address": 1, "left_out": 0, "unassigned": 1
        })
    );
    let jurisdictions = &report["law"]["jurisdictions"];
    assert_eq!(jurisdictions["requests_share"], 0.833_333_333);
    assert_eq!(
        flows(jurisdictions),
        [
            "eu → unlisted: 128.0, 3, 20.0.128.0/17",
            "unlisted → ch: 0.0, 1, 2a03::/32",
            "eu → unknown: 256.0, 1, 20.2.0.0/16",
            "unknown → unlisted: 256.0, 0, 20.3.0.0/16",
        ]
    );
    let classes = report["law"]["classes"].as_array().expect("a list");
    assert_eq!((&classes[0]["name"], &classes[0]["routes"]), (&json!("personal"), &json!(["api"])));
    assert_eq!(
        flows(&classes[0]["widened"]),
        [
            "eu → unlisted (ch-1 us-1): 128.0, 2, 20.0.128.0/17",
            "unknown → unlisted (ch-1 eu-1 us-1): 256.0, 0, 20.3.0.0/16",
        ]
    );
    assert_eq!(
        flows(&classes[0]["narrowed"]),
        ["unlisted → ch (eu-1 us-1): 0.0, 1, 2a03::/32", "eu → unknown (eu-1): 256.0, 1, 20.2.0.0/16"]
    );
    assert_eq!(flows(&classes[0]["refused"]), ["eu → unknown: 256.0, 1, 20.2.0.0/16"]);
    assert_eq!(flows(&classes[0]["served"]), ["unknown → unlisted: 256.0, 0, 20.3.0.0/16"]);
    assert_eq!(classes[1]["name"], "public");
    for kind in ["widened", "narrowed", "refused", "served"] {
        assert!(flows(&classes[1][kind]).is_empty(), "{kind}");
    }

    let text = compare(directory.path(), &["--table", "routes.toml", "--log", "access.jsonl"]).stdout;
    for words in [
        "access.jsonl: 7 requests",
        "1 from addresses that no database has",
        "under routes.toml, version \"law-1\"",
        "data class personal (api)",
        "WIDER",
        "gain ch-1, us-1",
        "REFUSED",
        "data class public (site): nothing changes",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn a_pipeline_lets_pass_what_it_puts_up_with() {
    let directory = directory(&[]);
    for (more, code, said) in [
        (&["--fail-on", "leaves-union"][..], 1, "12.50 % of clients leave the Union"),
        (&["--fail-on", "leaves-union", "--max-change", "12.5%"], 0, ""),
        (&["--table", "routes.toml", "--fail-on", "widening"], 1, "37.50 % of clients may go where they could not"),
        (&["--table", "routes.toml", "--fail-on", "refused"], 1, "25.00 % of clients have no region"),
        (&["--table", "routes.toml", "--fail-on", "moved", "--max-change", "10%"], 1, "62.50 % of clients come under"),
        (&["--table", "routes.toml", "--fail-on", "widening,refused,moved", "--max-change", "63%"], 0, ""),
        (&["--fail-on", "widening"], 2, "--table"),
        (&["--max-change", "much"], 2, "2%"),
        (&["--table", "absent.toml"], 2, "absent.toml"),
        (&["--log", "absent.jsonl"], 2, "absent.jsonl"),
        (&["--log", "routes.toml"], 2, "no line of it can be read"),
        (&["--beside", "routes.toml"], 2, "routes.toml"),
    ] {
        let ended = compare(directory.path(), more);
        assert_eq!(ended.code, Some(code), "{more:?}: {ended:?}");
        assert!(ended.stderr.contains(said), "{more:?}: {ended:?}");
    }
    let hidden = self::directory(&[(None, "personal")]);
    let ended = compare(hidden.path(), &["--log", "access.jsonl"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("log.client_addresses"), "{ended:?}");
    let absent = run_in(directory.path(), &["geo", "compare", "absent.mmdb", "routes.toml"]);
    assert_eq!(absent.code, Some(2), "{absent:?}");
    assert!(absent.stderr.contains("absent.mmdb") && absent.stderr.contains("routes.toml"), "all at once: {absent:?}");
}

/// What stands beside both databases speaks with each, as on the node.
#[test]
fn other_databases_count_with_both() {
    let directory = directory(&[]);
    let write = |name: &str, content: &[u8]| fs::write(directory.path().join(name), content).expect("a file");
    // It contradicts the old one's Germany, so that half of it was DE or US before, and is US now.
    write("beside.mmdb", &geo::database_of(&[("20.0.128.0/17", "US")], 1));
    let more = ["--beside", "beside.mmdb", "--table", "routes.toml", "--format", "json"];
    let report = json_of(&compare(directory.path(), &more));
    assert_eq!(report["beside"][0]["file"], "beside.mmdb");
    assert_eq!(flows(&report["union"]["leaves"]), ["DE US → US: 128.0, 0, 20.0.128.0/17"]);
    assert!(
        flows(&report["law"]["jurisdictions"]).contains(&"eu unlisted → unlisted: 128.0, 0, 20.0.128.0/17".to_owned())
    );
}

fn check(directory: &Path, more: &[&str]) -> Ended {
    run_in(directory, &[&["geo", "check"], more].concat())
}

#[test]
fn what_sources_know_and_where_they_disagree_is_told() {
    let directory = directory(&[(Some("20.1.7.0"), "personal"), (Some("20.0.1.0"), "personal")]);
    let write = |name: &str, content: &[u8]| fs::write(directory.path().join(name), content).expect("a file");
    // The other source: America's is Swiss, so is France's; it knows no IPv6.
    write("other.mmdb", &geo::database_of(&[("20.0.0.0/16", "DE"), ("20.1.0.0/16", "CH"), ("20.2.0.0/17", "CH")], 5));
    let files = ["old.mmdb", "other.mmdb", "--table", "routes.toml", "--log", "access.jsonl"];
    let report = json_of(&check(directory.path(), &[&files[..], &["--format", "json"]].concat()));
    assert_eq!(report["assigned"]["ipv4_slash24s"], 768.0);
    let [first, second] = [&report["sources"][0], &report["sources"][1]];
    assert_eq!((&first["known"]["ipv4_share"], &first["countries"]), (&json!(1.0), &json!(3)));
    assert_eq!(first["tells"], json!(["country", "region", "city"]));
    assert_eq!((&second["known"]["ipv4_slash24s"], &second["known"]["ipv6_share"]), (&json!(640.0), &json!(0.0)));
    assert_eq!(report["known"]["ipv4_share"], 1.0);
    assert_eq!(report["disputed"]["ipv4_slash24s"], 384.0);
    assert_eq!(
        (&report["union"]["any"]["ipv4_slash24s"], &report["union"]["disputed"]["ipv4_share"]),
        (&json!(512.0), &json!(0.25))
    );
    let pair = &report["pairs"][0];
    assert_eq!((&pair["sources"], &pair["both"]["ipv4_slash24s"]), (&json!([0, 1]), &json!(640.0)));
    assert_eq!(
        (&pair["other_country"]["ipv4_share"], &pair["other_side_of_union"]["ipv4_share"]),
        (&json!(0.6), &json!(0.2))
    );
    let price = &report["price"][0];
    assert_eq!(price["class"], "personal");
    assert_eq!(
        flows(&price["narrowed"]),
        ["unlisted → ch unlisted (eu-1 us-1): 256.0, 1, 20.1.0.0/16", "eu → ch eu (eu-1): 128.0, 0, 20.2.0.0/17",]
    );
    assert_eq!(flows(&price["refused"]), ["eu → ch eu: 128.0, 0, 20.2.0.0/17"]);
    assert_eq!(price["refused_alone"][1]["ipv4_slash24s"], 128.0, "what the second does not know");
    assert_eq!(
        (&price["refused_first"]["ipv4_slash24s"], &price["refused_all"]["ipv4_slash24s"]),
        (&json!(0.0), &json!(128.0))
    );

    let text = check(directory.path(), &files).stdout;
    for words in [
        "1  old.mmdb",
        "tells country, region, city; 3 countries",
        "country known to 2",
        "1 and 2: in the Union or not",
        "of that: not for another",
        "by disagreement: REFUSED",
        "e.g. 20.2.0.0/17",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let alone = check(directory.path(), &["old.mmdb"]);
    assert_eq!(alone.code, Some(0), "{alone:?}");
    assert!(!alone.stdout.contains("disagree"), "{alone:?}");
    for (arguments, said) in
        [(&["routes.toml"][..], "routes.toml"), (&["old.mmdb", "--table", "new.mmdb"], "new.mmdb"), (&[], "FILE")]
    {
        let ended = check(directory.path(), arguments);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(said), "{ended:?}");
    }
}
