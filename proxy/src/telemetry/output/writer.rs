//! The thread that writes what is in a queue.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::time::Duration;

use super::queue::{Chunk, Queue, Work};
use crate::supervise::{self, Need};

/// Where lines go.
pub(crate) trait Sink: Write + Send + 'static {
    /// Opens it anew, if it is a file.
    ///
    /// # Errors
    /// When the file cannot be opened; the one before is written on.
    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the writer meets.
#[derive(Clone, Copy)]
pub(crate) enum Event<'a> {
    /// A write has failed, and the one before it had not.
    Fails(&'a io::Error),
    /// Writing works again.
    Works,
    /// The file could not be opened anew.
    NotReopened(&'a io::Error),
}

/// Starts the thread of this name. It ends when the queue does. `tell` hears what it meets.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn start(
    task: &'static str,
    queue: Arc<Queue>,
    out: impl Sink,
    tell: impl Fn(Event<'_>) + Send + 'static,
) -> io::Result<()> {
    let mut writer = Writer { queue, out, tell, current: None, is_failing: false };
    supervise::thread(task, Need::Vital, move || writer.run())
}

struct Writer<W, T> {
    queue: Arc<Queue>,
    out: W,
    tell: T,
    /// What is being written, and how much of it is.
    current: Option<(Chunk, usize)>,
    /// The last write has failed, which was told.
    is_failing: bool,
}

impl<W: Sink, T: Fn(Event<'_>)> Writer<W, T> {
    fn run(&mut self) {
        loop {
            if self.current.is_none() {
                match self.queue.next() {
                    Some(Work::Write(chunk)) => self.current = Some((chunk, 0)),
                    Some(Work::Reopen) => self.reopen(),
                    None => break,
                }
            }
            if !self.write() {
                break;
            }
            if let Some((chunk, _)) = self.current.take() {
                self.queue.written(chunk);
            }
        }
        self.queue.finished();
    }

    /// Writes all of what is current, however often that takes: what is written goes on where it stopped, so that no
    /// line is torn. False when it cannot, and the output is to end.
    fn write(&mut self) -> bool {
        let mut is_last_try = false;
        while let Some((chunk, written)) = &mut self.current {
            let left = chunk.bytes.get(*written..).unwrap_or_default();
            if left.is_empty() {
                break;
            }
            let fault = match self.out.write(left) {
                Ok(0) => ErrorKind::WriteZero.into(),
                Ok(more) => {
                    *written += more;
                    self.queue.was_taken();
                    if std::mem::take(&mut self.is_failing) {
                        (self.tell)(Event::Works);
                    }
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // Whoever shares the pipe has made it so: the reader is behind, which is no fault.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(BEHIND);
                    continue;
                }
                Err(error) => error,
            };
            self.queue.failed(&fault);
            if !std::mem::replace(&mut self.is_failing, true) {
                (self.tell)(Event::Fails(&fault));
            }
            if is_last_try {
                return false;
            }
            is_last_try = !self.queue.pause(RETRY);
            if self.queue.is_to_reopen() {
                self.reopen();
            }
        }
        true
    }

    fn reopen(&mut self) {
        if let Err(error) = self.out.reopen() {
            (self.tell)(Event::NotReopened(&error));
        }
    }
}

/// From a failed write to the next: a disk that is full is given room within minutes, and a pipe that is closed stays
/// closed.
const RETRY: Duration = Duration::from_secs(1);
/// From a write that would block to the next.
const BEHIND: Duration = Duration::from_millis(10);
