mod concurrency;
mod dates;
mod scores;

use std::path::Path;
use std::time::Duration;

use policy::failover::{Failover, Outlier, RetryBudget};
use policy::health::{Check, HttpCheck, ProbePlan};
use policy::jurisdiction::{JurisdictionId, WhenUnavailable};
use policy::rollout::{Canary, Failure, Success};
use policy::route::{Affinity, HostPattern, PathPattern};
use policy::table::UnknownOrigin;
use policy::{Country, Moment, Table};

use crate::problem::{Problems, Severity};
use crate::table::RoutingTable;

/// Reads a table. One with rules must say what the countries in no jurisdiction mean: where a test is not about that,
/// it is said behind the last line.
fn read(text: &str) -> Result<RoutingTable, Problems> {
    if text.contains("[jurisdictions.") && !text.contains("residency_defaults") {
        return read_as_it_is(&format!("{text}\n[residency_defaults]\nunlisted_jurisdiction = 'allow'"));
    }
    read_as_it_is(text)
}

fn read_as_it_is(text: &str) -> Result<RoutingTable, Problems> {
    RoutingTable::from_text(Path::new("routes.toml"), text, today())
}

/// Returns when the laws of these tests are read.
fn today() -> Moment {
    "2026-11-29".parse().unwrap()
}

fn good(text: &str) -> RoutingTable {
    read(text).unwrap_or_else(|problems| panic!("{problems}\nin\n{text}"))
}

/// A good table with places for more. The markers are on lines 4, 8 and 9.
const BASE: &str = "\
[regions.a]
country = 'DE'
endpoints = ['10.0.0.1:80']
#region
[[routes]]
name = 'r'
data_class = 'public'
#route
#end";

const LAW: &str = "[jurisdictions.eu]\ncountries = ['@EU']\n[[residency]]\njurisdiction = 'eu'\n";

fn base_with(marker: &str, snippet: &str) -> String {
    assert!(BASE.contains(marker), "{marker}");
    BASE.replace(marker, snippet)
}

/// Checks that a text has exactly one problem, with this severity, line, path, and part of the message.
fn expect(text: &str, severity: Severity, line: u32, path: &str, fragment: &str) {
    let problems = read(text).map_or_else(|problems| problems.0, |table| table.warnings);
    let [problem] = problems.as_slice() else {
        panic!("{} problems: {problems:#?}\nin\n{text}", problems.len());
    };
    let found = (problem.severity, problem.line, problem.path.as_str());
    assert_eq!(found, (severity, line, path), "{}\nin\n{text}", problem.message);
    assert!(problem.message.contains(fragment), "{}\nhas not: {fragment}\nin\n{text}", problem.message);
}

#[test]
fn the_base_is_good() {
    assert_eq!(good(BASE).warnings, []);
}

#[test]
fn writes_are_taken_over_from_one_region_that_has_them() {
    let standby = "role = 'warm'\nstandby = { promote_after = '10s', of = ['a'], writes = 'when_primary', max_replication_lag = '60s' }";
    let text = |a: &str, b: &str, c: &str| {
        let region = |name: &str, more: &str| {
            format!("[regions.{name}]\ncountry = 'DE'\nendpoints = ['{name}.example:80']\n{more}\n")
        };
        format!("{}{}{}[[routes]]\nname = 'r'\n", region("a", a), region("b", b), region("c", c))
    };
    let reads = "capabilities = ['read']";
    let copy = format!("{standby}\n{reads}");
    assert_eq!(good(&text("", &copy, reads)).warnings, []);
    for (key, fragment) in
        [("voters = 2", "a fleet that loses one of them"), ("max_replication_lag = '2s'", "probed each")]
    {
        let copy = match key.starts_with("voters") {
            true => copy.replace("writes =", "voters = 2, writes ="),
            false => copy.replace("max_replication_lag = '60s'", key),
        };
        let warnings = good(&text("", &copy, reads)).warnings;
        assert!(warnings.iter().any(|warning| warning.message.contains(fragment)), "{key}: {warnings:?}");
    }
    let (writes, tcp) = ("regions.b.standby.writes", "health.kind = 'tcp'");
    for (a, b, c, line, path, fragment) in [
        (reads, copy.as_str(), reads, 9, writes, "a has no writes to take over"),
        ("", standby, reads, 9, writes, "capabilities = [\"read\"]"),
        (tcp, &copy, reads, 9, writes, "give a such a health check"),
        ("", &format!("{copy}\n{tcp}"), reads, 9, writes, "give b such a health check"),
        ("", &copy, &copy, 15, "regions.c.standby.writes", "b takes the writes of a over already"),
    ] {
        expect(&text(a, b, c), Severity::Error, line, path, fragment);
    }
    let nobody = copy.replace("max_replication_lag", "voters = 0, max_replication_lag");
    expect(&text("", &nobody, reads), Severity::Error, 9, "regions.b.standby.voters", "1 to 4096");
    expect(&text("", &copy, ""), Severity::Warning, 11, "regions.c", "serves writes whoever is primary of a and b");
}

