//! The identity of a file's content, by its metadata.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Metadata that changes whenever a file's content does. Links are followed, so that a link that is
/// pointed at another file has another identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// There is no such file, or its metadata cannot be read.
    Absent,
    /// A file. Times are seconds and nanoseconds.
    File { device: u64, inode: u64, bytes: u64, modified: (i64, i64), changed: (i64, i64) },
}

impl Identity {
    /// Returns the identity of the file that the path leads to now.
    pub(super) fn of(path: &Path) -> Self {
        match fs::metadata(path) {
            Ok(found) => Identity::File {
                device: found.dev(),
                inode: found.ino(),
                bytes: found.size(),
                modified: (found.mtime(), found.mtime_nsec()),
                changed: (found.ctime(), found.ctime_nsec()),
            },
            Err(_) => Identity::Absent,
        }
    }
}
