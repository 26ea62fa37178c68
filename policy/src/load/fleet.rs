//! What all nodes send to each region.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::{LoadReport, Reported, trust};

/// The last report of each node on each region. `now` is any monotonic clock.
#[derive(Clone, Debug)]
pub struct FleetLoad {
    /// By region, then by node.
    regions: FxHashMap<String, FxHashMap<String, Heard>>,
    /// See [`FleetLoad::OVER`].
    over: Duration,
}

impl Default for FleetLoad {
    fn default() -> Self {
        Self::averaged_over(Self::OVER)
    }
}

/// There are as many nodes as there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no room for another node's report: at most {} on a region, {} in all",
    FleetLoad::MOST_ON_A_REGION,
    FleetLoad::MOST
)]
pub struct Full;

/// What one node sends to one region.
#[derive(Clone, Copy, Debug)]
struct Heard {
    at: Duration,
    /// Whether the node is in that region.
    is_there: bool,
    cap: f64,
    /// The average of its reports, as `rps`.
    in_flight: f64,
    rps: f64,
    /// What the region's endpoints say; 0 is nothing.
    origins: f64,
}

impl FleetLoad {
    /// The most nodes on one region.
    pub const MOST_ON_A_REGION: usize = 1024;

    /// The most reports in all.
    pub const MOST: usize = 16_384;

    /// The time constant of the average of a node's reports.
    ///
    /// Every node gets the same reports, and acts on it a second or two after it was true. A fleet that
    /// follows such news at once overshoots: it empties a full region, and fills it again. A region spills ten times as
    /// much of its load, in shares, as its utilisation rises within a criticality's band; by a loop of that gain and two
    /// seconds of delay it takes an average over many times the delay to settle. `loadtest simulate` shows it:
    /// with 5 s the neighbours of a lost region swing for as long as it is gone; 15 s would do where no report is late.
    pub const OVER: Duration = Duration::from_secs(30);

    /// Makes one without reports that averages them over another time than [`FleetLoad::OVER`]: to find out what that
    /// does.
    pub fn averaged_over(over: Duration) -> Self {
        Self { regions: FxHashMap::default(), over }
    }

    /// Takes a node's report on a region.
    ///
    /// # Errors
    /// When the node is a new one, and there is no room for it.
    pub fn take(&mut self, region: &str, report: &LoadReport, now: Duration) -> Result<(), Full> {
        let fresh = Heard {
            at: now,
            is_there: report.region == region,
            cap: f64::from(report.cap),
            in_flight: f64::from(report.requests_in_flight),
            rps: report.rps,
            origins: f64::from(report.origin_load),
        };
        if let Some(heard) = self.regions.get_mut(region).and_then(|nodes| nodes.get_mut(&report.node)) {
            *heard = heard.then(fresh, self.over);
            return Ok(());
        }
        if !self.has_room(region) {
            return Err(Full);
        }
        self.regions.entry(region.to_owned()).or_default().insert(report.node.clone(), fresh);
        Ok(())
    }

    /// Forgets the nodes that have been silent for [`Reported::GONE`], and all of the regions that are
    /// not `known`.
    pub fn forget(&mut self, now: Duration, known: impl Fn(&str) -> bool) {
        self.regions.retain(|region, nodes| {
            nodes.retain(|_, heard| now.saturating_sub(heard.at) < Reported::GONE);
            !nodes.is_empty() && known(region)
        });
    }

    /// Returns what is reported of a region, whose table may declare its capacity in requests per second.
    /// `None` when nobody has for [`Reported::GONE`].
    ///
    /// The nodes are taken as of the last report of any: of a silent one among others as much is left,
    /// requests and cap alike, as its report still counts. When all are silent nothing of this changes
    /// but the age, by which [`Reported::over`] lets go of the whole.
    pub fn reported(&self, region: &str, capacity_rps: Option<f64>, now: Duration) -> Option<Reported> {
        let nodes = self.regions.get(region)?;
        let latest = nodes.values().map(|heard| heard.at).max()?;
        let age = now.saturating_sub(latest);
        if age >= Reported::GONE {
            return None;
        }
        let mut sum = Sum::default();
        nodes.values().for_each(|heard| sum.add(heard, latest - heard.at));
        Some(Reported { utilisation: sum.utilisation(capacity_rps), age, nodes: sum.nodes })
    }

    fn has_room(&self, region: &str) -> bool {
        self.regions.get(region).is_none_or(|nodes| nodes.len() < Self::MOST_ON_A_REGION)
            && self.regions.values().map(FxHashMap::len).sum::<usize>() < Self::MOST
    }
}

