//! What `/status` tells: the node, its table, its regions, its files.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use config::NodeConfig;
use policy::emergency::ReadOnly;
use policy::explain::MeasuredExplained;
use policy::health::{Claim, Holder};
use policy::jurisdiction::JurisdictionId;
use policy::region::AdminState;
use policy::rollout::{RolloutStage, Tally};
use policy::{Country, Moment, Table, View, Writes};
use serde::Serialize;

use crate::bus_state::BusStatus;
use crate::certificate::Certificate;
use crate::clock;
use crate::clock::seconds_until;
use crate::clock::uptime;
use crate::databases::release::HeldStatus;
use crate::health::canary::CanaryState;
use crate::health::endpoint::EndpointState;
use crate::health::limiter::LimitNow;
use crate::health::region::WriterState;
use crate::load::Skewed;
use crate::node::{Node, Rejected};
use crate::occupancy::Drain;
use crate::peers::Peers;
use crate::routing::{Region, Routing};
use crate::telemetry::{OutputHealth, log};
use crate::upstream::evidence::{gauge, phase_name};

/// The state of a node. Times are Unix seconds.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub(crate) struct Status {
    pub(crate) node: String,
    pub(crate) region: String,
    pub(crate) version: &'static str,
    pub(crate) started: u64,
    pub(crate) state: &'static str,
    pub(crate) listeners: Vec<String>,
    pub(crate) connections: usize,
    pub(crate) requests_in_flight: usize,
    /// WebSockets, which are no requests in flight.
    pub(crate) tunnels: usize,
    /// What the node may run out of.
    pub(crate) overload: OverloadStatus,
    pub(crate) table: TableStatus,
    pub(crate) law: LawStatus,
    /// What the table's emergency switches off; null while none is in force.
    pub(crate) emergency: Option<EmergencyStatus>,
    /// Null unless the table comes from a bus.
    pub(crate) bus: Option<BusStatus>,
    /// By what nodes know each other here.
    pub(crate) peers: PeersStatus,
    /// The nodes whose clocks are too far from this one's for what they report; empty when all are right.
    pub(crate) clock_skew: BTreeMap<String, Skewed>,
    pub(crate) regions: Vec<RegionStatus>,
    /// Null unless the table has one.
    pub(crate) canary: Option<CanaryStatus>,
    pub(crate) geoip: Vec<DatabaseStatus>,
    /// Newer databases that would move too many clients; null when there are none.
    pub(crate) geoip_held: Option<HeldStatus>,
    pub(crate) certificates: Vec<CertificateStatus>,
    pub(crate) access_log: OutputHealth,
    /// The node's own log.
    pub(crate) log: OutputHealth,
    /// Reloads that were refused; the state before them is in force.
    pub(crate) rejected: Vec<Rejected>,
    /// Keys of the node file that have changed and are in force only after a restart.
    pub(crate) needs_restart: Vec<String>,
}

/// What the node may run out of, each as the share in use, and what it does about it.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub(crate) struct OverloadStatus {
    pub(crate) memory: f32,
    pub(crate) descriptors: f32,
    pub(crate) connections: f32,
    pub(crate) lag: f32,
    pub(crate) memory_bytes: u64,
    /// Null without a limit.
    pub(crate) memory_limit_bytes: Option<u64>,
    pub(crate) body_bytes: u64,
    /// Null without a limit.
    pub(crate) body_limit_bytes: Option<u64>,
    /// Empty while there is room.
    pub(crate) actions: Vec<&'static str>,
}

impl OverloadStatus {
    fn of(node: &Node) -> Self {
        let shares = node.overload.shares();
        let (memory_bytes, memory_limit_bytes) = node.overload.memory();
        Self {
            memory: shares.memory,
            descriptors: shares.descriptors,
            connections: shares.connections,
            lag: shares.lag,
            memory_bytes,
            memory_limit_bytes,
            body_bytes: node.bodies.held(),
            body_limit_bytes: node.bodies.limit(),
            actions: node.overload.actions().names(),
        }
    }
}

#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub(crate) struct TableStatus {
    pub(crate) version: String,
    /// The bus's; or, of a file, how many tables this node has had since its start.
    pub(crate) revision: u64,
    pub(crate) age_seconds: u64,
    pub(crate) regions: usize,
    pub(crate) routes: usize,
}

/// The time at which the law in force was read, and when it changes by itself.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub(crate) struct LawStatus {
    pub(crate) now: Moment,
    /// How far the clock has leapt ahead of what can be believed; until a restart the law is read for both times.
    pub(crate) clock_doubt_seconds: i64,
    /// When a rule or an entry of a list begins or ends next; null for never.
    pub(crate) next_boundary: Option<Moment>,
    pub(crate) next_boundary_seconds: Option<i64>,
}

