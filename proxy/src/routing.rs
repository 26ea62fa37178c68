//! One generation of routing: a table, and the live state of its regions.

mod current;
mod worker;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use config::{Endpoint, EndpointRole, RoutingTable};
use dashmap::DashMap;
use policy::client_way::ClientAt;
use policy::concurrency::{PlacedClasses, TrafficSlot};
use policy::failover::Failover;
use policy::globe::{Coordinates, Point, assumed_ms, fastest_ms};
use policy::health::{Claim, EndpointCounts, LagWord, Phase, ProbePlan};
use policy::load::OneRequest;
use policy::pressure::OVERLOAD_MARK;
use policy::region::{AdminState, Role};
use policy::rollout::Canary;
use policy::round_trip::Measured;
use policy::{Country, Health, Origin, RegionId, RegionView, Reported, RouteId, Table, View, Withheld, Writes};
use rustc_hash::FxHashSet;

use crate::clock;
use crate::health::canary::CanaryState;
use crate::health::client_ways::{ClientWays, Connected, SettledWays};
use crate::health::endpoint::EndpointState;
use crate::health::latency::AnswerTimes;
use crate::health::limiter::LimitNow;
use crate::health::region::RegionState;
use crate::peers::headers::PublishedTable;

pub(crate) use current::CurrentRouting;
pub(crate) use worker::{EndpointRef, LatestRouting, WorkerRouting};

/// A routing table in force on this node. Immutable but for its live cells, which a successor of the same names
/// takes over. Any thread reads it, and a request holds it for as long as it lasts.
#[derive(Debug)]
pub(crate) struct Routing {
    /// The compiled document.
    pub(crate) document: RoutingTable,
    /// Counts the tables that this node has had, from 1.
    pub(crate) generation: u64,
    /// The table's revision: the bus's, or the generation of a file.
    pub(crate) revision: u64,
    /// Which table of the bus it is; `None` of a file.
    pub(crate) published: Option<PublishedTable>,
    /// Whether the bus that it came from has been silent for too long.
    expired: Arc<AtomicBool>,
    /// How far clients are, where a scoring goes by that.
    pub(crate) client_ways: Arc<ClientWays>,
    /// What that comes to for the regions of this table.
    settled_ways: ArcSwap<SettledWays>,
    /// When it was loaded.
    pub(crate) loaded: std::time::Instant,
    /// The region of this node.
    pub(crate) here: RegionId,
    /// The version on trial, if one is.
    pub(crate) canary: Option<Arc<CanaryState>>,
    regions: Box<[Region]>,
    /// By [`RouteId`].
    routes: Box<[Arc<AnswerTimes>]>,
}

/// One region of a table: whom this node dials there, and the region's live state. It lives as long as its
/// [`Routing`].
#[derive(Debug)]
pub(crate) struct Region {
    /// What this node dials there: the endpoints in its own region, else the gateway if there is one.
    pub(crate) endpoints: Box<[Arc<EndpointState>]>,
    /// What outlives the table.
    pub(crate) state: Arc<RegionState>,
    /// How endpoints are probed.
    pub(crate) probe: ProbePlan,
    /// The replication lag that its endpoints report, in milliseconds; [`NO_LAG`] when none does.
    lag_ms: AtomicU64,
    cap: usize,
    /// The mean of what its endpoints in rotation say of their own load, as bits.
    origin_load: AtomicU32,
    /// The bits of a [`OneRequest`] of [`Region::cap`].
    one_request: AtomicU32,
    /// The share of a limit that the endpoints in rotation leave, as bits.
    in_rotation: AtomicU32,
    /// The share of endpoints that are up, in percent, for `/status`.
    healthy: AtomicU8,
    /// Whether some of its endpoints, not all, run the version on trial.
    has_canary: bool,
    /// Where its limits count the places of the table's traffic classes.
    classes: PlacedClasses,
}

/// Where a client is, and what is known of its country's ways. It lives as long as its request is decided.
#[derive(Debug)]
pub(crate) struct ClientOnMap {
    coordinates: Coordinates,
    /// If it is certain.
    country: Option<Country>,
    ways: Arc<SettledWays>,
}

impl ClientOnMap {
    /// Makes a client of whose country's ways nothing is known.
    pub(crate) fn unmeasured(coordinates: Coordinates) -> Self {
        Self { coordinates, country: None, ways: Arc::default() }
    }

