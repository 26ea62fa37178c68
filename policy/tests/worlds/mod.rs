//! Random tables, requests and views: small enough to collide often, wide enough to need several
//! words of a set now and then.
//!
//! Regions, jurisdictions and classes are named by their position, so that any two tables share
//! most names: one can stand for a reload of the other.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test takes what it needs")]

use std::time::Duration;

use policy::client_way::ClientAt;
use policy::country::{Country, CountrySet, group};
use policy::emergency::{EmergencySpec, ReadOnly};
use policy::failover::{Failover, FailoverScope};
use policy::globe::Coordinates;
use policy::jurisdiction::{
    ClassId, DataClass, Denial, Jurisdiction, JurisdictionId, Rule, Scope, Selector, SuperRegion, Transfer,
    WhenUnavailable,
};
use policy::list::{Countries, Entry, List, ListId};
use policy::region::{Access, AdminState, Capabilities, Operator, Region, Role, Standby, TakesWrites, Tier};
use policy::route::{Affinity, Criticality, HostPattern, PathPattern, Retry, RouteSpec, ServerName, UnknownLag};
use policy::score::{CurveShape, LatencyCurve, LatencyFrom, ScoringSpec, Weights};
use policy::table::{TableSpec, UnknownOrigin, UnlistedJurisdiction};
use policy::{
    Facts, Health, Method, Moment, Origin, Payload, Period, RegionId, RegionSet, RegionView, RouteId, Snapshot,
    Withheld, Writes,
};
use proptest::collection::vec;
use proptest::option::weighted as maybe;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseResult, TestRng, TestRunner};

/// Questions asked of each table.
pub const QUESTIONS: usize = 20;

/// How many tables a test makes: `fewest`, or as `MERIDIAN_ORACLE_CASES` asks, which counts pairs
/// of a table and a question.
pub fn tables(fewest: u32) -> u32 {
    asked_for("MERIDIAN_ORACLE_CASES").map_or(fewest, |cases| (cases / QUESTIONS as u64) as u32)
}

#[allow(clippy::disallowed_methods, reason = "who runs the tests may ask for more of them")]
fn asked_for(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect(name))
}

/// Runs a test on inputs from a fixed seed, or from `MERIDIAN_ORACLE_SEED`, and tells which.
pub fn check<S: Strategy>(cases: u32, strategy: S, test: impl Fn(S::Value) -> TestCaseResult) {
    let seed = asked_for("MERIDIAN_ORACLE_SEED").unwrap_or(1);
    println!("{cases} tables, MERIDIAN_ORACLE_SEED={seed}");
    let bytes: Vec<u8> = [seed, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 4000, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    if let Err(failure) = runner.run(&strategy, test) {
        panic!("MERIDIAN_ORACLE_SEED={seed}: {failure}");
    }
}

/// A request and what is seen of the regions, in a table's ids.
#[derive(Clone, Debug)]
pub struct Question {
    pub host: &'static str,
    pub path: &'static str,
    pub method: Method,
    pub payload: Payload,
    pub origin: Origin,
    pub declared: Vec<JurisdictionId>,
    pub consent: bool,
    pub client_key: u64,
    pub criticality: Option<Criticality>,
    pub coordinates: Option<Coordinates>,
    /// By region.
    pub excess_ms: Vec<f32>,
    pub from: RegionId,
    pub pinned: Option<RegionId>,
    pub only: Option<RegionId>,
    pub view: Vec<RegionView>,
    pub expired: bool,
}

impl Question {
    pub fn facts(&self) -> Facts<'_> {
        Facts {
            host: self.host,
            path: self.path,
            method: self.method,
            payload: self.payload,
            origin: self.origin,
            declared: &self.declared,
            consent: self.consent,
            client_at: self.coordinates.map(|coordinates| ClientAt { coordinates, excess_ms: &self.excess_ms }),
            client_key: self.client_key,
            from: self.from,
            pinned: self.pinned,
            only: self.only,
            criticality: self.criticality,
        }
    }

    /// The regions and the table, as they are seen.
    pub fn seen(&self) -> Snapshot<'_> {
        Snapshot { regions: &self.view, table_expired: self.expired }
    }
}

/// A question before it is asked of a table: positions count round and round.
#[derive(Clone, Debug)]
pub struct Asked {
    target: (&'static str, &'static str, Method, Payload),
    origin: Origin,
    declared: Vec<usize>,
    consent: bool,
    client_key: u64,
    criticality: Option<Criticality>,
    client_at: (Option<Coordinates>, Vec<f32>),
    places: (usize, Option<usize>, Option<usize>),
    seen: Vec<RegionView>,
    expired: bool,
}

