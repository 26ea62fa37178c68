//! The example tables, and what each must do: facts of a request -> the regions in order, or the refusal.

#[path = "worlds/countries.rs"]
mod countries;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{FileKind, NodeConfig, Routing, RoutingTable, kind_of};
use policy::hash::client_key;
use policy::health::Check;
use policy::{
    CurrentTable, Facts, Health, Method, Moment, Origin, Payload, Reason, Refusal, RegionSet, RegionView, Verdict,
    decide,
};

/// A request to one of the example tables.
struct Case {
    table: &'static str,
    /// The region of the node that decides.
    node: &'static str,
    /// The client's country; empty is unknown.
    country: &'static str,
    method: Method,
    path: &'static str,
    consent: bool,
    down: &'static [&'static str],
    /// How far the regions' copies are behind, in seconds.
    lag: u64,
    /// Which of many clients.
    client: u32,
}

impl Case {
    const fn new(table: &'static str, node: &'static str, country: &'static str, path: &'static str) -> Self {
        Self { table, node, country, method: Method::Get, path, consent: false, down: &[], lag: 0, client: 0 }
    }

    const fn post(self) -> Self {
        Self { method: Method::Post, ..self }
    }

    const fn with_consent(self) -> Self {
        Self { consent: true, ..self }
    }

    const fn down(self, down: &'static [&'static str]) -> Self {
        Self { down, ..self }
    }

    const fn lag(self, lag: u64) -> Self {
        Self { lag, ..self }
    }

    /// The regions in the order of the attempts, each with whether it needs safeguards.
    fn outcome(&self) -> Result<Vec<(String, bool)>, Refusal> {
        self.outcome_by(&load(self.table))
    }

    fn outcome_by(&self, loaded: &RoutingTable) -> Result<Vec<(String, bool)>, Refusal> {
        let table = &loaded.table;
        let mut view = vec![RegionView::default(); loaded.upstreams.len()];
        for (id, region) in table.regions() {
            view[id.index()].lag = Some(Duration::from_secs(self.lag));
            if self.down.contains(&region.name.as_str()) {
                view[id.index()].health = Health::Down;
            }
        }
        let facts = Facts {
            host: "api.example.com",
            path: self.path,
            method: self.method,
            payload: Payload::Nothing,
            origin: self.country.parse().map_or(Origin::Unknown, Origin::Country),
            declared: &[],
            consent: self.consent,
            client_at: None,
            client_key: client_key(format!("198.51.100.7 {}", self.client).as_bytes()),
            from: table.region_named(self.node).unwrap(),
            pinned: None,
            only: None,
            criticality: None,
        };
        let permitted = match decide(table, &facts, view.as_slice()) {
            Verdict::Forward(permitted) => permitted,
            Verdict::Refuse(refusal) => return Err(refusal),
        };
        let mut tried = RegionSet::EMPTY;
        Ok(std::iter::from_fn(|| {
            let permit = permitted.next(table, &facts, &tried, &CurrentTable { table, view: view.as_slice() })?;
            tried.insert(permit.region());
            Some((table.region(permit.region()).name.clone(), permit.is_safeguarded()))
        })
        .collect())
    }

    fn order(&self) -> Vec<String> {
        self.outcome().expect("served").into_iter().map(|(name, _)| name).collect()
    }

    /// The reason, and whether a maintenance page is shown.
    fn refusal(&self) -> (Reason, bool) {
        let refusal = self.outcome().expect_err("refused");
        (refusal.reason, refusal.page.is_some())
    }
}

/// When the laws of these tests are read.
fn today() -> Moment {
    "2026-11-29".parse().unwrap()
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

fn load(table: &str) -> RoutingTable {
    RoutingTable::load(&example(&format!("{table}.toml")), today()).unwrap_or_else(|problems| panic!("{problems}"))
}

const PROHIBITED: (Reason, bool) = (Reason::ResidencyProhibited, false);
const UNAVAILABLE_BY_LAW: (Reason, bool) = (Reason::ResidencyUnavailable, false);

#[test]
fn every_example_can_be_used_as_it_is() {
    let mut tables = 0;
    for entry in example("").read_dir().unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let warnings = match kind_of(&text) {
            FileKind::Node => NodeConfig::load(&file).unwrap_or_else(|problems| panic!("{problems}")).warnings,
            FileKind::Table => {
                tables += 1;
                RoutingTable::load(&file, today()).unwrap_or_else(|problems| panic!("{problems}")).warnings
            }
        };
        assert_eq!(warnings, [], "{}", file.display());
    }
    assert_eq!(tables, 5);
}