/// What an emergency that is in force switches off.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub(crate) struct EmergencyStatus {
    /// What is so critical, or less, is refused; null for nothing.
    pub(crate) shed: Option<&'static str>,
    /// Whose writes are refused; null for nobody's.
    pub(crate) read_only: Option<ReadOnlyStatus>,
    pub(crate) routes_off: Vec<String>,
    /// Null without an end.
    pub(crate) until: Option<Moment>,
}

/// `"all"`, or a list of jurisdictions, of which one may be named so.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[allow(missing_docs)]
pub(crate) enum ReadOnlyStatus {
    All(&'static str),
    Of(Vec<String>),
}

#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub(crate) struct RegionStatus {
    pub(crate) name: String,
    pub(crate) country: policy::Country,
    pub(crate) state: policy::region::AdminState,
    /// `up`, `down`, `suspected` (real traffic has something against it), `waiting` (for the failback
    /// delay), `ramping`, or `drained` (its drain's time is over).
    pub(crate) health: &'static str,
    /// Whether a standby is `unwanted`, `wanted` or `promoted`; null for other regions.
    pub(crate) standby: Option<&'static str>,
    /// What its endpoints say of its data: `primary`, `replica`, `mixed` or `unsaid`; null before they have answered.
    pub(crate) replication_role: Option<&'static str>,
    /// Of a primary and the standby that takes writes over: `granted`, or why writes do not go there; else null.
    pub(crate) writes: Option<&'static str>,
    /// Of a standby that takes writes over: who has them, and what is known of that; else null.
    pub(crate) writer: Option<WriterStatus>,
    /// Percent of its clients that it gets; at 0 it is the last resort, unless it is down.
    pub(crate) clients_percent: u8,
    /// Percent of its endpoints that are up.
    pub(crate) healthy_percent: u8,
    /// The share of attempts that failed lately, `0..=1`.
    pub(crate) error_share: f32,
    pub(crate) endpoints: Vec<EndpointStatus>,
    pub(crate) requests_in_flight: usize,
    /// Null where there is none.
    pub(crate) concurrency: Option<LimitStatus>,
    /// As decisions weigh it: this node's own, or what is reported where that is more.
    pub(crate) utilisation: f32,
    /// By the nodes of the fleet; null when none has for twenty seconds, and so the next two.
    pub(crate) reported_utilisation: Option<f32>,
    pub(crate) reported_age_seconds: Option<f32>,
    pub(crate) reporting_nodes: Option<u32>,
    /// The table's prior from this node's region.
    pub(crate) latency_ms: f32,
    /// By what is measured: what decisions use instead; null until something is.
    pub(crate) rtt_ms: Option<f32>,
    /// What this node measures of the way there; null when nothing was for two windows.
    pub(crate) measured: Option<MeasuredExplained>,
    /// From a request's end to its answer's head, the way there and back included; null of less than 100 answers.
    pub(crate) answer_median_ms: Option<f64>,
    pub(crate) answer_p95_ms: Option<f64>,
    /// By how many milliseconds the ways of clients to it are longer than is assumed of their distance, by country: what is
    /// measured there. Empty unless a scoring has `latency_from = "client"`.
    pub(crate) client_excess_ms: BTreeMap<Country, f32>,
}

/// By what nodes know each other.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub(crate) struct PeersStatus {
    /// Whether this node takes others for nodes by their certificates.
    pub(crate) certificates: bool,
    /// Whether it has one of its own to show.
    pub(crate) shows_certificate: bool,
    /// Whether it takes others for nodes by their signatures.
    pub(crate) signatures: bool,
    /// Whether load reports count that are signed by either.
    pub(crate) rollover: bool,
}

impl PeersStatus {
    fn of(peers: &Peers) -> Self {
        Self {
            certificates: peers.authorities.is_some(),
            shows_certificate: peers.certificate.is_some(),
            signatures: peers.secrets.is_some(),
            rollover: peers.in_rollover,
        }
    }
}

/// The limit of a region on this node.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub(crate) struct LimitStatus {
    /// `fixed` or `adaptive`.
    pub(crate) mode: &'static str,
    /// With that of the version on trial, which has one of its own.
    pub(crate) limit: usize,
    /// Places that are taken: by requests in flight, or where it is adaptive by those whose answer is awaited.
    pub(crate) taken: usize,
    /// Requests that wait for a place.
    pub(crate) waiting: usize,
    /// Empty where the table has none.
    pub(crate) traffic_classes: Vec<ClassStatus>,
}