impl Asked {
    pub fn of(&self, spec: &TableSpec) -> Question {
        let region = |at: usize| id(at % spec.regions.len());
        let (from, pinned, only) = self.places;
        Question {
            host: self.target.0,
            path: self.target.1,
            method: self.target.2,
            payload: self.target.3,
            origin: self.origin,
            declared: match spec.jurisdictions.len() {
                0 => Vec::new(),
                known => self.declared.iter().map(|at| JurisdictionId(at % known)).collect(),
            },
            consent: self.consent,
            client_key: self.client_key,
            criticality: self.criticality,
            coordinates: self.client_at.0,
            excess_ms: self.client_at.1.clone(),
            from: region(from),
            pinned: pinned.map(region),
            only: only.map(region),
            view: self.seen.iter().copied().cycle().take(spec.regions.len()).collect(),
            expired: self.expired,
        }
    }
}

/// An emergency before it is put in a table: positions count round and round.
#[derive(Clone, Debug)]
pub struct Incident {
    shed: Option<Criticality>,
    read_only: Option<Vec<usize>>,
    routes_off: Vec<usize>,
    has_page: bool,
    until: Option<i64>,
    /// The two ends of what the time may be, in seconds from `until`.
    pub doubt: [i64; 2],
}

impl Incident {
    pub fn of(&self, spec: &TableSpec) -> EmergencySpec {
        let jurisdiction = |at: &usize| JurisdictionId(at % spec.jurisdictions.len());
        EmergencySpec {
            shed: self.shed,
            read_only: self.read_only.as_ref().map(|named| match named.as_slice() {
                [] => ReadOnly::All,
                _ if spec.jurisdictions.is_empty() => ReadOnly::All,
                named => ReadOnly::Of(named.iter().map(jurisdiction).collect()),
            }),
            routes_off: self.routes_off.iter().map(|at| RouteId((at % spec.routes.len().max(1)) as u32)).collect(),
            page: self.has_page.then(|| "<p>an emergency".into()),
            until: self.until.map(Moment::from_unix_seconds),
        }
    }
}

/// What an operator switches off.
pub fn incident() -> impl Strategy<Value = Incident> {
    let shed = maybe(0.4, select(&[Criticality::Sheddable, Criticality::Default]));
    let read_only = maybe(0.6, vec(0..8_usize, 0..=2));
    let parts = (shed, read_only, vec(0..8_usize, 0..=2), any::<bool>(), maybe(0.3, select(MOMENTS)));
    let doubt = [-3_600_i64, -1, 0, 1, 3_600];
    let doubt = [select(doubt.to_vec()), select(doubt.to_vec())];
    (parts, doubt).prop_map(|((shed, read_only, routes_off, has_page, until), doubt)| Incident {
        shed,
        read_only,
        routes_off,
        has_page,
        until,
        doubt,
    })
}

/// A position as an id.
pub fn id(index: usize) -> RegionId {
    RegionId::new(index).expect("a region's position")
}

/// A request, and what is seen of the regions.
pub fn asked() -> impl Strategy<Value = Asked> {
    let host =
        select(&["api.example.com", "www.example.com", "x.api.example.com", "y.x.api.example.com", "other.test"]);
    let path = select(&["/", "/v3", "/v3/", "/v3/users/7", "/v3/health", "/v3/health/", "/v33", "/img/x"]);
    let method = select(&[Method::Get, Method::Get, Method::Head, Method::Post, Method::Delete, Method::Other]);
    let origin = prop_oneof![
        12 => select(CLIENTS).prop_map(|code| Origin::Country(country(code))),
        4 => subsequence(&CLIENTS[..6], 2..=3).prop_map(|codes| Origin::of(codes.into_iter().map(country).collect())),
        4 => Just(Origin::Unknown),
        1 => Just(Origin::Countries(CountrySet::default())),
    ];
    let places = (0..70_usize, maybe(0.3, 0..70_usize), maybe(0.08, 0..70_usize));
    let declared = prop_oneof![3 => Just(Vec::new()), 1 => vec(0..8_usize, 1..=2)];
    let moment = (vec(seen(), 1..=7), prop_oneof![15 => Just(false), 1 => Just(true)]);
    let at = (-900..=900_i32, -1800..=1800_i32)
        .prop_map(|(lat, lon)| Coordinates::new(f64::from(lat) / 10.0, f64::from(lon) / 10.0));
    let at = prop_oneof![3 => at, 1 => Just(None)];
    // As many as there are regions, fewer, or more.
    let excess_ms = vec(select(&[-200.0_f32, 0.0, 20.0, 60.5, 300.0]), 0..=9);
    let criticality = maybe(0.3, select(&[Criticality::Sheddable, Criticality::Default, Criticality::Critical]));
    let who = (any::<u64>(), criticality, (at, excess_ms));
    ((host, path, method, payload()), origin, declared, any::<bool>(), who, places, moment).prop_map(
        |(target, origin, declared, consent, (client_key, criticality, client_at), places, (seen, expired))| Asked {
            target,
            origin,
            declared,
            consent,
            client_key,
            criticality,
            client_at,
            places,
            seen,
            expired,
        },
    )
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![6 => Just(Payload::Nothing), 1 => Just(Payload::Content), 1 => Just(Payload::Tunnel)]
}

