//! Counts and logs those who are no nodes.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

use crate::telemetry::log_limiter::LogLimiter;
use crate::telemetry::metrics::Metrics;

/// Counts who was refused, and logs it once in a while. One for each node; any thread counts.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    clients: Mutex<LogLimiter>,
    gateways: Mutex<LogLimiter>,
}

impl Refusals {
    /// Somebody who connects, or sends a request, is no node.
    pub(crate) fn of_client(&self, metrics: &Metrics, cause: &'static str, peer: impl Display, why: &dyn Display) {
        metrics.peer_refusals.with_label_values(&["client", cause]).inc();
        let due = self.clients.lock().unwrap_or_else(PoisonError::into_inner).may(String::new);
        if let Some(unsaid) = due {
            tracing::warn!(%peer, cause, unsaid, "refused as a node: {why}");
        }
    }

    /// A gateway is no node's, or does not know this one.
    pub(crate) fn of_gateway(&self, metrics: &Metrics, cause: &'static str, why: &dyn Display) {
        metrics.peer_refusals.with_label_values(&["gateway", cause]).inc();
        let due = self.gateways.lock().unwrap_or_else(PoisonError::into_inner).may(String::new);
        if let Some(unsaid) = due {
            tracing::warn!(cause, unsaid, "no request to a gateway: {why}");
        }
    }
}
