//! What happens to a fleet, by name.

use super::channel::Delivery;
use super::geography::PLACES;
use super::random::Random;

/// How large a fleet is simulated, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Nodes, as many in each region as in any other.
    pub nodes: usize,
    /// Regions.
    pub regions: usize,
    /// Virtual seconds.
    pub seconds: u64,
    /// What the clients' keys, delays and losses depend on.
    pub seed: u64,
}

/// Why a size cannot be simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum SizeError {
    #[error("{0} regions: between {least} and {most} can be simulated", least = Size::LEAST_REGIONS, most = PLACES.len())]
    Regions(usize),
    #[error("{nodes} nodes in {regions} regions: between one in each region and {most} in all can be simulated", most = Size::MOST_NODES)]
    Nodes { nodes: usize, regions: usize },
    #[error("{0} s: between {least} s and a day can be simulated", least = Size::LEAST_SECONDS)]
    Seconds(u64),
}

impl Size {
    /// Fewer regions leave personal data nowhere to go.
    pub const LEAST_REGIONS: usize = 3;
    /// More nodes take longer than anybody waits.
    pub const MOST_NODES: usize = 2_000;
    /// What a scenario needs for what happens in it to settle.
    pub const LEAST_SECONDS: u64 = 600;

    /// Checks that it can be simulated.
    ///
    /// # Errors
    /// When it cannot.
    pub fn check(&self) -> Result<(), SizeError> {
        if !(Self::LEAST_REGIONS..=PLACES.len()).contains(&self.regions) {
            return Err(SizeError::Regions(self.regions));
        }
        if !(self.regions..=Self::MOST_NODES).contains(&self.nodes) {
            return Err(SizeError::Nodes { nodes: self.nodes, regions: self.regions });
        }
        if !(Self::LEAST_SECONDS..=86_400).contains(&self.seconds) {
            return Err(SizeError::Seconds(self.seconds));
        }
        Ok(())
    }
}

/// Something that happens to a fleet.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What the command line calls it.
    pub name: &'static str,
    /// One sentence.
    pub what: &'static str,
    /// The number of regions that it is about, whatever is asked.
    pub regions: Option<usize>,
    /// By how many points a region may rise and fall while nothing happens; `None` where the scenario is about what the
    /// constants are not made for.
    pub(super) most_oscillation: Option<f64>,
    /// The share of critical requests that may be shed, in percent.
    pub(super) most_critical_shed: f64,
    story: fn(&Size) -> Story,
}

/// All there is.
pub const SCENARIOS: [Scenario; 15] = [
    scenario("steady", "every region has clients for 60 % of its capacity", steady),
    scenario("uneven", "regions have clients for 30 to 110 % of their capacity, 65 % of all", uneven),
    scenario(
        "diurnal",
        "a day within the run: each region's clients for 24 to 96 % of its capacity, by its longitude",
        diurnal,
    ),
    scenario(
        "region-loss-and-return",
        "a region dies after a sixth of the run, and is back after a quarter",
        region_loss,
    ),
    scenario("endpoint-slow-start", "half of a region's endpoints die, and return with cold caches", slow_start),
    beyond("report-loss", "as diurnal, with 30 % of all reports lost", report_loss),
    beyond("late-reports", "as diurnal, with every report 2 to 4 s late", late_reports),
    beyond("late-and-lost", "as diurnal, with 30 % of all reports lost and the others up to 5 s late", late_and_lost),
    beyond(
        "partition",
        "as diurnal, and the nodes of every other region hear and say nothing for a third of the run",
        partition,
    ),
    Scenario {
        most_critical_shed: 5.0,
        ..scenario("overload", "clients for 150 % of the fleet's capacity for a third of the run", overload)
    },
    scenario("flash-crowd", "one region's clients become four times as many for a third of the run", flash_crowd),
    beyond("heterogeneous", "every other region has a tenth of the capacity, and as many clients", heterogeneous),
    Scenario { regions: Some(3), ..scenario("regions-3", "as uneven, in 3 regions", uneven) },
    Scenario { regions: Some(10), ..scenario("regions-10", "as uneven, in 10 regions", uneven) },
    Scenario { regions: Some(30), ..scenario("regions-30", "as uneven, in 30 regions", uneven) },
];

const fn scenario(name: &'static str, what: &'static str, story: fn(&Size) -> Story) -> Scenario {
    Scenario { name, what, regions: None, most_oscillation: Some(5.0), most_critical_shed: 0.0, story }
}

/// A scenario that promises nothing of how steady regions are.
const fn beyond(name: &'static str, what: &'static str, story: fn(&Size) -> Story) -> Scenario {
    Scenario { most_oscillation: None, ..scenario(name, what, story) }
}

impl Scenario {
    /// Returns the scenario of a name.
    pub fn named(name: &str) -> Option<&'static Self> {
        SCENARIOS.iter().find(|scenario| scenario.name == name)
    }

    /// Returns what happens in a fleet of this size.
    pub(super) fn story(&self, size: &Size) -> Story {
        (self.story)(size)
    }

    /// Returns the size in which it is simulated when this one is asked for.
    pub fn size(&self, asked: &Size) -> Size {
        let regions = self.regions.unwrap_or(asked.regions);
        Size { regions, nodes: asked.nodes.max(regions), ..*asked }
    }
}

