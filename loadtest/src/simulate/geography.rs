//! Where the regions are, and the table that every node has.

use std::time::Duration;

use policy::failover::Failover;
use policy::jurisdiction::{
    ClassId, DataClass, Jurisdiction, JurisdictionId, Rule, Scope, Selector, Transfer, WhenUnavailable,
};
use policy::pressure::Criticality;
use policy::region::{AdminState, Capabilities, Region, Role, Tier};
use policy::route::{Affinity, HostPattern, PathPattern, Retry, RouteSpec, ServerName};
use policy::score::ScoringSpec;
use policy::table::{UnknownOrigin, UnlistedJurisdiction};
use policy::{Moment, Period, Table, TableSpec};

/// A place that a region is in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) name: &'static str,
    pub(super) country: &'static str,
    /// Degrees.
    pub(super) latitude: f64,
    pub(super) longitude: f64,
    /// Whether the clients there are under the law of the table.
    pub(super) is_in_eu: bool,
}

const fn place(name: &'static str, country: &'static str, latitude: f64, longitude: f64) -> Place {
    Place { name, country, latitude, longitude, is_in_eu: false }
}

const fn eu(name: &'static str, country: &'static str, latitude: f64, longitude: f64) -> Place {
    Place { name, country, latitude, longitude, is_in_eu: true }
}

/// The places of regions, in the order in which a fleet grows: any number of them from 3 on has two in the EU.
pub(super) const PLACES: [Place; 30] = [
    place("virginia", "US", 38.9, -77.4),
    eu("dublin", "IE", 53.3, -6.3),
    eu("frankfurt", "DE", 50.1, 8.7),
    place("tokyo", "JP", 35.7, 139.7),
    place("oregon", "US", 45.6, -121.2),
    place("singapore", "SG", 1.3, 103.8),
    place("sao-paulo", "BR", -23.6, -46.6),
    eu("paris", "FR", 48.9, 2.4),
    place("sydney", "AU", -33.9, 151.2),
    place("mumbai", "IN", 19.1, 72.9),
    place("ohio", "US", 40.0, -83.0),
    place("london", "GB", 51.5, -0.1),
    eu("stockholm", "SE", 59.3, 18.1),
    place("seoul", "KR", 37.6, 127.0),
    place("california", "US", 37.4, -121.9),
    place("montreal", "CA", 45.5, -73.6),
    eu("milan", "IT", 45.5, 9.2),
    place("osaka", "JP", 34.7, 135.5),
    place("cape-town", "ZA", -33.9, 18.4),
    place("bahrain", "BH", 26.1, 50.6),
    place("hong-kong", "HK", 22.3, 114.2),
    place("jakarta", "ID", -6.2, 106.8),
    eu("madrid", "ES", 40.4, -3.7),
    place("zurich", "CH", 47.4, 8.5),
    place("texas", "US", 32.8, -96.8),
    place("santiago", "CL", -33.4, -70.7),
    eu("warsaw", "PL", 52.2, 21.0),
    place("tel-aviv", "IL", 32.1, 34.8),
    place("melbourne", "AU", -37.8, 145.0),
    place("hyderabad", "IN", 17.4, 78.5),
];

/// What clients ask for: a route, and the share of the requests that it gets.
pub(super) const ROUTES: [(&str, Criticality, f64); 4] = [
    ("batch", Criticality::Sheddable, 0.3),
    ("web", Criticality::Default, 0.3),
    // Personal data: that of the EU's clients stays in the EU.
    ("personal", Criticality::Default, 0.2),
    ("checkout", Criticality::Critical, 0.2),
];

/// Makes the table of a fleet: regions of these declared capacities in requests per second, and `failover`.
///
/// # Panics
/// When there are more regions than [`PLACES`].
pub(super) fn table(declared: &[Option<f64>], failover: Failover) -> Table {
    let places = PLACES.iter().take(declared.len());
    let regions: Vec<Region> = places.zip(declared).map(|(place, declared)| region(place, *declared)).collect();
    assert_eq!(regions.len(), declared.len(), "a place for each region");
    let eu = regions.iter().zip(PLACES).filter(|(_, place)| place.is_in_eu).map(|(region, _)| region.country).collect();
    let home = Selector { countries: Some(policy::country::CountrySet::into(eu)), ..Selector::default() };
    let global = DataClass { name: "public".into(), cross_border: Transfer::Allowed, scope: Scope::Global };
    let personal = DataClass { name: "personal".into(), cross_border: Transfer::Allowed, scope: Scope::Jurisdiction };
    let spec = TableSpec {
        version: "simulated".into(),
        at: "2026-11-29".parse::<Moment>().expect("a date").into(),
        regions,
        latency_ms: Vec::new(),
        latency_window: std::time::Duration::ZERO,
        latency_sla_ms: Vec::new(),
        lists: Vec::new(),
        jurisdictions: vec![Jurisdiction { name: "eu".into(), countries: eu.into() }],
        super_regions: Vec::new(),
        data_classes: vec![global, personal],
        rules: vec![Rule {
            jurisdiction: JurisdictionId(0),
            data_classes: vec![ClassId(1)],
            allow: Some(vec![home]),
            deny: None,
            transfer: Transfer::Prohibited,
            period: Period::ALWAYS,
            when_unavailable: WhenUnavailable::Reject,
            blocked_by: None,
            regulation: "GDPR".into(),
            line: 1,
        }],
        unknown_origin: UnknownOrigin::Strictest,
        unlisted_jurisdiction: UnlistedJurisdiction::Allow,
        scorings: vec![ScoringSpec::built_in("balanced").expect("built in")],
        routes: ROUTES.iter().map(|(name, criticality, _)| route(name, *criticality)).collect(),
        failover,
        lowers_criticality: false,
        traffic_classes: Vec::new(),
        emergency: None,
    };
    Table::new(spec).expect("a sound table")
}

fn region(place: &Place, capacity_rps: Option<f64>) -> Region {
    Region {
        name: place.name.into(),
        country: place.country.parse().expect("a country"),
        coordinates: Some((place.latitude, place.longitude)),
        tier: Tier::Primary,
        role: Role::Active,
        priority: 0,
        weight: 100,
        share: None,
        standby: None,
        state: AdminState::Serving,
        capabilities: Capabilities { read: true, write: true },
        operator: None,
        compliance: Vec::new(),
        capacity_rps,
        cost_per_gb: 0.0,
        line: 1,
    }
}

fn route(name: &str, criticality: Criticality) -> RouteSpec {
    RouteSpec {
        name: name.into(),
        host: HostPattern::Any,
        path: PathPattern::Prefix(format!("/{name}")),
        methods: None,
        data_class: ClassId(usize::from(name == "personal")),
        scoring: 0,
        criticality,
        traffic_class: None,
        access: None,
        require_compliance: Vec::new(),
        prefer_compliance: Vec::new(),
        max_latency: None,
        max_replication_lag: None,
        lag_unknown: policy::route::UnknownLag::default(),
        failover: policy::failover::FailoverScope::default(),
        consent_header: None,
        consent_claim: None,
        jurisdictions: Vec::new(),
        jurisdiction_header: None,
        pass_request_headers: Vec::new(),
        server_name: ServerName::Endpoint,
        affinity: Affinity::None,
        timeout: Duration::from_secs(30),
        stream_idle_timeout: Duration::from_secs(3600),
        streams_uploads: false,
        retry: Retry {
            attempts: 3,
            statuses: vec![502, 503, 504],
            grpc_statuses: Vec::new(),
            body_bytes: 65_536,
            per_try_timeout: None,
            hedge: false,
        },
        line: 1,
    }
}
