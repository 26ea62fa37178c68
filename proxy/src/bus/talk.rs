//! How often the log may tell of what others do on the bus.

use std::time::{Duration, Instant};

/// Once in ten seconds, however much there is.
#[derive(Debug, Default)]
pub struct Talk {
    last: Option<Instant>,
    unsaid: u64,
    /// What the last of it was.
    about: String,
}

impl Talk {
    /// How much was not logged since the last that was, if this may be. What it is `about` is told with the rest,
    /// if it may not.
    pub fn may(&mut self, about: impl FnOnce() -> String) -> Option<u64> {
        if self.last.is_some_and(|last| last.elapsed() < TALK) {
            self.unsaid += 1;
            self.about = about();
            return None;
        }
        self.last = Some(Instant::now());
        Some(std::mem::take(&mut self.unsaid))
    }

    /// How much was not logged, and the last of it, once that may be told.
    pub fn rest(&mut self) -> Option<(u64, String)> {
        let is_due = self.unsaid > 0 && self.last.is_some_and(|last| last.elapsed() >= TALK);
        is_due.then(|| {
            self.last = Some(Instant::now());
            (std::mem::take(&mut self.unsaid), std::mem::take(&mut self.about))
        })
    }
}

/// From one line of the log about the same to the next.
const TALK: Duration = Duration::from_secs(10);
