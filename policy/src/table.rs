//! The routing table: immutable, whole, and true by construction.

use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use thiserror::Error;

use crate::jurisdiction::{ClassId, DataClass, Jurisdiction, JurisdictionId, Rule, SuperRegion};
pub use crate::jurisdiction::{UnknownOrigin, UnlistedJurisdiction};
use crate::list::{Countries, List};
use crate::moment::{LawTime, Moment};
use crate::pressure::Spill;
use crate::region::{Access, AdminState, Region, RegionId, RegionSet, Role};
use crate::residency::{Law, Residency};
use crate::route::{Criticality, Method, Route, RouteId, RouteIndex, RouteSpec};
use crate::score::{Scoring, Weights, great_circle_ms, latency_points};

/// Everything a table says, names resolved to indices. [`Table::new`] checks and compiles it.
#[derive(Clone, Debug)]
pub struct TableSpec {
    /// Free text, shown everywhere.
    pub version: String,
    /// The time at which the law is read: which rules are in force, and which entries of lists count.
    pub at: LawTime,
    /// The regions, at most [`RegionSet::CAPACITY`]; a [`RegionId`] is a position here.
    pub regions: Vec<Region>,
    /// Prior round trips: (from, to, milliseconds).
    pub latency_ms: Vec<(RegionId, RegionId, f64)>,
    /// Lists of countries with dates, which jurisdictions and rules name.
    pub lists: Vec<List>,
    /// The jurisdictions.
    pub jurisdictions: Vec<Jurisdiction>,
    /// The super-regions.
    pub super_regions: Vec<SuperRegion>,
    /// The data classes.
    pub data_classes: Vec<DataClass>,
    /// The residency rules.
    pub rules: Vec<Rule>,
    /// What an uncertain origin means.
    pub unknown_origin: UnknownOrigin,
    /// What a country without a jurisdiction means.
    pub unlisted_jurisdiction: UnlistedJurisdiction,
    /// The scorings: name and weights.
    pub scorings: Vec<(String, Weights)>,
    /// The routes, at most [`Table::MAX_ROUTES`].
    pub routes: Vec<RouteSpec>,
    /// The fleet-wide failover settings.
    pub failover: Failover,
}

/// Fleet-wide failover settings.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Failover {
    /// A region is down when less than this share, `0..=1`, of its endpoints is healthy.
    pub threshold: f64,
    pub error_rate: f64,
    pub latency_p99: Duration,
    pub failback_delay: Duration,
    pub ramp: Vec<u8>,
    pub ramp_step: Duration,
    pub outlier: Outlier,
    pub retry_budget: RetryBudget,
    pub drain_timeout: Duration,
}

/// When an endpoint is ejected on the evidence of real traffic.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Outlier {
    pub consecutive_errors: u32,
    pub interval: Duration,
    pub base_ejection: Duration,
    /// The largest share, `0..=1`, of a region's endpoints that may be ejected.
    pub max_ejected: f64,
}

/// How many retries a region may cost.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct RetryBudget {
    pub ratio: f64,
    pub per_second: f64,
}

impl Default for Failover {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            threshold: 0.5,
            error_rate: 0.10,
            latency_p99: seconds(5),
            failback_delay: seconds(300),
            ramp: vec![10, 50, 100],
            ramp_step: seconds(15 * 60),
            outlier: Outlier {
                consecutive_errors: 5,
                interval: seconds(10),
                base_ejection: seconds(30),
                max_ejected: 0.5,
            },
            retry_budget: RetryBudget { ratio: 0.2, per_second: 3.0 },
            drain_timeout: seconds(300),
        }
    }
}

