//! `[[routes]]`: which requests are treated how.

use std::collections::HashMap;
use std::time::Duration;

use policy::failover::FailoverScope;
use policy::jurisdiction::ClassId;
use policy::region::Access;
use policy::route::{Affinity, Criticality, HostPattern, MethodSet, PathPattern, RouteSpec, ServerName, UnknownLag};
use policy::stripped::Stripped;
use policy::{Method, RouteId, Table};

use super::Context;
use super::pattern::{host_pattern, path_pattern};
use super::retry::retry;
use crate::field::{Field, Section};
use crate::host::parse_host;
use crate::name::{header_name, name as read_name};
use crate::quote::quote;

/// Returns the routes in the order of the file; a route with an error may be left out.
pub(super) fn routes(root: &Section<'_>, context: &Context<'_, '_>) -> Vec<RouteSpec> {
    let Some(list) = root.required("routes", "a table has at least one [[routes]]") else { return Vec::new() };
    let Some(fields) = list.list() else { return Vec::new() };
    if fields.is_empty() {
        list.error("the list is empty: a table has at least one [[routes]]".to_owned());
    }
    if fields.len() > Table::MAX_ROUTES {
        list.error(format!("{} routes; a table may have at most {}", fields.len(), Table::MAX_ROUTES));
        return Vec::new();
    }
    let no_law =
        ["residency", "data_classes"].iter().all(|key| root.field(key).is_none_or(|field| field.is_empty_list()));
    let mut seen = Seen::default();
    let mut routes = Vec::new();
    for field in fields {
        let Some(section) = field.section(KEYS) else { continue };
        // On its own, so that a route with another mistake does not hide this one.
        if let Some(name) = section.field("name").and_then(|name| name.peek_text()) {
            seen.check_name(&field, name);
        }
        let Some(route) = route(&field, &section, context, no_law) else { continue };
        seen.check(&field, &route);
        routes.push(route);
    }
    routes
}

fn route(field: &Field<'_>, section: &Section<'_>, context: &Context<'_, '_>, no_law: bool) -> Option<RouteSpec> {
    let value = |key| section.field(key);
    let duration = |key| value(key).and_then(|field| field.duration());
    let frameworks = |key| value(key).map(|field| context.frameworks.wanted(&field)).unwrap_or_default();
    let timeout = value("timeout").map_or(Some(TIMEOUT), |field| field.duration());
    let name = section.required("name", "give the route a name, for logs and metrics: name = \"api\"");
    let name = name.and_then(|field| read_name(&field));
    let host = value("host").map_or(Some(HostPattern::Any), |field| host_pattern(&field));
    let path = value("path").map_or(Some(PathPattern::Prefix(String::new())), |field| path_pattern(&field));
    let scoring = match value("scoring") {
        Some(field) => context.names.scorings.resolve(&field),
        None => context.names.scorings.get("balanced"),
    };
    let stream_idle_timeout = duration("stream_idle_timeout");
    Some(RouteSpec {
        methods: value("methods").and_then(|field| methods(&field)),
        // A file with errors has no result, so that any id will do after one.
        data_class: data_class(section, context, no_law).unwrap_or(ClassId(0)),
        scoring: scoring.unwrap_or(0),
        criticality: value("criticality").and_then(|field| field.choice(CRITICALITY)).unwrap_or(Criticality::Default),
        traffic_class: value("traffic_class").and_then(|field| context.names.traffic_classes.resolve(&field)),
        access: value("access").and_then(|field| field.choice(ACCESS)).flatten(),
        require_compliance: frameworks("require_compliance"),
        prefer_compliance: frameworks("prefer_compliance"),
        max_latency: duration("max_latency"),
        max_replication_lag: value("max_replication_lag").and_then(|field| field.duration_or_zero()),
        lag_unknown: lag_unknown(section),
        failover: value("failover").and_then(|field| field.choice(FAILOVER)).unwrap_or_default(),
        consent_header: value("consent_header").and_then(|field| header_name(&field)),
        consent_claim: value("consent_claim").and_then(|field| claim_name(&field)),
        jurisdictions: value("jurisdictions")
            .and_then(|field| context.names.jurisdictions.resolve_all(&field))
            .map(|ids| ids.into_iter().collect())
            .unwrap_or_default(),
        jurisdiction_header: value("jurisdiction_header").and_then(|field| header_name(&field)),
        pass_request_headers: value("pass_request_headers").map(|field| passed(&field)).unwrap_or_default(),
        server_name: value("server_name").and_then(|field| server_name(&field)).unwrap_or_default(),
        affinity: value("affinity").map_or(Affinity::None, |field| affinity(&field)),
        timeout: timeout.unwrap_or(TIMEOUT),
        stream_idle_timeout: stream_idle_timeout.unwrap_or(STREAM_IDLE_TIMEOUT),
        streams_uploads: stream_idle_timeout.is_some(),
        retry: retry(value("retry").as_ref(), timeout),
        line: field.line(),
        // Last, because their absence returns early: all else has been read, and so checked, by then.
        name: name?.to_owned(),
        host: host?,
        path: path?,
    })
}