#[test]
fn bad_regions() {
    for (snippet, path, fragment) in [
        ("contry = 'DE'", "regions.a.contry", "unknown key \"contry\" (did you mean \"country\"?)"),
        ("'co l' = 1", "regions.a.\"co l\"", "the keys here are: country, coordinates,"),
        ("weight = 101", "regions.a.weight", "the number 101 is out of range: it must be 0 to 100"),
        ("weight = 1.5", "regions.a.weight", "expected a whole number, found the number 1.5"),
        ("weight = 'x'", "regions.a.weight", "expected a whole number, found the string \"x\""),
        ("weight = -1", "regions.a.weight", "out of range"),
        ("weight = 99999999999999999999999", "regions.a.weight", "out of range"),
        ("priority = 65536", "regions.a.priority", "0 to 65535"),
        ("tier = 'secndary'", "regions.a.tier", "unknown value \"secndary\" (did you mean \"secondary\"?)"),
        ("role = 'hot'", "regions.a.role", "known: active, warm, cold"),
        ("standby = { promote_after = '1s' }", "regions.a.standby", "an active region is no standby"),
        ("standby = {}\nrole = 'warm'", "regions.a.standby.promote_after", "promote_after = \"120s\""),
        ("standby = { promote_after = '1s', of = [] }\nrole = 'warm'", "regions.a.standby.of", "leave it out"),
        ("standby = { promote_after = '0s', of = ['a'] }\nrole = 'cold'", "regions.a.standby.of[0]", "of itself"),
        (
            "standby = { promote_after = '0s', of = ['x'] }\nrole = 'cold'",
            "regions.a.standby.of[0]",
            "unknown region \"x\"",
        ),
        ("standby = { promote_after = '0s', after = '0s' }\nrole = 'cold'", "regions.a.standby.after", "unknown key"),
        (
            "standby = { promote_after = '10s', writes = 'primary', max_replication_lag = '60s' }\nrole = 'warm'",
            "regions.a.standby.writes",
            "when_primary",
        ),
        (
            "standby = { promote_after = '10s', writes = 'when_primary' }\nrole = 'warm'",
            "regions.a.standby.max_replication_lag",
            "max_replication_lag = \"60s\"",
        ),
        (
            "standby = { promote_after = '9s', voters = 3 }\nrole = 'warm'",
            "regions.a.standby.voters",
            "writes = \"when_primary\"",
        ),
        (
            "standby = { promote_after = '9s', writes = 'when_primary', max_replication_lag = '60s' }\nrole = 'warm'",
            "regions.a.standby.promote_after",
            "the least is \"10s\"",
        ),
        (
            "standby = { promote_after = '10s', writes = 'when_primary', max_replication_lag = '60s' }\nrole = 'warm'",
            "regions.a.standby.writes",
            "name it, of = [\"us-east-1\"]",
        ),
        ("state = true", "regions.a.state", "expected a string, found true"),
        ("capabilities = ['raed']", "regions.a.capabilities[0]", "did you mean \"read\"?"),
        ("capabilities = 'read'", "regions.a.capabilities", "expected a list"),
        ("compliance = ['soc 2']", "regions.a.compliance[0]", "one word"),
        ("capacity_rps = 0", "regions.a.capacity_rps", "1 to 1000000000"),
        ("capacity_rps = nan", "regions.a.capacity_rps", "out of range"),
        ("cost_per_gb = -0.1", "regions.a.cost_per_gb", "out of range"),
        ("cost_per_gb = inf", "regions.a.cost_per_gb", "out of range"),
        ("coordinates = [91, 0]", "regions.a.coordinates[0]", "-90 to 90"),
        ("coordinates = [0, -180.1]", "regions.a.coordinates[1]", "-180 to 180"),
        ("coordinates = [1]", "regions.a.coordinates", "[latitude, longitude]"),
        ("gateway = 'gw.example.com'", "regions.a.gateway", "the port is missing: write gw.example.com:443"),
        ("gateway = ''", "regions.a.gateway", "the port is missing"),
        ("health.path = 'health'", "regions.a.health.path", "is not a path such as"),
        ("health.path = '/a b'", "regions.a.health.path", "is not a path such as"),
        ("health.interval = 30", "regions.a.health.interval", "expected a duration such as \"250ms\""),
        ("health.interval = '30 parsecs'", "regions.a.health.interval", "is not a duration such as"),
        ("health.interval = '0s'", "regions.a.health.interval", "too short here"),
        ("health.interval = '1us'", "regions.a.health.interval", "the least is \"1ms\""),
        (
            "health.interval = '99ms'",
            "regions.a.health.interval",
            "too short: the node looks for due probes every 100ms; write",
        ),
        (
            "health.unhealthy_interval = '50ms'",
            "regions.a.health.unhealthy_interval",
            "the node looks for due probes every 100ms",
        ),
        (
            "health = { interval = '50ms', timeout = '1s' }",
            "regions.a.health.interval",
            "the node looks for due probes",
        ),
        ("health.timeout = '1000years'", "regions.a.health.timeout", "too long"),
        ("health.failures = 0", "regions.a.health.failures", "1 to 1000"),
        ("health = '/health'", "regions.a.health", "expected a table, found the string"),
        ("health = { pth = '/' }", "regions.a.health.pth", "did you mean \"path\"?"),
        ("health.paths = []", "regions.a.health.paths", "the list is empty: leave it out for [\"/health\"]"),
        ("health.paths = ['/a', 'b']", "regions.a.health.paths[1]", "\"b\" is not a path such as"),
        ("health.paths = '/a'", "regions.a.health.paths", "expected a list"),
        ("health = { path = '/a', paths = ['/b'] }", "regions.a.health.paths", "path is given too: write all of them"),
        (
            "health.kind = 'htp'",
            "regions.a.health.kind",
            "unknown value \"htp\" (did you mean \"http\"?); known: http, tcp,",
        ),
        (
            "health.service = 'x'",
            "regions.a.health.service",
            "a key of kind = \"grpc\", and this is \"http\": leave it",
        ),
        (
            "health = { kind = 'tcp', path = '/x' }",
            "regions.a.health.path",
            "a key of kind = \"http\", and this is \"tcp\": leave it out, or change the kind",
        ),
        ("health = { kind = 'tcp', service = 'x' }", "regions.a.health.service", "a key of kind = \"grpc\""),
        ("health = { kind = 'grpc', paths = ['/x'] }", "regions.a.health.paths", "a key of kind = \"http\""),
        ("health = { kind = 'grpc', statuses = [200] }", "regions.a.health.statuses", "a key of kind = \"http\""),
        ("health = { kind = 'grpc', host = 'a' }", "regions.a.health.host", "a key of kind = \"http\""),
        ("health = { kind = 'grpc', body = 'a' }", "regions.a.health.body", "a key of kind = \"http\""),
        (
            "health = { kind = 'grpc', service = 'a b' }",
            "regions.a.health.service",
            "is not the name of a gRPC service",
        ),
        ("health.host = 'a.example:80'", "regions.a.health.host", "without scheme and port"),
        ("health.host = ''", "regions.a.health.host", "is empty: write a host such as"),
        ("health.statuses = []", "regions.a.health.statuses", "the list is empty: leave it out for [\"200-399\"]"),
        ("health.statuses = 200", "regions.a.health.statuses", "expected a list"),
        ("health.statuses = [99]", "regions.a.health.statuses[0]", "out of range: it must be 100 to 599"),
        (
            "health.statuses = [200, '600']",
            "regions.a.health.statuses[1]",
            "\"600\" is not a range of statuses from 100",
        ),
        ("health.statuses = ['399-200']", "regions.a.health.statuses[0]", "such as \"200-399\""),
        ("health.statuses = ['200-600']", "regions.a.health.statuses[0]", "from 100 to 599"),
        ("health.statuses = ['+200-299']", "regions.a.health.statuses[0]", "is not a range"),
        ("health.statuses = [true]", "regions.a.health.statuses[0]", "expected a whole number"),
        ("health.body = ''", "regions.a.health.body", "is not a text of 1 to 1024 bytes"),
        ("health.unhealthy_interval = '31s'", "regions.a.health.unhealthy_interval", "longer than the interval of 30s"),
        ("health.jitter = 1.1", "regions.a.health.jitter", "it must be 0 to 1"),
        ("health = { interval = 1, unhealthy_interval = '1h' }", "regions.a.health.interval", "expected a duration"),
    ] {
        expect(&base_with("#region", snippet), Severity::Error, 4, path, fragment);
    }
    expect(
        &base_with("country = 'DE'", ""),
        Severity::Error,
        1,
        "regions.a.country",
        "missing: say where the region is",
    );
    for (country, fragment) in [
        ("'XX'", "not an ISO 3166-1 alpha-2"),
        ("'Germany'", "not an ISO 3166-1 alpha-2"),
        ("'@EU'", "is a group of countries"),
        ("'EU'", "is a group of countries"),
        ("49", "expected a string, found the number 49"),
    ] {
        expect(&BASE.replace("'DE'", country), Severity::Error, 2, "regions.a.country", fragment);
    }
    for (endpoints, path, fragment) in [
        ("['10.0.0.1']", "regions.a.endpoints[0]", "\"10.0.0.1\": the port is missing: write 10.0.0.1:80"),
        ("['a:1', 'A:1']", "regions.a.endpoints[1]", "in this list already"),
        ("[]", "regions.a.endpoints", "the list is empty: nobody could reach this region"),
        ("['a:1', 2]", "regions.a.endpoints[1]", "expected a string"),
        ("[{ address = 'a' }]", "regions.a.endpoints[0].address", "the port is missing: write a:80"),
        ("[{ version = '1' }]", "regions.a.endpoints[0].address", "missing: say where it listens"),
        ("[{ adress = 'a:1' }]", "regions.a.endpoints[0].adress", "did you mean \"address\"?"),
        ("[{ address = 'a:1', version = 3 }]", "regions.a.endpoints[0].version", "expected a string, found the number"),
        ("[{ address = 'a:1', version = '' }]", "regions.a.endpoints[0].version", "use 1 to 64 ASCII letters"),
        (
            "[{ address = 'a:1', version = '1 2' }]",
            "regions.a.endpoints[0].version",
            "\"1 2\" is not a version such as",
        ),
        ("['a:1', { address = 'A:1', version = '1' }]", "regions.a.endpoints[1]", "\"a:1\" is in this list already"),
        (
            "[{ address = 'a:1', version = '1' }, { address = 'http://a:1', version = '2' }]",
            "regions.a.endpoints[1]",
            "in this list already",
        ),
    ] {
        let text = BASE.replace("['10.0.0.1:80']", endpoints);
        expect(&text, Severity::Error, 3, path, fragment);
    }
    let unreachable = BASE.replace("endpoints = ['10.0.0.1:80']", "");
    expect(&unreachable, Severity::Error, 1, "regions.a.endpoints", "missing: nobody could reach this region");
    expect(&BASE.replace("[regions.a]", "[regions.'a b']"), Severity::Error, 1, "regions.\"a b\"", "cannot be a name");
    expect("[[routes]]\nname = 'r'", Severity::Error, 0, "regions", "missing: a table has at least one [regions.NAME]");
    expect("[regions]\n[[routes]]\nname = 'r'", Severity::Error, 1, "regions", "at least one [regions.NAME]");
    expect("regions = 1\n[[routes]]\nname = 'r'", Severity::Error, 1, "regions", "expected a table");
}

