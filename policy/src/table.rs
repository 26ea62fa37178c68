//! The routing table: immutable, whole, and true by construction.

mod check;
mod spec;
mod standby;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

pub use check::TableError;
pub use spec::TableSpec;

use crate::emergency::Emergency;
use crate::globe::{Point, assumed_ms};
use crate::jurisdiction::{ClassId, JurisdictionId};
pub use crate::jurisdiction::{UnknownOrigin, UnlistedJurisdiction};
use crate::moment::{LawTime, Moment};
use crate::pressure::Spill;
use crate::region::{Access, AdminState, Region, RegionId, RegionSet, Role, TakesWrites};
use crate::residency::{Law, Residency};
use crate::route::{Criticality, Method, Route, RouteId, RouteIndex, RouteSpec};
use crate::score::{CompiledCurve, LatencyCurve, LatencyFrom, Scoring};

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
    constants: Box<[Constants]>,
    /// The regions in each jurisdiction's own countries.
    regions_in: Box<[RegionSet]>,
    pub(crate) distinct_ranks: u16,
    /// Whether some route's score goes by how far clients are.
    has_scores_by_client: bool,
    /// Few tables have one, and each decision looks.
    emergency: Option<Box<Emergency>>,
}

/// A primary, and the standby that takes writes over from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WritePair {
    /// The region that has the writes by the table's word.
    pub primary: RegionId,
    /// The region that takes them over.
    pub standby: RegionId,
    /// For how long the primary must have been lost.
    pub promote_after: Duration,
    /// What else must hold.
    pub takes: TakesWrites,
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
    /// See [`Region::share`]; 0 for none.
    pub(crate) share: f32,
    /// Whether its role is cold, or it is a standby: it comes after all that is not, whatever its priority.
    pub(crate) cold: bool,
    /// Whether it is a standby, which is not cold while it is promoted.
    pub(crate) standby: bool,
    /// Whether its data is another region's: all but active regions that serve writes.
    pub(crate) replica: bool,
    /// Whether it serves writes by the table's word alone.
    pub(crate) writes: bool,
    /// Where it is, if the table says so.
    pub(crate) at: Option<Point>,
}

impl Table {
    /// The most routes a table may have.
    pub const MAX_ROUTES: usize = 100_000;

    /// The most different latency curves that a table's scorings may have: each has its points for every two regions.
    pub const MAX_CURVES: usize = 16;

    /// The round trip assumed where neither a latency nor coordinates are known: the knee of the
    /// latency curve, so that an unmeasured region is neither favoured nor given up.
    pub const UNKNOWN_LATENCY_MS: f32 = 150.0;

