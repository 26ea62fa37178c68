//! One region, as one node knows it.

use std::time::Duration;

use policy::failover::Failover;
use policy::health::{Cause, EndpointCounts, EndpointHealth, Phase, Probe, ProbePlan, RegionHealth, Symptom};
use policy::load::OneRequest;
use policy::pressure::Pressure;
use policy::{RegionView, Reported};

use super::super::origin::{EndpointTruth, Origin};
use super::super::random::Random;
use super::super::tuning::Tuning;
use super::{CRITICALITIES, most_in_flight, shares};

/// What the tables of the fleet say of health.
#[derive(Clone, Debug)]
pub(in super::super) struct Settings {
    pub(in super::super) tuning: Tuning,
    pub(in super::super) failover: Failover,
    pub(in super::super) probe: ProbePlan,
}

/// A region's origins during one tick, as requests find them.
#[derive(Clone, Debug)]
pub(in super::super) struct Pace {
    /// How long a request takes, in seconds; `None` where nothing is alive.
    pub(in super::super) service_s: Option<f64>,
    /// The share of what is in flight that still is after the tick.
    pub(in super::super) kept: f64,
    alive: Vec<bool>,
}

impl Pace {
    /// Reads it off a region's origins.
    pub(in super::super) fn of(origin: &Origin, now_s: f64, tick_s: f64) -> Self {
        let service_s = origin.service_s(now_s);
        Self {
            service_s,
            kept: service_s.map_or(0.0, |service_s| (-tick_s / service_s).exp()),
            alive: origin.endpoints.iter().copied().map(EndpointTruth::is_alive).collect(),
        }
    }
}

/// One region, as one node knows it, and what the node has under way there.
#[derive(Debug)]
pub(in super::super) struct Cell {
    pub(in super::super) in_flight: f64,
    /// Requests sent since the last report.
    pub(in super::super) sent: f64,
    /// When requests were last there.
    pub(in super::super) busy: Option<Duration>,
    pub(in super::super) one_request: OneRequest,
    limits: [f64; 3],
    cap: usize,
    pressure: Pressure,
    pub(in super::super) health: RegionHealth,
    endpoints: Vec<Endpoint>,
    /// Whether its health must be worked out each tick: else once a second does.
    is_unsettled: bool,
    until_settled: u32,
    /// Requests per second taken in this tick.
    taken: f64,
    /// Part of a failure that has not come to one yet.
    failing: f64,
    failures_in_a_row: u32,
}

#[derive(Debug)]
struct Endpoint {
    health: EndpointHealth,
    probed: Duration,
    /// By how much the interval to the next probe varies.
    vary: f64,
}

/// At most so many failures of a tick are looked at one by one: a region is suspected after far fewer.
const MOST_FAILURES: u32 = 64;

/// In ticks, how often the health of a region is worked out of which nothing is in doubt.
const CALM_TICKS: u32 = 10;

impl Cell {
    /// Makes a region that counts as up.
    pub(super) fn new(cap: usize, endpoints: usize, settings: &Settings, random: &mut Random) -> Self {
        let interval = settings.probe.interval;
        let endpoint = |random: &mut Random| Endpoint {
            health: EndpointHealth::default(),
            probed: Duration::ZERO,
            // The first is due at any time of the interval.
            vary: random.unit().max(Duration::from_millis(100).div_duration_f64(interval)),
        };
        Self {
            in_flight: 0.0,
            sent: 0.0,
            busy: None,
            one_request: OneRequest::of(cap, 1.0),
            limits: CRITICALITIES.map(|criticality| most_in_flight(criticality, cap)),
            cap,
            pressure: Pressure::default(),
            health: RegionHealth::default(),
            endpoints: (0..endpoints).map(|_| endpoint(random)).collect(),
            is_unsettled: true,
            until_settled: 0,
            taken: 0.0,
            failing: 0.0,
            failures_in_a_row: 0,
        }
    }

    /// Makes the probes that are due, and works out the region's health; whether what decisions see of it has changed.
    pub(super) fn probe_and_settle(
        &mut self,
        now: Duration,
        settings: &Settings,
        pace: &Pace,
        random: &mut Random,
    ) -> bool {
        let plan = &settings.probe;
        for (endpoint, is_alive) in self.endpoints.iter_mut().zip(&pace.alive) {
            if now < endpoint.probed + plan.unhealthy_interval.mul_f64(endpoint.vary) {
                continue;
            }
            let interval = if endpoint.health.is_in_doubt(now) { plan.unhealthy_interval } else { plan.interval };
            if now >= endpoint.probed + interval.mul_f64(endpoint.vary) {
                endpoint.probed = now;
                endpoint.vary = 1.0 + plan.jitter * (2.0 * random.unit() - 1.0);
                let found = if *is_alive { Probe::Passed } else { Probe::Unanswered };
                endpoint.health.on_probe(now, found, plan);
                self.is_unsettled = true;
            }
        }
        self.until_settled = self.until_settled.saturating_sub(1);
        if !self.is_unsettled && self.until_settled > 0 {
            return false;
        }
        self.until_settled = CALM_TICKS;
        let before = self.health.health(&settings.failover);
        self.endpoints.iter_mut().for_each(|endpoint| endpoint.health.on_tick(now, &settings.failover.outlier));
        let counts = self.counts(now);
        self.health.observe(now, counts.evidence(settings.failover.threshold), &settings.failover);
        self.one_request = OneRequest::of(self.cap, counts.share_in_rotation());
        self.is_unsettled =
            self.health.phase() != Phase::Up || self.endpoints.iter().any(|endpoint| endpoint.health.is_in_doubt(now));
        self.health.health(&settings.failover) != before
    }