/// Several questions for one table.
pub fn questions() -> impl Strategy<Value = Vec<Asked>> {
    vec(asked(), QUESTIONS)
}

fn seen() -> impl Strategy<Value = RegionView> {
    let health = prop_oneof![
        7 => Just(Health::Up),
        1 => select(&[0, 10, 50, 100]).prop_map(Health::Ramping),
        2 => Just(Health::Down),
    ];
    let load = prop_oneof![3 => Just(0.0_f32), 2 => thousandths(0..200), 1 => thousandths(0..1200)];
    let pressure = prop_oneof![3 => Just(0.0_f32), 2 => thousandths(840..1010), 1 => Just(1.0_f32)];
    let rtt_ms = maybe(0.3, select(&[5.0_f32, 25.0, 60.0, 61.5, 90.0, 140.0, 500.0]));
    let reach = prop_oneof![3 => Just(1.0_f32), 1 => Just(1.1_f32)];
    let lag = maybe(0.2, select(&[1_u64, 60, 61]).prop_map(Duration::from_secs));
    let writes = prop_oneof![
        6 => Just(Writes::AsDeclared),
        1 => Just(Writes::Granted),
        1 => select(&[Withheld::Elsewhere, Withheld::Lost]).prop_map(Writes::Withheld),
    ];
    (health, load, pressure, (rtt_ms, reach), lag, any::<bool>(), writes).prop_map(
        |(health, utilisation, pressure, (rtt_ms, reach), lag, promoted, writes)| RegionView {
            reach_ms: rtt_ms.map(|ms| ms * reach),
            promoted,
            writes,
            health,
            utilisation,
            pressure,
            rtt_ms,
            lag,
        },
    )
}

/// A number from a range. (The ranges of `f32` in proptest 1.12 panic now and then.)
pub fn thousandths(range: std::ops::Range<u16>) -> impl Strategy<Value = f32> {
    range.prop_map(|thousandths| f32::from(thousandths) / 1000.0)
}