/// Why a specification is no table. Only what a caller could not have checked piece by piece, or
/// must never get wrong; the config crate finds the rest with line and path.
#[derive(Clone, Debug, PartialEq, Error)]
#[allow(missing_docs)]
pub enum TableError {
    #[error("a table needs at least one region")]
    NoRegion,
    #[error("{0} regions; a table may have at most {max}", max = RegionSet::CAPACITY)]
    TooManyRegions(usize),
    #[error("the weight of every region is 0: give at least one of them clients")]
    NoWeight,
    #[error("a table needs at least one route")]
    NoRoute,
    #[error("{0} routes; a table may have at most {max}", max = Table::MAX_ROUTES)]
    TooManyRoutes(usize),
    #[error("two {kind} are named {name:?}")]
    Duplicate { kind: &'static str, name: String },
    #[error("{place}: {value} is not a number that can stand there")]
    BadNumber { place: String, value: f64 },
    #[error("unknown clients are to be treated like those of no jurisdiction: name at least one")]
    LikeNobody,
    #[error("{place} refers to a {kind} that the table does not have")]
    Dangling { place: String, kind: &'static str },
    #[error("{place}: its end is not after its beginning")]
    EmptyPeriod { place: String },
}

/// One revision of the fleet's routing, compiled for decisions. Immutable.
#[derive(Clone, Debug)]
pub struct Table {
    spec: TableSpec,
    routes: Vec<Route>,
    index: RouteIndex,
    residency: Residency,
    pub(crate) regions: RegionSet,
    /// How many 64-bit words of a [`RegionSet`] hold all regions.
    pub(crate) words: usize,
    pub(crate) draining: RegionSet,
    names: FxHashMap<Box<str>, RegionId>,
    /// `from * regions + to`, milliseconds.
    latency_ms: Box<[f32]>,
    /// The points for those.
    latency_points: Box<[f32]>,
    constants: Box<[Constants]>,
    pub(crate) distinct_ranks: u16,
}

/// What a decision needs of a region beside its live state, side by side in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Constants {
    /// What makes a client's hash differ from region to region: the hash of its name.
    pub(crate) seed: u64,
    /// Requests per second that it is built for; the mean of the known where it is not known.
    pub(crate) capacity: f32,
    /// The position of its priority among the table's distinct priorities.
    pub(crate) rank: u16,
    /// See [`Region::weight`].
    pub(crate) weight: u8,
    /// Whether its role is cold: it comes after all that is not, whatever its priority.
    pub(crate) cold: bool,
}

impl Table {
    /// The most routes a table may have.
    pub const MAX_ROUTES: usize = 100_000;

    /// The round trip assumed where neither a latency nor coordinates are known: the knee of the
    /// latency curve, so that an unmeasured region is neither favoured nor given up.
    pub const UNKNOWN_LATENCY_MS: f32 = 150.0;