    /// Returns what decisions see, after a tick.
    pub(super) fn view(&mut self, tick: Duration, reported: Option<&Reported>, settings: &Settings) -> RegionView {
        let own = self.one_request.load(self.in_flight as f32);
        let load = reported.map_or(own, |reported| reported.over(own));
        self.pressure.observe_over(settings.tuning.pressure_over, load, tick);
        RegionView {
            health: self.health.health(&settings.failover),
            utilisation: load,
            pressure: self.pressure.level(),
            rtt_ms: None,
            reach_ms: None,
            lag: None,
            promoted: false,
            writes: policy::Writes::AsDeclared,
        }
    }

    /// Begins a tick in which nothing has been taken yet.
    pub(super) fn begin(&mut self) {
        self.taken = 0.0;
    }

    /// Takes arrivals of each criticality, in requests per second: what share of them, and whether what is known of the
    /// region's health has changed. What fails on an endpoint is tried at another of the region, if one is alive.
    pub(super) fn take(
        &mut self,
        arrivals: &[f64; 3],
        pace: &Pace,
        settings: &Settings,
        (now, tick_s): (Duration, f64),
    ) -> ([f64; 3], bool) {
        let asked: f64 = arrivals.iter().sum();
        let is_stirred = self.fail(asked * tick_s, pace, settings, now);
        let Some(service_s) = pace.service_s else { return ([0.0; 3], is_stirred) };
        let room = self.limits.map(|limit| (limit - self.in_flight * pace.kept) / (service_s * (1.0 - pace.kept)));
        let shares = shares(arrivals, room, self.taken);
        self.taken += arrivals.iter().zip(shares).map(|(arrivals, share)| arrivals * share).sum::<f64>();
        (shares, is_stirred)
    }

    /// Ends a tick.
    pub(super) fn end(&mut self, pace: &Pace, (now, tick_s): (Duration, f64)) {
        let level = self.taken * pace.service_s.unwrap_or_default();
        self.in_flight = level + (self.in_flight - level) * pace.kept;
        self.sent += self.taken * tick_s;
        // A fluid is never quite nothing.
        if self.sent >= 0.5 || self.in_flight >= 0.5 {
            self.busy = Some(now);
        }
    }

    /// Returns the requests per second that this tick has brought.
    pub(in super::super) fn taken(&self) -> f64 {
        self.taken
    }

    /// Takes what fails of so many requests; whether the region's health has changed.
    fn fail(&mut self, requests: f64, pace: &Pace, settings: &Settings, now: Duration) -> bool {
        let (outlier, mut is_stirred) = (&settings.failover.outlier, false);
        let in_rotation = self.counts(now).in_rotation;
        let asked = |endpoint: &Endpoint| in_rotation == 0 || endpoint.health.is_up(now);
        let of = self.endpoints.iter().filter(|endpoint| asked(endpoint)).count().max(1) as f64;
        let dead =
            self.endpoints.iter().zip(&pace.alive).filter(|(endpoint, alive)| !**alive && asked(endpoint)).count();
        if dead == 0 || (dead as f64) < of {
            self.failures_in_a_row = 0;
        }
        if self.is_unsettled {
            let alive = self.endpoints.iter_mut().zip(&pace.alive).filter(|(_, alive)| **alive);
            alive.for_each(|(endpoint, _)| endpoint.health.on_success());
        }
        if dead == 0 {
            return false;
        }
        self.failing += requests * dead as f64 / of;
        let failures = self.failing as u32;
        self.failing -= f64::from(failures);
        for failure in 0..failures.min(MOST_FAILURES) {
            let counts = self.counts(now);
            let count = self.endpoints.len();
            let is_asked =
                |at: &usize| !pace.alive[*at] && (counts.in_rotation == 0 || self.endpoints[*at].health.is_up(now));
            let Some(at) = (0..count).map(|step| (failure as usize + step) % count).find(is_asked) else { break };
            self.is_unsettled = true;
            let health = &mut self.endpoints[at].health;
            if health.on_error(now, Symptom::Unreachable, outlier) && counts.may_eject(outlier.max_ejected) {
                is_stirred |= health.eject(now, Cause::ConsecutiveErrors, outlier);
            }
            if (dead as f64) < of {
                continue;
            }
            self.failures_in_a_row += 1;
            if self.failures_in_a_row >= outlier.consecutive_errors {
                let sound = self.endpoints.iter().filter(|endpoint| !endpoint.health.is_in_doubt(now)).count();
                if sound == 0 || (sound as f64) < settings.failover.threshold * count as f64 {
                    self.failures_in_a_row = 0;
                    is_stirred |= self.health.suspect(now, outlier);
                    break;
                }
            }
        }
        is_stirred
    }

    fn counts(&self, now: Duration) -> EndpointCounts {
        let count = |is: &dyn Fn(&EndpointHealth) -> bool| {
            self.endpoints.iter().filter(|endpoint| is(&endpoint.health)).count()
        };
        EndpointCounts {
            endpoints: self.endpoints.len(),
            probed_up: count(&EndpointHealth::is_probed_up),
            in_rotation: count(&|health| health.is_up(now)),
        }
    }

    /// Breaks this share of what is in flight: its endpoints have died.
    pub(in super::super) fn break_off(&mut self, share: f64) {
        self.in_flight *= 1.0 - share;
    }
}