    /// Returns it as decisions read it.
    pub(crate) fn at(&self) -> ClientAt<'_> {
        ClientAt { coordinates: self.coordinates, excess_ms: self.ways.excess_ms(self.country) }
    }
}

/// Which of a node's tables one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edition {
    /// See [`Routing::generation`].
    pub(crate) generation: u64,
    /// See [`Routing::published`].
    pub(crate) published: Option<PublishedTable>,
}

/// What outlives a table: the states of endpoints, regions and routes, by name. It lives as long as the process; a
/// new [`Routing`] takes its cells from here.
#[derive(Debug, Default)]
pub(crate) struct PersistedState {
    endpoints: DashMap<(String, Endpoint), Arc<EndpointState>>,
    regions: DashMap<String, Arc<RegionState>>,
    routes: DashMap<String, Arc<AnswerTimes>>,
    canary: Mutex<Option<Arc<CanaryState>>>,
    /// Whether the config bus has been silent for too long.
    pub(crate) expired: Arc<AtomicBool>,
    client_ways: Arc<ClientWays>,
}

/// The node's region is not in the table.
#[derive(Debug, thiserror::Error)]
#[error("the table has no region {region:?}, which is this node's own ([node] region); its regions are {}", known.join(", "))]
pub(crate) struct NotHere {
    region: String,
    known: Vec<String>,
}

impl Routing {
    /// Puts a document in force: builds live cells, taking over those of the same names.
    ///
    /// # Errors
    /// When `region`, the node's own, is not in the table.
    pub(crate) fn new(
        document: RoutingTable,
        region: &str,
        cap: usize,
        edition: Edition,
        persisted: &PersistedState,
    ) -> Result<Self, NotHere> {
        let table = &document.table;
        let here = table.region_named(region).ok_or_else(|| NotHere {
            region: region.to_owned(),
            known: table.regions().map(|(_, region)| region.name.clone()).collect(),
        })?;
        let failover = &table.spec().failover;
        let canary = persisted.canary(document.canary.as_ref());
        let settled: FxHashSet<String> = persisted.endpoints.iter().map(|known| known.key().0.clone()).collect();
        let mut regions = Vec::new();
        for ((id, region), upstream) in table.regions().zip(&document.upstreams) {
            let cold = region.role == Role::Cold;
            let dialled = match &upstream.gateway {
                Some(gateway) if id != here => std::slice::from_ref(gateway),
                _ => upstream.endpoints.as_slice(),
            };
            let place = |endpoint: &Endpoint| (region.name.clone(), Endpoint { version: None, ..endpoint.clone() });
            // Where every endpoint is another, what was known of the region is known of none of them.
            let is_moved = settled.contains(&region.name)
                && !dialled.iter().any(|endpoint| persisted.endpoints.contains_key(&place(endpoint)));
            if is_moved && let Some((_, moved)) = persisted.regions.remove(&region.name) {
                moved.limits.end();
            }
            let state = |endpoint: &Endpoint| {
                let place = place(endpoint);
                let entry = persisted.endpoints.entry(place);
                let mut known = entry.or_insert_with(|| Arc::new(EndpointState::new(endpoint.clone(), cold)));
                if known.endpoint != *endpoint {
                    *known = Arc::new(known.of_another_version(endpoint.clone()));
                }
                known.clone()
            };
            let on_trial = |endpoint: &&Endpoint| canary.as_ref().is_some_and(|canary| canary.is_canary(endpoint));
            let endpoints_on_trial = dialled.iter().filter(on_trial).count();
            let live = persisted.regions.entry(region.name.clone());
            let live = live.or_insert_with(|| Arc::new(RegionState::new(cold, failover))).clone();
            let classes = live.limits.set_plan(&upstream.concurrency, cap, &table.spec().traffic_classes);
            let cell = Region {
                endpoints: dialled.iter().map(state).collect(),
                state: live,
                probe: upstream.health.clone(),
                lag_ms: AtomicU64::new(NO_LAG),
                cap,
                origin_load: AtomicU32::new(0),
                one_request: AtomicU32::new(0),
                in_rotation: AtomicU32::new(0),
                healthy: AtomicU8::new(100),
                has_canary: endpoints_on_trial > 0,
                classes,
            };
            cell.state.in_flight.set_limit(cap);
            cell.state.set_draining(region.state == AdminState::Draining);
            cell.refresh(failover);
            regions.push(cell);
        }
        persisted.endpoints.retain(|(name, _), state| {
            table.region_named(name).is_some_and(|id| {
                regions.get(id.index()).is_some_and(|cell| cell.endpoints.iter().any(|kept| Arc::ptr_eq(kept, state)))
            })
        });
        persisted.regions.retain(|name, state| {
            let is_kept = table.region_named(name).is_some();
            if !is_kept {
                state.limits.end();
            }
            is_kept
        });
        let cell = |id: RegionId| regions.get(id.index());
        for pair in table.write_pairs() {
            let (Some(primary), Some(standby)) = (cell(pair.primary), cell(pair.standby)) else { continue };
            let is_followed = standby.state.writer().is_some_and(|state| {
                state.primary == table.region(pair.primary).name && primary.state.writes() != Writes::AsDeclared
            });
            if !is_followed {
                // Nobody has looked yet who has them.
                [primary, standby].iter().for_each(|cell| cell.state.set_writes(Writes::Withheld(Withheld::Starting)));
            }
        }
        let names: FxHashSet<&str> = table.spec().routes.iter().map(|route| route.name.as_str()).collect();
        let routes = table.spec().routes.iter();
        let routes = routes.map(|route| persisted.routes.entry(route.name.clone()).or_default().clone()).collect();
        persisted.routes.retain(|name, _| names.contains(name.as_str()));
        let loaded = clock::now();
        let Edition { generation, published } = edition;
        let revision = published.map_or(generation, |table| table.revision);
        let (regions, expired) = (regions.into(), persisted.expired.clone());
        let client_ways = persisted.client_ways.clone();
        let settled_ways = ArcSwap::default();
        let routing = Self {
            document,
            generation,
            revision,
            published,
            expired,
            client_ways,
            settled_ways,
            loaded,
            here,
            canary,
            regions,
            routes,
        };
        // Before the first request: it would else be decided otherwise than those before and after it.
        routing.show_client_ways();
        Ok(routing)
    }

