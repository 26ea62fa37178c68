//! Writes the last good table, and a note of what is being examined, each on a thread of its own, so that a disk that
//! hangs blocks nothing else.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use config::bus::{Heartbeat, Snapshot};
use serde::{Deserialize, Serialize};

use super::examine::Table;
use crate::bus_state::BusState;
use crate::clock;
use crate::supervise::{self, Need};

/// The sending end of the channel to the thread that writes snapshots. Without a snapshot nothing is written. Lives as
/// long as the process, on the bus's thread.
pub(super) struct SnapshotWriter(Option<Channel>);

/// A channel that keeps only the newest value.
struct Channel {
    /// The last good table, if it is not yet on disk.
    newest: Arc<ArcSwapOption<Pending>>,
    /// Wakes the thread: one message is enough, however slow the disk is.
    wake: SyncSender<()>,
    /// Disconnects once the thread has ended.
    ended: Receiver<()>,
}

/// What is to be written.
struct Pending {
    table: Arc<Table>,
    /// The newest heartbeat.
    heartbeat: Option<Heartbeat>,
}

impl SnapshotWriter {
    /// Starts the thread that writes this file.
    pub(super) fn start(file: Option<&PathBuf>, state: &Arc<BusState>) -> Self {
        let Some(file) = file.cloned() else { return Self(None) };
        let (wake, woken) = sync_channel(1);
        let (ends, ended) = channel();
        let newest = Arc::<ArcSwapOption<Pending>>::default();
        let (mut disk, tables) = (Disk { file, state: state.clone(), unwritten: None }, newest.clone());
        let work = move || {
            let _ends: &Sender<()> = &ends;
            while woken.recv().is_ok() {
                disk.update(tables.swap(None));
            }
        };
        let thread = supervise::thread("snapshot", Need::Useful, work)
            .inspect_err(|error| tracing::error!(%error, "no snapshot is written: its thread cannot be started"));
        Self(thread.is_ok().then_some(Channel { newest, wake, ended }))
    }

    /// Queues this table and the newest heartbeat in place of those not yet written.
    pub(super) fn write(&self, table: &Arc<Table>, heartbeat: Option<Heartbeat>) {
        if let Some(channel) = &self.0 {
            channel.newest.store(Some(Arc::new(Pending { table: table.clone(), heartbeat })));
        }
        self.touch();
    }

    /// Has the file's time set to now: the bus has just answered.
    pub(super) fn touch(&self) {
        if let Some(channel) = &self.0 {
            // A full channel has woken the thread already.
            let _ = channel.wake.try_send(());
        }
    }

    /// Waits until the queued table is on disk, for [`PATIENCE`] at most. Nothing is written after that.
    pub(super) fn close(&mut self) {
        if let Some(Channel { wake, ended, .. }) = self.0.take() {
            drop(wake);
            let _ = ended.recv_timeout(PATIENCE);
        }
    }
}

/// The snapshot's file, and what should be in it. Lives as long as the process, on the thread that writes it.
struct Disk {
    file: PathBuf,
    state: Arc<BusState>,
    /// What could not be written: touching the file would make the table before it look fresh.
    unwritten: Option<Arc<Pending>>,
}

impl Disk {
    /// Writes this table, or one that could not be written before; without either, sets the file's time to now.
    fn update(&mut self, newest: Option<Arc<Pending>>) {
        let file = &self.file;
        let Some(pending) = newest.or_else(|| self.unwritten.take()) else {
            // The lack of a file was reported when it was to be written.
            let _ = Snapshot::touch(file);
            return;
        };
        let Pending { table, heartbeat } = &*pending;
        let written = Snapshot::write(file, &table.publication, &table.version, heartbeat.as_ref());
        let failed = written.err().map(|error| {
            self.state.count("snapshot_failed");
            format!("the snapshot {} cannot be written: {error}; a start without the bus would fail", file.display())
        });
        self.unwritten = failed.is_some().then_some(pending);
        if self.state.note("snapshot", failed.clone()) {
            tracing::error!("{}", failed.unwrap_or_default());
        }
    }
}

/// Prevents crash loops: a publication on whose examination processes have crashed is not examined again. A note of
/// what is being examined lies beside the snapshot; without a snapshot there is no guard. Lives as long as the process,
/// on the bus's thread.
#[derive(Clone, Debug)]
pub(super) struct CrashLoopGuard {
    /// The channel to the thread that writes the note.
    notes: Option<SyncSender<Write>>,
    /// The publication on which the process before this one crashed, and how often.
    crashed_on: Option<Note>,
}

/// A note to write, or to delete if `None`, and the sender to notify when that is done.
struct Write(Option<Note>, Sender<()>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    fingerprint: String,
    times: u32,
    /// When the examination began, in Unix seconds.
    #[serde(default)]
    at: u64,
}

impl CrashLoopGuard {
    /// Reads the note that the process before this one has left, unless it is too old.
    pub(super) fn new(snapshot: Option<&PathBuf>) -> Self {
        let file = snapshot.map(|snapshot| {
            let mut name = snapshot.as_os_str().to_owned();
            name.push(".trying");
            PathBuf::from(name)
        });
        let read = file.as_ref().and_then(|file| fs::read(file).ok());
        let note = read.and_then(|text| serde_json::from_slice::<Note>(&text).ok());
        let is_recent = |note: &Note| clock::unix_seconds().saturating_sub(note.at) < CRASH_EXPIRY_SECONDS;
        Self { crashed_on: note.filter(is_recent), notes: file.and_then(start_notes) }
    }