impl Heard {
    /// Returns what is known once a node that reported before reports again.
    fn then(self, fresh: Self, over: Duration) -> Self {
        let since = fresh.at.saturating_sub(self.at);
        if since >= Reported::GONE {
            return fresh;
        }
        let kept = libm::exp(-since.as_secs_f64() / over.as_secs_f64());
        let mixed = |before: f64, now: f64| now + (before - now) * kept;
        Self {
            at: self.at.max(fresh.at),
            in_flight: mixed(self.in_flight, fresh.in_flight),
            rps: mixed(self.rps, fresh.rps),
            // Who hears nothing any more has no say, and who begins to hear has all of it.
            origins: match (self.origins > 0.0, fresh.origins > 0.0) {
                (true, true) => mixed(self.origins, fresh.origins),
                (false, true) | (_, false) => fresh.origins,
            },
            ..fresh
        }
    }
}

/// What the nodes send to one region, each for what its report still counts.
#[derive(Default)]
struct Sum {
    rps: f64,
    in_flight: f64,
    /// The caps of the nodes that are there, and of the others.
    caps_there: f64,
    caps_elsewhere: f64,
    /// What those that hear of the endpoints' own load hear, and how much their word counts.
    origins: f64,
    hearing: f64,
    /// What the freshest report of those that are there counts.
    presence: f64,
    nodes: u32,
}

impl Sum {
    fn add(&mut self, heard: &Heard, age: Duration) {
        let counts = trust(age);
        self.rps += counts * heard.rps;
        self.in_flight += counts * heard.in_flight;
        if heard.origins > 0.0 {
            self.origins += counts * heard.origins;
            self.hearing += counts;
        }
        if heard.is_there {
            self.caps_there += counts * heard.cap;
            self.presence = self.presence.max(counts);
        } else {
            self.caps_elsewhere += counts * heard.cap;
        }
        self.nodes += u32::from(age <= Reported::FRESH);
    }