#[test]
fn bad_routes() {
    for (snippet, path, fragment) in [
        ("pat = '/'", "routes[0].pat", "did you mean \"path\"?"),
        ("host = '*'", "routes[0].host", "leave host out for every host"),
        ("host = 'https://a.example'", "routes[0].host", "without scheme"),
        ("host = 'a.example:443'", "routes[0].host", "without port"),
        ("host = 'a.*.example'", "routes[0].host", "can only stand first"),
        ("host = 'a b'", "routes[0].host", "is not a host name"),
        ("host = ''", "routes[0].host", "is empty"),
        ("host = '*.'", "routes[0].host", "is empty"),
        ("path = ''", "routes[0].path", "is not a path"),
        ("path = 'v3'", "routes[0].path", "it starts with \"/\""),
        ("path = '='", "routes[0].path", "is not a path"),
        ("path = '/v3?x=1'", "routes[0].path", "has a query or a fragment"),
        ("path = '/v3#x'", "routes[0].path", "has a query or a fragment"),
        ("path = '/a//b'", "routes[0].path", "two slashes"),
        ("path = '/a/../b'", "routes[0].path", "a dot segment"),
        ("path = '/a/.'", "routes[0].path", "a dot segment"),
        ("path = '/v3/ws/*'", "routes[0].path", "covers everything below it"),
        ("path = '/a b'", "routes[0].path", "percent-encode"),
        ("path = '/caf\u{e9}'", "routes[0].path", "percent-encode"),
        ("path = '/a%2'", "routes[0].path", "two hexadecimal digits"),
        ("path = '/a%+1'", "routes[0].path", "two hexadecimal digits"),
        ("path = '/%41'", "routes[0].path", "decode it"),
        ("methods = ['get']", "routes[0].methods[0]", "did you mean \"GET\"?"),
        ("methods = []", "routes[0].methods", "leave it out for all methods"),
        ("scoring = 'balancd'", "routes[0].scoring", "unknown scoring \"balancd\" (did you mean \"balanced\"?)"),
        ("criticality = 'high'", "routes[0].criticality", "known: critical, default, sheddable"),
        ("access = 'rw'", "routes[0].access", "known: auto, read, write"),
        ("max_latency = '0ms'", "routes[0].max_latency", "too short"),
        ("failover = 'country'", "routes[0].failover", "known: any, jurisdiction, region"),
        ("lag_unknown = 'ineligible'", "routes[0].lag_unknown", "give max_replication_lag"),
        ("consent_header = 'x consent'", "routes[0].consent_header", "is not a header name"),
        ("consent_claim = ''", "routes[0].consent_claim", "is not the name of a claim"),
        ("jurisdiction_header = 'x:y'", "routes[0].jurisdiction_header", "is not a header name"),
        ("pass_request_headers = 'x'", "routes[0].pass_request_headers", "expected a list"),
        ("pass_request_headers = ['a b']", "routes[0].pass_request_headers[0]", "is not a header name"),
        (
            "pass_request_headers = ['accept']",
            "routes[0].pass_request_headers[0]",
            "not among the fields that are stripped",
        ),
        ("pass_request_headers = ['X-Forwarded-For']", "routes[0].pass_request_headers[0]", "not among the fields"),
        ("pass_request_headers = ['x-meridian-chosen']", "routes[0].pass_request_headers[0]", "not among the fields"),
        ("jurisdictions = ['eu']", "routes[0].jurisdictions[0]", "unknown jurisdiction \"eu\""),
        ("affinity = 'cookie'", "routes[0].affinity", "expected a table"),
        ("affinity = { ttl = '1h' }", "routes[0].affinity.kind", "missing"),
        ("affinity.kind = 'cokie'", "routes[0].affinity.kind", "did you mean \"cookie\"?"),
        ("timeout = '0s'", "routes[0].timeout", "too short"),
        ("retry.attempts = 0", "routes[0].retry.attempts", "1 to 10"),
        ("retry.statuses = [404]", "routes[0].retry.statuses[0]", "500 to 599"),
        ("retry.grpc_statuses = [0]", "routes[0].retry.grpc_statuses[0]", "1 to 16"),
        ("retry.grpc_statuses = [14, 17]", "routes[0].retry.grpc_statuses[1]", "1 to 16"),
        ("retry.grpc_statuses = 14", "routes[0].retry.grpc_statuses", "expected a list"),
        ("retry.body_bytes = 16777217", "routes[0].retry.body_bytes", "0 to 16777216"),
        ("retry.per_try_timeout = true", "routes[0].retry.per_try_timeout", "expected a duration"),
        ("retry.hedge = 'no'", "routes[0].retry.hedge", "expected true or false"),
        ("retry = 3", "routes[0].retry", "expected a table"),
    ] {
        expect(&base_with("#route", snippet), Severity::Error, 8, path, fragment);
    }
    expect(&BASE.replace("name = 'r'", ""), Severity::Error, 5, "routes[0].name", "missing: give the route a name");
    expect(&BASE.replace("'r'", "'a b'"), Severity::Error, 6, "routes[0].name", "\"a b\" cannot be a name");
    expect(
        &BASE.replace("'public'", "'pubic'"),
        Severity::Error,
        7,
        "routes[0].data_class",
        "did you mean \"public\"?",
    );
    let no_route = "[regions.a]\ncountry = 'DE'\nendpoints = ['a:1']";
    expect(no_route, Severity::Error, 0, "routes", "missing: a table has at least one [[routes]]");
    expect(&format!("routes = []\n{no_route}"), Severity::Error, 1, "routes", "the list is empty");
    for (snippet, fragment) in [
        ("[[routes]]\nname = 'r'\npath = '/x'", "\"r\" is the name of the route at line 5 too"),
        ("[[routes]]\nname = 's'", "\"s\" has the same host and path as \"r\" at line 5"),
    ] {
        expect(&base_with("#end", snippet), Severity::Error, 9, "routes[1]", fragment);
    }
    let with_methods = |first, second| {
        let second = format!("[[routes]]\nname = 's'\n{second}");
        base_with("#route", first).replace("#end", &second)
    };
    let text = with_methods("methods = ['GET', 'HEAD']", "methods = ['HEAD', 'POST']");
    expect(&text, Severity::Error, 9, "routes[1]", "no method tells them apart");
    // By whole segments, these are the same.
    let text = with_methods("path = '/x/'", "path = '/x'");
    expect(&text, Severity::Error, 9, "routes[1]", "the same host and path");
    good(&with_methods("methods = ['GET']", "methods = ['POST']"));
    good(&with_methods("methods = ['GET']", ""));
    good(&with_methods("path = '/x'", "path = '=/x'"));
    good(&with_methods("host = 'a.example'", "host = '*.a.example'"));
}

#[test]
fn bad_sections() {
    for (snippet, line, path, fragment) in [
        ("[regoins.b]", 9, "regoins", "unknown key \"regoins\" (did you mean \"regions\"?)"),
        ("[latency_ms.b]", 9, "latency_ms.b", "unknown region \"b\"; known: a"),
        ("[latency_ms.a]\nb = 3", 10, "latency_ms.a.b", "unknown region"),
        ("[latency_ms.a]\na = -1", 10, "latency_ms.a.a", "0 to 60000"),
        ("[latency_ms.a]\na = nan", 10, "latency_ms.a.a", "out of range"),
        ("[latency_ms]\na = 3", 10, "latency_ms.a", "expected a table"),
        ("[latency_sla_ms.b]", 9, "latency_sla_ms.b", "unknown region \"b\"; known: a"),
        ("[latency_sla_ms.a]\na = -1", 10, "latency_sla_ms.a.a", "0 to 60000"),
        (
            "[latency]\nwindow = '4s'",
            10,
            "latency.window",
            "a window is 5s to 1h, or 0s, which leaves latency_ms alone",
        ),
        ("[latency]\nwindow = '61m'", 10, "latency.window", "a window is 5s to 1h"),
        ("[latency]\nwindow = 60", 10, "latency.window", "expected"),
        ("[latency]\nwidnow = '60s'", 10, "latency.widnow", "did you mean \"window\"?"),
        ("[jurisdictions.eu]", 9, "jurisdictions.eu.countries", "missing"),
        ("[jurisdictions.eu]\ncountries = []", 10, "jurisdictions.eu.countries", "the list is empty"),
        ("[jurisdictions.eu]\ncountries = ['DE', '@UE']", 10, "jurisdictions.eu.countries[1]", "did you mean \"@EU\"?"),
        (
            "[jurisdictions.eu]\ncountries = ['EU']",
            10,
            "jurisdictions.eu.countries[0]",
            "\"@EU\", where groups can stand",
        ),
        ("[super_regions.x]\ncountries = ['XX']", 10, "super_regions.x.countries[0]", "ISO 3166-1"),
        ("[data_classes.pii]\nscope = 'globl'", 10, "data_classes.pii.scope", "did you mean \"global\"?"),
        ("[data_classes.pii]\ncross_border = 'with_safeguards'", 10, "data_classes.pii.cross_border", "unknown value"),
        (
            "[data_classes.pii]\ncross_border = 'prohibited'\nscope = 'global'",
            10,
            "data_classes.pii.cross_border",
            "has no effect",
        ),
        (
            "[residency_defaults]\nunknown_origin = 'allow'",
            10,
            "residency_defaults.unknown_origin",
            "known: strictest, refuse, { like = [JURISDICTION, …] }",
        ),
        ("[residency_defaults]\nunknown_origin = 7", 10, "residency_defaults.unknown_origin", "{ like = [\"eu\"] }"),
        (
            "[residency_defaults]\nunknown_origin = {}",
            10,
            "residency_defaults.unknown_origin.like",
            "missing: name the jurisdictions",
        ),
        (
            "[residency_defaults]\nunknown_origin = { like = [] }",
            10,
            "residency_defaults.unknown_origin.like",
            "name at least one jurisdiction",
        ),
        (
            "[residency_defaults]\nunknown_origin = { like = ['eu'] }",
            10,
            "residency_defaults.unknown_origin.like[0]",
            "unknown jurisdiction \"eu\"; there is none",
        ),
        (
            "[residency_defaults]\nunknown_origin = { lke = ['eu'] }",
            10,
            "residency_defaults.unknown_origin.lke",
            "did you mean \"like\"?",
        ),
        ("[scoring.mine]", 9, "scoring.mine", "no weight is above zero"),
        ("[scoring.mine]\nlatency = -1", 10, "scoring.mine.latency", "out of range"),
        ("[scoring.mine]\nlatency = nan", 10, "scoring.mine.latency", "out of range"),
        ("[scoring.mine]\nlatncy = 1\nload = 1", 10, "scoring.mine.latncy", "did you mean \"latency\"?"),
        ("[failover]\nthreshold = 1.1", 10, "failover.threshold", "0 to 1"),
        ("[emergency]", 9, "emergency", "switches nothing off: give it shed = \"sheddable\""),
        ("[emergency]\nuntil = '2030-01-01'", 9, "emergency", "switches nothing off"),
        ("[emergency]\nshed = 'critical'", 10, "emergency.shed", "known: sheddable, default"),
        ("[emergency]\nread_only = 'eu'", 10, "emergency.read_only", "expected \"all\" or a list of jurisdictions"),
        ("[emergency]\nread_only = true", 10, "emergency.read_only", "such as [\"eu\"]"),
        ("[emergency]\nread_only = []", 10, "emergency.read_only", "name at least one jurisdiction"),
        ("[emergency]\nread_only = ['eu']", 10, "emergency.read_only[0]", "unknown jurisdiction \"eu\"; there is none"),
        ("[emergency]\nread_only = ['all']", 10, "emergency.read_only[0]", "without a list: read_only = \"all\""),
        ("[emergency]\nroutes_off = []", 10, "emergency.routes_off", "name at least one route"),
        ("[emergency]\nroutes_off = ['R', 'r']", 10, "emergency.routes_off[0]", "(did you mean \"r\"?); known: r"),
        ("[emergency]\nroute_off = ['r']\nshed = 'default'", 10, "emergency.route_off", "did you mean \"routes_off\"?"),
        ("[emergency]\nread_only = 'all'\nuntil = 'noon'", 11, "emergency.until", "noon"),
        ("[emergency]\nread_only = 'all'\npage_text = ' '", 11, "emergency.page_text", "is not a page"),
        (
            "[emergency]\nread_only = 'all'\npage_text = 'x'\npage = 'x.html'",
            11,
            "emergency.page_text",
            "there is page already",
        ),
        ("[traffic_classes.a]", 9, "traffic_classes.a.guaranteed", "missing: say which share"),
        ("[traffic_classes.a]\nguaranteed = 0", 10, "traffic_classes.a.guaranteed", "a share above 0"),
        ("[traffic_classes.a]\nguaranteed = 1.5", 10, "traffic_classes.a.guaranteed", "0 to 1"),
        ("[traffic_classes.a]\nguarantee = 0.5", 10, "traffic_classes.a.guarantee", "did you mean \"guaranteed\"?"),
        ("[failover]\nthreshhold = 1", 10, "failover.threshhold", "did you mean \"threshold\"?"),
        ("[failover]\ndrain_timeout = '-1s'", 10, "failover.drain_timeout", "is not a duration"),
        ("[failover]\noutlier = { consecutive_errors = 0 }", 10, "failover.outlier.consecutive_errors", "out of range"),
    ] {
        expect(&base_with("#end", snippet), Severity::Error, line, path, fragment);
    }
    let both = "[traffic_classes.a]\nguaranteed = 0.6\n[traffic_classes.b]\nguaranteed = 0.5";
    expect(&base_with("#end", both), Severity::Error, 9, "traffic_classes", "guaranteed 1.100 together: at most 1");
    let unknown = base_with("#route", "traffic_class = 'b'") + "\n[traffic_classes.a]\nguaranteed = 0.6";
    expect(&unknown, Severity::Error, 8, "routes[0].traffic_class", "unknown traffic class \"b\"; known: a");
    let version = |value: &str| format!("version = {value}\n{BASE}");
    expect(&version("'''a\nb'''"), Severity::Error, 1, "version", "single line");
    expect(&version("1"), Severity::Error, 1, "version", "expected a string");
    expect(&version(&format!("'{}'", "x".repeat(129))), Severity::Error, 1, "version", "at most 128");
}

