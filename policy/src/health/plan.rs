//! How endpoints are probed.

use std::ops::RangeInclusive;
use std::time::Duration;

/// How an endpoint is probed, and how the results become a state.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbePlan {
    /// What is asked.
    pub check: Check,
    /// From one probe's start to the next, while all is well.
    pub interval: Duration,
    /// The same while something is wrong: an endpoint is down, has failed its last probe, or real
    /// traffic has something against it. Never longer than `interval`.
    pub unhealthy_interval: Duration,
    /// Each interval varies by this share, `0..=1`, up and down, so that a fleet does not ask in step.
    pub jitter: f64,
    /// From a probe's start to its answer, over all that it asks.
    pub timeout: Duration,
    /// Failures in a row that make a healthy endpoint unhealthy.
    pub failures: u32,
    /// Passes in a row that make an unhealthy endpoint healthy.
    pub successes: u32,
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    /// GETs over HTTP or HTTPS, as the endpoint speaks.
    Http(HttpCheck),
    /// A connection, with TLS if the endpoint speaks it; nothing is sent on it.
    Tcp,
    /// `grpc.health.v1.Health/Check` over HTTP/2, which must answer `SERVING`.
    Grpc {
        /// The service asked about; empty for the whole server.
        service: String,
    },
}

/// What is asked over HTTP, and what passes.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpCheck {
    /// The paths to GET; all of them must pass.
    pub paths: Vec<String>,
    /// The `Host` to ask for; the endpoint's own address without one.
    pub host: Option<String>,
    /// The statuses that pass.
    pub statuses: Vec<RangeInclusive<u16>>,
    /// What the first 64 KiB of the body must contain.
    pub body: Option<String>,
}

impl ProbePlan {
    /// Returns how fast probes are while something is wrong, where the table does not say: ten times as fast, but
    /// no faster than every 500 ms and no slower than every 5 s.
    pub fn default_unhealthy_interval(interval: Duration) -> Duration {
        let bounds = (Duration::from_millis(500), Duration::from_secs(5));
        (interval / 10).clamp(bounds.0, bounds.1).min(interval)
    }
}

impl Default for ProbePlan {
    /// `GET /health` every 30 s, answered with 200 to 399 within 10 s; three failures, two passes.
    fn default() -> Self {
        let interval = Duration::from_secs(30);
        Self {
            check: Check::Http(HttpCheck::default()),
            interval,
            unhealthy_interval: Self::default_unhealthy_interval(interval),
            jitter: 0.1,
            timeout: Duration::from_secs(10),
            failures: 3,
            successes: 2,
        }
    }
}

impl Default for HttpCheck {
    fn default() -> Self {
        Self { paths: vec!["/health".to_owned()], host: None, statuses: vec![200..=399], body: None }
    }
}
