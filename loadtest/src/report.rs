//! What a run found.

mod table;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::FailureKind;

/// The sums of a run. `Display` writes a table for people, serde the same for programs; its keys carry their units.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The plan's rate, in requests per second.
    pub offered_rate: f64,
    /// The rate achieved: requests sent per second, from the first intended time to the end of the schedule, or to
    /// the last request sent if that came later.
    pub rate: f64,
    /// The whole run, until the last request had ended.
    #[serde(rename = "duration_s", serialize_with = "seconds")]
    pub duration: Duration,
    /// Requests that the schedule called for: `answered + failed`.
    pub due: u64,
    /// Those that got their turn; the others failed as [`NotStarted`](FailureKind::NotStarted).
    pub sent: u64,
    /// Requests with a whole answer, whatever its status.
    pub answered: u64,
    /// Requests without one.
    pub failed: u64,
    /// The answered, by status code.
    pub statuses: BTreeMap<u16, u64>,
    /// The failed, by kind.
    pub failures: BTreeMap<FailureKind, FailureCount>,
    /// From intended time to whole answer. Failed requests are not in it: read it beside `failed`.
    #[serde(rename = "latency_ms")]
    pub latency: Latencies,
    /// The part of it before a connection took the request, dialling included. Where it rivals the latency, there were
    /// too few connections for the rate.
    #[serde(rename = "wait_ms")]
    pub wait: Latencies,
    /// The answered that named a region in `x-meridian-region`, by region.
    pub regions: BTreeMap<String, u64>,
    /// Attempts beyond each request's first, summed over `x-meridian-attempts`.
    pub further_attempts: u64,
    /// Bytes of all whole answers' bodies.
    pub bytes: u64,
    /// Connections opened.
    pub connections: u64,
    /// Requests that went out on a fresh connection, since the kept one turned out closed.
    pub reconnects: u64,
}

/// How often something failed in one way.
#[derive(Clone, Debug, Serialize)]
pub struct FailureCount {
    /// How many requests.
    pub count: u64,
    /// The first one's message.
    pub first: String,
}

/// A distribution of times, each exact to three digits. All zero if there were none. Serialized in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Latencies {
    /// The arithmetic mean.
    #[serde(serialize_with = "milliseconds")]
    pub mean: Duration,
    /// The median.
    #[serde(serialize_with = "milliseconds")]
    pub p50: Duration,
    /// Nine in ten are at most this.
    #[serde(serialize_with = "milliseconds")]
    pub p90: Duration,
    /// 99 in 100 are at most this.
    #[serde(serialize_with = "milliseconds")]
    pub p99: Duration,
    /// 999 in 1000 are at most this.
    #[serde(serialize_with = "milliseconds")]
    pub p999: Duration,
    /// The longest.
    #[serde(serialize_with = "milliseconds")]
    pub max: Duration,
}

impl Report {
    /// Answers with a status from 500 on.
    pub fn server_errors(&self) -> u64 {
        self.statuses.range(500..).map(|(_, count)| count).sum()
    }

    /// Returns how many failed in this way.
    pub fn failed_by(&self, kind: FailureKind) -> u64 {
        self.failures.get(&kind).map_or(0, |failure| failure.count)
    }
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

fn milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_micros() as f64 / 1e3)
}
