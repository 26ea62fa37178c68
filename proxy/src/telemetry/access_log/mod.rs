//! The access log: one JSON line for each request, never in the way of one.
//!
//! ```text
//! a request's end --line.rs--> LineBuffer of its worker --32 KiB, or 50 ms--> queue.rs --writer.rs--> stdout
//! ```
//!
//! A worker writes its lines into a buffer of its own, which goes to the writer's thread as a whole. No worker waits
//! for the writer: what the queue has no room for is dropped and counted.

pub(crate) mod line;
mod queue;
mod writer;

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus::IntCounter;

use self::line::LogLine;
use self::queue::{Filling, Queue};

/// The access log. One for each node, for as long as the process lives; any thread may ask it for a buffer.
#[derive(Clone)]
pub(crate) struct AccessLog(Option<Arc<Queue>>);

/// Where one worker writes its lines. It lives as long as the process. Only the worker writes; the writer's thread takes
/// what is there, so that the lock is free but for an instant now and then.
pub(crate) struct LineBuffer(Option<Buffered>);

struct Buffered {
    queue: Arc<Queue>,
    filling: Arc<Mutex<Filling>>,
}

impl AccessLog {
    /// Makes a log that goes nowhere.
    pub(crate) fn off() -> Self {
        Self(None)
    }

    /// Makes a log to stdout, written by a thread of its own, which counts lines that it drops.
    ///
    /// # Errors
    /// When the thread cannot be started, or there is no stdout.
    pub(crate) fn stdout(dropped: IntCounter) -> std::io::Result<Self> {
        let stdout = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
        let queue = Arc::new(Queue::new(dropped));
        writer::start(queue.clone(), stdout)?;
        Ok(Self(Some(queue)))
    }

    /// Returns the buffer of one more worker.
    pub(crate) fn buffer(&self) -> LineBuffer {
        LineBuffer(self.0.as_ref().map(|queue| Buffered { queue: queue.clone(), filling: queue.add_buffer() }))
    }

    /// Has everything written, for `within` at most, and ends the log: the process is about to end. Says what is lost.
    pub(crate) fn finish(&self, within: Duration) {
        let Some(queue) = &self.0 else { return };
        let lost = queue.finish(within);
        if lost > 0 {
            tracing::error!(
                lines = lost,
                "the last lines of the access log are lost: stdout did not take them in time"
            );
        }
    }
}

impl LineBuffer {
    /// Returns whether lines are wanted at all.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Writes a line, with the time of now.
    pub(crate) fn write(&self, line: &LogLine<'_>) {
        if let Some(Buffered { queue, filling }) = &self.0 {
            queue.add_line(filling, line);
        }
    }
}

#[cfg(test)]
mod tests;