/// A table's specification.
pub fn table() -> impl Strategy<Value = TableSpec> {
    let regions = prop_oneof![40 => vec(region(), 1..=12), 1 => vec(region(), 65..=70)];
    let law = (
        vec(list(), 0..=2),
        vec(dated(countries()), 0..=5),
        vec(prop_oneof![3 => countries(), 1 => Just(everywhere())], 0..=3),
        vec(class(), 1..=3),
        vec(rule(), 0..=8),
    );
    // Strictest, like some jurisdictions, or refused.
    let unknown = prop_oneof![4 => Just(None), 2 => vec(0..5_usize, 1..=2).prop_map(Some), 1 => Just(Some(Vec::new()))];
    let defaults = (unknown, prop_oneof![6 => Just(false), 1 => Just(true)], any::<bool>());
    let routes = (vec(route(), 1..=7), maybe(0.8, route()));
    let latencies =
        vec((0..70_usize, 0..70_usize, select(&[0.0, 30.0, 45.0, 60.0, 80.0, 120.0, 140.0, 400.0])), 0..=20);
    (regions, law, defaults, vec(scoring(), 1..=3), routes, latencies).prop_map(
        |(mut regions, law, (unknown, refuse, lowers), scorings, routes, latencies)| {
            let count = regions.len();
            for (index, region) in regions.iter_mut().enumerate() {
                region.name = format!("r{index}");
            }
            settle_shares(&mut regions);
            settle_pairs(&mut regions);
            if regions.iter().all(|region| region.weight == 0) {
                regions[0].weight = 100;
            }
            let (lists, jurisdictions, super_regions, data_classes, mut rules) = law;
            let lists_known = lists.len();
            let (known, classes) = (jurisdictions.len(), data_classes.len());
            if known == 0 {
                rules.clear();
            }
            rules.iter_mut().for_each(|rule| settle_rule(rule, count, known, classes));
            rules.iter_mut().for_each(|rule| settle_lists(rule, lists_known));
            let jurisdictions = jurisdictions.into_iter().map(|set| known_lists(&set, lists_known)).collect();
            let mut spec = TableSpec {
                version: "random".into(),
                at: TODAY.into(),
                lists: named("l", lists, |name, entries| List { name, entries }),
                regions,
                latency_ms: Vec::new(),
                latency_window: std::time::Duration::from_secs(60),
                latency_sla_ms: Vec::new(),
                jurisdictions: named("j", jurisdictions, |name, countries| Jurisdiction { name, countries }),
                super_regions: named("s", super_regions, |name, countries| SuperRegion { name, countries }),
                data_classes: named("c", data_classes, |name, class| DataClass { name, ..class }),
                rules,
                unknown_origin: match unknown {
                    Some(like) if known > 0 && !like.is_empty() => {
                        UnknownOrigin::Like(like.into_iter().map(|id| JurisdictionId(id % known)).collect())
                    }
                    Some(_) => UnknownOrigin::Refuse,
                    None => UnknownOrigin::Strictest,
                },
                unlisted_jurisdiction: if refuse { UnlistedJurisdiction::Refuse } else { UnlistedJurisdiction::Allow },
                scorings: named("w", scorings, |name, scoring| ScoringSpec { name, ..scoring }),
                routes: Vec::new(),
                failover: Failover::default(),
                lowers_criticality: lowers,
                traffic_classes: Vec::new(),
                emergency: None,
            };
            for (from, to, ms) in latencies {
                let (from, to) = (id(from % count), id(to % count));
                if !spec.latency_ms.iter().any(|(a, b, _)| (*a, *b) == (from, to)) {
                    spec.latency_ms.push((from, to, ms));
                }
            }
            let (routes, for_the_rest) = routes;
            for route in routes {
                settle_route(&mut spec, route);
            }
            if let Some(route) = for_the_rest {
                let path = PathPattern::Prefix(String::new());
                settle_route(&mut spec, RouteSpec { host: HostPattern::Any, path, methods: None, ..route });
            }
            spec
        },
    )
}

fn named<T, U>(prefix: &str, items: Vec<T>, make: impl Fn(String, T) -> U) -> Vec<U> {
    items.into_iter().enumerate().map(|(index, item)| make(format!("{prefix}{index}"), item)).collect()
}

/// Gives all regions of a priority a share, or none: as the first of them has it.
fn settle_shares(regions: &mut [Region]) {
    let standbys: Vec<u16> =
        regions.iter().filter(|region| region.standby.is_some()).map(|region| region.priority).collect();
    for index in 0..regions.len() {
        let group =
            |region: &Region| (region.priority, region.role == Role::Cold && !standbys.contains(&region.priority));
        let first = regions.iter().find(|region| group(region) == group(&regions[index])).and_then(|first| first.share);
        let region = &mut regions[index];
        region.share = first.map(|_| region.share.unwrap_or(7));
    }
}

/// Has some standby take the writes of a region that serves them, in every other table or so.
fn settle_pairs(regions: &mut [Region]) {
    let primary = regions.iter().find(|region| region.capabilities.write && region.standby.is_none());
    let Some(name) = primary.map(|primary| primary.name.clone()) else { return };
    let takes = TakesWrites { max_lag: Duration::from_secs(60), voters: 3 };
    if let Some(region) = regions.iter_mut().find(|region| region.standby.is_some() && !region.capabilities.write) {
        region.standby = Some(Standby { promote_after: Duration::from_secs(120), of: vec![name], writes: Some(takes) });
    }
}

