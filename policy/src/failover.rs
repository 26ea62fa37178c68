//! The fleet-wide failover settings of a table.

use std::time::Duration;

/// Fleet-wide failover settings.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Failover {
    /// A region is down when less than this share, `0..=1`, of its endpoints is healthy.
    pub threshold: f64,
    pub error_rate: f64,
    pub latency_p99: Duration,
    pub failback_delay: Duration,
    pub ramp: Vec<u8>,
    pub ramp_step: Duration,
    pub outlier: Outlier,
    pub retry_budget: RetryBudget,
    pub drain_timeout: Duration,
}

/// How far a route's requests may go from their first choice: the region that would serve them with every region up
/// and idle, at the round trips that the table assumes. So it does not depend on what fails, nor when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FailoverScope {
    /// To every region that the law and the route allow.
    #[default]
    Any,
    /// To regions of the first choice's jurisdictions: those that hold for the request, if it lies in any of these.
    Jurisdiction,
    /// Nowhere.
    Region,
}

impl FailoverScope {
    /// Returns its name, as tables have it.
    pub fn name(self) -> &'static str {
        match self {
            FailoverScope::Any => "any",
            FailoverScope::Jurisdiction => "jurisdiction",
            FailoverScope::Region => "region",
        }
    }
}

/// When an endpoint is ejected on the evidence of real traffic.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Outlier {
    pub consecutive_errors: u32,
    pub interval: Duration,
    pub base_ejection: Duration,
    /// The largest share, `0..=1`, of a region's endpoints that may be ejected.
    pub max_ejected: f64,
}

/// How many retries a region may cost.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct RetryBudget {
    pub ratio: f64,
    pub per_second: f64,
}

impl Default for Failover {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            threshold: 0.5,
            error_rate: 0.10,
            latency_p99: seconds(5),
            failback_delay: seconds(300),
            ramp: vec![10, 50, 100],
            ramp_step: seconds(15 * 60),
            outlier: Outlier {
                consecutive_errors: 5,
                interval: seconds(10),
                base_ejection: seconds(30),
                max_ejected: 0.5,
            },
            retry_budget: RetryBudget { ratio: 0.2, per_second: 3.0 },
            drain_timeout: seconds(300),
        }
    }
}
