//! What becomes of a table that was looked at: it goes in force, or is refused; or another before it comes back.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use config::bus::{Bus, BusError, Entry, Origin, Place, Publication, Refused};
use config::{Problem, Severity};

use super::super::examine::{Against, Refusal, examine, examine_after};
use super::super::tables::Table;
use super::{Desk, Examination, Examined, MAX_SHOWN};
use crate::node::unix_seconds;
use crate::routing::now;

impl Desk {
    /// Begins to examine a table, beside everything else; with those that were missed before it, if the
    /// comparison with the one in force alone was not fair.
    pub(super) fn examine(&mut self, place: Place, entry: Entry, missed: Option<Vec<Entry>>) {
        let Some(publication) = entry.publication.clone() else { return };
        let known = self.tables.with_text(&publication.text).cloned();
        let fingerprint = publication.fingerprint();
        if known.is_none() && self.trial.is_deadly(&fingerprint) {
            let why = "this node died more than once while it examined this table: report it; publish another";
            let problem = self.problem(place, entry.revision, why.to_owned());
            return self.refuse(place, &entry, &[problem], Duration::ZERO);
        }
        let (source, here, base) = (self.source.clone(), self.state.here.clone(), self.tables.base().cloned());
        let (examined, trial, with_missed) = (entry.clone(), self.trial.clone(), missed.is_some());
        let heartbeat = self.state.freshness.newest_heartbeat();
        let at = self.state.law.now();
        let task = tokio::task::spawn_blocking(move || {
            trial.begin(&fingerprint);
            match (missed, &base) {
                (Some(missed), Some(base)) => examine_after(&missed, &examined, &source, &here, base, at),
                _ => {
                    let (base, heartbeat, origin) = (base.as_deref(), heartbeat.as_ref(), Origin::Bus);
                    let against = Against { source: &source, here: &here, base, known, origin, heartbeat, at };
                    examine(place, &examined, &publication, against)
                }
            }
        });
        let started = Instant::now();
        self.examination = Some(Examination { place, entry, with_missed, is_void: false, started, task });
    }

    /// The examination is over: the table goes in force, or is refused. Without a bus, what can only be
    /// found out there waits for the next connection.
    ///
    /// # Errors
    /// When the bus does not answer.
    pub async fn judge(&mut self, bus: Option<&Bus>, examined: Examined) -> Result<(), BusError> {
        let Examined { examination, result } = examined;
        let Examination { place, entry, with_missed, is_void, started, .. } = examination;
        if is_void {
            return Ok(());
        }
        match result {
            Ok(table) => self.accept(place, &entry, &Arc::new(table)),
            Err(Refusal::Shrinks(problems)) if place == Place::Table && !with_missed => {
                // Everything that is there is looked at anew then.
                let Some(bus) = bus else { return Ok(()) };
                // In another epoch revisions have started over.
                let epoch = entry.publication.as_ref().map(|publication| publication.epoch);
                let base = self.tables.base().filter(|base| Some(base.version.epoch) == epoch);
                let since = base.map_or(0, |base| base.version.revision);
                let missed = bus.between(since, entry.revision, MAX_MISSED).await?;
                if missed.iter().any(|entry| entry.publication.is_some()) {
                    self.examine(place, entry, Some(missed));
                } else {
                    self.refuse(place, &entry, &problems, started.elapsed());
                }
            }
            Err(Refusal::Untrusted(problems)) => {
                self.refuse_for_now(place, &entry, &problems);
                self.untrusted = Some((place, entry));
            }
            Err(refusal) => self.refuse(place, &entry, &refusal.problems(), started.elapsed()),
        }
        Ok(())
    }

    pub(super) fn accept(&mut self, place: Place, entry: &Entry, table: &Arc<Table>) {
        for warning in table.document.warnings.iter().take(MAX_SHOWN) {
            tracing::warn!("{warning}");
        }
        self.state.forgive(place);
        self.tables.accept(place, entry, table.clone(), now());
        self.state.count(if place == Place::Table { "applied" } else { "staged" });
        if place == Place::Table {
            // Before anybody sees the table: what is said of the one before is over.
            self.state.forgive_before(&table.version);
            self.state.ignored(None);
            self.state.note("snapshot", None);
            // First the table: until it is written, the file before it must not look fresh.
            self.keeper.keep(table, self.state.freshness.newest_heartbeat());
        }
        self.put_in_force(false);
        if place == Place::Table {
            self.heard_from();
        }
        let took = entry.created.elapsed().unwrap_or_default();
        let config::bus::TableVersion { epoch, revision, .. } = table.version;
        let (version, by) = (table.document.table.spec().version.as_str(), table.publication.by.as_str());
        let staged = place == Place::Rollout;
        tracing::info!(version, revision, epoch, staged, by, since_published = ?took, "routing table applied");
    }

