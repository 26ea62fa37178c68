//! Keeps the last good table on disk, on a thread of its own: a disk that hangs holds up nothing else.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use arc_swap::ArcSwapOption;
use config::bus::Snapshot;

use super::status::BusState;
use super::tables::Table;

/// Where tables to be kept are handed in. Without a snapshot nothing is kept.
pub struct Keeper(Option<Hatch>);

struct Hatch {
    /// The last good table, if it is not yet on disk.
    newest: Arc<ArcSwapOption<Table>>,
    /// Says that there is something to do; one word of it is enough, however slow the disk is.
    bell: SyncSender<()>,
}

impl Keeper {
    /// Keeps tables in this file.
    pub fn start(file: Option<&PathBuf>, state: &Arc<BusState>) -> Self {
        let Some(file) = file.cloned() else { return Self(None) };
        let (bell, rings) = sync_channel(1);
        let newest = Arc::<ArcSwapOption<Table>>::default();
        let (state, tables) = (state.clone(), newest.clone());
        let keep = move || work(&file, &state, &tables, &rings);
        let thread = std::thread::Builder::new().name("snapshot".into()).spawn(keep);
        Self(thread.is_ok().then_some(Hatch { newest, bell }))
    }

    /// Writes this table, unless another comes first.
    pub fn keep(&self, table: &Arc<Table>) {
        if let Some(hatch) = &self.0 {
            hatch.newest.store(Some(table.clone()));
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

fn work(file: &Path, state: &BusState, tables: &ArcSwapOption<Table>, rings: &Receiver<()>) {
    // What could not be written: to touch the file with the table before it would make that look fresh.
    let mut unwritten = None;
    while rings.recv().is_ok() {
        let Some(table) = tables.swap(None).or_else(|| unwritten.take()) else {
            // Without a file there is nothing to touch, and that was told when it was to be written.
            let _ = Snapshot::touch(file);
            continue;
        };
        let failed = Snapshot::write(file, &table.publication, &table.standing).err().map(|error| {
            state.count("snapshot_failed");
            format!("the snapshot {} cannot be written: {error}; a start without the bus would fail", file.display())
        });
        unwritten = failed.is_some().then_some(table);
        if state.note("snapshot", failed.clone()) {
            tracing::error!("{}", failed.unwrap_or_default());
        }
    }
}
