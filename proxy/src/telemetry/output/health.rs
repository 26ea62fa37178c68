//! How well lines are taken.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::clock;

/// How an output is, for `/status`. Times are Unix seconds.
#[derive(Debug, Serialize)]
pub(crate) struct OutputHealth {
    /// `off`, `writing`, `behind` (its reader takes nothing), or `failing` (writing is tried again each second).
    pub(crate) state: &'static str,
    /// Lines that were lost since the start.
    pub(crate) dropped: u64,
    /// Since when it is in this state.
    pub(crate) since: u64,
    /// What the system said to the last write, while it fails.
    pub(crate) error: Option<String>,
}

/// What the writer's thread has met. Lives as long as its queue.
#[derive(Debug)]
pub(super) struct Condition {
    since: u64,
    error: Option<String>,
    /// Since when the write that is under way is.
    writing: Option<Instant>,
}

impl OutputHealth {
    /// Returns the health of an output that is switched off.
    pub(crate) fn off(since: u64) -> Self {
        Self { state: "off", dropped: 0, since, error: None }
    }
}

impl Condition {
    /// Begins well, now.
    pub(super) fn new() -> Self {
        Self { since: clock::unix_seconds(), error: None, writing: None }
    }

    /// Notes that a write begins.
    pub(super) fn begins(&mut self) {
        self.writing = Some(clock::now());
    }

    /// Notes that bytes were taken.
    pub(super) fn was_taken(&mut self) {
        if self.error.take().is_some() || self.late_by().is_some() {
            self.since = clock::unix_seconds();
        }
        self.writing = None;
    }

    /// Notes that a write has failed.
    pub(super) fn failed(&mut self, error: String) {
        if self.error.replace(error).is_none() {
            self.since = clock::unix_seconds();
        }
    }

    fn late_by(&self) -> Option<Duration> {
        self.writing.map(|since| clock::now().saturating_duration_since(since)).filter(|waited| *waited > LATE)
    }

    /// Returns the health of an output that has lost so many lines.
    pub(super) fn health(&self, dropped: u64) -> OutputHealth {
        let (state, since) = match (&self.error, self.late_by()) {
            (Some(_), _) => ("failing", self.since),
            (None, Some(waited)) => ("behind", clock::unix_seconds().saturating_sub(waited.as_secs())),
            (None, None) => ("writing", self.since),
        };
        OutputHealth { state, dropped, since, error: self.error.clone() }
    }
}

/// A write that is under way for longer finds a reader that takes nothing: a pipe takes what it has room for at once.
const LATE: Duration = Duration::from_secs(1);
