//! Performs what the machine decides: reads tables, examines them on another thread, puts them in force, and
//! records the results in the log, the metrics and the node's status.

mod effects;
mod heartbeat;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::bus::{Bus, BusError, Entry, Origin, Place, Snapshot, SnapshotError, TableVersion};
use config::{BusSource, Problem, Severity};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::disk::{CrashLoopGuard, SnapshotWriter};
use super::examine::{Against, Offered, Refusal, Table, examine, name, trust};
use super::lifecycle::Startup;
use super::machine::{Event, Lease, Machine, Offer, Passed, Reading, Request};
use crate::bus_state::BusState;
use crate::clock;
use crate::node::Node;
use crate::occupancy::Drain;
use crate::telemetry::log_limiter::LogLimiter;

/// The machine of one node, and what its effects need. Lives as long as the process, on the bus's thread, so that its
/// decisions outlive any connection.
pub(super) struct TableController {
    machine: Machine<Arc<Offered>, Arc<Table>>,
    source: BusSource,
    state: Arc<BusState>,
    startup: Startup,
    guard: CrashLoopGuard,
    snapshots: SnapshotWriter,
    /// The examination that is under way, on a thread of its own.
    examination: Option<JoinHandle<Result<Table, Refusal>>>,
    refusals: LogLimiter,
    ignored: LogLimiter,
    /// How long the bus had been silent when the snapshot was loaded; `None` is for ever.
    silent_for: Option<Duration>,
    /// When the snapshot was last touched by this process.
    touched: Option<Instant>,
}

/// An event of a node's own machine.
pub(super) type TableEvent = Event<Arc<Offered>, Arc<Table>>;

impl Passed for Arc<Table> {
    fn version(&self) -> &TableVersion {
        &self.version
    }
}

impl TableController {
    /// Returns a controller that hands the first table to `first`, and then waits for the node that is made of it.
    pub(super) fn new(
        source: BusSource,
        state: Arc<BusState>,
        first: oneshot::Sender<Arc<Table>>,
        node: oneshot::Receiver<Arc<Node>>,
    ) -> Self {
        Self {
            machine: Machine::new(),
            startup: Startup::Starting(Some(first), node),
            guard: CrashLoopGuard::new(source.snapshot.as_ref()),
            snapshots: SnapshotWriter::start(source.snapshot.as_ref(), &state),
            source,
            state,
            examination: None,
            refusals: LogLimiter::default(),
            ignored: LogLimiter::default(),
            silent_for: None,
            touched: None,
        }
    }

