//! What all of a node's parts share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use config::{NodeConfig, Problem};
use tokio::sync::watch;

use crate::bus::status::BusState;
pub use crate::client::Geo;
use crate::client::PlaceCache;
use crate::clock;
use crate::clock::LawClock;
use crate::databases::recent::{RecentClients, Sample};
use crate::databases::release::Held;
use crate::ingress::listener::ListenerFacts;
use crate::load::Inbox;
pub use crate::occupancy::{Drain, InFlight};
use crate::peers::Peers;
use crate::peers::refusals::Refusals;
use crate::routing::{PersistedState, Routing};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::token::Tokens;
use crate::upstream::connect::Connector;
use crate::upstream::pool::Pool;

/// One running node. What a reload replaces is behind an `ArcSwap`; what it does not needs a restart.
pub struct Node {
    /// The settings in force: of the node file as it was last read, as far as they need no restart.
    pub config: ArcSwap<NodeConfig>,
    /// The node file as it was last read. Its certificates are loaded, of listeners that are still to come too.
    pub written: ArcSwap<NodeConfig>,
    /// The routing in force.
    pub routing: ArcSwap<Routing>,
    /// [`Routing::generation`] of the routing in force, for what is under way to compare.
    pub generation: AtomicU64,
    /// Held while another routing is built and put in force.
    pub swapping: Mutex<()>,
    /// Where clients are.
    pub geo: ArcSwap<Geo>,
    /// Newer databases that are not in force.
    pub held_geo: Held,
    /// The clients of recent requests.
    pub recent_clients: RecentClients,
    /// Whose bearer tokens are believed.
    pub tokens: ArcSwap<Tokens>,
    /// Which other processes are nodes.
    pub peers: Arc<ArcSwap<Peers>>,
    /// Who is none.
    pub peer_refusals: Refusals,
    /// The listeners, in the order that the node file had when the process started.
    pub listeners: Vec<Arc<ListenerFacts>>,
    /// What outlives a table.
    pub persisted: PersistedState,
    /// What the fleet reports of the load of regions.
    pub inbox: Inbox,
    /// How to connect upstream.
    pub connector: ArcSwap<Connector>,
    /// The metrics.
    pub metrics: Metrics,
    /// The access log.
    pub access_log: AccessLog,
    /// Requests in flight.
    pub in_flight: Arc<AtomicUsize>,
    /// Client connections open.
    pub connections: Arc<AtomicUsize>,
    /// Tunnels open, or about to be.
    pub tunnels: Arc<AtomicUsize>,
    /// Reloads that were refused, by source, until one succeeds.
    pub rejected: Mutex<Vec<Rejected>>,
    /// What is known of the bus, if the table comes from one.
    pub bus: Option<Arc<BusState>>,
    /// Where the drain stands.
    pub drain: watch::Sender<Drain>,
    /// What time the law has.
    pub law: Arc<LawClock>,
    /// When the process started.
    pub started: SystemTime,
}

/// A reload that was refused; the state before it is still in force.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Rejected {
    /// What was to be reloaded.
    pub source: PathBuf,
    /// When, in Unix seconds.
    pub at: u64,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

/// What one worker thread has for itself.
pub struct Worker {
    /// The node.
    pub node: Arc<Node>,
    /// Its idle upstream connections.
    pub pool: Pool,
    /// Where clients behind trusted proxies are, from recent look-ups.
    pub places: PlaceCache,
    /// Its part of the node's recent clients.
    pub recent: Arc<Sample>,
    /// Decisions made, to sample their time.
    pub decisions: AtomicUsize,
    /// Client connections that it serves.
    pub connections: AtomicUsize,
}

impl Node {
    /// Where the drain stands.
    pub fn draining(&self) -> Drain {
        *self.drain.borrow()
    }

    /// Why the node should get no traffic now; empty when it is ready.
    pub fn unready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.draining() > Drain::Serving {
            reasons.push("draining".to_owned());
        }
        if !self.routing.load().regions().any(|(_, _, cell)| cell.is_up()) {
            reasons.push("no region is up".to_owned());
        }
        reasons
    }

    /// Notes a refused reload in place of an earlier one of the same source.
    pub fn reject(&self, source: PathBuf, problems: Vec<Problem>) {
        let mut rejected = self.rejected.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        rejected.retain(|earlier| earlier.source != source);
        rejected.push(Rejected { source, at: clock::unix_seconds(), problems });
    }

    /// Forgets the refusals of a source that is good again.
    pub fn accept(&self, source: &std::path::Path) {
        let mut rejected = self.rejected.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        rejected.retain(|earlier| earlier.source != source);
    }
}

/// Seconds since 1970; 0 before.
pub fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