#[test]
fn bad_rules() {
    let fixed = "data_classes = ['personal']\nregulation = 'L'\n";
    let carried = BASE.replace("'public'", "'personal'");
    let text = |rule: &str| format!("{}\n{LAW}{rule}", carried.replace("\n#route\n#end", ""));
    // `LAW` starts at line 8, its rule at line 10; what follows its jurisdiction at line 12.
    for (rule, line, path, fragment) in [
        ("", 14, "", ""),
        ("allow = {}", 14, "residency[0].allow", "an empty selector would allow every region: write allow = []"),
        ("allow = [{}]", 14, "residency[0].allow[0]", "an empty selector"),
        ("allow = 'eu'", 14, "residency[0].allow", "expected a table"),
        ("allow = { region = ['a'] }", 14, "residency[0].allow.region", "did you mean \"regions\"?"),
        ("allow = { regions = [] }", 14, "residency[0].allow.regions", "name at least one region"),
        ("allow = { regions = ['b'] }", 14, "residency[0].allow.regions[0]", "unknown region \"b\""),
        ("allow = { countries = [] }", 14, "residency[0].allow.countries", "the list is empty"),
        ("allow = { compliance = [] }", 14, "residency[0].allow.compliance", "every region would satisfy"),
        ("allow = { tier = [] }", 14, "residency[0].allow.tier", "the list is empty"),
        ("allow = { tier = 'top' }", 14, "residency[0].allow.tier", "known: primary, secondary, tertiary, edge"),
        ("allow = { jurisdictions = ['ue'] }", 14, "residency[0].allow.jurisdictions[0]", "did you mean \"eu\"?"),
        ("allow = []\ntransfer = 'forbidden'", 15, "residency[0].transfer", "known: prohibited, with_consent,"),
        ("allow = []\nwhen_unavailable = 'page'", 15, "residency[0].when_unavailable", "known: reject, maintenance"),
        ("allow = []\nwhen_unavailable = 'maintenance'", 10, "residency[0].page", "missing"),
        ("allow = []\npage = 'x.html'", 15, "residency[0].page", "shown only with"),
        ("allow = []\npage_text = 'x'", 15, "residency[0].page_text", "shown only with"),
        (
            "allow = []\nwhen_unavailable = 'maintenance'\npage = 'x.html'\npage_text = 'x'",
            17,
            "residency[0].page_text",
            "in one way",
        ),
        (
            "allow = []\nwhen_unavailable = 'maintenance'\npage = 'no/such.html'",
            16,
            "residency[0].page",
            "the page no/such.html: cannot read the file",
        ),
        ("allow = []\nblocked_by = 'eu.example'", 15, "residency[0].blocked_by", "is not a URL such as"),
        ("allow = []\nblocked_by = 'https://'", 15, "residency[0].blocked_by", "is not a URL such as"),
        ("allow = []\nblocked_by = 'https://a/>; rel=x'", 15, "residency[0].blocked_by", "is not a URL such as"),
        ("allow = []\nregulations = 'x'", 15, "residency[0].regulations", "did you mean \"regulation\"?"),
    ] {
        if rule.is_empty() {
            expect(&text(fixed), Severity::Error, 10, "residency[0].allow", "missing: say which regions may serve");
        } else {
            expect(&text(&format!("{fixed}{rule}")), Severity::Error, line, path, fragment);
        }
    }
    let allow = "allow = { countries = ['DE'] }";
    for (rule, line, path, fragment) in [
        (format!("data_classes = []\n{allow}"), 12, "residency[0].data_classes", "name at least one data class"),
        (format!("data_classes = ['public']\n{allow}"), 12, "residency[0].data_classes[0]", "is of scope \"global\""),
        (
            format!("data_classes = ['personl']\n{allow}"),
            12,
            "residency[0].data_classes[0]",
            "did you mean \"personal\"?",
        ),
        (format!("data_classes = ['a b']\n{allow}"), 12, "residency[0].data_classes[0]", "cannot be a name"),
    ] {
        let declared = format!("{}\n[data_classes.personal]", text(&rule));
        let problems = read(&declared).unwrap_err();
        let problem = problems.0.iter().find(|problem| problem.severity == Severity::Error).unwrap();
        assert_eq!((problem.line, problem.path.as_str()), (line, path), "{problems}");
        assert!(problem.message.contains(fragment), "{problems}");
    }
    let unknown = text(&format!("{fixed}{allow}")).replace("jurisdiction = 'eu'", "jurisdiction = 'ue'");
    expect(&unknown, Severity::Error, 11, "residency[0].jurisdiction", "did you mean \"eu\"?");
    let omitted = text(&format!("{fixed}{allow}")).replace("data_class = 'personal'", "");
    let problems = read(&omitted).unwrap_err().to_string();
    assert!(problems.contains(
        "routes.toml:5: error: routes[0].data_class: missing: the table has residency rules or data classes"
    ));
}

#[test]
fn an_omitted_data_class_is_public_only_where_there_is_no_law() {
    let omitted = BASE.replace("data_class = 'public'", "");
    good(&omitted);
    good(&format!("residency = []\n{omitted}"));
    let text = omitted.replace("#end", "[data_classes.pii]\ncross_border = 'prohibited'");
    expect(&text, Severity::Error, 5, "routes[0].data_class", "so each route says what it carries");
}

