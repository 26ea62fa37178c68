//! Performs the machine's effects, and records each table's result in the log, the metrics and the node's status.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use config::bus::{Ignored, Origin, Place, Publication, Refused, TableVersion};
use config::{Problem, Severity};

use super::{MAX_SHOWN, TableController, TableEvent};
use crate::bus::examine::{Against, Offered, Refusal, Table, examine, examine_after};
use crate::bus::lifecycle::Startup;
use crate::bus::machine::{Effect, Event, Offer, Repetition, Warrant};
use crate::clock;
use crate::node::Node;

impl TableController {
    pub(super) fn perform(&mut self, effect: Effect<Arc<Offered>, Arc<Table>>) -> Option<TableEvent> {
        match effect {
            Effect::Examine { place, offer, missed } => return self.examine(place, &offer, missed),
            Effect::Accepted { place, offer, table } => self.accepted(place, &offer.publication, &table),
            Effect::Released(Warrant::Bus) => self.put_in_force(false),
            Effect::Released(Warrant::Snapshot) => {
                let revision = self.machine.base().map(|table| table.version.revision);
                self.state.freshness.silent_for(self.silent_for);
                self.state.count("snapshot_taken");
                tracing::warn!(revision, "started from the snapshot");
                self.put_in_force(true);
            }
            Effect::Confirmed => self.confirmed(),
            Effect::Ignored(why) => self.ignored(&why),
            Effect::Refused { place, version, publication, problems, repetition } => {
                let publication = publication.as_ref().map(|offered| &offered.publication);
                self.refused(place, &version, publication, &problems, repetition);
            }
            Effect::Returned { from, why } => self.returned(from, why),
            Effect::StagedUnreadable(why) => {
                self.state.note("rollout", why.map(|why| format!("the staged table: {why}")));
            }
        }
        None
    }

    /// Begins to examine a table on another thread; after those that were missed before it, if the comparison with the
    /// one in force alone has failed.
    fn examine(
        &mut self,
        place: Place,
        offer: &Offer<Arc<Offered>>,
        missed: Vec<Offer<Arc<Offered>>>,
    ) -> Option<TableEvent> {
        let offered = offer.publication.clone();
        let tables = self.machine.base().into_iter().chain(self.machine.staged().map(|(table, _)| table));
        let mut same = tables.filter(|table| table.publication.text == offered.publication.text);
        let known = same.next().map(|table| table.document.clone());
        if known.is_none() && self.guard.is_blocked(&offer.fingerprint) {
            let why = "this node crashed more than once while it examined this table: report it; publish another";
            let problem = self.problem(place, offered.revision, why.to_owned());
            return Some(Event::Examined(Err(Refusal::Bad(vec![problem]))));
        }
        let (source, here, base) = (self.source.clone(), self.state.here.clone(), self.machine.base().cloned());
        let (guard, fingerprint) = (self.guard.clone(), offer.fingerprint.clone());
        let (heartbeat, at) = (self.state.freshness.newest_heartbeat(), self.state.law.now());
        self.examination = Some(tokio::task::spawn_blocking(move || {
            guard.begin(&fingerprint);
            match &base {
                Some(base) if !missed.is_empty() => {
                    let missed: Vec<_> = missed.into_iter().map(|offer| offer.publication).collect();
                    examine_after(&missed, &offered, &source, &here, base, at)
                }
                _ => {
                    let (base, heartbeat, origin) = (base.as_deref(), heartbeat.as_ref(), Origin::Bus);
                    let against = Against { source: &source, here: &here, base, known, origin, heartbeat, at };
                    examine(place, &offered, against)
                }
            }
        }));
        None
    }

    fn accepted(&mut self, place: Place, offered: &Offered, table: &Arc<Table>) {
        for warning in table.document.warnings.iter().take(MAX_SHOWN) {
            tracing::warn!("{warning}");
        }
        self.state.clear_refusal(place);
        self.state.count(if place == Place::Table { "applied" } else { "staged" });
        if place == Place::Table {
            // Before the table shows in the status: notes on the one before no longer apply.
            self.state.clear_refusals_before(&table.version);
            self.state.ignored(None);
            self.state.note("snapshot", None);
            // Before the snapshot is touched: the file of the table before must not look fresh.
            self.snapshots.write(table, self.state.freshness.newest_heartbeat());
        }
        self.put_in_force(false);
        let took = offered.created.elapsed().unwrap_or_default();
        let TableVersion { epoch, revision, .. } = table.version;
        let (version, by) = (table.document.table.spec().version.as_str(), table.publication.by.as_str());
        let staged = place == Place::Rollout;
        tracing::info!(version, revision, epoch, staged, by, since_published = ?took, "routing table applied");
    }

