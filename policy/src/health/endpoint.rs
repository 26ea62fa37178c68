//! One endpoint's health, from probes and from real traffic.

use std::time::Duration;

use super::plan::ProbePlan;
use super::window::Cause;
use crate::failover::Outlier;

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The endpoint answered as it should.
    Passed,
    /// It answered otherwise.
    Failed,
    /// It could not be connected to, or did not answer in time.
    Unanswered,
}

/// What went wrong in an attempt of real traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Symptom {
    /// There was no connection.
    Unreachable,
    /// No answer came in time.
    Silent,
    /// The connection broke before the answer's end.
    Broken,
    /// 502, 503 or 504: the endpoint says itself that it cannot serve.
    Refused,
}

/// One endpoint's health. `now` is any monotonic clock.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointHealth {
    failed_probes: u32,
    passed_probes: u32,
    probed_down: bool,
    /// The last probe that did not pass had no answer at all.
    unanswered: bool,
    errors_in_a_row: u32,
    /// Of the last of them.
    symptom: Option<Symptom>,
    /// It was ejected, or has failed since, for being unreachable.
    unreachable: bool,
    /// Requests have waited for it for suspiciously long.
    kept_waiting: bool,
    /// Recent ejections: one is forgotten for each base ejection time without another.
    ejections: u32,
    ejected_until: Option<Duration>,
}

impl EndpointHealth {
    /// Ejections of one endpoint lengthen up to this many times the base.
    pub const LONGEST: u32 = 10;

    /// Makes an endpoint that is down until its probes pass: what a cold region's are at first.
    pub fn cold() -> Self {
        Self { probed_down: true, ..Self::default() }
    }

    /// Returns whether it is in rotation: neither probes nor real traffic have taken it out.
    pub fn is_up(&self, now: Duration) -> bool {
        !self.probed_down && !self.is_ejected(now)
    }

    /// Returns whether the probes have nothing against it.
    pub fn is_probed_up(&self) -> bool {
        !self.probed_down
    }

    /// Returns whether real traffic has ejected it.
    pub(crate) fn is_ejected(&self, now: Duration) -> bool {
        self.ejected_until.is_some_and(|until| now < until)
    }

    /// Returns whether its last attempts could not even connect: enough to prefer another.
    pub fn is_suspect(&self) -> bool {
        self.errors_in_a_row > 0 && self.symptom == Some(Symptom::Unreachable)
    }

    /// Returns how many attempts have failed since one went well, or since the last ejection.
    pub fn errors_in_a_row(&self) -> u32 {
        self.errors_in_a_row
    }

    /// Returns whether nobody is there: what still waits for its answer waits in vain.
    pub fn is_gone(&self, now: Duration) -> bool {
        (self.is_ejected(now) && self.unreachable) || (self.probed_down && self.unanswered)
    }

    /// Returns whether something is wrong, so that probes should be quick.
    pub fn is_in_doubt(&self, now: Duration) -> bool {
        !self.is_up(now) || self.errors_in_a_row > 0 || self.failed_probes > 0 || self.kept_waiting
    }

    /// Takes a probe's result. A pass also ends an ejection for having been unreachable, which it
    /// disproves; against errors in answers, or no answers, it proves nothing.
    pub fn on_probe(&mut self, now: Duration, probe: Probe, plan: &ProbePlan) {
        if probe != Probe::Passed {
            self.passed_probes = 0;
            self.failed_probes = self.failed_probes.saturating_add(1);
            self.unanswered = probe == Probe::Unanswered;
            self.probed_down |= self.failed_probes >= plan.failures;
            return;
        }
        self.failed_probes = 0;
        self.passed_probes = self.passed_probes.saturating_add(1);
        if self.probed_down && self.passed_probes < plan.successes {
            return;
        }
        // What the probes had taken down, they bring back, whatever else there was.
        let brought_back = std::mem::take(&mut self.probed_down);
        self.unanswered = false;
        self.kept_waiting = false;
        if brought_back || self.unreachable || self.is_suspect() {
            self.ejected_until = self.ejected_until.map(|until| until.min(now));
            self.forget_errors();
        }
    }

    /// Takes a success of real traffic.
    pub fn on_success(&mut self) {
        self.kept_waiting = false;
        self.forget_errors();
    }

