//! How far a long command is, on a terminal.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::clock;

/// Shows how far it is once that takes longer than a second, on a terminal; never in a pipe.
pub(super) struct Progress {
    started: Instant,
    shown: Option<ProgressBar>,
    wanted: bool,
}

/// Who waits for less does not want to read.
const PATIENCE: Duration = Duration::from_secs(1);

impl Progress {
    /// Begins now.
    pub(super) fn new() -> Self {
        Self { started: clock::now(), shown: None, wanted: std::io::stderr().is_terminal() }
    }

    /// So much of all of something is done.
    pub(super) fn at(&mut self, what: &'static str, done: u64, all: u64) {
        if !self.wanted || self.started.elapsed() < PATIENCE {
            return;
        }
        let bar = self.shown.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{msg} {bar:32} {percent} % ({eta} left)");
            ProgressBar::new(all).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        bar.set_message(what);
        bar.set_length(all);
        bar.set_position(done.min(all));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}
