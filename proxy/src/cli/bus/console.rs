//! A command's console: results to stdout, progress to stderr, questions, signals, and the format of times and lists.

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::{Duration, Instant, SystemTime};

use anyhow::anyhow;
use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::{Failed, Format, print};
use crate::clock;

/// Both outputs of a command. Lives as long as the command.
#[derive(Debug)]
pub(in crate::cli) struct Console {
    format: Format,
    /// Whether a line of progress can be overwritten.
    is_terminal: bool,
    /// The line of progress that was shown last.
    shown: String,
    next_tick: Option<Instant>,
}

impl Console {
    /// Returns the console. With `Format::Json` stdout is left to the one document at the end.
    pub(in crate::cli) fn new(format: Format) -> Self {
        Self { format, is_terminal: io::stderr().is_terminal(), shown: String::new(), next_tick: None }
    }

    pub(in crate::cli) fn format(&self) -> Format {
        self.format
    }

    /// Prints one or more whole lines for people.
    pub(in crate::cli) fn say(&mut self, text: &str) {
        self.settle();
        match self.format {
            Format::Text => print(text),
            Format::Json => eprint!("{text}"),
        }
    }

    /// Prints a warning to stderr.
    pub(in crate::cli) fn warn(&mut self, text: &str) {
        self.settle();
        eprintln!("{text}");
    }

    /// Prints a question, and leaves the cursor behind it.
    fn ask(&mut self, question: &str) {
        self.settle();
        let mut stderr = io::stderr().lock();
        drop(write!(stderr, "{question}").and_then(|()| stderr.flush()));
    }

    /// Shows a line of progress if it differs from the last one; on a terminal in its place.
    pub(in crate::cli) fn progress(&mut self, line: &str) {
        if line == self.shown {
            return;
        }
        let mut stderr = io::stderr().lock();
        // Errors are ignored: a terminal that is gone needs no progress.
        drop(match self.is_terminal {
            true => write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush()),
            false => writeln!(stderr, "{line}"),
        });
        line.clone_into(&mut self.shown);
    }

    /// Shows a line of progress that changes all the time: without a terminal, only every [`TICK`].
    pub(in crate::cli) fn tick(&mut self, line: &str) {
        let now = clock::now();
        if self.is_terminal || self.next_tick.is_none_or(|next| now >= next) {
            self.next_tick = Some(now + TICK);
            self.progress(line);
        }
    }

    /// Ends the last line of progress, so that it stays.
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

/// Asks for confirmation.
///
/// # Errors
/// When the answer is not yes, or stdin is no terminal.
pub(super) async fn confirm(question: &str, console: &mut Console) -> Result<(), Failed> {
    if !io::stdin().is_terminal() {
        return Err(Failed::Input(anyhow!("{question} stdin is no terminal to ask on: use --yes or --dry-run")));
    }
    console.ask(&format!("{question} [y/N] "));
    // On another thread: the connection to the bus must stay alive meanwhile.
    let answer = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).map(|_| answer)
    });
    let answer = answer.await.map_err(|error| Failed::Ran(error.into()))?;
    let answer = answer.map_err(|error| Failed::Ran(error.into()))?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failed::Ran(anyhow!("nothing was written"))),
    }
}

/// SIGINT, SIGTERM and SIGHUP (a terminal that is gone), for work that must be cleaned up before the end.
///
/// Once it is made, the signals no longer end the process by themselves.
#[derive(Debug)]
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Catches the signals.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn catch() -> io::Result<Self> {
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, hang_up: signal(SignalKind::hangup())? })
    }

    /// Waits for one of them.
    pub(super) async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

/// Returns the lines, each column as wide as its widest text, two spaces between them.
pub(in crate::cli) fn aligned<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let head = head.map(str::to_owned);
    let lines: Vec<&[String; N]> = std::iter::once(&head).chain(rows).collect();
    let widths: [usize; N] = std::array::from_fn(|column| {
        let texts = lines.iter().filter_map(|line| line.get(column));
        texts.map(|text| text.chars().count()).max().unwrap_or(0)
    });
    let line = |line: &&[String; N]| {
        let cells = line.iter().zip(widths).map(|(text, width)| format!("{text:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    lines.iter().map(line).collect()
}

/// Formats a time: `2026-11-21T15:33:36Z`.
pub(in crate::cli) fn utc(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| "?".to_owned(), |time| format!("{time:.0}"))
}

/// Formats Unix seconds as [`utc`].
pub(in crate::cli) fn utc_seconds(seconds: u64) -> String {
    utc(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Formats Unix milliseconds as [`utc`].
pub(in crate::cli) fn utc_millis(millis: u64) -> String {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis)).map_or_else(|| "?".to_owned(), utc)
}

/// Returns how long ago a time was, by this machine's clock: `1m 5s`.
pub(in crate::cli) fn ago(time: SystemTime, now: SystemTime) -> String {
    long(now.duration_since(time).unwrap_or_default())
}

/// Returns a duration in whole seconds: `1m 5s`.
pub(in crate::cli) fn long(duration: Duration) -> String {
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}

/// Returns the Unix milliseconds of a time.
pub(in crate::cli) fn unix_ms(now: SystemTime) -> u64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// How often progress that changes all the time is written without a terminal: a log stays readable.
const TICK: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let rows = [["é".to_owned(), "1".to_owned()], ["longer".to_owned(), String::new()]];
        assert_eq!(aligned(["a", "b"], &rows), "a       b\né       1\nlonger\n");
    }

    #[test]
    fn times_are_in_whole_seconds() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_275_216_250);
        assert_eq!(utc(time), "2026-11-21T15:33:36Z");
        assert_eq!(utc_millis(1_795_275_216_250), "2026-11-21T15:33:36Z");
        assert_eq!(utc_millis(u64::MAX), "?");
        assert_eq!(utc_seconds(1_795_275_216), "2026-11-21T15:33:36Z");
        assert_eq!(ago(time, time + Duration::from_millis(65_900)), "1m 5s");
        assert_eq!(ago(time, time - Duration::from_secs(1)), "0s");
    }
}
