//! How many requests each region got in its busiest second.

use rustc_hash::FxHashMap;

/// Requests by region and second.
#[derive(Default)]
pub(super) struct Rates {
    /// By region and hour: the requests of each second.
    hours: FxHashMap<(usize, i64), Box<[u32]>>,
    /// Requests that were not counted, for there are too many hours.
    pub(super) uncounted: u64,
}

impl Rates {
    /// Counts a request of a region, by its number, in a Unix second.
    pub(super) fn count(&mut self, region: usize, second: i64) {
        let hour = (region, second.div_euclid(HOUR));
        if self.hours.len() >= MOST_HOURS && !self.hours.contains_key(&hour) {
            self.uncounted += 1;
            return;
        }
        let seconds = self.hours.entry(hour).or_insert_with(|| vec![0; HOUR as usize].into());
        if let Some(count) = usize::try_from(second.rem_euclid(HOUR)).ok().and_then(|at| seconds.get_mut(at)) {
            *count = count.saturating_add(1);
        }
    }

    /// The most requests of a region in a second.
    pub(super) fn peak(&self, region: usize) -> u32 {
        let hours = self.hours.iter().filter(|((of, _), _)| *of == region);
        hours.flat_map(|(_, seconds)| seconds.iter().copied()).max().unwrap_or(0)
    }
}

/// Seconds.
const HOUR: i64 = 3600;

/// A day of 64 regions, twice and more; 14 KB each.
const MOST_HOURS: usize = 4096;
