//! Explanations, as somebody on call reads them and as tools do.

use meridian_tests::{Ended, Setup, World, example, example_names, geo, run};
use serde_json::{Value, json};

/// The text of `meridian explain` on an example.
fn text(table: &str, from: &str, more: &[&str]) -> String {
    let table = example(table);
    let ended = run(&[&["explain", "--table", table.to_str().expect("UTF-8"), "--from", from], more].concat());
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    ended.stdout
}

fn parsed(ended: &Ended) -> Value {
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    serde_json::from_str(&ended.stdout).expect("JSON")
}

#[test]
fn the_page_tells_the_verdict_the_reasons_and_what_comes_next() {
    let brazil = ["--host", "api.example.com", "--path", "/v3/identity/7", "--country", "BR"];
    let page = text("erlmcp-gcp.toml", "us-central1", &brazil);
    let lines: Vec<&str> = page.lines().collect();
    assert_eq!(lines[0], "FORWARD to southamerica-east1");
    for expected in [
        "request  GET /v3/identity/7, host api.example.com",
        "route    identity (line",
        "client   in BR",
        "br: LGPD (line",
        "only southamerica-east1",
        "order, scored by balanced; latency curve: steps",
        "   1  southamerica-east1   55.0    50 (100 ms, table)     100 (0 %)      0",
        "transfer is prohibited for data class tier_1_pii",
        "southamerica-east1 down  REFUSE 503 residency_unavailable",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }

    let page = text("erlmcp-gcp.toml", "us-central1", &[&brazil[..], &["--down", "southamerica-east1"]].concat());
    let first = "REFUSE 503 residency_unavailable: no lawful region can serve this now; the others must not be used";
    assert_eq!(page.lines().next(), Some(first));
    assert!(page.contains("may serve, but cannot now\n  health: down\n      southamerica-east1\n"), "{page}");
    assert!(!page.contains("if it fails"), "there is nothing left to fail: {page}");

    let page = text("somaagent.toml", "us-west-2", &["--country", "DE", "--down", "eu-west-1"]);
    assert!(page.contains("The client is shown the rule's maintenance page."), "{page}");
    let page = text("somaagent.toml", "us-west-2", &["--country", "DE"]);
    assert!(page.contains("REFUSE 503 residency_unavailable, with the maintenance page"), "{page}");
    let page = text("erlmcp-gcp.toml", "us-central1", &[]);
    assert!(page.starts_with("REFUSE 404 no_route") && page.contains("with no host named"), "{page}");
}

/// `--load` is a load that lasts: the region spills, and the page says whom.
#[test]
fn a_load_past_the_mark_spills() {
    let asked = ["--path", "/v1/analytics", "--country", "US", "--load", "us-east-1=1.0"];
    let page = text("erlmcp-aws.toml", "us-east-1", &asked);
    assert!(page.contains("later by overload"), "{page}");
    assert!(page.contains("overload: 100 % full, so 100 % of clients move on, this one too"), "{page}");
}

/// Whatever is asked of whatever example: narrow enough for any terminal, and no character that one
/// may not show.
#[test]
fn every_page_is_plain() {
    for name in example_names().iter().filter(|name| *name != "node.toml") {
        let table = std::fs::read_to_string(example(name)).expect("the table");
        let regions = table.lines().filter_map(|line| line.strip_prefix("[regions.")?.strip_suffix(']'));
        let from = regions.into_iter().next().expect("a region");
        for country in ["DE", "BR", "CN", "US", "US,DE", "unknown"] {
            for path in ["/v3/identity", "/v3/profiles", "/mcp", "/api/v1/batch", "/v1/agents", "/"] {
                let load = format!("{from}=0.95");
                let asked = ["--host", "api.example.com", "--path", path, "--country", country, "--load", &load];
                let page = text(name, from, &asked);
                assert!(page.starts_with("FORWARD to ") || page.starts_with("REFUSE "), "{page}");
                assert!(page.is_ascii(), "{page}");
                let wide = page.lines().find(|line| line.len() > 100);
                assert_eq!(wide, None, "{page}");
                assert!(page.lines().all(|line| line == line.trim_end()), "{page}");
            }
        }
    }
}

#[tokio::test]
async fn a_running_node_and_the_schema_agree() {
    let schema = parsed(&run(&["explain", "--schema"]));
    let world = World::of_example("erlmcp-gcp").await;
    let node = Setup::new("us-central1", world.table()).start().await;
    let admin = format!("http://{}", node.admin());
    let asked =
        ["explain", "--admin", &admin, "--host", "api.example.com", "--path", "/v3/identity", "--format", "json"];
    for country in ["BR", "CN", "unknown"] {
        let told = parsed(&run(&[&asked[..], &["--country", country]].concat()));
        has_the_fields_of(&schema, &schema, &told);
        let path = format!("/explain?host=api.example.com&path=/v3/identity&country={country}");
        let raw = node.ask(&meridian_tests::get(&path)).await.json();
        has_the_fields_of(&schema, &schema, &raw);
    }
    let brazil = parsed(&run(&[&asked[..], &["--ip", &geo::address("BR", 1).to_string()]].concat()));
    assert_eq!(
        brazil["if_down"],
        json!([{
            "down": ["southamerica-east1"],
            "serves": null,
            "verdict": "refuse",
            "status": 503,
            "reason": "residency_unavailable",
            "page": false,
        }])
    );
    let regions = brazil["regions"].as_array().expect("a list");
    let american = regions.iter().find(|region| region["name"] == "us-central1").expect("the region");
    let why = &american["why"][0];
    assert_eq!((&why["regulation"], &why["verdict"]), (&json!("LGPD"), &json!("refuses")));
}

#[test]
fn the_schema_stands_alone() {
    let ended = run(&["explain", "--schema", "--from", "x"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
}

/// Each object has exactly the fields that the schema requires of it. (That each is of its type is
/// checked where explanations are made.)
fn has_the_fields_of(root: &Value, schema: &Value, value: &Value) {
    let named = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/"));
    let schema = named.map_or(schema, |name| &root["$defs"][name]);
    let options = schema["anyOf"].as_array();
    let schema = options.map_or(schema, |options| &options[usize::from(value.is_null())]);
    if options.is_some() && !value.is_null() {
        return has_the_fields_of(root, schema, value);
    }
    if let (Some(object), Some(required)) = (value.as_object(), schema["required"].as_array()) {
        let mut required: Vec<&str> = required.iter().filter_map(Value::as_str).collect();
        required.sort_unstable();
        let mut there: Vec<&str> = object.keys().map(String::as_str).collect();
        there.sort_unstable();
        assert_eq!(there, required);
        object.iter().for_each(|(name, part)| has_the_fields_of(root, &schema["properties"][name], part));
    }
    value.as_array().into_iter().flatten().for_each(|part| has_the_fields_of(root, &schema["items"], part));
}
