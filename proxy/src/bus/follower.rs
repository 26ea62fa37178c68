//! The story of a node and its bus: connect, follow, take tables, report; and again, for as long as
//! the node lives. On a thread of its own, since a table's proof may take seconds.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use config::bus::{
    Bus, BusError, Change, Entry, Ignored, Place, REPORT_EVERY, REPORT_TTL, Refused, Snapshot, Standing, Watch,
};
use config::{BusSource, Problem, Severity};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::examine::{Against, Refusal, examine, name};
use super::loads::exchange;
use super::status::BusState;
use super::tables::{Next, Table, Tables};
use super::trial::Trial;
use crate::load::meter::LoadMeter;
use crate::node::{Drain, Node, unix_seconds};
use crate::reload::put_in_force;
use crate::routing::now;

/// Follows the bus for one node.
pub struct Follower {
    source: BusSource,
    state: Arc<BusState>,
    tables: Tables,
    trial: Trial,
    stage: Stage,
    /// What is to be looked at, by place: the newest that was heard of.
    wanted: [Option<Wanted>; 2],
    /// The newest table, while those that this node has missed before it are looked at.
    after_missed: Option<Wanted>,
    /// How far those have been looked at.
    walked: u64,
    /// The newest revisions that were heard of, by place.
    heard: [u64; 2],
    /// The last revisions that were refused for their size alone, by place.
    unread: [u64; 2],
    /// Not before then: a table that was refused after a long look must not keep the machine busy.
    not_before: Instant,
    talk: Talk,
    /// When another process last reported under this node's name.
    namesake: Option<Instant>,
    /// When the snapshot's time was last set.
    touched: Instant,
    meter: Rc<RefCell<LoadMeter>>,
}

/// Whether there is a node to put tables in force on.
enum Stage {
    /// Not yet: the first table goes to the start.
    Starting(Option<oneshot::Sender<Arc<Table>>>, oneshot::Receiver<Arc<Node>>),
    /// There is.
    Serving(Arc<Node>),
}

/// Something on the bus that the node has to look at.
#[derive(Clone, Debug)]
enum Wanted {
    /// By its revision.
    Revision { revision: u64, bytes: usize },
    /// It is here already.
    Entry(Box<Entry>),
}

/// A look at a table that is under way.
struct Examination {
    place: Place,
    entry: Entry,
    started: Instant,
    task: JoinHandle<Result<Table, Refusal>>,
}

impl Follower {
    /// A follower that hands the first table to `first` and then waits for the node of it.
    pub fn new(
        source: BusSource,
        state: Arc<BusState>,
        first: oneshot::Sender<Arc<Table>>,
        node: oneshot::Receiver<Arc<Node>>,
    ) -> Self {
        let trial = Trial::new(source.snapshot.as_ref());
        Self {
            source,
            state,
            tables: Tables::default(),
            trial,
            stage: Stage::Starting(Some(first), node),
            wanted: [None, None],
            after_missed: None,
            walked: 0,
            heard: [0, 0],
            unread: [0, 0],
            not_before: Instant::now(),
            talk: Talk::default(),
            namesake: None,
            touched: Instant::now(),
            meter: Rc::default(),
        }
    }

