//! The last good table on disk, for a start without the bus.
//!
//! The file is the table, so that `meridian check` reads it, after one comment line that says which
//! publication it was, and the newest heartbeat. Its modification time is when the bus last answered; where keys are
//! trusted only signed times count, since anybody can set a file's time.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::heartbeat::Heartbeat;
use super::publication::{Publication, TableVersion, sha256_hex};
use crate::text::read_bounded;

/// The last good table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The publication, as it was verified when it arrived.
    pub publication: Publication,
    /// The publication's revision.
    pub revision: u64,
    /// The newest heartbeat that was received with it, not verified again.
    pub heartbeat: Option<Heartbeat>,
    /// How long the bus has been silent, by this machine's clock; `None` (unknown) when the file's time
    /// lies in the future.
    pub silent_for: Option<Duration>,
}

/// Why a snapshot cannot be used.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum SnapshotError {
    #[error("there is no snapshot {}", .0.display())]
    Absent(PathBuf),
    #[error("the snapshot {}: {what}", file.display())]
    Bad { file: PathBuf, what: String },
}

/// The first line, after the marker.
#[derive(Serialize, Deserialize)]
struct Line {
    revision: u64,
    epoch: u64,
    issued_ms: u64,
    #[serde(default)]
    valid_until_ms: Option<u64>,
    by: String,
    note: String,
    allow: std::collections::BTreeSet<String>,
    signature: Option<String>,
    claimed_sha256: Option<String>,
    #[serde(default)]
    heartbeat: Option<Heartbeat>,
    /// The hash of the text below.
    sha256: String,
}

impl Snapshot {
    /// Reads a snapshot and verifies its hash.
    ///
    /// # Errors
    /// When there is no file, or its text is not what was written.
    pub fn load(file: &Path) -> Result<Self, SnapshotError> {
        if !file.exists() {
            return Err(SnapshotError::Absent(file.to_owned()));
        }
        let bad = |what: String| SnapshotError::Bad { file: file.to_owned(), what };
        let all = read_bounded(file, super::entry::MAX_TABLE + MAX_LINE).map_err(|error| bad(error.to_string()))?;
        let (line, text) = all.split_once('\n').ok_or_else(|| bad("it is empty".to_owned()))?;
        let line =
            line.strip_prefix(MARKER).ok_or_else(|| bad(format!("its first line does not start with {MARKER:?}")))?;
        let line: Line = serde_json::from_str(line).map_err(|error| bad(format!("its first line: {error}")))?;
        if line.sha256 != sha256_hex(text.as_bytes()) {
            return Err(bad("its text is not what was written: the hash differs".to_owned()));
        }
        let modified = fs::metadata(file).and_then(|found| found.modified()).map_err(|error| bad(error.to_string()))?;
        let publication = Publication {
            text: text.to_owned().into(),
            epoch: line.epoch,
            issued_ms: line.issued_ms,
            valid_until_ms: line.valid_until_ms,
            by: line.by,
            note: line.note,
            allow: line.allow,
            stage: None,
            signature: line.signature,
            claimed_sha256: line.claimed_sha256,
        };
        let silent_for = silence(modified, SystemTime::now());
        Ok(Self { publication, revision: line.revision, heartbeat: line.heartbeat, silent_for })
    }

    /// Writes a snapshot in place of the last one: whole, or not at all.
    ///
    /// # Errors
    /// When that fails; the last one then stays.
    pub fn write(
        file: &Path,
        publication: &Publication,
        version: &TableVersion,
        heartbeat: Option<&Heartbeat>,
    ) -> io::Result<()> {
        let line = Line {
            revision: version.revision,
            epoch: version.epoch,
            issued_ms: version.issued_ms,
            valid_until_ms: publication.valid_until_ms,
            by: publication.by.clone(),
            note: publication.note.clone(),
            allow: publication.allow.clone(),
            signature: publication.signature.clone(),
            claimed_sha256: publication.claimed_sha256.clone(),
            heartbeat: heartbeat.cloned(),
            sha256: publication.sha256(),
        };
        replace_file(file, |into| {
            writeln!(into, "{MARKER}{}", serde_json::to_string(&line)?)?;
            into.write_all(&publication.text)
        })
    }

    /// Sets the file's modification time to now: the bus has just answered.
    ///
    /// # Errors
    /// When there is no such file, or its time cannot be set.
    pub fn touch(file: &Path) -> io::Result<()> {
        File::options().append(true).open(file)?.set_modified(SystemTime::now())
    }
}

/// Replaces a file atomically, and returns once the new one is on disk. Only its owner can read it.
///
/// # Errors
/// When a file cannot be written beside it, or put in its place.
pub fn replace_file(file: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    // A table holds the secret that signs cookies: only its owner may read the file.
    let mut new = File::options().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    write(&mut new)?;
    new.sync_all()?;
    fs::rename(&beside, file)?;
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// Returns how long the bus has been silent. A time up to [`LEEWAY`] in the future counts as now: a clock may have
/// been set back a little.
fn silence(last_answer: SystemTime, now: SystemTime) -> Option<Duration> {
    match now.duration_since(last_answer) {
        Ok(ago) => Some(ago),
        Err(ahead) if ahead.duration() <= LEEWAY => Some(Duration::ZERO),
        Err(_) => None,
    }
}

const LEEWAY: Duration = Duration::from_secs(60);

const MARKER: &str = "# meridian snapshot: ";

const MAX_LINE: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_what_was_written_or_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("last-good.toml");
        assert!(matches!(Snapshot::load(&file), Err(SnapshotError::Absent(_))));
        let mut publication = Publication::new("version = '1'\n", 2, 9, "me").noted("why");
        publication.signature = Some("a:b".to_owned());
        publication.allow.insert("eu".to_owned());
        let version = TableVersion::of(&publication, 7);
        publication.valid_until_ms = Some(99);
        let beat = Heartbeat::new(&version, 10, "me");
        Snapshot::write(&file, &publication, &version, Some(&beat)).unwrap();
        let read = Snapshot::load(&file).unwrap();
        assert_eq!((read.publication, read.revision, read.heartbeat), (publication, 7, Some(beat)));
        let good = fs::read_to_string(&file).unwrap();
        for bad in [
            good.replace("'1'", "'2'"),
            good.replace("# meridian", "# other"),
            good[..good.len() - 3].to_owned(),
            good.lines().next().unwrap().to_owned(),
            String::new(),
        ] {
            fs::write(&file, &bad).unwrap();
            assert!(matches!(Snapshot::load(&file), Err(SnapshotError::Bad { .. })), "{bad}");
        }
    }

    #[test]
    fn silence_is_by_the_files_time_and_unknown_in_the_future() {
        let now = SystemTime::now();
        let second = Duration::from_secs(1);
        assert_eq!(silence(now - 5 * second, now), Some(5 * second));
        assert_eq!(silence(now + second, now), Some(Duration::ZERO));
        assert_eq!(silence(now + 3600 * second, now), None);
    }
}
