//! Counts how many requests each region got in its busiest second.

use rustc_hash::FxHashMap;

/// Requests by region and second.
#[derive(Default)]
pub(super) struct Rates {
    /// The requests of each second, by region and hour.
    hours: FxHashMap<(usize, i64), Box<[u32]>>,
    /// Requests that were not counted because there are too many hours.
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

    /// Returns the most requests of a region in a second.
    pub(super) fn peak(&self, region: usize) -> u32 {
        let hours = self.hours.iter().filter(|((of, _), _)| *of == region);
        hours.flat_map(|(_, seconds)| seconds.iter().copied()).max().unwrap_or(0)
    }
}

/// An hour in seconds.
const HOUR: i64 = 3600;

/// The most hours of regions that are kept: over two days of 64 regions, at 14 KB each.
const MOST_HOURS: usize = 4096;
