//! Keeps the last good table on disk, on a thread of its own: a disk that hangs holds up nothing else.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use config::bus::Snapshot;

use super::status::BusState;
use super::tables::Table;

/// Where tables to be kept are handed in. Without a snapshot nothing is kept.
pub struct Keeper(Option<Sender<Task>>);

enum Task {
    /// This is the last good table.
    Keep(Arc<Table>),
    /// The bus was heard from.
    Touch,
}

impl Keeper {
    /// Keeps tables in this file.
    pub fn start(file: Option<&PathBuf>, state: &Arc<BusState>) -> Self {
        let Some(file) = file.cloned() else { return Self(None) };
        let (sender, tasks) = channel();
        let state = state.clone();
        let keep = move || work(&file, &state, &tasks);
        let thread = std::thread::Builder::new().name("snapshot".into()).spawn(keep);
        Self(thread.is_ok().then_some(sender))
    }

    /// Writes this table, unless another comes first.
    pub fn keep(&self, table: &Arc<Table>) {
        self.hand_in(Task::Keep(table.clone()));
    }

    /// Notes that the bus was heard from just now.
    pub fn touch(&self) {
        self.hand_in(Task::Touch);
    }

    fn hand_in(&self, task: Task) {
        if let Some(sender) = &self.0 {
            // The thread ends only with this sender.
            let _ = sender.send(task);
        }
    }
}

fn work(file: &Path, state: &BusState, tasks: &Receiver<Task>) {
    while let Ok(first) = tasks.recv() {
        // Of what has come meanwhile only the newest table matters.
        let mut newest = None;
        for task in std::iter::once(first).chain(std::iter::from_fn(|| tasks.try_recv().ok())) {
            if let Task::Keep(table) = task {
                newest = Some(table);
            }
        }
        let Some(table) = newest else {
            // Without a file there is nothing to touch, and that was told when it was to be written.
            let _ = Snapshot::touch(file);
            continue;
        };
        let failed = Snapshot::write(file, &table.publication, &table.standing).err().map(|error| {
            state.count("snapshot_failed");
            format!("the snapshot {} cannot be written: {error}; a start without the bus would fail", file.display())
        });
        if state.note("snapshot", failed.clone()) {
            tracing::error!("{}", failed.unwrap_or_default());
        }
    }
}
