//! How far regions are, as connections and probes show it.
//!
//! ```text
//! connect.rs, http2_life.rs, probes/ --> PendingRoundTrips, an endpoint's --watch.rs, each second--> RegionRoundTrip --> decisions
//! load.rs: what nodes of this region report ----------------------------------------------^
//! ```

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use policy::round_trip::{Answer, Measured, Reach, ReportedTrips, RoundTrips};
use smallvec::SmallVec;

use crate::clock::uptime;

/// What was measured of one endpoint since the watch last looked. Any thread adds to it.
#[derive(Debug, Default)]
pub(crate) struct PendingRoundTrips(Mutex<Pending>);

/// The bound of what an endpoint's connections may say in a second.
const MOST_PENDING: usize = 8;

#[derive(Debug, Default)]
struct Pending {
    handshakes: SmallVec<[Duration; MOST_PENDING]>,
    shortest_greeting: Option<Duration>,
    shortest_reply: Option<Duration>,
}

impl PendingRoundTrips {
    /// Takes the kernel's round trip of a connection that was opened.
    pub(crate) fn handshake(&self, took: Duration) {
        let mut pending = lock(&self.0);
        if pending.handshakes.len() < MOST_PENDING {
            pending.handshakes.push(took);
        }
    }

    /// Takes the time from a question to its answer.
    pub(crate) fn answered(&self, kind: Answer, took: Duration) {
        let mut pending = lock(&self.0);
        let shortest = match kind {
            Answer::Greeting => &mut pending.shortest_greeting,
            Answer::Reply => &mut pending.shortest_reply,
        };
        *shortest = Some(shortest.map_or(took, |shortest| shortest.min(took)));
    }
}

/// How far one region is from this node, across tables. Decisions, on any thread, read it without a lock.
#[derive(Debug)]
pub(crate) struct RegionRoundTrip {
    /// What decisions use, in milliseconds, as bits; not a number where the prior stands.
    settled_ms: AtomicU32,
    /// The same as [`policy::RegionView::reach_ms`] has it.
    reach_ms: AtomicU32,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    own: RoundTrips,
    reported: ReportedTrips,
    reach: Reach,
}

impl Default for RegionRoundTrip {
    fn default() -> Self {
        let unknown = || AtomicU32::new(f32::NAN.to_bits());
        Self { settled_ms: unknown(), reach_ms: unknown(), inner: Mutex::default() }
    }
}

impl RegionRoundTrip {
    /// Returns the round trip that decisions use instead of the table's, in milliseconds.
    pub(crate) fn ms(&self) -> Option<f32> {
        Some(f32::from_bits(self.settled_ms.load(Ordering::Relaxed))).filter(|ms| !ms.is_nan())
    }

    /// Returns the same as limits see it: slow to fall.
    pub(crate) fn reach_ms(&self) -> Option<f32> {
        Some(f32::from_bits(self.reach_ms.load(Ordering::Relaxed))).filter(|ms| !ms.is_nan())
    }

    /// Shows decisions what there is; `None` leaves them the prior.
    fn show(&self, settled: Option<f32>, reach: Option<f32>) {
        for (cell, ms) in [(&self.settled_ms, settled), (&self.reach_ms, reach)] {
            cell.store(ms.unwrap_or(f32::NAN).to_bits(), Ordering::Relaxed);
        }
    }

    /// Takes what its endpoints' connections have shown, and works out the round trip: the prior is the table's, in
    /// milliseconds. A node that has measured nothing goes by what others of this region report. Returns what this node
    /// itself measures. Without a window nothing is.
    pub(crate) fn settle<'a>(
        &self,
        endpoints: impl Iterator<Item = &'a PendingRoundTrips>,
        prior_ms: f32,
        window: Duration,
    ) -> Option<Measured> {
        let now = uptime();
        let mut inner = lock(&self.inner);
        let mut all = Vec::new();
        for endpoint in endpoints {
            let Pending { handshakes, shortest_greeting, shortest_reply } = std::mem::take(&mut *lock(&endpoint.0));
            all.extend(handshakes);
            for (kind, took) in [(Answer::Greeting, shortest_greeting), (Answer::Reply, shortest_reply)] {
                took.into_iter().for_each(|took| inner.own.answered(kind, took, window, now));
            }
        }
        inner.own.handshakes(&all, window, now);
        if window.is_zero() {
            *inner = Inner::default();
            self.show(None, None);
            return None;
        }
        let reported = inner.reported.median_ms(window, now);
        let settled = inner.own.settle(prior_ms, window, now).or(reported);
        let mixed = inner.own.mixed_ms(prior_ms, window, now).or(reported);
        let reach = inner.reach.follow(mixed, window, now);
        self.show(settled, reach);
        inner.own.measured(prior_ms, window, now)
    }

    /// Returns what this node measures itself; the prior is the table's, in milliseconds.
    pub(crate) fn measured(&self, prior_ms: f32, window: Duration) -> Option<Measured> {
        if window.is_zero() { None } else { lock(&self.inner).own.measured(prior_ms, window, uptime()) }
    }

    /// Takes what another node of this node's region measures, in milliseconds.
    pub(crate) fn report(&self, node: &str, ms: f32) {
        lock(&self.inner).reported.take(node, ms, uptime());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    fn settled(region: &RegionRoundTrip, pending: &PendingRoundTrips, prior_ms: f32, window: Duration) -> Option<f32> {
        region.settle(std::iter::once(pending), prior_ms, window);
        region.ms().map(f32::round)
    }

    #[test]
    fn a_node_that_has_measured_nothing_goes_by_what_its_neighbours_report() {
        let (region, pending) = (RegionRoundTrip::default(), PendingRoundTrips::default());
        assert_eq!(settled(&region, &pending, 150.0, WINDOW), None);
        [("a", 80.0), ("b", 0.1), ("c", 82.0)].into_iter().for_each(|(node, ms)| region.report(node, ms));
        assert_eq!(settled(&region, &pending, 150.0, WINDOW), Some(80.0));
        assert_eq!(region.measured(150.0, WINDOW), None, "that is not its own to report");
        pending.handshake(Duration::from_millis(60));
        assert_eq!(settled(&region, &pending, 150.0, WINDOW), Some(105.0), "its own counts, and the table's");
    }

    #[test]
    fn without_a_window_the_tables_latency_stands() {
        let (region, pending) = (RegionRoundTrip::default(), PendingRoundTrips::default());
        (0..100).for_each(|_| pending.handshake(Duration::from_millis(5)));
        assert_eq!(lock(&pending.0).handshakes.len(), MOST_PENDING);
        assert!(settled(&region, &pending, 150.0, WINDOW).is_some());
        assert_eq!(
            (settled(&region, &pending, 150.0, Duration::ZERO), region.measured(150.0, Duration::ZERO)),
            (None, None)
        );
        assert_eq!((region.ms(), region.reach_ms()), (None, None));
    }
}