    /// Checks and compiles a specification.
    ///
    /// # Errors
    /// The first thing that makes it no table.
    pub fn new(mut spec: TableSpec) -> Result<Self, TableError> {
        check(&spec)?;
        spec.resolve();
        let regions = RegionSet::first(spec.regions.len());
        let having = |wanted: &dyn Fn(&Region) -> bool| -> RegionSet {
            let ids = spec.regions.iter().enumerate().filter(|(_, region)| wanted(region));
            ids.filter_map(|(index, _)| RegionId::new(index)).collect()
        };
        let mut priorities: Vec<u16> = spec.regions.iter().map(|region| region.priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        let rank = |region: &Region| priorities.partition_point(|priority| *priority < region.priority) as u16;
        let known: Vec<f64> = spec.regions.iter().filter_map(|region| region.capacity_rps).collect();
        let typical = if known.is_empty() { 1.0 } else { known.iter().sum::<f64>() / known.len() as f64 };
        let residency = Residency::new(&Law {
            regions: &spec.regions,
            jurisdictions: &spec.jurisdictions,
            super_regions: &spec.super_regions,
            data_classes: &spec.data_classes,
            rules: &spec.rules,
            unknown_origin: &spec.unknown_origin,
            unlisted: spec.unlisted_jurisdiction,
            at: spec.at,
        });
        let classes = (0..spec.data_classes.len()).map(ClassId);
        let restricted: Vec<bool> = classes.map(|class| residency.restricts(class, &regions)).collect();
        let mut scorings = Scorings::new(&spec);
        let mut criticalities: Vec<Criticality> = spec.routes.iter().map(|route| route.criticality).collect();
        criticalities.sort_unstable();
        criticalities.dedup();
        let routes = spec
            .routes
            .iter()
            .map(|route| {
                let able = |access: Access| {
                    having(&|region: &Region| {
                        region.state != AdminState::Disabled
                            && region.capabilities.serves(access)
                            && route.require_compliance.iter().all(|name| region.compliance.contains(name))
                    })
                };
                Route {
                    able_to_read: able(Access::Read),
                    able_to_write: able(Access::Write),
                    restricted: restricted[route.data_class.0],
                    scoring: scorings.get(route),
                    max_latency_ms: route.max_latency.map_or(f32::INFINITY, |max| (max.as_secs_f64() * 1000.0) as f32),
                    spill: Spill::of(route.criticality, &criticalities),
                    spec: route.clone(),
                }
            })
            .collect();
        Ok(Self {
            routes,
            index: RouteIndex::new(&spec.routes),
            residency,
            regions,
            words: spec.regions.len().div_ceil(64),
            draining: having(&|region| region.state == AdminState::Draining),
            names: spec
                .regions
                .iter()
                .enumerate()
                .filter_map(|(index, region)| Some((region.name.as_str().into(), RegionId::new(index)?)))
                .collect(),
            latency_points: latencies(&spec).iter().map(|ms| latency_points(*ms)).collect(),
            latency_ms: latencies(&spec),
            constants: spec
                .regions
                .iter()
                .map(|region| Constants {
                    seed: crate::hash::client_key(region.name.as_bytes()),
                    capacity: region.capacity_rps.unwrap_or(typical) as f32,
                    rank: rank(region),
                    weight: region.weight,
                    cold: region.role == Role::Cold,
                })
                .collect(),
            distinct_ranks: priorities.len() as u16,
            spec,
        })
    }

    /// The same table, its law read at another time.
    ///
    /// # Errors
    /// None that the table did not have.
    pub fn at(&self, at: LawTime) -> Result<Self, TableError> {
        Self::new(TableSpec { at, ..self.spec.clone() })
    }

    /// The next moment after the time at which the law was read at which a rule or an entry of a list begins
    /// or ends.
    pub fn next_boundary(&self) -> Option<Moment> {
        self.spec.boundaries().into_iter().find(|moment| !self.spec.at.may_have_reached(*moment))
    }

    /// Whether the law reads at that time as it was read for this table: no boundary lies between.
    pub fn holds_at(&self, at: LawTime) -> bool {
        let read = self.spec.at;
        self.spec.boundaries().into_iter().all(|moment| {
            read.has_reached(moment) == at.has_reached(moment)
                && read.may_have_reached(moment) == at.may_have_reached(moment)
        })
    }

    /// This table with another specification than it was compiled from, for the tests of the proof.
    #[cfg(test)]
    pub(crate) fn saying(self, spec: TableSpec) -> Self {
        Self { spec, ..self }
    }

    /// Whether the law keeps data of a class from some region, for some client.
    pub(crate) fn is_restricted(&self, class: ClassId) -> bool {
        self.residency.restricts(class, &self.regions)
    }

    /// What the table says, as given.
    pub fn spec(&self) -> &TableSpec {
        &self.spec
    }

    /// The most specific route for a request; `host` in lower case without port or final dot,
    /// `path` without query, its percent-encoded unreserved characters decoded.
    pub fn find_route(&self, host: &str, path: &str, method: Method) -> Option<RouteId> {
        self.index.find(host, path, method)
    }

    /// A route of this table.
    ///
    /// # Panics
    /// On an id of another table.
    pub fn route(&self, id: RouteId) -> &Route {
        &self.routes[id.0 as usize]
    }

    /// The number of routes.
    pub fn route_count(&self) -> usize {
        self.routes.len()
    }

    /// A region of this table.
    ///
    /// # Panics
    /// On an id of another table.
    pub fn region(&self, id: RegionId) -> &Region {
        &self.spec.regions[id.index()]
    }

    /// The region of that name.
    pub fn region_named(&self, name: &str) -> Option<RegionId> {
        self.names.get(name).copied()
    }

    /// The jurisdiction of that name.
    pub fn jurisdiction_named(&self, name: &str) -> Option<JurisdictionId> {
        self.spec.jurisdictions.iter().position(|jurisdiction| jurisdiction.name == name).map(JurisdictionId)
    }

    /// Every region with its id.
    pub fn regions(&self) -> impl Iterator<Item = (RegionId, &Region)> {
        self.spec.regions.iter().enumerate().map(|(index, region)| (RegionId(index as u16), region))
    }

    /// The compiled residency rules.
    pub fn residency(&self) -> &Residency {
        &self.residency
    }

    pub(crate) fn constants(&self, id: RegionId) -> &Constants {
        &self.constants[id.index()]
    }

    /// The table's own idea of a round trip in milliseconds: a given latency, of this direction or
    /// the other, else the great circle, else [`Table::UNKNOWN_LATENCY_MS`].
    pub fn prior_latency_ms(&self, from: RegionId, to: RegionId) -> f32 {
        let at = from.index() * self.spec.regions.len() + to.index();
        self.latency_ms.get(at).copied().unwrap_or(Self::UNKNOWN_LATENCY_MS)
    }

    /// The points for [`Table::prior_latency_ms`], by the index of the region it goes to.
    pub(crate) fn prior_points(&self, from: RegionId) -> &[f32] {
        let n = self.spec.regions.len();
        &self.latency_points[from.index() * n..(from.index() + 1) * n]
    }
}

impl TableSpec {
    /// Every moment at which a rule or an entry of a list begins or ends, in order, each once.
    pub fn boundaries(&self) -> Vec<Moment> {
        let rules = self.rules.iter().flat_map(|rule| rule.period.boundaries());
        let mut all: Vec<Moment> = rules.chain(self.lists.iter().flat_map(List::boundaries)).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Works out which entries of lists count.
    fn resolve(&mut self) {
        let (lists, at) = (std::mem::take(&mut self.lists), self.at);
        self.each_countries(|countries| countries.resolve(&lists, at));
        self.lists = lists;
    }

    /// Every set of countries that may name lists.
    fn each_countries(&mut self, mut visit: impl FnMut(&mut Countries)) {
        self.jurisdictions.iter_mut().for_each(|jurisdiction| visit(&mut jurisdiction.countries));
        for rule in &mut self.rules {
            for selector in rule.allow.iter_mut().flatten() {
                selector.countries.iter_mut().chain(&mut selector.operator_countries).for_each(&mut visit);
            }
            if let Some(deny) = &mut rule.deny {
                deny.countries.iter_mut().chain(&mut deny.operator_countries).for_each(&mut visit);
            }
        }
    }
}

fn latencies(spec: &TableSpec) -> Box<[f32]> {
    let n = spec.regions.len();
    let mut given = vec![f32::NAN; n * n];
    for (from, to, ms) in &spec.latency_ms {
        given[from.index() * n + to.index()] = *ms as f32;
    }
    let at = |from: usize, to: usize| Some(given[from * n + to]).filter(|ms| !ms.is_nan());
    let guess = |from: usize, to: usize| {
        if from == to {
            return 1.0;
        }
        let (a, b) = (spec.regions[from].coordinates, spec.regions[to].coordinates);
        a.zip(b).map_or(Table::UNKNOWN_LATENCY_MS, |(a, b)| great_circle_ms(a, b) as f32)
    };
    let pairs = (0..n).flat_map(|from| (0..n).map(move |to| (from, to)));
    pairs.map(|(from, to)| at(from, to).or(at(to, from)).unwrap_or_else(|| guess(from, to))).collect()
}

/// Compiled scorings, shared by the routes that score alike.
struct Scorings<'a> {
    spec: &'a TableSpec,
    cost: Box<[f32]>,
    compiled: FxHashMap<(usize, Vec<String>), Arc<Scoring>>,
}

impl<'a> Scorings<'a> {
    fn new(spec: &'a TableSpec) -> Self {
        let highest = spec.regions.iter().map(|region| region.cost_per_gb).fold(0.0, f64::max);
        let points = |cost: f64| if highest > 0.0 { 100.0 * (1.0 - cost / highest) } else { 100.0 };
        let cost = spec.regions.iter().map(|region| points(region.cost_per_gb) as f32).collect();
        Self { spec, cost, compiled: FxHashMap::default() }
    }

