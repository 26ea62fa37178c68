//! How often the log may tell of what others do.

use std::time::{Duration, Instant};

use crate::clock;

/// Lets one line through in ten seconds, however much there is to tell. Lives where the lines come from.
#[derive(Debug, Default)]
pub(crate) struct LogLimiter {
    last: Option<Instant>,
    unsaid: u64,
    /// What the last line that was left out was about.
    about: String,
}

impl LogLimiter {
    /// Returns how many lines were left out since the last, if one may be logged now. What this one is `about` is told
    /// with [`LogLimiter::rest`], if it may not.
    pub(crate) fn may(&mut self, about: impl FnOnce() -> String) -> Option<u64> {
        if self.last.is_some_and(|last| last.elapsed() < PERIOD) {
            self.unsaid += 1;
            self.about = about();
            return None;
        }
        self.last = Some(clock::now());
        Some(std::mem::take(&mut self.unsaid))
    }

    /// Returns how many lines were left out, and what the last was about, once that may be told.
    pub(crate) fn rest(&mut self) -> Option<(u64, String)> {
        let is_due = self.unsaid > 0 && self.last.is_some_and(|last| last.elapsed() >= PERIOD);
        is_due.then(|| {
            self.last = Some(clock::now());
            (std::mem::take(&mut self.unsaid), std::mem::take(&mut self.about))
        })
    }
}

/// From one line of the log to the next about the same: a stranger who repeats something must not fill the disk.
const PERIOD: Duration = Duration::from_secs(10);
