//! `[canary]`: a version on trial, for a growing share of the clients.

use std::time::Duration;

use policy::rollout::{Canary, Failure, Success};

use crate::field::{Field, Section};
use crate::name::version as read_version;
use crate::quote::quote;

/// Reads the canary; `None` if the table has none, or after an error that leaves none.
pub(super) fn canary(root: &Section<'_>) -> Option<Canary> {
    let field = root.field("canary")?;
    let section = field.section(KEYS)?;
    let version = section.required("version", "say which version is on trial: version = \"3.1.0\"");
    let version = version.and_then(|field| Some((read_version(&field)?, field)));
    if let Some((version, field)) = &version {
        check_endpoints(root, field, version);
    }
    let (steps, pace) = schedule(&section);
    let success = section.field("success").map_or(SUCCESS, |field| success(&field));
    let failure = section.field("failure").map_or(FAILURE, |field| failure(&field));
    check_limits(&field, success, failure);
    let version = version?.0.to_owned();
    Some(Canary { version, steps, pace, success, failure, line: field.line() })
}

/// Reports a version that no endpoint has, and warns of regions where all have it.
///
/// This reads the endpoints anew from the file, so that a region left out for another mistake is
/// not followed by "no endpoint has it".
fn check_endpoints(root: &Section<'_>, field: &Field<'_>, version: &str) {
    let lists = endpoint_lists(root);
    let mut known: Vec<&str> = lists.iter().flat_map(|list| list.versions.iter().flatten().copied()).collect();
    known.sort_unstable();
    known.dedup();
    if !known.contains(&version) {
        return match known.as_slice() {
            [] => field.error(format!("no endpoint has a version: {REMEDY}")),
            _ => field.unknown("version of endpoints", version, known.into_iter()),
        };
    }
    let is_on_trial = |each: &Option<&str>| *each == Some(version);
    for list in lists.iter().filter(|list| list.versions.iter().all(is_on_trial)) {
        let version = quote(version);
        list.field
            .warning(format!("all of them have {version}, which is on trial: nothing is compared in this region"));
    }
}

/// The endpoints of one region, at least one.
struct EndpointList<'t> {
    field: Field<'t>,
    /// The version of each endpoint.
    versions: Vec<Option<&'t str>>,
}

fn endpoint_lists<'t>(root: &Section<'t>) -> Vec<EndpointList<'t>> {
    let regions = root.field("regions").and_then(|field| field.peek_section());
    let lists = regions.iter().flat_map(Section::fields).filter_map(|region| region.peek_section()?.field("endpoints"));
    let version = |member: &Field<'t>| member.peek_section()?.field("version")?.peek_text();
    let read = |field: Field<'t>| {
        let versions: Vec<_> = field.peek_list()?.iter().map(version).collect();
        (!versions.is_empty()).then_some(EndpointList { field, versions })
    };
    lists.filter_map(read).collect()
}

/// Returns the steps, and how long each lasts.
fn schedule(section: &Section<'_>) -> (Vec<u8>, Vec<Duration>) {
    let stepwise = ["steps", "pace"].into_iter().find_map(|key| section.field(key));
    let steps = section.field("steps").map_or(Some(STEPS.to_vec()), |field| steps(&field));
    let pace_field = section.field("pace");
    let pace = pace_field.as_ref().map_or(vec![PACE], pace);
    if let (Some(field), Some(steps)) = (pace_field, &steps)
        && pace.len() > steps.len()
    {
        field.error(format!("{} durations for {} steps: give at most one for each", pace.len(), steps.len()));
    }
    if let Some(weight) = section.field("weight") {
        if let Some(field) = stepwise {
            field.error("a fixed weight has neither steps nor pace: leave out weight, or these".to_owned());
        } else if let Some(field) = section.field("success") {
            field.warning("no effect: with a fixed weight no step follows; write steps, or leave it out".to_owned());
        }
        return (weight.integer(0..=100).into_iter().collect(), Vec::new());
    }
    (steps.unwrap_or_default(), pace)
}

