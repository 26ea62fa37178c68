//! What the node tells of itself: metrics, the access log, its own log.

pub(crate) mod access_log;
pub(crate) mod answered_request;
pub(crate) mod client_abuse;
pub(crate) mod log;
pub(crate) mod log_limiter;
pub(crate) mod metrics;
mod output;
pub(crate) mod printed;
mod sums;
mod time_text;

use self::access_log::AccessLog;
use self::client_abuse::AbuseLog;
use self::metrics::Metrics;
pub(crate) use self::output::OutputHealth;
use crate::supervise;

/// Where a node counts and logs requests. One for each node, for as long as the process lives; any thread uses it.
pub(crate) struct Telemetry {
    /// The metrics.
    pub(crate) metrics: Metrics,
    /// The access log.
    pub(crate) access_log: AccessLog,
    /// What the log tells of clients that are cut off.
    pub(crate) abuse: AbuseLog,
}

impl Telemetry {
    /// Brings the metrics up to date that are counted elsewhere.
    pub(crate) fn count_elsewhere(&self) {
        up_to(&self.metrics.access_log_dropped, self.access_log.dropped());
        count_process(&self.metrics);
    }
}

/// Brings the metrics up to date that the process counts for itself.
pub(crate) fn count_process(metrics: &Metrics) {
    up_to(&metrics.log_lost, log::lost());
    up_to(&metrics.panics, supervise::panics());
    for (task, ends) in supervise::ends() {
        up_to(&metrics.task_ends.with_label_values(&[task]), ends);
    }
}

/// Has a counter count what is counted elsewhere. On the thread of the admin listener only.
fn up_to(counter: &prometheus::IntCounter, count: u64) {
    counter.inc_by(count.saturating_sub(counter.get()));
}