    /// Returns a standby that takes writes over, at the node's start: while it or its primary has not answered yet, for as
    /// long as a probe may take. Later a node is as ready as it was.
    pub(crate) fn undecided_standby(&self, now: std::time::Instant) -> Option<&str> {
        if self.generation > 1 {
            return None;
        }
        let is_asking = |id: RegionId| {
            let cell = self.region(id);
            let asked = cell.is_asked() && cell.state.writes() != Writes::Withheld(Withheld::Starting);
            !asked && now.saturating_duration_since(self.loaded) < cell.probe.timeout
        };
        let pair = self.table().write_pairs().find(|pair| is_asking(pair.primary) || is_asking(pair.standby))?;
        Some(&self.table().region(pair.standby).name)
    }

    /// Returns the table.
    pub(crate) fn table(&self) -> &Table {
        &self.document.table
    }

    /// Returns a region's live cell.
    ///
    /// # Panics
    /// On an id of another table.
    #[allow(clippy::indexing_slicing, reason = "ids are of this table")]
    pub(crate) fn region(&self, id: RegionId) -> &Region {
        &self.regions[id.index()]
    }

    /// Returns every region's cell with its id and name.
    pub(crate) fn regions(&self) -> impl Iterator<Item = (RegionId, &policy::region::Region, &Region)> {
        self.table().regions().zip(&self.regions).map(|((id, region), cell)| (id, region, cell))
    }

    /// Notes how far a client is that has connected to this node, where scores go by that.
    pub(crate) fn client_came(&self, country: Country, client_key: u64, at: Coordinates, took: Duration) {
        if !self.table().has_scores_by_client() {
            return;
        }
        if let Some(here) = self.table().region(self.here).coordinates {
            let (km, ms) = (at.point().km_to(&Point::of(here)), took.as_secs_f64() * 1000.0);
            // What is faster than light comes from something between, or from a client that is elsewhere.
            if ms >= fastest_ms(km) {
                let excess_ms = (ms - assumed_ms(km)) as f32;
                self.client_ways.note(Connected { country, client_key, excess_ms });
            }
        }
    }

    /// Returns where a client is, if the score of its route goes by that and it is known.
    pub(crate) fn ways_of(&self, id: RouteId, origin: &Origin, at: Option<Coordinates>) -> Option<ClientOnMap> {
        let coordinates = at.filter(|_| self.table().is_by_client(id))?;
        let country = if let Origin::Country(country) = origin { Some(*country) } else { None };
        Some(ClientOnMap { coordinates, country, ways: self.settled_ways() })
    }

