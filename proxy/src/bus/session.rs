//! Runs a node's connections to its bus, one after the other: connects, watches, asks, reports, until the node ends.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::BusSource;
use config::bus::{Bus, BusError, Change, MAX_TABLE, Place, REPORT_EVERY, REPORT_TTL, Watch, What, Witness, too_large};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::catch_up::{CatchUp, Inquiry, WatchLiveness};
use super::controller::TableController;
use super::lifecycle::ShutdownNotice;
use super::loads::exchange;
use super::machine::{Event, Reading};
use crate::bus_state::BusState;
use crate::clock;
use crate::load::meter::LoadMeter;
use crate::node::Node;
use crate::supervise::{Need, keep, rehearse};

/// Follows the bus for one node. Lives as long as the process, on the bus's thread, over all connections.
pub(super) struct Follower {
    source: BusSource,
    state: Arc<BusState>,
    tables: TableController,
    /// When another process last reported under this node's name.
    namesake: Option<Instant>,
    meter: Rc<RefCell<LoadMeter>>,
}

impl Follower {
    /// Returns a follower that hands events to this controller.
    pub(super) fn new(source: BusSource, state: Arc<BusState>, tables: TableController) -> Self {
        Self { source, state, tables, namesake: None, meter: Rc::default() }
    }

