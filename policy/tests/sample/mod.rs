//! Small tables for tests and benches, built from a few words.
//!
//! They panic on what they do not understand.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test takes what it needs")]

use std::time::Duration;

use policy::country::{Country, CountrySet, group};
use policy::failover::{Failover, FailoverScope};
use policy::jurisdiction::{
    ClassId, DataClass, Jurisdiction, JurisdictionId, Rule, Scope, Selector, SuperRegion, Transfer, WhenUnavailable,
};
use policy::region::{Access, AdminState, Capabilities, Region, Role, Tier};
use policy::route::{Affinity, Criticality, HostPattern, PathPattern, Retry, RouteSpec, ServerName, UnknownLag};
use policy::score::ScoringSpec;
use policy::table::{TableSpec, UnknownOrigin, UnlistedJurisdiction};
use policy::{Moment, Period};

/// When the samples' laws are read, unless a test says otherwise.
pub fn today() -> Moment {
    "2026-11-29".parse().unwrap()
}

/// A region in a country, active, with everything else at its default.
pub fn region(name: &str, country: &str) -> Region {
    Region {
        name: name.into(),
        country: country.parse().unwrap(),
        coordinates: None,
        tier: Tier::Primary,
        role: Role::Active,
        priority: 0,
        weight: 100,
        share: None,
        standby: None,
        state: AdminState::Serving,
        operator: None,
        capabilities: Capabilities { read: true, write: true },
        compliance: Vec::new(),
        capacity_rps: None,
        cost_per_gb: 0.0,
        line: 1,
    }
}

/// A route for every host on a path prefix.
pub fn route(name: &str, prefix: &str, class: usize) -> RouteSpec {
    RouteSpec {
        name: name.into(),
        host: HostPattern::Any,
        path: PathPattern::Prefix(prefix.trim_end_matches('/').into()),
        methods: None,
        data_class: ClassId(class),
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
            attempts: 3,
            statuses: vec![502, 503, 504],
            grpc_statuses: vec![4, 8, 13, 14],
            body_bytes: 65536,
            per_try_timeout: None,
            hedge: false,
        },
        line: 1,
    }
}

/// A data class of scope `jurisdiction`.
pub fn class(name: &str, cross_border: Transfer) -> DataClass {
    DataClass { name: name.into(), cross_border, scope: Scope::Jurisdiction }
}

/// Countries from codes and groups.
pub fn countries(names: &[&str]) -> CountrySet {
    let mut set = CountrySet::default();
    for name in names {
        match group(name) {
            Some(members) => set.extend(&members),
            None => set.insert(name.parse::<Country>().unwrap()),
        }
    }
    set
}

/// A jurisdiction of these countries and groups.
pub fn jurisdiction(name: &str, members: &[&str]) -> Jurisdiction {
    Jurisdiction { name: name.into(), countries: countries(members).into() }
}

/// A rule that keeps a class of a jurisdiction to regions in some countries.
pub fn rule(jurisdiction: usize, class: usize, allow: &[&str], transfer: Transfer) -> Rule {
    let selector = Selector { countries: Some(countries(allow).into()), ..Selector::default() };
    Rule {
        jurisdiction: JurisdictionId(jurisdiction),
        data_classes: vec![ClassId(class)],
        allow: Some(if allow.is_empty() { Vec::new() } else { vec![selector] }),
        deny: None,
        transfer,
        period: Period::ALWAYS,
        when_unavailable: WhenUnavailable::Reject,
        blocked_by: None,
        regulation: "law".into(),
        line: 1,
    }
}

/// A table of these regions with one public route on `/`, for tests to add to.
pub fn spec(regions: Vec<Region>) -> TableSpec {
    TableSpec {
        version: "sample".into(),
        at: today().into(),
        regions,
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
        scorings: vec![ScoringSpec::built_in("balanced").unwrap()],
        routes: vec![route("public", "/", 0)],
        failover: Failover::default(),
        lowers_criticality: false,
        traffic_classes: Vec::new(),
        emergency: None,
    }
}