    /// Follows the bus until `stop` says to say goodbye.
    pub async fn run(mut self, mut stop: mpsc::Receiver<oneshot::Sender<()>>) {
        let clock = self.state.clone();
        tokio::task::spawn_local(async move {
            loop {
                clock.freshness.look();
                sleep(Duration::from_millis(250)).await;
            }
        });
        let mut pause = FIRST_PAUSE;
        let mut in_vain = std::pin::pin!(in_vain(self.state.clone()).fuse());
        loop {
            let began = Instant::now();
            let ended = tokio::select! {
                ended = self.session() => ended,
                () = &mut in_vain, if self.source.snapshot.is_some() => {
                    Err(BusError::Other(format!("there is no table within {PATIENCE:?} of the start")))
                }
                goodbye = stop.recv() => return self.leave(goodbye).await,
            };
            let Err(error) = ended;
            let error = error.to_string();
            if self.state.disconnected(error.clone()) {
                tracing::warn!(error, "the config bus is away");
            }
            self.take_snapshot().await;
            self.let_time_pass();
            if began.elapsed() > Duration::from_secs(30) {
                pause = FIRST_PAUSE;
            }
            // Full jitter: a fleet must not come back as one.
            tokio::select! {
                () = sleep(pause.mul_f64(0.2 + 0.8 * fastrand::f64())) => {}
                goodbye = stop.recv() => return self.leave(goodbye).await,
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
        let born = bus.bucket_created().await?;
        let mut watch = bus.watch().await?;
        self.state.connected(bus.server());
        tracing::info!(server = bus.server(), bucket = bus.bucket(), "the config bus is connected");
        (self.heard, self.after_missed, self.walked) = ([0, 0], None, 0);
        self.look_around(bus, born).await?;
        // Often enough that a bus that is there never counts as silent.
        let often = (self.source.max_age / 4).clamp(SHORTEST_POLL, POLL);
        let (mut poll, mut report) = (interval(often), interval(REPORT_EVERY));
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        report.set_missed_tick_behavior(MissedTickBehavior::Delay);
        poll.tick().await;
        let mut echo = Echo::default();
        let mut examination: Option<Examination> = None;
        let mut said = None;
        let mut reporting: Option<Reporting> = None;
        let mut loads = None;
        loop {
            if examination.is_none() {
                examination = self.begin(bus).await?;
            }
            if loads.is_none()
                && let Stage::Serving(node) = &self.stage
            {
                let exchange = exchange(node.clone(), self.state.clone(), bus.client().clone(), self.meter.clone());
                loads = Some(Aborting(tokio::task::spawn_local(exchange)));
            }
            tokio::select! {
                change = watch.next() => self.hear(change?, &mut echo),
                _ = poll.tick() => {
                    self.look_around(bus, born).await?;
                    self.bury(bus);
                    echo.check()?;
                }
                _ = report.tick() => said = None,
                done = finished(&mut examination) => self.judge(bus, done).await?,
                sent = reported(&mut reporting) => self.reported(bus, sent, &mut echo),
                node = adopted(&mut self.stage) => self.adopt(node),
                () = wait_until(self.not_before), if examination.is_none() && self.has_wanted() => {}
            }
            self.let_time_pass();
            let report = self.state.report(self.is_draining());
            // At once when there is news, else with the next heartbeat.
            let news = (
                report.state,
                report.epoch,
                report.revision,
                report.staged,
                report.refused.clone(),
                report.draining,
                report.expired,
            );
            if reporting.is_none() && said.as_ref() != Some(&news) {
                let bus = bus.clone();
                reporting = Some(Box::pin(async move { bus.report(&report).await }));
                said = Some(news);
            }
        }
    }

    /// Notes what the watch tells.
    fn hear(&mut self, change: Change, echo: &mut Echo) {
        match change {
            Change::Table { place, revision, bytes } => {
                self.heard_of(place, revision);
                match bytes {
                    Some(bytes) => self.want(place, Wanted::Revision { revision, bytes }),
                    None => self.taken_away(place),
                }
            }
            Change::Node { node, region, instance, revision } => {
                if node == self.state.node {
                    if instance == self.state.instance {
                        echo.came(revision);
                        if self.namesake.is_some_and(|seen| seen.elapsed() > REPORT_TTL) {
                            self.namesake = None;
                            self.state.note("name", None);
                        }
                    // An earlier one is of the process before this one.
                    } else if (1..revision).contains(&echo.came) {
                        self.namesake = Some(Instant::now());
                        let text =
                            format!("another process reports as node {node:?}: give each node a name of its own");
                        if self.state.note("name", Some(text.clone())) {
                            tracing::error!(node, instance, "{text}");
                        }
                    }
                }
                self.state.peers.saw(&node, &region, now());
            }
            Change::Other => {}
        }
    }

    /// Asks the bus itself what is newest, since a watch may have gone deaf; and whether it still is
    /// the bucket that it was.
    async fn look_around(&mut self, bus: &Bus, born: SystemTime) -> Result<(), BusError> {
        if bus.bucket_created().await? != born {
            return Err(BusError::Other("the bucket was made anew".to_owned()));
        }
        let mut is_there = self.heard.first().is_some_and(|heard| *heard > 0);
        for place in [Place::Table, Place::Rollout] {
            let heard = self.heard.get(place as usize).copied().unwrap_or_default();
            let newest = if heard == 0 { bus.live(place).await } else { bus.next(place, heard).await };
            let newest = match newest {
                Err(BusError::TooLarge { revision, bytes }) => {
                    is_there |= place == Place::Table;
                    self.heard_of(place, revision);
                    self.want(place, Wanted::Revision { revision, bytes });
                    continue;
                }
                Err(BusError::Stage(error)) => {
                    self.state.note("rollout", Some(error.to_string()));
                    continue;
                }
                newest => newest?,
            };
            let Some(entry) = newest else { continue };
            is_there |= place == Place::Table;
            self.heard_of(place, entry.revision);
            match entry.publication {
                Some(_) => self.want(place, Wanted::Entry(Box::new(entry))),
                None => self.taken_away(place),
            }
        }
        if !is_there {
            self.ignore(&Ignored::Absent);
        } else if self.state_counts() {
            self.heard_from();
        }
        Ok(())
    }

    /// Whether the bus's word on the table is one that counts: not while what it has is ignored.
    fn state_counts(&self) -> bool {
        self.tables.base().is_some() && self.state.status().ignored.is_none()
    }

    fn heard_from(&mut self) {
        self.state.freshness.heard();
        if let Some(snapshot) = &self.source.snapshot
            && self.touched.elapsed() > TOUCH
        {
            self.touched = Instant::now();
            // Without one there is nothing to touch, and its absence was told when it was to be written.
            let _ = Snapshot::touch(snapshot);
        }
    }

    fn heard_of(&mut self, place: Place, revision: u64) {
        if let Some(heard) = self.heard.get_mut(place as usize) {
            *heard = revision.max(*heard);
        }
    }

    fn want(&mut self, place: Place, wanted: Wanted) {
        let [table, rollout] = &mut self.wanted;
        let slot = match place {
            // While missed tables are looked at, what is newer waits for its turn.
            Place::Table if self.after_missed.is_some() => &mut self.after_missed,
            Place::Table => table,
            Place::Rollout => rollout,
        };
        if slot.as_ref().is_none_or(|known| known.revision() <= wanted.revision()) {
            *slot = Some(wanted);
        }
    }

    fn has_wanted(&self) -> bool {
        self.wanted.iter().any(Option::is_some)
    }

    /// A place is empty now.
    fn taken_away(&mut self, place: Place) {
        if let Some(slot) = self.wanted.get_mut(place as usize) {
            *slot = None;
        }
        match place {
            Place::Table => {
                self.after_missed = None;
                self.ignore(&Ignored::Deleted);
            }
            Place::Rollout => {
                self.state.forgive(Place::Rollout);
                self.state.note("rollout", None);
                if self.tables.withdraw() {
                    self.state.count("returned");
                    tracing::info!("the staged table was withdrawn");
                    self.put_in_force(false);
                }
            }
        }
    }

    fn ignore(&mut self, why: &Ignored) {
        let why = why.to_string();
        if self.state.ignored(Some(why.clone())) {
            // Who has no table yet waits for one, and ignores nothing.
            if !self.is_without_table() {
                self.state.count("ignored");
            }
            tracing::warn!("{why}");
        }
    }

    /// Takes up what is wanted, the table of all first.
    async fn begin(&mut self, bus: &Bus) -> Result<Option<Examination>, BusError> {
        if Instant::now() < self.not_before || matches!(self.stage, Stage::Starting(None, _)) {
            return Ok(None);
        }
        for place in [Place::Table, Place::Rollout] {
            let Some(wanted) = self.wanted.get_mut(place as usize).and_then(Option::take) else { continue };
            let revision = wanted.revision();
            if let Some(entry) = self.read(bus, place, wanted).await?
                && let Some(examination) = self.take_up(place, entry)
            {
                return Ok(Some(examination));
            }
            if place == Place::Table && self.after_missed.is_some() {
                self.step_on(bus, revision).await?;
            }
        }
        Ok(None)
    }

    /// What is wanted, whole; `None` when there is nothing to look at.
    async fn read(&mut self, bus: &Bus, place: Place, wanted: Wanted) -> Result<Option<Entry>, BusError> {
        match wanted {
            Wanted::Entry(entry) => Ok(Some(*entry)),
            Wanted::Revision { revision, bytes } if bytes > config::bus::MAX_TABLE => {
                self.refuse_unread(place, revision, BusError::TooLarge { revision, bytes }.to_string());
                Ok(None)
            }
            Wanted::Revision { revision, .. } => match bus.fetch(place, revision).await {
                Err(BusError::Stage(error)) => {
                    self.state.note("rollout", Some(error.to_string()));
                    Ok(None)
                }
                // If it is gone, a newer one has taken its place, and is wanted next.
                found => found,
            },
        }
    }

    /// Compares an entry with what is in force; what is new gets examined.
    fn take_up(&mut self, place: Place, entry: Entry) -> Option<Examination> {
        let publication = entry.publication.as_ref();
        if place == Place::Rollout {
            self.state.note("rollout", None);
        }
        match self.tables.weigh(place, &entry, &self.state.node) {
            Next::Nothing => {
                if place == Place::Table {
                    self.state.confirmed();
                    self.heard_from();
                }
                None
            }
            Next::Ignore(why) => {
                if place == Place::Rollout {
                    self.state.forgive(place);
                }
                match why {
                    Some(why) => self.ignore(&why),
                    // The staged table is for others, or over.
                    None if self.tables.withdraw() => {
                        self.state.count("returned");
                        self.put_in_force(false);
                    }
                    None => {}
                }
                None
            }
            Next::Refused(problems) => {
                self.state.ignored(None);
                self.state.count("quarantined");
                self.state.refused(place, refused(publication, entry.revision), &problems);
                tracing::debug!(revision = entry.revision, "refused before, and not looked at again");
                None
            }
            Next::Examine => {
                let publication = publication?.clone();
                let fingerprint = publication.fingerprint();
                if self.trial.is_deadly(&fingerprint) {
                    let why = "this node died more than once while it examined this table: report it; publish another"
                        .to_owned();
                    self.refuse(place, &entry, &[self.problem(place, entry.revision, why)], Duration::ZERO);
                    return None;
                }
                if let Err(error) = self.trial.begin(&fingerprint) {
                    self.state
                        .note("trial", Some(format!("cannot note beside the snapshot what is examined: {error}")));
                }
                let (source, region) = (self.source.clone(), self.state.region.clone());
                let base = self.tables.base().cloned();
                let known = self.tables.with_text(&publication.text).cloned();
                let examined = entry.clone();
                let task = tokio::task::spawn_blocking(move || {
                    let against = Against { source: &source, region: &region, base: base.as_deref(), known };
                    examine(place, &examined, &publication, against)
                });
                Some(Examination { place, entry, started: Instant::now(), task })
            }
        }
    }

    /// The examination is over: the table goes in force, or is refused.
    async fn judge(
        &mut self,
        bus: &Bus,
        (examination, result): (Examination, Result<Table, Refusal>),
    ) -> Result<(), BusError> {
        let Examination { place, entry, started, .. } = examination;
        self.trial.survived();
        match result {
            Ok(table) => self.accept(place, &entry, &Arc::new(table)),
            Err(Refusal::Shrinks(_)) if place == Place::Table && self.step_back(bus, &entry).await? => return Ok(()),
            Err(refusal) => self.refuse(place, &entry, &refusal.problems(), started.elapsed()),
        }
        if place == Place::Table && self.after_missed.is_some() {
            self.step_on(bus, entry.revision).await?;
        }
        Ok(())
    }

    /// Goes back to the first table that this node has missed, if there is one before `entry`: a node
    /// that was away goes the way that the others went, step by step, and takes what shrinks the fleet
    /// no more at once than it did for them.
    async fn step_back(&mut self, bus: &Bus, entry: &Entry) -> Result<bool, BusError> {
        let Some(base) = self.tables.base() else { return Ok(false) };
        if entry.publication.as_ref().map(|publication| publication.epoch) != Some(base.standing.epoch) {
            return Ok(false);
        }
        let missed = bus.next(Place::Table, base.standing.revision.max(self.walked)).await?;
        let Some(missed) = missed.filter(|missed| missed.revision < entry.revision) else { return Ok(false) };
        let [table, _] = &mut self.wanted;
        let newest = table.replace(Wanted::Entry(Box::new(missed)));
        self.after_missed = newest.or_else(|| Some(Wanted::Entry(Box::new(entry.clone()))));
        Ok(true)
    }

    /// Goes on to the next table after one that was missed, and at last to the newest.
    async fn step_on(&mut self, bus: &Bus, from: u64) -> Result<(), BusError> {
        self.walked = from;
        let newest = self.after_missed.as_ref().map_or(0, Wanted::revision);
        let next = bus.next(Place::Table, from).await?.filter(|next| next.revision < newest);
        let [table, _] = &mut self.wanted;
        *table = next.map(|next| Wanted::Entry(Box::new(next))).or_else(|| self.after_missed.take());
        Ok(())
    }

    fn accept(&mut self, place: Place, entry: &Entry, table: &Arc<Table>) {
        for warning in &table.document.warnings {
            tracing::warn!("{warning}");
        }
        self.state.ignored(None);
        self.tables.accept(place, entry, table.clone(), now());
        if place == Place::Table {
            self.heard_from();
            self.write_snapshot(table);
        }
        self.state.count(if place == Place::Table { "applied" } else { "staged" });
        self.put_in_force(false);
        let took = entry.created.elapsed().unwrap_or_default();
        let Standing { epoch, revision, .. } = table.standing;
        let (version, by) = (table.document.table.spec().version.as_str(), table.publication.by.as_str());
        let staged = place == Place::Rollout;
        tracing::info!(version, revision, epoch, staged, by, since_published = ?took, "routing table applied");
    }

    /// Puts in force whichever table counts now.
    fn put_in_force(&mut self, from_snapshot: bool) {
        let Some(table) = self.tables.in_force().cloned() else { return };
        self.state.took(&table.publication, &table.standing, &table.document.table.spec().version, from_snapshot);
        self.set_aside();
        let source = self.source_name();
        match &mut self.stage {
            Stage::Starting(first, _) => {
                if let Some(first) = first.take() {
                    // The start is gone only when the process ends.
                    let _ = first.send(table);
                }
            }
            Stage::Serving(node) => {
                let config = node.config.load_full();
                match put_in_force(node, &config, table.document.clone(), Some(table.standing.revision)) {
                    Ok(_) => {
                        node.metrics.table_reloads.with_label_values(&["applied"]).inc();
                        node.accept(&source);
                    }
                    // Examined, it has this node's region: nothing else is asked.
                    Err(problems) => node.reject(source, problems.0),
                }
            }
        }
    }

    fn refuse_unread(&mut self, place: Place, revision: u64, why: String) {
        let entry = Entry { revision, created: SystemTime::now(), publication: None };
        let problem = self.problem(place, revision, why);
        // Nothing of it is here to put in quarantine but its number.
        if self.unread.get_mut(place as usize).is_some_and(|last| std::mem::replace(last, revision) == revision) {
            self.state.count("quarantined");
            return self.state.refused(place, refused(None, revision), &[problem]);
        }
        self.refuse(place, &entry, &[problem], Duration::ZERO);
    }

    fn refuse(&mut self, place: Place, entry: &Entry, problems: &[Problem], took: Duration) {
        match place {
            Place::Table => self.state.freshness.heard(),
            // It has taken the place of the one before it.
            Place::Rollout if self.tables.withdraw() => self.put_in_force(false),
            Place::Rollout => {}
        }
        if let Some(publication) = &entry.publication {
            self.tables.refuse(publication, problems.to_vec());
        }
        self.not_before = Instant::now() + (took * 4).min(LONGEST_REST);
        self.state.ignored(None);
        self.state.refused(place, refused(entry.publication.as_ref(), entry.revision), problems);
        self.state.count("rejected");
        self.set_aside();
        if let Stage::Serving(node) = &self.stage {
            node.metrics.table_reloads.with_label_values(&["rejected"]).inc();
            node.reject(self.source_name(), problems.iter().take(MAX_SHOWN).cloned().collect());
        }
        if let Some(unsaid) = self.talk.may() {
            let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
            tracing::error!(
                revision = entry.revision,
                errors,
                unsaid,
                "routing table rejected; the one before stays in force"
            );
            problems.iter().take(MAX_SHOWN).for_each(|problem| tracing::error!("{problem}"));
        }
    }

    fn write_snapshot(&self, table: &Table) {
        let Some(file) = &self.source.snapshot else { return };
        let failed = Snapshot::write(file, &table.publication, &table.standing).err().map(|error| {
            self.state.count("snapshot_failed");
            format!("the snapshot {} cannot be written: {error}; a start without the bus would fail", file.display())
        });
        if self.state.note("snapshot", failed.clone()) {
            tracing::error!("{}", failed.unwrap_or_default());
        }
    }

    /// Without a table so far: takes the snapshot's, which is verified as if it had just come.
    async fn take_snapshot(&mut self) {
        if !self.is_without_table() {
            return;
        }
        let Some(file) = self.source.snapshot.clone() else { return };
        let snapshot = match Snapshot::load(&file) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                let text = error.to_string();
                if self.state.note("snapshot", Some(text.clone())) {
                    tracing::error!("{text}");
                }
                return;
            }
        };
        let Snapshot { publication, revision, silent_for } = snapshot;
        let entry = Entry { revision, created: SystemTime::now(), publication: Some(publication) };
        let Some(mut examination) = self.take_up(Place::Table, entry) else { return };
        let Ok(result) = (&mut examination.task).await else { return };
        self.trial.survived();
        match result {
            Ok(table) => {
                self.tables.accept(Place::Table, &examination.entry, Arc::new(table), now());
                self.state.freshness.silent_for(silent_for);
                self.state.count("snapshot_taken");
                tracing::warn!(file = %file.display(), revision, ?silent_for, "started from the snapshot: the config bus is away");
                self.put_in_force(true);
            }
            Err(refusal) => self.refuse(Place::Table, &examination.entry, &refusal.problems(), Duration::ZERO),
        }
    }