/// Reads what a replica without a lag is taken for, which needs a limit to be anything.
fn lag_unknown(section: &Section<'_>) -> UnknownLag {
    let Some(field) = section.field("lag_unknown") else { return UnknownLag::default() };
    if section.field("max_replication_lag").is_none() {
        field.error(
            "says nothing without a limit: give max_replication_lag = \"60s\" as well, or leave it out".to_owned(),
        );
    }
    field.choice(LAG_UNKNOWN).unwrap_or_default()
}

/// Reads the name that the certificates of TLS origins must have.
fn server_name(field: &Field<'_>) -> Option<ServerName> {
    match field.text()? {
        "endpoint" => Some(ServerName::Endpoint),
        "client" => Some(ServerName::Client),
        name => match parse_host(name) {
            Ok(name) => Some(ServerName::Name(name.into())),
            Err(why) => {
                field.error(format!("{} {why}: \"endpoint\", \"client\", or a host's name", quote(name)));
                None
            }
        },
    }
}

/// Warns of passed header fields by which a client has another request served than the one that was decided.
pub(super) fn warn_of_overrides(root: &Section<'_>, table: &Table) {
    let fields = root.field("routes").and_then(|field| field.peek_list()).unwrap_or_default();
    let emergency = table.emergency().and(table.spec().emergency.as_ref());
    for (index, field) in fields.iter().enumerate() {
        let route = table.route(RouteId(index as u32));
        let id = RouteId(index as u32);
        let off = emergency.map(|emergency| emergency.routes_off.as_slice()).unwrap_or_default();
        // Whoever asks for a route that is off may ask for this one instead.
        let leads_off = !off.is_empty() && !off.contains(&id);
        let Some(section) = field.peek_section().filter(|_| route.is_restricted() || leads_off) else { continue };
        let Some(passed) = section.field("pass_request_headers") else { continue };
        for member in passed.peek_list().unwrap_or_default() {
            let Some(name) = member.peek_text().map(str::to_ascii_lowercase) else { continue };
            if Stripped::of(&name) != Some(Stripped::Override) {
                continue;
            }
            if leads_off && !name.contains("method") {
                member.warning(format!(
                    "{} lets who asks for this route have a route that emergency.routes_off switches off: leave it out while \
                     the emergency lasts",
                    quote(&name)
                ));
            }
            if route.is_restricted() {
                member.warning(format!(
                    "the law restricts this route, and {} has its origins serve another request than the one that is \
                     decided: a read that is a write, or another route's path; pass it only where origins ignore it \
                     for all that other rules would keep elsewhere",
                    quote(&name)
                ));
            }
        }
    }
}

/// Reads the data class of a route. A typo or an omission must never take a route out of the law's reach: with any
/// rule or declared class in the table, each route says what it carries.
fn data_class(section: &Section<'_>, context: &Context<'_, '_>, no_law: bool) -> Option<ClassId> {
    let classes = &context.names.classes;
    match section.field("data_class") {
        Some(field) => classes.resolve(&field),
        None if no_law => classes.get("public"),
        None => {
            let remedy = "the table has residency rules or data classes, so each route says what it carries; \
                data_class = \"public\" if no rule should apply";
            section.missing("data_class", remedy);
            None
        }
    }
}

fn methods(field: &Field<'_>) -> Option<MethodSet> {
    let list = field.list()?;
    if list.is_empty() {
        field.error("the list is empty: leave it out for all methods".to_owned());
    }
    Some(list.iter().filter_map(|member| member.choice(&Method::NAMED)).collect())
}

/// Reads a claim's name: any string by RFC 7519, here a single line.
fn claim_name(field: &Field<'_>) -> Option<String> {
    let is_claim = |text: &str| (1..=128).contains(&text.len()) && !text.contains(char::is_control);
    field.text_that(is_claim, "is not the name of a claim such as \"data_consent\"").map(str::to_owned)
}