    /// Works out how far clients are.
    pub(crate) fn settle_client_ways(&self) {
        if self.table().has_scores_by_client() {
            self.client_ways.take_in(self.table().spec().latency_window);
            self.show_client_ways();
        }
    }

    /// Shows decisions what is known of clients' ways.
    fn show_client_ways(&self) {
        if self.table().has_scores_by_client() {
            let regions: Vec<&str> = self.table().regions().map(|(_, region)| region.name.as_str()).collect();
            let settled = self.client_ways.settled(&regions, self.here.index(), self.table().spec().latency_window);
            self.settled_ways.store(Arc::new(settled));
        }
    }

    /// Returns what decisions go by of clients' ways.
    pub(crate) fn settled_ways(&self) -> Arc<SettledWays> {
        self.settled_ways.load_full()
    }

    /// Returns how long the way to a region and back takes: measured, mixed with the table's while little is. Where nothing
    /// is it is the table's, but no longer than half of the region's answers take.
    pub(crate) fn way(&self, id: RegionId) -> Duration {
        let state = &self.region(id).state;
        let of = |ms: f32| Duration::try_from_secs_f32(ms / 1000.0).unwrap_or_default();
        match state.round_trip.ms() {
            Some(measured) => of(measured),
            None => {
                let assumed = of(self.table().prior_latency_ms(self.here, id));
                state.answers.median().map_or(assumed, |median| median.min(assumed))
            }
        }
    }

    /// Returns how long a route's answers take.
    ///
    /// # Panics
    /// On an id of another table.
    #[allow(clippy::indexing_slicing, reason = "ids are of this table")]
    pub(crate) fn latency(&self, id: RouteId) -> &AnswerTimes {
        &self.routes[id.0 as usize]
    }

    /// Returns how long the answers of each route take.
    pub(crate) fn latencies(&self) -> impl Iterator<Item = &AnswerTimes> {
        self.routes.iter().map(Arc::as_ref)
    }

    /// Returns the version on trial, if it is in this region.
    pub(crate) fn canary_in(&self, cell: &Region) -> Option<&CanaryState> {
        self.canary.as_deref().filter(|_| cell.has_canary)
    }

    /// Returns whether an endpoint of a region runs the version on trial.
    pub(crate) fn is_on_trial(&self, region: RegionId, endpoint: &EndpointState) -> bool {
        self.canary_in(self.region(region)).is_some_and(|canary| canary.is_canary(&endpoint.endpoint))
    }

    /// Returns the region's name if this node reaches it by a gateway, which must then not choose again.
    pub(crate) fn chosen_for_gateway(&self, region: RegionId) -> Option<&str> {
        let by_gateway = self.document.upstreams.get(region.index()).is_some_and(|upstream| upstream.gateway.is_some());
        (region != self.here && by_gateway).then(|| self.table().region(region).name.as_str())
    }
}

impl View for Routing {
    fn region(&self, id: RegionId) -> RegionView {
        let cell = Routing::region(self, id);
        RegionView {
            health: cell.state.health(),
            utilisation: cell.utilisation(),
            pressure: cell.state.pressure(),
            rtt_ms: cell.state.round_trip.ms(),
            reach_ms: cell.state.round_trip.reach_ms(),
            lag: cell.lag(),
            promoted: cell.state.is_promoted(),
            writes: cell.state.writes(),
        }
    }

    fn table_expired(&self) -> bool {
        self.expired.load(Ordering::Relaxed)
    }

    fn reported(&self, id: RegionId) -> Option<Reported> {
        Routing::region(self, id).state.reported.read(clock::coarse_ms())
    }

    fn measured(&self, id: RegionId) -> Option<Measured> {
        Routing::region(self, id)
            .state
            .round_trip
            .measured(self.table().prior_latency_ms(self.here, id), self.table().spec().latency_window)
    }
}

impl Region {
    /// Returns how full it is for this node: the greater of what is in flight there as a share of the cap, and of what
    /// takes and awaits places as a share of the limit, of the fuller group of endpoints. Both shrink with the endpoints
    /// that are down.
    pub(crate) fn load(&self) -> f32 {
        let (in_use, one) = self.in_use_of(self.state.in_flight.roughly());
        one.load(in_use as f32)
    }

