//! The state of the bus, for `/status`, `/ready`, the metrics and the node's report.

pub(crate) mod freshness;
pub(crate) mod reports;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use config::Problem;
use config::bus::{Heartbeat, Judgement, NodeReport, NodeState, Place, Publication, Refused, TableVersion};
use serde::Serialize;

use self::freshness::Freshness;
use self::reports::{Members, Observations};
use crate::clock::{self, LawClock};
use crate::peers::Peers;
use crate::telemetry::metrics::Metrics;

/// The state of the bus. Lives as long as the process; the bus's thread writes it, any thread reads.
#[derive(Debug)]
pub(crate) struct BusState {
    /// The node's name.
    pub(crate) node: String,
    /// The node's region.
    pub(crate) region: String,
    /// The properties of the node that a table must fit.
    pub(crate) here: Here,
    /// The process's id, which distinguishes two processes with the same name.
    pub(crate) instance: String,
    /// How long the table may still be used.
    pub(crate) freshness: Freshness,
    /// The nodes that report.
    pub(crate) members: Members,
    /// The node's counts, for its report.
    pub(crate) observed: Observations,
    /// Where events are counted.
    pub(crate) metrics: Metrics,
    /// The time by which the law is read.
    pub(crate) law: Arc<LawClock>,
    /// When the process started, in Unix seconds.
    started: u64,
    servers: String,
    pub(crate) bucket: String,
    inner: Mutex<Inner>,
}

/// The properties of the node that a table must fit.
#[derive(Clone, Debug)]
pub(crate) struct Here {
    /// The node's region.
    pub(crate) region: String,
    /// The node file.
    pub(crate) node_file: PathBuf,
    /// Which other processes are nodes at present.
    pub(crate) peers: Arc<ArcSwap<Peers>>,
}

#[derive(Debug)]
struct Inner {
    connection: Connection,
    taken: Option<Taken>,
    refused: Option<Refusal>,
    ignored: Option<String>,
    quarantined: usize,
    staged_until: Option<u64>,
    /// Notes for the operator, by topic.
    notes: BTreeMap<&'static str, String>,
}

#[derive(Debug)]
struct Refusal {
    place: Place,
    what: Refused,
    problems: Vec<Problem>,
}

/// The connection. Times are Unix seconds.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub(crate) struct Connection {
    /// `connecting`, `connected` or `disconnected`.
    pub(crate) state: &'static str,
    pub(crate) since: u64,
    /// The server's name and version, while connected.
    pub(crate) server: Option<String>,
    /// Why not connected.
    pub(crate) error: Option<String>,
    /// How many connections there have been.
    pub(crate) sessions: u64,
}

/// The table in force.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub(crate) struct Taken {
    pub(crate) epoch: u64,
    pub(crate) revision: u64,
    pub(crate) sha256: String,
    pub(crate) version: String,
    pub(crate) by: String,
    pub(crate) note: String,
    /// When the table was signed, or written.
    pub(crate) issued: u64,
    /// The publisher's `valid_until`; null where there is none.
    pub(crate) valid_until: Option<u64>,
    /// Whether only some nodes have it.
    pub(crate) staged: bool,
    /// Whether the table comes from the snapshot, and the bus has not confirmed it yet.
    pub(crate) from_snapshot: bool,
    pub(crate) since: u64,
}

/// The bus's part of `/status`. Times are Unix seconds.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub(crate) struct BusStatus {
    pub(crate) servers: String,
    pub(crate) bucket: String,
    pub(crate) connection: Connection,
    /// The time since the bus last confirmed the table in force.
    pub(crate) silent_seconds: u64,
    pub(crate) max_age_seconds: u64,
    /// The time since a trusted key last signed the table of all nodes or a heartbeat about it; null without keys.
    pub(crate) signed_seconds: Option<u64>,
    /// The newest heartbeat; null without one, or keys.
    pub(crate) heartbeat: Option<Heartbeat>,
    /// Whether restricted routes are refused because the table may no longer be used.
    pub(crate) expired: bool,
    /// The time until the table expires, as far as is known now, negative afterwards; null without a table.
    pub(crate) expires_in_seconds: Option<i64>,
    /// Why the table expires.
    pub(crate) expires_because: Option<String>,
    pub(crate) table: Option<Taken>,
    /// When the staged table lapses; null without one.
    pub(crate) staged_until: Option<u64>,
    /// The table refused last, until a later one is applied.
    pub(crate) refused: Option<Refused>,
    pub(crate) problems: Vec<Problem>,
    /// Why the table on the bus is ignored; null while it is not.
    pub(crate) ignored: Option<String>,
    /// How many publications were refused and are not examined again.
    pub(crate) quarantined: usize,
    /// How many nodes report, this one included.
    pub(crate) nodes: usize,
    pub(crate) notes: Vec<String>,
}