fn settle_rule(rule: &mut Rule, regions: usize, jurisdictions: usize, classes: usize) {
    rule.jurisdiction.0 %= jurisdictions;
    rule.data_classes.iter_mut().for_each(|class| class.0 %= classes);
    if let Some(deny) = &mut rule.deny {
        deny.jurisdictions.iter_mut().flatten().for_each(|id| id.0 %= jurisdictions);
        if let Some(set) = &mut deny.regions {
            *set = (0..regions).filter(|index| set.contains(id(index % 8))).map(id).collect();
        }
    }
    for selector in rule.allow.iter_mut().flatten() {
        if let Some(ids) = &mut selector.jurisdictions {
            ids.iter_mut().for_each(|id| id.0 %= jurisdictions);
        }
        if let Some(set) = &mut selector.regions {
            *set = (0..regions).filter(|index| set.contains(id(index % 8))).map(id).collect();
        }
    }
}

/// Leaves out the lists that the table does not have.
fn settle_lists(rule: &mut Rule, known: usize) {
    for selector in rule.allow.iter_mut().flatten() {
        for set in selector.countries.iter_mut().chain(&mut selector.operator_countries) {
            *set = known_lists(set, known);
        }
    }
    if let Some(deny) = &mut rule.deny {
        for set in deny.countries.iter_mut().chain(&mut deny.operator_countries) {
            *set = known_lists(set, known);
        }
    }
}

fn known_lists(set: &Countries, known: usize) -> Countries {
    Countries::new(*set.written(), set.lists().iter().copied().filter(|id| id.0 < known).collect())
}

/// Adds a route, unless another is for the same requests.
fn settle_route(spec: &mut TableSpec, mut route: RouteSpec) {
    route.name = format!("t{}", spec.routes.len());
    route.data_class.0 %= spec.data_classes.len();
    route.scoring %= spec.scorings.len();
    match spec.jurisdictions.len() {
        0 => route.jurisdictions.clear(),
        known => route.jurisdictions.iter_mut().for_each(|id| id.0 %= known),
    }
    let same = |other: &RouteSpec| {
        let methods = match (route.methods, other.methods) {
            (Some(a), Some(b)) => a.meets(b),
            (None, None) => true,
            _ => false,
        };
        methods && (&route.host, &route.path) == (&other.host, &other.path)
    };
    if !spec.routes.iter().any(same) {
        spec.routes.push(route);
    }
}

fn region() -> impl Strategy<Value = Region> {
    let place = (select(HOMES), maybe(0.6, (-60..60_i32, -180..180_i32)), tier());
    let standing = (
        prop_oneof![4 => Just(0_u16), 1 => Just(1), 1 => 2..40_u16],
        prop_oneof![8 => Just(100_u8), 1 => Just(0), 2 => 1..100_u8],
        prop_oneof![8 => Just(AdminState::Serving), 2 => Just(AdminState::Draining), 1 => Just(AdminState::Disabled)],
        prop_oneof![9 => Just(Role::Active), 1 => Just(Role::Warm), 1 => Just(Role::Cold)],
        prop_oneof![9 => Just((true, true)), 2 => Just((true, false)), 1 => Just((false, true)), 1 => Just((false, false))],
        maybe(0.4, select(&[1_u32, 25, 35, 40, 1_000_000])),
        prop_oneof![9 => Just(false), 1 => Just(true)],
    );
    let worth = (subsequence(FRAMEWORKS, 0..=3), maybe(0.6, 0..5000_u32), select(&[0.0, 0.02, 0.05, 0.09]));
    let operator = maybe(0.7, (select(HOMES), maybe(0.6, select(LEVELS))));
    let operator = operator.prop_map(|operator| {
        operator.map(|(home, assurance)| Operator {
            name: "somebody".into(),
            country: country(home),
            assurance: assurance.map(str::to_owned),
        })
    });
    let worth = (worth, operator);
    (place, standing, worth).prop_map(
        |((home, coordinates, tier), standing, ((held, capacity, cost_per_gb), operator))| Region {
            operator,
            name: String::new(),
            country: country(home),
            coordinates: coordinates.map(|(latitude, longitude)| (f64::from(latitude), f64::from(longitude))),
            tier,
            role: standing.3,
            priority: standing.0,
            weight: standing.1,
            share: standing.5,
            standby: standing.6.then(|| Standby {
                promote_after: Duration::from_secs(120),
                of: Vec::new(),
                writes: None,
            }),
            state: standing.2,
            capabilities: Capabilities { read: standing.4.0, write: standing.4.1 },
            compliance: held.into_iter().map(str::to_owned).collect(),
            capacity_rps: capacity.map(f64::from),
            cost_per_gb,
            line: 1,
        },
    )
}

