//! The index of routes finds what a scan of all of them finds.
//!
//! The input is a route a line, `HOST PATH METHODS`, and at last a request, `HOST PATH METHOD`; of
//! methods the first letters. `*` is any host, `*.a` those below `a`; `=/a` is exactly that path. All
//! other bytes stand for one of [`ALPHABET`], so that any input makes routes that collide; unless it
//! starts with `!`.

use std::cmp::Reverse;
use std::time::Duration;

use policy::failover::{Failover, FailoverScope};
use policy::jurisdiction::{ClassId, DataClass, Scope, Transfer};
use policy::region::{AdminState, Capabilities, Region, Role, Tier};
use policy::route::{
    Affinity, Criticality, HostPattern, MethodSet, PathPattern, Retry, RouteSpec, ServerName, UnknownLag,
};
use policy::score::ScoringSpec;
use policy::table::{TableSpec, UnknownOrigin, UnlistedJurisdiction};
use policy::{Method, Moment, RouteId, Table};

/// Those that come more than once are the more likely.
const ALPHABET: &[u8] = b"aaabb...///*= \n\nGP";

pub(crate) fn check(input: &[u8]) {
    let text = match input.strip_prefix(b"!") {
        Some(raw) => String::from_utf8_lossy(raw).into_owned(),
        None => input.iter().map(|byte| char::from(folded(*byte))).collect(),
    };
    let mut lines: Vec<[&str; 3]> = text.split('\n').map(fields).collect();
    let Some([host, path, method]) = lines.pop() else { return };
    lines.truncate(32);
    if lines.is_empty() {
        return;
    }
    let method = methods(method).next().unwrap_or(Method::Other);
    let routes: Vec<RouteSpec> = lines.into_iter().enumerate().map(|(index, line)| route(index, line)).collect();
    let found = scan(&routes, host, path, method);
    let table = Table::new(spec(routes)).expect("a table of one region and some routes");
    assert_eq!(table.find_route(host, path, method), found, "{method:?} {host:?} {path:?}");
}

fn folded(byte: u8) -> u8 {
    if ALPHABET.contains(&byte) { byte } else { ALPHABET[usize::from(byte) % ALPHABET.len()] }
}

fn fields(line: &str) -> [&str; 3] {
    let mut fields = line.splitn(3, ' ').map(|field| field.trim_end_matches('\r'));
    std::array::from_fn(|_| fields.next().unwrap_or_default())
}

fn methods(letters: &str) -> impl Iterator<Item = Method> {
    letters
        .chars()
        .filter_map(|letter| Method::NAMED.iter().find(|(name, _)| name.starts_with(letter)).map(|(_, method)| *method))
}

/// The most specific of all routes that match; the first of equals.
fn scan(routes: &[RouteSpec], host: &str, path: &str, method: Method) -> Option<RouteId> {
    let specificity = |route: &RouteSpec| {
        let host = match &route.host {
            HostPattern::Exact(exact) => (exact == host).then_some((2, 0)),
            HostPattern::Below(parent) => {
                host.strip_suffix(parent.as_str()).is_some_and(|rest| rest.ends_with('.')).then_some((1, parent.len()))
            }
            HostPattern::Any => Some((0, 0)),
        };
        let path = match &route.path {
            PathPattern::Exact(exact) => (exact == path).then_some((1, 0)),
            PathPattern::Prefix(prefix) => {
                let rest = path.strip_prefix(prefix.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')).then_some((0, prefix.len()))
            }
        };
        let methods = match route.methods {
            Some(methods) => methods.contains(method).then_some(1),
            None => Some(0),
        };
        Some((host?, path?, methods?))
    };
    let matching = routes.iter().enumerate().filter_map(|(index, route)| Some((specificity(route)?, index)));
    matching.max_by_key(|(specificity, index)| (*specificity, Reverse(*index))).map(|(_, index)| RouteId(index as u32))
}

fn route(index: usize, [host, path, letters]: [&str; 3]) -> RouteSpec {
    let methods: MethodSet = methods(letters).collect();
    RouteSpec {
        name: index.to_string(),
        host: match (host, host.strip_prefix("*.")) {
            ("*", _) => HostPattern::Any,
            (_, Some(parent)) => HostPattern::Below(parent.into()),
            (host, None) => HostPattern::Exact(host.into()),
        },
        path: match path.strip_prefix('=') {
            Some(path) => PathPattern::Exact(path.into()),
            None => PathPattern::Prefix(path.trim_end_matches('/').into()),
        },
        methods: (methods != MethodSet::default()).then_some(methods),
        data_class: ClassId(0),
        scoring: 0,
        criticality: Criticality::Default,
        traffic_class: None,
        access: None,
        require_compliance: Vec::new(),
        prefer_compliance: Vec::new(),
        max_latency: None,
        max_replication_lag: None,
        lag_unknown: UnknownLag::Eligible,
        failover: FailoverScope::Any,
        consent_header: None,
        consent_claim: None,
        jurisdictions: Vec::new(),
        jurisdiction_header: None,
        pass_request_headers: Vec::new(),
        server_name: ServerName::Endpoint,
        stream_idle_timeout: Duration::from_secs(3600),
        streams_uploads: false,
        affinity: Affinity::None,
        timeout: Duration::from_secs(30),
        retry: Retry {
            attempts: 1,
            statuses: Vec::new(),
            grpc_statuses: Vec::new(),
            body_bytes: 0,
            per_try_timeout: None,
            hedge: false,
        },
        line: 1,
    }
}

fn spec(routes: Vec<RouteSpec>) -> TableSpec {
    TableSpec {
        version: "fuzz".into(),
        at: Moment::from_unix_seconds(0).into(),
        regions: vec![Region {
            name: "only".into(),
            country: "DE".parse().expect("a country"),
            coordinates: None,
            tier: Tier::Primary,
            role: Role::Active,
            priority: 0,
            weight: 100,
            state: AdminState::Serving,
            capabilities: Capabilities { read: true, write: true },
            operator: None,
            compliance: Vec::new(),
            share: None,
            standby: None,
            capacity_rps: None,
            cost_per_gb: 0.0,
            line: 1,
        }],
        latency_ms: Vec::new(),
        latency_window: std::time::Duration::from_secs(60),
        latency_sla_ms: Vec::new(),
        lists: Vec::new(),
        jurisdictions: Vec::new(),
        super_regions: Vec::new(),
        data_classes: vec![DataClass { name: "public".into(), cross_border: Transfer::Allowed, scope: Scope::Global }],
        rules: Vec::new(),
        unknown_origin: UnknownOrigin::Strictest,
        unlisted_jurisdiction: UnlistedJurisdiction::Allow,
        scorings: vec![ScoringSpec::built_in("balanced").expect("it is built in")],
        routes,
        failover: Failover::default(),
        lowers_criticality: false,
        traffic_classes: Vec::new(),
        emergency: None,
    }
}