    /// Notes that a request has waited for suspiciously long: the probes are to find out.
    pub fn on_wait(&mut self) {
        self.kept_waiting = true;
    }

    fn forget_errors(&mut self) {
        self.errors_in_a_row = 0;
        self.symptom = None;
        self.unreachable = false;
    }

    /// Takes a failure of real traffic; true when there are now enough in a row to eject the
    /// endpoint, which is for its region to decide.
    pub fn on_error(&mut self, now: Duration, symptom: Symptom, outlier: &Outlier) -> bool {
        self.symptom = Some(symptom);
        if self.is_ejected(now) {
            // The latest evidence, for or against a probe's.
            self.unreachable = symptom == Symptom::Unreachable;
            return false;
        }
        self.errors_in_a_row = self.errors_in_a_row.saturating_add(1);
        self.errors_in_a_row >= outlier.consecutive_errors
    }

    /// Ejects it: for the base time, times the number of its recent ejections. False when it is out
    /// already. `cause` says whether its errors in a row are the reason.
    pub fn eject(&mut self, now: Duration, cause: Cause, outlier: &Outlier) -> bool {
        if self.is_ejected(now) {
            return false;
        }
        self.unreachable = cause == Cause::ConsecutiveErrors && self.symptom == Some(Symptom::Unreachable);
        self.ejections = (self.ejections + 1).min(Self::LONGEST);
        self.ejected_until = Some(now + outlier.base_ejection * self.ejections);
        self.errors_in_a_row = 0;
        true
    }

