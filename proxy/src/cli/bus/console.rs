//! Where a command says how it goes: results to stdout, progress to stderr.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::cli::{Format, print};

/// Both outputs of a command.
#[derive(Debug)]
pub(in crate::cli) struct Console {
    format: Format,
    /// Whether a line of progress can be written over.
    is_terminal: bool,
    /// The line of progress that was shown last.
    shown: String,
    next_tick: Option<Instant>,
}

impl Console {
    /// With `Format::Json` stdout is left to the one document at the end.
    pub(in crate::cli) fn new(format: Format) -> Self {
        Self { format, is_terminal: std::io::stderr().is_terminal(), shown: String::new(), next_tick: None }
    }

    pub(in crate::cli) fn format(&self) -> Format {
        self.format
    }

    /// Says what people should read, one or more whole lines.
    pub(in crate::cli) fn say(&mut self, text: &str) {
        self.settle();
        match self.format {
            Format::Text => print(text),
            Format::Json => eprint!("{text}"),
        }
    }

    /// Says what people should not overlook.
    pub(in crate::cli) fn warn(&mut self, text: &str) {
        self.settle();
        eprintln!("{text}");
    }

    /// Leaves the cursor behind a question.
    pub(super) fn ask(&mut self, question: &str) {
        self.settle();
        let mut stderr = std::io::stderr().lock();
        drop(write!(stderr, "{question}").and_then(|()| stderr.flush()));
    }

    /// Shows how far it is, if that is news: on a terminal in place of the last line.
    pub(in crate::cli) fn progress(&mut self, line: &str) {
        if line == self.shown {
            return;
        }
        let mut stderr = std::io::stderr().lock();
        // A terminal that is gone needs no progress.
        drop(match self.is_terminal {
            true => write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush()),
            false => writeln!(stderr, "{line}"),
        });
        line.clone_into(&mut self.shown);
    }

    /// As [`Console::progress`], for lines that are news all the time: no terminal, not so often.
    pub(in crate::cli) fn tick(&mut self, line: &str) {
        let now = Instant::now();
        if self.is_terminal || self.next_tick.is_none_or(|next| now >= next) {
            self.next_tick = Some(now + TICK);
            self.progress(line);
        }
    }

    /// Leaves the last line of progress as it is.
    fn settle(&mut self) {
        if self.is_terminal && !self.shown.is_empty() {
            eprintln!();
        }
        self.shown.clear();
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.settle();
    }
}

const TICK: Duration = Duration::from_secs(5);
