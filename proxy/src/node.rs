//! The node: the handles that its parts share.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use config::{NodeConfig, Problem};

use crate::body_budget::{BodyBudget, WorkerBodies};
use crate::bus_state::BusState;
use crate::bus_state::reports::WorkerObservations;
use crate::cancellations::Cancellations;
use crate::client::{Geo, PlaceCache};
use crate::client_counts::ClientCounts;
use crate::clock;
use crate::databases::CurrentDatabases;
use crate::databases::recent::Sample;
use crate::in_flight::WorkerCount;
use crate::in_force::InForce;
use crate::listener::ListenerFacts;
use crate::load::Inbox;
use crate::occupancy::{Drain, Occupancy};
use crate::overload::{LoopLag, Overload};
use crate::peers::CurrentPeers;
use crate::routing::{CurrentRouting, LatestRouting, WorkerRouting};
use crate::telemetry::Telemetry;
use crate::telemetry::access_log::LineBuffer;
use crate::telemetry::metrics::Metrics;
use crate::token::Tokens;
use crate::upstream::connect::Connector;
use crate::upstream::plan::Upstream;
use crate::upstream::pool::Pool;
use crate::via::Via;

/// One running node: its handles, each for what is used together. What a reload replaces is behind an `ArcSwap` or an
/// [`InForce`]; what it does not needs a restart. It lives as long as the process, and any thread uses it.
pub(crate) struct Node {
    /// The settings in force: of the node file as it was last read, as far as they need no restart.
    pub(crate) config: InForce<NodeConfig>,
    /// The node file as it was last read. Its certificates are loaded, of listeners that are still to come too.
    pub(crate) written: ArcSwap<NodeConfig>,
    /// The routing in force, and the law's time.
    pub(crate) routing: CurrentRouting,
    /// Where clients are.
    pub(crate) databases: CurrentDatabases,
    /// Whose bearer tokens are believed.
    pub(crate) tokens: InForce<Tokens>,
    /// Which other processes are nodes.
    pub(crate) peers: CurrentPeers,
    /// How to connect upstream.
    pub(crate) connector: ArcSwap<Connector>,
    /// The listeners, in the order that the node file had when the process started.
    pub(crate) listeners: Vec<Arc<ListenerFacts>>,
    /// What is in flight, and how far the drain is.
    pub(crate) occupancy: Occupancy,
    /// What it is about to run out of, and what it does about it.
    pub(crate) overload: Overload,
    /// How many bytes of bodies it holds.
    pub(crate) bodies: Arc<BodyBudget>,
    /// What clients owe for requests that they have cancelled.
    pub(crate) cancellations: Cancellations,
    /// Metrics and the access log.
    pub(crate) telemetry: Telemetry,
    /// What the fleet reports of the load of regions.
    pub(crate) inbox: Inbox,
    /// Reloads that were refused.
    pub(crate) reloads: RefusedReloads,
    /// What is known of the bus, if the table comes from one.
    pub(crate) bus: Option<Arc<BusState>>,
    /// When the process started, in Unix seconds.
    pub(crate) started: u64,
    /// What it calls itself to those before and behind it.
    pub(crate) via: Via,
}

/// A reload that was refused; the state before it is still in force.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Rejected {
    /// What was to be reloaded.
    pub(crate) source: PathBuf,
    /// When, in Unix seconds.
    pub(crate) at: u64,
    /// What is wrong with it.
    pub(crate) problems: Vec<Problem>,
}

/// Reloads that were refused, by source, until one succeeds.
#[derive(Default)]
pub(crate) struct RefusedReloads(Mutex<Vec<Rejected>>);

/// What was in force when a request began, which keeps it until there is an answer. A worker makes one whenever anything of
/// it is replaced, so that requests count references to nothing else, and in a place of the worker's own.
pub(crate) struct Settings {
    /// The node file.
    pub(crate) config: Arc<NodeConfig>,
    /// Where clients are.
    pub(crate) geo: Arc<Geo>,
    /// Whose bearer tokens are believed.
    pub(crate) tokens: Arc<Tokens>,
    /// The table.
    pub(crate) routing: WorkerRouting,
    generations: [u64; 4],
}