/// A traffic class in a region, on this node.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub(crate) struct ClassStatus {
    pub(crate) name: String,
    /// Places of its own, if it asks for them.
    pub(crate) guaranteed: usize,
    pub(crate) taken: usize,
}

#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub(crate) struct EndpointStatus {
    pub(crate) address: String,
    pub(crate) version: Option<String>,
    /// Whether it is in rotation.
    pub(crate) up: bool,
    /// `up`, `down` (by its probes) or `ejected` (by real traffic).
    pub(crate) state: &'static str,
    /// Since the node's start.
    pub(crate) attempts: u64,
    pub(crate) errors: u64,
    /// Why the last probe did not pass; null when it did.
    pub(crate) last_probe_failure: Option<String>,
}

/// The version on trial, on this node.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub(crate) struct CanaryStatus {
    pub(crate) version: String,
    pub(crate) state: &'static str,
    /// Of the clients that get it.
    pub(crate) percent: u8,
    /// From 1; null once the trial is over.
    pub(crate) step: Option<usize>,
    pub(crate) steps: Vec<u8>,
    /// In this state, or step; the counts are of this time.
    pub(crate) since_seconds: u64,
    pub(crate) canary: TallyStatus,
    pub(crate) stable: TallyStatus,
    pub(crate) last_decision: Option<String>,
}

#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub(crate) struct TallyStatus {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    /// 0 to 1.
    pub(crate) error_rate: f64,
    /// Null without requests, and when more than 5 % failed.
    pub(crate) p95_ms: Option<f64>,
}

#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub(crate) struct DatabaseStatus {
    pub(crate) file: String,
    pub(crate) kind: String,
    pub(crate) build_epoch: u64,
}

/// Who has the writes of a standby and its primary, as this node knows.
#[derive(Debug, Serialize)]
pub(crate) struct WriterStatus {
    /// The region that the standby takes writes over from.
    pub(crate) primary: String,
    /// `primary`, `standby`, or `undecided`, on a node that has just started.
    pub(crate) holder: &'static str,
    /// The number of the decision; null without one.
    pub(crate) term: Option<u64>,
    /// Whether both say that they are the primary.
    pub(crate) split_brain: bool,
    /// How many nodes, this one included, find the one that has the writes lost.
    pub(crate) votes: usize,
    /// Of how many that must be a majority; null without a bus on which messages are signed.
    pub(crate) known_nodes: Option<usize>,
    /// How many of these are heard, this one included.
    pub(crate) heard_nodes: Option<usize>,
    /// For how long it has been lost to this node and a majority; null while it is not.
    pub(crate) lost_seconds: Option<f64>,
    /// How far behind the other was when it last said so as a replica; null where it has not, since the one that has the
    /// writes has them.
    pub(crate) lag_seconds: Option<f64>,
}

#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub(crate) struct CertificateStatus {
    /// Its address; `peers` of what is shown to other regions' nodes.
    pub(crate) listener: String,
    pub(crate) file: String,
    pub(crate) names: String,
    /// `valid`, `not_yet_valid` or `expired`; a listener shows what is valid.
    pub(crate) state: &'static str,
    pub(crate) starts: i64,
    pub(crate) expires: i64,
    pub(crate) expires_in_seconds: i64,
}

