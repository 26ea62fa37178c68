//! The command line: good input is told so, bad input is told where and what to do.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use meridian_tests::{Authority, Ended, Setup, World, example, example_names, geo, meridian, run, run_in};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::admin::has_the_contracts_fields;

#[test]
fn every_example_is_good() {
    // With what the node file's reader is told to bring.
    let root: TempDir = tempfile::tempdir().expect("a directory");
    let directory = root.path().join("examples");
    for (from, to) in [(example(""), &directory), (example("../lists"), &root.path().join("lists"))] {
        fs::create_dir(to).expect("a directory");
        for entry in from.read_dir().expect("files") {
            let entry = entry.expect("an entry");
            fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
        }
    }
    let (certificates, nodes) = (directory.join("certs"), Authority::default());
    fs::create_dir(&certificates).expect("a directory");
    fs::write(certificates.join("peers-ca.pem"), nodes.pem()).expect("a file");
    nodes.certify(&["eu-1.nodes.example.com"]).write(&certificates, "node");
    for name in example_names() {
        let ended = run_in(&directory, &["check", &name]);
        assert_eq!(ended.code, Some(0), "{name}: {ended:?}");
        assert!(ended.stdout.contains("good"), "{name}: {ended:?}");
    }
    let names = example_names();
    let mut arguments = vec!["check", "--format", "json"];
    arguments.extend(names.iter().map(String::as_str));
    let ended = run_in(&directory, &arguments);
    assert_eq!(ended.code, Some(0));
    let report: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!(report["good"], true);
    for problem in report["problems"].as_array().expect("a list") {
        assert_eq!(problem["severity"], "warning", "{problem}");
    }
}