    /// Loads the snapshot and verifies it as if it came from the bus. Its table goes in force when the bus confirms it,
    /// has no acceptable table, or is away.
    pub(super) async fn load_snapshot(&mut self) {
        let Some(file) = self.source.snapshot.clone() else { return };
        let snapshot = match Snapshot::load(&file) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                // At a first start there is none yet.
                if matches!(error, SnapshotError::Bad { .. }) {
                    tracing::error!("{error}");
                }
                self.state.note("snapshot", Some(error.to_string()));
                return;
            }
        };
        let Snapshot { publication, revision, heartbeat, silent_for } = snapshot;
        let offered = Offered { publication, revision, created: clock::system_time() };
        let (source, here, at) = (self.source.clone(), self.state.here.clone(), self.state.law.now());
        let look = move || {
            let origin = Origin::Snapshot;
            let against =
                Against { source: &source, here: &here, base: None, known: None, origin, heartbeat: None, at };
            examine(Place::Table, &offered, against)
        };
        match tokio::task::spawn_blocking(look).await {
            Ok(Ok(table)) => {
                self.silent_for = silent_for;
                self.on(Event::SnapshotLoaded(Arc::new(table)));
                heartbeat.into_iter().for_each(|beat| self.take_heartbeat(beat));
            }
            Ok(Err(refusal)) => {
                let problems = refusal.problems();
                let first = problems.first().map(ToString::to_string).unwrap_or_default();
                let text = format!("the snapshot {} cannot be used: {first}", file.display());
                problems.iter().take(MAX_SHOWN).for_each(|problem| tracing::error!("{problem}"));
                self.state.note("snapshot", Some(text));
            }
            Err(_) => {}
        }
    }

    /// Handles an event, and sends the bus the requests that follow from it.
    ///
    /// # Errors
    /// When the bus does not answer.
    pub(super) async fn handle(&mut self, bus: &Bus, event: TableEvent) -> Result<(), BusError> {
        self.on(event);
        while let Some(request) = self.machine.request() {
            let answer = match request {
                Request::Read(place, revision) => {
                    let entry = bus.fetch(place, revision).await?;
                    Event::Read(place, revision, entry.map(|entry| self.reading(place, entry)))
                }
                Request::Recall { after, before } => {
                    let missed = bus.between(after, before, MAX_MISSED).await?.into_iter();
                    let missed = missed.map(|entry| self.reading(Place::Table, entry));
                    Event::Recalled(missed.filter_map(Reading::into_offer).collect())
                }
            };
            self.on(answer);
        }
        Ok(())
    }

    /// Handles an event, and performs its effects.
    pub(super) fn on(&mut self, event: TableEvent) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let effects = self.machine.on(event, clock::uptime());
            // Before it shows that a staged table is in force, or no longer is.
            let until = self.machine.staged().map(|(_, until)| until.saturating_sub(clock::uptime()));
            let until = until.map(|left| (clock::since_1970() + left).as_secs());
            self.state.set_aside(self.machine.quarantined(), until);
            for effect in effects {
                events.extend(self.perform(effect));
            }
        }
    }

    /// Waits for an event of this node's own: the end of an examination, the node's making, or a time.
    pub(super) async fn event(&mut self) -> TableEvent {
        let wakes_at = self.machine.wakes_at();
        tokio::select! {
            result = finished(&mut self.examination) => {
                self.guard.finish();
                self.examination = None;
                Event::Examined(result.map(Arc::new))
            }
            node = self.startup.made() => {
                self.adopt(node);
                Event::NodeMade
            }
            () = wait_until(wakes_at) => Event::Tick,
        }
    }

    /// Converts an entry of a place for the machine.
    pub(super) fn reading(&self, place: Place, entry: Entry) -> Reading<Arc<Offered>> {
        let lease_left = entry.lease_left(clock::system_time());
        let Entry { revision, created, publication, unreadable } = entry;
        if let Some(why) = unreadable {
            return self.unreadable(place, revision, why);
        }
        let Some(publication) = publication else { return Reading::Deleted { revision } };
        Reading::Offer(Offer {
            version: TableVersion::of(&publication, revision),
            fingerprint: publication.fingerprint(),
            lease: publication.stage.as_ref().map(|stage| Lease {
                is_for_this_node: stage.nodes.contains(&self.state.node),
                until: clock::uptime() + lease_left,
            }),
            publication: Arc::new(Offered { publication, revision, created }),
        })
    }

    /// Returns the reading of a text that cannot be read.
    pub(super) fn unreadable(&self, place: Place, revision: u64, why: String) -> Reading<Arc<Offered>> {
        Reading::Unreadable { revision, problem: Box::new(self.problem(place, revision, why)) }
    }

    /// Checks distrusted offers again: a key or a heartbeat may have arrived.
    pub(super) fn trust_again(&mut self) {
        for place in [Place::Table, Place::Rollout] {
            let Some(offer) = self.machine.distrusted(place) else { continue };
            let heartbeat = self.state.freshness.newest_heartbeat();
            let (base, heartbeat) = (self.machine.base().map(AsRef::as_ref), heartbeat.as_ref());
            let (here, at, origin) = (&self.state.here, self.state.law.now(), Origin::Bus);
            let against = Against { source: &self.source, here, base, known: None, origin, heartbeat, at };
            if trust(place, &offer.publication, &against).is_ok() {
                self.on(Event::Trusted(place));
            }
        }
    }

    /// Logs a summary of what the log limiter left out, once it may.
    pub(super) fn log_rest(&mut self) {
        if let Some((unsaid, last)) = self.refusals.rest() {
            tracing::error!(unsaid, last, "more routing tables were rejected than were logged");
        }
        if let Some((unsaid, last)) = self.ignored.rest() {
            tracing::warn!(unsaid, last, "more routing tables were ignored than were logged");
        }
    }

    /// Deletes the note of the examination under way: the process ends in order, and has not crashed on it.
    pub(super) fn clear_crash_note(&mut self) {
        self.guard.finish();
    }

    /// Waits for the last table to be on disk.
    pub(super) fn close(&mut self) {
        self.snapshots.close();
    }

    /// Returns the newest known revision of a place; 0 when none is known.
    pub(super) fn newest_known(&self, place: Place) -> u64 {
        self.machine.newest_known(place)
    }

    /// Returns whether the snapshot's table waits for the bus.
    pub(super) fn is_holding(&self) -> bool {
        self.machine.is_holding()
    }

    /// Returns whether a staged table is in force.
    pub(super) fn is_staged(&self) -> bool {
        self.machine.staged().is_some()
    }

    /// Returns the node, once there is one.
    pub(super) fn node(&self) -> Option<&Arc<Node>> {
        self.startup.node()
    }

    /// Returns whether the node drains.
    pub(super) fn is_draining(&self) -> bool {
        self.node().is_some_and(|node| node.occupancy.draining() > Drain::Serving)
    }

    fn problem(&self, place: Place, revision: u64, message: String) -> Problem {
        let file = name(place, revision, &self.source);
        Problem { severity: Severity::Error, file, line: 0, path: String::new(), message }
    }
}

/// Waits for the examination under way; for ever, if there is none.
async fn finished(examination: &mut Option<JoinHandle<Result<Table, Refusal>>>) -> Result<Table, Refusal> {
    let Some(examination) = examination else { return std::future::pending().await };
    examination.await.unwrap_or_else(|panic| {
        let message = format!("examining this table made Meridian itself fail: please report it ({panic})");
        let severity = Severity::Error;
        Err(Refusal::Bad(vec![Problem { severity, file: "bus".to_owned(), line: 0, path: String::new(), message }]))
    })
}

async fn wait_until(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time.saturating_sub(clock::uptime())).await,
        None => std::future::pending().await,
    }
}

/// How many problems of a table are logged and shown in `/status`: the first ones are fixed first.
const MAX_SHOWN: usize = 20;

/// The most missed tables that are examined before the newest: each costs as much as the newest itself.
const MAX_MISSED: usize = 16;
