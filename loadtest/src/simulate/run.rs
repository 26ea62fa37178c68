//! The loop through virtual time.

use std::rc::Rc;
use std::time::Duration;

use policy::health::ProbePlan;

use super::channel::Listener;
use super::geography::{self, PLACES};
use super::measure::{Measures, measure};
use super::node::{Node, NodeSpec, Pace, Settings, Tally};
use super::origin::{EndpointTruth, Origin};
use super::random::Random;
use super::recording::{Recording, Second};
use super::scenario::{self, Event, Scenario, Size, SizeError, Story, What};
use super::tuning::Tuning;

/// What a run came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// In numbers.
    pub measures: Measures,
    pub(super) recording: Recording,
}

/// The step of virtual time: the proxy's watch looks as often at its regions.
pub const TICK: Duration = Duration::from_millis(100);

const TICKS_A_SECOND: usize = 10;

/// In how many ticks every client is decided upon anew. A node decides each request; clients of one key that ask a few
/// times a second are decided upon about as often.
const TURNS: usize = 8;

/// The keys of a region's clients, over all of its nodes; of a node at least and at most as many as [`KEYS_OF_A_NODE`]: one
/// key is a third of a percent of its region's clients.
const KEYS_OF_A_REGION: usize = 320;

const KEYS_OF_A_NODE: (usize, usize) = (32, 256);

const ENDPOINTS: usize = 4;

/// What one node's share of a region of relative capacity 1 can answer, in requests per second.
const CAPACITY_OF_A_NODE: f64 = 500.0;

/// How long a request takes on an idle region, in seconds.
const BASE_S: f64 = 0.1;

/// Simulates a scenario.
///
/// # Errors
/// When the size is one that cannot be simulated.
pub fn simulate(scenario: &Scenario, asked: &Size, tuning: &Tuning) -> Result<Outcome, SizeError> {
    asked.check()?;
    let size = scenario.size(asked);
    let mut story = scenario.story(&size);
    story.delivery = tuning.delivery(story.delivery);
    story.demand.iter_mut().for_each(|demand| *demand *= tuning.demand);
    let recording = Fleet::new(&size, &story, tuning).run(&size, &story);
    Ok(Outcome { measures: measure(scenario, &size, &story, &recording), recording })
}

/// Nodes, origins, and what is between them.
struct Fleet {
    table: policy::Table,
    settings: Settings,
    nodes: Vec<Node>,
    origins: Vec<Origin>,
    /// One for the nodes of each region: they hear the same.
    listeners: Vec<Listener>,
    /// By region: times the demand that it has at first.
    factors: Vec<f64>,
    random: Random,
}

impl Fleet {
    fn new(size: &Size, story: &Story, tuning: &Tuning) -> Self {
        let mut random = Random::new(size.seed, 0);
        let settings = Settings { tuning: *tuning, failover: scenario::failover(size), probe: ProbePlan::default() };
        let per_region = size.nodes as f64 / size.regions as f64;
        let capacities: Vec<f64> =
            story.relative_capacity.iter().map(|relative| relative * per_region * CAPACITY_OF_A_NODE).collect();
        let declared: Vec<Option<f64>> = capacities.iter().copied().map(Some).collect();
        let origin = |capacity_rps: &f64| Origin {
            capacity_rps: *capacity_rps,
            base_s: BASE_S,
            endpoints: vec![EndpointTruth::WARM; ENDPOINTS],
            in_flight: 0.0,
        };
        let node = |index: usize| {
            let home = index % size.regions;
            NodeSpec {
                index,
                home,
                listener: home,
                cohorts: (KEYS_OF_A_REGION * size.regions / size.nodes).clamp(KEYS_OF_A_NODE.0, KEYS_OF_A_NODE.1),
                cap: (CAPACITY_OF_A_NODE * BASE_S * tuning.cap_over_places) as usize,
                regions: size.regions,
                endpoints: ENDPOINTS,
            }
        };
        Self {
            table: geography::table(&declared, settings.failover.clone()),
            nodes: (0..size.nodes).map(|index| Node::new(&node(index), &settings, &mut random)).collect(),
            origins: capacities.iter().map(origin).collect(),
            listeners: (0..size.regions)
                .map(|index| {
                    let random = Random::new(size.seed, 1 + index as u64);
                    Listener::new(size.regions, index, tuning.fleet_over, random)
                })
                .collect(),
            factors: vec![1.0; size.regions],
            settings,
            random,
        }
    }