fn class() -> impl Strategy<Value = DataClass> {
    let scope = prop_oneof![5 => Just(Scope::Jurisdiction), 1 => Just(Scope::SuperRegion), 1 => Just(Scope::Global)];
    let border = prop_oneof![2 => Just(Transfer::Allowed), 1 => transfer()];
    (border, scope).prop_map(|(cross_border, scope)| DataClass { name: String::new(), cross_border, scope })
}

/// A rule whose ids are yet to be brought into a table's range.
pub fn rule() -> impl Strategy<Value = Rule> {
    let page = maybe(0.2, select(&["soon", "later"]));
    let allow = prop_oneof![6 => vec(selector(), 1..=2), 1 => Just(Vec::new())];
    let sides = prop_oneof![
        6 => allow.clone().prop_map(|allow| (Some(allow), None)),
        1 => (allow, denial()).prop_map(|(allow, deny)| (Some(allow), Some(deny))),
        1 => denial().prop_map(|deny| (None, Some(deny))),
    ];
    let when = (prop_oneof![3 => Just(Period::ALWAYS), 2 => period()], select(&["law", "law", "other law"]));
    (0..8_usize, vec(0..8_usize, 1..=2), sides, transfer(), page, when).prop_map(
        |(jurisdiction, classes, (allow, deny), transfer, page, (period, regulation))| Rule {
            jurisdiction: JurisdictionId(jurisdiction),
            data_classes: classes.into_iter().map(ClassId).collect(),
            allow,
            transfer,
            when_unavailable: page.map_or(WhenUnavailable::Reject, |page| WhenUnavailable::Maintenance(page.into())),
            blocked_by: None,
            deny,
            period,
            regulation: regulation.into(),
            line: 1,
        },
    )
}

/// When something holds, often with an end or a beginning at one of the few moments that others have too.
pub fn period() -> impl Strategy<Value = Period> {
    (maybe(0.6, 0..MOMENTS.len()), maybe(0.6, 0..MOMENTS.len())).prop_map(|(from, until)| {
        let moment = |index: usize| Moment::from_unix_seconds(MOMENTS[index]);
        let (from, until) = match (from, until) {
            (Some(from), Some(until)) if from == until => (Some(from), None),
            (Some(from), Some(until)) => (Some(from.min(until)), Some(from.max(until))),
            one => one,
        };
        Period { from: from.map(moment), until: until.map(moment) }
    })
}

fn list() -> impl Strategy<Value = Vec<Entry>> {
    let entry = (maybe(0.9, select(CLIENTS)), period(), any::<bool>());
    let entry = entry.prop_map(|(code, period, partial)| Entry {
        country: code.map(country),
        period,
        scope: String::new(),
        source: String::new(),
        partial,
    });
    vec(entry, 0..=4)
}

/// The set, and now and then a list beside it.
fn dated(countries: impl Strategy<Value = CountrySet>) -> impl Strategy<Value = Countries> {
    (countries, prop_oneof![2 => Just(Vec::new()), 1 => vec((0..2_usize).prop_map(ListId), 1..=2)])
        .prop_map(|(countries, lists)| Countries::new(countries, lists))
}

fn denial() -> impl Strategy<Value = Denial> {
    prop_oneof![
        vec(any::<bool>(), 8).prop_map(|held| Denial {
            regions: Some((0..8).filter(|at| held[*at]).map(id).collect()),
            ..Denial::default()
        }),
        dated(countries()).prop_map(|countries| Denial { countries: Some(countries), ..Denial::default() }),
        dated(countries()).prop_map(|countries| Denial { operator_countries: Some(countries), ..Denial::default() }),
        (dated(countries()), vec((0..8_usize).prop_map(JurisdictionId), 1..=1)).prop_map(|(countries, ids)| Denial {
            countries: Some(countries),
            jurisdictions: Some(ids),
            ..Denial::default()
        }),
        (subsequence(LEVELS, 1..=1), tier()).prop_map(|(levels, tier)| Denial {
            assurance: Some(levels.into_iter().map(str::to_owned).collect()),
            tiers: Some(vec![tier]),
            ..Denial::default()
        }),
    ]
}

/// Adds a rule to a table that has jurisdictions.
pub fn add_rule(spec: &mut TableSpec, mut rule: Rule) {
    settle_rule(&mut rule, spec.regions.len(), spec.jurisdictions.len(), spec.data_classes.len());
    settle_lists(&mut rule, spec.lists.len());
    spec.rules.push(rule);
}

