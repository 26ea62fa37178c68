//! What the node tells of itself: metrics, the access log, its own log.

pub mod access_log;
pub mod answered_request;
pub mod log;
pub mod log_limiter;
pub mod metrics;

use access_log::AccessLog;
use metrics::Metrics;

/// Where a node counts and logs requests. One for each node, for as long as the process lives; any thread uses it.
pub struct Telemetry {
    /// The metrics.
    pub metrics: Metrics,
    /// The access log.
    pub access_log: AccessLog,
}