    /// Returns whether processes have crashed on this publication too often.
    pub(super) fn is_blocked(&self, fingerprint: &str) -> bool {
        self.crashes(fingerprint) >= MOST_CRASHES
    }

    /// Writes the note of an examination, and waits until it is on disk, for [`PATIENCE`] at most.
    pub(super) fn begin(&self, fingerprint: &str) {
        let note = Note {
            fingerprint: fingerprint.to_owned(),
            times: self.crashes(fingerprint) + 1,
            at: clock::unix_seconds(),
        };
        self.note(Some(note));
    }

    /// Deletes the note: the examination is over, and the process has not crashed.
    pub(super) fn finish(&mut self) {
        self.crashed_on = None;
        self.note(None);
    }

    fn note(&self, note: Option<Note>) {
        let Some(notes) = &self.notes else { return };
        let (written, done) = channel();
        // A full channel is that of a disk that hangs.
        if notes.try_send(Write(note, written)).is_ok() {
            // After that the examination goes on without the note.
            let _ = done.recv_timeout(PATIENCE);
        }
    }

    fn crashes(&self, fingerprint: &str) -> u32 {
        self.crashed_on.as_ref().filter(|note| note.fingerprint == fingerprint).map_or(0, |note| note.times)
    }
}

/// Starts the thread that writes notes.
fn start_notes(file: PathBuf) -> Option<SyncSender<Write>> {
    let (sender, writes) = sync_channel::<Write>(1);
    let work = move || {
        for Write(note, done) in &writes {
            let written = match note.and_then(|note| serde_json::to_vec(&note).ok()) {
                Some(text) => fs::write(&file, text),
                // The file may never have been written.
                None => fs::remove_file(&file).or(Ok(())),
            };
            if let Err(error) = written {
                tracing::debug!(%error, "cannot note beside the snapshot what is examined");
            }
            // The receiver may have stopped waiting.
            let _ = done.send(());
        }
    };
    supervise::thread("crash-loop", Need::Useful, work).ok().map(|()| sender)
}

/// After how many seconds a crash no longer counts: the machine may have been at fault.
const CRASH_EXPIRY_SECONDS: u64 = 3600;

/// The crashes after which a publication is refused without examination: a single one may be a kill at a bad moment.
const MOST_CRASHES: u32 = 2;

/// How long an examination waits for its note to be on disk, and the end of the process for its last table: a disk that
/// hangs must block neither.
const PATIENCE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use config::RoutingTable;
    use config::bus::{Publication, TableVersion};

    use super::*;

    fn table(revision: u64) -> Arc<Table> {
        let text = "version = '1'\n[regions.a]\ncountry = 'DE'\nendpoints = ['10.0.0.1:80']\n[[routes]]\nname = 'r'\n";
        let publication = Publication::new(text, 1, 0, "me");
        let document = RoutingTable::from_afar("bus", &publication.text, crate::clock::wall()).unwrap();
        let version = TableVersion::of(&publication, revision);
        Arc::new(Table { publication, document, version })
    }

    #[test]
    fn what_cannot_be_written_is_written_as_soon_as_it_can() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("later/last-good.toml");
        let state = BusState::sample(directory.path());
        let mut disk = Disk { file: file.clone(), state: state.clone(), unwritten: None };
        let failures = || state.metrics.bus_events.with_label_values(&["snapshot_failed"]).get();

        let table = table(10);
        disk.update(Some(Arc::new(Pending { table, heartbeat: None })));
        assert_eq!((failures(), state.status().notes.len()), (1, 1));
        std::fs::create_dir(directory.path().join("later")).unwrap();
        disk.update(None);
        assert_eq!(Snapshot::load(&file).unwrap().revision, 10);
        assert_eq!((failures(), state.status().notes.len()), (1, 0));
        disk.update(None);
        assert!(disk.unwritten.is_none());
    }

    #[test]
    fn what_is_to_be_written_is_on_disk_when_the_process_ends() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("last-good.toml");
        let mut writer = SnapshotWriter::start(Some(&file), &BusState::sample(directory.path()));
        for revision in 1..=20 {
            writer.write(&table(revision), None);
        }
        writer.close();
        assert_eq!(Snapshot::load(&file).unwrap().revision, 20);
        writer.close();
        SnapshotWriter::start(None, &BusState::sample(directory.path())).close();
    }

    #[test]
    fn the_second_crash_on_one_table_is_the_last() {
        let directory = tempfile::tempdir().unwrap();
        let snapshot = directory.path().join("last-good.toml");
        let start = || CrashLoopGuard::new(Some(&snapshot));
        for crashes in 0..MOST_CRASHES {
            let guard = start();
            assert!(!guard.is_blocked("bad"), "{crashes}");
            guard.begin("bad");
        }
        let mut guard = start();
        assert!(guard.is_blocked("bad") && !guard.is_blocked("good"));
        guard.begin("good");
        guard.finish();
        assert!(!start().is_blocked("bad"));
        fs::write(directory.path().join("last-good.toml.trying"), "garbage").unwrap();
        assert!(!start().is_blocked("bad"));
        CrashLoopGuard::new(None).begin("x");
    }
}
