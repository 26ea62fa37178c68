//! What the bus's thread has on disk: the last good table, and a note of what is being examined. Each is written by a
//! thread of its own, so that a disk that hangs holds up nothing else.

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

/// A channel that keeps the newest only.
struct Channel {
    /// The last good table, if it is not yet on disk.
    newest: Arc<ArcSwapOption<Pending>>,
    /// Wakes the thread: one message is enough, however slow the disk is.
    wake: SyncSender<()>,
    /// Is disconnected once the thread has ended.
    ended: Receiver<()>,
}

/// What is to be written.
struct Pending {
    table: Arc<Table>,
    /// The newest heartbeat that was heard with it.
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

    /// Writes this table, and the newest heartbeat, unless another comes first.
    pub(super) fn write(&self, table: &Arc<Table>, heartbeat: Option<Heartbeat>) {
        if let Some(channel) = &self.0 {
            channel.newest.store(Some(Arc::new(Pending { table: table.clone(), heartbeat })));
        }
        self.touch();
    }

    /// Notes that the bus was heard from just now.
    pub(super) fn touch(&self) {
        if let Some(channel) = &self.0 {
            // A thread that was woken already will look.
            let _ = channel.wake.try_send(());
        }
    }

    /// Waits until what was to be written is on disk, though not for a disk that hangs. Nothing is written after that.
    pub(super) fn close(&mut self) {
        if let Some(Channel { wake, ended, .. }) = self.0.take() {
            drop(wake);
            let _ = ended.recv_timeout(PATIENCE);
        }
    }
}

/// The file, and what should be in it. Lives on the thread that writes it.
struct Disk {
    file: PathBuf,
    state: Arc<BusState>,
    /// What could not be written: to touch the file with the table before it would make that look fresh.
    unwritten: Option<Arc<Pending>>,
}

impl Disk {
    /// Writes this table, or one that could not be written before; else notes that the bus was heard from.
    fn update(&mut self, newest: Option<Arc<Pending>>) {
        let file = &self.file;
        let Some(pending) = newest.or_else(|| self.unwritten.take()) else {
            // Without a file there is nothing to touch, and that was told when it was to be written.
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

/// Keeps a table that kills from holding the node in a loop of deaths: a publication that processes have died of while
/// they examined it is not examined again. A note of what is being examined lies beside the snapshot; without one nothing
/// is guarded. Lives as long as the process.
#[derive(Clone, Debug)]
pub(super) struct CrashLoopGuard {
    /// To the thread that writes the note.
    notes: Option<SyncSender<Write>>,
    /// What the process before this one died of, and how often.
    died_of: Option<Note>,
}

/// What is to lie on disk, a note or nothing; and whom to tell once it does.
struct Write(Option<Note>, Sender<()>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    fingerprint: String,
    times: u32,
    /// Unix seconds.
    #[serde(default)]
    at: u64,
}

impl CrashLoopGuard {
    /// Reads what a process before this one has left, if that is not long ago.
    pub(super) fn new(snapshot: Option<&PathBuf>) -> Self {
        let file = snapshot.map(|snapshot| {
            let mut name = snapshot.as_os_str().to_owned();
            name.push(".trying");
            PathBuf::from(name)
        });
        let read = file.as_ref().and_then(|file| fs::read(file).ok());
        let note = read.and_then(|text| serde_json::from_slice::<Note>(&text).ok());
        let is_recent = |note: &Note| clock::unix_seconds().saturating_sub(note.at) < FORGOTTEN;
        Self { died_of: note.filter(is_recent), notes: file.and_then(start_notes) }
    }

    /// Returns whether processes have died of this publication too often.
    pub(super) fn is_deadly(&self, fingerprint: &str) -> bool {
        self.deaths(fingerprint) >= DEADLY
    }

    /// Notes that a publication is about to be examined, and waits for the disk, though not for one that hangs.
    pub(super) fn begin(&self, fingerprint: &str) {
        let note = Note {
            fingerprint: fingerprint.to_owned(),
            times: self.deaths(fingerprint) + 1,
            at: clock::unix_seconds(),
        };
        self.note(Some(note));
    }

    /// The examination is over, and the process lives.
    pub(super) fn survived(&mut self) {
        self.died_of = None;
        self.note(None);
    }

    fn note(&self, note: Option<Note>) {
        let Some(notes) = &self.notes else { return };
        let (written, done) = channel();
        // A channel that takes no more is that of a disk that hangs.
        if notes.try_send(Write(note, written)).is_ok() {
            // What is not there in time is not waited for.
            let _ = done.recv_timeout(PATIENCE);
        }
    }

    fn deaths(&self, fingerprint: &str) -> u32 {
        self.died_of.as_ref().filter(|note| note.fingerprint == fingerprint).map_or(0, |note| note.times)
    }
}

/// Starts the thread that writes notes.
fn start_notes(file: PathBuf) -> Option<SyncSender<Write>> {
    let (sender, writes) = sync_channel::<Write>(1);
    let work = move || {
        for Write(note, done) in &writes {
            let written = match note.and_then(|note| serde_json::to_vec(&note).ok()) {
                Some(text) => fs::write(&file, text),
                // It may never have been written.
                None => fs::remove_file(&file).or(Ok(())),
            };
            if let Err(error) = written {
                tracing::debug!(%error, "cannot note beside the snapshot what is examined");
            }
            // Who asked may have gone on.
            let _ = done.send(());
        }
    };
    supervise::thread("crash-loop", Need::Useful, work).ok().map(|()| sender)
}

/// Seconds after which a death is forgotten: it may have been the machine's.
const FORGOTTEN: u64 = 3600;

/// Deaths after which a publication is refused unread: one may be somebody's kill at a bad moment.
const DEADLY: u32 = 2;

/// How long an examination waits for its note to be on disk, and the end of the process for its last table: a disk that
/// hangs must hold up neither.
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
    fn the_second_death_of_one_table_is_the_last() {
        let directory = tempfile::tempdir().unwrap();
        let snapshot = directory.path().join("last-good.toml");
        let start = || CrashLoopGuard::new(Some(&snapshot));
        for deaths in 0..DEADLY {
            let guard = start();
            assert!(!guard.is_deadly("bad"), "{deaths}");
            guard.begin("bad");
        }
        let mut guard = start();
        assert!(guard.is_deadly("bad") && !guard.is_deadly("good"));
        guard.begin("good");
        guard.survived();
        assert!(!start().is_deadly("bad"));
        fs::write(directory.path().join("last-good.toml.trying"), "garbage").unwrap();
        assert!(!start().is_deadly("bad"));
        CrashLoopGuard::new(None).begin("x");
    }
}
