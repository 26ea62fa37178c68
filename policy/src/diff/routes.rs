//! Routes added, removed, renamed and changed, and requests that another route takes.

use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

use super::settings::{Setting, differing, listed};
use super::space::{Pair, Pairs, in_words};
use crate::jurisdiction::JurisdictionId;
use crate::region::Access;
use crate::route::{Affinity, HostPattern, Method, MethodSet, PathPattern, Retry, RouteId, RouteSpec, ServerName};
use crate::table::{Table, TableSpec};

/// What becomes of one route.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RouteChange {
    /// Its name; in the new table, if it is there.
    pub route: String,
    /// What becomes of it.
    pub fate: RouteFate,
    /// The requests that it is for, as a pattern; by the new table, if it is there.
    pub requests: String,
    /// Their data class.
    pub data_class: String,
    /// What the tables say differently of it.
    pub settings: Vec<Setting>,
}

/// What becomes of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteFate {
    /// The old table does not have it.
    Added,
    /// The new table does not have it; its requests go to these routes, and are answered 404 if there
    /// is none.
    Removed {
        /// Routes of the new table.
        goes_to: Vec<String>,
        /// Whether some or all of its requests are answered 404.
        not_found: bool,
    },
    /// The same requests under another name.
    Renamed {
        /// The name in the old table.
        from: String,
    },
    /// Both tables have it.
    Changed,
}

/// Requests of a route that both tables have, which another route takes in the new one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Takeover {
    /// The route that they fall under in the old table.
    pub route: String,
    /// Its data class in the old table.
    pub data_class: String,
    /// The route that they fall under in the new table; null when they are answered 404.
    pub by: Option<String>,
    /// Its data class.
    pub by_class: Option<String>,
    /// Whether that route is new.
    pub by_new_route: bool,
    /// Some of the requests, as patterns.
    pub at: Vec<String>,
    /// Their methods; null for all.
    pub methods: Option<Vec<Method>>,
    /// Whether no request reaches the route any more.
    pub shadowed: bool,
}

/// Routes added, removed, renamed and changed.
pub(super) fn changes(old: &Table, new: &Table, pairs: &Pairs) -> Vec<RouteChange> {
    let known = Counterparts::new(old, new);
    let mut changes = Vec::new();
    // Where the requests of each old route go: to these routes, or nowhere.
    let mut ends: FxHashMap<&str, (Vec<String>, bool)> = FxHashMap::default();
    for pair in &pairs.list {
        let Some(route) = pair.old.map(|id| &old.route(id).spec) else { continue };
        let (goes_to, not_found) = ends.entry(&route.name).or_default();
        match pair.new {
            Some(id) => goes_to.push(new.route(id).spec.name.clone()),
            None => *not_found = true,
        }
    }
    let class = |table: &Table, route: &RouteSpec| table.spec().data_classes[route.data_class.0].name.clone();
    for route in &old.spec().routes {
        let change = |fate, route: &RouteSpec, table: &Table, settings| RouteChange {
            route: route.name.clone(),
            fate,
            requests: in_words(&route.host, &route.path),
            data_class: class(table, route),
            settings,
        };
        let Some(counterpart) = known.of_old(route) else {
            let (goes_to, not_found) = ends.remove(route.name.as_str()).unwrap_or_default();
            changes.push(change(RouteFate::Removed { goes_to, not_found }, route, old, Vec::new()));
            continue;
        };
        let settings = differing("", &said_of(route, old.spec()), &said_of(counterpart, new.spec()));
        if counterpart.name != route.name {
            changes.push(change(RouteFate::Renamed { from: route.name.clone() }, counterpart, new, settings));
        } else if !settings.is_empty() {
            changes.push(change(RouteFate::Changed, counterpart, new, settings));
        }
    }
    let added = new.spec().routes.iter().filter(|route| known.is_added(route)).map(|route| RouteChange {
        route: route.name.clone(),
        fate: RouteFate::Added,
        requests: in_words(&route.host, &route.path),
        data_class: class(new, route),
        settings: Vec::new(),
    });
    changes.extend(added);
    changes
}

/// Requests that another route takes than the one that they fell under.
pub(super) fn takeovers(old: &Table, new: &Table, pairs: &Pairs) -> Vec<Takeover> {
    let known = Counterparts::new(old, new);
    let ids: FxHashMap<&str, RouteId> = new
        .spec()
        .routes
        .iter()
        .enumerate()
        .map(|(index, route)| (route.name.as_str(), RouteId(index as u32)))
        .collect();
    let class = |table: &Table, route: &RouteSpec| table.spec().data_classes[route.data_class.0].name.clone();
    let takeover = |pair: &Pair| {
        let route = &old.route(pair.old?).spec;
        let counterpart = known.of_old(route)?;
        let by = pair.new.map(|id| &new.route(id).spec);
        if by.is_some_and(|by| by.name == counterpart.name) {
            return None;
        }
        Some(Takeover {
            route: counterpart.name.clone(),
            data_class: class(old, route),
            by: by.map(|by| by.name.clone()),
            by_class: by.map(|by| class(new, by)),
            by_new_route: by.is_some_and(|by| known.is_added(by)),
            at: pair.at.clone(),
            methods: (pair.methods.len() <= Method::NAMED.len()).then(|| pair.methods.clone()),
            shadowed: !ids.get(counterpart.name.as_str()).is_some_and(|id| pairs.reached.contains(id)),
        })
    };
    pairs.list.iter().filter_map(takeover).collect()
}

/// Which route of the new table is which of the old one: by name, else by the same requests.
struct Counterparts<'a> {
    new_by_name: FxHashMap<&'a str, &'a RouteSpec>,
    old_names: FxHashSet<&'a str>,
    /// Routes of the new table alone, by what they are for.
    renamed: FxHashMap<Pattern<'a>, &'a RouteSpec>,
    /// What routes of the old table alone are for.
    gone: FxHashSet<Pattern<'a>>,
}

