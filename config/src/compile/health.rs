//! `regions.NAME.health`: how the endpoints of a region are probed.

use std::ops::RangeInclusive;
use std::time::Duration;

use policy::health::{Check, HttpCheck, ProbePlan};

use crate::field::{Field, Section};
use crate::host::parse_host;
use crate::quote::quote;

/// Returns the plan, each part of it with its default.
pub(super) fn health(field: &Field<'_>) -> ProbePlan {
    let mut plan = ProbePlan::default();
    let Some(section) = field.section(KEYS) else { return plan };
    plan.check = check(&section);
    let duration = |key| section.field(key).and_then(|field| field.duration());
    let count = |key| section.field(key).and_then(|field| field.integer(1..=1000));
    let jitter = section.field("jitter").and_then(|field| field.number(0.0..=1.0));
    let interval = section.field("interval").and_then(|field| pace(&field));
    // Nothing is compared with an interval that was reported.
    let interval_is_bad = interval.is_none() && section.field("interval").is_some();
    plan.interval = interval.unwrap_or(plan.interval);
    plan.unhealthy_interval = ProbePlan::default_unhealthy_interval(plan.interval);
    plan.unhealthy_interval =
        section.field("unhealthy_interval").and_then(|field| pace(&field)).unwrap_or(plan.unhealthy_interval);
    plan.jitter = jitter.unwrap_or(plan.jitter);
    // The default timeout is cut to the interval.
    plan.timeout = duration("timeout").unwrap_or(plan.timeout.min(plan.interval));
    plan.failures = count("failures").unwrap_or(plan.failures);
    plan.successes = count("successes").unwrap_or(plan.successes);
    if let Some(field) = section.field("timeout").filter(|_| plan.timeout > plan.interval) {
        field.warning("longer than the interval: probes of one endpoint will wait for each other".to_owned());
    }
    if let Some(field) =
        section.field("unhealthy_interval").filter(|_| !interval_is_bad && plan.unhealthy_interval > plan.interval)
    {
        let interval = humantime::format_duration(plan.interval);
        field.error(format!("longer than the interval of {interval}: while something is wrong, probes come sooner"));
    }
    plan
}

/// Reads a probe interval, of [`SHORTEST`] at least.
fn pace(field: &Field<'_>) -> Option<Duration> {
    let pace = field.duration()?;
    if pace < SHORTEST {
        field.error("too short: the node looks for due probes every 100ms; write \"100ms\" or more".to_owned());
        return None;
    }
    Some(pace)
}

/// Reads the check; keys of another kind are reported.
fn check(section: &Section<'_>) -> Check {
    let kind = section.field("kind").map_or(Some(Kind::Http), |field| field.choice(KINDS));
    // The keys of an unknown kind are not known either.
    let Some(kind) = kind else { return Check::Tcp };
    for (owner, keys) in [(Kind::Http, HTTP_KEYS), (Kind::Grpc, GRPC_KEYS)] {
        for field in keys.iter().filter(|_| owner != kind).filter_map(|key| section.field(key)) {
            let (is, owner) = (word(kind), word(owner));
            field.error(format!("a key of kind = \"{owner}\", and this is \"{is}\": leave it out, or change the kind"));
        }
    }
    match kind {
        Kind::Http => Check::Http(http(section)),
        Kind::Tcp => Check::Tcp,
        Kind::Grpc => {
            Check::Grpc { service: section.field("service").and_then(|field| service(&field)).unwrap_or_default() }
        }
    }
}

fn http(section: &Section<'_>) -> HttpCheck {
    let default = HttpCheck::default();
    let one = section.field("path").map(|field| path(&field).into_iter().collect());
    let several = section.field("paths").map(|field| paths(&field));
    if let Some(field) = section.field("paths").filter(|_| one.is_some()) {
        field.error("path is given too: write all of them here, and leave path out".to_owned());
    }
    let is_body = |text: &str| (1..=MAX_BODY).contains(&text.len());
    let body = section.field("body").and_then(|field| field.text_that(is_body, "is not a text of 1 to 1024 bytes"));
    HttpCheck {
        paths: several.or(one).unwrap_or(default.paths),
        host: section.field("host").and_then(|field| host(&field)),
        statuses: section.field("statuses").map_or(default.statuses, |field| statuses(&field)),
        body: body.map(str::to_owned),
    }
}