    fn get(&mut self, route: &RouteSpec) -> Arc<Scoring> {
        let Self { spec, cost, compiled } = self;
        let key = (route.scoring, route.prefer_compliance.clone());
        let make = || {
            let asked = &route.prefer_compliance;
            let share = |region: &Region| {
                let held = asked.iter().filter(|name| region.compliance.contains(name)).count();
                if asked.is_empty() { 100.0 } else { 100.0 * held as f32 / asked.len() as f32 }
            };
            let compliance = spec.regions.iter().map(share).collect();
            Arc::new(Scoring::new(spec.scorings[route.scoring].1, compliance, cost.clone()))
        };
        compiled.entry(key).or_insert_with(make).clone()
    }
}

fn check(spec: &TableSpec) -> Result<(), TableError> {
    match spec.regions.len() {
        0 => return Err(TableError::NoRegion),
        n if n > RegionSet::CAPACITY => return Err(TableError::TooManyRegions(n)),
        _ => {}
    }
    match spec.routes.len() {
        0 => return Err(TableError::NoRoute),
        n if n > Table::MAX_ROUTES => return Err(TableError::TooManyRoutes(n)),
        _ => {}
    }
    unique("regions", spec.regions.iter().map(|region| &region.name))?;
    unique("routes", spec.routes.iter().map(|route| &route.name))?;
    unique("lists", spec.lists.iter().map(|list| &list.name))?;
    unique("jurisdictions", spec.jurisdictions.iter().map(|jurisdiction| &jurisdiction.name))?;
    unique("data classes", spec.data_classes.iter().map(|class| &class.name))?;

    let non_negative = |place: String, value: f64| match value {
        v if v.is_finite() && v >= 0.0 => Ok(()),
        value => Err(TableError::BadNumber { place, value }),
    };
    for region in &spec.regions {
        non_negative(format!("region {}: cost_per_gb", region.name), region.cost_per_gb)?;
        non_negative(format!("region {}: capacity_rps", region.name), region.capacity_rps.unwrap_or(0.0))?;
        let (latitude, longitude) = region.coordinates.unwrap_or_default();
        let place = |axis: &str| format!("region {}: {axis}", region.name);
        non_negative(place("latitude"), 90.0 - latitude.abs())?;
        non_negative(place("longitude"), 180.0 - longitude.abs())?;
    }
    let region_known = |id: &RegionId| id.index() < spec.regions.len();
    let dangling = |place: String, kind| Err(TableError::Dangling { place, kind });
    for (from, to, ms) in &spec.latency_ms {
        if !region_known(from) || !region_known(to) {
            return dangling("latency_ms".into(), "region");
        }
        non_negative("latency_ms".into(), *ms)?;
    }
    if spec.regions.iter().all(|region| region.weight == 0) {
        return Err(TableError::NoWeight);
    }
    let jurisdiction_known = |id: &JurisdictionId| id.0 < spec.jurisdictions.len();
    let class_known = |id: &ClassId| id.0 < spec.data_classes.len();
    let list_known = |countries: &Countries| countries.lists().iter().all(|id| id.0 < spec.lists.len());
    for jurisdiction in &spec.jurisdictions {
        if !list_known(&jurisdiction.countries) {
            return dangling(format!("jurisdiction {}", jurisdiction.name), "list");
        }
    }
    for list in &spec.lists {
        if list.entries.iter().any(|entry| entry.period.is_empty()) {
            return Err(TableError::EmptyPeriod { place: format!("list {}", list.name) });
        }
    }
    for rule in &spec.rules {
        let place = || format!("the rule at line {}", rule.line);
        let (selectors, denial) = (|| rule.allow.iter().flatten(), rule.deny.as_ref());
        let selected = selectors().flat_map(|selector| selector.jurisdictions.iter().flatten());
        let denied = denial.iter().flat_map(|denial| denial.jurisdictions.iter().flatten());
        if !jurisdiction_known(&rule.jurisdiction) || !selected.chain(denied).all(jurisdiction_known) {
            return dangling(place(), "jurisdiction");
        }
        let selected = selectors().flat_map(|selector| selector.countries.iter().chain(&selector.operator_countries));
        let denied = denial.iter().flat_map(|denial| denial.countries.iter().chain(&denial.operator_countries));
        if !selected.chain(denied).all(list_known) {
            return dangling(place(), "list");
        }
        if !rule.data_classes.iter().all(class_known) {
            return dangling(place(), "data class");
        }
        if rule.period.is_empty() {
            return Err(TableError::EmptyPeriod { place: place() });
        }
    }
    if let UnknownOrigin::Like(like) = &spec.unknown_origin {
        if like.is_empty() {
            return Err(TableError::LikeNobody);
        }
        if !like.iter().all(jurisdiction_known) {
            return dangling("unknown_origin".into(), "jurisdiction");
        }
    }
    for (name, weights) in &spec.scorings {
        if !weights.is_usable() {
            return Err(TableError::BadNumber { place: format!("scoring {name}"), value: weights.sum() });
        }
    }
    for route in &spec.routes {
        if !class_known(&route.data_class) {
            return dangling(format!("route {}", route.name), "data class");
        }
        if route.scoring >= spec.scorings.len() {
            return dangling(format!("route {}", route.name), "scoring");
        }
        if !route.jurisdictions.iter().all(jurisdiction_known) {
            return dangling(format!("route {}", route.name), "jurisdiction");
        }
    }
    Ok(())
}

fn unique<'a>(kind: &'static str, names: impl Iterator<Item = &'a String>) -> Result<(), TableError> {
    let mut seen = rustc_hash::FxHashSet::default();
    for name in names {
        if !seen.insert(name) {
            return Err(TableError::Duplicate { kind, name: name.clone() });
        }
    }
    Ok(())
}