    /// Puts in force whichever table counts now.
    pub(super) fn put_in_force(&mut self, from_snapshot: bool) {
        let Some(table) = self.tables.in_force().cloned() else { return };
        self.state.took(&table.publication, &table.version, &table.document.table.spec().version, from_snapshot);
        self.set_aside();
        let source = self.source_name();
        // A staged table has a lease of its own; the one below it is what all others are compared with.
        let below = self.tables.base().unwrap_or(&table);
        let (freshness, valid_until_ms) = (&self.state.freshness, below.publication.valid_until_ms);
        freshness.around(&below.version, valid_until_ms, || self.stage.put(&table, &source));
    }

    /// Back from a staged table, if there was one, to the table of all.
    pub(super) fn put_back(&mut self, why: &str) {
        self.state.forgive(Place::Rollout);
        let staged = self.tables.in_force().cloned();
        if self.tables.withdraw() {
            self.state.count("returned");
            let (revision, by) =
                staged.map(|table| (table.version.revision, table.publication.by.clone())).unwrap_or_default();
            tracing::info!(revision, by, "{why}: back to the table of all nodes");
            self.put_in_force(false);
        }
    }

    pub(super) fn refuse(&mut self, place: Place, entry: &Entry, problems: &[Problem], took: Duration) {
        if let Some(publication) = &entry.publication {
            self.tables.refuse(publication, problems.to_vec());
        }
        self.not_before = Instant::now() + (took * 4).min(LONGEST_REST);
        self.refuse_for_now(place, entry, problems);
    }

    /// Refuses without remembering it.
    pub(super) fn refuse_for_now(&mut self, place: Place, entry: &Entry, problems: &[Problem]) {
        self.state.count("rejected");
        if let Some(node) = self.stage.node() {
            node.telemetry.metrics.table_reloads.with_label_values(&["rejected"]).inc();
        }
        self.settle_refusal(place, entry, problems);
        let first = || problems.first().map(ToString::to_string).unwrap_or_default();
        if let Some(unsaid) = self.refusals.may(|| format!("revision {}: {}", entry.revision, first())) {
            let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
            let (revision, has_table) = (entry.revision, self.has_table());
            let then = if has_table { "the one before stays in force" } else { "there is none yet" };
            tracing::error!(revision, errors, unsaid, "routing table rejected; {then}");
            problems.iter().take(MAX_SHOWN).for_each(|problem| tracing::error!("{problem}"));
        }
    }

    /// A table that cannot even be read: there is nothing of it to remember but its number.
    pub(super) fn refuse_unread(&mut self, place: Place, entry: &Entry, problem: Problem) {
        let last = self.unread.get_mut(place as usize).map(|last| std::mem::replace(last, entry.revision));
        if last == Some(entry.revision) {
            self.state.count("quarantined");
            return self.settle_refusal(place, entry, &[problem]);
        }
        self.refuse_for_now(place, entry, &[problem]);
    }

    /// What follows from a refusal, new or old.
    pub(super) fn settle_refusal(&mut self, place: Place, entry: &Entry, problems: &[Problem]) {
        match place {
            Place::Table => {
                self.release();
                self.state.ignored(None);
                // No sign of life: the table in force ages from now on.
                self.note_newer(entry);
            }
            // It has taken the place of the one before it.
            Place::Rollout => self.put_back("another table was staged, and refused"),
        }
        self.state.refused(place, refused(entry), problems);
        self.set_aside();
        if let Some(node) = self.stage.node() {
            node.reloads.reject(self.source_name(), problems.iter().take(MAX_SHOWN).cloned().collect());
        }
    }
}

fn refused(entry: &Entry) -> Refused {
    let publication = entry.publication.as_ref();
    Refused {
        epoch: publication.map_or(0, |publication| publication.epoch),
        revision: entry.revision,
        sha256: publication.map(Publication::sha256).unwrap_or_default(),
        at: unix_seconds(SystemTime::now()),
    }
}

/// The longest rest after a table was refused: less than a publisher waits.
const LONGEST_REST: Duration = Duration::from_secs(15);

/// Missed tables that are looked at before the newest.
const MAX_MISSED: usize = 16;
