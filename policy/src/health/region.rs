//! One region's health: from its endpoints' to what share of its clients it gets.

use std::time::Duration;

use crate::failover::{Failover, Outlier};
use crate::view::Health;

/// How many of a region's endpoints are how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointCounts {
    /// All of them.
    pub endpoints: usize,
    /// Those that the probes have nothing against.
    pub probed_up: usize,
    /// Those that neither probes nor real traffic have taken out.
    pub in_rotation: usize,
}

/// What there is against a region at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Nothing.
    Serves,
    /// Real traffic has something against it: it is to be the last resort.
    Suspected,
    /// The probes say that it does not serve.
    Down,
}

impl EndpointCounts {
    /// Returns the evidence of a region's endpoints. A region without any healthy one is down; and one with less
    /// than `threshold` (`0..=1`) of them, so that two endpoints at 0.5 may lose one, and three may not lose two.
    pub fn evidence(&self, threshold: f64) -> Evidence {
        let enough = |healthy: usize| healthy > 0 && healthy as f64 >= threshold * self.endpoints as f64;
        if !enough(self.probed_up) {
            Evidence::Down
        } else if !enough(self.in_rotation) {
            Evidence::Suspected
        } else {
            Evidence::Serves
        }
    }

    /// Returns the share of them that is in rotation, `0..=1`; 0 of none.
    pub fn share_in_rotation(&self) -> f32 {
        self.in_rotation as f32 / self.endpoints.max(1) as f32
    }

    /// Returns whether real traffic may eject one more endpoint: at most `most` (a share, `0..=1`) of them are
    /// ejected at a time, and always one, or a region of few could never eject any.
    pub fn may_eject(&self, most: f64) -> bool {
        let ejected = self.probed_up.saturating_sub(self.in_rotation);
        ejected < ((most * self.endpoints as f64) as usize).max(1)
    }
}

/// Where a region stands between down and up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// It serves.
    #[default]
    Up,
    /// It does not.
    Down,
    /// Real traffic has something against it.
    Suspected,
    /// It is healthy again, since then, and waits out the failback delay.
    Waiting(Duration),
    /// It is coming back: the ramp's step, from 0, and since when.
    Ramping(usize, Duration),
}

/// One region's health. `now` is any monotonic clock.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RegionHealth {
    phase: Phase,
    suspected_until: Option<Duration>,
    /// Recent suspicions, as an endpoint's ejections.
    suspicions: u32,
    /// What it returns from is one suspicion alone: a blip, and no outage.
    blip: bool,
    /// How often it has lately ceased to be up: one is forgotten for each failback delay (or base
    /// ejection time, if that is longer) of being up without another.
    falls: u32,
    up_since: Duration,
    /// It has not served yet, so that there is nothing to come back from.
    untried: bool,
}

impl RegionHealth {
    /// Makes a region that is down until its probes pass: what a cold one is at first.
    pub fn cold() -> Self {
        Self { phase: Phase::Down, untried: true, ..Self::default() }
    }

    /// Returns where it stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Returns what a decision is to see.
    pub fn health(&self, failover: &Failover) -> Health {
        match self.phase {
            Phase::Up => Health::Up,
            Phase::Down => Health::Down,
            Phase::Suspected | Phase::Waiting(_) => Health::Ramping(0),
            Phase::Ramping(step, _) => match failover.ramp.get(step) {
                Some(percent) if *percent < 100 => Health::Ramping(*percent),
                _ => Health::Up,
            },
        }
    }

    /// Real traffic has something against the region as a whole: for the base ejection time, times
    /// the number of recent suspicions, it is the last resort. False when that is known already.
    pub fn suspect(&mut self, now: Duration, outlier: &Outlier) -> bool {
        if self.is_suspected(now) {
            return false;
        }
        self.suspicions = (self.suspicions + 1).min(super::EndpointHealth::LONGEST);
        self.suspected_until = Some(now + outlier.base_ejection * self.suspicions);
        true
    }

    fn is_suspected(&self, now: Duration) -> bool {
        self.suspected_until.is_some_and(|until| now < until)
    }

