//! The thread that writes the access log.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::time::Duration;

use super::queue::Queue;

/// Starts the thread. It ends when the queue does.
///
/// # Errors
/// When it cannot be started.
pub(super) fn start(queue: Arc<Queue>, out: impl Write + Send + 'static) -> io::Result<()> {
    let mut writer = Writer { queue, out, is_failing: false };
    std::thread::Builder::new().name("access-log".into()).spawn(move || writer.run()).map(drop)
}

struct Writer<W> {
    queue: Arc<Queue>,
    out: W,
    /// The last write has failed, which was logged.
    is_failing: bool,
}

impl<W: Write> Writer<W> {
    fn run(&mut self) {
        while let Some(chunk) = self.queue.next() {
            if !self.write(&chunk.bytes) {
                break;
            }
            self.queue.written(chunk);
        }
        self.queue.finished();
    }

    /// Writes all of these bytes, however often that takes: what is written goes on where it stopped, so that no line
    /// is torn. False when it cannot, and the log is to end.
    fn write(&mut self, bytes: &[u8]) -> bool {
        let mut left = bytes;
        let mut is_last_try = false;
        while !left.is_empty() {
            let fault = match self.out.write(left) {
                Ok(0) => ErrorKind::WriteZero.into(),
                Ok(written) => {
                    left = left.get(written..).unwrap_or_default();
                    if std::mem::take(&mut self.is_failing) {
                        tracing::info!("the access log is written again");
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
            if !std::mem::replace(&mut self.is_failing, true) {
                tracing::error!(
                    error = %fault,
                    "the access log cannot be written to stdout; its lines wait while there is room, and are then \
                     dropped (meridian_access_log_dropped_total)"
                );
            }
            if is_last_try {
                return false;
            }
            is_last_try = !self.queue.pause(RETRY);
        }
        true
    }
}

/// From a failed write to the next: a disk that is full is given room within minutes, and a pipe that is closed stays
/// closed.
const RETRY: Duration = Duration::from_secs(1);
/// From a write that would block to the next.
const BEHIND: Duration = Duration::from_millis(10);
