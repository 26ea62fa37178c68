//! Where tables are taken up, compared and weighed; `verdict.rs` has what becomes of them. What is decided here
//! outlives any connection.

mod heartbeat;
#[cfg(test)]
mod tests;
mod verdict;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use config::bus::{Bus, BusError, Entry, Ignored, MAX_TABLE, Origin, Place, Snapshot, SnapshotError, too_large};
use config::{BusSource, Problem, Severity};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::examine::{Against, Refusal, examine, name, trust};
use super::keeper::Keeper;
use super::queue::{Queue, Wanted};
use super::stage::Stage;
use super::status::BusState;
use super::tables::{Next, Table, Tables};
use super::talk::Talk;
use super::trial::Trial;
use crate::node::{Drain, Node, unix_seconds};
use crate::routing::now;

/// A node's tables, and what is under way with them.
pub struct Desk {
    /// What was heard of, and is still to be looked at.
    pub queue: Queue,
    source: BusSource,
    state: Arc<BusState>,
    tables: Tables,
    trial: Trial,
    stage: Stage,
    keeper: Keeper,
    examination: Option<Examination>,
    /// A table that nobody trusted stood for: a key may come.
    untrusted: Option<(Place, Entry)>,
    /// The last revisions that were refused unread, by place.
    unread: [u64; 2],
    /// Not before then: a table that was refused after a long look must not keep the machine busy.
    not_before: Instant,
    /// Of what is refused, and of what is ignored.
    refusals: Talk,
    ignorance: Talk,
    /// A staged table was taken away while a newer table of all was on its way: most likely its promotion.
    may_be_promoted: Option<u64>,
    /// For how long the bus had been silent when the snapshot was last touched; `None` is for ever.
    silent_for: Option<Duration>,
    /// When the snapshot was last touched by this process.
    touched: Option<Instant>,
}

/// A look at a table that is under way.
struct Examination {
    place: Place,
    entry: Entry,
    /// Whether the tables missed before it are looked at too.
    with_missed: bool,
    /// Whether it was taken away meanwhile.
    is_void: bool,
    started: Instant,
    task: JoinHandle<Result<Table, Refusal>>,
}

/// Something to do.
pub enum Event {
    /// A look at a table is over.
    Examined(Box<Examined>),
    /// There is a node now.
    Made(Arc<Node>),
    /// It is time to go on.
    Rested,
}

/// What came of a look.
pub struct Examined {
    examination: Examination,
    result: Result<Table, Refusal>,
}

impl Desk {
    /// A desk that hands the first table to `first`, and then waits for the node of it.
    pub fn new(
        source: BusSource,
        state: Arc<BusState>,
        first: oneshot::Sender<Arc<Table>>,
        node: oneshot::Receiver<Arc<Node>>,
    ) -> Self {
        Self {
            queue: Queue::default(),
            trial: Trial::new(source.snapshot.as_ref()),
            keeper: Keeper::start(source.snapshot.as_ref(), &state),
            source,
            state,
            tables: Tables::default(),
            stage: Stage::Starting(Some(first), node),
            examination: None,
            untrusted: None,
            unread: [0, 0],
            not_before: Instant::now(),
            refusals: Talk::default(),
            ignorance: Talk::default(),
            may_be_promoted: None,
            silent_for: None,
            touched: None,
        }
    }