type Pattern<'a> = (&'a HostPattern, &'a PathPattern, Option<MethodSet>);

impl<'a> Counterparts<'a> {
    fn new(old: &'a Table, new: &'a Table) -> Self {
        let (before, after) = (&old.spec().routes, &new.spec().routes);
        let new_by_name: FxHashMap<&str, &RouteSpec> = after.iter().map(|route| (route.name.as_str(), route)).collect();
        let old_names: FxHashSet<&str> = before.iter().map(|route| route.name.as_str()).collect();
        let gone = before.iter().filter(|route| !new_by_name.contains_key(route.name.as_str()));
        let come = after.iter().filter(|route| !old_names.contains(route.name.as_str()));
        Self {
            gone: gone.map(pattern).collect(),
            renamed: come.map(|route| (pattern(route), route)).collect(),
            new_by_name,
            old_names,
        }
    }

    fn of_old(&self, route: &'a RouteSpec) -> Option<&'a RouteSpec> {
        self.new_by_name.get(route.name.as_str()).or_else(|| self.renamed.get(&pattern(route))).copied()
    }

    fn is_added(&self, route: &'a RouteSpec) -> bool {
        !self.old_names.contains(route.name.as_str()) && !self.gone.contains(&pattern(route))
    }
}

fn pattern(route: &RouteSpec) -> Pattern<'_> {
    (&route.host, &route.path, route.methods)
}

/// Everything that a table says of a route, by key.
fn said_of(route: &RouteSpec, spec: &TableSpec) -> Vec<(String, String)> {
    // A new key does not compile until it is named here, and so told below.
    let RouteSpec {
        name: _,
        host: _,
        path: _,
        methods: _,
        data_class: _,
        scoring: _,
        criticality: _,
        traffic_class: _,
        access: _,
        require_compliance: _,
        prefer_compliance: _,
        max_latency: _,
        max_replication_lag: _,
        lag_unknown: _,
        failover: _,
        consent_header: _,
        consent_claim: _,
        jurisdictions: _,
        jurisdiction_header: _,
        pass_request_headers: _,
        server_name: _,
        affinity: _,
        timeout: _,
        stream_idle_timeout: _,
        streams_uploads: _,
        retry: Retry { attempts: _, statuses: _, grpc_statuses: _, body_bytes: _, per_try_timeout: _, hedge: _ },
        line: _,
    } = route;
    let optional = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
    let jurisdictions = |ids: &[JurisdictionId]| {
        let mut names: Vec<&str> = ids.iter().map(|id| spec.jurisdictions[id.0].name.as_str()).collect();
        names.sort_unstable();
        listed(&names)
    };
    let duration = |value: Option<std::time::Duration>| optional(value.map(|value| format!("{value:?}")));
    let retry = &route.retry;
    [
        ("requests", in_words(&route.host, &route.path)),
        ("methods", route.methods.map_or("all".to_owned(), methods)),
        ("data_class", spec.data_classes[route.data_class.0].name.clone()),
        ("scoring", spec.scorings[route.scoring].name.clone()),
        ("criticality", route.criticality.name().to_owned()),
        (
            "traffic_class",
            optional(route.traffic_class.and_then(|index| Some(spec.traffic_classes.get(index)?.name.clone()))),
        ),
        (
            "access",
            match route.access {
                None => "auto",
                Some(Access::Read) => "read",
                Some(Access::Write) => "write",
            }
            .to_owned(),
        ),
        ("require_compliance", listed(&route.require_compliance)),
        ("prefer_compliance", listed(&route.prefer_compliance)),
        ("max_latency", duration(route.max_latency)),
        ("max_replication_lag", duration(route.max_replication_lag)),
        ("lag_unknown", route.lag_unknown.name().to_owned()),
        ("failover", route.failover.name().to_owned()),
        ("consent_header", optional(route.consent_header.clone())),
        ("consent_claim", optional(route.consent_claim.clone())),
        ("jurisdictions", jurisdictions(&route.jurisdictions)),
        ("jurisdiction_header", optional(route.jurisdiction_header.clone())),
        ("pass_request_headers", listed(&route.pass_request_headers)),
        (
            "server_name",
            match &route.server_name {
                ServerName::Endpoint => "endpoint".to_owned(),
                ServerName::Client => "client".to_owned(),
                ServerName::Name(name) => name.to_string(),
            },
        ),
        (
            "affinity",
            match route.affinity {
                Affinity::None => "none".to_owned(),
                Affinity::ClientIp => "client_ip".to_owned(),
                Affinity::Cookie(ttl) => format!("cookie, {ttl:?}"),
            },
        ),
        ("timeout", format!("{:?}", route.timeout)),
        (
            "stream_idle_timeout",
            match route.streams_uploads {
                true => format!("{:?}", route.stream_idle_timeout),
                false => format!("{:?} (of answers and calls)", route.stream_idle_timeout),
            },
        ),
        ("retry.attempts", retry.attempts.to_string()),
        ("retry.statuses", format!("{:?}", retry.statuses)),
        ("retry.grpc_statuses", format!("{:?}", retry.grpc_statuses)),
        ("retry.body_bytes", retry.body_bytes.to_string()),
        ("retry.per_try_timeout", duration(retry.per_try_timeout)),
        ("retry.hedge", retry.hedge.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

fn methods(set: MethodSet) -> String {
    let names: Vec<&str> =
        Method::NAMED.iter().filter(|(_, method)| set.contains(*method)).map(|(name, _)| *name).collect();
    listed(&names)
}
