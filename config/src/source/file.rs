//! Watches files for changes.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::hints::Hints;
use super::identity::Identity;

/// Watches a set of files for new content, whichever way it arrives: written in place, renamed over
/// the old, by a link pointed elsewhere (a Kubernetes mount), deleted and created again.
///
/// The kernel's events are only a hint to look; what counts is the files' identity, and without any
/// event the files are polled every two seconds. One task owns a watch.
#[derive(Debug)]
pub struct FileWatch {
    /// Each file's identity when it was last reported.
    files: BTreeMap<PathBuf, Identity>,
    hints: Hints,
}

impl FileWatch {
    /// Starts to watch these files, which need not exist. Their present content is not a change: make
    /// the watch first, and then read.
    ///
    /// # Errors
    /// When a path is empty, or relative to a current directory that is gone.
    pub fn new(paths: Vec<PathBuf>) -> io::Result<Self> {
        paths.iter().try_for_each(|path| std::path::absolute(path).map(drop))?;
        let mut watch = Self { files: BTreeMap::new(), hints: Hints::new() };
        watch.set_paths(paths);
        Ok(watch)
    }

    /// Watches these files instead. A file that was watched before is compared with its last reported
    /// identity, a new one with its present one.
    pub fn set_paths(&mut self, paths: Vec<PathBuf>) {
        let known = |path: PathBuf| {
            let identity = self.files.get(&path).cloned().unwrap_or_else(|| Identity::of(&path));
            (path, identity)
        };
        self.files = paths.into_iter().map(known).collect();
        self.hints.follow(self.files.keys());
    }

    /// Waits until any of the files differs from its last reported identity, and has not been written
    /// for a moment. Deletion is a change, too. Cancel-safe: a dropped call loses no change.
    pub async fn changed(&mut self) {
        loop {
            // In this order: a change after the first line gives a hint, one before it is found by the
            // second.
            self.hints.follow(self.files.keys());
            let found = self.look();
            if found == self.files {
                self.hints.wait().await;
                continue;
            }
            let settled = self.settle(found).await;
            if settled != self.files {
                self.files = settled;
                return;
            }
        }
    }

    /// Counts the files' present identity as reported: the caller is about to read them.
    pub fn acknowledge(&mut self) {
        self.files = self.look();
    }

    fn look(&self) -> BTreeMap<PathBuf, Identity> {
        self.files.keys().map(|path| (path.clone(), Identity::of(path))).collect()
    }

    /// Waits until nothing has changed for [`QUIET`], so that no half-written file is read.
    async fn settle(&self, mut last: BTreeMap<PathBuf, Identity>) -> BTreeMap<PathBuf, Identity> {
        let start = Instant::now();
        let mut quiet_since = start;
        while quiet_since.elapsed() < QUIET && start.elapsed() < PATIENCE {
            sleep(STEP).await;
            let now = self.look();
            if now != last {
                quiet_since = Instant::now();
                last = now;
            }
        }
        last
    }
}

/// The pause between two looks while a file is being written: shorter than [`QUIET`].
const STEP: Duration = Duration::from_millis(10);

/// How long nothing may have changed before a file counts as written.
const QUIET: Duration = Duration::from_millis(25);

/// How long a file that is written without a pause can put off its report.
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
