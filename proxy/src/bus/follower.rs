//! The story of a node and its bus: connect, follow, take tables, report; and again, for as long as
//! the node lives. On a thread of its own.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::BusSource;
use config::bus::{Bus, BusError, Change, Ignored, Place, Pulse, REPORT_EVERY, REPORT_TTL, What, Witness};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior, interval, interval_at, sleep};

use super::desk::{Desk, Event};
use super::echo::Echo;
use super::first::Goodbye;
use super::loads::exchange;
use super::queue::{Queue, Wanted};
use super::status::BusState;
use crate::load::meter::LoadMeter;
use crate::routing::now;

/// Follows the bus for one node.
pub struct Follower {
    source: BusSource,
    state: Arc<BusState>,
    desk: Desk,
    /// When another process last reported under this node's name.
    namesake: Option<Instant>,
    meter: Rc<RefCell<LoadMeter>>,
}

impl Follower {
    /// A follower whose tables go over this desk.
    pub fn new(source: BusSource, state: Arc<BusState>, desk: Desk) -> Self {
        Self { source, state, desk, namesake: None, meter: Rc::default() }
    }

    /// Follows the bus until `stop` says to say goodbye.
    pub async fn run(mut self, mut stop: mpsc::Receiver<Goodbye>) {
        self.desk.hold_snapshot().await;
        let mut pause = FIRST_PAUSE;
        let mut in_vain = std::pin::pin!(in_vain(self.state.clone()).fuse());
        loop {
            let (began, is_held_back) = (Instant::now(), self.desk.is_holding_back());
            let ended = tokio::select! {
                ended = self.session() => ended,
                () = &mut in_vain, if is_held_back => Err(BusError::TimedOut),
                goodbye = stop.recv() => return self.leave(goodbye).await,
            };
            let Err(error) = ended;
            let error = error.to_string();
            if self.state.disconnected(error.clone()) {
                tracing::warn!(error, "the config bus is away");
            }
            self.desk.release();
            if began.elapsed() > Duration::from_secs(30) {
                pause = FIRST_PAUSE;
            }
            // Full jitter: a fleet must not come back as one.
            let pausing = sleep(pause.mul_f64(0.2 + 0.8 * fastrand::f64()));
            let mut pausing = std::pin::pin!(pausing);
            loop {
                self.desk.let_time_pass();
                tokio::select! {
                    () = &mut pausing => break,
                    event = self.desk.event() => match event {
                        // Without a bus there is nothing that could fail.
                        Event::Examined(examined) => drop(self.desk.judge(None, *examined).await),
                        Event::Made(node) => self.desk.adopt(node),
                        Event::Rested => sleep(Duration::from_millis(100)).await,
                    },
                    goodbye = stop.recv() => return self.leave(goodbye).await,
                }
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One connection's time. Whatever is wrong with it ends it: all that has to outlive it is ours.
    async fn session(&mut self) -> Result<std::convert::Infallible, BusError> {
        let bus = Bus::connect(&self.source.access, &format!("meridian {}", self.state.node)).await?;
        self.follow(&bus).await.map_err(|error| match bus.complaint() {
            Some(complaint) => BusError::Other(format!("{error}; the server complains: {complaint}")),
            None => error,
        })
    }

    async fn follow(&mut self, bus: &Bus) -> Result<std::convert::Infallible, BusError> {
        let born = bus.pulse().await?;
        // Before any table: a fresh node takes an old one only with a young word about it.
        self.hear_heartbeat(bus).await?;
        let mut watch = bus.watch().await?;
        self.state.connected(bus.server());
        tracing::info!(server = bus.server(), bucket = bus.bucket(), "the config bus is connected");
        self.desk.queue = Queue::after(born.last_revision);
        // What is there the watch tells, with its length before anybody reads it.
        if !born.has_table {
            self.look_around(bus, &born).await?;
        }
        let mut looked = Instant::now();
        // Often enough that a bus that is there never counts as silent.
        let often = (self.state.freshness.max_age() / 8).clamp(SHORTEST_POLL, POLL);
        // Jittered: a fleet must not ask for everything as one.
        let (mut poll, mut renewal) = (later(often), later(WATCH_RENEWAL.mul_f64(0.5 + fastrand::f64())));
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut echo = Echo::default();
        let mut reporting: Option<Reporting> = None;
        let (mut said, mut said_at) = (None, Instant::now());
        let mut loads = None;
        loop {
            self.desk.take_up(bus).await?;
            if loads.is_none()
                && let Some(node) = self.desk.node()
            {
                let exchange = exchange(node.clone(), self.state.clone(), bus.client().clone(), self.meter.clone());
                loads = Some(Aborting(tokio::task::spawn_local(exchange)));
            }
            tokio::select! {
                change = watch.next() => {
                    let change = change?;
                    if self.desk.queue.has_gap_before(change.revision) {
                        // It may have been a table: nats-server 2.9 passes a message over now and then.
                        self.state.count("gap");
                        poll.reset_at((looked + GAP_POLL).max(Instant::now()).into());
                    }
                    self.hear(change, &mut echo);
                }
                _ = poll.tick() => {
                    self.look_around(bus, &born).await?;
                    looked = Instant::now();
                    echo.check()?;
                }
                // It begins with the last of each key: whatever was passed over is told after all.
                _ = renewal.tick() => watch = bus.watch().await?,
                () = bus.lost() => return Err(BusError::Other("the connection was lost".to_owned())),
                _ = second.tick() => self.state.peers.prune(now()),
                event = self.desk.event() => match event {
                    Event::Examined(examined) => self.desk.judge(Some(bus), *examined).await?,
                    Event::Made(node) => self.desk.adopt(node),
                    Event::Rested => {}
                },
                sent = reported(&mut reporting) => self.reported(bus, sent, &mut echo),
            }
            self.desk.let_time_pass();
            // At once when there is news, else with the next heartbeat; a staged table is watched closely.
            let news = self.state.news(self.desk.is_draining());
            let pace = if self.desk.is_trying() { REPORT_OFTEN } else { REPORT_EVERY };
            if reporting.is_none() && (said.as_ref() != Some(&news) || said_at.elapsed() >= pace) {
                let (bus, report) = (bus.clone(), self.state.report(self.desk.is_draining()));
                reporting = Some(Box::pin(async move { bus.report(&report).await }));
                (said, said_at) = (Some(news), Instant::now());
            }
        }
    }

    /// Notes what the watch tells.
    fn hear(&mut self, Change { revision, created, what }: Change, echo: &mut Echo) {
        match what {
            // Known, or older than what is.
            What::Table { place, .. } if revision <= self.desk.queue.heard(place) => {}
            What::Table { place, bytes: Some(bytes) } => {
                self.desk.queue.want(place, Wanted::Revision { revision, bytes });
            }
            What::Table { place, bytes: None } => {
                self.desk.queue.heard_of(place, revision);
                self.desk.taken_away(place);
            }
            What::Node { node, region, instance } => {
                self.desk.queue.heard_of_any(revision);
                let age = created.elapsed().unwrap_or_default();
                if age <= REPORT_TTL {
                    self.state.peers.saw(&node, &region, now().saturating_sub(age));
                }
                if node == self.state.node {
                    self.hear_of_myself(&instance, revision, echo);
                }
            }
            What::Other => self.desk.queue.heard_of_any(revision),
        }
    }

    /// A report under this node's name has come back: its own, or another's.
    fn hear_of_myself(&mut self, instance: &str, revision: u64, echo: &mut Echo) {
        if instance == self.state.instance {
            echo.came(revision);
            if self.namesake.is_some_and(|seen| seen.elapsed() > REPORT_TTL) {
                self.namesake = None;
                self.state.note("name", None);
            }
        } else if echo.is_followed_by(revision) {
            self.namesake = Some(Instant::now());
            let node = &self.state.node;
            let text = format!("another process reports as node {node:?}: give each node a name of its own");
            if self.state.note("name", Some(text.clone())) {
                tracing::error!(node, instance, "{text}");
            }
        }
    }

    /// Asks the bus itself what is newest, since a watch may have gone deaf; and whether it still is
    /// the bucket that it was.
    async fn look_around(&mut self, bus: &Bus, born: &Pulse) -> Result<(), BusError> {
        let pulse = bus.pulse().await?;
        if pulse.created != born.created {
            return Err(BusError::Other("the bucket was made anew".to_owned()));
        }
        if pulse.last_revision < self.desk.queue.highest() {
            return Err(BusError::Other("the bucket went back to an earlier state".to_owned()));
        }
        for place in [Place::Table, Place::Rollout] {
            let heard = self.desk.queue.heard(place);
            let newest = if heard == 0 { bus.live(place).await? } else { bus.next(place, heard).await? };
            let Some(entry) = newest else { continue };
            self.desk.queue.heard_of(place, entry.revision);
            if entry.publication.is_none() && entry.unreadable.is_none() {
                self.desk.taken_away(place);
            } else {
                self.desk.queue.want(place, Wanted::Entry(Box::new(entry)));
            }
        }
        self.hear_heartbeat(bus).await?;
        self.desk.trust_again();
        if !pulse.has_table && bus.live(Place::Table).await?.is_none() {
            self.desk.queue.forget(Place::Table);
            self.desk.ignore(&Ignored::Absent);
        } else if self.desk.is_settled() {
            self.desk.heard_from();
        } else if self.desk.is_idle() {
            // The bus counts a table, and does not have it: what there is is better than nothing.
            self.desk.release();
        }
        Ok(())
    }

    /// Asks for the newest heartbeat, which counts where keys are trusted.
    async fn hear_heartbeat(&mut self, bus: &Bus) -> Result<(), BusError> {
        if self.state.freshness.witness() == Witness::Keys {
            let read = bus.heartbeat().await?;
            self.desk.hear_heartbeat(read);
        }
        Ok(())
    }

    fn reported(&self, bus: &Bus, sent: Result<u64, BusError>, echo: &mut Echo) {
        match sent {
            Ok(revision) => {
                self.state.note("report", None);
                echo.sent(revision);
            }
            // Whether the bus is there at all is found out by reading.
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

    /// Takes this node's own report away: who leaves in peace need not be missed.
    async fn leave(mut self, goodbye: Option<Goodbye>) {
        self.desk.close();
        let gone = async {
            let bus = Bus::connect(&self.source.access, "meridian leaving").await?;
            bus.leave(&self.state.node).await
        };
        if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(1), gone).await {
            tracing::debug!(%error, "this node's report stays until it is too old");
        }
        if let Some(goodbye) = goodbye {
            goodbye.said();
        }
    }
}

/// A report on its way: a bus that does not take it must not keep the node from its tables.
type Reporting = LocalBoxFuture<'static, Result<u64, BusError>>;

/// A task that ends with its session.
struct Aborting(JoinHandle<()>);

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Ticks so often, and not at once.
fn later(period: Duration) -> Interval {
    let mut interval = interval_at((Instant::now() + period).into(), period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Waits for the report that is on its way, if one is.
async fn reported(reporting: &mut Option<Reporting>) -> Result<u64, BusError> {
    let Some(sending) = reporting else { return std::future::pending().await };
    let sent = sending.await;
    *reporting = None;
    sent
}

/// Waits until a start has waited long enough for a bus that says nothing; for ever, once it is
/// connected.
async fn in_vain(state: Arc<BusState>) {
    sleep(PATIENCE).await;
    if state.was_ever_connected() {
        std::future::pending::<()>().await;
    }
}

/// How often the bus is asked what is newest, beside what it tells by itself; and at most, where the
/// table must not be old.
const POLL: Duration = Duration::from_secs(3);
const SHORTEST_POLL: Duration = Duration::from_millis(100);

/// How soon after the last time the bus may be asked because the watch has left something out.
const GAP_POLL: Duration = Duration::from_millis(250);

/// About how often the watch is made anew: it tells of all keys then, and of some a server may never have told.
const WATCH_RENEWAL: Duration = Duration::from_secs(300);

/// How often a node that tries a staged table reports.
const REPORT_OFTEN: Duration = Duration::from_secs(1);

/// Between two connections: from about this, doubled, to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long a start waits for a bus that says nothing before it takes the snapshot.
const PATIENCE: Duration = Duration::from_secs(2);