#[test]
fn warnings_leave_a_table_usable() {
    let end = |snippet: &str| base_with("#end", snippet);
    let other_region = "[regions.b]\ncountry = 'FR'\nendpoints = ['10.0.0.1:80']";
    let rule = |rule: &str| end(&format!("{LAW}data_classes = ['public']\n[data_classes.public]\n{rule}"));
    let rule_line = |allow: &str| rule("").replace("data_classes = ", &format!("allow = {allow}\ndata_classes = "));
    for (text, line, path, fragment) in [
        (base_with("#route", "affinity.kind = 'cookie'"), 5, "routes[0]", "its cookies end with each revision"),
        (base_with("#region", "health = { interval = '1s', timeout = '2s' }"), 4, "regions.a.health.timeout", "longer"),
        (
            base_with("#route", "prefer_compliance = ['x']"),
            8,
            "routes[0].prefer_compliance[0]",
            "no region holds \"x\"",
        ),
        (
            base_with("#route", "retry = { hedge = true, attempts = 1 }"),
            8,
            "routes[0].retry.hedge",
            "no effect: a hedge is a second attempt; give attempts = 2",
        ),
        (
            base_with("#route", "retry.per_try_timeout = '30s'"),
            8,
            "routes[0].retry.per_try_timeout",
            "no effect: the route's timeout of 30s comes first; shorten it, or leave it out",
        ),
        (
            base_with("#end", "retry.per_try_timeout = '3s'\ntimeout = '2s'"),
            9,
            "routes[0].retry.per_try_timeout",
            "the route's timeout of 2s",
        ),
        (end(other_region), 11, "regions.b.endpoints[0]", "is an endpoint of a too"),
        (
            end("[emergency]\nread_only = 'all'\nuntil = '2020-01-01'"),
            11,
            "emergency.until",
            "NOTHING IS REFUSED: the emergency is over by this time",
        ),
        (
            base_with("#route", "traffic_class = 'a'").replace("#end", "[traffic_classes.a]\nguaranteed = 0.4"),
            9,
            "traffic_classes",
            "do nothing in any region, where mode is \"off\"",
        ),
        (
            base_with("#route", "[[routes]]\nname = 's'\npath = '/s'\npass_request_headers = ['x-http-method', 'x-original-url']")
                .replace("#end", "[emergency]\nroutes_off = ['r']"),
            11,
            "routes[1].pass_request_headers[1]",
            "\"x-original-url\" lets who asks for this route have a route that emergency.routes_off switches off",
        ),
        (
            base_with("#route", "traffic_class = 'a'")
                .replace("#end", "[concurrency]\nmode = 'adaptive'\nqueue = 0\n[traffic_classes.a]\nguaranteed = 0.4"),
            12,
            "traffic_classes",
            "do not hold in region a: nobody waits, since queue = 0",
        ),
        (
            base_with("#route", "traffic_class = 'a'\n[[routes]]\nname = 's'\npath = '/s'\ntraffic_class = 'b'").replace(
                "#end",
                "[concurrency]\nmode = 'fixed'\nlimit = 1\n[traffic_classes]\na.guaranteed = 0.4\nb.guaranteed = 0.4",
            ),
            16,
            "traffic_classes",
            "a limit of 1 is too small for 2 classes",
        ),
        (
            end("[concurrency]\nmode = 'adaptive'\n[traffic_classes.a]\nguaranteed = 0.4"),
            11,
            "traffic_classes.a",
            "no route is of this class: give one traffic_class = \"a\"",
        ),
        (rule_line("{ countries = ['FR'] }"), 13, "residency[0].allow", "no region satisfies this"),
    ] {
        expect(&text, Severity::Warning, line, path, fragment);
    }
    let text = base_with("#region", "compliance = ['soc2']")
        .replace("#route", "require_compliance = ['sox2']\n[[routes]]\nname = 's'\npath = '/s'");
    let warnings = good(&text).warnings;
    assert!(warnings[0].message.contains("no region can ever serve route r"), "{warnings:?}");
    assert!(warnings[1].message.contains("(did you mean \"soc2\"?)"), "{warnings:?}");
    // A timeout that is reported is compared with nothing.
    let text = base_with("#route", "retry.per_try_timeout = '3s'").replace("#end", "timeout = 2");
    expect(&text, Severity::Error, 9, "routes[0].timeout", "expected a duration");
    for quiet in [
        "retry = { hedge = true, per_try_timeout = '29s' }",
        "retry.attempts = 1",
        "retry.hedge = true",
        "affinity.kind = 'none'",
        "affinity.kind = 'client_ip'",
    ] {
        assert_eq!(good(&base_with("#route", quiet)).warnings, []);
    }
    let typo = end(&format!("{LAW}allow = []\ndata_classes = ['shopping']"));
    expect(&typo, Severity::Warning, 14, "residency[0].data_classes[0]", "no route carries \"shopping\"");
}

#[test]
fn a_ramp_must_ascend_to_all_clients() {
    for ramp in ["[]", "[10, 50]", "[50, 10, 100]", "[10, 10, 100]", "[0, 100]", "[100, 101]", "['x', 100]"] {
        let problems = read(&base_with("#end", &format!("[failover]\nramp = {ramp}"))).unwrap_err();
        assert!(problems.has_errors(), "{ramp}");
    }
    good(&base_with("#end", "[failover]\nramp = [100]"));
}

#[test]
fn a_table_that_restricts_says_what_unlisted_countries_mean() {
    let told = |text: &str| {
        let Err(problems) = read_as_it_is(text) else { return String::new() };
        problems.0.iter().map(|problem| format!("{}: {}: {}", problem.line, problem.path, problem.message)).collect()
    };
    let rule = |more: &str| format!("{LAW}data_classes = ['personal']\nallow = {{ countries = ['DE'] }}\n{more}");
    let table = |law: &str| base_with("#end", law).replace("'public'", "'personal'");
    let border = "[jurisdictions.eu]\ncountries = ['@EU']\n[data_classes.personal]\ncross_border = 'with_consent'";
    for law in [rule(""), rule("transfer = 'with_safeguards'"), border.to_owned()] {
        let words = told(&table(&law));
        assert!(
            words.starts_with("0: residency_defaults.unlisted_jurisdiction: missing: with rules"),
            "{law}: {words}"
        );
        assert!(words.contains("\"refuse\"") && words.contains("\"allow\""), "{words}");
        let strictest = format!("{law}\n[residency_defaults]\nunknown_origin = 'strictest'");
        assert!(told(&table(&strictest)).contains(": residency_defaults.unlisted_jurisdiction: missing"), "{law}");
        for said in ["allow", "refuse"] {
            let law = format!("{law}\n[residency_defaults]\nunlisted_jurisdiction = '{said}'");
            assert_eq!(told(&table(&law)), "", "{law}");
        }
    }
    // What only prefers restricts nothing.
    assert_eq!(told(&table(&rule("transfer = 'allowed'"))), "");
    assert_eq!(told(&base_with("#end", "[jurisdictions.eu]\ncountries = ['@EU']")), "");
}

#[test]
fn unknown_clients_can_be_like_those_of_some_jurisdictions() {
    let table = |like: &str| {
        let law = "[jurisdictions.eu]\ncountries = ['@EU']\n[jurisdictions.us]\ncountries = ['US']\n\
            [[residency]]\njurisdiction = 'eu'\ndata_classes = ['personal']\nallow = { countries = ['DE'] }\n\
            [[residency]]\njurisdiction = 'us'\ndata_classes = ['personal']\nallow = []\n\
            [residency_defaults]\nunlisted_jurisdiction = 'allow'\n";
        let text = format!("{law}unknown_origin = {{ like = {like} }}");
        good(&base_with("#end", &text).replace("'public'", "'personal'"))
    };
    let spec = |table: &RoutingTable| table.table.spec().unknown_origin.clone();
    let ids = |ids: &[usize]| UnknownOrigin::Like(ids.iter().map(|id| JurisdictionId(*id)).collect());
    assert_eq!(spec(&table("['eu']")), ids(&[0]));
    assert_eq!(spec(&table("['us', 'eu', 'us']")), ids(&[0, 1]));
    assert_eq!(table("['eu']").warnings, []);
}

#[test]
fn a_selector_of_places_warns_of_the_wide_kingdom() {
    let table = |allow: &str| {
        let law = format!("{LAW}data_classes = ['personal']\nallow = {allow}\n");
        base_with("#end", &law).replace("'public'", "'personal'")
    };
    let text = table("[{ countries = ['DE'] }, { countries = ['FR', '@uk'] }]");
    expect(&text, Severity::Warning, 14, "residency[0].allow[1].countries[1]", "write \"GB\"");
    good(&table("{ countries = ['DE', 'GB', 'GG'] }"));
}

#[test]
fn what_the_proof_finds_is_told_at_its_place_with_a_command() {
    // `LAW` starts at line 9 and its rule at line 11.
    let table = |rest: &str| base_with("#end", &format!("{LAW}{rest}")).replace("'public'", "'personal'");
    let rule = |jurisdiction: &str, allow: &str| {
        format!("[[residency]]\njurisdiction = '{jurisdiction}'\ndata_classes = ['personal']\nallow = {allow}\n")
    };
    let first = "data_classes = ['personal']\nallow = { countries = ['DE'] }\n";
    let other = "[regions.b]\ncountry = 'US'\nendpoints = ['10.0.0.2:80']\n";
    let route = |name: &str, keys: &str| format!("[[routes]]\nname = '{name}'\ndata_class = 'personal'\n{keys}\n");
    let command = "see: meridian explain --table routes.toml --from a --country";
    good(&table(first));
    let contradicting = format!("{first}{}{other}", rule("eu", "{ regions = ['b'] }"));
    let declared =
        format!("{first}[data_classes.personal]\ncross_border = 'prohibited'\n[jurisdictions.jp]\ncountries = ['JP']");
    let regional = format!(
        "{first}[data_classes.personal]\nscope = 'super_region'\n[super_regions.e]\ncountries = ['@EMEA']\n\
            [residency_defaults]\nunlisted_jurisdiction = 'allow'\nunknown_origin = 'refuse'"
    );
    let consent = declared.replace("prohibited", "with_consent");
    let nowhere = first.replace("DE", "FR");
    let disabled = format!("{first}{other}").replace("countries = ['DE']", "regions = ['a']");
    for (text, line, path, fragment) in [
        (
            table(&contradicting),
            15,
            "residency[1]",
            "no region satisfies both the rule at line 11 (eu) and the rule at line 15 (eu)",
        ),
        (table(&declared), 15, "data_classes.personal", "nobody may serve personal of jp, unknown clients (route r)"),
        (table(&regional), 15, "data_classes.personal", "these countries are in none"),
        (table(&disabled).replace("#region", "state = 'disabled'"), 5, "routes[0]", "only a may serve personal of eu"),
        (
            table(&format!("{first}{}", rule("eu", "{ countries = ['@EU'] }"))),
            15,
            "residency[1]",
            "this rule has no effect: the rule at line 11 (eu)",
        ),
        (
            table(&format!("{first}[data_classes.other]\n{}", rule("eu", "[]").replace("personal", "other"))),
            16,
            "residency[1]",
            "no route carries its data",
        ),
        (
            table(&format!(
                "{first}{}{}",
                route("s", "methods = ['GET', 'HEAD', 'POST', 'PUT']"),
                route("t", "methods = ['DELETE', 'CONNECT', 'OPTIONS', 'TRACE', 'PATCH']")
            )),
            5,
            "routes[0]",
            "no request comes here: they fall under s, t",
        ),
        (table(&consent), 5, "routes[0]", "nobody may serve personal of jp, unknown clients (route r) without consent"),
        (table(&nowhere), 14, "residency[0].allow", "no region satisfies this, and so nobody may serve personal of eu"),
    ] {
        expect(&text, Severity::Warning, line, path, fragment);
        let warning = &good(&text).warnings[0].message;
        let about_a_request =
            !fragment.contains("no effect") && !fragment.contains("carries") && !fragment.contains("comes");
        assert_eq!(warning.contains(command), about_a_request, "{warning}");
    }
    let quoted = RoutingTable::from_text(
        Path::new("my tables/routes.toml"),
        &format!("{}\n[residency_defaults]\nunlisted_jurisdiction = 'allow'", table(&contradicting)),
        today(),
    )
    .unwrap();
    assert!(quoted.warnings[0].message.contains("--table 'my tables/routes.toml'"), "{:?}", quoted.warnings);
}

