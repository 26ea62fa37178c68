//! One node: what it knows of each region, what it decides, and what it has under way.

mod cell;

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use policy::concurrency::admits;
use policy::country::Country;
use policy::decide::decide_on_route;
use policy::pressure::{Criticality, OVERLOAD_MARK};
use policy::route::RouteId;
use policy::view::WithDown;
use policy::{Facts, LoadReport, Method, Origin, Payload, RegionId, RegionView, Reported, Table, Verdict};

use super::geography::{PLACES, ROUTES};
use super::random::Random;
pub(super) use cell::{Cell, Pace, Settings};

/// Every criticality, from the first to be shed to the last; a [`Tally`] is by position here.
pub(super) const CRITICALITIES: [Criticality; 3] =
    [Criticality::Sheddable, Criticality::Default, Criticality::Critical];

/// A request for which so many regions have no room is shed, though a node would ask all that are left.
const MOST_REGIONS: usize = 4;

/// Less than this many requests per second are none.
const NOTHING: f64 = 1e-9;

/// One node of the fleet.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) home: RegionId,
    /// Whose reports it hears: an index into the run's listeners.
    pub(super) listener: usize,
    cohorts: Vec<Cohort>,
    pub(super) cells: Vec<Cell>,
    view: Vec<RegionView>,
    /// Whether what it knows of some region's health has changed since it last decided.
    is_stirred: bool,
    limits: [f64; 3],
}

/// Clients of one key, who all ask the same.
#[derive(Debug)]
struct Cohort {
    key: u64,
    route: RouteId,
    /// An index into [`CRITICALITIES`].
    criticality: usize,
    /// Of its node's requests.
    share: f64,
    /// The regions that it is sent to, the next where the one before has no room: as far as they have been asked for.
    regions: Vec<RegionId>,
    /// Whether the decision refused it.
    is_refused: bool,
    /// Whether an overloaded region spills it to the first.
    is_spilled: bool,
}

/// What became of the requests of one criticality, in requests.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Fate {
    pub(super) offered: f64,
    /// Served by another region than the one that would have had them, were none overloaded.
    pub(super) spilled: f64,
    /// Refused for want of room.
    pub(super) shed: f64,
    /// Refused by the decision: no region that the law allows can serve.
    pub(super) refused: f64,
    /// Failed, with no other region to try.
    pub(super) lost: f64,
}

/// What became of requests, by [`CRITICALITIES`].
pub(super) type Tally = [Fate; 3];

/// How a node is made.
pub(super) struct NodeSpec {
    pub(super) index: usize,
    pub(super) home: usize,
    pub(super) listener: usize,
    /// Its clients' keys.
    pub(super) cohorts: usize,
    /// The most requests that it would have in flight to one region; it takes twice as many in all.
    pub(super) cap: usize,
    pub(super) regions: usize,
    pub(super) endpoints: usize,
}

impl Node {
    /// Makes a node that has done nothing yet, whose probes are at any point of their interval.
    pub(super) fn new(spec: &NodeSpec, settings: &Settings, random: &mut Random) -> Self {
        let cohorts = (0..spec.cohorts).map(|index| {
            let (route, criticality) = route_at((index as f64 + 0.5) / spec.cohorts as f64);
            let regions = Vec::with_capacity(MOST_REGIONS);
            let share = 1.0 / spec.cohorts as f64;
            let key = random.next();
            Cohort { key, route, criticality, share, regions, is_refused: false, is_spilled: false }
        });
        Self {
            name: format!("node-{}", spec.index),
            home: RegionId::new(spec.home).expect("a region of the table"),
            listener: spec.listener,
            cohorts: cohorts.collect(),
            cells: (0..spec.regions).map(|_| Cell::new(spec.cap, spec.endpoints, settings, random)).collect(),
            view: vec![RegionView::default(); spec.regions],
            is_stirred: true,
            limits: CRITICALITIES.map(|criticality| most_in_flight(criticality, spec.cap * 2)),
        }
    }

    /// Lets a tick pass: probes, health, load and pressure.
    pub(super) fn observe(
        &mut self,
        (now, tick): (Duration, Duration),
        settings: &Settings,
        paces: &[Pace],
        reported: &[Option<Reported>],
        random: &mut Random,
    ) {
        for (((cell, seen), pace), reported) in self.cells.iter_mut().zip(&mut self.view).zip(paces).zip(reported) {
            self.is_stirred |= cell.probe_and_settle(now, settings, pace, random);
            *seen = cell.view(tick, reported.as_ref(), settings);
        }
    }