    /// Records that the bus has confirmed the table in force.
    fn confirmed(&mut self) {
        self.state.confirmed();
        self.state.freshness.confirmed();
        if self.touched.is_none_or(|touched| touched.elapsed() > TOUCH) {
            self.touched = Some(clock::now());
            self.snapshots.touch();
        }
    }

    fn ignored(&mut self, why: &Ignored) {
        let why = why.to_string();
        if self.state.ignored(Some(why.clone())) {
            // A node without a table waits for its first, and does not count what it ignores.
            if self.machine.base().is_some() {
                self.state.count("ignored");
            }
            if let Some(unsaid) = self.ignored.may(|| why.clone()) {
                tracing::warn!(unsaid, "{why}");
            }
        }
    }

    fn refused(
        &mut self,
        place: Place,
        version: &TableVersion,
        publication: Option<&Publication>,
        problems: &[Problem],
        repetition: Repetition,
    ) {
        if place == Place::Table {
            self.state.ignored(None);
            // The bus no longer confirms the table in force, which ages from now on.
            self.note_newer(version, publication);
        }
        let TableVersion { epoch, revision, .. } = *version;
        let at = clock::unix_seconds();
        self.state.refused(place, Refused { epoch, revision, sha256: version.sha256.clone(), at }, problems);
        let source = self.source_name();
        if let Some(node) = self.startup.node() {
            node.reloads.reject(source, problems.iter().take(MAX_SHOWN).cloned().collect());
        }
        if repetition == Repetition::Again {
            self.state.count("quarantined");
            return tracing::debug!(revision, "refused before, and not examined again");
        }
        self.state.count("rejected");
        if let Some(node) = self.startup.node() {
            node.telemetry.metrics.table_reloads.with_label_values(&["rejected"]).inc();
        }
        let first = || problems.first().map(ToString::to_string).unwrap_or_default();
        if let Some(unsaid) = self.refusals.may(|| format!("revision {revision}: {}", first())) {
            let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
            let has_table = self.machine.in_force().is_some();
            let then = if has_table { "the one before stays in force" } else { "there is none yet" };
            tracing::error!(revision, errors, unsaid, "routing table rejected; {then}");
            problems.iter().take(MAX_SHOWN).for_each(|problem| tracing::error!("{problem}"));
        }
    }

    fn returned(&mut self, from: Option<Arc<Table>>, why: &str) {
        self.state.clear_refusal(Place::Rollout);
        if let Some(staged) = from {
            self.state.count("returned");
            let (revision, by) = (staged.version.revision, staged.publication.by.as_str());
            tracing::info!(revision, by, "{why}: back to the table of all nodes");
            self.put_in_force(false);
        }
    }

    /// Puts the machine's table in force.
    fn put_in_force(&mut self, from_snapshot: bool) {
        let Some(table) = self.machine.in_force().cloned() else { return };
        self.state.took(&table.publication, &table.version, &table.document.table.spec().version, from_snapshot);
        let source = self.source_name();
        // A staged table has a lease of its own: freshness is that of the table of all nodes below it.
        let below = self.machine.base().unwrap_or(&table);
        let (freshness, valid_until_ms) = (&self.state.freshness, below.publication.valid_until_ms);
        freshness.around(&below.version, valid_until_ms, || self.startup.put(&table, &source));
    }

    /// Takes over the node, once it is made.
    pub(super) fn adopt(&mut self, node: Arc<Node>) {
        let revision = node.routing.load().revision;
        self.startup = Startup::Serving(node);
        // Another table may have come in force while the node was being made.
        if self.machine.in_force().is_some_and(|table| table.version.revision != revision) {
            self.put_in_force(false);
        }
    }

    /// Returns the bus's name in `/status`.
    fn source_name(&self) -> PathBuf {
        format!("bus:{}", self.source.access.bucket).into()
    }
}

/// How often the snapshot is touched: its time is compared with `max_age`, which is in hours.
const TOUCH: Duration = Duration::from_secs(60);
