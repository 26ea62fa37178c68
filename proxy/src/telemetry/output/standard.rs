//! Stdout and stderr, apart from the locks that Rust has on them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use super::Sink;

/// A standard stream. Lives on the thread that writes it.
pub(crate) struct Standard {
    stream: File,
    /// The file that it was redirected to, if it was one.
    path: Option<PathBuf>,
}

impl Standard {
    /// Takes stdout.
    ///
    /// # Errors
    /// When there is none, or no descriptor for it.
    pub(crate) fn stdout() -> io::Result<Self> {
        Self::of(&io::stdout())
    }

    /// Takes stderr.
    ///
    /// # Errors
    /// When there is none, or no descriptor for it.
    pub(crate) fn stderr() -> io::Result<Self> {
        Self::of(&io::stderr())
    }

    fn of(stream: &(impl AsFd + AsRawFd)) -> io::Result<Self> {
        let link = Path::new("/proc/self/fd").join(stream.as_raw_fd().to_string());
        let stream = File::from(stream.as_fd().try_clone_to_owned()?);
        let is_file = stream.metadata().is_ok_and(|metadata| metadata.is_file());
        let path = if is_file { std::fs::read_link(link).ok() } else { None };
        Ok(Self { stream, path })
    }
}

impl Write for Standard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Sink for Standard {
    /// Opens the file of this name anew: the one that is open may have been renamed.
    fn reopen(&mut self) -> io::Result<()> {
        if let Some(path) = &self.path {
            self.stream = OpenOptions::new().append(true).create(true).open(path)?;
        }
        Ok(())
    }
}