fn path(field: &Field<'_>) -> Option<String> {
    let graphic = |b: u8| b.is_ascii_graphic() && b != b'#';
    let is_path = |path: &str| path.starts_with('/') && path.bytes().all(graphic);
    field.text_that(is_path, "is not a path such as \"/health\"").map(str::to_owned)
}

fn paths(field: &Field<'_>) -> Vec<String> {
    let list = field.list().unwrap_or_default();
    if field.is_empty_list() {
        field.error("the list is empty: leave it out for [\"/health\"]".to_owned());
    }
    if list.len() > MAX_PATHS {
        field.error(format!("{} paths; a probe can ask at most {MAX_PATHS}", list.len()));
    }
    list.iter().take(MAX_PATHS).filter_map(path).collect()
}

/// Reads a host, in the form of a `Host` field: an IPv6 address in brackets.
fn host(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    let remedy = "write a host such as api.example.com, without scheme and port";
    let host = parse_host(text).map_err(|problem| field.error(format!("{} {problem}: {remedy}", quote(text)))).ok()?;
    Some(if host.contains(':') { format!("[{host}]") } else { host })
}

/// Reads ranges of statuses; returns them ascending and merged.
fn statuses(field: &Field<'_>) -> Vec<RangeInclusive<u16>> {
    if field.is_empty_list() {
        field.error("the list is empty: leave it out for [\"200-399\"]".to_owned());
    }
    let list = field.list().unwrap_or_default();
    let mut ranges: Vec<_> = list.iter().filter_map(status_range).collect();
    ranges.sort_unstable_by_key(|range| *range.start());
    let mut merged: Vec<RangeInclusive<u16>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if *range.start() <= *last.end() + 1 => *last = *last.start()..=*last.end().max(range.end()),
            _ => merged.push(range),
        }
    }
    merged
}

/// Reads `204`, or `"200-399"`.
fn status_range(field: &Field<'_>) -> Option<RangeInclusive<u16>> {
    let Some(text) = field.peek_text() else { return field.integer(STATUSES).map(|status| status..=status) };
    let is_digits = |text: &&str| text.bytes().all(|b| b.is_ascii_digit());
    let number = |text: &str| Some(text).filter(is_digits)?.parse().ok().filter(|status| STATUSES.contains(status));
    let range = text.split_once('-').and_then(|(from, to)| Some(number(from)?..=number(to)?));
    let range = range.filter(|range| !range.is_empty());
    if range.is_none() {
        field.error(format!("{} is not a range of statuses from 100 to 599 such as \"200-399\"", quote(text)));
    }
    range
}

fn service(field: &Field<'_>) -> Option<String> {
    let is_service = |text: &str| text.len() <= MAX_SERVICE && text.bytes().all(|b| b.is_ascii_graphic());
    let problem = "is not the name of a gRPC service such as \"shop.v1.Orders\", or \"\" for the whole server";
    field.text_that(is_service, problem).map(str::to_owned)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    Tcp,
    Grpc,
}

fn word(kind: Kind) -> &'static str {
    KINDS.iter().find(|(_, each)| *each == kind).map_or("", |(word, _)| word)
}

const KINDS: &[(&str, Kind)] = &[("http", Kind::Http), ("tcp", Kind::Tcp), ("grpc", Kind::Grpc)];

const KEYS: &[&str] = &[
    "kind",
    "path",
    "paths",
    "host",
    "statuses",
    "body",
    "service",
    "interval",
    "unhealthy_interval",
    "jitter",
    "timeout",
    "failures",
    "successes",
];

const HTTP_KEYS: &[&str] = &["path", "paths", "host", "statuses", "body"];
const GRPC_KEYS: &[&str] = &["service"];

const STATUSES: RangeInclusive<u16> = 100..=599;

/// The most paths of a check: each is a request to every endpoint at every interval.
const MAX_PATHS: usize = 16;

/// The longest expected body, in bytes.
const MAX_BODY: usize = 1024;

/// The longest name of a gRPC service, in bytes.
const MAX_SERVICE: usize = 256;

/// The shortest probe interval: how often the node looks for due probes.
const SHORTEST: Duration = Duration::from_millis(100);
