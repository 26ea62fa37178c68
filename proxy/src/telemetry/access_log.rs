//! The access log: one JSON line for each request, never in the way of one.

use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use policy::Country;
use policy::explain::Testimony;
use serde::{Serialize, Serializer};

use crate::clock;
use crate::telemetry::metrics::Metrics;

/// One request's line. Times are of the node's clock.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub(crate) struct LogLine {
    pub(crate) time: String,
    pub(crate) request_id: String,
    /// Truncated (/24, /48) unless the node file asks for more or less.
    pub(crate) client: Option<IpAddr>,
    /// The countries that the client may be in; none when unknown.
    pub(crate) countries: Vec<Country>,
    /// Who says so: each geo database, by which field, and what contradicts it.
    pub(crate) place: Witnessed,
    pub(crate) client_key: String,
    pub(crate) protocol: &'static str,
    pub(crate) method: String,
    /// Whether it asked for an upgrade: see `policy::Facts`.
    pub(crate) upgrade: bool,
    /// Whether it had content.
    pub(crate) content: bool,
    pub(crate) host: String,
    /// Without the query, which may carry personal data.
    pub(crate) path: String,
    pub(crate) consent: bool,
    /// The jurisdictions that a trusted proxy declared for the tenant.
    pub(crate) declared: Vec<String>,
    /// The region that a cookie pins the client to.
    pub(crate) pinned: Option<String>,
    pub(crate) route: Option<String>,
    pub(crate) data_class: Option<String>,
    /// The region of the node that decided.
    pub(crate) from: String,
    /// Whether another node had chosen the region, and has a line of its own for the request.
    pub(crate) chosen: bool,
    pub(crate) table_version: String,
    pub(crate) status: u16,
    pub(crate) reason: Option<&'static str>,
    pub(crate) region: Option<String>,
    pub(crate) attempts: u32,
    /// The law opened the region with safeguards only.
    pub(crate) safeguards: bool,
    pub(crate) duration_ms: f64,
    pub(crate) response_bytes: u64,
    /// Whether the answer was sent to its end.
    pub(crate) complete: bool,
    /// Of a tunnel, whose line is written at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tunnel: Option<TunnelSummary>,
}

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TunnelEnd {
    /// Either side closed it.
    Closed,
    /// It broke, or never came about: a side did not take it up in time.
    Broken,
    /// No byte went either way for [`config::Limits::tunnel_idle_timeout`].
    Idle,
    /// Its region may no longer serve it.
    Revoked,
}

/// What a tunnel adds to the access log.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct TunnelSummary {
    /// Bytes from the client to the origin.
    pub(crate) bytes_up: u64,
    /// Bytes from the origin to the client.
    pub(crate) bytes_down: u64,
    /// How it ended.
    pub(crate) ended: TunnelEnd,
}

impl TunnelEnd {
    /// Returns its name, for metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            TunnelEnd::Closed => "closed",
            TunnelEnd::Broken => "broken",
            TunnelEnd::Idle => "idle",
            TunnelEnd::Revoked => "revoked",
        }
    }
}

/// Who says where a client is.
#[derive(Debug, Default)]
pub(crate) struct Witnessed {
    /// What the geo databases say: shared with other requests of the client.
    pub(crate) databases: Arc<[Testimony]>,
    /// What somebody else says that makes the client's origin another.
    pub(crate) other: Option<Testimony>,
}

impl Serialize for Witnessed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.databases.iter().chain(&self.other))
    }
}

/// Lines in flight to the writer; past it they are dropped and counted.
const QUEUE: usize = 8192;

/// The sender's side of the access log. Any thread sends; a thread of the log's own writes.
#[derive(Clone, Debug)]
pub(crate) struct AccessLog(Option<SyncSender<LogLine>>);

impl AccessLog {
    /// Makes a log that goes nowhere.
    pub(crate) fn off() -> Self {
        Self(None)
    }

    /// Makes a log to stdout, written by a thread of its own.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(crate) fn stdout() -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUE);
        std::thread::Builder::new().name("access-log".into()).spawn(move || write_all(&receiver))?;
        Ok(Self(Some(sender)))
    }

    /// Returns whether lines are wanted at all.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Sends a line, or counts it as dropped when the writer is behind.
    pub(crate) fn write(&self, line: LogLine, metrics: &Metrics) {
        let Some(sender) = &self.0 else { return };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = sender.try_send(line) {
            metrics.access_log_dropped.inc();
        }
    }
}

/// Writes lines as they come, and flushes whenever none is waiting.
fn write_all(lines: &Receiver<LogLine>) {
    let mut out = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout());
    while let Ok(line) = lines.recv() {
        let mut next = Some(line);
        while let Some(line) = next {
            let written = serde_json::to_writer(&mut out, &line).map_err(std::io::Error::from);
            if written.and_then(|()| out.write_all(b"\n")).is_err() {
                return;
            }
            next = lines.try_recv().ok();
        }
        if out.flush().is_err() {
            return;
        }
    }
}

/// Returns the time of a line: RFC 3339, UTC, milliseconds.
pub(crate) fn now() -> String {
    let now = jiff::Timestamp::try_from(clock::system_time()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{now:.3}")
}
