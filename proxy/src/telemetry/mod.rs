//! What the node tells of itself: metrics, the access log, its own log.

pub(crate) mod access_log;
pub(crate) mod answered_request;
pub(crate) mod log;
pub(crate) mod log_limiter;
pub(crate) mod metrics;
mod sums;

use access_log::AccessLog;
use metrics::Metrics;

/// Where a node counts and logs requests. One for each node, for as long as the process lives; any thread uses it.
pub(crate) struct Telemetry {
    /// The metrics.
    pub(crate) metrics: Metrics,
    /// The access log.
    pub(crate) access_log: AccessLog,
}
