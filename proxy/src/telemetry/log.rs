//! The node's own log: stderr, one event a line. It holds up nobody: lines go to a thread that writes them, and what
//! that has no room for is lost and counted.

use std::io::{self, Write};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::output::{Event, OutputHealth, Queue, Standard};
use crate::supervise;

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// The lines on their way to stderr, once the log has started: one for the process, as tracing's subscriber is.
static LINES: OnceLock<Arc<Queue>> = OnceLock::new();

/// Starts the log, panics included. `MERIDIAN_LOG` filters it (`debug`, `info,hyper=warn`, …); otherwise it is [`OURS`].
///
/// # Errors
/// When its thread cannot be started.
pub(crate) fn start(format: LogFormat) -> io::Result<()> {
    let lines = lines();
    let filter = EnvFilter::try_from_env("MERIDIAN_LOG").unwrap_or_else(|_| EnvFilter::new(OURS));
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(Lines(lines.clone())).log_internal_errors(false);
    let started = match format {
        LogFormat::Text => subscriber.with_target(false).with_ansi(false).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    // A second start, as in tests, keeps the first.
    drop(started);
    supervise::log_panics();
    // Last, since its panics are logged too.
    write(lines)
}

/// Has lines for stderr hold up nobody from now on, those of [`write_raw`] among them.
///
/// # Errors
/// When the thread that writes them cannot be started.
pub(crate) fn open() -> io::Result<()> {
    write(lines())
}

fn lines() -> Arc<Queue> {
    LINES.get_or_init(|| Arc::new(Queue::new(MOST_BYTES))).clone()
}

fn write(lines: Arc<Queue>) -> io::Result<()> {
    super::output::start("log", lines, Standard::stderr()?, tell)
}

/// Writes a line as it is.
pub(crate) fn write_raw(line: &str) {
    match LINES.get() {
        Some(lines) => lines.push(line.as_bytes()),
        // There is nobody to tell that it cannot be told.
        None => drop(io::stderr().write_all(line.as_bytes())),
    }
}

/// Has the file opened anew that stderr was redirected to, if it was.
pub(crate) fn reopen() {
    if let Some(lines) = LINES.get() {
        lines.reopen();
    }
}

/// Returns how well the log is taken.
pub(crate) fn health() -> OutputHealth {
    LINES.get().map_or_else(|| OutputHealth::off(0), |lines| lines.health())
}

/// Returns how many lines were lost.
pub(crate) fn lost() -> u64 {
    LINES.get().map_or(0, |lines| lines.lost())
}

/// Has everything written, for `within` at most, and ends the log: the process is about to end.
pub(crate) fn finish(within: Duration) {
    if let Some(lines) = LINES.get() {
        lines.finish(within);
    }
}

/// A log that cannot be written tells nobody but `/status` and the metrics.
fn tell(event: Event<'_>) {
    match event {
        Event::Fails(_) => {}
        Event::Works => tracing::info!(lost = lost(), "the log is written again"),
        Event::NotReopened(error) => tracing::error!(%error, "the log's file cannot be opened anew"),
    }
}

/// Takes events' lines for the queue.
struct Lines(Arc<Queue>);

/// Takes one event's line, which comes in one piece.
struct Line<'a>(&'a Queue);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(&self.0)
    }
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the log has unless it is said otherwise. What pingora notes on its start and stop, and the bus's client on each
/// attempt to connect, says nothing that ours does not; what the libraries of HTTP and DNS warn of, any client can cause,
/// and no line of theirs names one.
const OURS: &str = "info,pingora_core=warn,async_nats=off,h2=error,hyper=error,hyper_util=error,rustls=error,\
    hickory_net=error,hickory_proto=error,hickory_resolver=error";
/// Bytes that wait for stderr's reader: some 5,000 lines.
const MOST_BYTES: usize = 1024 * 1024;