impl Status {
    /// Reads the state of a node now.
    pub(crate) fn of(node: &Node) -> Self {
        let config = node.config.load();
        let routing = node.routing.load_full();
        let spec = routing.table().spec();
        let ways = routing.settled_ways();
        Self {
            node: config.name.clone(),
            region: config.region.clone(),
            version: env!("CARGO_PKG_VERSION"),
            started: node.started,
            state: match node.occupancy.draining() {
                Drain::Serving => "serving",
                Drain::Announced | Drain::Stopping | Drain::Closing => "draining",
            },
            listeners: node.listeners.iter().map(|listener| listener.address.to_string()).collect(),
            connections: node.occupancy.connections.load(std::sync::atomic::Ordering::Relaxed),
            requests_in_flight: node.occupancy.requests.exactly(),
            tunnels: node.occupancy.tunnels.load(std::sync::atomic::Ordering::Relaxed),
            overload: OverloadStatus::of(node),
            table: TableStatus {
                version: spec.version.clone(),
                revision: routing.revision,
                age_seconds: routing.loaded.elapsed().as_secs(),
                regions: spec.regions.len(),
                routes: spec.routes.len(),
            },
            law: LawStatus::of(node, &routing),
            emergency: EmergencyStatus::of(routing.table()),
            bus: node.bus.as_ref().map(|bus| bus.status()),
            peers: PeersStatus::of(&node.peers.load()),
            clock_skew: node.inbox.skewed(clock::uptime()),
            regions: routing
                .regions()
                .map(|(id, region, cell)| (id, region, cell, routing.reported(id)))
                .map(|(id, region, cell, reported)| RegionStatus {
                    name: region.name.clone(),
                    country: region.country,
                    state: region.state,
                    health: if cell.state.is_drained(&spec.failover) {
                        "drained"
                    } else {
                        phase_name(cell.state.phase())
                    },
                    standby: region.standby.as_ref().map(|_| cell.state.want().name()),
                    replication_role: cell.claim().map(Claim::name),
                    writes: match cell.state.writes() {
                        Writes::AsDeclared => None,
                        Writes::Granted => Some("granted"),
                        Writes::Withheld(why) => Some(why.name()),
                    },
                    writer: cell.state.writer().map(|state| WriterStatus::of(&state)),
                    clients_percent: match region.state {
                        AdminState::Serving => (gauge(cell) * 100.0).round() as u8,
                        AdminState::Draining | AdminState::Disabled => 0,
                    },
                    healthy_percent: cell.healthy_percent(),
                    error_share: cell.state.error_share(),
                    endpoints: cell.endpoints.iter().map(|endpoint| EndpointStatus::of(endpoint)).collect(),
                    requests_in_flight: cell.state.in_flight.exactly(),
                    concurrency: cell.limit().map(|now| LimitStatus::of(cell, now, routing.table())),
                    utilisation: cell.utilisation(),
                    reported_utilisation: reported.map(|reported| reported.utilisation),
                    reported_age_seconds: reported.map(|reported| reported.age.as_secs_f32()),
                    reporting_nodes: reported.map(|reported| reported.nodes),
                    latency_ms: routing.table().prior_latency_ms(routing.here, id),
                    rtt_ms: cell.state.round_trip.ms(),
                    measured: routing.measured(id).map(MeasuredExplained::from),
                    answer_median_ms: cell.state.answers.median().map(millis),
                    answer_p95_ms: cell.state.answers.p95().map(millis),
                    client_excess_ms: ways.known(id.index()),
                })
                .collect(),
            canary: routing.canary.as_deref().map(CanaryStatus::of),
            geoip: node
                .databases
                .load()
                .databases
                .databases()
                .map(|database| DatabaseStatus {
                    file: database.path().display().to_string(),
                    kind: database.kind().to_owned(),
                    build_epoch: database.build_epoch(),
                })
                .collect(),
            geoip_held: node.databases.held.status(),
            certificates: certificates(node),
            access_log: node.telemetry.access_log.health(node.started),
            log: log::health(),
            rejected: node.reloads.list(),
            needs_restart: config.reload(NodeConfig::clone(&node.written.load())).needs_restart,
        }
    }
}

impl WriterStatus {
    fn of(WriterState { primary, writer, pair, .. }: &WriterState) -> Self {
        let presumed = writer.presumed();
        Self {
            primary: primary.clone(),
            holder: writer.holder().map_or("undecided", Holder::name),
            term: writer.term(),
            split_brain: writer.is_split(),
            votes: pair.votes(presumed),
            known_nodes: pair.fleet.map(|fleet| fleet.known),
            heard_nodes: pair.fleet.map(|fleet| fleet.heard + 1),
            lost_seconds: writer.lost_since().map(|since| clock::uptime().saturating_sub(since).as_secs_f64()),
            lag_seconds: writer.lag(pair).map(|lag| lag.behind.as_secs_f64()),
        }
    }
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}

impl LimitStatus {
    fn of(cell: &Region, now: LimitNow, table: &Table) -> Self {
        let LimitNow { limit, taken, waiting } = now;
        let mode = if cell.state.limits.is_adaptive() { "adaptive" } else { "fixed" };
        let class =
            |(name, taken, guaranteed): (&str, usize, usize)| ClassStatus { name: name.to_owned(), guaranteed, taken };
        Self { mode, limit, taken, waiting, traffic_classes: cell.classes(table).map(class).collect() }
    }
}

impl LawStatus {
    fn of(node: &Node, routing: &Routing) -> Self {
        let (now, next_boundary) = (node.routing.law.now(), routing.table().next_boundary());
        Self {
            now: now.latest(),
            clock_doubt_seconds: now.latest().unix_seconds() - now.earliest().unix_seconds(),
            next_boundary,
            next_boundary_seconds: next_boundary.map(|next| seconds_until(next, now)),
        }
    }
}

