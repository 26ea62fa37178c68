//! What the node does, for its report: what a trial of a staged table goes by.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use policy::quantile::{BUCKETS, bucket};
use policy::trial::Observed;

/// What the node does, as counts that any thread adds to.
#[derive(Debug)]
pub struct Observations {
    requests: AtomicU64,
    errors: AtomicU64,
    shed: AtomicU64,
    refused: AtomicU64,
    times: [AtomicU64; BUCKETS],
    /// What had been done at the start of each of the last minutes, the oldest first.
    minutes: Mutex<VecDeque<(Instant, Observed)>>,
}

impl Default for Observations {
    fn default() -> Self {
        let zero = AtomicU64::default;
        let times = std::array::from_fn(|_| zero());
        Self { requests: zero(), errors: zero(), shed: zero(), refused: zero(), times, minutes: Mutex::default() }
    }
}

impl Observations {
    /// An answer: its status, the reason if Meridian gave it itself, and how long it took.
    pub fn answered(&self, status: u16, reason: Option<&str>, took: Duration) {
        let one = |count: &AtomicU64| {
            count.fetch_add(1, Ordering::Relaxed);
        };
        one(&self.requests);
        match reason {
            Some("overloaded") => one(&self.shed),
            // What a table does not let through, for whatever reason of its own.
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

    /// What of `all` was done in the last ten minutes or so. To be asked a few times a minute.
    pub fn lately(&self, all: &Observed) -> Observed {
        let mut minutes = self.minutes.lock().unwrap_or_else(PoisonError::into_inner);
        if minutes.back().is_none_or(|(at, _)| at.elapsed() >= Duration::from_secs(60)) {
            let then = if minutes.is_empty() { Observed::default() } else { all.clone() };
            minutes.push_back((Instant::now(), then));
            if minutes.len() > MINUTES {
                minutes.pop_front();
            }
        }
        minutes.front().map_or_else(Observed::default, |(_, then)| all.since(then))
    }

    /// What was done since the process's start.
    pub fn read(&self) -> Observed {
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

/// Minutes of what was done lately.
const MINUTES: usize = 10;