impl BusState {
    /// Returns the state before the first connection.
    pub(crate) fn new(
        config: &config::NodeConfig,
        source: &config::BusSource,
        freshness: Freshness,
        metrics: Metrics,
        law: Arc<LawClock>,
        peers: Arc<ArcSwap<Peers>>,
    ) -> Arc<Self> {
        for event in EVENTS {
            metrics.bus_events.with_label_values(&[event]);
        }
        let connection =
            Connection { state: "connecting", since: clock::unix_seconds(), server: None, error: None, sessions: 0 };
        Arc::new(Self {
            node: config.name.clone(),
            region: config.region.clone(),
            here: Here { region: config.region.clone(), node_file: config.file.clone(), peers },
            instance: format!("{:016x}", fastrand::u64(..)),
            freshness,
            members: Members::default(),
            observed: Observations::default(),
            metrics,
            law,
            started: clock::unix_seconds(),
            servers: source.access.servers_shown(),
            bucket: source.access.bucket.clone(),
            inner: Mutex::new(Inner {
                connection,
                taken: None,
                refused: None,
                ignored: None,
                quarantined: 0,
                staged_until: None,
                notes: BTreeMap::new(),
            }),
        })
    }

    /// Returns the state of a node `me` in region `a`, whose files are in `directory`.
    #[cfg(test)]
    pub(crate) fn sample(directory: &std::path::Path) -> Arc<Self> {
        let (config, source) = samples(directory);
        let (freshness, law) = (Freshness::new(&source, Arc::default()), Arc::new(LawClock::start()));
        Self::new(&config, &source, freshness, Metrics::new(), law, Arc::default())
    }

    /// Notes that the bus is connected to this server.
    pub(crate) fn connected(&self, server: String) {
        let mut inner = self.lock();
        let sessions = inner.connection.sessions + 1;
        inner.connection = Connection {
            state: "connected",
            since: clock::unix_seconds(),
            server: Some(server),
            error: None,
            sessions,
        };
        drop(inner);
        self.metrics.bus_connected.set(1);
        self.count("connected");
    }

    /// Notes why the bus is not connected. Returns whether that is news.
    pub(crate) fn disconnected(&self, error: String) -> bool {
        let mut inner = self.lock();
        let connection = &mut inner.connection;
        let is_news = connection.state != "disconnected" || connection.error.as_ref() != Some(&error);
        let was_connected = connection.state != "disconnected";
        if was_connected {
            connection.since = clock::unix_seconds();
        }
        (connection.state, connection.server, connection.error) = ("disconnected", None, Some(error));
        // Without a connection no report can be sent.
        inner.notes.remove("report");
        drop(inner);
        self.metrics.bus_connected.set(0);
        if was_connected {
            self.count("disconnected");
        }
        is_news
    }

    /// Notes that a table is in force.
    pub(crate) fn took(
        &self,
        publication: &Publication,
        version: &TableVersion,
        text_version: &str,
        from_snapshot: bool,
    ) {
        let mut inner = self.lock();
        inner.taken = Some(Taken {
            epoch: version.epoch,
            revision: version.revision,
            sha256: version.sha256.clone(),
            version: text_version.to_owned(),
            by: publication.by.clone(),
            note: publication.note.clone(),
            issued: publication.issued_ms / 1000,
            valid_until: publication.valid_until_ms.map(|until| until / 1000),
            staged: publication.stage.is_some(),
            from_snapshot,
            since: clock::unix_seconds(),
        });
    }

    /// Notes that the bus has confirmed the table in force.
    pub(crate) fn confirmed(&self) {
        let mut inner = self.lock();
        if let Some(taken) = &mut inner.taken {
            taken.from_snapshot = false;
        }
        inner.ignored = None;
        inner.refused = inner.refused.take().filter(|refusal| refusal.place != Place::Table);
    }