    /// Follows the bus until `stop` brings a notice.
    pub(super) async fn run(mut self, mut stop: mpsc::Receiver<ShutdownNotice>) {
        self.tables.load_snapshot().await;
        let mut pause = FIRST_PAUSE;
        let mut snapshot_due = std::pin::pin!(snapshot_due(self.state.clone()).fuse());
        loop {
            let (began, is_holding) = (clock::now(), self.tables.is_holding());
            let ended = tokio::select! {
                ended = self.session() => ended,
                () = &mut snapshot_due, if is_holding => Err(BusError::TimedOut),
                notice = stop.recv() => return self.leave(notice).await,
            };
            let Err(error) = ended;
            let error = error.to_string();
            if self.state.disconnected(error.clone()) {
                tracing::warn!(error, "the config bus is away");
            }
            self.tables.on(Event::Disconnected);
            if began.elapsed() > Duration::from_secs(30) {
                pause = FIRST_PAUSE;
            }
            // Full jitter: a fleet must not come back as one.
            let pausing = sleep(pause.mul_f64(0.2 + 0.8 * fastrand::f64()));
            let mut pausing = std::pin::pin!(pausing);
            loop {
                self.tables.log_rest();
                tokio::select! {
                    () = &mut pausing => break,
                    event = self.tables.event() => self.tables.on(event),
                    notice = stop.recv() => return self.leave(notice).await,
                }
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Runs one connection, which any error ends.
    async fn session(&mut self) -> Result<Infallible, BusError> {
        let bus = Bus::connect(&self.source.access, &format!("meridian {}", self.state.node)).await?;
        self.follow(&bus).await.map_err(|error| match bus.complaint() {
            Some(complaint) => BusError::Other(format!("{error}; the server complains: {complaint}")),
            None => error,
        })
    }

    async fn follow(&mut self, bus: &Bus) -> Result<Infallible, BusError> {
        let pulse = bus.pulse().await?;
        // Before any table: a fresh node accepts an old one only with a recent heartbeat about it.
        self.read_heartbeat(bus).await?;
        let mut watch = bus.watch().await?;
        self.state.connected(bus.server());
        tracing::info!(server = bus.server(), bucket = bus.bucket(), "the config bus is connected");
        let mut catch_up = CatchUp::new(&pulse, self.state.freshness.max_age(), fastrand::f64(), clock::uptime());
        self.tables.handle(bus, Event::Connected).await?;
        // An existing table is announced by the watch, with its length before it is read.
        if !pulse.has_table {
            self.inquire(bus, &mut catch_up, &mut watch).await?;
        }
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reporting: Option<Reporting> = None;
        let (mut sent_news, mut sent_at) = (None, clock::now());
        let mut loads = None;
        loop {
            if loads.is_none()
                && let Some(node) = self.tables.node()
            {
                rehearse("bus");
                let (node, state, client) = (node.clone(), self.state.clone(), bus.client().clone());
                loads =
                    Some(Aborting(tokio::task::spawn_local(keep_exchanging(node, state, client, self.meter.clone()))));
            }
            tokio::select! {
                change = watch.next() => self.on_change(bus, change?, &mut catch_up).await?,
                () = sleep(catch_up.due().saturating_sub(clock::uptime())) => self.inquire(bus, &mut catch_up, &mut watch).await?,
                () = bus.lost() => return Err(BusError::Other("the connection was lost".to_owned())),
                _ = second.tick() => self.state.members.prune(clock::uptime()),
                event = self.tables.event() => self.tables.handle(bus, event).await?,
                sent = reported(&mut reporting) => self.reported(bus, sent, &mut catch_up.liveness),
            }
            self.tables.log_rest();
            // At once when there is news, else every few seconds, and more often while a table is staged.
            let is_draining = self.tables.is_draining();
            let news = self.state.news(is_draining);
            let pace = if self.tables.is_staged() { REPORT_OFTEN } else { REPORT_EVERY };
            if reporting.is_none() && (sent_news.as_ref() != Some(&news) || sent_at.elapsed() >= pace) {
                let (bus, report) = (bus.clone(), self.state.report(is_draining));
                reporting = Some(Box::pin(async move { bus.report(&report).await }));
                (sent_news, sent_at) = (Some(news), clock::now());
            }
        }
    }

    /// Handles a change that the watch delivers.
    async fn on_change(&mut self, bus: &Bus, change: Change, catch_up: &mut CatchUp) -> Result<(), BusError> {
        let Change { revision, created, what } = change;
        if catch_up.on_revision(revision) {
            self.state.count("gap");
        }
        let event = match what {
            What::Table { place, bytes: Some(bytes) } if bytes > MAX_TABLE => {
                Event::Found(place, self.tables.unreadable(place, revision, too_large(bytes)))
            }
            What::Table { place, bytes: Some(_) } => Event::Announced(place, revision),
            What::Table { place, bytes: None } => Event::Found(place, Reading::Deleted { revision }),
            What::Node { node, region, instance } => {
                let age = created.elapsed().unwrap_or_default();
                self.state.members.saw(&node, &region, age, clock::uptime());
                if node == self.state.node {
                    self.on_own_report(&instance, revision, &mut catch_up.liveness);
                }
                return Ok(());
            }
            What::Left { node } => {
                self.state.members.left(&node);
                return Ok(());
            }
            What::Other => return Ok(()),
        };
        self.tables.handle(bus, event).await
    }

    /// Handles a report under this node's name that the watch delivers: its own, or another process's.
    fn on_own_report(&mut self, instance: &str, revision: u64, liveness: &mut WatchLiveness) {
        if instance == self.state.instance {
            liveness.came(revision);
            if self.namesake.is_some_and(|seen| seen.elapsed() > REPORT_TTL) {
                self.namesake = None;
                self.state.note("name", None);
            }
        } else if liveness.is_followed_by(revision) {
            self.namesake = Some(clock::now());
            let node = &self.state.node;
            let text = format!("another process reports as node {node:?}: give each node a name of its own");
            if self.state.note("name", Some(text.clone())) {
                tracing::error!(node, instance, "{text}");
            }
        }
    }

    /// Asks the bus what the watch may have missed, and checks that the bucket is the same as before.
    async fn inquire(&mut self, bus: &Bus, catch_up: &mut CatchUp, watch: &mut Watch) -> Result<(), BusError> {
        if catch_up.begin(clock::uptime()) == Inquiry::Everything {
            *watch = bus.watch().await?;
        }
        let pulse = bus.pulse().await?;
        catch_up.check(&pulse, clock::uptime())?;
        for place in [Place::Table, Place::Rollout] {
            let known = self.tables.newest_known(place);
            // Asking for the next revision is cheap while there is none.
            let newer = match known {
                0 => bus.live(place).await?,
                known => match bus.next(place, known).await? {
                    None => None,
                    Some(next) => {
                        Some(bus.live(place).await?.filter(|live| live.revision > next.revision).unwrap_or(next))
                    }
                },
            };
            if let Some(entry) = newer {
                self.tables.handle(bus, Event::Found(place, self.tables.reading(place, entry))).await?;
            }
        }
        self.read_heartbeat(bus).await?;
        self.tables.trust_again();
        // No single answer is trusted: nats-server 2.9 sometimes lists no table where there is one.
        let is_absent = !pulse.has_table && bus.live(Place::Table).await?.is_none();
        let event = if is_absent { Event::TableAbsent } else { Event::NothingNewer };
        self.tables.handle(bus, event).await
    }

    /// Reads the newest heartbeat, where keys are trusted.
    async fn read_heartbeat(&mut self, bus: &Bus) -> Result<(), BusError> {
        if self.state.freshness.witness() == Witness::Keys {
            let read = bus.heartbeat().await?;
            self.tables.on_heartbeat(read);
        }
        Ok(())
    }

    fn reported(&self, bus: &Bus, sent: Result<u64, BusError>, liveness: &mut WatchLiveness) {
        match sent {
            Ok(revision) => {
                self.state.note("report", None);
                liveness.sent(revision, clock::uptime());
            }
            // Whether the bus is there at all shows when it is read.
            Err(error) => {
                let why = bus.complaint().unwrap_or_else(|| error.to_string());
                let text = format!("this node's report is not taken: {why}");
                if self.state.note("report", Some(text.clone())) {
                    self.state.count("report_failed");
                    tracing::warn!("{text}");
                }
            }
        }
    }

    /// Deletes this node's report, so that a node that leaves in order is not missed.
    async fn leave(mut self, notice: Option<ShutdownNotice>) {
        self.tables.clear_crash_note();
        let gone = async {
            let bus = Bus::connect(&self.source.access, "meridian leaving").await?;
            bus.leave(&self.state.node).await
        };
        if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(1), gone).await {
            tracing::debug!(%error, "this node's report stays until it is too old");
        }
        self.tables.close();
        if let Some(notice) = notice {
            notice.done();
        }
    }
}

/// A report that is being sent: a bus that does not store it must not keep the node from its tables.
type Reporting = LocalBoxFuture<'static, Result<u64, BusError>>;

/// A task that ends with its session.
struct Aborting(JoinHandle<Infallible>);

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Exchanges load reports until the session ends. Without them the node knows its own load only.
async fn keep_exchanging(
    node: Arc<Node>,
    state: Arc<BusState>,
    client: async_nats::Client,
    meter: Rc<RefCell<LoadMeter>>,
) -> Infallible {
    keep("bus-loads", Need::Useful, || async {
        exchange(node.clone(), state.clone(), client.clone(), meter.clone()).await;
        // The exchange ends with the connection, which ends the session.
        std::future::pending::<()>().await;
    })
    .await
}

/// Waits for the report that is being sent; for ever, if there is none.
async fn reported(reporting: &mut Option<Reporting>) -> Result<u64, BusError> {
    let Some(sending) = reporting else { return std::future::pending().await };
    let sent = sending.await;
    *reporting = None;
    sent
}

/// Waits until a start without an answer from the bus takes the snapshot; for ever, once the bus was
/// connected.
async fn snapshot_due(state: Arc<BusState>) {
    sleep(PATIENCE).await;
    if state.was_ever_connected() {
        std::future::pending::<()>().await;
    }
}

/// How often a node with a staged table reports: its publisher waits for the reports.
const REPORT_OFTEN: Duration = Duration::from_secs(1);

/// The pause between two connections: from about this, doubled each time, to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long a start waits for the bus before it takes the snapshot: a bus that is there answers within a few
/// milliseconds, and a restart without it must be short.
const PATIENCE: Duration = Duration::from_secs(2);