    /// Returns what is in use, and of how much, by which [`Region::load`] goes.
    pub(crate) fn in_use(&self) -> (usize, OneRequest) {
        self.in_use_of(self.state.in_flight.exactly())
    }

    fn in_use_of(&self, in_flight: usize) -> (usize, OneRequest) {
        let of_cap = OneRequest::from_bits(self.one_request.load(Ordering::Relaxed));
        let Some(now) = self.state.limits.fullest(self.has_canary) else { return (in_flight, of_cap) };
        let of_limit = OneRequest::of(now.limit, f32::from_bits(self.in_rotation.load(Ordering::Relaxed)));
        let is_limit = of_limit.load(now.in_use() as f32) > of_cap.load(in_flight as f32);
        if is_limit { (now.in_use(), of_limit) } else { (in_flight, of_cap) }
    }

    /// Returns its limit as it is now; `None` where there is none.
    pub(crate) fn limit(&self) -> Option<LimitNow> {
        self.state.limits.now(self.has_canary)
    }

    /// Returns each traffic class of a table with the places that it has taken, and what it is guaranteed of them; nothing
    /// where there is no limit.
    pub(crate) fn classes<'t>(&self, table: &'t Table) -> impl Iterator<Item = (&'t str, usize, usize)> {
        let limit = self.limit().map(|now| now.limit);
        let guarantees = &self.classes.guarantees;
        table.spec().traffic_classes.iter().zip(&self.classes.slots).filter_map(move |(class, slot)| {
            let taken = self.state.limits.taken_by(*slot, self.has_canary);
            Some((class.name.as_str(), taken, guarantees.places(usize::from(slot.index), limit?)))
        })
    }

    /// Returns where the places of a traffic class are counted, of its position in the table.
    pub(crate) fn traffic_slot(&self, class: usize) -> Option<TrafficSlot> {
        self.classes.slots.get(class).copied()
    }

    /// Returns what its endpoints say of their own load, as a mean of those that say something; else zero.
    pub(crate) fn origin_load(&self) -> f32 {
        f32::from_bits(self.origin_load.load(Ordering::Relaxed))
    }

    /// Returns the load of the region by all nodes, as far as it is reported, by its endpoints, and by what its own node has no
    /// room for: what spills.
    pub(crate) fn fleet_load(&self) -> f32 {
        self.state.reported.over(self.load().max(self.origin_load()).max(self.state.shed_load()))
    }

    /// Returns whether what another region has no room for may be asked of this one at no cost.
    pub(crate) fn has_room(&self) -> bool {
        !self.state.is_refusing() && self.fleet_load().max(self.state.pressure()) < OVERLOAD_MARK
    }

    /// Returns the fleet's load as decisions weigh it. A region is never less full than the share of what fails
    /// there: who answers with errors, and quickly, would else seem idle, and attract what it fails.
    pub(crate) fn utilisation(&self) -> f32 {
        let seen = self.state.error_share().max(self.state.shed_load());
        self.state.reported.over(self.load().max(self.origin_load()).max(seen))
    }

    /// Returns the largest replication lag that an endpoint which is up has reported.
    pub(crate) fn lag(&self) -> Option<Duration> {
        Some(self.lag_ms.load(Ordering::Relaxed)).filter(|ms| *ms != NO_LAG).map(Duration::from_millis)
    }

    /// Returns whether its data is the primary's, as its endpoints say that the probes have nothing against, or that have
    /// just answered one; `None` where there is none.
    pub(crate) fn claim(&self) -> Option<Claim> {
        self.answering().filter_map(|endpoint| endpoint.claim()).reduce(Claim::and)
    }

    /// Returns when the first of these was asked. What a gateway passes on is as old as its own last probe.
    pub(crate) fn claimed_at(&self) -> Option<Duration> {
        let asked = self.answering().filter_map(|endpoint| endpoint.claimed_at()).min();
        asked.map(|asked| asked.saturating_sub(self.passed_on()))
    }

    /// Returns how far behind it says that it is, as a replica or without a role, at `now`, the uptime.
    pub(crate) fn lag_word(&self, now: Duration) -> Option<LagWord> {
        let is_behind = |claim| matches!(claim, Claim::Replica | Claim::Unsaid);
        let behind = self.answering().filter(|endpoint| endpoint.claim().is_some_and(is_behind));
        let lag_ms = behind.filter_map(|endpoint| endpoint.lag_ms()).max()?;
        if !self.claim().is_some_and(is_behind) {
            return None;
        }
        let age = now.saturating_sub(self.answering().filter_map(|endpoint| endpoint.claimed_at()).min()?);
        Some(LagWord::of_age(Duration::from_millis(lag_ms), age.saturating_add(self.passed_on()), now))
    }

    fn answering(&self) -> impl Iterator<Item = &Arc<EndpointState>> {
        let answers = |endpoint: &EndpointState| endpoint.claim().is_some() && endpoint.last_failure().is_none();
        self.endpoints.iter().filter(move |endpoint| endpoint.is_probed_up() || answers(endpoint))
    }

    /// Returns how old what its endpoints say may be when it is asked: through a gateway, which asks by the same plan.
    fn passed_on(&self) -> Duration {
        let is_gateway = self.endpoints.iter().any(|endpoint| endpoint.endpoint.role != EndpointRole::Origin);
        if is_gateway { self.probe.interval * 2 + self.probe.timeout } else { Duration::ZERO }
    }

    /// Returns whether a probe of it has had a result.
    pub(crate) fn is_asked(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.claim().is_some() || endpoint.last_failure().is_some())
    }

    /// Returns the most requests this node has in flight there, whatever its limit.
    pub(crate) fn cap(&self) -> usize {
        self.cap
    }

    /// Returns whether the region serves, as far as this node can tell.
    pub(crate) fn is_up(&self) -> bool {
        self.state.health() != Health::Down
    }

    /// Returns how many percent of its endpoints are up.
    pub(crate) fn healthy_percent(&self) -> u8 {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Returns how its endpoints are.
    pub(crate) fn census(&self) -> EndpointCounts {
        let count = |is: fn(&EndpointState) -> bool| self.endpoints.iter().filter(|endpoint| is(endpoint)).count();
        EndpointCounts {
            endpoints: self.endpoints.len(),
            probed_up: count(EndpointState::is_probed_up),
            in_rotation: count(EndpointState::is_up),
        }
    }

    /// Works the region's health out again from its endpoints'; its phases before and after, when they
    /// differ.
    pub(crate) fn refresh(&self, failover: &Failover) -> Option<(Phase, Phase)> {
        let census = self.census();
        let share = census.share_in_rotation();
        self.healthy.store((share * 100.0) as u8, Ordering::Relaxed);
        self.one_request.store(OneRequest::of(self.cap, share).to_bits(), Ordering::Relaxed);
        // A limit that finds itself is of the endpoints that there are.
        let share = if self.state.limits.is_adaptive() { 1.0 } else { share };
        self.in_rotation.store(share.to_bits(), Ordering::Relaxed);
        let up = self.endpoints.iter().filter(|endpoint| endpoint.is_up());
        let loads = up.filter_map(|endpoint| endpoint.load(self.probe.interval));
        let (sum, counts, most) = loads.fold((0.0, 0.0, 0.0_f32), |(sum, counts, most), (load, counting)| {
            (sum + load * counting, counts + counting, most.max(counting))
        });
        // A mean by what each word counts; and as the last of them grows old, all of it less.
        let mean = if counts > 0.0 { sum / counts * most } else { 0.0 };
        self.origin_load.store(mean.to_bits(), Ordering::Relaxed);
        let lags = self.endpoints.iter().filter(|endpoint| endpoint.is_up()).filter_map(|endpoint| endpoint.lag_ms());
        self.lag_ms.store(lags.max().unwrap_or(NO_LAG), Ordering::Relaxed);
        self.state.in_flight.settle();
        self.state.refresh(&census, failover)
    }
}

impl PersistedState {
    /// Returns the state of the version on trial: what it was, if a table says the same of it as the one before.
    fn canary(&self, spec: Option<&Canary>) -> Option<Arc<CanaryState>> {
        let mut kept = self.canary.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |state: &Arc<CanaryState>| spec.is_some_and(|spec| spec.is_same_trial(&state.spec));
        *kept = kept.take().filter(same).or_else(|| Some(Arc::new(CanaryState::new(spec?.clone()))));
        kept.clone()
    }
}

/// What stands for a region that reports no replication lag.
const NO_LAG: u64 = u64::MAX;

#[cfg(test)]
mod tests;
