//! One generation of routing: a table, the live state of its regions, and how to reach them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use config::{Endpoint, RoutingTable};
use dashmap::DashMap;
use policy::health::{ProbePlan, region_health};
use policy::{Health, Permit, RegionId, RegionView, Table, View};

use crate::health::endpoint::EndpointState;

/// A routing table in force on this node. Immutable but for its live cells, which a successor of
/// the same names takes over.
#[derive(Debug)]
pub struct Routing {
    /// The compiled document.
    pub document: RoutingTable,
    /// Counts the tables that this node has had, from 1.
    pub generation: u64,
    /// When it was loaded.
    pub loaded: std::time::Instant,
    /// The region of this node.
    pub here: RegionId,
    /// Whether some other region is reached by a gateway.
    pub has_gateways: bool,
    regions: Box<[Region]>,
}

/// The live cell of one region.
#[derive(Debug)]
pub struct Region {
    /// What this node dials there: the endpoints in its own region, else the gateway if there is one.
    pub endpoints: Box<[Arc<EndpointState>]>,
    /// Requests of this node in flight there.
    pub in_flight: Arc<AtomicUsize>,
    /// The bits of [`RegionView::pressure`].
    pressure: Arc<AtomicU32>,
    /// The replication lag that its endpoints report, in milliseconds; [`NO_LAG`] when none does.
    lag_ms: AtomicU64,
    /// How endpoints are probed.
    pub probe: ProbePlan,
    cap: usize,
    turn: AtomicUsize,
    up: AtomicBool,
    /// The share of endpoints that are up, in percent, for `/status`.
    healthy: AtomicU8,
}

/// What outlives a table: endpoint health and the counts of requests in flight, by name.
#[derive(Debug, Default)]
pub struct Survivors {
    endpoints: DashMap<(String, Endpoint), Arc<EndpointState>>,
    in_flight: DashMap<String, Arc<AtomicUsize>>,
    pressure: DashMap<String, Arc<AtomicU32>>,
}

/// The node's region is not in the table.
#[derive(Debug, thiserror::Error)]
#[error("the table has no region {region:?}, which is this node's own ([node] region); its regions are {}", known.join(", "))]
pub struct NotHere {
    region: String,
    known: Vec<String>,
}

impl Routing {
    /// Puts a document in force: builds live cells, taking over those of the same names.
    ///
    /// # Errors
    /// When `region`, the node's own, is not in the table.
    pub fn new(
        document: RoutingTable,
        region: &str,
        cap: usize,
        generation: u64,
        survivors: &Survivors,
    ) -> Result<Self, NotHere> {
        let table = &document.table;
        let here = table.region_named(region).ok_or_else(|| NotHere {
            region: region.to_owned(),
            known: table.regions().map(|(_, region)| region.name.clone()).collect(),
        })?;
        let mut regions = Vec::new();
        for ((id, region), upstream) in table.regions().zip(&document.upstreams) {
            let dialled = match &upstream.gateway {
                Some(gateway) if id != here => std::slice::from_ref(gateway),
                _ => upstream.endpoints.as_slice(),
            };
            let state = |endpoint: &Endpoint| {
                let key = (region.name.clone(), endpoint.clone());
                survivors.endpoints.entry(key).or_insert_with(|| Arc::new(EndpointState::new(endpoint.clone()))).clone()
            };
            let cell = Region {
                endpoints: dialled.iter().map(state).collect(),
                in_flight: survivors.in_flight.entry(region.name.clone()).or_default().clone(),
                pressure: survivors.pressure.entry(region.name.clone()).or_default().clone(),
                lag_ms: AtomicU64::new(NO_LAG),
                probe: upstream.health.clone(),
                cap,
                turn: AtomicUsize::new(0),
                up: AtomicBool::new(true),
                healthy: AtomicU8::new(100),
            };
            cell.refresh(table.spec().failover.threshold);
            regions.push(cell);
        }
        survivors.endpoints.retain(|(name, _), state| {
            table.region_named(name).is_some_and(|id| {
                regions.get(id.index()).is_some_and(|cell| cell.endpoints.iter().any(|kept| Arc::ptr_eq(kept, state)))
            })
        });
        survivors.in_flight.retain(|name, _| table.region_named(name).is_some());
        survivors.pressure.retain(|name, _| table.region_named(name).is_some());
        let loaded = std::time::Instant::now();
        let others = document.upstreams.iter().enumerate().filter(|(index, _)| *index != here.index());
        let has_gateways = others.into_iter().any(|(_, upstream)| upstream.gateway.is_some());
        Ok(Self { document, generation, loaded, here, has_gateways, regions: regions.into() })
    }

    /// The table.
    pub fn table(&self) -> &Table {
        &self.document.table
    }

    /// A region's live cell.
    ///
    /// # Panics
    /// On an id of another table.
    #[allow(clippy::indexing_slicing, reason = "ids are of this table")]
    pub fn region(&self, id: RegionId) -> &Region {
        &self.regions[id.index()]
    }

    /// Every region's cell with its id and name.
    pub fn regions(&self) -> impl Iterator<Item = (RegionId, &policy::region::Region, &Region)> {
        self.table().regions().zip(&self.regions).map(|((id, region), cell)| (id, region, cell))
    }

    /// Spends a permit on an endpoint of its region: healthy ones in turn, then suspect ones, never
    /// one that this request has tried. `None` when the region has no other left.
    pub fn destination(&self, permit: Permit, tried: &[Arc<EndpointState>]) -> Option<Destination> {
        let cell = self.region(permit.region());
        let endpoint = cell.pick(tried)?;
        Some(Destination { endpoint, _permit: permit })
    }

