//! The health of endpoints and regions: state machines with `now` passed in.

use std::time::Duration;

use crate::table::Outlier;
use crate::view::Health;

/// How a probe's results become a state.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbePlan {
    /// The path to GET; 200 to 399 passes.
    pub path: String,
    /// From one probe's start to the next.
    pub interval: Duration,
    /// From a probe's start to its response head.
    pub timeout: Duration,
    /// Failures in a row that make a healthy endpoint unhealthy.
    pub failures: u32,
    /// Passes in a row that make an unhealthy endpoint healthy.
    pub successes: u32,
}

/// One endpoint's health, from probes and from real traffic. `now` is any monotonic clock.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointHealth {
    failed_probes: u32,
    passed_probes: u32,
    probed_down: bool,
    errors_in_a_row: u32,
    ejections: u32,
    ejected_until: Option<Duration>,
}

impl EndpointHealth {
    /// Whether the endpoint may be dialled.
    pub fn is_up(&self, now: Duration) -> bool {
        !self.probed_down && !self.is_ejected(now)
    }

    /// Whether real traffic has ejected it.
    pub fn is_ejected(&self, now: Duration) -> bool {
        self.ejected_until.is_some_and(|until| now < until)
    }

    /// Takes a probe's result. A pass also ends an ejection: the endpoint answers again.
    pub fn on_probe(&mut self, passed: bool, plan: &ProbePlan) {
        if passed {
            self.failed_probes = 0;
            self.passed_probes = self.passed_probes.saturating_add(1);
            if !self.probed_down || self.passed_probes >= plan.successes {
                self.probed_down = false;
                self.ejected_until = None;
                self.errors_in_a_row = 0;
            }
        } else {
            self.passed_probes = 0;
            self.failed_probes = self.failed_probes.saturating_add(1);
            if self.failed_probes >= plan.failures {
                self.probed_down = true;
            }
        }
    }

    /// Takes a success of real traffic.
    pub fn on_success(&mut self) {
        self.errors_in_a_row = 0;
    }

    /// Takes a failure of real traffic; true when it ejects the endpoint. The n-th ejection lasts
    /// n times the base, at most ten times.
    pub fn on_error(&mut self, now: Duration, outlier: &Outlier) -> bool {
        self.errors_in_a_row = self.errors_in_a_row.saturating_add(1);
        if self.errors_in_a_row < outlier.consecutive_errors || self.is_ejected(now) {
            return false;
        }
        self.ejections = (self.ejections + 1).min(10);
        self.ejected_until = Some(now + outlier.base_ejection * self.ejections);
        true
    }

    /// Whether the endpoint has had errors since its last success: enough to prefer another.
    pub fn is_suspect(&self) -> bool {
        self.errors_in_a_row > 0
    }
}

/// A region's health from the number of its endpoints: down when less than `threshold` (`0..=1`)
/// of them are healthy, and always when none is.
pub fn region_health(healthy: usize, endpoints: usize, threshold: f64) -> Health {
    let enough = healthy as f64 >= threshold * endpoints as f64;
    if healthy > 0 && enough { Health::Up } else { Health::Down }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Failover;

    const SECOND: Duration = Duration::from_secs(1);

    fn plan() -> ProbePlan {
        ProbePlan { path: "/health".into(), interval: SECOND, timeout: SECOND, failures: 3, successes: 2 }
    }

    #[test]
    fn probes_have_hysteresis() {
        let mut health = EndpointHealth::default();
        let mut states = Vec::new();
        for passed in [false, false, true, false, false, false, true, false, true, true] {
            health.on_probe(passed, &plan());
            states.push(health.is_up(Duration::ZERO));
        }
        assert_eq!(states, [true, true, true, true, true, false, false, false, false, true]);
    }

    #[test]
    fn errors_in_a_row_eject_for_longer_each_time() {
        let outlier = Failover::default().outlier;
        let mut health = EndpointHealth::default();
        let mut now = Duration::ZERO;
        for round in 1..=2 {
            for error in 1..=5 {
                assert!(health.is_up(now), "round {round} error {error}");
                assert_eq!(health.on_error(now, &outlier), error == 5);
            }
            assert!(!health.is_up(now + SECOND * 30 * round - SECOND));
            now += SECOND * 30 * round;
            assert!(health.is_up(now));
            health.on_success();
        }
    }

    #[test]
    fn a_success_between_errors_keeps_an_endpoint() {
        let mut health = EndpointHealth::default();
        for _ in 0..20 {
            assert!(!health.on_error(Duration::ZERO, &Failover::default().outlier));
            health.on_success();
        }
        assert!(health.is_up(Duration::ZERO) && !health.is_suspect());
    }

    #[test]
    fn a_passed_probe_ends_an_ejection() {
        let mut health = EndpointHealth::default();
        let errors = (0..5).filter(|_| health.on_error(Duration::ZERO, &Failover::default().outlier)).count();
        assert_eq!(errors, 1);
        assert!(!health.is_up(SECOND));
        health.on_probe(true, &plan());
        assert!(health.is_up(SECOND));
    }

    #[test]
    fn a_region_needs_its_share() {
        for (healthy, endpoints, up) in
            [(0, 1, false), (1, 1, true), (1, 2, true), (1, 3, false), (2, 3, true), (0, 0, false)]
        {
            assert_eq!(region_health(healthy, endpoints, 0.5) == Health::Up, up, "{healthy} of {endpoints}");
        }
        assert_eq!(region_health(0, 4, 0.0), Health::Down);
    }
}
