//! How often the log may tell of what others do on the bus.

use std::time::{Duration, Instant};

/// Once in ten seconds, however much there is.
#[derive(Debug, Default)]
pub struct Talk {
    last: Option<Instant>,
    unsaid: u64,
}

impl Talk {
    /// How much was not logged since the last that was, if this may be.
    pub fn may(&mut self) -> Option<u64> {
        if self.last.is_some_and(|last| last.elapsed() < TALK) {
            self.unsaid += 1;
            return None;
        }
        self.last = Some(Instant::now());
        Some(std::mem::take(&mut self.unsaid))
    }

    /// How much was not logged, once it may be told.
    pub fn rest(&mut self) -> Option<u64> {
        let is_due = self.unsaid > 0 && self.last.is_some_and(|last| last.elapsed() >= TALK);
        is_due.then(|| self.may()).flatten()
    }
}

/// From one line of the log about refusals to the next.
const TALK: Duration = Duration::from_secs(10);