/// A table of `regions` regions spread over the world with a third each under GDPR, free, and
/// Brazilian, for benches: personal data on `/v3/`.
pub fn large(regions: usize, routes: usize) -> TableSpec {
    let homes = ["DE", "US", "BR", "FR", "JP", "IE"];
    let mut spec = spec(
        (0..regions)
            .map(|index| Region {
                coordinates: Some((f64::from(index as u32 % 120) - 60.0, f64::from(index as u32 * 37 % 360) - 180.0)),
                capacity_rps: Some(1000.0 + index as f64),
                cost_per_gb: 0.01 * (index % 8) as f64,
                priority: (index % 3) as u16,
                compliance: vec!["soc2".into()],
                ..region(&format!("region-{index:04}"), homes[index % homes.len()])
            })
            .collect(),
    );
    spec.jurisdictions = vec![jurisdiction("eu", &["@EU"]), jurisdiction("br", &["BR"]), jurisdiction("us", &["US"])];
    spec.data_classes.push(class("personal", Transfer::Allowed));
    spec.rules = vec![
        rule(0, 1, &["@EU"], Transfer::Prohibited),
        rule(1, 1, &["BR"], Transfer::WithSafeguards),
        rule(2, 1, &["US"], Transfer::Allowed),
    ];
    spec.routes = vec![route("public", "/", 0), route("api", "/v3", 1)];
    for index in 0..routes {
        spec.routes.push(RouteSpec {
            host: HostPattern::Exact(format!("host-{:03}.example.com", index % 500)),
            ..route(&format!("route-{index}"), &format!("/service-{}/v1", index / 500), 1)
        });
    }
    spec
}

/// The largest table that a proof must be quick for: 64 regions, every country in a jurisdiction, 5,000
/// routes of many kinds, 256 rules. With `alone` each country is a jurisdiction of its own, so that no
/// two are under the same law; else they share 40, some of which overlap.
pub fn largest(alone: bool) -> TableSpec {
    let every: Vec<Country> = Country::all().collect();
    let homes: Vec<Country> = every.iter().step_by(4).copied().collect();
    let mut spec = spec(
        (0..64)
            .map(|index: usize| Region {
                country: homes[index % homes.len()],
                compliance: ["soc2", "iso27001", "gdpr"][..index % 4].iter().map(|name| (*name).into()).collect(),
                capabilities: Capabilities { read: true, write: !index.is_multiple_of(5) },
                state: if index == 63 { AdminState::Draining } else { AdminState::Serving },
                ..region(&format!("region-{index:02}"), "DE")
            })
            .collect(),
    );
    let count = if alone { every.len() } else { 40 };
    let mut members = vec![CountrySet::default(); count];
    for (index, country) in every.iter().enumerate() {
        members[index % count].insert(*country);
        if !alone && index.is_multiple_of(7) {
            members[index % 3].insert(*country);
        }
    }
    let named = |(index, countries): (usize, CountrySet)| Jurisdiction {
        name: format!("law-{index:03}"),
        countries: countries.into(),
    };
    spec.jurisdictions = members.into_iter().enumerate().map(named).collect();
    for name in ["@AMERICAS", "@EMEA", "@APAC"] {
        spec.super_regions.push(SuperRegion { name: name.into(), countries: countries(&[name]) });
    }
    spec.data_classes.push(class("pii", Transfer::Prohibited));
    spec.data_classes.push(class("personal", Transfer::WithConsent));
    let regional = DataClass { scope: Scope::SuperRegion, ..class("regional", Transfer::Allowed) };
    spec.data_classes.push(regional);
    spec.data_classes.push(class("free", Transfer::Allowed));
    let transfers = [
        Transfer::Prohibited,
        Transfer::WithConsent,
        Transfer::WithSafeguards,
        Transfer::RequiresLocalCopy,
        Transfer::Allowed,
    ];
    spec.rules = (0..256)
        .map(|index: usize| {
            let regions = (0..64).filter(|region| (region * 7 + index % count) % 9 < 3 || *region % 6 == index / count);
            let regions = regions.filter_map(policy::RegionId::new).collect();
            Rule {
                allow: Some(vec![Selector { regions: Some(regions), ..Selector::default() }]),
                data_classes: (1..5).filter(|class: &usize| !(class + index).is_multiple_of(3)).map(ClassId).collect(),
                ..rule(index % count, 1, &["DE"], transfers[index % 5])
            }
        })
        .collect();
    spec.routes = (0..5000)
        .map(|index: usize| RouteSpec {
            host: HostPattern::Exact(format!("host-{:03}.example.com", index % 500)),
            access: [None, Some(Access::Read), Some(Access::Write)][index % 3],
            consent_header: index.is_multiple_of(2).then(|| "x-consent".into()),
            jurisdiction_header: index.is_multiple_of(11).then(|| "x-tenant".into()),
            jurisdictions: if index % 500 == 7 { vec![JurisdictionId(index / 500)] } else { Vec::new() },
            require_compliance: ["soc2", "iso27001"][..index % 5 % 3].iter().map(|name| (*name).into()).collect(),
            ..route(&format!("route-{index:04}"), &format!("/service-{}/v1", index / 500), index % 5)
        })
        .collect();
    spec
}
