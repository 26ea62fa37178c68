//! How far clients are from regions: by their coordinates, corrected by what nodes measure of the clients that connect.
//!
//! What is measured is the *excess*: by how much a client's round trip to the node that took it is longer than what is
//! assumed of the distance to that node's region ([`assumed_ms`]). It has the client's access in it, and the detours of
//! its country's cables. Of each country it is one figure, the median over clients; an addition and no factor, or the
//! access of those next door would be multiplied for those far away.
//!
//! | What is known of a country at a region | the excess there is |
//! |---|---|
//! | nodes there have measured [`ENOUGH_CLIENTS`] of its clients and more, in the last two windows | the median of what these nodes say, each the median of its clients |
//! | nothing of that | the least that is known of it at any region |
//! | nothing at any region | 0 |
//!
//! Fewer clients count for nothing: mixed with 0, their region would seem nearer than those that have measured. The least
//! stands in, since access is the same wherever a client goes, and detours are not: a region at which nobody
//! has measured a country would else seem nearer than it is by all of its clients' access.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::country::Country;
use crate::globe::{Coordinates, Point, assumed_ms, fastest_ms};

/// Where a client is, and how its country's ways are.
#[derive(Clone, Copy, Debug)]
pub struct ClientAt<'a> {
    /// By the geo databases.
    pub coordinates: Coordinates,
    /// The excess of its country at each region of the table, in milliseconds; past its end there is none.
    pub excess_ms: &'a [f32],
}

/// Returns the round trip of a client to a region, in milliseconds.
pub fn client_ms(client: &Point, region: &Point, excess_ms: f32) -> f32 {
    let km = client.km_to(region);
    (assumed_ms(km) + f64::from(excess_ms)).max(fastest_ms(km)) as f32
}

/// What a node measures of the clients that connect to it. `now` is any monotonic clock.
#[derive(Clone, Debug, Default)]
pub struct ClientTrips(FxHashMap<Country, Excesses>);

/// Of one country, the oldest first.
#[derive(Clone, Debug, Default)]
struct Excesses {
    samples: VecDeque<Excess>,
    /// What [`ClientTrips::settle`] said last.
    settled: Option<f32>,
}

#[derive(Clone, Copy, Debug)]
struct Excess {
    at: Duration,
    client_key: u64,
    ms: f32,
}

/// Clients of a country whose ways are kept, at most.
const MOST: usize = 64;

/// So many clients are needed of a country: their accesses differ by tens of milliseconds, and of fewer some that are all
/// of one network would have the word.
pub const ENOUGH_CLIENTS: usize = 32;

/// No excess is taken for more than this: what takes longer is a queue, and no way.
pub const MOST_EXCESS_MS: f32 = 300.0;

/// A difference of less changes nothing: clients would else go to and fro.
const STEP_MS: f32 = 2.0;

impl ClientTrips {
    /// Takes the round trip of a client that has connected, in milliseconds beyond what is assumed of its distance. Each
    /// client counts once in two windows, and so many of a country as fill one.
    pub fn take(&mut self, country: Country, client_key: u64, ms: f32, window: Duration, now: Duration) {
        let samples = &mut self.0.entry(country).or_default().samples;
        forget(samples, window, now);
        let too_soon = |last: &Excess| samples.len() >= MOST && now.saturating_sub(last.at) < window / MOST as u32;
        if !ms.is_finite()
            || samples.back().is_some_and(too_soon)
            || samples.iter().any(|known| known.client_key == client_key)
        {
            return;
        }
        if samples.len() == MOST {
            samples.pop_front();
        }
        samples.push_back(Excess { at: now, client_key, ms: ms.clamp(-MOST_EXCESS_MS, MOST_EXCESS_MS) });
    }

    /// Works out the excess of each country of which there are [`ENOUGH_CLIENTS`], in milliseconds.
    pub fn settle(&mut self, window: Duration, now: Duration) -> BTreeMap<Country, f32> {
        self.0.retain(|_, excesses| {
            forget(&mut excesses.samples, window, now);
            !excesses.samples.is_empty()
        });
        self.0.iter_mut().filter_map(|(country, excesses)| Some((*country, excesses.settle()?))).collect()
    }
}

impl Excesses {
    fn settle(&mut self) -> Option<f32> {
        if self.samples.len() < ENOUGH_CLIENTS {
            self.settled = None;
            return None;
        }
        let ms = median(self.samples.iter().map(|sample| sample.ms).collect())?;
        if !self.settled.is_some_and(|settled| (ms - settled).abs() < STEP_MS) {
            self.settled = Some(ms);
        }
        self.settled
    }
}

