//! A routing in the hands of one worker: what its requests hold of a table, without counting references where other workers
//! count theirs.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use policy::route::ServerName;
use policy::{RegionId, RouteId};

use super::{CurrentRouting, Routing};
use crate::health::endpoint::EndpointState;
use crate::health::latency::Buckets;
use crate::health::limiter::LimiterHandle;
use crate::health::traffic::AttemptCount;
use crate::in_flight::WorkerCount;
use crate::per_worker::Padded;

/// A routing with what one worker has for itself of its regions. A request holds copies of it for as long as it lasts; they
/// count their references in a place of the worker's own.
#[derive(Clone, Debug)]
pub(crate) struct WorkerRouting(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    routing: Arc<Routing>,
    /// By [`RegionId`].
    regions: Box<[WorkerRegion]>,
    /// By [`RouteId`], the name that its origins are to prove, where it says one: of the table's own copy all workers would
    /// count references.
    server_names: Box<[Option<Arc<str>>]>,
}

/// What one worker has for itself of a region. Some of it outlives the table, with what it is of.
#[derive(Debug)]
pub(crate) struct WorkerRegion {
    /// Its requests in flight there.
    pub(crate) in_flight: Arc<WorkerCount>,
    /// How long its answers take to their heads.
    pub(crate) answers: Arc<Padded<Buckets>>,
    stable: LimiterHandle,
    on_trial: LimiterHandle,
    /// Its attempts at each endpoint.
    attempts: Box<[Arc<Padded<AttemptCount>>]>,
    /// Counts its requests, for endpoints to be picked in turn.
    turn: AtomicUsize,
}

/// One endpoint of a region of a worker's routing.
#[derive(Clone, Debug)]
pub(crate) struct EndpointRef {
    routing: WorkerRouting,
    region: RegionId,
    /// Its position in the region.
    index: usize,
}

/// The routing in force, as one worker last took it. It lives as long as the worker, whose thread alone uses it.
#[derive(Debug)]
pub(crate) struct LatestRouting {
    worker: usize,
    latest: Mutex<WorkerRouting>,
}

impl WorkerRouting {
    /// Makes that of a worker, by its number.
    pub(crate) fn new(routing: Arc<Routing>, worker: usize) -> Self {
        let region = |cell: &super::Region| WorkerRegion {
            in_flight: cell.state.in_flight.of_worker(worker),
            answers: cell.state.answers.of_worker(worker),
            stable: cell.state.limits.of(false).of_worker(),
            on_trial: cell.state.limits.of(true).of_worker(),
            attempts: cell.endpoints.iter().map(|endpoint| endpoint.attempts_of(worker)).collect(),
            // Workers begin with one endpoint each, or the first would get the first request of all.
            turn: AtomicUsize::new(worker),
        };
        let regions = routing.regions.iter().map(region).collect();
        let server_names = routing.table().spec().routes.iter().map(|route| match &route.server_name {
            ServerName::Name(name) => Some(Arc::from(&**name)),
            ServerName::Endpoint | ServerName::Client => None,
        });
        let server_names = server_names.collect();
        Self(Arc::new(Inner { routing, regions, server_names }))
    }

    /// Returns what the worker has of a region.
    ///
    /// # Panics
    /// On an id of another table.
    #[allow(clippy::indexing_slicing, reason = "ids are of this table")]
    pub(crate) fn own(&self, id: RegionId) -> &WorkerRegion {
        &self.0.regions[id.index()]
    }

    /// Returns the name that origins are to prove where a route says which; no route has one that this table lacks.
    pub(crate) fn server_name(&self, route: RouteId) -> Option<Arc<str>> {
        self.0.server_names.get(route.0 as usize)?.clone()
    }

    /// Has the worker give back places that it keeps of regions, but for a few.
    pub(crate) fn settle(&self) {
        self.0.regions.iter().for_each(|region| region.in_flight.settle());
    }

    /// Returns the endpoint at a position of a region; `None` where it has fewer.
    pub(crate) fn endpoint(&self, region: RegionId, index: usize) -> Option<EndpointRef> {
        let is_there = index < self.region(region).endpoints.len();
        is_there.then(|| EndpointRef { routing: self.clone(), region, index })
    }

    /// Returns whether it is of this routing.
    pub(crate) fn is_of(&self, routing: &Arc<Routing>) -> bool {
        Arc::ptr_eq(&self.0.routing, routing)
    }
}

impl WorkerRegion {
    /// Returns the limit of one group of the region's endpoints.
    pub(crate) fn limiter(&self, is_on_trial: bool) -> &LimiterHandle {
        if is_on_trial { &self.on_trial } else { &self.stable }
    }

    /// Returns whose turn it is, of so many endpoints.
    pub(crate) fn turn(&self, endpoints: usize) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed) % endpoints.max(1)
    }
}

impl EndpointRef {
    /// Returns the routing that it is of.
    pub(crate) fn routing(&self) -> &WorkerRouting {
        &self.routing
    }

    /// Returns its region, in the ids of that routing.
    pub(crate) fn region(&self) -> RegionId {
        self.region
    }

    /// Returns the region's name.
    pub(crate) fn region_name(&self) -> &str {
        &self.routing.table().region(self.region).name
    }

