//! What nodes report on the bus: this node its counts, by which a canary's publisher decides; the other nodes their
//! presence, without which their load reports are not accepted.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use config::bus::REPORT_TTL;
use policy::quantile::{BUCKETS, bucket};
use policy::trial::Observed;

use crate::clock;

/// The counts of the node's workers, added up when they are read. Lives as long as the process, shared by all threads.
#[derive(Debug, Default)]
pub(crate) struct Observations {
    workers: Mutex<Vec<Arc<WorkerObservations>>>,
    /// The counts at the start of each of the last minutes, the oldest first.
    minutes: Mutex<VecDeque<(Instant, Observed)>>,
}

/// The counts of one worker, which alone adds to them, so that no two threads write to the same place. Lives as long as
/// the process.
#[derive(Debug)]
pub(crate) struct WorkerObservations {
    requests: AtomicU64,
    errors: AtomicU64,
    shed: AtomicU64,
    refused: AtomicU64,
    times: [AtomicU64; BUCKETS],
}

impl Default for WorkerObservations {
    fn default() -> Self {
        let zero = AtomicU64::default;
        let times = std::array::from_fn(|_| zero());
        Self { requests: zero(), errors: zero(), shed: zero(), refused: zero(), times }
    }
}

impl WorkerObservations {
    /// Counts an answer: its status, the reason if Meridian gave the answer itself, and how long it took.
    pub(crate) fn answered(&self, status: u16, reason: Option<&str>, took: Duration) {
        let one = |count: &AtomicU64| {
            count.fetch_add(1, Ordering::Relaxed);
        };
        one(&self.requests);
        match reason {
            Some("overloaded" | "client_limit") => one(&self.shed),
            // Requests that the table refuses, for whatever reason.
            Some("residency_prohibited" | "residency_unavailable" | "table_expired" | "unavailable" | "no_route") => {
                one(&self.refused);
            }
            _ => {
                if status >= 500 {
                    one(&self.errors);
                }
                if let Some(count) = self.times.get(bucket(took)) {
                    one(count);
                }
            }
        }
    }

    fn read(&self) -> Observed {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let mut times = [0; BUCKETS];
        for (time, count) in times.iter_mut().zip(&self.times) {
            *time = read(count);
        }
        Observed {
            requests: read(&self.requests),
            errors: read(&self.errors),
            shed: read(&self.shed),
            refused: read(&self.refused),
            times,
        }
    }
}

impl Observations {
    /// Returns the counts of one more worker.
    pub(crate) fn of_worker(&self) -> Arc<WorkerObservations> {
        let worker = Arc::<WorkerObservations>::default();
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(worker.clone());
        worker
    }

    /// Returns the part of `all` in the last ten minutes or so. To be called a few times a minute.
    pub(crate) fn lately(&self, all: &Observed) -> Observed {
        let mut minutes = self.minutes.lock().unwrap_or_else(PoisonError::into_inner);
        if minutes.back().is_none_or(|(at, _)| at.elapsed() >= Duration::from_secs(60)) {
            let then = if minutes.is_empty() { Observed::default() } else { all.clone() };
            minutes.push_back((clock::now(), then));
            if minutes.len() > MINUTES {
                minutes.pop_front();
            }
        }
        minutes.front().map_or_else(Observed::default, |(_, then)| all.since(then))
    }

    /// Returns the counts since the process's start.
    pub(crate) fn read(&self) -> Observed {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.iter().fold(Observed::default(), |sum, worker| sum.plus(&worker.read()))
    }
}

/// The nodes of the fleet whose reports have come within [`REPORT_TTL`]. Lives as long as the process; any thread may
/// ask.
#[derive(Debug, Default)]
pub(crate) struct Members(Mutex<HashMap<String, Member>>);

#[derive(Debug)]
struct Member {
    region: String,
    /// By [`clock::uptime`].
    seen: Duration,
}

impl Members {
    /// Notes that a node has reported.
    pub(crate) fn saw(&self, node: &str, region: &str, now: Duration) {
        let mut members = self.lock();
        if let Some(member) = members.get_mut(node) {
            *member = Member { region: region.to_owned(), seen: now };
        } else if members.len() < MAX_MEMBERS {
            members.insert(node.to_owned(), Member { region: region.to_owned(), seen: now });
        }
    }

    /// Returns whether a node reports from this region.
    pub(crate) fn is_in(&self, node: &str, region: &str, now: Duration) -> bool {
        self.lock().get(node).is_some_and(|member| member.region == region && member.is_alive(now))
    }

    /// Removes the nodes whose reports have expired.
    pub(crate) fn prune(&self, now: Duration) {
        self.lock().retain(|_, member| member.is_alive(now));
    }

    /// Returns how many nodes report.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Member>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    fn is_alive(&self, now: Duration) -> bool {
        now.saturating_sub(self.seen) <= REPORT_TTL
    }
}

/// The most nodes that are kept; further ones are ignored.
const MAX_MEMBERS: usize = 4096;

/// How many minutes count as recent: long enough for a rate, short enough for the present load.
const MINUTES: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_workers_do_is_added_up() {
        let observations = Observations::default();
        let workers = [observations.of_worker(), observations.of_worker()];
        for worker in &workers {
            worker.answered(200, None, Duration::from_millis(1));
            worker.answered(503, Some("overloaded"), Duration::ZERO);
            worker.answered(429, Some("client_limit"), Duration::ZERO);
        }
        workers[1].answered(502, Some("upstream_failed"), Duration::from_millis(1));
        workers[1].answered(451, Some("residency_prohibited"), Duration::ZERO);
        let Observed { requests, errors, shed, refused, times } = observations.read();
        assert_eq!((requests, errors, shed, refused, times.iter().sum()), (8, 1, 4, 1, 3_u64));
    }

    #[test]
    fn a_node_is_known_while_it_reports_and_where() {
        let members = Members::default();
        let at = Duration::from_secs;
        members.saw("b", "eu", at(0));
        members.saw("a", "us", at(20));
        assert!(members.is_in("b", "eu", at(30)) && !members.is_in("b", "us", at(30)));
        assert!(!members.is_in("b", "eu", at(31)));
        members.prune(at(31));
        assert_eq!(members.count(), 1);
        for number in 0..2 * MAX_MEMBERS {
            members.saw(&number.to_string(), "eu", at(31));
        }
        assert_eq!(members.count(), MAX_MEMBERS);
    }
}