/// With the lines that are commented out there, in the place of those that they replace.
#[test]
fn what_the_examples_offer_in_comments_is_good() {
    let offered = |name: &str, change: &dyn Fn(String) -> String| {
        let file = example(name);
        let text = change(std::fs::read_to_string(&file).unwrap());
        let table = RoutingTable::from_text(&file, &text, today()).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(table.warnings, [], "{name}");
        table
    };
    let table = offered("erlmcp-gcp.toml", &|text| {
        let plain = "endpoints = [\"10.1.0.11:8080\", \"10.1.0.12:8080\"]";
        let (before, canary) = text.split_once("# [canary]").unwrap();
        let before = before.replace(plain, "").replace("# endpoints = ", "endpoints = ");
        format!("{before}[canary]{}", canary.replace("\n# ", "\n"))
    });
    let canary = table.canary.unwrap();
    assert_eq!((canary.version.as_str(), canary.pace.len()), ("3.1.0-canary", 3));
    let table = offered("erlmcp-aws.toml", &|text| {
        let plain = "endpoints = [\"10.1.0.11:8080\", \"10.1.0.12:8080\", \"10.1.0.13:8080\"]\n";
        let (before, canary) = text.split_once("# [canary]").unwrap();
        let before = before.replacen(plain, "", 1).replace("# endpoints = ", "endpoints = ");
        format!("{before}[canary]{}", canary.replace("\n# ", "\n"))
    });
    let canary = table.canary.unwrap();
    assert_eq!((canary.version.as_str(), canary.steps.as_slice()), ("2026.11", &[10, 50, 100][..]));
    let with_paths = |text: String| {
        let line = text.lines().find_map(|line| line.strip_prefix("# paths = ")).unwrap();
        text.replace("path = \"/health\"", &format!("paths = {line}"))
    };
    let table = offered("cortex.toml", &with_paths);
    for upstream in table.upstreams {
        assert!(matches!(upstream.health.check, Check::Http(check) if check.paths.len() == 3));
    }
}

#[test]
fn the_examples_tell_who_relies_on_a_single_region() {
    for (table, expected) in [
        ("erlmcp-aws", &[][..]),
        (
            "somaagent",
            &["if eu-west-1 fails, nobody may serve user_data of eu, unknown clients (routes agents, everything-else)"],
        ),
        ("cortex-active-passive", &[]),
    ] {
        let document = load(table);
        assert_eq!(document.proof.lines(document.table.spec()), expected, "{table}");
    }
    let document = load("erlmcp-gcp");
    let lines = document.proof.lines(document.table.spec());
    let brazil = "if southamerica-east1 fails, nobody may serve tier_1_pii of br (route identity); tier_2_personal of br \
        (routes profiles, websocket), without consent";
    assert!(lines.iter().any(|line| line == brazil), "{lines:#?}");
    // A pair of regions is a set like any other.
    let document = load("erlmcp-aws");
    let union = ["eu-west-1", "eu-central-1"].iter().filter_map(|name| document.table.region_named(name)).collect();
    let lost: Vec<String> = document.proof.lost_if(union).map(|one| one.describe(document.table.spec())).collect();
    assert_eq!(lost, ["customer of eu, unknown clients (routes mcp, everything-else)"]);
}

#[test]
fn the_example_node_is_in_the_example_table() {
    let node = NodeConfig::load(&example("node.toml")).unwrap();
    assert_eq!(node.routing, Routing::File(example("erlmcp-aws.toml")));
    let table = RoutingTable::load(&example("erlmcp-aws.toml"), today()).unwrap();
    assert!(table.table.region_named(&node.region).is_some());
    assert_eq!(node.listeners.len(), 1);
}

#[test]
fn aws_clients_in_the_united_states_fail_over_to_the_west() {
    let case = Case::new("erlmcp-aws", "us-east-1", "US", "/mcp");
    assert_eq!(case.order()[..2], ["us-east-1", "us-west-2"]);
    assert_eq!(case.down(&["us-east-1"]).order()[0], "us-west-2");
    let case = Case::new("erlmcp-aws", "eu-west-1", "US", "/mcp").post();
    assert_eq!(case.order()[..2], ["us-east-1", "us-west-2"], "from any node");
    // Both down: another continent is allowed, and comes last.
    let case = Case::new("erlmcp-aws", "us-east-1", "US", "/mcp").down(&["us-east-1", "us-west-2"]);
    assert_eq!(case.order()[0], "eu-west-1");
}