    /// Notes that a table was refused.
    pub(crate) fn refused(&self, place: Place, what: Refused, problems: &[Problem]) {
        let mut inner = self.lock();
        inner.refused = Some(Refusal { place, what, problems: problems.iter().take(MAX_PROBLEMS).cloned().collect() });
    }

    /// Clears the refusal of a place.
    pub(crate) fn clear_refusal(&self, place: Place) {
        let mut inner = self.lock();
        inner.refused = inner.refused.take().filter(|refusal| refusal.place != place);
    }

    /// Clears refusals of tables before this one.
    pub(crate) fn clear_refusals_before(&self, version: &TableVersion) {
        let mut inner = self.lock();
        let now = (version.epoch, version.revision);
        inner.refused = inner.refused.take().filter(|Refusal { what, .. }| (what.epoch, what.revision) > now);
    }

    /// Notes why the table on the bus is ignored, or that it is not. Returns whether that is news.
    pub(crate) fn ignored(&self, why: Option<String>) -> bool {
        let mut inner = self.lock();
        let is_news = why.is_some() && inner.ignored != why;
        inner.ignored = why;
        is_news
    }

    /// Returns whether there was a connection since the process's start.
    pub(crate) fn was_ever_connected(&self) -> bool {
        self.lock().connection.sessions > 0
    }

    /// Returns the facts whose change is reported at once.
    pub(crate) fn news(&self, draining: bool) -> News {
        let inner = self.lock();
        let table = inner.taken.as_ref().map(|taken| (taken.epoch, taken.revision, taken.staged));
        let refused = inner.refused.as_ref().map(|refusal| refusal.what.clone());
        News { table, refused, draining, expired: self.freshness.is_expired() }
    }

    /// Notes how many publications are in quarantine, and when the staged table lapses (Unix seconds).
    pub(crate) fn set_aside(&self, quarantined: usize, staged_until: Option<u64>) {
        let mut inner = self.lock();
        (inner.quarantined, inner.staged_until) = (quarantined, staged_until);
    }

    /// Sets or clears the operator's note on a topic. Returns whether that is news.
    pub(crate) fn note(&self, topic: &'static str, what: Option<String>) -> bool {
        let mut inner = self.lock();
        let is_news = what.is_some() && inner.notes.get(topic) != what.as_ref();
        match what {
            Some(what) => drop(inner.notes.insert(topic, what)),
            None => drop(inner.notes.remove(topic)),
        }
        is_news
    }

    /// Counts an event.
    pub(crate) fn count(&self, event: &'static str) {
        self.metrics.bus_events.with_label_values(&[event]).inc();
    }

    /// Returns the bus's part of `/status`.
    pub(crate) fn status(&self) -> BusStatus {
        let judgement = self.freshness.judge();
        let inner = self.lock();
        let refusal = inner.refused.as_ref();
        BusStatus {
            servers: self.servers.clone(),
            bucket: self.bucket.clone(),
            connection: inner.connection.clone(),
            silent_seconds: self.freshness.silence().as_secs(),
            max_age_seconds: self.freshness.max_age().as_secs(),
            signed_seconds: self.freshness.signed_age().map(|age| age.as_secs()),
            heartbeat: self.freshness.newest_heartbeat(),
            expired: self.freshness.is_expired(),
            expires_in_seconds: judgement.as_ref().map(Judgement::seconds_left),
            expires_because: judgement.map(|judgement| judgement.to_string()),
            table: inner.taken.clone(),
            staged_until: inner.staged_until,
            refused: refusal.map(|refusal| refusal.what.clone()),
            problems: refusal.map(|refusal| refusal.problems.clone()).unwrap_or_default(),
            ignored: inner.ignored.clone(),
            quarantined: inner.quarantined,
            nodes: self.members.count(clock::uptime()),
            notes: inner.notes.values().cloned().collect(),
        }
    }