    fn is_without_table(&self) -> bool {
        self.tables.base().is_none()
    }

    fn adopt(&mut self, node: Option<Arc<Node>>) {
        if let Some(node) = node {
            let revision = node.routing.load().revision;
            self.stage = Stage::Serving(node);
            // A staged table, or another, may have been accepted while the node was being made.
            if self.tables.in_force().is_some_and(|table| table.standing.revision != revision) {
                self.put_in_force(false);
            }
        }
    }

    fn let_time_pass(&mut self) {
        if self.tables.lapse(now()) {
            self.state.count("returned");
            tracing::warn!("the staged table lapsed without a promotion: back to the table of all nodes");
            self.put_in_force(false);
        }
    }

    fn set_aside(&self) {
        let until =
            self.tables.staged_until().map(|until| unix_seconds(SystemTime::now() + until.saturating_sub(now())));
        self.state.set_aside(self.tables.quarantined(), until);
    }

    fn is_draining(&self) -> bool {
        matches!(&self.stage, Stage::Serving(node) if node.draining() > Drain::Serving)
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

    /// The first of the living removes the reports of the dead.
    fn bury(&self, bus: &Bus) {
        let first = self.state.peers.first(now());
        for gone in self.state.peers.bury(now()) {
            if first.as_ref() == Some(&self.state.node) {
                tracing::info!(node = gone, "a node no longer reports, and is forgotten");
                let bus = bus.clone();
                // Who may not do it has no answer for long.
                tokio::task::spawn_local(async move {
                    if let Err(error) = bus.forget(&gone).await {
                        tracing::debug!(%error, node = gone, "its report is not removed");
                    }
                });
            }
        }
    }

    /// Takes this node's own report away: who leaves in peace need not be missed.
    async fn leave(mut self, goodbye: Option<oneshot::Sender<()>>) {
        // Who is told to go has not died of what was being examined.
        self.trial.survived();
        let gone = async {
            let bus = Bus::connect(&self.source.access, "meridian leaving").await?;
            bus.leave(&self.state.node).await
        };
        if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(1), gone).await {
            tracing::debug!(%error, "this node's report stays until it is too old");
        }
        if let Some(goodbye) = goodbye {
            let _ = goodbye.send(());
        }
    }