    /// Returns the greatest share: of the capacity that the table declares, of what the region's own nodes would
    /// have under way, and what its endpoints say themselves, which is the same whichever node hears it. Where none is there, of what the others would; and as the last that is there falls silent,
    /// more and more so.
    fn utilisation(&self, capacity_rps: Option<f64>) -> f32 {
        let of_the_caps = self.in_flight / (self.caps_there + (1.0 - self.presence) * self.caps_elsewhere).max(1.0);
        let of_the_capacity = capacity_rps.filter(|rps| *rps > 0.0).map_or(0.0, |capacity| self.rps / capacity);
        // Nobody's word that no longer counts at all is divided by.
        let of_the_origins = self.origins / self.hearing.max(f64::MIN_POSITIVE);
        of_the_caps.max(of_the_capacity).max(of_the_origins).min(f64::from(Reported::MOST)) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pressure::{Pressure, Spill};
    use crate::route::Criticality;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn report(node: &str, region: &str, requests_in_flight: u32, cap: u32, rps: f64) -> LoadReport {
        LoadReport {
            node: node.into(),
            region: region.into(),
            requests_in_flight,
            cap,
            rps,
            origin_load: 0.0,
            round_trips: BTreeMap::new(),
            client_excess_ms: BTreeMap::new(),
        }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Utilisation in thousandths, age in milliseconds and nodes.
    fn of(fleet: &FleetLoad, capacity_rps: Option<f64>, now_ms: u64) -> Option<(i32, u128, u32)> {
        let Reported { utilisation, age, nodes } = fleet.reported("a", capacity_rps, ms(now_ms))?;
        Some(((utilisation * 1000.0).round() as i32, age.as_millis(), nodes))
    }

    #[test]
    fn a_regions_load_is_the_sum_of_its_nodes() {
        let (here, there) = ("a", "b");
        type Row<'a> = (&'a str, Option<f64>, &'a [(&'a str, u32, u32, f64)], i32);
        let rows: [Row<'_>; 7] = [
            ("one", None, &[(here, 50, 100, 9.0)], 500),
            ("the average", None, &[(here, 50, 100, 9.0), (here, 100, 200, 9.0), (here, 0, 200, 0.0)], 300),
            ("others add requests, not room", None, &[(here, 50, 100, 9.0), (there, 25, 900, 9.0)], 750),
            ("nobody is there", None, &[(there, 50, 100, 9.0), (there, 25, 900, 9.0)], 75),
            ("a capacity", Some(1000.0), &[(here, 1, 100, 300.0), (there, 1, 100, 500.0)], 800),
            ("the greater counts", Some(1000.0), &[(here, 90, 100, 300.0), (there, 1, 100, 500.0)], 910),
            ("no end of it", Some(0.001), &[(here, 0, 100, 1e9)], 10_000),
        ];
        for (what, capacity, reports, expected) in rows {
            let mut fleet = FleetLoad::default();
            for (index, (region, in_flight, cap, rps)) in reports.iter().enumerate() {
                let report = report(&format!("node-{index}"), region, *in_flight, *cap, *rps);
                fleet.take("a", &report, ms(1000)).expect("room");
            }
            assert_eq!(of(&fleet, capacity, 1000), Some((expected, 0, reports.len() as u32)), "{what}");
        }
    }

    #[test]
    fn what_endpoints_say_of_themselves_is_averaged_over_those_that_hear_it() {
        let mut fleet = FleetLoad::default();
        for (node, origin_load) in [("n1", 0.8), ("n2", 0.9), ("n3", 0.0)] {
            let report = LoadReport { origin_load, ..report(node, "a", 10, 100, 0.0) };
            fleet.take("a", &report, ms(0)).expect("room");
        }
        assert_eq!(of(&fleet, None, 0), Some((850, 0, 3)));
    }

    #[test]
    fn what_is_said_of_one_region_is_not_said_of_another() {
        let mut fleet = FleetLoad::default();
        fleet.take("b", &report("n", "a", 5, 10, 0.0), ms(0)).expect("room");
        assert_eq!(fleet.reported("a", None, ms(0)), None);
        assert!(fleet.reported("b", None, ms(0)).is_some());
    }

    /// Ten nodes at 30 % and a busy one, which says no more after the first second.
    #[test]
    fn one_silent_node_leaves_the_sum_smoothly() {
        let mut fleet = FleetLoad::default();
        fleet.take("a", &report("busy", "a", 80, 100, 80.0), ms(0)).expect("room");
        let mut seen = Vec::new();
        for second in 0..=24_u64 {
            for node in 0..10 {
                let report = report(&format!("node-{node}"), "a", 30, 100, 30.0);
                fleet.take("a", &report, ms(second * 1000)).expect("room");
            }
            fleet.forget(ms(second * 1000), |_| true);
            seen.push((of(&fleet, None, second * 1000), of(&fleet, Some(1000.0), second * 1000)));
        }
        let share = |second: usize| seen[second].0.map(|(share, ..)| share);
        assert_eq!([0, 10, 12, 16, 20, 24].map(share), [345, 345, 337, 319, 300, 300].map(Some), "{seen:?}");
        let rps = |second: usize| seen[second].1.map(|(share, _, nodes)| (share, nodes));
        assert_eq!([0, 10, 12, 16, 20].map(rps), [(380, 11), (380, 11), (364, 10), (332, 10), (300, 10)].map(Some));
    }

    #[test]
    fn the_last_node_of_a_region_takes_its_cap_along_smoothly() {
        let mut fleet = FleetLoad::default();
        fleet.take("a", &report("there", "a", 500, 1000, 0.0), ms(0)).expect("room");
        let mut before = f32::MAX;
        for at in (0..=24_000).step_by(500) {
            fleet.take("a", &report("elsewhere", "b", 10, 1000, 0.0), ms(at)).expect("room");
            fleet.forget(ms(at), |_| true);
            let now = fleet.reported("a", None, ms(at)).expect("reported").utilisation;
            assert!(now <= before && before - now < 0.06 || before == f32::MAX, "{before} then {now} at {at} ms");
            before = now;
        }
        assert_eq!(before, 0.01);
    }

    #[test]
    fn when_all_are_silent_only_the_age_changes_until_nothing_is_left() {
        let mut fleet = FleetLoad::default();
        fleet.take("a", &report("one", "a", 20, 100, 0.0), ms(0)).expect("room");
        fleet.take("a", &report("two", "a", 40, 100, 0.0), ms(400)).expect("room");
        for (now, expected) in [
            (400, Some((300, 0, 2))),
            (1400, Some((300, 1000, 2))),
            (18_000, Some((300, 17_600, 2))),
            (20_399, Some((300, 19_999, 2))),
            (20_400, None),
        ] {
            assert_eq!(of(&fleet, None, now), expected, "at {now} ms");
            fleet.forget(ms(now), |_| true);
        }
        assert!(fleet.regions.is_empty());
    }

    #[test]
    fn a_nodes_reports_are_averaged_but_not_its_first() {
        let mut fleet = FleetLoad::default();
        fleet.take("a", &report("n", "a", 0, 100, 0.0), ms(0)).expect("room");
        fleet.take("a", &report("n", "a", 100, 100, 0.0), ms(5000)).expect("room");
        // 1 - exp(-5 s / 30 s)
        assert_eq!(of(&fleet, None, 5000), Some((154, 0, 1)));
        fleet.take("a", &report("n", "a", 50, 100, 0.0), ms(25_000)).expect("room");
        assert_eq!(of(&fleet, None, 25_000), Some((500, 0, 1)), "a node that was gone is a new one");
        fleet.take("a", &report("n", "a", 50, 100, 0.0), ms(24_000)).expect("room");
        assert_eq!(of(&fleet, None, 25_000), Some((500, 0, 1)), "a clock that goes back is the same moment");
    }

    #[test]
    fn there_is_room_for_so_many() {
        let mut fleet = FleetLoad::default();
        for node in 0..FleetLoad::MOST {
            let region = format!("region-{}", node / FleetLoad::MOST_ON_A_REGION);
            if node == FleetLoad::MOST_ON_A_REGION {
                assert_eq!(fleet.take("region-0", &report("another", "b", 1, 1, 1.0), ms(0)), Err(Full));
            }
            fleet.take(&region, &report(&format!("n{node}"), "b", 1, 1, 1.0), ms(0)).expect("room");
        }
        let another = report("another", "b", 1, 1, 1.0);
        assert_eq!(fleet.take("region-0", &another, ms(0)), Err(Full));
        assert_eq!(fleet.take("region-9", &another, ms(0)), Err(Full));
        assert_eq!(fleet.take("region-0", &report("n7", "b", 1, 1, 1.0), ms(9_000)), Ok(()), "who is known is heard");
        fleet.forget(ms(20_000), |_| true);
        assert_eq!(fleet.regions.values().map(FxHashMap::len).sum::<usize>(), 1);
        assert_eq!(fleet.take("region-9", &another, ms(20_000)), Ok(()));
        fleet.forget(ms(20_000), |region| region == "region-9");
        assert_eq!(fleet.regions.keys().collect::<Vec<_>>(), ["region-9"]);
    }

    /// Returns what a region carries at last, at least and at most, when clients would send it `demand` times its
    /// capacity through ten nodes, each of which spills by what all of them report.
    fn carried(demand: f64) -> (f64, f64) {
        const NODES: u64 = 10;
        const TICK_MS: u64 = 100;
        let (spill, mut pressure) = (Spill::of(Criticality::Default, &[Criticality::Default]), Pressure::default());
        let mut fleet = FleetLoad::default();
        let mut sent = [0.0; NODES as usize];
        let (mut least, mut most) = (f64::MAX, 0.0_f64);
        for tick in 0..1200 {
            let now = ms(tick * TICK_MS);
            let load = demand * f64::from(1.0 - spill.share(pressure.level()));
            for (node, sent) in (0..NODES).zip(&mut sent) {
                *sent += load * 1000.0 / NODES as f64 * TICK_MS as f64 / 1000.0;
                // Not all at once: each in its own tenth of the second.
                if tick % 10 == node {
                    let report = report(&format!("n{node}"), "a", 0, 100, std::mem::take(sent));
                    fleet.take("a", &report, now).expect("room");
                }
            }
            let reported = fleet.reported("a", Some(1000.0), now).map_or(0.0, |reported| reported.over(0.0));
            pressure.observe(reported, ms(TICK_MS));
            if tick > 600 {
                (least, most) = (least.min(load), most.max(load));
            }
        }
        (least, most)
    }

    #[test]
    fn a_fleet_that_spills_by_reports_settles() {
        for demand in [0.5, 0.84] {
            assert_eq!(carried(demand), (demand, demand));
        }
        for demand in [0.9, 1.0, 1.2, 1.35, 1.5] {
            let (least, most) = carried(demand);
            assert!(least > 0.75 && most < 1.0 && most - least < 0.1, "{demand}: {least} to {most}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_reported_the_sum_is_a_share(
            said in prop::collection::vec(
                (0..6_u8, any::<bool>(), any::<u32>(), 1..=u32::MAX, 0.0..=LoadReport::MAX_RPS, 0..4_000_u64), 1..40),
            capacity in prop::option::of(0.0..1e9_f64), later_ms in 0..30_000_u64,
        ) {
            let (mut fleet, mut now) = (FleetLoad::default(), ms(0));
            for (node, there, in_flight, cap, rps, pause) in said {
                now += ms(pause);
                let region = if there { "a" } else { "b" };
                fleet.take("a", &report(&node.to_string(), region, in_flight, cap, rps), now).expect("room");
                let Reported { utilisation, age, nodes } = fleet.reported("a", capacity, now).expect("reported");
                prop_assert!((0.0..=Reported::MOST).contains(&utilisation));
                prop_assert!(age == ms(0) && (1..=6).contains(&nodes));
            }
            let before = fleet.reported("a", capacity, now).expect("reported");
            match fleet.reported("a", capacity, now + ms(later_ms)) {
                Some(after) => prop_assert_eq!(after, Reported { age: ms(later_ms), ..before }),
                None => prop_assert!(later_ms >= 20_000),
            }
        }
    }
}