/// What one worker thread has for itself, for as long as the process lives. Its requests share it.
pub(crate) struct Worker {
    /// The node.
    pub(crate) node: Arc<Node>,
    /// The routing in force, as it last took it.
    pub(crate) routing: LatestRouting,
    /// All that is in force, likewise.
    pub(crate) settings: Mutex<Arc<Settings>>,
    /// Its part of the node's requests in flight.
    pub(crate) requests: Arc<WorkerCount>,
    /// The node's requests in flight by client, to count in.
    pub(crate) requests_by_client: Arc<ClientCounts>,
    /// Its hold on what the node may hold of bodies.
    pub(crate) bodies: Arc<WorkerBodies>,
    /// Its idle upstream connections.
    pub(crate) pool: Pool,
    /// Where clients behind trusted proxies are, from recent look-ups.
    pub(crate) places: PlaceCache,
    /// Its part of the node's recent clients.
    pub(crate) recent: Arc<Sample>,
    /// The node's metrics, for this thread to count in.
    pub(crate) metrics: Metrics,
    /// What it does, for the node's reports on the bus, if there is one.
    pub(crate) observed: Option<Arc<WorkerObservations>>,
    /// Its lines of the access log.
    pub(crate) access_log: LineBuffer,
    /// Decisions made, to sample their time.
    pub(crate) decisions: AtomicUsize,
    /// Client connections that it serves.
    pub(crate) connections: AtomicUsize,
    /// How late its timers are.
    pub(crate) lag: Arc<LoopLag>,
}

impl Node {
    /// Returns why the node should get no traffic now; nothing when it is ready.
    pub(crate) fn unready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.occupancy.draining() > Drain::Serving {
            reasons.push("draining".to_owned());
        }
        if !self.routing.load().regions().any(|(_, _, cell)| cell.is_up()) {
            reasons.push("no region is up".to_owned());
        }
        if let Some(standby) = self.routing.load().undecided_standby(clock::now()) {
            reasons.push(format!("who has the writes of {standby} and its primary is being asked"));
        }
        reasons
    }

    /// Notes in the node's report on the bus, if it has one, that geo databases are held, or are not any more.
    pub(crate) fn report_held_databases(&self) {
        if let Some(bus) = &self.bus {
            bus.note("geoip", self.databases.held.warning());
        }
    }
}

impl Settings {
    /// Takes what is in force on a node, and the routing for one of its workers.
    pub(crate) fn of(node: &Node, routing: &LatestRouting) -> Self {
        // First: what is replaced meanwhile is taken anew by the next request.
        let generations = Self::generations(node);
        Self {
            config: node.config.load_full(),
            geo: node.databases.load_full(),
            tokens: node.tokens.load_full(),
            routing: routing.of(&node.routing),
            generations,
        }
    }

    fn generations(node: &Node) -> [u64; 4] {
        let Node { config, databases, tokens, routing, .. } = node;
        [config.generation(), databases.generation(), tokens.generation(), routing.generation()]
    }
}

impl Worker {
    /// Returns what is in force, to keep. Where nothing was replaced, nothing is written that other threads read.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        if settings.generations == Settings::generations(&self.node) {
            return settings.clone();
        }
        let now = Arc::new(Settings::of(&self.node, &self.routing));
        let replaced = std::mem::replace(&mut *settings, now.clone());
        drop(settings);
        drop(replaced);
        now
    }

    /// Lets go of what it would keep where it has nothing to do: what was replaced, and all but a little of what it has taken
    /// of shared counts.
    pub(crate) fn settle(&self) {
        let settings = self.settings();
        self.requests.settle();
        self.bodies.settle();
        settings.routing.settle();
    }

    /// Returns what of the node and of this worker an attempt needs, of a request that began under these settings.
    pub(crate) fn upstream<'a>(&'a self, settings: &'a Settings) -> Upstream<'a> {
        let Node { routing, peers, connector, .. } = &*self.node;
        let (latest, config) = (&self.routing, &*settings.config);
        Upstream { pool: &self.pool, connector, routing, latest, peers, metrics: &self.metrics, config }
    }
}

impl RefusedReloads {
    /// Notes a refused reload in place of an earlier one of the same source. Returns whether its problems are others.
    pub(crate) fn reject(&self, source: PathBuf, problems: Vec<Problem>) -> bool {
        let mut rejected = self.lock();
        let is_news = !rejected.iter().any(|earlier| earlier.source == source && earlier.problems == problems);
        rejected.retain(|earlier| earlier.source != source);
        rejected.push(Rejected { source, at: clock::unix_seconds(), problems });
        is_news
    }

    /// Forgets the refusals of a source that is good again.
    pub(crate) fn accept(&self, source: &Path) {
        self.lock().retain(|earlier| earlier.source != source);
    }

    /// Returns those that stand.
    pub(crate) fn list(&self) -> Vec<Rejected> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Rejected>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