fn selector() -> impl Strategy<Value = Selector> {
    let regions =
        vec(any::<bool>(), 8).prop_map(|held| -> RegionSet { (0..8).filter(|at| held[*at]).map(id).collect() });
    let jurisdictions = vec((0..8_usize).prop_map(JurisdictionId), 1..=2);
    let compliance = subsequence(FRAMEWORKS, 1..=2).prop_map(|names| names.into_iter().map(str::to_owned).collect());
    let one = prop_oneof![
        regions.clone().prop_map(|regions| Selector { regions: Some(regions), ..Selector::default() }),
        dated(countries()).prop_map(|countries| Selector { countries: Some(countries), ..Selector::default() }),
        dated(countries())
            .prop_map(|countries| Selector { operator_countries: Some(countries), ..Selector::default() }),
        subsequence(LEVELS, 1..=2).prop_map(|levels| Selector {
            assurance: Some(levels.into_iter().map(str::to_owned).collect()),
            ..Selector::default()
        }),
        jurisdictions.prop_map(|ids| Selector { jurisdictions: Some(ids), ..Selector::default() }),
        compliance.prop_map(|names| Selector { compliance: Some(names), ..Selector::default() }),
        vec(tier(), 1..=2).prop_map(|tiers| Selector { tiers: Some(tiers), ..Selector::default() }),
    ];
    (one, maybe(0.2, regions), maybe(0.2, dated(countries()))).prop_map(|(one, regions, countries)| Selector {
        regions: one.regions.or(regions),
        countries: one.countries.or(countries),
        ..one
    })
}

fn route() -> impl Strategy<Value = RouteSpec> {
    let host = prop_oneof![
        4 => Just(HostPattern::Any),
        2 => select(&["api.example.com", "www.example.com"]).prop_map(|host| HostPattern::Exact(host.into())),
        2 => select(&["example.com", "api.example.com", "com"]).prop_map(|host| HostPattern::Below(host.into())),
    ];
    let path = prop_oneof![
        4 => Just(PathPattern::Prefix(String::new())),
        2 => select(&["/v3", "/v3/users", "/img"]).prop_map(|path| PathPattern::Prefix(path.into())),
        1 => select(&["/v3/health", "/v3/", "/"]).prop_map(|path| PathPattern::Exact(path.into())),
    ];
    let methods = maybe(0.2, subsequence(&[Method::Get, Method::Post, Method::Delete], 1..=2));
    let matching = (host, path, methods.prop_map(|methods| methods.map(|methods| methods.into_iter().collect())));
    let kind = (
        0..8_usize,
        0..8_usize,
        select(&[Criticality::Sheddable, Criticality::Default, Criticality::Critical]),
        maybe(0.2, select(&[Access::Read, Access::Write])),
        select(vec![Affinity::None, Affinity::None, Affinity::ClientIp, Affinity::Cookie(Duration::from_secs(60))]),
    );
    let limits = (
        prop_oneof![6 => Just(Vec::new()), 1 => vec(select(FRAMEWORKS), 1)],
        subsequence(FRAMEWORKS, 0..=2),
        maybe(0.15, select(&[60_u64, 90, 140, 200]).prop_map(Duration::from_millis)),
        maybe(0.2, Just(Duration::from_secs(60))),
        (
            any::<bool>(),
            prop_oneof![
                10 => Just(FailoverScope::Any),
                1 => Just(FailoverScope::Jurisdiction),
                1 => Just(FailoverScope::Region),
            ],
        ),
    );
    let header = maybe(0.5, select(&["x-consent", "x-other"]));
    let tenant = prop_oneof![5 => Just(Vec::new()), 1 => vec((0..8_usize).prop_map(JurisdictionId), 1..=1)];
    (matching, kind, limits, header, tenant).prop_map(|(matching, kind, limits, header, jurisdictions)| RouteSpec {
        name: String::new(),
        host: matching.0,
        path: matching.1,
        methods: matching.2,
        data_class: ClassId(kind.0),
        scoring: kind.1,
        criticality: kind.2,
        traffic_class: None,
        access: kind.3,
        require_compliance: limits.0.into_iter().map(str::to_owned).collect(),
        prefer_compliance: limits.1.into_iter().map(str::to_owned).collect(),
        max_latency: limits.2,
        max_replication_lag: limits.3,
        lag_unknown: if limits.4.0 { UnknownLag::Ineligible } else { UnknownLag::Eligible },
        failover: limits.4.1,
        consent_header: header.map(str::to_owned),
        consent_claim: None,
        jurisdictions,
        jurisdiction_header: None,
        pass_request_headers: Vec::new(),
        server_name: ServerName::Endpoint,
        stream_idle_timeout: Duration::from_secs(3600),
        streams_uploads: false,
        affinity: kind.4,
        timeout: Duration::from_secs(30),
        retry: Retry {
            attempts: 3,
            statuses: Vec::new(),
            grpc_statuses: Vec::new(),
            body_bytes: 0,
            per_try_timeout: None,
            hedge: false,
        },
        line: 1,
    })
}

