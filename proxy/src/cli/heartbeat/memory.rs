//! Records which table was signed for: whoever controls the bus may show an earlier one.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use config::bus::TableVersion;
use serde::{Deserialize, Serialize};

use crate::cli::Failed;
use crate::cli::bus::console::utc_millis;

/// The newest publication that was signed for. Lives as long as the process, and longer with a file.
#[derive(Debug)]
pub(super) struct Memory {
    file: Option<PathBuf>,
    newest: Option<Signed>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Signed {
    epoch: u64,
    issued_ms: u64,
    revision: u64,
    sha256: String,
}

impl Memory {
    /// Reads the file, which need not exist.
    ///
    /// # Errors
    /// When the file cannot be read, or is no state of this command.
    pub(super) fn load(file: Option<&Path>) -> Result<Self, Failed> {
        let Some(file) = file else { return Ok(Self { file: None, newest: None }) };
        let bad = |what: String| Failed::Input(anyhow!("{}: {what}", file.display()));
        let newest = match fs::read(file) {
            Ok(text) => {
                let read = serde_json::from_slice(&text);
                Some(read.map_err(|error| bad(format!("not the state of `meridian heartbeat`: {error}")))?)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(bad(error.to_string())),
        };
        Ok(Self { file: Some(file.to_owned()), newest })
    }

    /// Checks that a publication is not older than the newest that was signed for.
    ///
    /// # Errors
    /// Why the publication must not be signed for.
    pub(super) fn check(&self, version: &TableVersion) -> Result<(), String> {
        match &self.newest {
            Some(newest) if (newest.epoch, newest.issued_ms) > (version.epoch, version.issued_ms) => Err(format!(
                "the newest table on the bus is revision {} (issued {}), and revision {} (issued {}) was signed for before: \
                 nothing was signed; somebody holds it back, or an old state was restored",
                version.revision,
                utc_millis(version.issued_ms),
                newest.revision,
                utc_millis(newest.issued_ms)
            )),
            _ => Ok(()),
        }
    }

    /// Records a publication.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn keep(&mut self, version: &TableVersion) -> Result<(), Failed> {
        let TableVersion { epoch, issued_ms, revision, sha256 } = version.clone();
        let signed = Some(Signed { epoch, issued_ms, revision, sha256 });
        if signed == self.newest {
            return Ok(());
        }
        self.newest = signed;
        let Some(file) = &self.file else { return Ok(()) };
        let mut beside = file.clone().into_os_string();
        beside.push(".new");
        let text = serde_json::to_vec(&self.newest).map_err(|error| Failed::Ran(error.into()))?;
        let written = fs::write(&beside, text).and_then(|()| fs::rename(&beside, file));
        written.map_err(|error| Failed::Ran(anyhow!("{}: {error}", file.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_publication_is_not_signed_for_in_this_process_or_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("state.json");
        let version = |epoch, issued_ms| TableVersion { epoch, revision: issued_ms, issued_ms, sha256: "a".to_owned() };
        let mut memory = Memory::load(Some(&file)).unwrap();
        memory.check(&version(1, 1)).unwrap();
        memory.keep(&version(2, 5)).unwrap();
        for memory in [memory, Memory::load(Some(&file)).unwrap()] {
            assert!(memory.check(&version(2, 4)).unwrap_err().contains("revision 5"));
            assert!(memory.check(&version(1, 9)).is_err());
            assert!(memory.check(&version(2, 5)).is_ok() && memory.check(&version(3, 1)).is_ok());
        }
        fs::write(&file, "[]").unwrap();
        assert!(matches!(Memory::load(Some(&file)), Err(Failed::Input(_))));
    }
}
