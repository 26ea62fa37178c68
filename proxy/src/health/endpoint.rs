//! One endpoint's health, shared by every worker: read without a lock, written rarely.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use config::{Endpoint, EndpointRole};
use policy::Reported;
use policy::failover::Outlier;
use policy::health::{Cause, Claim, Counts, EndpointHealth, Probe, ProbePlan, Symptom};

use crate::clock::{coarse_ms, uptime};
use crate::health::round_trip::PendingRoundTrips;
use crate::health::traffic::{AttemptCount, Blame, Traffic, TrafficSource};
use crate::per_worker::Padded;

/// What became of a failure that was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    /// It was not counted: its client has counted already.
    Again,
    /// It was counted.
    Counted,
    /// It was counted, and there are now enough in a row to eject the endpoint.
    Enough,
}

/// The live state of one endpoint of one region, across tables. Any thread reads it without a lock; only changes
/// take one.
#[derive(Debug)]
pub(crate) struct EndpointState {
    /// Where it is.
    pub(crate) endpoint: Endpoint,
    /// Its number in this process: the key of connection pools.
    pub(crate) id: u64,
    health: Mutex<EndpointHealth>,
    up: AtomicBool,
    probed_up: AtomicBool,
    suspect: AtomicBool,
    errors_in_a_row: AtomicU32,
    gone: AtomicBool,
    in_doubt: AtomicBool,
    /// Until when nobody opens a WebSocket there, in milliseconds of [`coarse_ms`]; 0 where it takes them, or nobody knows.
    no_tunnels: AtomicU64,
    traffic: Traffic,
    /// What it says of its own load, as bits, and when it said so, in milliseconds of [`coarse_ms`].
    load: AtomicU32,
    load_at_ms: AtomicU64,
    /// What its connections and probes have shown of the way there.
    pub(crate) round_trips: Arc<PendingRoundTrips>,
    /// What its last passed probe reported of its data; `None` before the first.
    replication: Mutex<Option<Replication>>,
    /// Why its last probe did not pass; `None` when it did.
    last_failure: Mutex<Option<Arc<str>>>,
}

/// What an endpoint says of its data.
#[derive(Clone, Copy, Debug)]
struct Replication {
    lag_ms: Option<u64>,
    claim: Claim,
    /// When it was asked.
    at: Duration,
    /// Whether it said something of its role that is no word for one.
    is_odd: bool,
}

impl EndpointState {
    /// The same place with another version of its software: what is known of it stays.
    pub(crate) fn of_another_version(&self, endpoint: Endpoint) -> Self {
        let new = Self::new(endpoint, false);
        new.no_tunnels.store(self.no_tunnels.load(Ordering::Relaxed), Ordering::Relaxed);
        let known = self.health.lock().unwrap_or_else(PoisonError::into_inner).clone();
        new.update(|health| *health = known);
        new
    }

