//! The node's own reports, as they come back: a watch that does not bring them is deaf.

use std::time::Instant;

use config::bus::{BusError, Watch};

/// Which of the node's own reports have come back.
#[derive(Debug, Default)]
pub struct Echo {
    /// The first report that has not come back yet, and when it was sent.
    missing: Option<(u64, Instant)>,
    came: u64,
}

impl Echo {
    /// A report was taken by the bus.
    pub fn sent(&mut self, revision: u64) {
        if self.missing.is_none() && self.came < revision {
            self.missing = Some((revision, Instant::now()));
        }
    }

    /// A report has come back.
    pub fn came(&mut self, revision: u64) {
        self.came = self.came.max(revision);
        self.missing = self.missing.filter(|(missing, _)| *missing > revision);
    }

    /// Whether a report of this node's name is later than one of its own that came back: another
    /// process has the name too. An earlier one is of the process before this one.
    pub fn is_followed_by(&self, revision: u64) -> bool {
        (1..revision).contains(&self.came)
    }

    /// Whether the watch brings what it should.
    ///
    /// # Errors
    /// When it has been silent for too long.
    pub fn check(&self) -> Result<(), BusError> {
        match self.missing {
            Some((_, since)) if since.elapsed() > Watch::SILENCE => {
                Err(BusError::Other("the watch is silent, though the bus is not".to_owned()))
            }
            _ => Ok(()),
        }
    }
}