    fn problem(&self, place: Place, revision: u64, message: String) -> Problem {
        let file = name(place, revision, &self.source);
        Problem { severity: Severity::Error, file, line: 0, path: String::new(), message }
    }

    /// Under which name a refused table is in `/status`.
    fn source_name(&self) -> std::path::PathBuf {
        format!("bus:{}", self.source.access.bucket).into()
    }
}

impl Wanted {
    fn revision(&self) -> u64 {
        match self {
            Wanted::Revision { revision, .. } => *revision,
            Wanted::Entry(entry) => entry.revision,
        }
    }
}

/// The node's own reports, as they come back: a watch that does not bring them is deaf.
#[derive(Debug, Default)]
struct Echo {
    /// The first report that has not come back yet, and when it was sent.
    missing: Option<(u64, Instant)>,
    came: u64,
}

impl Echo {
    fn sent(&mut self, revision: u64) {
        if self.missing.is_none() && self.came < revision {
            self.missing = Some((revision, Instant::now()));
        }
    }

    fn came(&mut self, revision: u64) {
        self.came = self.came.max(revision);
        self.missing = self.missing.filter(|(missing, _)| *missing > revision);
    }

    fn check(&self) -> Result<(), BusError> {
        match self.missing {
            Some((_, since)) if since.elapsed() > Watch::SILENCE => {
                Err(BusError::Other("the watch is silent, though the bus is not".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

/// How often refusals may be logged in full: one every ten seconds, however many there are.
#[derive(Debug, Default)]
struct Talk {
    last: Option<Instant>,
    unsaid: u64,
}

impl Talk {
    /// How many were not logged since the last that was, if this one may be.
    fn may(&mut self) -> Option<u64> {
        if self.last.is_some_and(|last| last.elapsed() < TALK) {
            self.unsaid += 1;
            return None;
        }
        self.last = Some(Instant::now());
        Some(std::mem::take(&mut self.unsaid))
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

/// Waits for the examination that is under way, if one is.
async fn finished(examination: &mut Option<Examination>) -> (Examination, Result<Table, Refusal>) {
    let result = match examination {
        Some(examination) => (&mut examination.task).await,
        None => std::future::pending().await,
    };
    match (examination.take(), result) {
        (Some(examination), Ok(result)) => (examination, result),
        (Some(examination), Err(panic)) => {
            let problem = Problem {
                severity: Severity::Error,
                file: "bus".to_owned(),
                line: 0,
                path: String::new(),
                message: format!("examining this table made Meridian itself fail: please report it ({panic})"),
            };
            (examination, Err(Refusal::Bad(vec![problem])))
        }
        (None, _) => std::future::pending().await,
    }
}

/// Waits for the report that is on its way, if one is.
async fn reported(reporting: &mut Option<Reporting>) -> Result<u64, BusError> {
    let Some(sending) = reporting else { return std::future::pending().await };
    let sent = sending.await;
    *reporting = None;
    sent
}

/// Waits for the node that is made of the first table; for ever, once it is there.
async fn adopted(stage: &mut Stage) -> Option<Arc<Node>> {
    match stage {
        Stage::Starting(None, node) => match node.await {
            Ok(node) => Some(node),
            Err(_) => std::future::pending().await,
        },
        Stage::Starting(Some(_), _) | Stage::Serving(_) => std::future::pending().await,
    }
}

/// Resolves when a start has waited long enough for its table; never, once there is one.
async fn in_vain(state: Arc<BusState>) {
    sleep(PATIENCE).await;
    if state.status().table.is_some() {
        std::future::pending::<()>().await;
    }
}

async fn wait_until(when: Instant) {
    tokio::time::sleep_until(when.into()).await;
}

fn refused(publication: Option<&config::bus::Publication>, revision: u64) -> Refused {
    Refused {
        epoch: publication.map_or(0, |publication| publication.epoch),
        revision,
        sha256: publication.map(config::bus::Publication::sha256).unwrap_or_default(),
        at: unix_seconds(SystemTime::now()),
    }
}

/// How often the bus is asked what is newest, beside what it tells by itself.
const POLL: Duration = Duration::from_secs(3);
const SHORTEST_POLL: Duration = Duration::from_millis(100);

/// Between two connections: from about this, doubled, to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long a start waits for a bus that says nothing before it takes the snapshot.
const PATIENCE: Duration = Duration::from_secs(2);

/// The longest rest after a table was refused.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// How often the snapshot's time is set.
const TOUCH: Duration = Duration::from_secs(60);

/// From one refusal that is logged in full to the next.
const TALK: Duration = Duration::from_secs(10);

/// Problems that are logged, and shown in `/status`.
const MAX_SHOWN: usize = 20;