/// Returns the lower median.
pub fn median(mut all: Vec<f32>) -> Option<f32> {
    all.sort_unstable_by(f32::total_cmp);
    all.get(all.len().checked_sub(1)? / 2).copied()
}

fn forget(samples: &mut VecDeque<Excess>, window: Duration, now: Duration) {
    while samples.front().is_some_and(|sample| now.saturating_sub(sample.at) >= window * 2) {
        samples.pop_front();
    }
}

/// Returns the excess of each country at each region, of what is known of some: elsewhere the least of those.
pub fn filled(known: &[BTreeMap<Country, f32>]) -> FxHashMap<Country, Box<[f32]>> {
    let mut least: FxHashMap<Country, f32> = FxHashMap::default();
    for (country, ms) in known.iter().flatten() {
        let least = least.entry(*country).or_insert(*ms);
        *least = least.min(*ms);
    }
    let at = |country: Country, least: f32| known.iter().map(move |of| of.get(&country).copied().unwrap_or(least));
    least.into_iter().map(|(country, least)| (country, at(country, least).collect())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(600);

    fn de() -> Country {
        "DE".parse().unwrap()
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn few_clients_are_no_measurement() {
        let mut trips = ClientTrips::default();
        assert_eq!(trips.settle(WINDOW, secs(0)), BTreeMap::new());
        (1..32).for_each(|client| trips.take(de(), client, 40.0, WINDOW, secs(client)));
        assert_eq!(trips.settle(WINDOW, secs(32)), BTreeMap::new());
        trips.take(de(), 32, 40.0, WINDOW, secs(32));
        assert_eq!(trips.settle(WINDOW, secs(32)), BTreeMap::from([(de(), 40.0)]));
    }

    #[test]
    fn nobody_counts_twice_and_a_third_of_slow_ones_changes_nothing() {
        let mut trips = ClientTrips::default();
        for second in 0..60 {
            trips.take(de(), 7, 900.0, WINDOW, secs(second));
            trips.take(de(), 1_000 + second, if second % 3 == 0 { 250.0 } else { 20.0 }, WINDOW, secs(second));
        }
        assert_eq!(trips.0[&de()].samples.len(), 61);
        assert_eq!(trips.settle(WINDOW, secs(60))[&de()], 20.0);
    }

    #[test]
    fn no_way_is_taken_for_longer_than_ways_are() {
        let mut trips = ClientTrips::default();
        (0..64).for_each(|client| trips.take(de(), client, 5_000.0, WINDOW, secs(0)));
        assert_eq!(trips.settle(WINDOW, secs(0))[&de()], MOST_EXCESS_MS);
    }

    #[test]
    fn however_many_come_they_are_of_the_whole_window() {
        let mut trips = ClientTrips::default();
        for client in 0..100_000_u64 {
            trips.take(de(), client, 20.0, WINDOW, Duration::from_millis(10 * client));
        }
        let samples = &trips.0[&de()].samples;
        let span = samples.back().unwrap().at - samples.front().unwrap().at;
        assert!(samples.len() == MOST && span > WINDOW * 9 / 10, "{} in {span:?}", samples.len());
    }

    #[test]
    fn what_is_no_longer_measured_stands_for_two_windows() {
        let mut trips = ClientTrips::default();
        (0..64).for_each(|client| trips.take(de(), client, 40.0, WINDOW, secs(0)));
        let mut at = |second| trips.settle(WINDOW, secs(second)).get(&de()).copied();
        assert_eq!([0, 600, 1199, 1200].map(&mut at), [Some(40.0), Some(40.0), Some(40.0), None]);
    }

    #[test]
    fn where_nobody_has_measured_a_country_the_least_stands_in() {
        let of = |list: &[(&str, f32)]| list.iter().map(|(code, ms)| (code.parse().unwrap(), *ms)).collect();
        let known = [of(&[("DE", 30.0), ("FR", 4.0)]), of(&[]), of(&[("DE", 10.0)])];
        let filled = filled(&known);
        assert_eq!(*filled[&de()], [30.0, 10.0, 10.0]);
        assert_eq!(*filled[&"FR".parse().unwrap()], [4.0, 4.0, 4.0]);
        assert_eq!(filled.len(), 2);
    }

    #[test]
    fn nothing_is_faster_than_light() {
        let [berlin, tokyo] = [(52.5, 13.4), (35.7, 139.7)].map(Point::of);
        let km = berlin.km_to(&tokyo);
        assert_eq!(client_ms(&berlin, &tokyo, 0.0), assumed_ms(km) as f32);
        assert_eq!(client_ms(&berlin, &tokyo, 25.0), (assumed_ms(km) + 25.0) as f32);
        assert_eq!(client_ms(&berlin, &tokyo, -1_000.0), fastest_ms(km) as f32);
    }
}
