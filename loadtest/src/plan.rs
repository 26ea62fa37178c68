//! What a run sends where, how fast, and for how long.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::Target;

/// One run: a target, a fixed arrival rate, and the bounds within which it is held.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server to dial.
    pub target: Target,
    /// Arrivals in requests per second, 0.001 to 1,000,000, evenly spaced.
    pub rate: f64,
    /// How long requests are scheduled. `Duration::MAX` runs until its stop signal. The run itself ends when the
    /// last request has ended, so at most one `timeout` later.
    pub duration: Duration,
    /// Connections open at the same time, at most; each is dialled when it is first needed, and all are used in turn.
    pub connections: usize,
    /// Requests in flight on one HTTP/2 connection, at most. HTTP/1.1 has one.
    pub streams: usize,
    /// How long after its intended time a request may end. One that has not found a connection by then counts as
    /// [`NotStarted`](crate::FailureKind::NotStarted), one that is not answered whole as
    /// [`Timeout`](crate::FailureKind::Timeout).
    pub timeout: Duration,
    /// Whether requests share connections.
    pub reuse: Reuse,
}

/// Whether a connection serves more than one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Connections are kept and used again.
    KeepAlive,
    /// Each request dials its own connection, and over TLS makes a full handshake.
    NewConnection,
}

/// A number in a plan is out of its range.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The rate is not a number in its range.
    #[error("a rate of {0} requests per second is out of range: give one from {min} to {max}", min = RATES.start(), max = RATES.end())]
    Rate(f64),
    /// The number of connections is out of range.
    #[error("{0} connections are out of range: give {min} to {max}", min = CONNECTIONS.start(), max = CONNECTIONS.end())]
    Connections(usize),
    /// The number of streams is out of range.
    #[error("{0} streams per connection are out of range: give {min} to {max}", min = STREAMS.start(), max = STREAMS.end())]
    Streams(usize),
    /// The timeout is out of range.
    #[error("a timeout of {0:?} is out of range: give {min:?} to {max:?}", min = TIMEOUTS.start(), max = TIMEOUTS.end())]
    Timeout(Duration),
}

impl Plan {
    /// Returns a plan with 32 kept connections, 10 streams on each (HTTP/2), and a timeout of 10 s.
    pub fn new(target: Target, rate: f64, duration: Duration) -> Plan {
        let timeout = Duration::from_secs(10);
        Plan { target, rate, duration, connections: 32, streams: 10, timeout, reuse: Reuse::KeepAlive }
    }

    /// Returns whether every number is in its range. A run checks it first of all.
    pub fn check(&self) -> Result<(), PlanError> {
        if !RATES.contains(&self.rate) {
            return Err(PlanError::Rate(self.rate));
        }
        if !CONNECTIONS.contains(&self.connections) {
            return Err(PlanError::Connections(self.connections));
        }
        if !STREAMS.contains(&self.streams) {
            return Err(PlanError::Streams(self.streams));
        }
        if !TIMEOUTS.contains(&self.timeout) {
            return Err(PlanError::Timeout(self.timeout));
        }
        Ok(())
    }
}

const RATES: RangeInclusive<f64> = 0.001..=1_000_000.0;
const CONNECTIONS: RangeInclusive<usize> = 1..=65_536;
const STREAMS: RangeInclusive<usize> = 1..=1_000;
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3_600);
