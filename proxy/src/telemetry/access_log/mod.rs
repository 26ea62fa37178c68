//! The access log: one JSON line for each request, never in the way of one.
//!
//! ```text
//! a request's end --line.rs--> LineBuffer of its worker --32 KiB, or 50 ms--> output/ --> stdout
//! ```
//!
//! A worker writes its lines into a buffer of its own, which goes to the writer's thread as a whole. No worker waits
//! for the writer: what the queue has no room for is dropped and counted.

pub(crate) mod line;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use self::line::LogLine;
use crate::telemetry::output::{Event, Filling, OutputHealth, Queue, Sink, Standard, start};

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

    /// Makes a log to stdout, written by a thread of its own.
    ///
    /// # Errors
    /// When the thread cannot be started, or there is no stdout.
    pub(crate) fn stdout() -> std::io::Result<Self> {
        Self::to(Standard::stdout()?)
    }

    fn to(out: impl Sink) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::new(MOST_BYTES));
        start("access-log", queue.clone(), out, tell)?;
        Ok(Self(Some(queue)))
    }

    /// Returns the buffer of one more worker.
    pub(crate) fn buffer(&self) -> LineBuffer {
        LineBuffer(self.0.as_ref().map(|queue| Buffered { queue: queue.clone(), filling: queue.add_buffer() }))
    }

    /// Has the file opened anew that stdout was redirected to, if it was.
    pub(crate) fn reopen(&self) {
        self.0.iter().for_each(|queue| queue.reopen());
    }

    /// Returns how well its lines are taken; of a log that is off, since the node's start.
    pub(crate) fn health(&self, started: u64) -> OutputHealth {
        self.0.as_ref().map_or_else(|| OutputHealth::off(started), |queue| queue.health())
    }

    /// Returns how many lines were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.0.as_ref().map_or(0, |queue| queue.lost())
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
            queue.add_line(filling, |out, time| line.write(out, time));
        }
    }
}

/// Logs what the writer meets.
fn tell(event: Event<'_>) {
    match event {
        Event::Fails(error) => tracing::error!(
            %error,
            "the access log cannot be written to stdout; its lines wait while there is room, and are then dropped \
             (meridian_access_log_dropped_total)"
        ),
        Event::Works => tracing::info!("the access log is written again"),
        Event::NotReopened(error) => tracing::error!(%error, "the access log's file cannot be opened anew"),
    }
}

/// Bytes in the queue, past which lines are dropped: some 8,000 lines, as long as a reader may pause on a busy node.
const MOST_BYTES: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests;