#[test]
fn groups_tell_their_members_and_who_says_so() {
    let ended = run(&["groups"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("@EU ") && ended.stdout.contains(" 34  "), "{ended:?}");
    let ended = run(&["groups", "@EU"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for words in ["34 countries", "355(1)", "Réunion RE", "Åland Islands AX", "Germany DE"] {
        assert!(ended.stdout.contains(words), "{words}: {ended:?}");
    }
    let ended = run(&["groups", "eea", "@UK", "--format", "json"]);
    let groups: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!((&groups[0]["name"], &groups[0]["count"]), (&json!("@EEA"), &json!(37)));
    assert_eq!(groups[1]["members"][0], json!({ "code": "GB", "name": GREAT_BRITAIN }));
    assert!(groups[1]["source"].as_str().is_some_and(|source| source.contains("adequacy")), "{groups:#}");
    let ended = run(&["groups", "@UE"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("\"@UE\"") && ended.stderr.contains("@EU, @EEA"), "{ended:?}");
}

const GREAT_BRITAIN: &str = "United Kingdom of Great Britain and Northern Ireland";

#[test]
fn check_names_whom_no_jurisdiction_lists() {
    let path = example("somaagent.toml");
    let ended = run(&["check", path.to_str().expect("UTF-8")]);
    let all = "no rule applies to user_data of clients in the 212 countries that no jurisdiction lists";
    assert!(ended.stdout.contains(all), "{ended:?}");
    assert!(
        ended.stdout.contains(GREAT_BRITAIN) && ended.stdout.contains("Antarctica (1): Antarctica AQ"),
        "{ended:?}"
    );
    assert!(!ended.stdout.contains("Réunion") && !ended.stdout.contains("Norway"), "{ended:?}");
    let ended = run(&["check", "--format", "json", path.to_str().expect("UTF-8")]);
    let report: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let unlisted = &report["files"][0]["unlisted"];
    assert_eq!((&unlisted["count"], &unlisted["data_classes"]), (&json!(212), &json!(["user_data"])));
    assert!(unlisted["countries"].to_string().contains("{\"code\":\"BR\",\"name\":\"Brazil\"}"), "{unlisted:#}");
}

/// A node with everything, in which one thing at a time is spoiled.
#[test]
fn a_bad_file_is_told_where_and_what_to_do() {
    let authority = Authority::default();
    let (good, other) = (authority.certify(&["api.example.com"]), authority.certify(&["api.example.com"]));
    let setup = Setup::new("here", TABLE).plain().tls(&[&good]);
    let node = setup.node_file();
    let database = geo::database();
    for (what, file, content, expected) in [
        ("no node file", "node.toml", None, &["node.toml"][..]),
        ("no table", "routes.toml", None, &["routes.toml"]),
        ("no certificate", "tls-0.pem", None, &["tls-0.pem"]),
        ("no key", "tls-0-key.pem", None, &["tls-0-key.pem"]),
        ("no database", "countries.mmdb", None, &["countries.mmdb"]),
        ("another's key", "tls-0-key.pem", Some(other.key_pem.clone().into()), &["tls-0-key.pem", "belong"]),
        ("an empty certificate", "tls-0.pem", Some(Vec::new()), &["tls-0.pem"]),
        (
            "a cut database",
            "countries.mmdb",
            Some(database[..database.len() / 2].to_vec()),
            &["countries.mmdb", "damaged"],
        ),
        ("no database at all", "countries.mmdb", Some(b"<html>".to_vec()), &["countries.mmdb", "damaged"]),
        (
            "an unknown key",
            "node.toml",
            Some(node.replacen("trusted_proxies", "trusted_proxy", 1).into()),
            &["node.toml:", "geoip.trusted_proxy", "did you mean \"trusted_proxies\""],
        ),
        (
            "an unknown region",
            "node.toml",
            Some(node.replacen("region = \"here\"", "region = \"hear\"", 1).into()),
            &["node.toml", "node.region", "hear", "here"],
        ),
        (
            "two listeners on one port",
            "node.toml",
            Some(node.replacen("127.0.0.1:0", "0.0.0.0:8080", 1).replacen("127.0.0.1:0", "127.0.0.1:8080", 1).into()),
            &["node.toml:", "listeners[1].address", "127.0.0.1:8080", "taken"],
        ),
        (
            "the admin's port",
            "node.toml",
            Some(node.replace("127.0.0.1:0", "127.0.0.1:8080").into()),
            &["node.toml:", "listeners[0].address", "taken", "admin"],
        ),
        ("a broken line", "node.toml", Some(node.replacen("threads = 2", "threads = two", 1).into()), &["node.toml:4"]),
        (
            "a duration without a unit",
            "node.toml",
            Some(format!("{node}[limits]\nkeep_alive = 75\n").into()),
            &["limits.keep_alive", "75"],
        ),
        (
            "an unknown key in the table",
            "routes.toml",
            Some(TABLE.replacen("countries =", "country =", 1).into()),
            &["routes.toml:9", "jurisdictions.us.country", "did you mean \"countries\""],
        ),
        (
            "an unknown region in the table",
            "routes.toml",
            Some(TABLE.replacen("regions = [\"here\"]", "regions = [\"heere\"]", 1).into()),
            &["routes.toml:14", "heere", "did you mean \"here\""],
        ),
        (
            "an unknown country",
            "routes.toml",
            Some(TABLE.replacen("country = \"US\"", "country = \"XX\"", 1).into()),
            &["routes.toml:4", "regions.here.country", "XX"],
        ),
        (
            "a class that nothing protects by a typo",
            "routes.toml",
            Some(TABLE.replacen("data_class = \"personal\"", "data_class = \"persnal\"", 1).into()),
            &["routes.toml", "persnal", "personal"],
        ),
        (
            "nobody served",
            "routes.toml",
            Some(TABLE.replace("country =", "state = \"disabled\"\ncountry =").into()),
            &["routes.toml", "refuse every request"],
        ),
        ("binary", "routes.toml", Some(vec![0, 159, 146, 150]), &["routes.toml"]),
    ] {
        let directory = setup.write();
        spoil(directory.path(), file, content);
        let ended = run_in(directory.path(), &["check", "node.toml"]);
        assert_eq!(ended.code, Some(2), "{what}: {ended:?}");
        for word in expected {
            assert!(ended.stderr.contains(word), "{what}: no {word:?} in {}", ended.stderr);
        }
        assert!(!ended.stderr.contains("panicked"), "{what}: {}", ended.stderr);
        // A run says the same and does not begin.
        let ended = run_in(directory.path(), &["run", "--config", "node.toml"]);
        assert_eq!(ended.code, Some(2), "{what}: {ended:?}");
        for word in expected {
            assert!(ended.stderr.contains(word), "{what}: no {word:?} in {}", ended.stderr);
        }
    }
}

/// One that is valid is enough for a listener; the others are told, and served once they are.
#[test]
fn a_certificate_that_is_not_valid_is_a_warning_beside_one_that_is() {
    let authority = Authority::default();
    let names = &["api.example.com"];
    let (good, expired) = (authority.certify(names), authority.certify_expired(names));
    let next = authority.certify_until(names, Duration::from_secs(3600), Duration::from_secs(7200));
    let directory = Setup::new("here", TABLE).tls(&[&expired, &next, &good]).write();
    let ended = run_in(directory.path(), &["check", "node.toml"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for part in [
        "tls-0.pem: warning: listeners[0].tls.certificates: the certificate has expired, at 2020-12-31T00",
        "tls-1.pem: warning",
        "not valid before 20",
    ] {
        assert!(ended.stderr.contains(part), "no {part:?} in {}", ended.stderr);
    }
    assert!(!ended.stderr.contains("tls-2.pem"), "{}", ended.stderr);
    for command in [&["check", "node.toml"][..], &["run", "--config", "node.toml"]] {
        let directory = Setup::new("here", TABLE).tls(&[&expired, &next]).write();
        let ended = run_in(directory.path(), command);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        for part in
            ["tls-0.pem: error", "has expired", "tls-1.pem: error", "not valid before", "no other that is valid"]
        {
            assert!(ended.stderr.contains(part), "no {part:?} in {}", ended.stderr);
        }
    }
}

/// A listener on all addresses is on each of this machine's.
#[test]
fn an_endpoint_that_is_a_listener_is_a_warning() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).expect("a file");
    let table = |endpoint: &str| {
        format!(
            "version = \"1\"\n[regions.here]\ncountry = \"US\"\nendpoints = [\"{endpoint}\"]\n[[routes]]\n\
             name = \"all\"\n"
        )
    };
    let node = "[node]\nname = \"n\"\nregion = \"here\"\n[[listeners]]\naddress = \"0.0.0.0:8080\"\n[routing]\n\
        file = \"routes.toml\"\n";
    write("node.toml", node);
    // 192.0.2.1 is nobody's (RFC 5737).
    for (endpoint, is_ours) in [("127.0.0.1:8080", true), ("127.0.0.1:8081", false), ("192.0.2.1:8080", false)] {
        write("routes.toml", &table(endpoint));
        let ended = run_in(directory.path(), &["check", "node.toml"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let is_told = ended.stderr.contains("routes.toml:2: warning: regions.here.endpoints: ")
            && ended.stderr.contains("is a listener of");
        assert_eq!(is_told, is_ours, "{endpoint}: {}", ended.stderr);
    }
}

#[test]
fn every_problem_is_told_at_once_and_to_machines_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let table = TABLE.replacen("country = \"US\"", "country = \"XX\"", 1).replacen("path = \"/x\"", "paht = \"/x\"", 1);
    fs::write(directory.path().join("routes.toml"), table).expect("a file");
    fs::write(directory.path().join("other.toml"), "[regions").expect("a file");
    let ended = run_in(directory.path(), &["check", "--format", "json", "routes.toml", "other.toml", "absent.toml"]);
    assert_eq!(ended.code, Some(2));
    let report: Value = serde_json::from_str(&ended.stdout).expect("JSON on stdout, whatever is on stderr");
    assert_eq!(report["good"], false);
    let problems = report["problems"].as_array().expect("a list");
    let has = |file: &str, line: u64, path: &str| {
        problems.iter().any(|problem| {
            problem["file"] == file
                && problem["path"] == path
                && (line == 0 || problem["line"] == line)
                && problem["severity"] == "error"
                && problem["message"].as_str().is_some_and(|message| !message.is_empty())
        })
    };
    assert!(has("routes.toml", 4, "regions.here.country"), "{problems:#?}");
    assert!(has("routes.toml", 20, "routes[0].paht"), "{problems:#?}");
    assert!(has("other.toml", 1, ""), "{problems:#?}");
    assert!(has("absent.toml", 0, ""), "{problems:#?}");
}

#[test]
fn explain_tells_the_decision_and_why() {
    let table = example("erlmcp-aws.toml");
    let table = table.to_str().expect("UTF-8");
    let explain = |more: &[&str]| explain(&[&["--table", table, "--from", "us-east-1"], more].concat());

    let eu = explain(&["--country", "DE", "--path", "/mcp", "--host", "api.example.com"]);
    has_the_contracts_fields(&eu);
    assert_eq!(
        (&eu["verdict"], &eu["route"], &eu["data_class"]),
        (&json!("forward"), &json!("mcp"), &json!("customer"))
    );
    assert_eq!(eu["order"], json!(["eu-west-1", "eu-central-1"]));
    let sources = &eu["origin"]["sources"];
    let origin = json!({
        "countries": ["DE"], "certain": true, "sources": sources, "evidence": [], "like": [], "coordinates": null,
    });
    assert_eq!(eu["origin"], origin);
    let american = &region(&eu, "us-east-1");
    assert_eq!(american["allowed"], false);
    let line = american["why"][0]["line"].as_u64().expect("a line");
    let text = fs::read_to_string(table).expect("the table");
    let there = text.lines().nth(usize::try_from(line).expect("a number") - 1).expect("a line");
    assert!(there.contains("[[residency]]"), "line {line}: {there}");

    let down = explain(&["--country", "DE", "--path", "/mcp", "--down", "eu-west-1"]);
    assert_eq!(down["order"], json!(["eu-central-1"]));
    let both = explain(&["--country", "DE", "--path", "/mcp", "--down", "eu-west-1", "--down", "eu-central-1"]);
    assert_eq!((&both["verdict"], &both["status"]), (&json!("refuse"), &json!(503)));
    assert_eq!(both["reason"], "residency_unavailable");
    assert_eq!(both["order"], json!([]));

    let loaded = explain(&["--country", "US", "--path", "/v1/analytics", "--load", "us-east-1=0.95"]);
    let terms = &region(&loaded, "us-east-1")["terms"];
    assert!(terms["load"].as_f64().is_some_and(|load| (load - 5.0).abs() < 0.01), "{terms}");
    assert_ne!(loaded["order"][0], "us-east-1");
    let near = explain(&["--country", "US", "--path", "/v1/analytics", "--rtt", "ap-northeast-1=10"]);
    assert_eq!(region(&near, "ap-northeast-1")["terms"]["latency"], 100.0);

    let unknown = explain(&["--country", "unknown", "--path", "/mcp"]);
    assert_eq!(
        (&unknown["origin"]["certain"], &unknown["order"]),
        (&json!(false), &json!(["eu-west-1", "eu-central-1"]))
    );
    let several = explain(&["--country", "US,DE", "--path", "/mcp"]);
    assert_eq!(several["order"], json!(["eu-west-1", "eu-central-1"]), "both laws hold");
    // At one moment: without it an answer names the second in which it was given.
    let same = ["--country", "JP", "--path", "/v1/tools", "--client-key", "k", "--at", "2027-01-01T00:00:00Z"];
    assert_eq!(explain(&same), explain(&same), "the same each time");
}

#[test]
fn explain_counts_headers_as_trusted() {
    let table = example("erlmcp-gcp.toml");
    let question = ["--table", table.to_str().expect("UTF-8"), "--from", "us-central1", "--host", "api.example.com"];
    let ask = |more: &[&str]| explain(&[&question, more].concat());
    let without = ask(&["--country", "BR", "--path", "/v3/profiles"]);
    assert_eq!(without["order"], json!(["southamerica-east1"]));
    let consent = ask(&["--country", "BR", "--path", "/v3/profiles", "--header", "X-Data-Consent: granted"]);
    assert!(consent["order"].as_array().is_some_and(|order| order.len() > 1), "{consent:#}");
    let chinese = ask(&["--country", "CN", "--path", "/v3/identity", "--method", "POST"]);
    assert_eq!((&chinese["status"], &chinese["reason"]), (&json!(451), &json!("residency_prohibited")));
    let nothing = ask(&["--country", "BR", "--path", "/metrics"]);
    assert_eq!((&nothing["status"], &nothing["reason"]), (&json!(404), &json!("no_route")));
}

#[test]
fn explain_uses_the_databases_of_a_node() {
    let directory = Setup::new("here", TABLE).write();
    let ask = |ip: &str| {
        let arguments = ["explain", "--config", "node.toml", "--ip", ip, "--path", "/x", "--format", "json"];
        parsed(&run_in(directory.path(), &arguments))
    };
    let american = ask(&geo::address("US", 1).to_string());
    assert_eq!((&american["origin"]["countries"], &american["order"]), (&json!(["US"]), &json!(["here"])));
    let german = ask(&geo::address_v6("DE", 1).to_string());
    assert_eq!(german["origin"]["countries"], json!(["DE"]));
    let hidden = ask(&geo::ANONYMOUS.to_string());
    assert_eq!(hidden["origin"]["certain"], false);
    assert!(hidden["origin"]["sources"].to_string().contains("anonymous"), "{hidden:#}");
}

#[test]
fn explain_tells_people() {
    let table = example("erlmcp-aws.toml");
    let ask = |more: &[&str]| {
        let common = ["explain", "--table", table.to_str().expect("UTF-8"), "--from", "us-east-1", "--path", "/mcp"];
        let ended = run(&[&common, more].concat());
        assert_eq!(ended.code, Some(0), "a refusal explained is no failure: {ended:?}");
        ended.stdout
    };
    let forward = ask(&["--country", "DE"]);
    for word in ["FORWARD to eu-west-1", "eu-central-1", "GDPR", "us-east-1"] {
        assert!(forward.contains(word), "{word}: {forward}");
    }
    let refuse = ask(&["--country", "DE", "--down", "eu-west-1", "--down", "eu-central-1"]);
    assert!(refuse.contains("REFUSE 503 residency_unavailable"), "{refuse}");
}

#[tokio::test]
async fn explain_asks_a_running_node() {
    let world = World::of_example("erlmcp-aws").await;
    let node = Setup::new("us-east-1", world.table()).start().await;
    node.all_up().await;
    let admin = format!("http://{}", node.admin());
    let ip = geo::address("DE", 1).to_string();
    let arguments = ["explain", "--admin", &admin, "--ip", &ip, "--path", "/mcp?x=y&z", "--format", "json"];
    let explanation = parsed(&run(&arguments));
    has_the_contracts_fields(&explanation);
    assert_eq!(explanation["order"], json!(["eu-west-1", "eu-central-1"]));
    assert_eq!(explanation["route"], "mcp");
    let text = run(&["explain", "--admin", &admin, "--ip", &ip, "--path", "/mcp"]);
    assert!(text.stdout.contains("FORWARD") && text.stdout.contains("eu-west-1"), "{text:?}");

    drop(node);
    let gone = run(&arguments);
    assert_eq!(gone.code, Some(1), "it ran and failed: {gone:?}");
    assert!(gone.stderr.contains(&admin), "{gone:?}");
}

#[test]
fn bad_questions_exit_with_2_and_suggest() {
    let table = example("erlmcp-aws.toml");
    let table = table.to_str().expect("UTF-8");
    let from = ["explain", "--table", table, "--from", "us-east-1"];
    for (arguments, expected) in [
        (vec!["explain", "--table", table, "--from", "us-east1"], &["us-east1", "did you mean \"us-east-1\""][..]),
        ([&from[..], &["--down", "eu-west1"]].concat(), &["eu-west1", "did you mean \"eu-west-1\""]),
        ([&from[..], &["--load", "eu-west-1"]].concat(), &["--load", "eu-west-1", "REGION=0.9"]),
        ([&from[..], &["--load", "eu-west-1=much"]].concat(), &["much"]),
        ([&from[..], &["--rtt", "nowhere=5"]].concat(), &["nowhere"]),
        ([&from[..], &["--country", "XX"]].concat(), &["XX"]),
        ([&from[..], &["--ip", "1.2.3"]].concat(), &["1.2.3"]),
        ([&from[..], &["--header", "nothing"]].concat(), &["nothing"]),
        ([&from[..], &["--path", "/a/../b"]].concat(), &["400"]),
        (vec!["explain", "--table", table], &["--from"]),
        (vec!["explain", "--table", "absent.toml", "--from", "x"], &["absent.toml"]),
        (vec!["explain"], &["--table"]),
        (vec!["check"], &["FILE"]),
        (vec!["run"], &["--config"]),
        (vec!["chekc", "x"], &["chekc", "check"]),
        (vec!["run", "--config", "x", "--log-format", "yaml"], &["yaml", "json"]),
        (vec![], &["Usage"]),
    ] {
        let ended = run(&arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
        for word in expected {
            assert!(ended.stderr.contains(word), "{arguments:?}: no {word:?} in {}", ended.stderr);
        }
    }
    for flag in ["--help", "--version"] {
        assert_eq!(run(&[flag]).code, Some(0));
    }
    assert!(run(&["--version"]).stdout.starts_with("meridian "));
}

#[test]
fn a_taken_port_is_named() {
    let holder = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let taken = holder.local_addr().expect("an address").to_string();
    let setup = Setup::new("here", TABLE);
    for place in ["[[listeners]]\naddress = ", "[admin]\naddress = "] {
        let node = setup.node_file().replacen(&format!("{place}\"127.0.0.1:0\""), &format!("{place}\"{taken}\""), 1);
        let directory = setup.clone().file("node.toml", node).write();
        let ended = run_in(directory.path(), &["run", "--config", "node.toml"]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(&taken), "{ended:?}");
    }
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let table = example("erlmcp-gcp.toml");
    let command = format!(
        "'{}' explain --table '{}' --from us-central1 --host api.example.com --path /v3/identity | head -n 1",
        meridian().display(),
        table.display()
    );
    for _ in 0..5 {
        let output = Command::new("sh").args(["-c", &command]).output().expect("a shell");
        assert!(output.status.success());
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1);
    }
}

/// What a new user copies out of the README is good.
#[test]
fn the_quick_start_is_good() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).expect("the README");
    let blocks: Vec<String> = toml_blocks(&readme);
    let find = |key: &str| blocks.iter().find(|block| block.contains(key)).unwrap_or_else(|| panic!("no {key}"));
    let (table, node) = (find("[regions."), find("[[listeners]]"));
    let directory: TempDir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, content: &[u8]| fs::write(directory.path().join(name), content).expect("a file");
    write("routes.toml", table.as_bytes());
    write("node.toml", node.as_bytes());
    // What the README tells its reader to bring.
    let certificate = Authority::default().certify(&["api.example.com"]);
    for line in node.lines() {
        for quoted in line.split('"').filter(|word| word.ends_with(".pem") || word.ends_with(".mmdb")) {
            match quoted {
                name if name.ends_with(".mmdb") => write(name, &geo::database()),
                name if name.contains("key") => write(name, certificate.key_pem.as_bytes()),
                name => write(name, certificate.certificate_pem.as_bytes()),
            }
        }
    }
    let ended = run_in(directory.path(), &["check", "node.toml", "routes.toml"]);
    // This machine may have fewer open files than a node with the default limits needs.
    let problems: Vec<&str> = ended.stderr.lines().filter(|line| !line.contains("LimitNOFILE=")).collect();
    assert_eq!((ended.code, problems), (Some(0), vec![]), "{ended:?}");
    let ask =
        ["explain", "--config", "node.toml", "--country", "DE", "--host", "api.example.com", "--path", "/v3/users"];
    let ended = run_in(directory.path(), &ask);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

/// The blocks of TOML in a Markdown text, without the indentation that they have in lists.
fn toml_blocks(markdown: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in markdown.lines().map(str::trim) {
        match (&mut open, line) {
            (None, "```toml") => open = Some(String::new()),
            (Some(_), "```") => blocks.extend(open.take()),
            (Some(block), line) => block.push_str(&format!("{line}\n")),
            (None, _) => {}
        }
    }
    blocks
}

fn spoil(directory: &Path, file: &str, content: Option<Vec<u8>>) {
    let path = directory.join(file);
    match content {
        Some(content) => fs::write(path, content).expect("a file"),
        None => fs::remove_file(path).expect("a file"),
    }
}

fn explain(arguments: &[&str]) -> Value {
    parsed(&run(&[&["explain", "--format", "json"], arguments].concat()))
}

fn parsed(ended: &Ended) -> Value {
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    serde_json::from_str(&ended.stdout).expect("JSON")
}

fn region(explanation: &Value, name: &str) -> Value {
    let regions = explanation["regions"].as_array().expect("a list");
    regions.iter().find(|region| region["name"] == name).expect("the region").clone()
}

const TABLE: &str = r#"version = "1"

[regions.here]
country = "US"
endpoints = ["127.0.0.1:1"]
health = { interval = "1h" }

[jurisdictions.us]
countries = ["US"]

[[residency]]
jurisdiction = "us"
data_classes = ["personal"]
allow = { regions = ["here"] }
transfer = "prohibited"
regulation = "test"

[[routes]]
name = "x"
path = "/x"
data_class = "personal"

[[routes]]
name = "rest"
data_class = "public"

[residency_defaults]
unlisted_jurisdiction = "allow"
"#;
