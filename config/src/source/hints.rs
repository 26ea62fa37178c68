//! Decides when to look at files again, by the kernel's events.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::directories::directories_on_the_way;

/// The kernel's events about the directories that matter, or a pause where it gives none. Many events
/// are one hint: nothing queues up.
pub(super) struct Hints {
    hint: Arc<Notify>,
    /// `None` where the system has no file events.
    watcher: Option<RecommendedWatcher>,
    /// The directories watched: each path with its device and inode, because another directory may
    /// take its place.
    watched: BTreeMap<PathBuf, (u64, u64)>,
    /// Whether every directory that matters is watched.
    complete: bool,
}

impl Hints {
    pub(super) fn new() -> Self {
        let hint = Arc::new(Notify::new());
        let handle = hint.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error may stand for lost events. Reading changes nothing, and we read ourselves.
            let only_read = event.is_ok_and(|event| match event.kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
                EventKind::Access(_) => !event.need_rescan(),
                _ => false,
            });
            if !only_read {
                handle.notify_one();
            }
        });
        if let Err(error) = &watcher {
            warn!(%error, "no file events: files are polled twice a second instead");
        }
        Self { hint, complete: watcher.is_ok(), watcher: watcher.ok(), watched: BTreeMap::new() }
    }

    /// Watches the directories that matter to these paths now, and no others.
    pub(super) fn follow<'a>(&mut self, paths: impl Iterator<Item = &'a PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        let directories: BTreeSet<PathBuf> = paths.flat_map(|path| directories_on_the_way(path)).collect();
        let wanted: BTreeMap<PathBuf, (u64, u64)> =
            directories.into_iter().filter_map(|path| inode(&path).map(|id| (path, id))).collect();
        self.watched.retain(|path, id| {
            let keep = wanted.get(path) == Some(id);
            if !keep {
                // A deleted directory has lost its watch already.
                let _ = watcher.unwatch(path);
            }
            keep
        });
        let mut failure = None;
        for (path, id) in wanted {
            if self.watched.contains_key(&path) {
                continue;
            }
            match watcher.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.watched.insert(path, id)),
                Err(error) => failure = Some((path, error)),
            }
        }
        if let Some((path, error)) = &failure
            && self.complete
        {
            let directory = path.display();
            warn!(%directory, %error, "no file events from a directory: its files are polled twice a second");
        }
        self.complete = failure.is_none();
    }

    /// Waits until it is time to look again.
    pub(super) async fn wait(&self) {
        sleep(PAUSE).await;
        let longest = if self.complete && self.watcher.is_some() { LOOK_ANYWAY } else { LOOK_WITHOUT_EVENTS };
        let _ = timeout(longest, self.hint.notified()).await;
    }
}

impl fmt::Debug for Hints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hints").field("watched", &self.watched).finish_non_exhaustive()
    }
}

fn inode(directory: &Path) -> Option<(u64, u64)> {
    let found = std::fs::metadata(directory).ok()?;
    Some((found.dev(), found.ino()))
}

/// The least pause between two looks, for directories full of activity.
const PAUSE: Duration = Duration::from_millis(5);

/// The most time between two looks: events can be lost, and some file systems give none.
const LOOK_ANYWAY: Duration = Duration::from_secs(2);

const LOOK_WITHOUT_EVENTS: Duration = Duration::from_millis(500);