/// What happens, in a fleet of a known size.
#[derive(Clone, Debug)]
pub(super) struct Story {
    /// By region: its clients' requests, in shares of the capacity that a region of relative capacity 1 has.
    pub(super) demand: Vec<f64>,
    /// By how much that rises and falls within the run, `0..1`; where a region is, by its longitude.
    pub(super) swing: f64,
    /// By region.
    pub(super) relative_capacity: Vec<f64>,
    pub(super) delivery: Delivery,
    /// In order.
    pub(super) events: Vec<Event>,
}

/// Something that happens at a time in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) at: f64,
    pub(super) what: What,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    /// This share of a region's endpoints dies.
    Dies { region: usize, share: f64 },
    /// Those of a region that are dead return; for as long they cannot do all that they are built for.
    Returns { region: usize, warm_up_s: f64 },
    /// The demand of a region, or of all, becomes this many times what it is at first.
    Demand { region: Option<usize>, factor: f64 },
    /// Every other region's nodes are cut off, or none is.
    CutsOff(bool),
    /// A region's nodes begin to send it more of its clients again: nothing but a change to be settled after.
    Ramps,
}

fn steady(size: &Size) -> Story {
    Story {
        demand: vec![0.6; size.regions],
        swing: 0.0,
        relative_capacity: vec![1.0; size.regions],
        delivery: Delivery::USUAL,
        events: Vec::new(),
    }
}

fn uneven(size: &Size) -> Story {
    let mut random = Random::new(size.seed, 0x756e_6576);
    let mut demand: Vec<f64> = (0..size.regions).map(|_| random.between(0.3, 1.1)).collect();
    let scale = 0.65 * size.regions as f64 / demand.iter().sum::<f64>();
    demand.iter_mut().for_each(|demand| *demand = (*demand * scale).min(1.1));
    Story { demand, ..steady(size) }
}

fn diurnal(size: &Size) -> Story {
    Story { swing: 0.6, ..steady(size) }
}

fn region_loss(size: &Size) -> Story {
    let length = size.seconds as f64;
    let (region, dies, returns) = (1, length / 6.0, length / 4.0);
    let failover = failover(size);
    let ramps = returns + failover.failback_delay.as_secs_f64();
    let steps = (0..failover.ramp.len()).map(|step| ramps + failover.ramp_step.as_secs_f64() * step as f64);
    let mut events = vec![
        Event { at: dies, what: What::Dies { region, share: 1.0 } },
        Event { at: returns, what: What::Returns { region, warm_up_s: 0.0 } },
    ];
    events.extend(steps.map(|at| Event { at, what: What::Ramps }));
    Story { events, ..steady(size) }
}

fn slow_start(size: &Size) -> Story {
    let length = size.seconds as f64;
    let warm_up_s = length / 30.0;
    let events = vec![
        Event { at: length / 6.0, what: What::Dies { region: 1, share: 0.5 } },
        Event { at: length / 2.0, what: What::Returns { region: 1, warm_up_s } },
        Event { at: length / 2.0 + warm_up_s, what: What::Ramps },
    ];
    Story { demand: vec![0.7; size.regions], events, ..steady(size) }
}

fn report_loss(size: &Size) -> Story {
    Story { delivery: Delivery { lost: 0.3, ..Delivery::USUAL }, ..diurnal(size) }
}

fn late_and_lost(size: &Size) -> Story {
    Story { delivery: Delivery { lost: 0.3, delay_s: (0.02, 5.0) }, ..diurnal(size) }
}

fn late_reports(size: &Size) -> Story {
    Story { delivery: Delivery { lost: 0.0, delay_s: (2.0, 4.0) }, ..diurnal(size) }
}

fn partition(size: &Size) -> Story {
    let length = size.seconds as f64;
    let events = vec![
        Event { at: length / 6.0, what: What::CutsOff(true) },
        Event { at: length / 2.0, what: What::CutsOff(false) },
    ];
    Story { events, ..diurnal(size) }
}

fn overload(size: &Size) -> Story {
    surge(size, None, 2.5)
}

fn flash_crowd(size: &Size) -> Story {
    Story { demand: vec![0.5; size.regions], ..surge(size, Some(0), 4.0) }
}

fn surge(size: &Size, region: Option<usize>, factor: f64) -> Story {
    let length = size.seconds as f64;
    let events = vec![
        Event { at: length / 6.0, what: What::Demand { region, factor } },
        Event { at: length / 2.0, what: What::Demand { region, factor: 1.0 } },
    ];
    Story { events, ..steady(size) }
}

fn heterogeneous(size: &Size) -> Story {
    let relative_capacity: Vec<f64> = (0..size.regions).map(|region| if region % 2 == 0 { 1.0 } else { 0.1 }).collect();
    let each = 0.6 * relative_capacity.iter().sum::<f64>() / size.regions as f64;
    Story { relative_capacity, demand: vec![each; size.regions], ..steady(size) }
}

/// Returns the failover settings of a run: the defaults, of which the times of a return are as much shorter as the run
/// is than an hour.
pub(super) fn failover(size: &Size) -> policy::failover::Failover {
    let usual = policy::failover::Failover::default();
    let scale = (size.seconds as f64 / 3600.0).min(1.0);
    let (failback_delay, ramp_step) = (usual.failback_delay.mul_f64(scale), usual.ramp_step.mul_f64(scale));
    policy::failover::Failover { failback_delay, ramp_step, ..usual }
}
