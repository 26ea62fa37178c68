//! Counts and logs clients that are cut off since they do what takes the node's time and serves nobody.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

use crate::telemetry::log_limiter::LogLimiter;
use crate::telemetry::metrics::Metrics;

/// What a client did: frames of HTTP/2 without end, of a kind that carries nothing; or next to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abuse {
    /// PING.
    Ping,
    /// SETTINGS.
    Settings,
    /// PRIORITY.
    Priority,
    /// WINDOW_UPDATE, more than what was sent makes up for.
    WindowUpdate,
    /// Requests that it cancels.
    Reset,
    /// DATA that is empty, or nearly.
    EmptyData,
    /// A head in pieces without end.
    Continuation,
    /// Frames of types that nobody knows.
    Unknown,
    /// Streams that had to be reset: heads that are too large or wrong.
    Rejected,
    /// An upload below the least rate.
    SlowBody,
}

/// Whether the log may tell. One for each node; any thread uses it.
#[derive(Debug, Default)]
pub(crate) struct AbuseLog {
    floods: Mutex<LogLimiter>,
    connections: Mutex<LogLimiter>,
}

impl Abuse {
    /// Returns its name in metrics and the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Abuse::Ping => "ping",
            Abuse::Settings => "settings",
            Abuse::Priority => "priority",
            Abuse::WindowUpdate => "window_update",
            Abuse::Reset => "reset",
            Abuse::EmptyData => "empty_data",
            Abuse::Continuation => "continuation",
            Abuse::Unknown => "unknown_frame",
            Abuse::Rejected => "rejected",
            Abuse::SlowBody => "slow_body",
        }
    }
}

impl AbuseLog {
    /// Counts a client that was cut off, and logs it once in a while: as much of its address as the log may carry.
    pub(crate) fn tell(&self, metrics: &Metrics, abuse: Abuse, client: Option<impl Display>) {
        let kind = abuse.name();
        metrics.client_abuse.with_label_values(&[kind]).inc();
        let due = self.floods.lock().unwrap_or_else(PoisonError::into_inner).may(String::new);
        if let Some(unsaid) = due {
            let client = client.map(tracing::field::display);
            tracing::warn!(client, kind, unsaid, "an HTTP/2 connection is cut: its client floods it");
        }
    }

    /// Counts a connection that is closed since its client has as many as it may, and logs it once in a while.
    pub(crate) fn tell_of_connection(&self, metrics: &Metrics, most: usize, client: Option<impl Display>) {
        metrics.shed.with_label_values(&["default", "client_connections"]).inc();
        let due = self.connections.lock().unwrap_or_else(PoisonError::into_inner).may(String::new);
        if let Some(unsaid) = due {
            let client = client.map(tracing::field::display);
            tracing::warn!(
                client,
                most,
                unsaid,
                "a connection is closed: its client has as many as limits.connections_per_client lets it"
            );
        }
    }
}
