//! The canary of a version: which share of the clients gets it, and when that grows or ends.

use std::time::Duration;

/// A version on trial, as a table describes it. Endpoints of this version are the canary, all others
/// of their regions are stable.
#[derive(Clone, Debug, PartialEq)]
pub struct Canary {
    /// The version on trial.
    pub version: String,
    /// Percent of the clients, ascending, that get it step by step.
    pub steps: Vec<u8>,
    /// How long each step lasts at least; the last one is repeated for steps without one. Empty: the
    /// first step stays, and nothing is automatic but the end of a bad canary.
    pub pace: Vec<Duration>,
    /// What a step must show before the next.
    pub success: Success,
    /// What ends it.
    pub failure: Failure,
    /// The line of the table that declares it, from 1.
    pub line: u32,
}

/// What a step must show before the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Success {
    /// At least so many requests.
    pub requests: u64,
    /// At most this share of errors, `0..=1`.
    pub error_rate: f64,
    /// At most this P95.
    pub p95: Duration,
}

/// What ends a canary, where the stable version does better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Failure {
    /// More than this share of errors, `0..=1`.
    pub error_rate: f64,
    /// A P95 longer than this.
    pub p95: Duration,
}

impl Canary {
    /// Whether two tables put the same version on trial in the same way, wherever they say so.
    pub fn is_same_trial(&self, other: &Canary) -> bool {
        *self == Canary { line: self.line, ..other.clone() }
    }
}