#[test]
fn aws_clients_in_the_european_union_stay_there() {
    for country in ["DE", "IE", "NO"] {
        for node in ["eu-west-1", "us-east-1"] {
            let case = Case::new("erlmcp-aws", node, country, "/mcp").post();
            assert_eq!(case.order(), ["eu-west-1", "eu-central-1"]);
            assert_eq!(case.down(&["eu-west-1"]).order(), ["eu-central-1"]);
        }
    }
    let case = Case::new("erlmcp-aws", "eu-west-1", "DE", "/anything").down(&["eu-west-1", "eu-central-1"]);
    assert_eq!(case.refusal(), UNAVAILABLE_BY_LAW);
    // What has no person in it goes on.
    let case = Case::new("erlmcp-aws", "eu-west-1", "DE", "/v1/analytics").down(&["eu-west-1", "eu-central-1"]);
    assert_eq!(case.order()[0], "us-east-1");
}

#[test]
fn aws_clients_in_asia_go_to_the_nearest_and_then_to_its_pair() {
    let case = Case::new("erlmcp-aws", "ap-southeast-1", "SG", "/mcp");
    assert_eq!(case.order()[..2], ["ap-southeast-1", "ap-northeast-1"]);
}

#[test]
fn aws_an_unknown_client_is_under_every_law() {
    // The Union's rule binds; the United States' only prefers.
    let case = Case::new("erlmcp-aws", "us-east-1", "", "/mcp");
    assert_eq!(case.order(), ["eu-west-1", "eu-central-1"]);
}

#[test]
fn gcp_brazilian_pii_stays_and_its_operational_data_moves() {
    let pii = Case::new("erlmcp-gcp", "southamerica-east1", "BR", "/v3/identity");
    assert_eq!(pii.order(), ["southamerica-east1"]);
    assert_eq!(pii.with_consent().down(&["southamerica-east1"]).refusal(), UNAVAILABLE_BY_LAW);
    let logs = Case::new("erlmcp-gcp", "southamerica-east1", "BR", "/v3/telemetry").down(&["southamerica-east1"]);
    assert_eq!(logs.order()[0], "us-central1");
}

#[test]
fn gcp_chinese_and_russian_data_is_prohibited() {
    for country in ["CN", "RU"] {
        for path in ["/v3/identity", "/v3/profiles"] {
            let case = Case::new("erlmcp-gcp", "asia-southeast1", country, path).with_consent();
            assert_eq!(case.refusal(), PROHIBITED, "{country} {path}");
        }
        assert!(!Case::new("erlmcp-gcp", "asia-southeast1", country, "/v3/telemetry").order().is_empty());
    }
}

#[test]
fn gcp_unknown_clients_are_treated_like_the_unions() {
    // Under "strictest", China's and Russia's rules would leave them no region.
    let case = || Case::new("erlmcp-gcp", "europe-west1", "", "/v3/identity");
    assert_eq!(case().order()[0], "europe-west1");
    let union = &["europe-west1", "europe-west4", "europe-north1", "europe-west2"];
    assert_eq!(case().down(union).refusal(), UNAVAILABLE_BY_LAW);
    let file = example("erlmcp-gcp.toml");
    let text = std::fs::read_to_string(&file).unwrap().replace("{ like = [\"eu\"] }", "\"strictest\"");
    let warnings = RoutingTable::from_text(&file, &text, today()).unwrap().warnings;
    let told: Vec<&str> = warnings.iter().map(|warning| warning.message.as_str()).collect();
    assert_eq!(told.len(), 2, "{told:#?}");
    for (words, class) in told.iter().zip(["tier_1_pii", "tier_2_personal"]) {
        assert!(words.contains(&format!("nobody may serve {class} of unknown clients")), "{words}");
        assert!(words.contains("(cn, ru allow no region)") && words.contains("{ like = [\"eu\"] }"), "{words}");
    }
    assert!(warnings.iter().all(|warning| warning.path == "residency_defaults.unknown_origin"), "{warnings:#?}");
}

