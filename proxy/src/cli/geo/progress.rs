//! Shows the progress of a long command on a terminal.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::clock;

/// Shows a command's progress once it takes longer than a second, on a terminal; never in a pipe.
pub(super) struct Progress {
    started: Instant,
    shown: Option<ProgressBar>,
    wanted: bool,
}

/// How long a command takes before its progress is shown: shorter ones need none.
const PATIENCE: Duration = Duration::from_secs(1);

impl Progress {
    /// Starts the measurement.
    pub(super) fn new() -> Self {
        Self { started: clock::now(), shown: None, wanted: std::io::stderr().is_terminal() }
    }

    /// Shows that `done` of `all` is done.
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