    /// Lets the time pass, and takes the evidence of the moment: what is bad counts at once, what is
    /// good after the failback delay, step by step; but at once after a first suspicion that the probes
    /// did not confirm. True when the phase changes.
    pub fn observe(&mut self, now: Duration, evidence: Evidence, failover: &Failover) -> bool {
        let before = self.phase;
        let quiet_since = self.suspected_until.unwrap_or_default();
        if self.suspicions > 0 && now >= quiet_since + failover.outlier.base_ejection {
            self.suspicions -= 1;
            self.suspected_until = Some(now);
        }
        if evidence == Evidence::Down {
            self.blip = false;
            // What the probes take down, they bring back: the suspicion has done its work.
            self.suspected_until = self.suspected_until.map(|until| until.min(now));
        }
        self.phase = match evidence {
            Evidence::Down => Phase::Down,
            Evidence::Suspected => Phase::Suspected,
            Evidence::Serves if self.is_suspected(now) => Phase::Suspected,
            Evidence::Serves if self.untried => Phase::Up,
            Evidence::Serves => self.returning(now, failover),
        };
        self.untried &= self.phase != Phase::Up;
        self.note_fall(before, now, failover);
        self.phase != before
    }

    fn note_fall(&mut self, before: Phase, now: Duration, failover: &Failover) {
        let remembered = failover.failback_delay.max(failover.outlier.base_ejection);
        match (before == Phase::Up, self.phase == Phase::Up) {
            (true, false) => {
                self.blip = self.falls == 0 && self.phase == Phase::Suspected;
                self.falls += 1;
            }
            (false, true) => self.up_since = now,
            (true, true) if self.falls > 0 && now >= self.up_since + remembered => {
                self.falls -= 1;
                self.up_since = now;
            }
            _ => {}
        }
    }

