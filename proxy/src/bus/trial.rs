//! Tables that kill: a publication that a process died of while it examined it is not examined for
//! ever, so that no table can hold a node in a loop of deaths.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::node::unix_seconds;

/// The note of what is being examined, beside the snapshot; none without one.
#[derive(Clone, Debug)]
pub struct Trial {
    file: Option<PathBuf>,
    /// What the process before this one died of, and how often.
    died_of: Option<Note>,
}

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
        Self { died_of: note.filter(is_recent), file }
    }

    /// Whether processes have died of this publication too often.
    pub fn is_deadly(&self, fingerprint: &str) -> bool {
        self.deaths(fingerprint) >= DEADLY
    }

    /// Notes that a publication is about to be examined.
    ///
    /// # Errors
    /// When the note cannot be written.
    pub fn begin(&self, fingerprint: &str) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let note = Note {
            fingerprint: fingerprint.to_owned(),
            times: self.deaths(fingerprint) + 1,
            at: unix_seconds(SystemTime::now()),
        };
        fs::write(file, serde_json::to_vec(&note)?)
    }

    /// The examination is over, and the process lives.
    pub fn survived(&mut self) {
        self.died_of = None;
        if let Some(file) = &self.file {
            // It may never have been written.
            let _ = fs::remove_file(file);
        }
    }

    fn deaths(&self, fingerprint: &str) -> u32 {
        self.died_of.as_ref().filter(|note| note.fingerprint == fingerprint).map_or(0, |note| note.times)
    }
}

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
            trial.begin("bad").unwrap();
        }
        let mut trial = start();
        assert!(trial.is_deadly("bad") && !trial.is_deadly("good"));
        trial.begin("good").unwrap();
        trial.survived();
        assert!(!start().is_deadly("bad"));
        fs::write(directory.path().join("last-good.toml.trying"), "garbage").unwrap();
        assert!(!start().is_deadly("bad"));
        assert!(Trial::new(None).begin("x").is_ok());
    }
}