    /// Takes the snapshot's table as what the bus's is compared with; it is verified as if it had just
    /// come. It goes in force when the bus has confirmed it, has nothing that counts, or is away.
    pub async fn hold_snapshot(&mut self) {
        let Some(file) = self.source.snapshot.clone() else { return };
        let snapshot = match Snapshot::load(&file) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                // That there is none yet is so at every first start.
                if matches!(error, SnapshotError::Bad { .. }) {
                    tracing::error!("{error}");
                }
                self.state.note("snapshot", Some(error.to_string()));
                return;
            }
        };
        let Snapshot { publication, revision, heartbeat, silent_for } = snapshot;
        let entry = Entry { revision, created: SystemTime::now(), publication: Some(publication), unreadable: None };
        let (source, here, examined) = (self.source.clone(), self.state.here.clone(), entry.clone());
        let at = self.state.law.now();
        let look = move || {
            let origin = Origin::Snapshot;
            let against =
                Against { source: &source, here: &here, base: None, known: None, origin, heartbeat: None, at };
            let publication = examined.publication.as_ref()?;
            Some(examine(Place::Table, &examined, publication, against))
        };
        match tokio::task::spawn_blocking(look).await {
            Ok(Some(Ok(table))) => {
                self.tables.hold_back(Arc::new(table));
                self.silent_for = silent_for;
                heartbeat.into_iter().for_each(|beat| self.take_heartbeat(beat));
            }
            Ok(Some(Err(refusal))) => {
                let problems = refusal.problems();
                let first = problems.first().map(ToString::to_string).unwrap_or_default();
                let text = format!("the snapshot {} cannot be used: {first}", file.display());
                problems.iter().take(MAX_SHOWN).for_each(|problem| tracing::error!("{problem}"));
                self.state.note("snapshot", Some(text));
            }
            Ok(None) | Err(_) => {}
        }
    }

    /// Whether there is a table that waits for the bus's word.
    pub fn is_holding_back(&self) -> bool {
        self.tables.base().is_some() && self.tables.in_force().is_none()
    }

    /// Puts what was held back in force: the bus has nothing better.
    pub fn release(&mut self) {
        let Some(revision) = self.tables.base().map(|table| table.version.revision) else { return };
        if self.tables.release() {
            self.state.freshness.silent_for(self.silent_for);
            self.state.count("snapshot_taken");
            tracing::warn!(revision, "started from the snapshot");
            self.put_in_force(true);
        }
    }

    /// The bus has what is in force, or was held back.
    fn confirm(&mut self) {
        if self.tables.release() {
            self.put_in_force(false);
        }
        self.state.confirmed();
        self.heard_from();
    }

    /// The bus has said which table is the right one, and this node has it.
    pub fn heard_from(&mut self) {
        self.state.freshness.heard();
        if self.touched.is_none_or(|touched| touched.elapsed() > TOUCH) {
            self.touched = Some(Instant::now());
            self.keeper.touch();
        }
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.examination.is_none() && !self.queue.has_wanted()
    }

    /// Whether what the bus has for all is in force here. Where it was refused it is not: there is a newer law.
    pub fn is_settled(&mut self) -> bool {
        let newest = self.queue.heard(Place::Table);
        let has_it = self.tables.base().is_some_and(|base| base.version.revision == newest);
        has_it && self.tables.in_force().is_some() && self.is_idle() && !self.state.is_ignoring()
    }

    /// Whether a table is in force.
    pub fn has_table(&self) -> bool {
        self.tables.in_force().is_some()
    }

    /// The node, once there is one.
    pub fn node(&self) -> Option<&Arc<Node>> {
        self.stage.node()
    }

    /// Whether the node drains.
    pub fn is_draining(&self) -> bool {
        self.node().is_some_and(|node| node.occupancy.draining() > Drain::Serving)
    }

    /// Whether this node tries a staged table.
    pub fn is_trying(&self) -> bool {
        self.tables.staged_until().is_some()
    }

    /// A place is empty now.
    pub fn taken_away(&mut self, place: Place) {
        self.queue.drop_wanted(place);
        if let Some(examination) = self.examination.as_mut().filter(|examination| examination.place == place) {
            examination.is_void = true;
        }
        match place {
            Place::Table => self.ignore(&Ignored::Deleted),
            Place::Rollout => {
                self.state.note("rollout", None);
                // Nobody goes back from a staged table to the one before for the moment that its promotion takes.
                let staged = self.tables.staged().map(|staged| staged.version.revision);
                let is_after = |staged: &u64| {
                    let is_examined = |one: &Examination| one.place == Place::Table && one.entry.revision > *staged;
                    self.examination.as_ref().is_some_and(is_examined) || self.queue.wants_after(*staged)
                };
                self.may_be_promoted = staged.filter(is_after);
                if self.may_be_promoted.is_none() {
                    self.put_back("the staged table was withdrawn");
                }
            }
        }
    }

    /// The table on the bus does not count.
    pub fn ignore(&mut self, why: &Ignored) {
        let why = why.to_string();
        if self.state.ignored(Some(why.clone())) {
            // Who has no table yet waits for one, and ignores nothing.
            if self.tables.base().is_some() {
                self.state.count("ignored");
            }
            if let Some(unsaid) = self.ignorance.may(|| why.clone()) {
                tracing::warn!(unsaid, "{why}");
            }
        }
        self.release();
    }

    /// Takes up what is wanted, unless something is under way.
    ///
    /// # Errors
    /// When the bus does not answer.
    pub async fn take_up(&mut self, bus: &Bus) -> Result<(), BusError> {
        while self.examination.is_none() && Instant::now() >= self.not_before && !self.stage.is_handing_over() {
            let Some((place, wanted)) = self.queue.take() else { break };
            let entry = match wanted {
                Wanted::Entry(entry) => *entry,
                Wanted::Revision { revision, bytes } if bytes > MAX_TABLE => {
                    let (created, unreadable) = (SystemTime::now(), Some(too_large(bytes)));
                    Entry { revision, created, publication: None, unreadable }
                }
                Wanted::Revision { revision, .. } => match bus.fetch(place, revision).await? {
                    Some(entry) => entry,
                    // A newer one has taken its place, and is told of next; or a replica lags, and is asked again.
                    None => {
                        self.queue.forget(place);
                        continue;
                    }
                },
            };
            self.weigh(place, entry);
        }
        Ok(())
    }

    /// Waits until there is something to do here.
    pub async fn event(&mut self) -> Event {
        let is_free = self.examination.is_none() && !self.stage.is_handing_over();
        let rested = (is_free && self.queue.has_wanted()).then_some(self.not_before);
        tokio::select! {
            result = finished(&mut self.examination) => {
                self.trial.survived();
                match self.examination.take() {
                    Some(examination) => Event::Examined(Box::new(Examined { examination, result })),
                    None => Event::Rested,
                }
            }
            node = self.stage.made() => Event::Made(node),
            () = rest(rested) => Event::Rested,
        }
    }

    /// Looks again at a table that nobody trusted stood for.
    pub fn trust_again(&mut self) {
        let Some((place, entry)) = self.untrusted.clone() else { return };
        if self.queue.heard(place) != entry.revision {
            self.untrusted = None;
            return;
        }
        let Some(publication) = &entry.publication else { return };
        let base = self.tables.base().cloned();
        let heartbeat = self.state.freshness.newest_heartbeat();
        let (here, at) = (&self.state.here, self.state.law.now());
        let (base, heartbeat, origin) = (base.as_deref(), heartbeat.as_ref(), Origin::Bus);
        let against = Against { source: &self.source, here, base, known: None, origin, heartbeat, at };
        if trust(place, &entry, publication, &against).is_ok() {
            self.untrusted = None;
            self.queue.want(place, Wanted::Entry(Box::new(entry)));
        }
    }

    /// Compares an entry with what is in force; what is new gets examined.
    fn weigh(&mut self, place: Place, entry: Entry) {
        if place == Place::Rollout {
            self.state.note("rollout", entry.unreadable.as_ref().map(|why| format!("the staged table: {why}")));
        }
        if let Some(why) = &entry.unreadable {
            // Of a staged table nobody knows whom it is for.
            if place == Place::Rollout {
                return self.put_back("another table was staged that cannot be read");
            }
            let problem = self.problem(place, entry.revision, why.clone());
            return self.refuse_unread(place, &entry, problem);
        }
        match self.tables.weigh(place, &entry, &self.state.node) {
            Next::Nothing => {
                if place == Place::Table {
                    self.confirm();
                }
            }
            Next::Ignore(Some(why)) => self.ignore(&why),
            // The staged table is for others, or over.
            Next::Ignore(None) => self.put_back("the staged table is no longer for this node"),
            Next::Refused(problems) => {
                self.state.count("quarantined");
                self.settle_refusal(place, &entry, &problems);
                tracing::debug!(revision = entry.revision, "refused before, and not looked at again");
            }
            Next::Examine => self.examine(place, entry, None),
        }
    }

    /// There is a node now.
    pub fn adopt(&mut self, node: Arc<Node>) {
        let revision = node.routing.load().revision;
        self.stage = Stage::Serving(node);
        // Another may have been accepted while the node was being made.
        if self.tables.in_force().is_some_and(|table| table.version.revision != revision) {
            self.put_in_force(false);
        }
    }

    /// Ends a staged table whose lease is over, and tells of what was not told.
    pub fn let_time_pass(&mut self) {
        if let Some((unsaid, last)) = self.refusals.rest() {
            tracing::error!(unsaid, last, "more routing tables were rejected than were told");
        }
        if let Some((unsaid, last)) = self.ignorance.rest() {
            tracing::warn!(unsaid, last, "more routing tables were ignored than were told");
        }
        if self.may_be_promoted.is_some() && self.is_idle() {
            let withdrawn = self.may_be_promoted.take();
            if self.tables.staged().map(|staged| staged.version.revision) == withdrawn {
                self.put_back("the staged table was withdrawn");
            }
        }
        if self.tables.staged_until().is_some_and(|until| until <= now()) {
            self.put_back("the staged table lapsed without a promotion");
        }
    }

    /// The process is told to go: it has not died of what is being examined.
    pub fn close(&mut self) {
        self.trial.survived();
    }

    fn set_aside(&self) {
        let until =
            self.tables.staged_until().map(|until| unix_seconds(SystemTime::now() + until.saturating_sub(now())));
        self.state.set_aside(self.tables.quarantined(), until);
    }

    fn problem(&self, place: Place, revision: u64, message: String) -> Problem {
        let file = name(place, revision, &self.source);
        Problem { severity: Severity::Error, file, line: 0, path: String::new(), message }
    }

    /// Under which name a refused table is in `/status`.
    fn source_name(&self) -> PathBuf {
        format!("bus:{}", self.source.access.bucket).into()
    }
}

/// Waits for the examination that is under way; for ever, if none is.
async fn finished(examination: &mut Option<Examination>) -> Result<Table, Refusal> {
    let Some(examination) = examination else { return std::future::pending().await };
    (&mut examination.task).await.unwrap_or_else(|panic| {
        let message = format!("examining this table made Meridian itself fail: please report it ({panic})");
        let severity = Severity::Error;
        Err(Refusal::Bad(vec![Problem { severity, file: "bus".to_owned(), line: 0, path: String::new(), message }]))
    })
}

async fn rest(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}

/// How often the snapshot is touched.
const TOUCH: Duration = Duration::from_secs(60);

/// Problems that are logged, and shown in `/status`.
const MAX_SHOWN: usize = 20;
