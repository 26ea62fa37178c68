//! Tables that kill: a publication that a process died of while it examined it is not examined for
//! ever, so that no table can hold a node in a loop of deaths.

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::node::unix_seconds;

/// The note of what is being examined, beside the snapshot; none without one.
#[derive(Clone, Debug)]
pub struct Trial {
    slate: Option<SyncSender<Line>>,
    /// What the process before this one died of, and how often.
    died_of: Option<Note>,
}

/// What is to stand on disk: a note, or nothing. Says when it does.
struct Line(Option<Note>, Sender<()>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    fingerprint: String,
    times: u32,
    /// Unix seconds.
    #[serde(default)]
    at: u64,
}

/// Seconds after which a death is forgotten: it may have been the machine's.
const FORGOTTEN: u64 = 3600;

/// Deaths after which a publication is refused unread: one may be somebody's kill at a bad moment.
pub const DEADLY: u32 = 2;

impl Trial {
    /// Reads what a process before this one has left, if that is not long ago.
    pub fn new(snapshot: Option<&PathBuf>) -> Self {
        let file = snapshot.map(|snapshot| {
            let mut name = snapshot.as_os_str().to_owned();
            name.push(".trying");
            PathBuf::from(name)
        });
        let read = file.as_ref().and_then(|file| fs::read(file).ok());
        let note = read.and_then(|text| serde_json::from_slice::<Note>(&text).ok());
        let is_recent = |note: &Note| unix_seconds(SystemTime::now()).saturating_sub(note.at) < FORGOTTEN;
        Self { died_of: note.filter(is_recent), slate: file.and_then(slate) }
    }

    /// Whether processes have died of this publication too often.
    pub fn is_deadly(&self, fingerprint: &str) -> bool {
        self.deaths(fingerprint) >= DEADLY
    }

    /// Notes that a publication is about to be examined, and waits for the disk, though not for one that hangs.
    pub fn begin(&self, fingerprint: &str) {
        let note = Note {
            fingerprint: fingerprint.to_owned(),
            times: self.deaths(fingerprint) + 1,
            at: unix_seconds(SystemTime::now()),
        };
        self.note(Some(note));
    }

    /// The examination is over, and the process lives.
    pub fn survived(&mut self) {
        self.died_of = None;
        self.note(None);
    }

    fn note(&self, note: Option<Note>) {
        let Some(slate) = &self.slate else { return };
        let (said, done) = channel();
        // A slate that takes no more is that of a disk that hangs.
        if slate.try_send(Line(note, said)).is_ok() {
            // What is not there in time is not waited for.
            let _ = done.recv_timeout(PATIENCE);
        }
    }

    fn deaths(&self, fingerprint: &str) -> u32 {
        self.died_of.as_ref().filter(|note| note.fingerprint == fingerprint).map_or(0, |note| note.times)
    }
}

/// Where lines are handed in, to be put on disk by a thread of its own.
fn slate(file: PathBuf) -> Option<SyncSender<Line>> {
    let (sender, lines) = sync_channel::<Line>(1);
    let work = move || {
        for Line(note, done) in lines {
            let put = match note.and_then(|note| serde_json::to_vec(&note).ok()) {
                Some(text) => fs::write(&file, text),
                // It may never have been written.
                None => fs::remove_file(&file).or(Ok(())),
            };
            if let Err(error) = put {
                tracing::debug!(%error, "cannot note beside the snapshot what is examined");
            }
            // Who asked may have gone on.
            let _ = done.send(());
        }
    };
    std::thread::Builder::new().name("trial".into()).spawn(work).ok().map(|_| sender)
}

/// For the disk.
const PATIENCE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_death_of_one_table_is_the_last() {
        let directory = tempfile::tempdir().unwrap();
        let snapshot = directory.path().join("last-good.toml");
        let start = || Trial::new(Some(&snapshot));
        for deaths in 0..DEADLY {
            let trial = start();
            assert!(!trial.is_deadly("bad"), "{deaths}");
            trial.begin("bad");
        }
        let mut trial = start();
        assert!(trial.is_deadly("bad") && !trial.is_deadly("good"));
        trial.begin("good");
        trial.survived();
        assert!(!start().is_deadly("bad"));
        fs::write(directory.path().join("last-good.toml.trying"), "garbage").unwrap();
        assert!(!start().is_deadly("bad"));
        Trial::new(None).begin("x");
    }
}