#[test]
fn a_table_that_serves_nobody_is_refused() {
    let text = base_with("#region", "state = 'disabled'");
    let problems = read(&text).unwrap_err();
    assert!(problems.to_string().contains("this table would refuse every request"), "{problems}");
    let law = "[jurisdictions.all]\ncountries = ['@AFRICA', '@AMERICAS', '@EUROPE', '@ASIA', '@OCEANIA', 'AQ']\n\
        [data_classes.public]\n[[residency]]\njurisdiction = 'all'\nallow = []\ndata_classes = ['public']";
    assert!(read(&base_with("#end", law)).unwrap_err().has_errors());
}

#[test]
fn all_problems_come_at_once_in_the_order_of_the_lines() {
    let text = "\
version = 7
[regions.b]
contry = 'US'
endpoints = ['nowhere']
weight = 'much'
[regions.a]
country = 'DE'
endpoints = ['a:1']
[latency_ms.b]
a = 'far'
c = 3
[jurisdictions.eu]
countries = ['@EU', 'Atlantis']
[[residency]]
jurisdiction = 'eu'
data_classes = ['personal']
allow = { regions = ['a', 'b', 'd'] }
tranfer = 'allowed'
[[routes]]
name = 'r'
timeout = 30
data_class = 'persnal'
[[routes]]
name = 'r'
data_class = 'personal'
methods = ['FETCH']
[failover]
outlier = { consecutive_errors = 'five', intervall = '1s' }
[fallover]
";
    let problems = read(text).unwrap_err();
    let found: Vec<(u32, &str)> = problems.0.iter().map(|problem| (problem.line, problem.path.as_str())).collect();
    let expected = [
        (1, "version"),
        (3, "regions.b.contry"),
        (4, "regions.b.endpoints[0]"),
        (5, "regions.b.weight"),
        (10, "latency_ms.b.a"),
        (11, "latency_ms.b.c"),
        (13, "jurisdictions.eu.countries[1]"),
        (17, "residency[0].allow.regions[2]"),
        (18, "residency[0].tranfer"),
        (21, "routes[0].timeout"),
        (22, "routes[0].data_class"),
        (23, "routes[1]"),
        (26, "routes[1].methods[0]"),
        (28, "failover.outlier.intervall"),
        (28, "failover.outlier.consecutive_errors"),
        (29, "fallover"),
    ];
    assert_eq!(found, expected, "{problems}");
}

#[test]
fn defaults_are_the_documented_ones() {
    let table = good(BASE);
    let spec = table.table.spec();
    assert_eq!(spec.version, "unversioned");
    let region = &spec.regions[0];
    assert_eq!((region.priority, region.weight, region.cost_per_gb, region.line), (0, 100, 0.0, 1));
    assert!(region.capabilities.read && region.capabilities.write);
    let upstream = &table.upstreams[0];
    assert_eq!(upstream.endpoints[0].to_string(), "http://10.0.0.1:80");
    assert_eq!(upstream.gateway, None);
    assert_eq!(upstream.health, ProbePlan::default());
    let route = &spec.routes[0];
    assert_eq!((&route.host, &route.path), (&HostPattern::Any, &PathPattern::Prefix(String::new())));
    assert_eq!((route.timeout.as_secs(), route.affinity, route.line), (30, Affinity::None, 5));
    assert_eq!((route.retry.attempts, route.retry.body_bytes, route.retry.hedge), (3, 65_536, false));
    assert_eq!(route.retry.grpc_statuses, [4, 8, 13, 14]);
    assert_eq!((route.retry.statuses.as_slice(), route.retry.per_try_timeout), (&[502, 503, 504][..], None));
    assert_eq!(spec.scorings[route.scoring].name, "balanced");
    assert_eq!(spec.failover, Failover::default());
    assert_eq!(table.files(), [Path::new("routes.toml")]);
    assert_eq!(&*table.text, BASE);
}

#[test]
fn values_arrive_where_they_belong() {
    let text =
        base_with("#region", "gateway = 'gw.example.com:443'\ncompliance = ['SOC2', 'soc2', 'gdpr']\nrole = 'cold'")
            .replace(
                "#route",
                "host = '*.Example.com'\npath = '/a%2fb/'\nconsent_header = 'X-Consent'\nscoring = 'balanced'",
            )
            .replace("#end", "[scoring.balanced]\ncost = 1\n[regions.0]\ncountry = 'uk'\nstate = 'disabled'");
    let table = good(&text);
    let spec = table.table.spec();
    // In the order of the names, not of the file.
    assert_eq!(spec.regions.iter().map(|region| region.name.as_str()).collect::<Vec<_>>(), ["0", "a"]);
    assert_eq!(spec.regions[0].country, "GB".parse::<Country>().unwrap());
    assert_eq!(spec.regions[1].compliance, ["gdpr", "soc2"]);
    assert_eq!(spec.regions[1].priority, 2);
    assert_eq!(table.upstreams[1].gateway.as_ref().unwrap().to_string(), "h2://gw.example.com:443");
    let route = &spec.routes[0];
    assert_eq!(route.host, HostPattern::Below("example.com".into()));
    assert_eq!(route.path, PathPattern::Prefix("/a%2Fb".into()));
    assert_eq!(route.consent_header.as_deref(), Some("x-consent"));
    let weights = spec.scorings[route.scoring].weights;
    assert_eq!((weights.latency, weights.cost), (0.0, 1.0), "a declared scoring replaces a built-in one");
}

fn plan(health: &str) -> ProbePlan {
    good(&base_with("#region", health)).upstreams[0].health.clone()
}

#[test]
fn probes_ask_what_the_table_says() {
    let http = |health: &str| match plan(health).check {
        Check::Http(check) => check,
        other => panic!("{other:?}"),
    };
    assert_eq!(http("health.path = '/v3/health?deep=1'").paths, ["/v3/health?deep=1"]);
    assert_eq!(http("health.paths = ['/health', '/api/v1/ping']").paths, ["/health", "/api/v1/ping"]);
    assert_eq!(http("health.host = 'API.Example.com'").host.as_deref(), Some("api.example.com"));
    assert_eq!(http("health.host = '[2001:DB8::1]'").host.as_deref(), Some("[2001:db8::1]"));
    assert_eq!(http("health.body = 'ok'").body.as_deref(), Some("ok"));
    for (statuses, expected) in [
        ("[204]", vec![204..=204]),
        ("[200, 204, '200-399']", vec![200..=399]),
        ("[599, '300-302', 301, 303, 100]", vec![100..=100, 300..=303, 599..=599]),
        ("['200-200']", vec![200..=200]),
    ] {
        assert_eq!(http(&format!("health.statuses = {statuses}")).statuses, expected, "{statuses}");
    }
    assert_eq!(http("health.kind = 'http'"), HttpCheck::default());
    assert_eq!(plan("health.kind = 'tcp'").check, Check::Tcp);
    assert_eq!(plan("health.kind = 'grpc'").check, Check::Grpc { service: String::new() });
    let named = plan("health = { kind = 'grpc', service = 'shop.v1.Orders' }").check;
    assert_eq!(named, Check::Grpc { service: "shop.v1.Orders".into() });
    let many: Vec<String> = (0..17).map(|number| format!("'/{number}'")).collect();
    let text = base_with("#region", &format!("health.paths = [{}]", many.join(", ")));
    expect(&text, Severity::Error, 4, "regions.a.health.paths", "17 paths; a probe can ask at most 16");
    let body = |length| base_with("#region", &format!("health.body = '{}'", "x".repeat(length)));
    good(&body(1024));
    expect(&body(1025), Severity::Error, 4, "regions.a.health.body", "1 to 1024 bytes");
}