    /// Decides where the clients whose turn it is go: one in `turns`, or all of them when a region's health has changed.
    pub(super) fn decide(&mut self, table: &Table, turn: usize, turns: usize) {
        let all = std::mem::take(&mut self.is_stirred);
        let is_overloaded = self.view.iter().any(|seen| seen.pressure > OVERLOAD_MARK);
        let relaxed: Vec<RegionView> = if is_overloaded {
            self.view.iter().map(|seen| RegionView { pressure: 0.0, ..*seen }).collect()
        } else {
            Vec::new()
        };
        for (index, cohort) in self.cohorts.iter_mut().enumerate() {
            if !all && index % turns != turn {
                continue;
            }
            cohort.regions.clear();
            let first = choose(table, self.home, cohort, self.view.as_slice());
            cohort.is_refused = first.is_none();
            cohort.is_spilled =
                is_overloaded && first.is_some() && first != choose(table, self.home, cohort, relaxed.as_slice());
            cohort.regions.extend(first);
        }
    }

    /// Sends a tick's requests, `rps` of them a second: each to the first of its regions that has room.
    pub(super) fn send(
        &mut self,
        (table, paces, settings): (&Table, &[Pace], &Settings),
        (now, tick_s): (Duration, f64),
        rps: f64,
        tally: &mut Tally,
    ) {
        let under_way: f64 = self.cells.iter().zip(paces).map(|(cell, pace)| cell.in_flight * pace.kept).sum();
        let mut offered = [0.0; 3];
        self.cohorts.iter().for_each(|cohort| offered[cohort.criticality] += rps * cohort.share);
        let room = self.limits.map(|limit| (limit - under_way) / tick_s);
        let admitted = shares(&offered, room, 0.0);
        let mut left: Vec<f64> = Vec::with_capacity(self.cohorts.len());
        for cohort in &self.cohorts {
            let (offered, fate) = (rps * cohort.share, &mut tally[cohort.criticality]);
            fate.offered += offered * tick_s;
            if cohort.is_refused {
                fate.refused += offered * tick_s;
                left.push(0.0);
                continue;
            }
            fate.shed += offered * (1.0 - admitted[cohort.criticality]) * tick_s;
            left.push(offered * admitted[cohort.criticality]);
        }
        self.cells.iter_mut().for_each(Cell::begin);
        for depth in 0..MOST_REGIONS {
            let mut arrivals = vec![[0.0; 3]; self.cells.len()];
            let mut is_any = false;
            for (cohort, left) in self.cohorts.iter_mut().zip(&mut left) {
                if *left <= NOTHING {
                    continue;
                }
                if cohort.regions.len() <= depth {
                    let down = cohort.regions.iter().copied().collect();
                    let rest = WithDown { view: self.view.as_slice(), down };
                    match choose(table, self.home, cohort, &rest) {
                        Some(next) => cohort.regions.push(next),
                        None => {
                            give_up(cohort, paces, std::mem::take(left) * tick_s, tally);
                            continue;
                        }
                    }
                }
                arrivals[cohort.regions[depth].index()][cohort.criticality] += *left;
                is_any = true;
            }
            if !is_any {
                break;
            }
            let mut taken = vec![[0.0; 3]; self.cells.len()];
            for (((cell, pace), arrivals), taken) in self.cells.iter_mut().zip(paces).zip(&arrivals).zip(&mut taken) {
                if arrivals.iter().sum::<f64>() > NOTHING {
                    let (shares, is_stirred) = cell.take(arrivals, pace, settings, (now, tick_s));
                    (*taken, self.is_stirred) = (shares, self.is_stirred || is_stirred);
                }
            }
            for (cohort, left) in self.cohorts.iter().zip(&mut left) {
                if *left <= NOTHING {
                    continue;
                }
                let served = *left * taken[cohort.regions[depth].index()][cohort.criticality];
                if cohort.is_spilled {
                    tally[cohort.criticality].spilled += served * tick_s;
                }
                *left -= served;
            }
        }
        for (cohort, left) in self.cohorts.iter().zip(left) {
            give_up(cohort, paces, left * tick_s, tally);
        }
        self.cells.iter_mut().zip(paces).for_each(|(cell, pace)| cell.end(pace, (now, tick_s)));
    }

    /// Returns the reports of now, each with the index of the region that it is on.
    pub(super) fn reports(&mut self, table: &Table, now: Duration, since_s: f64) -> Vec<(usize, LoadReport)> {
        let here = self.home.index();
        let (name, home) = (&self.name, &table.region(self.home).name);
        let cells = self.cells.iter_mut().enumerate();
        let report = |(index, cell): (usize, &mut Cell)| {
            let (rps, busy) = (std::mem::take(&mut cell.sent) / since_s, cell.busy);
            LoadReport::is_due(index == here, busy, now).then(|| {
                let report = LoadReport {
                    node: name.clone(),
                    region: home.clone(),
                    requests_in_flight: cell.in_flight.round() as u32,
                    cap: cell.one_request.cap(),
                    rps,
                    origin_load: 0.0,
                    round_trips: BTreeMap::new(),
                    client_excess_ms: BTreeMap::new(),
                };
                (index, report)
            })
        };
        cells.filter_map(report).collect()
    }
}

