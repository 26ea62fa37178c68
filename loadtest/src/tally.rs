//! Adds observations up.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::schedule::Schedule;
use crate::{FailureCount, FailureKind, Latencies, Observation, Outcome, Plan, Report};

/// A report in the making. Its size is bounded, however long the run.
pub(crate) struct Tally {
    sent: u64,
    last_sent: Option<Instant>,
    statuses: BTreeMap<u16, u64>,
    failures: BTreeMap<FailureKind, FailureCount>,
    regions: BTreeMap<String, u64>,
    further_attempts: u64,
    bytes: u64,
    reconnects: u64,
    latency: Histogram<u64>,
    wait: Histogram<u64>,
}

impl Tally {
    pub(crate) fn new() -> Tally {
        Tally {
            sent: 0,
            last_sent: None,
            statuses: BTreeMap::new(),
            failures: BTreeMap::new(),
            regions: BTreeMap::new(),
            further_attempts: 0,
            bytes: 0,
            reconnects: 0,
            latency: histogram(),
            wait: histogram(),
        }
    }

    pub(crate) fn count(&mut self, observation: &Observation) {
        self.reconnects += u64::from(observation.reconnected);
        if !matches!(observation.outcome, Outcome::Failed { kind: FailureKind::NotStarted, .. }) {
            self.sent += 1;
            self.last_sent = self.last_sent.max(Some(observation.intended + observation.wait));
        }
        match &observation.outcome {
            Outcome::Answered { status, region, attempts, bytes, .. } => {
                *self.statuses.entry(*status).or_default() += 1;
                if let Some(region) = region {
                    self.count_region(region);
                }
                self.further_attempts += u64::from(attempts.saturating_sub(1));
                self.bytes += bytes;
                self.latency.saturating_record(microseconds(observation.latency));
                self.wait.saturating_record(microseconds(observation.wait));
            }
            Outcome::Failed { kind, message } => {
                let failure = self.failures.entry(*kind);
                failure.or_insert_with(|| FailureCount { count: 0, first: message.clone() }).count += 1;
            }
        }
    }

    /// The peer chooses the names, so it could choose too many.
    fn count_region(&mut self, region: &str) {
        if let Some(count) = self.regions.get_mut(region) {
            *count += 1;
        } else if self.regions.len() < MOST_REGIONS {
            self.regions.insert(region.to_owned(), 1);
        } else {
            *self.regions.entry(OTHER_REGIONS.to_owned()).or_default() += 1;
        }
    }

    pub(crate) fn report(self, plan: &Plan, schedule: &Schedule, connections: u64) -> Report {
        let answered = self.statuses.values().sum();
        let failed = self.failures.values().map(|failure| failure.count).sum();
        let sending = self.last_sent.map_or(Duration::ZERO, |at| at.saturating_duration_since(schedule.start()));
        let length = schedule.length().max(sending).as_secs_f64();
        Report {
            offered_rate: plan.rate,
            rate: if length > 0.0 { self.sent as f64 / length } else { 0.0 },
            duration: schedule.start().elapsed(),
            due: schedule.total(),
            sent: self.sent,
            answered,
            failed,
            statuses: self.statuses,
            failures: self.failures,
            latency: latencies(&self.latency),
            wait: latencies(&self.wait),
            regions: self.regions,
            further_attempts: self.further_attempts,
            bytes: self.bytes,
            connections,
            reconnects: self.reconnects,
        }
    }
}

fn latencies(histogram: &Histogram<u64>) -> Latencies {
    let at = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile));
    Latencies {
        mean: Duration::from_secs_f64(histogram.mean() / 1e6),
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: Duration::from_micros(histogram.max()),
    }
}

/// Microseconds, up to an hour (which no timeout exceeds), to three significant digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("the bounds are valid")
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

const MOST_REGIONS: usize = 256;
const OTHER_REGIONS: &str = "(further regions)";