#[test]
fn probes_come_when_the_table_says() {
    let seconds = Duration::from_secs;
    let times = |health: &str| {
        let plan = plan(health);
        (plan.interval, plan.unhealthy_interval, plan.timeout)
    };
    assert_eq!(times("health.interval = '30s'"), (seconds(30), seconds(3), seconds(10)));
    assert_eq!(times("health.interval = '2m'"), (seconds(120), seconds(5), seconds(10)));
    assert_eq!(times("health.interval = '1s'"), (seconds(1), Duration::from_millis(500), seconds(1)));
    let all = "health = { interval = '10s', unhealthy_interval = '10s', timeout = '4s' }";
    assert_eq!(times(all), (seconds(10), seconds(10), seconds(4)));
    let counts = plan("health = { failures = 1, successes = 7, jitter = 0 }");
    assert_eq!((counts.failures, counts.successes, counts.jitter), (1, 7, 0.0));
}

#[test]
fn endpoints_say_what_they_speak_and_run() {
    let endpoints = "['h2c://a:1', { address = 'h2://b:2', version = '3.1.0-canary' }, { address = 'c:3' }]";
    let table = good(&BASE.replace("['10.0.0.1:80']", endpoints));
    let shown: Vec<String> = table.upstreams[0].endpoints.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["h2c://a:1", "h2://b:2", "http://c:3"]);
    let versions: Vec<_> = table.upstreams[0].endpoints.iter().map(|endpoint| endpoint.version.as_deref()).collect();
    assert_eq!(versions, [None, Some("3.1.0-canary"), None]);
}

/// Returns [`BASE`] with a stable endpoint and one of version 2, whose canary starts at line 9.
fn with_canary(canary: &str) -> String {
    BASE.replace("['10.0.0.1:80']", "['10.0.0.1:80', { address = '10.0.0.2:80', version = '2' }]")
        .replace("#end", &format!("[canary]\nversion = '2'\n{canary}"))
}

#[test]
fn a_canary_grows_as_the_table_says() {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let canary = |text: &str| {
        let table = good(&with_canary(text));
        assert_eq!(table.warnings, [], "{text}");
        table.canary.expect("a canary")
    };
    assert_eq!(good(BASE).canary, None);
    let default = canary("");
    let expected = Canary {
        version: "2".into(),
        steps: vec![5, 25, 75, 100],
        pace: vec![minutes(30)],
        success: Success { requests: 10_000, error_rate: 0.001, p95: Duration::from_millis(200) },
        failure: Failure { error_rate: 0.005, p95: Duration::from_millis(500) },
        line: 9,
    };
    assert_eq!(default, expected);
    for (text, steps, pace) in [
        ("weight = 10", &[10][..], &[][..]),
        ("weight = 0", &[0], &[]),
        ("weight = 100", &[100], &[]),
        ("steps = [10, 50]", &[10, 50], &[minutes(30)]),
        ("steps = [100]\npace = '5m'", &[100], &[minutes(5)]),
        ("pace = ['30m', '1h', '2h']", &[5, 25, 75, 100], &[minutes(30), minutes(60), minutes(120)]),
    ] {
        let canary = canary(text);
        assert_eq!((canary.steps.as_slice(), canary.pace.as_slice()), (steps, pace), "{text}");
    }
    let limits =
        canary("success = { requests = 1, error_rate = 0.01 }\nfailure = { error_rate = 0.01, p95 = '200ms' }");
    assert_eq!(limits.success, Success { requests: 1, error_rate: 0.01, ..expected.success });
    assert_eq!(limits.failure, Failure { error_rate: 0.01, p95: expected.success.p95 });
}

#[test]
fn bad_canaries() {
    for (snippet, path, fragment) in [
        ("verison = '2'", "canary.verison", "did you mean \"version\"?"),
        ("weight = 101", "canary.weight", "it must be 0 to 100"),
        ("steps = []", "canary.steps", "there must be one, as in [5, 25, 75, 100]"),
        ("steps = [5, 5]", "canary.steps", "the steps must ascend"),
        ("steps = [50, 5]", "canary.steps", "the steps must ascend"),
        ("steps = [0, 5]", "canary.steps[0]", "it must be 1 to 100"),
        ("steps = [5, 101]", "canary.steps[1]", "it must be 1 to 100"),
        ("steps = 5", "canary.steps", "expected a list"),
        ("pace = []", "canary.pace", "the list is empty: leave it out for \"30m\""),
        ("pace = '0s'", "canary.pace", "too short"),
        ("pace = 30", "canary.pace", "expected a duration"),
        ("pace = ['1m', 'soon']", "canary.pace[1]", "\"soon\" is not a duration"),
        ("pace = ['1m', '1m', '1m', '1m', '1m']", "canary.pace", "5 durations for 4 steps: give at most one for each"),
        ("success = 0.1", "canary.success", "expected a table"),
        ("success.requests = 0", "canary.success.requests", "out of range"),
        ("success.error_rate = 1.1", "canary.success.error_rate", "it must be 0 to 1"),
        ("success.p99 = '1s'", "canary.success.p99", "did you mean \"p95\"?"),
        ("failure.p95 = 0.5", "canary.failure.p95", "expected a duration"),
        ("failure.requests = 5", "canary.failure.requests", "the keys here are: error_rate, p95"),
        (
            "success.error_rate = 0.01",
            "canary.success.error_rate",
            "success.error_rate is 0.01 and failure.error_rate 0.005: what ends a canary must not be good enough",
        ),
        ("failure.error_rate = 0", "canary.failure.error_rate", "lower the one or raise the other"),
        ("success.p95 = '1s'", "canary.success.p95", "success.p95 is 1s and failure.p95 500ms"),
        ("failure.p95 = '100ms'", "canary.failure.p95", "success.p95 is 200ms and failure.p95 100ms"),
    ] {
        expect(&with_canary(snippet), Severity::Error, 11, path, fragment);
    }
    for both in ["weight = 10\nsteps = [10]", "weight = 10\npace = '1m'"] {
        let path = if both.contains("steps") { "canary.steps" } else { "canary.pace" };
        expect(&with_canary(both), Severity::Error, 12, path, "a fixed weight has neither steps nor pace");
    }
    let problems = read(&with_canary("weight = 101\nsteps = [5, 200]\npace = 'soon'\nsuccess.p95 = '1s'")).unwrap_err();
    let found: Vec<(u32, &str)> = problems.0.iter().map(|problem| (problem.line, problem.path.as_str())).collect();
    let expected = [
        (11, "canary.weight"),
        (12, "canary.steps"),
        (12, "canary.steps[1]"),
        (13, "canary.pace"),
        (14, "canary.success.p95"),
    ];
    let mut sorted = found.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected, "{problems}");
    let version = |version: &str| with_canary("").replace("[canary]\nversion = '2'", &format!("[canary]\n{version}"));
    expect(&version(""), Severity::Error, 9, "canary.version", "missing: say which version is on trial");
    expect(&version("version = 'a b'"), Severity::Error, 10, "canary.version", "is not a version such as");
    let unknown = "unknown version of endpoints \"3\"; known: 2";
    expect(&version("version = '3'"), Severity::Error, 10, "canary.version", unknown);
    let unsaid = base_with("#end", "[canary]\nversion = '2'");
    let remedy = "no endpoint has a version: say it of those that run the version on trial";
    expect(&unsaid, Severity::Error, 10, "canary.version", remedy);
    expect(&base_with("#end", "canary = '2'"), Severity::Error, 9, "routes[0].canary", "unknown key");
}

#[test]
fn a_mistake_in_a_region_does_not_hide_its_versions() {
    let text = with_canary("").replace("country = 'DE'", "country = 'XX'");
    expect(&text, Severity::Error, 2, "regions.a.country", "ISO 3166-1");
}

#[test]
fn a_canary_that_is_compared_with_nothing_is_told() {
    let text = with_canary("").replace("'10.0.0.1:80', ", "");
    expect(&text, Severity::Warning, 3, "regions.a.endpoints", "all of them have \"2\", which is on trial: nothing is");
    let text = with_canary("weight = 10\nsuccess.requests = 5");
    expect(&text, Severity::Warning, 12, "canary.success", "no effect: with a fixed weight no step follows");
}

#[test]
fn failover_settings_arrive_without_a_warning() {
    let text = "[failover]\nthreshold = 0.2\nerror_rate = 0.05\nlatency_p99 = '10s'\nfailback_delay = '0s'\n\
        ramp = [5, 100]\nramp_step = '1m'\noutlier = { consecutive_errors = 2, interval = '1s', base_ejection = '2s', \
        max_ejected = 1 }\nretry_budget = { ratio = 0.1, per_second = 0 }\ndrain_timeout = '60s'";
    let table = good(&base_with("#end", text).replace("#route", "retry.hedge = true"));
    assert_eq!(table.warnings, []);
    let seconds = Duration::from_secs;
    let expected = Failover {
        threshold: 0.2,
        error_rate: 0.05,
        latency_p99: seconds(10),
        failback_delay: Duration::ZERO,
        ramp: vec![5, 100],
        ramp_step: seconds(60),
        outlier: Outlier { consecutive_errors: 2, interval: seconds(1), base_ejection: seconds(2), max_ejected: 1.0 },
        retry_budget: RetryBudget { ratio: 0.1, per_second: 0.0 },
        drain_timeout: seconds(60),
    };
    assert_eq!(table.table.spec().failover, expected);
    assert!(table.table.spec().routes[0].retry.hedge);
}

