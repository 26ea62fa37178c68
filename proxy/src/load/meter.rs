//! What this node sends to each region, told once a second.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use policy::{Country, LoadReport, Reported, View};

use crate::health::endpoint::EndpointState;
use crate::routing::{Region, Routing};

/// Makes this node's reports from what its endpoints count. It belongs to the bus' thread.
#[derive(Debug, Default)]
pub(crate) struct LoadMeter {
    /// When it was last read; at first the start of the process, like the counts.
    last: Duration,
    /// By region.
    regions: HashMap<String, RegionMeter>,
    /// How many regions' round trips have been reported: where the next report goes on.
    round_trips_told: usize,
    /// Likewise of the countries of clients.
    countries_told: usize,
}

/// One region, as it was last read.
#[derive(Debug, Default)]
struct RegionMeter {
    /// Its endpoints by their number, with their attempts. They are held: one that has left the table
    /// is read once more.
    endpoints: HashMap<u64, (Arc<EndpointState>, u64)>,
    /// When requests were last there.
    busy: Option<Duration>,
}

impl LoadMeter {
    /// Returns the reports of now, each with the region that it is about: this node's own; and each other that it
    /// dials itself, from its first request there until the others have forgotten the last. What it sends by a
    /// gateway is in the reports of the nodes there.
    pub(crate) fn reports(&mut self, node: &str, routing: &Routing, now: Duration) -> Vec<(String, LoadReport)> {
        let seconds = now.saturating_sub(std::mem::replace(&mut self.last, now)).as_secs_f64().max(SHORTEST_SECONDS);
        let mut before = std::mem::take(&mut self.regions);
        let here = &routing.table().region(routing.here).name;
        let mut reports = Vec::new();
        for (id, region, cell) in routing.regions() {
            if routing.chosen_for_gateway(id).is_some() {
                continue;
            }
            let mut metered = before.remove(&region.name).unwrap_or_default();
            let sent = metered.sent(cell);
            let (in_flight, one) = cell.in_use();
            if sent > 0 || in_flight > 0 {
                metered.busy = Some(now);
            }
            if LoadReport::is_due(id == routing.here, metered.busy, now) {
                let report = LoadReport {
                    node: node.to_owned(),
                    region: here.clone(),
                    requests_in_flight: u32::try_from(in_flight).unwrap_or(u32::MAX),
                    cap: one.cap(),
                    rps: (sent as f64 / seconds).min(LoadReport::MAX_RPS),
                    origin_load: cell.origin_load().min(Reported::MOST),
                    round_trips: if id == routing.here { self.round_trips(routing) } else { BTreeMap::new() },
                    client_excess_ms: if id == routing.here { self.client_excess_ms(routing) } else { BTreeMap::new() },
                };
                reports.push((region.name.clone(), report));
            }
            self.regions.insert(region.name.clone(), metered);
        }
        reports
    }

    /// Returns the next few of the round trips that this node measures itself: what it was told it does not tell.
    fn round_trips(&mut self, routing: &Routing) -> BTreeMap<String, f32> {
        let window = routing.table().spec().latency_window;
        let measured: Vec<(&str, f32)> = routing
            .regions()
            .filter_map(|(id, region, _)| Some((region.name.as_str(), routing.measured(id)?)))
            .filter(|(_, measured)| measured.samples >= ENOUGH_SAMPLES && measured.age < window)
            .map(|(name, measured)| (name, measured.median_ms))
            .collect();
        let next = in_turn(&measured, &mut self.round_trips_told, LoadReport::MOST_ROUND_TRIPS);
        next.map(|(name, ms)| ((*name).to_owned(), *ms)).collect()
    }

    /// Returns the next few of the excesses that this node measures itself of its clients.
    fn client_excess_ms(&mut self, routing: &Routing) -> BTreeMap<Country, f32> {
        if !routing.table().has_scores_by_client() {
            return BTreeMap::new();
        }
        let measured = routing.client_ways.measured(routing.table().spec().latency_window);
        let measured: Vec<(Country, f32)> = measured.into_iter().collect();
        in_turn(&measured, &mut self.countries_told, LoadReport::MOST_COUNTRIES).copied().collect()
    }
}

/// Returns the next of these, at most so many, and goes on behind them the next time.
fn in_turn<'a, T>(all: &'a [T], told: &mut usize, most: usize) -> impl Iterator<Item = &'a T> {
    let next = *told;
    *told = next.wrapping_add(most);
    let from = next.checked_rem(all.len()).unwrap_or(0);
    all.iter().cycle().skip(from).take(all.len().min(most))
}

/// A round trip of fewer samples is nothing to tell others.
const ENOUGH_SAMPLES: usize = 3;

impl RegionMeter {
    /// Returns the attempts since the last time, and from now on those after.
    fn sent(&mut self, cell: &Region) -> u64 {
        let mut sent = 0;
        for (endpoint, seen) in self.endpoints.values_mut() {
            let attempts = endpoint.counts().attempts.requests;
            sent += attempts - std::mem::replace(seen, attempts);
        }
        let mut before = std::mem::take(&mut self.endpoints);
        for endpoint in &cell.endpoints {
            let known = before.remove(&endpoint.id).unwrap_or_else(|| {
                let attempts = endpoint.counts().attempts.requests;
                sent += attempts;
                (endpoint.clone(), attempts)
            });
            self.endpoints.insert(endpoint.id, known);
        }
        sent
    }
}

/// Readings closer than this make no rate.
const SHORTEST_SECONDS: f64 = 0.1;