/// Returns the region that a cohort is sent to; `None` when it is refused.
fn choose(table: &Table, home: RegionId, cohort: &Cohort, view: &(impl policy::View + ?Sized)) -> Option<RegionId> {
    let country: Country = PLACES[home.index()].country.parse().ok()?;
    let facts = Facts {
        host: "",
        path: "",
        method: Method::Get,
        payload: Payload::Nothing,
        origin: Origin::Country(country),
        declared: &[],
        consent: false,
        client_at: None,
        client_key: cohort.key,
        from: home,
        pinned: None,
        only: None,
        criticality: None,
    };
    match decide_on_route(table, cohort.route, &facts, view) {
        Verdict::Forward(permits) => Some(permits.first()),
        Verdict::Refuse(_) => None,
    }
}

/// Counts requests that no region took: lost where one was tried and nobody was there, else shed.
fn give_up(cohort: &Cohort, paces: &[Pace], requests: f64, tally: &mut Tally) {
    let fate = &mut tally[cohort.criticality];
    if cohort.regions.iter().any(|region| paces[region.index()].service_s.is_none()) {
        fate.lost += requests;
    } else {
        fate.shed += requests;
    }
}

/// Returns the route and the criticality's index of the cohort at this point (`0..1`) of all.
fn route_at(point: f64) -> (RouteId, usize) {
    let mut below = 0.0;
    let found = ROUTES.iter().position(|(_, _, share)| {
        below += share;
        point < below
    });
    let route = found.unwrap_or(ROUTES.len() - 1);
    let criticality = CRITICALITIES.iter().position(|each| *each == ROUTES[route].1).unwrap_or(0);
    (RouteId(route as u32), criticality)
}

/// Returns what share of each criticality's arrivals fits in, where `room` is what may arrive of all up to the limit of
/// each, and `taken` has: the critical come first, since they alone have the last of the room.
fn shares(arrivals: &[f64; 3], room: [f64; 3], taken: f64) -> [f64; 3] {
    let (mut taken, mut shares) = (taken, [1.0; 3]);
    for index in (0..3).rev() {
        let fits = arrivals[index].min((room[index] - taken).max(0.0));
        if arrivals[index] > NOTHING {
            shares[index] = fits / arrivals[index];
        }
        taken += fits;
    }
    shares
}

/// Returns the requests in flight at which no more of a criticality are admitted, of a client that is neither among the
/// first to be refused nor among the last: what [`admits`] says, which is monotonic in what is in flight.
fn most_in_flight(criticality: Criticality, cap: usize) -> f64 {
    static MIDDLING: OnceLock<u64> = OnceLock::new();
    let key = *MIDDLING.get_or_init(|| {
        let is_middling = |key: &u64| {
            let admitted = most_of(Criticality::Default, 10_000, *key);
            (9_490..9_510).contains(&admitted)
        };
        (0..100_000).find(is_middling).unwrap_or_default()
    });
    most_of(criticality, cap, key) as f64
}

fn most_of(criticality: Criticality, cap: usize, key: u64) -> usize {
    let (mut admitted, mut refused) = (0, cap);
    while admitted < refused {
        let middle = (admitted + refused) / 2;
        if admits(criticality, middle, cap, key, || Duration::ZERO) { admitted = middle + 1 } else { refused = middle }
    }
    admitted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_those_of_the_admission() {
        let limits = CRITICALITIES.map(|criticality| most_in_flight(criticality, 1000));
        assert!((799.0..=802.0).contains(&limits[0]) && (949.0..=952.0).contains(&limits[1]) && limits[2] == 1000.0);
    }

    #[test]
    fn the_unimportant_gets_what_is_left() {
        assert_eq!(shares(&[10.0, 10.0, 10.0], [80.0, 95.0, 100.0], 0.0), [1.0; 3]);
        assert_eq!(shares(&[10.0, 10.0, 10.0], [15.0, 25.0, 100.0], 0.0), [0.0, 1.0, 1.0]);
        assert_eq!(shares(&[10.0, 10.0, 10.0], [28.0, 40.0, 50.0], 4.0), [0.4, 1.0, 1.0]);
        assert_eq!(shares(&[0.0, 10.0, 10.0], [-5.0, -5.0, 5.0], 0.0), [1.0, 0.0, 0.5]);
    }

    #[test]
    fn routes_get_their_shares() {
        let of =
            |route: u32| (0..1000).filter(|n| route_at((f64::from(*n) + 0.5) / 1000.0).0 == RouteId(route)).count();
        assert_eq!([0, 1, 2, 3].map(of), [300, 300, 200, 200]);
    }
}