#[test]
fn tenants_and_claims_arrive() {
    let text = base_with(
        "#route",
        "consent_claim = 'https://example.com/consent'\njurisdictions = ['uk', 'eu']\njurisdiction_header = 'X-Tenant'",
    );
    let text = text.replace("#end", "[jurisdictions.eu]\ncountries = ['@EU']\n[jurisdictions.uk]\ncountries = ['@UK']");
    let table = good(&text);
    let route = &table.table.spec().routes[0];
    assert_eq!(route.consent_claim.as_deref(), Some("https://example.com/consent"));
    assert_eq!(route.jurisdiction_header.as_deref(), Some("x-tenant"));
    let names: Vec<&str> =
        route.jurisdictions.iter().map(|id| table.table.spec().jurisdictions[id.0].name.as_str()).collect();
    assert_eq!(names, ["eu", "uk"]);
}

#[test]
fn passed_headers_arrive_and_overrides_under_a_law_are_warned_of() {
    let passing = base_with("#route", "pass_request_headers = ['X-Real-IP', 'X-HTTP-Method-Override']");
    let table = good(&passing);
    assert_eq!(table.table.spec().routes[0].pass_request_headers, ["x-real-ip", "x-http-method-override"]);
    assert_eq!(table.warnings, [], "no law restricts it");
    let law = format!("{LAW}data_classes = ['pii']\nallow = {{ countries = ['@EU'] }}");
    let text = passing.replace("data_class = 'public'", "data_class = 'pii'").replace("#end", &law);
    let abroad = "[regions.b]\ncountry = 'US'\nendpoints = ['10.0.0.2:80']";
    let defaults = "[residency_defaults]\nunlisted_jurisdiction = 'allow'";
    let text = format!("{text}\n[data_classes.pii]\n{abroad}\n{defaults}");
    let mut warnings = good(&text).warnings;
    warnings.retain(|warning| warning.path.contains("pass_request_headers"));
    let [warning] = warnings.as_slice() else { panic!("{warnings:#?}") };
    assert_eq!((warning.line, warning.path.as_str()), (8, "routes[0].pass_request_headers[1]"));
    assert!(warning.message.contains("serve another request than the one that is decided"), "{warning:?}");
}

#[test]
fn a_table_has_a_key_of_its_own() {
    let sealed = |text: &str| good(text).affinity.seal("r", "a", 9);
    let with_secret = |secret: &str, more: &str| {
        base_with("#route", "affinity.kind = 'cookie'")
            .replace("#end", &format!("{more}[affinity]\nsecret = '{secret}'"))
    };
    let long = "0123456789abcdef0123456789abcdef";
    assert_eq!(good(&with_secret(long, "")).warnings, []);
    assert_eq!(sealed(&with_secret(long, "")), sealed(&with_secret(long, "#another revision\n")));
    assert_ne!(sealed(&with_secret(long, "")), sealed(&with_secret(&long.replace('0', "1"), "")));
    assert_ne!(sealed(BASE), sealed(&format!("{BASE}\n#another revision")), "without a secret the text is the key");
    expect(&with_secret("short", ""), Severity::Error, 10, "affinity.secret", "of 32 letters or more");
    expect(&with_secret(long, "").replace("secret =", "sekret ="), Severity::Error, 10, "affinity.sekret", "secret");
}

#[test]
fn draining_ends_pins_that_no_secret_keeps() {
    let draining = "[regions.b]\ncountry = 'FR'\nendpoints = ['10.0.0.2:80']\nstate = 'draining'";
    let text = base_with("#route", "affinity.kind = 'cookie'").replace("#end", draining);
    let warnings = good(&text).warnings;
    let [cookies, pins] = warnings.as_slice() else { panic!("{warnings:#?}") };
    assert_eq!((cookies.line, cookies.path.as_str()), (5, "routes[0]"));
    assert_eq!((pins.line, pins.path.as_str()), (12, "regions.b.state"));
    assert!(pins.message.contains("lose their pins by this very edit"), "{}", pins.message);
    assert!(pins.message.contains("first give [affinity] secret"), "{}", pins.message);
    let secret = "\n[affinity]\nsecret = '0123456789abcdef0123456789abcdef'";
    assert_eq!(good(&(text.clone() + secret)).warnings, []);
    assert_eq!(good(&text.replace("'cookie'", "'none'")).warnings, []);
}

#[test]
fn pages_are_read_from_the_directory_of_the_table() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("routes.toml");
    let page = directory.path().join("page.html");
    let rule = format!(
        "{LAW}data_classes = ['personal']\nallow = []\nwhen_unavailable = 'maintenance'\npage = 'page.html'\n\
         [[routes]]\nname = 's'\npath = '/s'\ndata_class = 'personal'\n\
         [residency_defaults]\nunlisted_jurisdiction = 'allow'"
    );
    std::fs::write(&file, base_with("#end", &rule)).unwrap();
    let problem = |content: &[u8]| {
        std::fs::write(&page, content).unwrap();
        RoutingTable::load(&file, today()).unwrap_err().to_string()
    };
    assert!(problem(b" \n").contains("is empty"));
    assert!(problem(b"\xff").contains("not UTF-8"));
    assert!(problem(&[b'x'; 256 * 1024 + 1]).contains("longer than 262144 bytes"));
    std::fs::write(&page, "<h1>Back soon</h1>").unwrap();
    let table = RoutingTable::load(&file, today()).unwrap();
    assert_eq!(table.files(), [file, page]);
    let shown = &table.table.spec().rules[0].when_unavailable;
    assert_eq!(*shown, WhenUnavailable::Maintenance("<h1>Back soon</h1>".into()));
    // From afar nothing is read, wherever the path leads; the page travels with the table.
    let text =
        base_with("#end", &rule.replace("'page.html'", &format!("'{}'", directory.path().join("page.html").display())));
    let refused = RoutingTable::from_afar("bus", text.as_bytes(), today()).unwrap_err().to_string();
    assert!(refused.contains("residency[0].page: a table on the bus names no files"), "{refused}");
    let text = base_with("#end", &rule.replace("page = 'page.html'", "page_text = '<h1>Back soon</h1>'"));
    let table = RoutingTable::from_afar("bus", text.as_bytes(), today()).unwrap();
    assert_eq!(table.table.spec().rules[0].when_unavailable, *shown);
    assert!(table.files().is_empty());
    assert!(
        RoutingTable::from_afar("bus", b"a = 1\nb = \xff", today())
            .unwrap_err()
            .to_string()
            .starts_with("bus:2: error")
    );
}

#[test]
fn sizes_are_bounded() {
    let mut regions = String::new();
    for number in 0..1025 {
        regions += &format!("[regions.r{number}]\ncountry = 'DE'\nendpoints = ['h{number}:1']\n");
    }
    let text = format!("{regions}[[routes]]\nname = 'r'");
    expect(&text, Severity::Error, 1, "regions", "1025 of them; there can be at most 1024");
    let classes: Vec<String> = (0..257).map(|number| format!("'c{number}'")).collect();
    let rule = format!("{LAW}allow = []\ndata_classes = [{}]", classes.join(", "));
    let problems = read(&base_with("#end", &rule)).unwrap_err().to_string();
    assert!(problems.contains("the rules name 257 data classes; there can be at most 256"), "{problems}");
    let selectors = "{ tier = 'edge' }, ".repeat(257);
    let rule = format!("{LAW}allow = [{selectors}]\ndata_classes = ['pii']\n[data_classes.pii]");
    expect(
        &base_with("#end", &rule),
        Severity::Error,
        13,
        "residency[0].allow",
        "257 selectors; a rule can have at most",
    );
    let endpoints: Vec<String> = (0..1025).map(|number| format!("'h{number}:1'")).collect();
    let text = BASE.replace("'10.0.0.1:80'", &endpoints.join(", "));
    expect(&text, Severity::Error, 3, "regions.a.endpoints", "1025 endpoints; a region can have at most 1024");
    let routes = "[[routes]]\nname='r'\n".repeat(Table::MAX_ROUTES + 1);
    expect(
        &format!("[regions.a]\ncountry='DE'\nendpoints=['a:1']\n{routes}"),
        Severity::Error,
        4,
        "routes",
        "at most 100000",
    );
    expect(&" ".repeat(8 * 1024 * 1024 + 1), Severity::Error, 0, "", "longer than 8388608 bytes");
}

#[test]
fn a_file_that_is_not_there_is_a_problem() {
    let problems = RoutingTable::load(Path::new("/no/such/routes.toml"), today()).unwrap_err().to_string();
    assert!(problems.starts_with("/no/such/routes.toml: error: cannot read the file: No such file"), "{problems}");
}

#[test]
fn a_shown_table_has_no_secret() {
    let secret = "0123456789abcdef0123456789abcdef";
    for (written, expected) in [
        (format!("[affinity]\nsecret = '{secret}' # x\n"), "[affinity]\nsecret = \"redacted\" # x\n"),
        (format!("affinity = {{ \"secret\" = \"\"\"{secret}\"\"\" }}\n"), "affinity = { \"secret\" = \"redacted\" }\n"),
        (format!("affinity.secret = '{secret}'\n"), "affinity.secret = \"redacted\"\n"),
    ] {
        // At the top, so that dotted and inline forms are of the root.
        let text = format!("{written}{}", base_with("#region", ""));
        let table = RoutingTable::from_afar("t", text.as_bytes(), today())
            .unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        assert_eq!(table.redacted(), text.replace(&written, expected));
        let problems = RoutingTable::from_afar("t", table.redacted().as_bytes(), today()).unwrap_err().to_string();
        assert!(problems.contains("32"), "{problems}");
    }
}
