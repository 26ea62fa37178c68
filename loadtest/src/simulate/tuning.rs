//! What a sweep varies, one at a time: constants of the product, and of the world around it.

use std::time::Duration;

use policy::load::FleetLoad;
use policy::pressure::Pressure;

use super::channel::Delivery;

/// What a run goes by. The default is the product as it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuning {
    /// [`FleetLoad::OVER`].
    pub(super) fleet_over: Duration,
    /// [`Pressure::OVER`].
    pub(super) pressure_over: Duration,
    /// As many times as many requests would the nodes of a region have in flight there as it has places for.
    pub(super) cap_over_places: f64,
    /// Times the demand of the scenario.
    pub(super) demand: f64,
    /// Instead of the scenario's: the most that a report takes, in seconds.
    delay_s: Option<f64>,
    /// Likewise: the share of reports that never come.
    lost: Option<f64>,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            fleet_over: FleetLoad::OVER,
            pressure_over: Pressure::OVER,
            cap_over_places: 2.0,
            demand: 1.0,
            delay_s: None,
            lost: None,
        }
    }
}

/// Something that can be varied.
#[derive(Clone, Copy, Debug)]
pub struct Knob {
    /// What the command line calls it.
    pub name: &'static str,
    /// One sentence, with the unit.
    pub what: &'static str,
    /// The least and the most that it may be.
    pub bounds: (f64, f64),
    set: fn(&mut Tuning, f64),
}

/// All there is.
pub const KNOBS: [Knob; 6] = [
    Knob {
        name: "fleet-over",
        what: "FleetLoad::OVER: over how many seconds a node's reports are averaged",
        bounds: (0.1, 3600.0),
        set: |tuning, value| tuning.fleet_over = Duration::from_secs_f64(value),
    },
    Knob {
        name: "pressure-over",
        what: "Pressure::OVER: over how many seconds the utilisation is averaged by which a region spills",
        bounds: (0.01, 3600.0),
        set: |tuning, value| tuning.pressure_over = Duration::from_secs_f64(value),
    },
    Knob {
        name: "cap",
        what: "the requests that nodes would have in flight, in places of their region's origins",
        bounds: (0.1, 100.0),
        set: |tuning, value| tuning.cap_over_places = value,
    },
    Knob {
        name: "demand",
        what: "times the clients' requests of the scenario",
        bounds: (0.0, 100.0),
        set: |tuning, value| tuning.demand = value,
    },
    Knob {
        name: "delay",
        what: "how many seconds a report takes at most",
        bounds: (0.02, 60.0),
        set: |tuning, value| tuning.delay_s = Some(value),
    },
    Knob {
        name: "lost",
        what: "the share of reports that never come, 0 to 1",
        bounds: (0.0, 1.0),
        set: |tuning, value| tuning.lost = Some(value),
    },
];

impl Knob {
    /// Returns the knob of a name.
    pub fn named(name: &str) -> Option<&'static Self> {
        KNOBS.iter().find(|knob| knob.name == name)
    }

    /// Returns a tuning in which it has a value, and all else is as it is; `None` for a value out of its bounds.
    pub fn at(&self, value: f64) -> Option<Tuning> {
        let mut tuning = Tuning::default();
        // Not a number is in no range.
        (self.bounds.0..=self.bounds.1).contains(&value).then(|| (self.set)(&mut tuning, value))?;
        Some(tuning)
    }
}

impl Tuning {
    /// Returns how reports travel in a scenario of which this is the usual way.
    pub(super) fn delivery(&self, usual: Delivery) -> Delivery {
        let least = self.delay_s.map_or(usual.delay_s.0, |most| usual.delay_s.0.min(most));
        Delivery { lost: self.lost.unwrap_or(usual.lost), delay_s: (least, self.delay_s.unwrap_or(usual.delay_s.1)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_knob_changes_one_thing_within_its_bounds() {
        for knob in KNOBS {
            assert!(Knob::named(knob.name).is_some_and(|found| found.name == knob.name));
            assert_eq!(knob.at(f64::NAN), None, "{}", knob.name);
            assert_eq!(knob.at(knob.bounds.1 * 2.0), None, "{}", knob.name);
            assert_ne!(knob.at(knob.bounds.0), knob.at(knob.bounds.1), "{}", knob.name);
        }
    }

    #[test]
    fn the_default_is_the_product() {
        let as_it_is = Knob::named("fleet-over").and_then(|knob| knob.at(FleetLoad::OVER.as_secs_f64()));
        assert_eq!(as_it_is, Some(Tuning::default()));
        assert_eq!(Tuning::default().delivery(Delivery::USUAL), Delivery::USUAL);
    }
}