    fn returning(&self, now: Duration, failover: &Failover) -> Phase {
        if self.blip && self.phase == Phase::Suspected {
            return Phase::Up;
        }
        let mut phase = match self.phase {
            Phase::Down | Phase::Suspected => Phase::Waiting(now),
            other => other,
        };
        loop {
            phase = match phase {
                Phase::Waiting(since) if now >= since + failover.failback_delay => Phase::Ramping(0, now),
                Phase::Ramping(step, since) => match failover.ramp.get(step) {
                    Some(percent) if *percent < 100 && now < since + failover.ramp_step => return phase,
                    Some(percent) if *percent < 100 => Phase::Ramping(step + 1, now),
                    _ => Phase::Up,
                },
                _ => return phase,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_region_needs_its_share() {
        use Evidence::{Down, Serves, Suspected};
        for (endpoints, probed_up, in_rotation, evidence) in [
            (1, 0, 0, Down),
            (1, 1, 0, Suspected),
            (1, 1, 1, Serves),
            (2, 1, 1, Serves),
            (2, 2, 0, Suspected),
            (3, 1, 1, Down),
            (3, 2, 2, Serves),
            (3, 3, 1, Suspected),
            (8, 4, 4, Serves),
            (8, 3, 3, Down),
            (0, 0, 0, Down),
        ] {
            let census = EndpointCounts { endpoints, probed_up, in_rotation };
            assert_eq!(census.evidence(0.5), evidence, "{census:?}");
        }
        assert_eq!(EndpointCounts { endpoints: 4, probed_up: 0, in_rotation: 0 }.evidence(0.0), Down);
    }

    #[test]
    fn few_endpoints_may_eject_one_and_many_their_share() {
        for (endpoints, ejected, may) in
            [(1, 0, true), (1, 1, false), (2, 0, true), (2, 1, false), (3, 1, false), (4, 1, true), (4, 2, false)]
        {
            let census = EndpointCounts { endpoints, probed_up: endpoints, in_rotation: endpoints - ejected };
            assert_eq!(census.may_eject(0.5), may, "{census:?}");
        }
    }

    fn failover() -> Failover {
        Failover { failback_delay: SECOND * 300, ramp_step: SECOND * 900, ..Failover::default() }
    }

    #[test]
    fn a_region_returns_by_steps_and_a_set_back_is_at_once() {
        let failover = failover();
        let mut region = RegionHealth::default();
        let mut seen = |seconds: u64, evidence| {
            region.observe(SECOND * seconds as u32, evidence, &failover);
            region.health(&failover)
        };
        use Evidence::{Down, Serves, Suspected};
        use Health::{Ramping, Up};
        for (seconds, evidence, health) in [
            (0, Serves, Up),
            (10, Down, Health::Down),
            (20, Serves, Ramping(0)),
            (319, Serves, Ramping(0)),
            (320, Serves, Ramping(10)),
            (1_219, Serves, Ramping(10)),
            (1_220, Serves, Ramping(50)),
            (1_300, Suspected, Ramping(0)),
            (1_301, Serves, Ramping(0)),
            (1_600, Serves, Ramping(0)),
            (1_601, Serves, Ramping(10)),
            (2_501, Serves, Ramping(50)),
            (3_401, Serves, Up),
            (3_402, Down, Health::Down),
        ] {
            assert_eq!(seen(seconds, evidence), health, "after {seconds} s");
        }
    }

    #[test]
    fn without_a_delay_and_a_ramp_it_is_back_at_once() {
        let failover = Failover { failback_delay: Duration::ZERO, ramp: vec![100], ..failover() };
        let mut region = RegionHealth::default();
        region.observe(SECOND, Evidence::Down, &failover);
        region.observe(SECOND * 2, Evidence::Serves, &failover);
        assert_eq!(region.phase(), Phase::Up);
    }

    #[test]
    fn a_cold_region_is_up_once_its_probes_pass_and_returns_like_any_other() {
        let failover = failover();
        let mut region = RegionHealth::cold();
        for (seconds, evidence, phase) in [
            (1, Evidence::Down, Phase::Down),
            (2, Evidence::Serves, Phase::Up),
            (3, Evidence::Down, Phase::Down),
            (4, Evidence::Serves, Phase::Waiting(SECOND * 4)),
        ] {
            region.observe(SECOND * seconds, evidence, &failover);
            assert_eq!(region.phase(), phase, "after {seconds} s");
        }
    }

    #[test]
    fn a_blip_costs_its_ejection_and_the_next_the_whole_way_back() {
        let failover = failover();
        let mut region = RegionHealth::default();
        use Evidence::{Serves, Suspected};
        for (seconds, evidence, phase) in [
            (100, Suspected, Phase::Suspected),
            (130, Serves, Phase::Up),
            (140, Suspected, Phase::Suspected),
            (170, Serves, Phase::Waiting(SECOND * 170)),
            (470, Serves, Phase::Ramping(0, SECOND * 470)),
            (1_370, Serves, Phase::Ramping(1, SECOND * 1_370)),
            (2_270, Serves, Phase::Up),
            (2_570, Serves, Phase::Up),
            (2_870, Serves, Phase::Up),
            (2_871, Suspected, Phase::Suspected),
            (2_901, Serves, Phase::Up),
        ] {
            region.observe(SECOND * seconds, evidence, &failover);
            assert_eq!(region.phase(), phase, "after {seconds} s");
        }
    }

    #[test]
    fn what_the_probes_take_down_they_bring_back() {
        let failover = Failover { failback_delay: Duration::ZERO, ramp: vec![100], ..failover() };
        let mut region = RegionHealth::default();
        region.suspect(SECOND, &failover.outlier);
        for (seconds, evidence, phase) in [
            (2, Evidence::Serves, Phase::Suspected),
            (3, Evidence::Down, Phase::Down),
            (4, Evidence::Serves, Phase::Up),
        ] {
            region.observe(SECOND * seconds, evidence, &failover);
            assert_eq!(region.phase(), phase, "after {seconds} s");
        }
    }

    #[test]
    fn suspicion_lasts_longer_each_time() {
        let failover = Failover { failback_delay: Duration::ZERO, ramp: vec![100], ..failover() };
        let mut region = RegionHealth::default();
        let mut now = SECOND;
        for round in 1..=3 {
            assert!(region.suspect(now, &failover.outlier) && !region.suspect(now, &failover.outlier));
            region.observe(now + SECOND * (30 * round - 1), Evidence::Serves, &failover);
            assert_eq!(region.phase(), Phase::Suspected, "round {round}");
            now += SECOND * 30 * round;
            region.observe(now, Evidence::Serves, &failover);
            assert_eq!(region.phase(), Phase::Up, "round {round}");
        }
    }
}
