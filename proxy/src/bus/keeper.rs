//! Keeps the last good table on disk, on a thread of its own: a disk that hangs holds up nothing else.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use arc_swap::ArcSwapOption;
use config::bus::{Heartbeat, Snapshot};

use super::status::BusState;
use super::tables::Table;

/// What is kept.
struct Kept {
    table: Arc<Table>,
    /// The newest heartbeat that was heard with it.
    heartbeat: Option<Heartbeat>,
}

/// Where tables to be kept are handed in. Without a snapshot nothing is kept.
pub struct Keeper(Option<Hatch>);

struct Hatch {
    /// The last good table, if it is not yet on disk.
    newest: Arc<ArcSwapOption<Kept>>,
    /// Says that there is something to do; one word of it is enough, however slow the disk is.
    bell: SyncSender<()>,
}

impl Keeper {
    /// Keeps tables in this file.
    pub fn start(file: Option<&PathBuf>, state: &Arc<BusState>) -> Self {
        let Some(file) = file.cloned() else { return Self(None) };
        let (bell, rings) = sync_channel(1);
        let newest = Arc::<ArcSwapOption<Kept>>::default();
        let (mut shelf, tables) = (Shelf { file, state: state.clone(), unwritten: None }, newest.clone());
        let keep = move || {
            while rings.recv().is_ok() {
                shelf.see_to(tables.swap(None));
            }
        };
        let thread = std::thread::Builder::new().name("snapshot".into()).spawn(keep);
        Self(thread.is_ok().then_some(Hatch { newest, bell }))
    }

    /// Writes this table, and the newest heartbeat, unless another comes first.
    pub fn keep(&self, table: &Arc<Table>, heartbeat: Option<Heartbeat>) {
        if let Some(hatch) = &self.0 {
            hatch.newest.store(Some(Arc::new(Kept { table: table.clone(), heartbeat })));
        }
        self.touch();
    }

    /// Notes that the bus was heard from just now.
    pub fn touch(&self) {
        if let Some(hatch) = &self.0 {
            // A bell that rings already is heard.
            let _ = hatch.bell.try_send(());
        }
    }
}

/// The file, and what should be in it.
struct Shelf {
    file: PathBuf,
    state: Arc<BusState>,
    /// What could not be written: to touch the file with the table before it would make that look fresh.
    unwritten: Option<Arc<Kept>>,
}

impl Shelf {
    /// Writes this table, or one that could not be written before; else notes that the bus was heard from.
    fn see_to(&mut self, newest: Option<Arc<Kept>>) {
        let file = &self.file;
        let Some(kept) = newest.or_else(|| self.unwritten.take()) else {
            // Without a file there is nothing to touch, and that was told when it was to be written.
            let _ = Snapshot::touch(file);
            return;
        };
        let Kept { table, heartbeat } = &*kept;
        let written = Snapshot::write(file, &table.publication, &table.version, heartbeat.as_ref());
        let failed = written.err().map(|error| {
            self.state.count("snapshot_failed");
            format!("the snapshot {} cannot be written: {error}; a start without the bus would fail", file.display())
        });
        self.unwritten = failed.is_some().then_some(kept);
        if self.state.note("snapshot", failed.clone()) {
            tracing::error!("{}", failed.unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use config::RoutingTable;
    use config::bus::{Publication, TableVersion};

    use super::*;

    #[test]
    fn what_cannot_be_written_is_written_as_soon_as_it_can() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("later/last-good.toml");
        let text = "version = '1'\n[regions.a]\ncountry = 'DE'\nendpoints = ['10.0.0.1:80']\n[[routes]]\nname = 'r'\n";
        let publication = Publication::new(text, 1, 0, "me");
        let document = RoutingTable::from_afar("bus", &publication.text, crate::clock::wall()).unwrap();
        let version = TableVersion::of(&publication, 10);
        let state = BusState::sample(directory.path());
        let mut shelf = Shelf { file: file.clone(), state: state.clone(), unwritten: None };
        let failures = || state.metrics.bus_events.with_label_values(&["snapshot_failed"]).get();

        let table = Arc::new(Table { publication, document, version });
        shelf.see_to(Some(Arc::new(Kept { table, heartbeat: None })));
        assert_eq!((failures(), state.status().notes.len()), (1, 1));
        std::fs::create_dir(directory.path().join("later")).unwrap();
        shelf.see_to(None);
        assert_eq!(Snapshot::load(&file).unwrap().revision, 10);
        assert_eq!((failures(), state.status().notes.len()), (1, 0));
        shelf.see_to(None);
        assert!(shelf.unwritten.is_none());
    }
}