fn scoring() -> impl Strategy<Value = ScoringSpec> {
    let shares = prop_oneof![3 => Just(true), 1 => Just(false)];
    let from = prop_oneof![2 => Just(LatencyFrom::Node), 1 => Just(LatencyFrom::Client)];
    (weights(), curve(), from, shares).prop_map(|(weights, latency_curve, latency_from, shares)| ScoringSpec {
        name: String::new(),
        weights,
        latency_curve,
        latency_from,
        shares,
    })
}

/// A built-in curve, or one whose knots are where round trips often are.
fn curve() -> impl Strategy<Value = LatencyCurve> {
    let built_in = select(LatencyCurve::BUILT_IN).prop_map(|name| LatencyCurve::built_in(name).expect("a curve"));
    let knots = (subsequence(&[25.0, 30.0, 45.0, 60.0, 80.0, 140.0], 0..=4), vec(0..=10_u8, 5));
    let own = (any::<bool>(), knots).prop_map(|(is_line, (ms, mut points))| {
        points.sort_unstable_by(|one, other| other.cmp(one));
        let points = points.into_iter().map(|tens| f64::from(tens) * 10.0);
        let shape = if is_line { CurveShape::Line } else { CurveShape::Steps };
        LatencyCurve::new(shape, [0.0].into_iter().chain(ms).zip(points).collect()).expect("a curve")
    });
    prop_oneof![3 => built_in, 1 => own]
}

fn weights() -> impl Strategy<Value = Weights> {
    let built_in = select(Weights::BUILT_IN).prop_map(|name| Weights::built_in(name).expect("a scoring"));
    let own = (0..5_u8, 0..5_u8, 0..5_u8, 0..5_u8).prop_map(|(latency, load, compliance, cost)| Weights {
        latency: f64::from(latency) + 0.1,
        load: f64::from(load),
        compliance: f64::from(compliance),
        cost: f64::from(cost),
    });
    prop_oneof![built_in, own]
}

pub fn transfer() -> impl Strategy<Value = Transfer> {
    select(&[
        Transfer::Prohibited,
        Transfer::WithConsent,
        Transfer::WithSafeguards,
        Transfer::RequiresLocalCopy,
        Transfer::Allowed,
    ])
}

fn tier() -> impl Strategy<Value = Tier> {
    select(&[Tier::Primary, Tier::Primary, Tier::Secondary, Tier::Tertiary, Tier::Edge])
}

fn countries() -> impl Strategy<Value = CountrySet> {
    prop_oneof![8 => vec(select(SETS), 1..=3), 1 => Just(Vec::new())].prop_map(|names| {
        let mut set = CountrySet::default();
        for name in names {
            match group(name) {
                Some(members) => set.extend(&members),
                None => set.insert(country(name)),
            }
        }
        set
    })
}

pub fn everywhere() -> CountrySet {
    Country::all().collect()
}

pub fn country(code: &str) -> Country {
    code.parse().expect("a country")
}

/// When the laws are read.
pub const TODAY: Moment = Moment::from_unix_seconds(1_800_000_000);

/// When rules and entries begin and end, in Unix seconds.
pub const MOMENTS: &[i64] = &[1_700_000_000, 1_790_000_000, 1_800_000_000, 1_800_000_001, 1_900_000_000, 2_000_000_000];

const LEVELS: &[&str] = &["seal-1", "seal-2", "seal-3"];

/// Where regions are.
const HOMES: &[&str] = &["DE", "FR", "IE", "US", "US", "BR", "JP", "GB"];

/// Where clients are.
pub const CLIENTS: &[&str] = &["DE", "FR", "US", "BR", "JP", "GB", "CA", "AQ", "XK"];

/// What jurisdictions and selectors are made of.
const SETS: &[&str] = &["DE", "FR", "US", "BR", "JP", "@EU", "@EU", "@EMEA", "@AMERICAS", "@APAC"];

const FRAMEWORKS: &[&str] = &["soc2", "gdpr", "c5"];
