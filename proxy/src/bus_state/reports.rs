//! What nodes report on the bus: this node its counts, by which a canary's publisher decides; the other nodes their
//! presence, without which their load reports are not accepted.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use config::bus::{PRUNED_AFTER, REPORT_TTL};
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
    /// Counts an answer, but for an emergency's refusal: its status, the reason if Meridian gave the answer itself, and how long it took.
    pub(crate) fn answered(&self, status: u16, reason: Option<&str>, took: Duration) {
        let one = |count: &AtomicU64| {
            count.fetch_add(1, Ordering::Relaxed);
        };
        // An emergency refuses on purpose: that is no sign of how the node does, and is not to hide what is one.
        if matches!(reason, Some("emergency_route_off" | "emergency_read_only" | "emergency_shed")) {
            return;
        }
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

/// The nodes of the fleet that are known: those whose reports have come within [`REPORT_TTL`], which are alive, and those
/// that have fallen silent, until they are forgotten. Lives as long as the process; any thread may ask.
#[derive(Debug, Default)]
pub(crate) struct Members(Mutex<HashMap<String, Member>>);

#[derive(Debug)]
struct Member {
    region: String,
    /// Since its report.
    silent: Silence,
}

/// Since when a node has been silent.
#[derive(Clone, Copy, Debug)]
enum Silence {
    /// By [`clock::uptime`].
    Since(Duration),
    /// For so long before the process's start.
    SinceBefore(Duration),
}

impl Members {
    /// Notes that a node has reported, so long ago. Whoever was forgotten by then stays so.
    pub(crate) fn saw(&self, node: &str, region: &str, ago: Duration, now: Duration) {
        if ago > KNOWN_FOR {
            return;
        }
        let silent = now.checked_sub(ago).map_or_else(|| Silence::SinceBefore(ago - now), Silence::Since);
        let mut members = self.lock();
        if members.len() >= MAX_MEMBERS && !members.contains_key(node) {
            members.retain(|_, member| member.is_alive(now));
        }
        if members.len() < MAX_MEMBERS || members.contains_key(node) {
            members.insert(node.to_owned(), Member { region: region.to_owned(), silent });
        }
    }

    /// Forgets a node that has left in order.
    pub(crate) fn left(&self, node: &str) {
        self.lock().remove(node);
    }

    /// Returns whether a node reports from this region.
    pub(crate) fn is_in(&self, node: &str, region: &str, now: Duration) -> bool {
        self.lock().get(node).is_some_and(|member| member.region == region && member.is_alive(now))
    }

    /// Forgets the nodes that have been silent for [`KNOWN_FOR`], while most of those that are known are not: whoever hears
    /// less than half of the fleet must not take itself for all of it.
    pub(crate) fn prune(&self, now: Duration) {
        let mut members = self.lock();
        let alive = members.values().filter(|member| member.is_alive(now)).count();
        if 2 * alive > members.len() {
            members.retain(|_, member| member.silence(now) <= KNOWN_FOR);
        }
    }

    /// Returns how many nodes report.
    pub(crate) fn count(&self, now: Duration) -> usize {
        self.lock().values().filter(|member| member.is_alive(now)).count()
    }

    /// Returns how many nodes there are with this one, whether they are heard or not.
    pub(crate) fn known_with(&self, own: &str) -> usize {
        let members = self.lock();
        members.len() + usize::from(!members.contains_key(own))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Member>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    fn is_alive(&self, now: Duration) -> bool {
        self.silence(now) <= REPORT_TTL
    }

    fn silence(&self, now: Duration) -> Duration {
        match self.silent {
            Silence::Since(then) => now.saturating_sub(then),
            Silence::SinceBefore(ago) => now + ago,
        }
    }
}

/// The most nodes that are kept; further ones are ignored.
const MAX_MEMBERS: usize = 4096;

/// For how long a silent node is known: as long as its report may stay in the bucket.
const KNOWN_FOR: Duration = PRUNED_AFTER;

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
        workers[1].answered(503, Some("emergency_read_only"), Duration::ZERO);
        let Observed { requests, errors, shed, refused, times } = observations.read();
        assert_eq!((requests, errors, shed, refused, times.iter().sum()), (8, 1, 4, 1, 3_u64));
    }

    #[test]
    fn a_node_is_known_while_it_reports_and_where() {
        let members = Members::default();
        let at = Duration::from_secs;
        members.saw("b", "eu", at(0), at(0));
        members.saw("a", "us", at(0), at(20));
        assert!(members.is_in("b", "eu", at(30)) && !members.is_in("b", "us", at(30)));
        assert!(!members.is_in("b", "eu", at(31)));
        assert_eq!(members.count(at(31)), 1);
        for number in 0..2 * MAX_MEMBERS {
            members.saw(&number.to_string(), "eu", at(0), at(31));
        }
        assert_eq!(members.count(at(31)), MAX_MEMBERS);
    }

    #[test]
    fn a_silent_node_stays_known_unless_it_has_left_or_most_of_the_others_outlive_it() {
        let members = Members::default();
        let at = Duration::from_secs;
        for node in ["a", "b", "c"] {
            members.saw(node, "eu", at(0), at(10));
        }
        // Its report was there before this process, and has been for long.
        members.saw("old", "eu", at(3_000), at(10));
        members.saw("older", "eu", at(3_601), at(10));
        assert_eq!((members.known_with("a"), members.known_with("new"), members.count(at(10))), (4, 5, 3));
        members.left("c");
        assert_eq!(members.known_with("a"), 3);
        // One of three does not forget the others, however long they are silent; two of three do.
        members.saw("a", "eu", at(0), at(8_000));
        members.prune(at(8_000));
        assert_eq!((members.known_with("a"), members.count(at(8_000))), (3, 1));
        members.saw("b", "eu", at(0), at(8_000));
        members.prune(at(8_000));
        assert_eq!(members.known_with("a"), 2);
    }
}