/// Reads the fields that are stripped unless they are listed here. Any other is a mistake: it passes anyway, or never.
fn passed(field: &Field<'_>) -> Vec<String> {
    let names = field.list().unwrap_or_default();
    let names = names.iter().filter_map(|member| Some((member, header_name(member)?)));
    let stripped = names.filter(|(member, name)| {
        let known = Stripped::of(name).is_some() && !ALWAYS_OURS.contains(&name.as_str());
        if !known {
            member.error(format!(
                "{} is not among the fields that are stripped by default and may be passed, such as \
                 \"x-http-method-override\": leave it out",
                quote(name)
            ));
        }
        known
    });
    stripped.map(|(_, name)| name).collect()
}

/// The fields that the node itself always sets for origins.
const ALWAYS_OURS: &[&str] = &["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"];

fn affinity(field: &Field<'_>) -> Affinity {
    let Some(section) = field.section(&["kind", "ttl"]) else { return Affinity::None };
    let kind = section.required("kind", "say \"none\", \"client_ip\" or \"cookie\"");
    let ttl = section.field("ttl").and_then(|field| field.duration()).unwrap_or(Duration::from_secs(3600));
    match kind.and_then(|field| field.choice(AFFINITY)) {
        None | Some(Kind::None) => Affinity::None,
        Some(Kind::ClientIp) => Affinity::ClientIp,
        Some(Kind::Cookie) => Affinity::Cookie(ttl),
    }
}

#[derive(Clone, Copy)]
enum Kind {
    None,
    ClientIp,
    Cookie,
}

/// The routes seen so far, to find duplicates.
#[derive(Default)]
struct Seen {
    /// The line of each name.
    names: HashMap<String, u32>,
    /// Routes of one host and path. No two of them meet in a method, so that they are few.
    places: HashMap<(HostPattern, PathPattern), Vec<Other>>,
}

/// What distinguishes a route from the others of its host and path.
struct Other {
    methods: Option<MethodSet>,
    name: String,
    line: u32,
}

impl Seen {
    fn check_name(&mut self, field: &Field<'_>, name: &str) {
        if let Some(line) = self.names.insert(name.to_owned(), field.line()) {
            field.error(format!("{} is the name of the route at line {line} too: names are unique", quote(name)));
        }
    }

    fn check(&mut self, field: &Field<'_>, route: &RouteSpec) {
        let others = self.places.entry((route.host.clone(), route.path.clone())).or_default();
        let same = |other: &&Other| match (other.methods, route.methods) {
            (Some(these), Some(those)) => these.meets(those),
            (None, None) => true,
            // The one that names methods is tried first.
            _ => false,
        };
        match others.iter().find(same) {
            Some(other) => field.error(format!(
                "\"{}\" has the same host and path as \"{}\" at line {}, and no method tells them apart",
                route.name, other.name, other.line
            )),
            None => others.push(Other { methods: route.methods, name: route.name.clone(), line: route.line }),
        }
    }
}

const TIMEOUT: Duration = Duration::from_secs(30);
/// The default `stream_idle_timeout`: as long as a tunnel's, since a stream that is quiet for longer is abandoned.
const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

const KEYS: &[&str] = &[
    "name",
    "host",
    "path",
    "methods",
    "data_class",
    "scoring",
    "criticality",
    "traffic_class",
    "access",
    "require_compliance",
    "prefer_compliance",
    "max_latency",
    "max_replication_lag",
    "lag_unknown",
    "failover",
    "consent_header",
    "consent_claim",
    "jurisdictions",
    "jurisdiction_header",
    "pass_request_headers",
    "server_name",
    "affinity",
    "timeout",
    "stream_idle_timeout",
    "retry",
];

const CRITICALITY: &[(&str, Criticality)] =
    &[("critical", Criticality::Critical), ("default", Criticality::Default), ("sheddable", Criticality::Sheddable)];

const ACCESS: &[(&str, Option<Access>)] =
    &[("auto", None), ("read", Some(Access::Read)), ("write", Some(Access::Write))];

const LAG_UNKNOWN: &[(&str, UnknownLag)] =
    &[("eligible", UnknownLag::Eligible), ("ineligible", UnknownLag::Ineligible)];

const FAILOVER: &[(&str, FailoverScope)] =
    &[("any", FailoverScope::Any), ("jurisdiction", FailoverScope::Jurisdiction), ("region", FailoverScope::Region)];

const AFFINITY: &[(&str, Kind)] = &[("none", Kind::None), ("client_ip", Kind::ClientIp), ("cookie", Kind::Cookie)];
