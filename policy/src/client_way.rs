//! How far clients are from regions: by their coordinates, corrected by what nodes measure of the clients that connect.
//!
//! What is measured is the *excess*: by how much a client's round trip to the node that took it is longer than what is
//! assumed of the distance to that node's region ([`assumed_ms`]). It has the client's access in it, and the detours of
//! its country's cables. Of each country it is one figure, the median over clients; an addition and no factor, or the
//! access of those next door would be multiplied for those far away.
//!
//! | Clients of the last two windows, each counted once | the excess is |
//! |---|---|
//! | none | what other nodes of the region report of the country, else the least that is known of it at any region, else 0 |
//! | the last within the window | the median, of which after `n` of them `1 - 2^(-n/8)` counts |
//! | the last older | likewise, and less and less of it, nothing at two windows |
//!
//! The least stands in, since access is the same wherever a client goes, and detours are not: a region at which nobody
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

/// So many clients leave half of the assumption: their accesses differ, by tens of milliseconds.
const HALF: f32 = 8.0;

/// No excess is taken for more than this: what takes longer is a queue, and no way.
pub const MOST_EXCESS_MS: f32 = 1_000.0;

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

    /// Works out the excess of each country of which there is something, in milliseconds.
    pub fn settle(&mut self, window: Duration, now: Duration) -> BTreeMap<Country, f32> {
        self.0.retain(|_, excesses| {
            forget(&mut excesses.samples, window, now);
            !excesses.samples.is_empty()
        });
        let settled =
            self.0.iter_mut().filter_map(|(country, excesses)| Some((*country, excesses.settle(window, now)?)));
        settled.collect()
    }

    /// Returns how many clients of a country have been measured in the last two windows.
    pub fn clients(&self, country: Country) -> usize {
        self.0.get(&country).map_or(0, |excesses| excesses.samples.len())
    }
}

impl Excesses {
    fn settle(&mut self, window: Duration, now: Duration) -> Option<f32> {
        let age = now.saturating_sub(self.samples.back()?.at);
        let mut all: Vec<f32> = self.samples.iter().map(|sample| sample.ms).collect();
        all.sort_unstable_by(f32::total_cmp);
        let median = *all.get((all.len() - 1) / 2)?;
        let left = (window * 2).saturating_sub(age).as_secs_f32() / window.as_secs_f32().max(f32::EPSILON);
        let trust = left.min(1.0) * (1.0 - libm::exp2f(-(all.len() as f32) / HALF));
        let ms = trust * median;
        if !self.settled.is_some_and(|settled| (ms - settled).abs() < STEP_MS) {
            self.settled = Some(ms);
        }
        self.settled
    }
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
    fn many_clients_outweigh_the_assumption_and_one_does_not() {
        let mut trips = ClientTrips::default();
        assert_eq!(trips.settle(WINDOW, secs(0)), BTreeMap::new());
        trips.take(de(), 0, 40.0, WINDOW, secs(0));
        let one = trips.settle(WINDOW, secs(0))[&de()];
        assert!((3.0..4.0).contains(&one), "{one}");
        (1..32).for_each(|client| trips.take(de(), client, 40.0, WINDOW, secs(client)));
        let many = trips.settle(WINDOW, secs(32))[&de()];
        assert!((37.0..39.0).contains(&many), "{many}");
    }

    #[test]
    fn nobody_counts_twice_and_a_third_of_slow_ones_changes_nothing() {
        let mut trips = ClientTrips::default();
        for second in 0..60 {
            trips.take(de(), 7, 900.0, WINDOW, secs(second));
            trips.take(de(), 1_000 + second, if second % 3 == 0 { 500.0 } else { 20.0 }, WINDOW, secs(second));
        }
        assert_eq!(trips.clients(de()), 61);
        let settled = trips.settle(WINDOW, secs(60))[&de()];
        assert!((19.0..21.0).contains(&settled), "{settled}");
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
    fn what_is_no_longer_measured_fades() {
        let mut trips = ClientTrips::default();
        (0..64).for_each(|client| trips.take(de(), client, 40.0, WINDOW, secs(0)));
        let mut at = |second| trips.settle(WINDOW, secs(second)).get(&de()).map(|ms| ms.round());
        assert_eq!([0, 600, 900, 1199, 1200].map(&mut at), [Some(40.0), Some(40.0), Some(20.0), Some(0.0), None]);
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
