//! What became of one request.

use std::fmt;
use std::time::{Duration, Instant};

use http::HeaderMap;
use serde::Serialize;

/// One request of the schedule, ended. Every request that fell due is observed exactly once.
#[derive(Clone, Debug)]
pub struct Observation {
    /// The request's own `tag`.
    pub tag: usize,
    /// Its place in the schedule, from 0.
    pub sequence: u64,
    /// When the schedule wanted it sent.
    pub intended: Instant,
    /// From `intended` until a connection took it, dialling included: the part of the latency in which the request
    /// waited for its turn. The whole latency if none ever did.
    pub wait: Duration,
    /// From `intended` until the last byte of the answer, or until the failure.
    pub latency: Duration,
    /// Whether the connection that had been kept for it turned out closed, so that it went out on another.
    pub reconnected: bool,
    /// The answer or the failure.
    pub outcome: Outcome,
}

/// How a request ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// A whole answer came, whatever its status.
    Answered {
        /// The status code.
        status: u16,
        /// The response header `x-meridian-region`: who served.
        region: Option<String>,
        /// The response header `x-meridian-attempts`; 1 if it is absent.
        attempts: u32,
        /// Bytes of the body.
        bytes: u64,
        /// The answer's header fields.
        headers: HeaderMap,
    },
    /// No whole answer came.
    Failed {
        /// What went wrong, from a closed set.
        kind: FailureKind,
        /// The same in words, with the cause.
        message: String,
    },
}

/// Why no whole answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The request as described is not valid HTTP, so it was not sent.
    InvalidRequest,
    /// No connection was free within the timeout.
    NotStarted,
    /// The TCP connection was refused, or failed otherwise.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The peer did not speak the HTTP that was agreed on.
    Protocol,
    /// The connection or stream ended before the answer's head.
    Reset,
    /// The connection or stream ended amid the answer's body.
    BodyCut,
    /// The answer was not whole within the timeout.
    Timeout,
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            FailureKind::InvalidRequest => "invalid request",
            FailureKind::NotStarted => "not started",
            FailureKind::Connect => "connect",
            FailureKind::Tls => "tls",
            FailureKind::Protocol => "protocol",
            FailureKind::Reset => "reset",
            FailureKind::BodyCut => "body cut",
            FailureKind::Timeout => "timeout",
        })
    }
}