    /// Checks and compiles a specification.
    ///
    /// # Errors
    /// The first thing that makes it no table.
    pub fn new(mut spec: TableSpec) -> Result<Self, TableError> {
        check::check(&spec)?;
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
        let emergency = spec.emergency.as_ref().and_then(|emergency| {
            let (jurisdictions, unknown) = (&spec.jurisdictions, &spec.unknown_origin);
            Emergency::new(emergency, spec.at, jurisdictions, unknown, spec.routes.len()).map(Box::new)
        });
        let goes_by_client = |route: &RouteSpec| spec.scorings[route.scoring].latency_from == LatencyFrom::Client;
        let has_scores_by_client = spec.routes.iter().any(goes_by_client);
        let latency_ms = latencies(&spec);
        let mut scorings = Scorings::new(&spec, &latency_ms);
        let mut criticalities: Vec<Criticality> = spec.routes.iter().map(|route| route.criticality).collect();
        if spec.lowers_criticality {
            // A request may be less critical than every route.
            let most = criticalities.iter().copied().max();
            let all = [Criticality::Sheddable, Criticality::Default, Criticality::Critical];
            criticalities.extend(all.into_iter().filter(|each| Some(*each) < most));
        }
        criticalities.sort_unstable();
        criticalities.dedup();
        let routes = spec
            .routes
            .iter()
            .map(|route| {
                let able = |access: Access| {
                    having(&|region: &Region| {
                        region.state != AdminState::Disabled
                            && region.may_serve(access)
                            && route.require_compliance.iter().all(|name| region.compliance.contains(name))
                    })
                };
                Route {
                    able_to_read: able(Access::Read),
                    able_to_write: able(Access::Write),
                    restricted: restricted[route.data_class.0],
                    scoring: scorings.get(route),
                    max_latency_ms: route.max_latency.map_or(f32::INFINITY, |max| (max.as_secs_f64() * 1000.0) as f32),
                    spills: [Criticality::Sheddable, Criticality::Default, Criticality::Critical]
                        .map(|criticality| Spill::of(criticality, &criticalities)),
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
            regions_in: spec
                .jurisdictions
                .iter()
                .map(|one| having(&|region| one.countries.now().contains(region.country)))
                .collect(),
            latency_ms,
            constants: spec
                .regions
                .iter()
                .map(|region| Constants {
                    seed: crate::hash::client_key(region.name.as_bytes()),
                    capacity: region.capacity_rps.unwrap_or(typical) as f32,
                    rank: rank(region),
                    weight: region.weight,
                    share: region.share.unwrap_or(0) as f32,
                    cold: region.role == Role::Cold || region.standby.is_some(),
                    standby: region.standby.is_some(),
                    replica: region.role != Role::Active || !region.capabilities.write,
                    writes: region.capabilities.write,
                    at: region.coordinates.map(Point::of),
                })
                .collect(),
            distinct_ranks: priorities.len() as u16,
            has_scores_by_client,
            emergency,
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

    /// Returns the next moment after the time at which the law was read at which a rule or an entry of a list
    /// begins or ends, or an emergency.
    pub fn next_boundary(&self) -> Option<Moment> {
        self.spec.boundaries().into_iter().find(|moment| !self.spec.at.may_have_reached(*moment))
    }

    /// Returns whether the law reads at that time as it was read for this table: no boundary lies between.
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

    /// Returns whether the law keeps data of a class from some region, for some client.
    pub(crate) fn is_restricted(&self, class: ClassId) -> bool {
        self.residency.restricts(class, &self.regions)
    }

    /// Returns what the table says, as given.
    pub fn spec(&self) -> &TableSpec {
        &self.spec
    }

    /// Returns the most specific route for a request; `host` in lower case without port or final dot,
    /// `path` without query, its percent-encoded unreserved characters decoded.
    pub fn find_route(&self, host: &str, path: &str, method: Method) -> Option<RouteId> {
        self.index.find(host, path, method)
    }

    /// Returns a route of this table.
    ///
    /// # Panics
    /// On an id of another table.
    pub fn route(&self, id: RouteId) -> &Route {
        &self.routes[id.0 as usize]
    }

    /// Returns a region of this table.
    ///
    /// # Panics
    /// On an id of another table.
    pub fn region(&self, id: RegionId) -> &Region {
        &self.spec.regions[id.index()]
    }

    /// Returns the region of that name.
    pub fn region_named(&self, name: &str) -> Option<RegionId> {
        self.names.get(name).copied()
    }

    /// Returns the jurisdiction of that name.
    pub fn jurisdiction_named(&self, name: &str) -> Option<JurisdictionId> {
        self.spec.jurisdictions.iter().position(|jurisdiction| jurisdiction.name == name).map(JurisdictionId)
    }

    /// Returns every region with its id.
    pub fn regions(&self) -> impl Iterator<Item = (RegionId, &Region)> {
        self.spec.regions.iter().enumerate().map(|(index, region)| (RegionId(index as u16), region))
    }

    /// Returns the position here of the traffic class that a route of another table has.
    pub fn traffic_of(&self, pinned: &Table, route: RouteId) -> Option<usize> {
        let index = pinned.route(route).spec.traffic_class?;
        if std::ptr::eq(self, pinned) {
            return Some(index);
        }
        let name = &pinned.spec.traffic_classes.get(index)?.name;
        self.spec.traffic_classes.iter().position(|class| class.name == *name)
    }

    /// Returns the emergency that is in force.
    pub fn emergency(&self) -> Option<&Emergency> {
        self.emergency.as_deref()
    }

    /// Returns this table as it is without an emergency.
    pub fn without_emergency(&self) -> Cow<'_, Self> {
        if self.emergency.is_none() {
            return Cow::Borrowed(self);
        }
        let spec = TableSpec { emergency: None, ..self.spec.clone() };
        Cow::Owned(Self { emergency: None, spec, ..self.clone() })
    }

    /// Returns the compiled residency rules.
    pub fn residency(&self) -> &Residency {
        &self.residency
    }

    /// Returns the regions in a jurisdiction's own countries.
    pub(crate) fn regions_in(&self, id: JurisdictionId) -> &RegionSet {
        &self.regions_in[id.0]
    }

    /// Returns the jurisdictions in whose countries a region is.
    pub(crate) fn jurisdictions_around(&self, region: RegionId) -> impl Iterator<Item = JurisdictionId> {
        let having = self.regions_in.iter().enumerate().filter(move |(_, regions)| regions.contains(region));
        having.map(|(index, _)| JurisdictionId(index))
    }

    /// Returns the regions that a standby stands in for; `None` for a region that is none.
    pub fn stands_in_for(&self, id: RegionId) -> Option<RegionSet> {
        self.region(id).standby.as_ref().map(|standby| standby::stands_in_for(self, id, standby))
    }

    /// Returns every primary whose standby takes writes over, with that standby and its conditions.
    pub fn write_pairs(&self) -> impl Iterator<Item = WritePair> {
        self.regions().filter_map(|(id, region)| {
            let standby = region.standby.as_ref()?;
            let primary = self.region_named(standby.of.first()?)?;
            Some(WritePair { primary, standby: id, promote_after: standby.promote_after, takes: standby.writes? })
        })
    }

    /// Returns how many requests a second a region is built for: the mean of the known where the table does not say.
    pub fn capacity_rps(&self, id: RegionId) -> f32 {
        self.constants(id).capacity
    }

    pub(crate) fn constants(&self, id: RegionId) -> &Constants {
        &self.constants[id.index()]
    }

    /// Returns the table's own idea of a round trip in milliseconds: a given latency, of this direction or the
    /// other, else the great circle, else [`Table::UNKNOWN_LATENCY_MS`].
    pub fn prior_latency_ms(&self, from: RegionId, to: RegionId) -> f32 {
        let at = from.index() * self.spec.regions.len() + to.index();
        self.latency_ms.get(at).copied().unwrap_or(Self::UNKNOWN_LATENCY_MS)
    }

    /// Returns whether a route's score goes by how far clients are.
    pub fn is_by_client(&self, id: RouteId) -> bool {
        self.route(id).scoring.latency_from == LatencyFrom::Client
    }

    /// Returns whether some route's does.
    pub fn has_scores_by_client(&self) -> bool {
        self.has_scores_by_client
    }

    /// Returns what the round trip between two regions is to be at most, in milliseconds, if the table says so of this
    /// direction, or of the other.
    pub fn latency_sla_ms(&self, from: RegionId, to: RegionId) -> Option<f64> {
        let of = |a, b| self.spec.latency_sla_ms.iter().find(|pair| (pair.0, pair.1) == (a, b)).map(|pair| pair.2);
        of(from, to).or_else(|| of(to, from))
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
        a.zip(b).map_or(Table::UNKNOWN_LATENCY_MS, |(a, b)| assumed_ms(Point::of(a).km_to(&Point::of(b))) as f32)
    };
    let pairs = (0..n).flat_map(|from| (0..n).map(move |to| (from, to)));
    pairs.map(|(from, to)| at(from, to).or(at(to, from)).unwrap_or_else(|| guess(from, to))).collect()
}

/// Compiled scorings, shared by the routes that score alike.
struct Scorings<'a> {
    spec: &'a TableSpec,
    latency_ms: &'a [f32],
    cost: Box<[f32]>,
    curves: Vec<(&'a LatencyCurve, Arc<CompiledCurve>)>,
    compiled: FxHashMap<(usize, Vec<String>), Arc<Scoring>>,
}

impl<'a> Scorings<'a> {
    fn new(spec: &'a TableSpec, latency_ms: &'a [f32]) -> Self {
        let highest = spec.regions.iter().map(|region| region.cost_per_gb).fold(0.0, f64::max);
        let points = |cost: f64| if highest > 0.0 { 100.0 * (1.0 - cost / highest) } else { 100.0 };
        let cost = spec.regions.iter().map(|region| points(region.cost_per_gb) as f32).collect();
        Self { spec, latency_ms, cost, curves: Vec::new(), compiled: FxHashMap::default() }
    }

    fn get(&mut self, route: &RouteSpec) -> Arc<Scoring> {
        let key = (route.scoring, route.prefer_compliance.clone());
        if let Some(known) = self.compiled.get(&key) {
            return known.clone();
        }
        let asked = &route.prefer_compliance;
        let share = |region: &Region| {
            let held = asked.iter().filter(|name| region.compliance.contains(name)).count();
            if asked.is_empty() { 100.0 } else { 100.0 * held as f32 / asked.len() as f32 }
        };
        let compliance = self.spec.regions.iter().map(share).collect();
        let scoring = &self.spec.scorings[route.scoring];
        let curve = self.curve(&scoring.latency_curve);
        let made = Arc::new(Scoring::new(scoring, curve, compliance, self.cost.clone()));
        self.compiled.insert(key, made.clone());
        made
    }

    fn curve(&mut self, curve: &'a LatencyCurve) -> Arc<CompiledCurve> {
        if let Some((_, known)) = self.curves.iter().find(|(known, _)| *known == curve) {
            return known.clone();
        }
        let made = Arc::new(CompiledCurve::new(curve, self.latency_ms, self.spec.regions.len()));
        self.curves.push((curve, made.clone()));
        made
    }
}