    fn run(mut self, size: &Size, story: &Story) -> Recording {
        let mut recording = Recording::default();
        let mut events = story.events.iter().peekable();
        let mut tally = Tally::default();
        let mut sent = vec![0.0; size.regions];
        let mut slowest_s = 0.0_f64;
        for tick in 0..size.seconds as usize * TICKS_A_SECOND {
            let now = TICK * tick as u32;
            while let Some(event) = events.next_if(|event| event.at <= now.as_secs_f64()) {
                self.happens(event, now.as_secs_f64());
            }
            self.tick(tick, now, size, story, &mut tally);
            for (origin, (index, sent)) in self.origins.iter_mut().zip(sent.iter_mut().enumerate()) {
                let cells = || self.nodes.iter().filter_map(|node| node.cells.get(index));
                origin.in_flight = cells().map(|cell| cell.in_flight).sum();
                *sent += cells().map(|cell| cell.taken()).sum::<f64>() / TICKS_A_SECOND as f64 / origin.capacity_rps;
                slowest_s = slowest_s.max(origin.service_s(now.as_secs_f64()).unwrap_or_default());
            }
            if tick % TICKS_A_SECOND == TICKS_A_SECOND - 1 {
                recording.seconds.push(Second {
                    utilisation: sent.iter_mut().map(|sent| std::mem::take(sent) as f32).collect(),
                    slowest_s: std::mem::take(&mut slowest_s) as f32,
                    fates: std::mem::take(&mut tally),
                });
            }
        }
        recording.turned_away = self.listeners.iter().map(|listener| listener.turned_away).sum();
        recording
    }

    fn tick(&mut self, tick: usize, now: Duration, size: &Size, story: &Story, tally: &mut Tally) {
        let (now_s, tick_s) = (now.as_secs_f64(), TICK.as_secs_f64());
        let paces: Vec<Pace> = self.origins.iter().map(|origin| Pace::of(origin, now_s, tick_s)).collect();
        let demand = |region: usize| {
            let hour = now_s / size.seconds as f64 + PLACES[region].longitude / 360.0;
            let swing = 1.0 + story.swing * (hour * std::f64::consts::TAU).sin();
            story.demand[region] * self.factors[region] * swing * CAPACITY_OF_A_NODE
        };
        let demand: Vec<f64> = (0..size.regions).map(demand).collect();
        self.listeners.iter_mut().for_each(|listener| listener.tick(&self.table, now));
        let nodes_in = |home: usize| (size.nodes - home).div_ceil(size.regions) as f64;
        let per_region = size.nodes as f64 / size.regions as f64;
        for (index, node) in self.nodes.iter_mut().enumerate() {
            let Some(listener) = self.listeners.get(node.listener) else { continue };
            node.observe((now, TICK), &self.settings, &paces, &listener.reported, &mut self.random);
            node.decide(&self.table, (tick + index) % TURNS, TURNS);
            let home = node.home.index();
            let rps = demand[home] * per_region / nodes_in(home);
            node.send((&self.table, &paces, &self.settings), (now, tick_s), rps, tally);
            // Each node at its own time of the second.
            if tick % TICKS_A_SECOND == index % TICKS_A_SECOND && !listener.is_cut_off {
                for (region, report) in node.reports(&self.table, now, 1.0) {
                    let report = Rc::new(report);
                    for listener in &mut self.listeners {
                        listener.send(region, &report, &story.delivery, tick_s);
                    }
                }
            }
        }
    }

    fn happens(&mut self, event: &Event, now_s: f64) {
        match event.what {
            What::Dies { region, share } => {
                let endpoints = &mut self.origins[region].endpoints;
                let dying = (share * endpoints.len() as f64).round() as usize;
                endpoints.iter_mut().take(dying).for_each(|endpoint| *endpoint = EndpointTruth::Dead);
                self.nodes.iter_mut().for_each(|node| node.cells[region].break_off(share));
            }
            What::Returns { region, warm_up_s } => {
                let dead = self.origins[region].endpoints.iter_mut().filter(|endpoint| !endpoint.is_alive());
                dead.for_each(|endpoint| *endpoint = EndpointTruth::Alive { since: now_s, warm_up_s });
            }
            What::Demand { region, factor } => {
                let regions = self.factors.iter_mut().enumerate();
                let meant = regions.filter(|(index, _)| region.is_none_or(|region| region == *index));
                meant.for_each(|(_, each)| *each = factor);
            }
            What::CutsOff(is_cut_off) => {
                let every_other = self.listeners.iter_mut().skip(1).step_by(2);
                every_other.for_each(|listener| listener.is_cut_off = is_cut_off);
            }
            What::Ramps => {}
        }
    }
}