    /// Lets the time pass.
    pub fn on_tick(&mut self, now: Duration, outlier: &Outlier) {
        let quiet_since = self.ejected_until.unwrap_or_default();
        if self.ejections > 0 && now >= quiet_since + outlier.base_ejection {
            self.ejections -= 1;
            self.ejected_until = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::Failover;

    const SECOND: Duration = Duration::from_secs(1);

    fn outlier() -> Outlier {
        Failover::default().outlier
    }

    fn fail(health: &mut EndpointHealth, now: Duration, symptom: Symptom, times: usize) -> bool {
        (0..times).filter(|_| health.on_error(now, symptom, &outlier())).count() > 0
    }

    #[test]
    fn probes_have_hysteresis() {
        let plan = ProbePlan::default();
        let mut health = EndpointHealth::default();
        let mut states = Vec::new();
        for passed in [false, false, true, false, false, false, true, false, true, true] {
            health.on_probe(Duration::ZERO, if passed { Probe::Passed } else { Probe::Failed }, &plan);
            states.push(health.is_up(Duration::ZERO));
            assert_eq!(health.is_probed_up(), health.is_up(Duration::ZERO), "nothing else is against it");
            assert_eq!(health.is_in_doubt(Duration::ZERO), !passed || !health.is_up(Duration::ZERO), "{passed}");
        }
        assert_eq!(states, [true, true, true, true, true, false, false, false, false, true]);
    }

    #[test]
    fn a_cold_one_is_down_until_its_probes_pass() {
        let plan = ProbePlan::default();
        let mut health = EndpointHealth::cold();
        assert!(!health.is_up(Duration::ZERO) && health.is_in_doubt(Duration::ZERO));
        health.on_probe(Duration::ZERO, Probe::Passed, &plan);
        assert!(!health.is_up(Duration::ZERO));
        health.on_probe(Duration::ZERO, Probe::Passed, &plan);
        assert!(health.is_up(Duration::ZERO) && !health.is_in_doubt(Duration::ZERO));
    }

    #[test]
    fn ejections_lengthen_and_are_forgotten() {
        let mut health = EndpointHealth::default();
        let mut now = Duration::ZERO;
        for round in 1..=3 {
            assert!(!fail(&mut health, now, Symptom::Broken, 4) && health.is_up(now));
            assert!(fail(&mut health, now, Symptom::Broken, 1));
            health.eject(now, Cause::ConsecutiveErrors, &outlier());
            assert!(!health.is_up(now + SECOND * 30 * round - SECOND), "round {round}");
            now += SECOND * 30 * round;
            assert!(health.is_up(now), "round {round}");
        }
        for _ in 0..3 {
            now += SECOND * 30;
            health.on_tick(now, &outlier());
        }
        fail(&mut health, now, Symptom::Broken, 5);
        health.eject(now, Cause::ConsecutiveErrors, &outlier());
        assert!(health.is_up(now + SECOND * 30));
        // One that was never ejected has nothing to be forgotten, however much time passes.
        let mut health = EndpointHealth::default();
        health.on_tick(now, &outlier());
        health.eject(now, Cause::ConsecutiveErrors, &outlier());
        assert!(!health.is_up(now + SECOND * 29) && health.is_up(now + SECOND * 30));
    }

    #[test]
    fn what_cannot_be_reached_is_suspect_until_it_is() {
        let mut health = EndpointHealth::default();
        let suspect = |health: &EndpointHealth| (health.is_suspect(), health.is_in_doubt(Duration::ZERO));
        assert_eq!(suspect(&health), (false, false));
        fail(&mut health, Duration::ZERO, Symptom::Broken, 1);
        assert_eq!(suspect(&health), (false, true));
        fail(&mut health, Duration::ZERO, Symptom::Unreachable, 1);
        assert_eq!(suspect(&health), (true, true));
        health.eject(Duration::ZERO, Cause::ConsecutiveErrors, &outlier());
        assert!(health.is_probed_up() && !health.is_up(Duration::ZERO), "that is real traffic's");
    }

    #[test]
    fn a_success_between_errors_keeps_an_endpoint() {
        let mut health = EndpointHealth::default();
        for _ in 0..20 {
            assert!(!fail(&mut health, Duration::ZERO, Symptom::Silent, 1));
            health.on_success();
        }
        assert!(!health.is_in_doubt(Duration::ZERO));
    }

    #[test]
    fn a_pass_disproves_that_nobody_is_there_and_nothing_else() {
        for (symptom, disproved) in [
            (Symptom::Unreachable, true),
            (Symptom::Silent, false),
            (Symptom::Broken, false),
            (Symptom::Refused, false),
        ] {
            let mut health = EndpointHealth::default();
            assert!(fail(&mut health, Duration::ZERO, symptom, 5));
            health.eject(Duration::ZERO, Cause::ConsecutiveErrors, &outlier());
            assert_eq!(health.is_gone(SECOND), disproved, "{symptom:?}");
            health.on_probe(SECOND / 2, Probe::Passed, &ProbePlan::default());
            assert_eq!(health.is_up(SECOND), disproved, "{symptom:?}");
        }
    }

    #[test]
    fn an_ejection_by_share_says_nothing_of_who_is_there() {
        let mut health = EndpointHealth::default();
        fail(&mut health, Duration::ZERO, Symptom::Unreachable, 1);
        health.on_success();
        assert!(
            health.eject(SECOND, Cause::ErrorRate, &outlier()) && !health.eject(SECOND, Cause::Latency, &outlier())
        );
        assert!(!health.is_gone(SECOND * 2));
        health.on_probe(SECOND * 2, Probe::Passed, &ProbePlan::default());
        assert!(!health.is_up(SECOND * 2));
    }

    #[test]
    fn unreachable_again_and_again_is_out_for_longer_each_time() {
        let mut health = EndpointHealth::default();
        for round in 1..=3 {
            fail(&mut health, SECOND * round, Symptom::Unreachable, 5);
            health.eject(SECOND * round, Cause::ConsecutiveErrors, &outlier());
            health.on_tick(SECOND * round, &outlier());
            assert!(health.is_gone(SECOND * round) && !health.is_up(SECOND * (round + 30 * round - 1)));
            health.on_probe(SECOND * round, Probe::Passed, &ProbePlan::default());
            assert!(health.is_up(SECOND * round));
        }
    }

    #[test]
    fn what_does_not_answer_probes_is_gone_and_what_answers_badly_is_not() {
        for (probe, gone) in [(Probe::Failed, false), (Probe::Unanswered, true)] {
            let mut health = EndpointHealth::default();
            (0..3).for_each(|_| health.on_probe(Duration::ZERO, probe, &ProbePlan::default()));
            assert!(!health.is_up(SECOND));
            assert_eq!(health.is_gone(SECOND), gone, "{probe:?}");
        }
    }
}
