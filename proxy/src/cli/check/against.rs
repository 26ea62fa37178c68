//! Compares two routing tables.

use std::collections::BTreeMap;

use config::{Endpoint, RoutingTable};
use policy::concurrency::{Bounds, ConcurrencyPlan, Mode};
use policy::diff::{Diff, DiffError, Setting};
use policy::health::{Check, HttpCheck};
use policy::rollout::Canary;

/// Returns what changes for whom, including what the policy does not know of: the endpoints, their
/// probes and limits, the header that says how critical a request is, the canary, and the cookies.
///
/// # Errors
/// When the tables are too large to be compared.
pub(in crate::cli) fn diff(old: &RoutingTable, new: &RoutingTable) -> Result<Diff, DiffError> {
    let mut diff = Diff::between(&old.table, &new.table)?;
    let (before, after) = (upstreams(old), upstreams(new));
    for (key, old) in &before {
        // An added or removed region is in the diff already.
        if let Some(new) = after.get(key).filter(|new| *new != old) {
            diff.settings.push(Setting { key: key.clone(), old: Some(old.clone()), new: Some(new.clone()) });
        }
    }
    let header = |document: &RoutingTable| document.criticality_header.clone().unwrap_or_else(|| "none".to_owned());
    let (before, after) = (header(old), header(new));
    if before != after {
        let key = "concurrency.criticality_header".to_owned();
        diff.settings.push(Setting { key, old: Some(before), new: Some(after) });
    }
    diff.settings.extend(canary_changes(old.canary.as_ref(), new.canary.as_ref()));
    // Without a secret the key is derived from the text, which differs whenever anything does.
    let secret = |document: &RoutingTable| document.has_affinity_secret.then(|| document.affinity.seal("", "", 0));
    let (before, after) = (secret(old), secret(new));
    if before != after {
        let shown = |secret: Option<String>, which: &str| Some(secret.map_or("none", |_| which).to_owned());
        diff.settings.push(Setting {
            key: "affinity.secret".to_owned(),
            old: shown(before, "one"),
            new: shown(after, "another: cookies made under the old one pin nobody"),
        });
    }
    Ok(diff)
}

/// Returns the endpoints, their probes and their limits, by key in the table's file.
fn upstreams(document: &RoutingTable) -> BTreeMap<String, String> {
    let mut said = BTreeMap::new();
    for ((_, region), upstream) in document.table.regions().zip(&document.upstreams) {
        let mut say = |key: &str, value: String| said.insert(format!("regions.{}.{key}", region.name), value);
        let endpoints: Vec<String> = upstream.endpoints.iter().map(endpoint).collect();
        say("endpoints", endpoints.join(", "));
        say("gateway", upstream.gateway.as_ref().map_or("none".to_owned(), Endpoint::to_string));
        let health = &upstream.health;
        for (key, value) in asked(&health.check) {
            say(&format!("health.{key}"), value);
        }
        say("health.interval", format!("{:?}", health.interval));
        say("health.unhealthy_interval", format!("{:?}", health.unhealthy_interval));
        say("health.jitter", health.jitter.to_string());
        say("health.timeout", format!("{:?}", health.timeout));
        say("health.failures", health.failures.to_string());
        say("health.successes", health.successes.to_string());
        let ConcurrencyPlan { mode, queue } = &upstream.concurrency;
        say("concurrency", limit(*mode));
        say("concurrency.queue", queue.length.to_string());
        say("concurrency.queue_age", format!("{:?}", queue.age));
    }
    said
}

fn limit(mode: Mode) -> String {
    match mode {
        Mode::Off => "off".to_owned(),
        Mode::Fixed(limit) => format!("fixed, {limit}"),
        Mode::Adaptive(Bounds { initial, min, max }) => format!("adaptive, {min} to {max}, from {initial} on"),
    }
}

/// Returns `http://HOST:PORT`, and the version in brackets.
fn endpoint(endpoint: &Endpoint) -> String {
    let version = endpoint.version.as_ref().map_or(String::new(), |version| format!(" ({version})"));
    format!("{endpoint}{version}")
}