/// Reads the steps in percent, ascending; `None` after an error.
fn steps(field: &Field<'_>) -> Option<Vec<u8>> {
    let list = field.list()?;
    let steps: Vec<u8> = list.iter().filter_map(|step| step.integer(1..=100)).collect();
    if steps.len() < list.len() {
        return None;
    }
    if steps.is_empty() || !steps.is_sorted_by(|a, b| a < b) {
        field.error("the steps must ascend, and there must be one, as in [5, 25, 75, 100]".to_owned());
        return None;
    }
    Some(steps)
}

/// Reads one duration, or a list of them.
fn pace(field: &Field<'_>) -> Vec<Duration> {
    if field.is_empty_list() {
        field.error("the list is empty: leave it out for \"30m\"".to_owned());
    }
    match field.peek_list() {
        Some(list) => list.iter().filter_map(Field::duration).collect(),
        None => field.duration().into_iter().collect(),
    }
}

fn success(field: &Field<'_>) -> Success {
    let Some(section) = field.section(&["requests", "error_rate", "p95"]) else { return SUCCESS };
    let requests = section.field("requests").and_then(|field| field.integer(1..=MAX_REQUESTS));
    let (error_rate, p95) = limits(&section);
    Success {
        requests: requests.unwrap_or(SUCCESS.requests),
        error_rate: error_rate.unwrap_or(SUCCESS.error_rate),
        p95: p95.unwrap_or(SUCCESS.p95),
    }
}

fn failure(field: &Field<'_>) -> Failure {
    let Some(section) = field.section(&["error_rate", "p95"]) else { return FAILURE };
    let (error_rate, p95) = limits(&section);
    Failure { error_rate: error_rate.unwrap_or(FAILURE.error_rate), p95: p95.unwrap_or(FAILURE.p95) }
}

fn limits(section: &Section<'_>) -> (Option<f64>, Option<Duration>) {
    let error_rate = section.field("error_rate").and_then(|field| field.number(0.0..=1.0));
    (error_rate, section.field("p95").and_then(|field| field.duration()))
}

/// Reports limits of success that are laxer than those of failure.
fn check_limits(canary: &Field<'_>, success: Success, failure: Failure) {
    let report = |key: &str, success: String, failure: String| {
        place(canary, key).error(format!(
            "success.{key} is {success} and failure.{key} {failure}: what ends a canary must not be good enough for \
             its next step; lower the one or raise the other"
        ));
    };
    if success.error_rate > failure.error_rate {
        report("error_rate", success.error_rate.to_string(), failure.error_rate.to_string());
    }
    if success.p95 > failure.p95 {
        let words = |duration| humantime::format_duration(duration).to_string();
        report("p95", words(success.p95), words(failure.p95));
    }
}

/// Returns the field of a limit: under `success`, or else under `failure`.
fn place<'t>(canary: &Field<'t>, key: &str) -> Field<'t> {
    let section = canary.peek_section();
    let under = |name: &str| section.as_ref()?.field(name)?.peek_section()?.field(key);
    under("success").or_else(|| under("failure")).unwrap_or_else(|| canary.clone())
}

const KEYS: &[&str] = &["version", "weight", "steps", "pace", "success", "failure"];

const REMEDY: &str = "say it of those that run the version on trial, as in \
    { address = \"10.0.0.1:8080\", version = \"3.1.0\" }";

const STEPS: &[u8] = &[5, 25, 75, 100];

const PACE: Duration = Duration::from_secs(30 * 60);

const SUCCESS: Success = Success { requests: 10_000, error_rate: 0.001, p95: Duration::from_millis(200) };

const FAILURE: Failure = Failure { error_rate: 0.005, p95: Duration::from_millis(500) };

const MAX_REQUESTS: u64 = 1_000_000_000_000;