#[test]
fn the_readme_s_table_is_good() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = std::fs::read_to_string(&readme).unwrap();
    let block = text.split("```toml\n").find(|block| block.contains("[[residency]]")).expect("the quick start's table");
    let table: String = block.lines().map_while(|line| (line.trim() != "```").then(|| format!("{line}\n"))).collect();
    let document = RoutingTable::from_text(&readme, &table, today()).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(document.warnings, []);
    let unlisted = document.proof.unlisted.expect("it allows the countries that it does not list");
    assert_eq!(unlisted.countries.len(), 250 - 37);
    assert!(!unlisted.countries.contains("RE".parse().unwrap()));
}

#[test]
fn whom_no_jurisdiction_lists_is_known() {
    for (table, listed, classes) in [
        ("erlmcp-aws", 38, &["customer"][..]),
        ("somaagent", 38, &["user_data"]),
        ("cortex", 43, &["critical", "personal"]),
        ("erlmcp-gcp", 51, &["tier_1_pii", "tier_2_personal"]),
    ] {
        let document = load(table);
        let unlisted = document.proof.unlisted.expect("they allow it");
        assert_eq!(unlisted.countries.len(), 250 - listed, "{table}");
        let names: Vec<&str> =
            unlisted.classes.iter().map(|id| document.table.spec().data_classes[id.0].name.as_str()).collect();
        assert_eq!(names, classes, "{table}");
    }
    assert_eq!(load("cortex-active-passive").proof.unlisted, None);
}

#[test]
fn gcp_each_jurisdiction_keeps_its_data_as_its_law_says() {
    let regions_for = |country, path, consent| {
        let case = Case::new("erlmcp-gcp", "europe-west1", country, path);
        let mut regions = if consent { case.with_consent() } else { case }.order();
        regions.sort_unstable();
        regions.join(" ")
    };
    let eu = "europe-north1 europe-west1 europe-west2 europe-west4";
    let us = "us-central1 us-east1 us-west1 us-west2";
    let americas = "southamerica-east1 us-central1 us-east1 us-west1 us-west2";
    for (country, path, consent, expected) in [
        ("FR", "/v3/identity", true, eu),
        ("FR", "/v3/profiles", true, eu),
        ("US", "/v3/identity", true, us),
        ("US", "/v3/profiles", false, us),
        ("US", "/v3/profiles", true, americas),
        ("GB", "/v3/identity", true, "europe-west2"),
        ("GB", "/v3/profiles", true, eu),
        ("BR", "/v3/profiles", false, "southamerica-east1"),
        ("BR", "/v3/profiles", true, americas),
        ("IN", "/v3/identity", true, "asia-south1"),
        ("IN", "/v3/profiles", true, "asia-northeast1 asia-south1 asia-southeast1 australia-southeast1"),
        ("SG", "/v3/identity", true, "asia-southeast1"),
        ("AU", "/v3/profiles", false, "australia-southeast1"),
        ("CH", "/v3/identity", false, "europe-north1 europe-west1 europe-west4 europe-west6"),
        ("JP", "/v3/profiles", false, "asia-northeast1"),
    ] {
        assert_eq!(regions_for(country, path, consent), expected, "{country} {path} consent {consent}");
    }
}

#[test]
fn gcp_preferences_come_first_and_safeguards_are_marked() {
    let british = Case::new("erlmcp-gcp", "europe-west1", "GB", "/v3/profiles").with_consent();
    assert_eq!(british.order()[0], "europe-west2");
    let brazilian = Case::new("erlmcp-gcp", "southamerica-east1", "BR", "/v3/profiles").with_consent();
    let served = brazilian.outcome().expect("served");
    let [(home, safeguarded), rest @ ..] = served.as_slice() else { panic!("no region") };
    assert_eq!((home.as_str(), *safeguarded), ("southamerica-east1", false));
    assert!(!rest.is_empty() && rest.iter().all(|(_, safeguarded)| *safeguarded));
    // A write needs more than a copy.
    let indian = Case::new("erlmcp-gcp", "asia-south1", "IN", "/v3/profiles").with_consent().post();
    assert_eq!(indian.order(), ["asia-south1"]);
}

#[test]
fn gcp_metrics_are_not_for_the_outside() {
    let case = Case::new("erlmcp-gcp", "us-central1", "US", "/metrics");
    assert_eq!(case.refusal(), (Reason::NoRoute, false));
}

