//! How load reports travel between nodes: late, and not always.

use std::collections::VecDeque;
use std::time::Duration;

use policy::load::FleetLoad;
use policy::{LoadReport, Reported, Table};

use super::random::Random;

/// How reports travel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Delivery {
    /// The share that never comes, `0..=1`.
    pub(super) lost: f64,
    /// How long the others take, in seconds: any time between these is as likely.
    pub(super) delay_s: (f64, f64),
}

impl Delivery {
    /// A bus in order, between continents.
    pub(super) const USUAL: Self = Self { lost: 0.0, delay_s: (0.02, 0.3) };
}

/// What some nodes hear, all of them the same: the reports on their way, and the sum of those that have come.
#[derive(Debug)]
pub(super) struct Listener {
    fleet: FleetLoad,
    /// By tick from now on.
    coming: VecDeque<Vec<Sent>>,
    random: Random,
    /// In ticks.
    until_added: usize,
    /// Whether nothing comes at all.
    pub(super) is_cut_off: bool,
    /// What the reports come to, by region: as of the last tick.
    pub(super) reported: Vec<Option<Reported>>,
    /// Reports for which there was no room.
    pub(super) turned_away: u64,
}

/// How many ticks apart the reports are added up: each tick in a node, but that would be most of what a run costs. It
/// makes news a fifth of a second older.
const ADDED_TICKS: usize = 4;

/// A report on its way: on a region, by its index.
#[derive(Clone, Debug)]
struct Sent {
    region: usize,
    report: std::rc::Rc<LoadReport>,
}

impl Listener {
    /// Makes a listener that has heard nothing, and averages reports over a time.
    pub(super) fn new(regions: usize, phase: usize, over: Duration, random: Random) -> Self {
        Self {
            until_added: phase % ADDED_TICKS,
            fleet: FleetLoad::averaged_over(over),
            coming: VecDeque::new(),
            random,
            is_cut_off: false,
            reported: vec![None; regions],
            turned_away: 0,
        }
    }

    /// Puts a report on its way.
    pub(super) fn send(&mut self, region: usize, report: &std::rc::Rc<LoadReport>, how: &Delivery, tick_s: f64) {
        if self.is_cut_off || self.random.unit() < how.lost {
            return;
        }
        let ticks = (self.random.between(how.delay_s.0, how.delay_s.1) / tick_s).round() as usize;
        while self.coming.len() <= ticks {
            self.coming.push_back(Vec::new());
        }
        if let Some(then) = self.coming.get_mut(ticks) {
            then.push(Sent { region, report: report.clone() });
        }
    }

    /// Lets a tick pass: takes what has come, and now and then adds it up.
    pub(super) fn tick(&mut self, table: &Table, now: Duration) {
        for Sent { region, report } in self.coming.pop_front().unwrap_or_default() {
            if self.is_cut_off {
                continue;
            }
            let id = policy::RegionId::new(region).expect("a region of the table");
            self.turned_away += u64::from(self.fleet.take(&table.region(id).name, &report, now).is_err());
        }
        if self.until_added > 0 {
            self.until_added -= 1;
            return;
        }
        self.until_added = ADDED_TICKS - 1;
        self.fleet.forget(now, |_| true);
        for ((_, region), reported) in table.regions().zip(&mut self.reported) {
            *reported = self.fleet.reported(&region.name, region.capacity_rps, now);
        }
    }
}