    /// Returns where the worker counts its attempts there.
    #[allow(clippy::indexing_slicing, reason = "it is one of the region's")]
    pub(crate) fn attempts(&self) -> &AttemptCount {
        &self.routing.own(self.region).attempts[self.index]
    }
}

impl LatestRouting {
    /// Takes the routing in force for a worker, by its number.
    pub(crate) fn new(current: &CurrentRouting, worker: usize) -> Self {
        Self { worker, latest: Mutex::new(WorkerRouting::new(current.load_full(), worker)) }
    }

    /// Returns the routing in force. Where it is the one that was last returned, nothing is written that other threads read.
    pub(crate) fn of(&self, current: &CurrentRouting) -> WorkerRouting {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.generation == current.generation() {
            return latest.clone();
        }
        let replaced = std::mem::replace(&mut *latest, WorkerRouting::new(current.load_full(), self.worker));
        let now = latest.clone();
        drop(latest);
        drop(replaced);
        now
    }
}

impl Deref for WorkerRouting {
    type Target = Routing;

    fn deref(&self) -> &Routing {
        &self.0.routing
    }
}

impl Deref for EndpointRef {
    type Target = EndpointState;

    #[allow(clippy::indexing_slicing, reason = "it is one of the region's")]
    fn deref(&self) -> &EndpointState {
        &self.routing.region(self.region).endpoints[self.index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{self, LawClock};
    use crate::health::limiter::Held;
    use crate::routing::{Edition, PersistedState};

    const TABLE: &str = "[regions.a]\ncountry = 'DE'\nendpoints = ['10.0.0.1:80', '10.0.0.2:80']\n[concurrency]\n\
        mode = 'fixed'\nlimit = 100\n[[routes]]\nname = 'r'\n\
        server_name = 'origin.example.com'\n";

    fn routing(generation: u64, persisted: &PersistedState) -> Routing {
        let document = config::RoutingTable::from_text(std::path::Path::new("routes.toml"), TABLE, clock::wall())
            .unwrap_or_else(|problems| panic!("{problems}"));
        let edition = Edition { generation, published: None };
        Routing::new(document, "a", 10_000, edition, persisted).unwrap()
    }

    /// References are counted in memory that its worker alone writes to, however many requests there are: what would count
    /// them where all workers do shows here.
    #[test]
    fn requests_count_no_references_where_other_workers_do() {
        let routing = Arc::new(routing(1, &PersistedState::default()));
        let workers = [0, 1].map(|worker| WorkerRouting::new(routing.clone(), worker));
        let id = routing.table().region_named("a").unwrap();
        let shared = || {
            let cell = routing.region(id);
            let endpoints: Vec<_> = cell.endpoints.iter().map(Arc::strong_count).collect();
            let limiters = [false, true].map(|is_on_trial| cell.state.limits.of(is_on_trial).references());
            let counts = [Arc::strong_count(&cell.state), Arc::strong_count(&cell.state.in_flight)];
            let ServerName::Name(name) = &routing.table().route(RouteId(0)).spec.server_name else { unreachable!() };
            (Arc::strong_count(&routing), endpoints, limiters, counts, Arc::strong_count(name))
        };
        let before = shared();
        let requests: Vec<_> = workers
            .iter()
            .cycle()
            .take(20)
            .map(|worker| {
                let own = worker.own(id);
                let endpoint = worker.endpoint(id, own.turn(2)).unwrap();
                endpoint.attempts();
                let name = worker.server_name(RouteId(0)).unwrap();
                assert_eq!(&*name, "origin.example.com");
                let held = Held::new(
                    own.in_flight.enter(),
                    own.limiter(false).enter(None, policy::pressure::Criticality::Default).unwrap(),
                );
                (worker.clone(), endpoint, held, name)
            })
            .collect();
        assert_eq!(shared(), before);
        assert_eq!(routing.region(id).state.in_flight.exactly(), 20);
        let at = |index: usize| requests.iter().filter(|(_, endpoint, ..)| endpoint.index == index).count();
        assert_eq!((at(0), at(1)), (10, 10), "in turn, on each worker");
        assert!(workers[0].endpoint(id, 2).is_none());
    }

    #[test]
    fn a_worker_takes_another_table_with_its_next_request() {
        let persisted = PersistedState::default();
        let (first, second) = (routing(1, &persisted), routing(2, &persisted));
        let current = CurrentRouting::new(first, persisted, Arc::new(LawClock::start()));
        let latest = LatestRouting::new(&current, 0);
        let under_way = latest.of(&current);
        let before = Arc::strong_count(&current.load_full());
        assert_eq!(latest.of(&current).generation, 1);
        assert_eq!(Arc::strong_count(&current.load_full()), before, "it is only looked at");
        current.replace(Arc::new(second));
        assert_eq!((latest.of(&current).generation, under_way.generation), (2, 1));
        assert!(latest.of(&current).is_of(&current.load_full()));
        // What it counts in outlives the table.
        let id = under_way.table().region_named("a").unwrap();
        let _in_flight = under_way.own(id).in_flight.enter();
        assert_eq!(latest.of(&current).region(id).state.in_flight.exactly(), 1);
    }
}