impl EmergencyStatus {
    /// Reads what is switched off; `None` while no emergency is in force.
    pub(crate) fn of(table: &Table) -> Option<Self> {
        table.emergency()?;
        let spec = table.spec();
        let said = spec.emergency.as_ref()?;
        let names = |ids: &[JurisdictionId]| {
            let known = ids.iter().filter_map(|id| spec.jurisdictions.get(id.0));
            known.map(|one| one.name.clone()).collect()
        };
        Some(Self {
            shed: said.shed.map(|shed| shed.name()),
            read_only: said.read_only.as_ref().map(|read_only| match read_only {
                ReadOnly::All => ReadOnlyStatus::All("all"),
                ReadOnly::Of(ids) => ReadOnlyStatus::Of(names(ids)),
            }),
            routes_off: said.routes_off.iter().map(|id| table.route(*id).spec.name.clone()).collect(),
            until: said.until,
        })
    }
}

impl fmt::Display for EmergencyStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shed = self.shed.map(|shed| format!("what is {shed}, or less, is shed"));
        let read_only = self.read_only.as_ref().map(|read_only| match read_only {
            ReadOnlyStatus::All(_) => "everybody may read only".to_owned(),
            ReadOnlyStatus::Of(names) => format!("clients of {} may read only", names.join(", ")),
        });
        let off = (!self.routes_off.is_empty()).then(|| format!("off are the routes {}", self.routes_off.join(", ")));
        let parts: Vec<String> = [off, read_only, shed].into_iter().flatten().collect();
        write!(f, "{}", parts.join("; "))?;
        self.until.map_or(Ok(()), |until| write!(f, "; until {until}"))
    }
}

impl CanaryStatus {
    fn of(canary: &CanaryState) -> Self {
        let standing = canary.stats(uptime());
        let (state, step) = match standing.stage {
            RolloutStage::Trying(step) => ("trying", Some(step + 1)),
            RolloutStage::Promoted => ("promoted", None),
            RolloutStage::Ended(_) => ("ended", None),
        };
        Self {
            version: canary.spec.version.clone(),
            state,
            percent: standing.percent,
            step,
            steps: canary.spec.steps.clone(),
            since_seconds: standing.since.as_secs(),
            canary: TallyStatus::of(&standing.trial),
            stable: TallyStatus::of(&standing.stable),
            last_decision: standing.last_decision,
        }
    }
}

impl TallyStatus {
    fn of(tally: &Tally) -> Self {
        let (requests, errors) = (tally.requests, tally.errors);
        Self { requests, errors, error_rate: tally.error_rate(), p95_ms: tally.p95_ms() }
    }
}

impl EndpointStatus {
    fn of(endpoint: &EndpointState) -> Self {
        let counts = endpoint.counts();
        Self {
            address: endpoint.endpoint.to_string(),
            version: endpoint.endpoint.version.as_deref().map(str::to_owned),
            up: endpoint.is_up(),
            state: match (endpoint.is_up(), endpoint.is_probed_up()) {
                (true, _) => "up",
                (false, true) => "ejected",
                (false, false) => "down",
            },
            attempts: counts.attempts.requests,
            errors: counts.errors.requests,
            last_probe_failure: endpoint.last_failure().as_deref().map(str::to_owned),
        }
    }
}

/// Returns the certificates in force, valid or not: of each listener, and what this node shows to other regions' nodes.
pub(crate) fn certificates(node: &Node) -> Vec<CertificateStatus> {
    let now = clock::unix_seconds() as i64;
    let of = |listener: &str, entry: &Certificate| CertificateStatus {
        listener: listener.to_owned(),
        file: entry.file.display().to_string(),
        names: entry.names.to_string(),
        state: entry.validity.at(now).name(),
        starts: entry.validity.not_before,
        expires: entry.validity.not_after,
        expires_in_seconds: entry.validity.not_after - now,
    };
    let own = node.peers.load();
    let own = own.certificate.as_ref();
    let mut found: Vec<CertificateStatus> = own.map(|entry| of("peers", entry)).into_iter().collect();
    for listener in &node.listeners {
        let Some(certificates) = &listener.tls else { continue };
        let serving = certificates.current();
        let entries =
            serving.set.entries().iter().filter(|entry| own.is_none_or(|own| !Arc::ptr_eq(own.key(), entry.key())));
        found.extend(entries.map(|entry| of(&listener.address.to_string(), entry)));
    }
    found
}