/// Returns what a probe asks and what passes, by key: the same keys for every kind, so that a change of
/// the kind shows what it adds and removes.
fn asked(check: &Check) -> [(&'static str, String); 6] {
    let none = || "none".to_owned();
    let (kind, http, service) = match check {
        Check::Http(http) => ("http", Some(http), none()),
        Check::Tcp => ("tcp", None, none()),
        Check::Grpc { service } if service.is_empty() => ("grpc", None, "the whole server".to_owned()),
        Check::Grpc { service } => ("grpc", None, service.clone()),
    };
    let statuses = |http: &HttpCheck| {
        let words = http.statuses.iter().map(|range| match (range.start(), range.end()) {
            (from, to) if from == to => from.to_string(),
            (from, to) => format!("{from}-{to}"),
        });
        words.collect::<Vec<_>>().join(", ")
    };
    [
        ("kind", kind.to_owned()),
        ("paths", http.map_or_else(none, |http| http.paths.join(", "))),
        ("host", http.and_then(|http| http.host.clone()).unwrap_or_else(none)),
        ("statuses", http.map_or_else(none, statuses)),
        ("body", http.and_then(|http| http.body.as_ref()).map_or_else(none, |body| format!("{body:?}"))),
        ("service", service),
    ]
}

/// Returns an added or removed canary as one setting; of one that both tables have, each key that differs.
fn canary_changes(old: Option<&Canary>, new: Option<&Canary>) -> Vec<Setting> {
    let (Some(before), Some(after)) = (old, new) else {
        let summary = |canary: &Canary| format!("{}, {}", canary.version, shares(canary));
        let whole = Setting { key: "canary".to_owned(), old: old.map(summary), new: new.map(summary) };
        return Vec::from_iter((old.is_some() || new.is_some()).then_some(whole));
    };
    let pairs = trial(before).into_iter().zip(trial(after)).filter(|((_, old), (_, new))| old != new);
    let setting = |((key, old), (_, new))| Setting { key: format!("canary.{key}"), old: Some(old), new: Some(new) };
    pairs.map(setting).collect()
}

/// Returns a canary's settings, by key.
fn trial(canary: &Canary) -> [(&'static str, String); 8] {
    let Canary { version, steps: _, pace, success, failure, line: _ } = canary;
    let pace: Vec<String> = pace.iter().map(|pace| format!("{pace:?}")).collect();
    [
        ("version", version.clone()),
        ("steps", shares(canary)),
        ("pace", if pace.is_empty() { "none".to_owned() } else { pace.join(", ") }),
        ("success.requests", success.requests.to_string()),
        ("success.error_rate", success.error_rate.to_string()),
        ("success.p95", format!("{:?}", success.p95)),
        ("failure.error_rate", failure.error_rate.to_string()),
        ("failure.p95", format!("{:?}", failure.p95)),
    ]
}

/// Returns the share of clients that get the canary's version, step by step.
fn shares(canary: &Canary) -> String {
    let fixed = if canary.pace.is_empty() { " (fixed)" } else { "" };
    let steps: Vec<String> = canary.steps.iter().map(|percent| format!("{percent} %")).collect();
    format!("{}{fixed}", steps.join(", "))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const TABLE: &str = "\
[regions.a]
country = 'DE'
endpoints = ['10.0.0.1:80', { address = '10.0.0.2:80', version = '2' }]
#health
[[routes]]
name = 'r'
#end";

    /// Returns key, old and new of each setting that differs when the markers are these texts.
    fn changes(old: &[(&str, &str)], new: &[(&str, &str)]) -> Vec<String> {
        let table = |changes: &[(&str, &str)]| {
            let text = changes.iter().fold(TABLE.to_owned(), |text, (from, to)| text.replace(from, to));
            RoutingTable::from_text(Path::new("routes.toml"), &text, crate::clock::wall())
                .unwrap_or_else(|problems| panic!("{problems}"))
        };
        let said = |value: Option<String>| value.unwrap_or_else(|| "nothing".to_owned());
        let settings = diff(&table(old), &table(new)).unwrap().settings.into_iter();
        settings.map(|setting| format!("{}: {} -> {}", setting.key, said(setting.old), said(setting.new))).collect()
    }

    #[test]
    fn each_health_key_is_told() {
        for (health, expected) in [
            ("path = '/x'", "paths: /health -> /x"),
            ("paths = ['/x', '/y']", "paths: /health -> /x, /y"),
            ("host = 'b.example'", "host: none -> b.example"),
            ("statuses = [204, '300-302']", "statuses: 200-399 -> 204, 300-302"),
            ("body = 'ok'", "body: none -> \"ok\""),
            ("unhealthy_interval = '1s'", "unhealthy_interval: 3s -> 1s"),
            ("jitter = 0", "jitter: 0.1 -> 0"),
            ("timeout = '2s'", "timeout: 10s -> 2s"),
            ("failures = 1", "failures: 3 -> 1"),
            ("successes = 1", "successes: 2 -> 1"),
        ] {
            let new = format!("health = {{ {health} }}");
            assert_eq!(changes(&[], &[("#health", &new)]), [format!("regions.a.health.{expected}")]);
        }
        let kinds = changes(&[("#health", "health.kind = 'tcp'")], &[("#health", "health.kind = 'grpc'")]);
        assert_eq!(kinds, ["regions.a.health.kind: tcp -> grpc", "regions.a.health.service: none -> the whole server"]);
    }

    #[test]
    fn versions_and_their_trial_are_told() {
        let canary = |keys: &str| format!("[canary]\nversion = '2'\n{keys}");
        let (fixed, stepwise) = (canary("weight = 10"), canary("steps = [5, 50]\npace = ['1m', '2m']"));
        assert_eq!(changes(&[], &[("#end", &fixed)]), ["canary: nothing -> 2, 10 % (fixed)"]);
        assert_eq!(changes(&[("#end", &stepwise)], &[]), ["canary: 2, 5 %, 50 % -> nothing"]);
        let told = changes(&[("#end", &fixed)], &[("#end", &stepwise)]);
        assert_eq!(told, ["canary.steps: 10 % (fixed) -> 5 %, 50 %", "canary.pace: none -> 60s, 120s"]);
        let told = changes(&[("#end", &canary(""))], &[("#end", &canary("failure.p95 = '1s'"))]);
        assert_eq!(told, ["canary.failure.p95: 500ms -> 1s"]);
        let told = changes(&[], &[("version = '2'", "version = '3'")]);
        let (old, new) = ("http://10.0.0.1:80, http://10.0.0.2:80 (2)", "http://10.0.0.1:80, http://10.0.0.2:80 (3)");
        assert_eq!(told, [format!("regions.a.endpoints: {old} -> {new}")]);
    }
}
