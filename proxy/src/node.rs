//! What all of a node's parts share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use config::{NodeConfig, Problem};
use geoip::{GeoDatabases, Place, TrustedProxies};
use http::HeaderName;
use policy::Origin;
use tokio::sync::watch;

use crate::bus::status::BusState;
use crate::client::PlaceCache;
use crate::clock;
use crate::clock::LawClock;
use crate::databases::recent::{RecentClients, Sample};
use crate::databases::release::Held;
use crate::ingress::listener::ListenerFacts;
use crate::load::Inbox;
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

/// Where clients are, and whose word about that counts.
#[derive(Clone, Debug, Default)]
pub struct Geo {
    /// The databases.
    pub databases: Arc<GeoDatabases>,
    /// The proxies whose headers are believed.
    pub trusted: TrustedProxies,
    /// The header in which they name the client's country.
    pub country_header: Option<HeaderName>,
    /// Autonomous systems whose addresses say nothing of where their users are.
    pub anonymous_asns: Vec<u32>,
}

impl Geo {
    /// Whether the user of an address hides behind it.
    pub fn is_anonymous(&self, place: &Place<'_>) -> bool {
        self.hides(place.anonymous, place.asn)
    }

    /// Whether a network that is said to be anonymous, or has this number, hides its users.
    pub fn hides(&self, anonymous: bool, asn: Option<u32>) -> bool {
        anonymous || asn.is_some_and(|asn| self.anonymous_asns.contains(&asn))
    }

    /// Where the user of an address may be: on an anonymous network the address says nothing.
    pub fn origin(&self, place: &Place<'_>) -> Origin {
        if self.is_anonymous(place) { Origin::Unknown } else { Origin::of(place.countries()) }
    }
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

/// Where a node's drain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drain {
    /// It serves.
    Serving,
    /// Not ready; each answer asks its client to close.
    Announced,
    /// And no new connections.
    Stopping,
    /// And idle connections are closed, busy ones after their answer.
    Closing,
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

/// Counts something in flight, for as long as it lives.
#[derive(Debug)]
pub struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    /// Counts one more.
    pub fn enter(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
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
