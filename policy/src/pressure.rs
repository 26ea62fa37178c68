//! Overload: when a region spills clients to others, and which of them.

use std::time::Duration;

use serde::Serialize;

/// The utilisation past which a region spills.
pub const OVERLOAD_MARK: f32 = 0.85;

/// The utilisation at which it spills whomever it may.
pub const FULL: f32 = 1.0;

/// A region's utilisation as the overload mark sees it: an average over about a third of a second, which a fall
/// of less than [`Pressure::BAND`] does not change. A region that relieves itself by spilling would
/// else take its clients back at once, and flap.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    average: f32,
    level: f32,
}

impl Pressure {
    /// How far the average must fall below the level before the level follows.
    pub const BAND: f32 = 0.05;

    /// The time constant of the average: a burst of requests is over sooner, and what the fleet reports is an average
    /// already ([`crate::load::FleetLoad::OVER`]), to which this one adds delay and nothing else.
    pub const OVER: Duration = Duration::from_millis(300);

    /// Takes the utilisation of the moment, `since` the last.
    pub fn observe(&mut self, utilisation: f32, since: Duration) {
        self.observe_over(Self::OVER, utilisation, since);
    }

    /// The same with another time constant than [`Pressure::OVER`]: to find out what that does.
    pub fn observe_over(&mut self, over: Duration, utilisation: f32, since: Duration) {
        let kept = libm::exp(-since.as_secs_f64() / over.as_secs_f64()) as f32;
        self.average = utilisation + (self.average - utilisation) * kept;
        self.level = self.level.clamp(self.average, self.average + Self::BAND);
    }

    /// Returns what [`crate::RegionView::pressure`] is to be; 0 idle, 1 full, above 1 overloaded.
    pub fn level(&self) -> f32 {
        self.level
    }
}

/// How late a route's requests are shed when the node or a region is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Criticality {
    Sheddable,
    Default,
    Critical,
}

impl Criticality {
    /// Returns the one of a name.
    pub fn named(name: &str) -> Option<Self> {
        [Criticality::Sheddable, Criticality::Default, Criticality::Critical]
            .into_iter()
            .find(|each| each.name() == name)
    }

    /// Returns its name, as tables and metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            Criticality::Sheddable => "sheddable",
            Criticality::Default => "default",
            Criticality::Critical => "critical",
        }
    }
}

/// The share of a route's clients that a region spills, by its pressure.
///
/// From [`OVERLOAD_MARK`] to [`FULL`], the criticalities of the table's routes have equal bands,
/// the lowest first; within its band each spills in proportion to the excess.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spill {
    from: f32,
    width: f32,
}

impl Spill {
    /// Makes the band of a criticality among those of a table's routes.
    pub fn of(criticality: Criticality, in_the_table: &[Criticality]) -> Self {
        let all = [Criticality::Sheddable, Criticality::Default, Criticality::Critical];
        let present = || all.into_iter().filter(|each| *each == criticality || in_the_table.contains(each));
        let width = (FULL - OVERLOAD_MARK) / present().count() as f32;
        let before = present().filter(|each| *each < criticality).count();
        Self { from: OVERLOAD_MARK + width * before as f32, width }
    }

    /// Returns the share spilled, `0..=1`.
    pub fn share(&self, pressure: f32) -> f32 {
        if pressure <= self.from {
            // The usual case, on the path of every request.
            return 0.0;
        }
        ((pressure - self.from) / self.width).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Criticality::{Critical, Default, Sheddable};

    #[test]
    fn the_unimportant_spills_first_and_each_in_proportion() {
        let share = |criticality, pressure| {
            let share = Spill::of(criticality, &[Critical, Default, Sheddable, Default]).share(pressure);
            (share * 100.0).round()
        };
        for (pressure, sheddable, default, critical) in [
            (0.0, 0.0, 0.0, 0.0),
            (0.85, 0.0, 0.0, 0.0),
            (0.875, 50.0, 0.0, 0.0),
            (0.90, 100.0, 0.0, 0.0),
            (0.925, 100.0, 50.0, 0.0),
            (0.975, 100.0, 100.0, 50.0),
            (1.0, 100.0, 100.0, 100.0),
            (7.0, 100.0, 100.0, 100.0),
        ] {
            let shares = [share(Sheddable, pressure), share(Default, pressure), share(Critical, pressure)];
            assert_eq!(shares, [sheddable, default, critical], "at {pressure}");
        }
    }

    #[test]
    fn one_criticality_has_the_whole_band() {
        let spill = Spill::of(Default, &[Default]);
        assert_eq!(spill.share(0.85), 0.0);
        assert!((spill.share(0.925) - 0.5).abs() < 1e-5);
        assert_eq!(spill.share(1.0), 1.0);
    }

    #[test]
    fn pressure_rises_with_the_average_and_falls_past_a_band() {
        let mut pressure = Pressure::default();
        let mut settle = |utilisation| {
            (0..100).for_each(|_| pressure.observe(utilisation, Duration::from_millis(100)));
            (pressure.level() * 1000.0).round() / 1000.0
        };
        assert_eq!(settle(0.9), 0.9);
        assert_eq!(settle(0.86), 0.9);
        assert_eq!(settle(0.9), 0.9);
        assert_eq!(settle(0.8), 0.85);
        assert_eq!(settle(0.84), 0.85);
    }

    #[test]
    fn a_burst_counts_by_its_length() {
        let mut pressure = Pressure::default();
        pressure.observe(1.0, Duration::from_millis(100));
        assert!((0.28..0.29).contains(&pressure.level()), "{}", pressure.level());
    }
}