    /// Makes a new endpoint, which counts as healthy until something shows otherwise; a cold region's, as down until its
    /// probes pass.
    pub(crate) fn new(endpoint: Endpoint, cold: bool) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let health = if cold { EndpointHealth::cold() } else { EndpointHealth::default() };
        Self {
            endpoint,
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            health: Mutex::new(health),
            up: AtomicBool::new(!cold),
            probed_up: AtomicBool::new(!cold),
            suspect: AtomicBool::new(false),
            errors_in_a_row: AtomicU32::new(0),
            gone: AtomicBool::new(false),
            in_doubt: AtomicBool::new(cold),
            no_tunnels: AtomicU64::new(0),
            traffic: Traffic::default(),
            load: AtomicU32::new(0),
            load_at_ms: AtomicU64::new(0),
            round_trips: Arc::default(),
            replication: Mutex::default(),
            last_failure: Mutex::default(),
        }
    }

    /// Returns whether it is in rotation.
    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Returns whether the probes have nothing against it.
    pub(crate) fn is_probed_up(&self) -> bool {
        self.probed_up.load(Ordering::Relaxed)
    }

    /// Returns whether its last attempt did not connect.
    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed)
    }

    /// Returns how many of its last attempts failed.
    pub(crate) fn errors_in_a_row(&self) -> u32 {
        self.errors_in_a_row.load(Ordering::Relaxed)
    }

    /// Returns whether nobody is there: what waits for its answer waits in vain.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Returns whether something is wrong, so that probes should be quick.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.in_doubt.load(Ordering::Relaxed)
    }

    /// Returns whether no WebSocket can be opened there: it is an origin that speaks HTTP/2, and when it was last connected
    /// to did not announce that it takes any (RFC 8441). Through a gateway they go over HTTP/1.1.
    pub(crate) fn has_no_tunnels(&self) -> bool {
        let Endpoint { http2, role, .. } = self.endpoint;
        let until = self.no_tunnels.load(Ordering::Relaxed);
        http2 && role == EndpointRole::Origin && until > 0 && coarse_ms() < until
    }

    /// Notes whether it takes WebSockets over HTTP/2.
    pub(crate) fn note_tunnels(&self, takes: bool) {
        let until = if takes { 0 } else { coarse_ms() + NO_TUNNELS_MS };
        self.no_tunnels.store(until, Ordering::Relaxed);
    }

    /// Takes what it says of its own utilisation, 0 idle and 1 full.
    pub(crate) fn note_load(&self, utilisation: f32) {
        self.load.store(utilisation.to_bits(), Ordering::Relaxed);
        self.load_at_ms.store(coarse_ms(), Ordering::Relaxed);
    }

    /// Returns what it said last, and what that counts, `0..=1`: all for [`Reported::FRESH`], or until its next probe can
    /// have said something else, and less and less for as long again. `None` where it has said nothing for longer.
    pub(crate) fn load(&self, probed_each: Duration) -> Option<(f32, f32)> {
        let utilisation = f32::from_bits(self.load.load(Ordering::Relaxed));
        let age = coarse_ms().saturating_sub(self.load_at_ms.load(Ordering::Relaxed)) as f32;
        let fresh = Reported::FRESH.max(probed_each.mul_f32(1.5)).as_millis() as f32;
        let counts = (2.0 - age / fresh).clamp(0.0, 1.0);
        (utilisation > 0.0 && counts > 0.0).then_some((utilisation, counts))
    }

    /// Returns what real traffic has shown since the process's start.
    pub(crate) fn counts(&self) -> Counts {
        self.traffic.counts()
    }

    /// Returns the replication lag that it last reported, in milliseconds.
    pub(crate) fn lag_ms(&self) -> Option<u64> {
        self.replication.lock().unwrap_or_else(PoisonError::into_inner).and_then(|replication| replication.lag_ms)
    }

    /// Returns whether its data is the primary's, as it said last; `None` before its first answer.
    pub(crate) fn claim(&self) -> Option<Claim> {
        self.replication.lock().unwrap_or_else(PoisonError::into_inner).map(|replication| replication.claim)
    }

    /// Returns when it was asked what it said last of its data.
    pub(crate) fn claimed_at(&self) -> Option<Duration> {
        self.replication.lock().unwrap_or_else(PoisonError::into_inner).map(|replication| replication.at)
    }

    /// Takes the replication lag that a passed probe's answer reports, and whether its data is the primary's; the probe
    /// began at that uptime. Returns whether it says something of its role that is no word for one, and did not before.
    pub(crate) fn report_replication(&self, lag_ms: Option<u64>, claim: Claim, is_odd: bool, at: Duration) -> bool {
        let new = Replication { lag_ms, claim, at, is_odd };
        let before = self.replication.lock().unwrap_or_else(PoisonError::into_inner).replace(new);
        is_odd && !before.is_some_and(|before| before.is_odd)
    }

    /// Returns why its last probe did not pass; `None` when it did, and before the first.
    pub(crate) fn last_failure(&self) -> Option<Arc<str>> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes why a probe did not pass, or that it did.
    pub(crate) fn note_probe(&self, why: Option<Arc<str>>) {
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Returns where a worker counts its attempts, by its number.
    pub(crate) fn attempts_of(&self, worker: usize) -> Arc<Padded<AttemptCount>> {
        self.traffic.of_worker(worker)
    }

    /// Takes the head of an answer of real traffic that is no symptom of anything, though it may be an
    /// error (a 500 is as much about its request) or slow. It is counted where its worker counts.
    pub(crate) fn on_answer(&self, count: &AttemptCount, from: TrafficSource, is_error: bool, is_slow: bool) {
        self.traffic.attempt_in(count, from);
        if is_error {
            self.traffic.error(from, Blame::Nobody);
        }
        if is_slow {
            self.traffic.slow(from);
        }
    }

    /// Takes the word of its region's node that there is no room for a request.
    pub(crate) fn on_full(&self) {
        self.traffic.full();
    }

    /// Takes the end of a good answer; free of locks unless an error came before.
    pub(crate) fn on_success(&self) {
        if self.is_in_doubt() {
            self.update(|health| health.on_success());
        }
    }

    /// Takes a failure of real traffic that is its own; what became of it. Whether there
    /// is a connection is no client's doing: anything else counts once for each client and interval.
    pub(crate) fn on_error(&self, from: TrafficSource, symptom: Symptom, outlier: &Outlier) -> Noted {
        self.traffic.attempt(from);
        let is_first = self.traffic.error(from, Blame::Confirmed);
        if !is_first && symptom != Symptom::Unreachable {
            return Noted::Again;
        }
        match self.update(|health| health.on_error(uptime(), symptom, outlier)) {
            true => Noted::Enough,
            false => Noted::Counted,
        }
    }

    /// Takes a failure that may be the request's, of an attempt that is counted already if it was `late`: its
    /// answer began well, and broke off. The probes are to find out.
    pub(crate) fn on_doubtful_error(&self, from: TrafficSource, blame: Blame, late: bool) {
        if !late {
            self.traffic.attempt(from);
        }
        self.traffic.error(from, blame);
        self.on_wait();
    }

    /// Has what its traffic shows count anew.
    pub(crate) fn begin_anew(&self) {
        self.traffic.begin_anew();
    }

    /// Ejects it; false when it is out already.
    pub(crate) fn eject(&self, cause: Cause, outlier: &Outlier) -> bool {
        self.update(|health| health.eject(uptime(), cause, outlier))
    }

    /// Notes that a request has waited for it for suspiciously long.
    pub(crate) fn on_wait(&self) {
        if !self.is_in_doubt() {
            self.update(EndpointHealth::on_wait);
        }
    }

    /// Takes a probe's result; true when it changes whether the endpoint is in rotation.
    pub(crate) fn on_probe(&self, probe: Probe, plan: &ProbePlan) -> bool {
        let before = self.is_up();
        self.update(|health| health.on_probe(uptime(), probe, plan));
        self.is_up() != before
    }

    /// Lets the time pass: an ejection may have ended. True when that changes whether it is up.
    pub(crate) fn on_tick(&self, outlier: &Outlier) -> bool {
        let before = self.is_up();
        self.update(|health| health.on_tick(uptime(), outlier));
        self.is_up() != before
    }

    fn update<R>(&self, change: impl FnOnce(&mut EndpointHealth) -> R) -> R {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut health);
        let now: Duration = uptime();
        let is_up = health.is_up(now);
        if is_up && !self.up.swap(is_up, Ordering::Relaxed) {
            // Whoever failed before it was out, or while it was, counts when they fail again.
            self.traffic.begin_anew();
        }
        self.up.store(is_up, Ordering::Relaxed);
        self.probed_up.store(health.is_probed_up(), Ordering::Relaxed);
        self.suspect.store(health.is_suspect(), Ordering::Relaxed);
        self.errors_in_a_row.store(health.errors_in_a_row(), Ordering::Relaxed);
        self.gone.store(health.is_gone(now), Ordering::Relaxed);
        self.in_doubt.store(health.is_in_doubt(now), Ordering::Relaxed);
        result
    }
}