#[test]
fn cortex_keeps_data_where_it_belongs() {
    for (country, path, expected) in [
        ("FR", "/api/v1/things", &["eu-west-1"][..]),
        ("CH", "/coordination/status", &["eu-west-1"]),
        ("CA", "/coordination/status", &["us-east-1"]),
        ("IN", "/coordination/status", &["ap-south-1"]),
    ] {
        assert_eq!(Case::new("cortex", "us-east-1", country, path).order(), expected, "{country} {path}");
    }
    // At home first; abroad, by their shares.
    let [first, others @ ..] = &Case::new("cortex", "us-east-1", "CA", "/api/v1/things").order()[..] else { panic!() };
    assert_eq!((first.as_str(), BTreeSet::from_iter(others).len()), ("us-east-1", 2));
    let indian = Case::new("cortex", "ap-south-1", "IN", "/api/v1/things");
    assert_eq!(indian.order()[0], "ap-south-1");
    assert_eq!(indian.order().len(), 3);
    assert_eq!(indian.post().order(), ["ap-south-1"], "a write needs more than a copy");
}

/// 40/35/25 of the clients that may be served anywhere, at each node; who waits for an answer is served nearby.
#[test]
fn cortex_shares_its_traffic() {
    let loaded = load("cortex");
    for node in ["us-east-1", "eu-west-1", "ap-south-1"] {
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for client in 0..2000_u32 {
            let case = Case { client, ..Case::new("cortex", node, "JP", "/api/v1/things") };
            let (first, _) = case.outcome_by(&loaded).expect("served").swap_remove(0);
            *counts.entry(first).or_default() += 1;
        }
        let percent = ["us-east-1", "eu-west-1", "ap-south-1"].map(|name| f64::from(counts[name]) / 20.0);
        let near = percent.iter().zip([40.0, 35.0, 25.0]).all(|(found, share)| (found - share).abs() <= 2.0);
        assert!(near, "{node}: {percent:?}");
        assert_eq!(Case::new("cortex", node, "JP", "/api/v1/interactive").order()[0], node);
    }
}

#[test]
fn cortex_excludes_regions_past_the_maximum_latency() {
    let case = Case::new("cortex", "us-east-1", "CA", "/api/v1/interactive");
    assert_eq!(case.order(), ["us-east-1", "eu-west-1"], "ap-south-1 is 200 ms away");
}

#[test]
fn cortex_active_passive_reads_from_the_copy_and_refuses_writes() {
    let read = || Case::new("cortex-active-passive", "us-east-1", "US", "/api/v1/things");
    assert_eq!(read().order(), ["us-east-1", "eu-west-1"]);
    assert_eq!(read().down(&["us-east-1"]).order(), ["eu-west-1"]);
    assert_eq!(read().down(&["us-east-1"]).lag(60).order(), ["eu-west-1"]);
    assert_eq!(read().down(&["us-east-1"]).lag(61).refusal(), (Reason::Unavailable, false));
    assert_eq!(read().post().order(), ["us-east-1"]);
    assert_eq!(read().post().down(&["us-east-1"]).refusal(), (Reason::Unavailable, false));
    let search = Case::new("cortex-active-passive", "us-east-1", "US", "/api/v1/search").post();
    assert_eq!(search.down(&["us-east-1"]).order(), ["eu-west-1"], "a POST that reads");
}

#[test]
fn somaagent_never_sends_eu_users_abroad() {
    let american = || Case::new("somaagent", "us-west-2", "US", "/v1/agents/7");
    assert_eq!(american().order(), ["us-west-2", "eu-west-1"]);
    assert_eq!(american().down(&["us-west-2"]).order(), ["eu-west-1"]);
    let european = || Case::new("somaagent", "eu-west-1", "FR", "/v1/agents/7");
    assert_eq!(european().order(), ["eu-west-1"]);
    assert_eq!(european().down(&["eu-west-1"]).refusal(), (Reason::ResidencyUnavailable, true), "with its page");
    let japanese = Case::new("somaagent", "eu-west-1", "JP", "/v1/agents/7").down(&["eu-west-1"]);
    assert_eq!(japanese.order(), ["us-west-2"]);
    let page = &RoutingTable::load(&example("somaagent.toml"), today()).unwrap().files()[1].clone();
    assert_eq!(*page, example("somaagent-maintenance.html"));
}