    /// The region's name if this node reaches it by a gateway, which must then not choose again.
    pub fn chosen_for_gateway(&self, region: RegionId) -> Option<&str> {
        let by_gateway = self.document.upstreams.get(region.index()).is_some_and(|upstream| upstream.gateway.is_some());
        (region != self.here && by_gateway).then(|| self.table().region(region).name.as_str())
    }

    /// How many endpoints of a region this request could still try.
    pub fn untried(&self, region: RegionId, tried: &[Arc<EndpointState>]) -> usize {
        self.region(region).endpoints.iter().filter(|endpoint| endpoint.is_up() && !is_in(tried, endpoint)).count()
    }

    /// Works the regions' health out again from their endpoints'.
    pub fn refresh_health(&self) {
        for cell in &self.regions {
            cell.refresh(self.table().spec().failover.threshold);
        }
    }
}

impl View for Routing {
    fn region(&self, id: RegionId) -> RegionView {
        let cell = Routing::region(self, id);
        RegionView {
            health: if cell.up.load(Ordering::Relaxed) { Health::Up } else { Health::Down },
            utilisation: cell.utilisation(),
            pressure: cell.pressure(),
            rtt_ms: None,
            lag: cell.lag(),
        }
    }
}

impl Region {
    /// The share of the cap on requests in flight that is used.
    pub fn utilisation(&self) -> f32 {
        self.in_flight.load(Ordering::Relaxed) as f32 / self.cap as f32
    }

    /// The utilisation as the overload mark sees it.
    pub fn pressure(&self) -> f32 {
        f32::from_bits(self.pressure.load(Ordering::Relaxed))
    }

    /// Sets what [`Region::pressure`] is to be.
    pub fn set_pressure(&self, pressure: f32) {
        self.pressure.store(pressure.to_bits(), Ordering::Relaxed);
    }

    /// The largest replication lag that an endpoint which is up has reported.
    pub fn lag(&self) -> Option<Duration> {
        Some(self.lag_ms.load(Ordering::Relaxed)).filter(|ms| *ms != NO_LAG).map(Duration::from_millis)
    }

    /// The most requests this node has in flight there.
    pub fn cap(&self) -> usize {
        self.cap
    }

    /// Whether the region serves, as far as this node can tell.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Percent of its endpoints that are up.
    pub fn healthy_percent(&self) -> u8 {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Works the region's health out again from its endpoints'.
    pub fn refresh(&self, threshold: f64) {
        let total = self.endpoints.len();
        let healthy = self.endpoints.iter().filter(|endpoint| endpoint.is_up()).count();
        self.up.store(region_health(healthy, total, threshold) != Health::Down, Ordering::Relaxed);
        self.healthy.store((healthy * 100 / total.max(1)) as u8, Ordering::Relaxed);
        let lags = self.endpoints.iter().filter(|endpoint| endpoint.is_up()).filter_map(|endpoint| endpoint.lag_ms());
        self.lag_ms.store(lags.max().unwrap_or(NO_LAG), Ordering::Relaxed);
    }

    fn pick(&self, tried: &[Arc<EndpointState>]) -> Option<Arc<EndpointState>> {
        let count = self.endpoints.len();
        let start = self.turn.fetch_add(1, Ordering::Relaxed);
        let in_turn = || (0..count).filter_map(|step| self.endpoints.get((start.wrapping_add(step)) % count));
        let fresh = || in_turn().filter(|endpoint| !is_in(tried, endpoint));
        let found = fresh()
            .find(|endpoint| endpoint.is_up() && !endpoint.is_suspect())
            .or_else(|| fresh().find(|endpoint| endpoint.is_up()))
            // Everything looks ejected, yet the region counts as up: the evidence is passing.
            .or_else(|| fresh().next());
        found.cloned()
    }
}

/// What stands for a region that reports no replication lag.
const NO_LAG: u64 = u64::MAX;

fn is_in(tried: &[Arc<EndpointState>], endpoint: &Arc<EndpointState>) -> bool {
    tried.iter().any(|seen| Arc::ptr_eq(seen, endpoint))
}

/// An endpoint with the permit to dial it. Only [`Routing::destination`] makes one, and the dialer
/// and the pool take nothing else.
#[derive(Debug)]
pub struct Destination {
    endpoint: Arc<EndpointState>,
    /// Spent: it must not be used for another dial.
    _permit: Permit,
}

impl Destination {
    /// The endpoint to dial.
    pub fn endpoint(&self) -> &Arc<EndpointState> {
        &self.endpoint
    }
}

/// The clock of health states: time since the process's first use of it.
pub fn now() -> Duration {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed()
}

/// The same clock to 10 ms, in milliseconds: a load of an integer, for marks that every request sets
/// and only timeouts of seconds are read by. It stands still until [`start_coarse_clock`].
pub fn coarse_ms() -> u64 {
    COARSE_MS.load(Ordering::Relaxed)
}

/// Has a thread of its own keep [`coarse_ms`] going for as long as the process lives.
///
/// # Errors
/// When the thread cannot be started.
pub fn start_coarse_clock() -> std::io::Result<()> {
    let tick = || {
        loop {
            COARSE_MS.store(now().as_millis() as u64, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    std::thread::Builder::new().name("clock".into()).spawn(tick).map(drop)
}

static COARSE_MS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