/// For how long an endpoint that took no WebSockets is passed over: where neither a probe nor a request would find out that
/// it takes them by now, a WebSocket does.
const NO_TUNNELS_MS: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests that were under way when it was taken out fail after that; they must not hide what its clients meet once it
    /// is back.
    #[test]
    fn clients_count_again_once_it_is_back_in_rotation() {
        let endpoint = Endpoint {
            role: EndpointRole::Origin,
            tls: false,
            http2: false,
            host: "127.0.0.1".to_owned(),
            port: 8080,
            version: None,
        };
        let endpoint = EndpointState::new(endpoint, false);
        let (plan, outlier) = (ProbePlan::default(), policy::failover::Failover::default().outlier);
        let fails = || {
            let of = |client_key| TrafficSource { client_key, interval: Duration::from_secs(3600) };
            let clients = 0..u64::from(outlier.consecutive_errors);
            let noted = clients.map(|client| endpoint.on_error(of(client), Symptom::Refused, &outlier));
            noted.last().expect("some client")
        };
        (0..plan.failures).for_each(|_| _ = endpoint.on_probe(Probe::Failed, &plan));
        assert!(!endpoint.is_up());
        fails();
        (0..plan.successes).for_each(|_| _ = endpoint.on_probe(Probe::Passed, &plan));
        assert!(endpoint.is_up());
        assert_eq!(fails(), Noted::Enough);
    }
}