    /// Returns why there is no table yet, for `/ready`.
    pub(crate) fn why_waiting(&self) -> String {
        let inner = self.lock();
        let refused = inner.refused.as_ref().map(|Refusal { what, problems, .. }| {
            let first = problems.first().map(ToString::to_string).unwrap_or_default();
            format!("revision {} was refused: {first}", what.revision)
        });
        let notes = inner.notes.get("snapshot").cloned();
        let bus = refused.or_else(|| inner.ignored.clone()).or_else(|| inner.connection.error.clone());
        let bus = bus.unwrap_or_else(|| format!("waiting for the bus {}", self.servers));
        let reasons: Vec<String> = [Some(bus), notes].into_iter().flatten().collect();
        format!("there is no routing table yet: {}", reasons.join("; "))
    }

    /// Returns the warnings for operators of a node that is ready.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let inner = self.lock();
        let refused = inner.refused.as_ref().map(|Refusal { what, .. }| {
            format!("revision {} of the routing table was refused; see /status", what.revision)
        });
        let away = inner.connection.error.as_ref().map(|error| format!("the config bus is away: {error}"));
        let mut warnings: Vec<String> = [away, refused, inner.ignored.clone()].into_iter().flatten().collect();
        warnings.extend(self.freshness.warnings());
        warnings.extend(inner.notes.values().cloned());
        warnings
    }

    /// Returns the node's report for the bus.
    pub(crate) fn report(&self, draining: bool) -> NodeReport {
        let inner = self.lock();
        let taken = inner.taken.as_ref();
        let refused = inner.refused.as_ref();
        let mut notes: Vec<String> = inner.notes.values().cloned().collect();
        notes.extend(inner.ignored.clone());
        notes.extend(self.freshness.warnings());
        let (observed, judgement) = (self.observed.read(), self.freshness.judge());
        let expires = |judgement: Judgement| clock::unix_seconds().saturating_add_signed(judgement.seconds_left());
        NodeReport {
            node: self.node.clone(),
            region: self.region.clone(),
            instance: self.instance.clone(),
            meridian: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            at: clock::unix_seconds(),
            state: match (taken, refused) {
                (_, Some(_)) => NodeState::Rejected,
                (Some(_), None) => NodeState::Applied,
                (None, None) => NodeState::Waiting,
            },
            epoch: taken.map_or(0, |taken| taken.epoch),
            revision: taken.map_or(0, |taken| taken.revision),
            sha256: taken.map(|taken| taken.sha256.clone()).unwrap_or_default(),
            version: taken.map(|taken| taken.version.clone()).unwrap_or_default(),
            staged: taken.is_some_and(|taken| taken.staged),
            since: refused.map(|refusal| refusal.what.at).or(taken.map(|taken| taken.since)).unwrap_or(self.started),
            problems: refused.map(|refusal| refusal.problems.clone()).unwrap_or_default(),
            refused: refused.map(|refusal| refusal.what.clone()),
            notes,
            expired: self.freshness.is_expired(),
            expires: judgement.map(expires),
            signed: self.freshness.signed_age().map(|age| clock::unix_seconds().saturating_sub(age.as_secs())),
            draining,
            lately: self.observed.lately(&observed),
            observed,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The facts of a node's report that others wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct News {
    table: Option<(u64, u64, bool)>,
    refused: Option<Refused>,
    draining: bool,
    expired: bool,
}

/// All events that are counted, so that each series exists before its first event.
const EVENTS: [&str; 14] = [
    "connected",
    "disconnected",
    "applied",
    "staged",
    "returned",
    "rejected",
    "quarantined",
    "ignored",
    "heartbeat",
    "heartbeat_refused",
    "snapshot_taken",
    "snapshot_failed",
    "report_failed",
    "gap",
];

/// How many problems of a refused table are kept: the first ones are fixed first.
const MAX_PROBLEMS: usize = 20;

/// Returns a node `me` in region `a` that follows a bus.
#[cfg(test)]
pub(crate) fn samples(directory: &std::path::Path) -> (config::NodeConfig, config::BusSource) {
    let text = "[node]\nname = \"me\"\nregion = \"a\"\n[[listeners]]\naddress = \"127.0.0.1:0\"\n[routing]\n\
                bus = { servers = [\"nats://127.0.0.1:1\"], snapshot = \"last-good.toml\" }\n";
    let config = config::NodeConfig::from_text(&directory.join("node.toml"), text).unwrap();
    let config::Routing::Bus(source) = config.routing.clone() else { unreachable!() };
    (config, source)
}
