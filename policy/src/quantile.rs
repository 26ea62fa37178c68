//! Quantiles of durations from counts in buckets: eight to an octave, so that each is within 13 % of
//! the truth and a histogram is a few hundred integers that any thread may add to.

use std::time::Duration;

/// How many buckets there are: from 64 us to about 275 s, and one for all that is longer.
pub const BUCKETS: usize = 22 * PER_OCTAVE + 1;

const PER_OCTAVE: usize = 8;
/// The first bucket ends here, in microseconds.
const FIRST: u64 = 64;

/// Returns the bucket that a duration counts in.
pub fn bucket(duration: Duration) -> usize {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    if micros <= FIRST {
        return 0;
    }
    let octave = (micros / FIRST).ilog2();
    let within = ((micros >> octave) - FIRST) as usize * PER_OCTAVE / FIRST as usize;
    (octave as usize * PER_OCTAVE + within).min(BUCKETS - 1)
}

/// Returns the duration, at least, of all that is past a bucket.
pub(crate) fn upper_edge(bucket: usize) -> Duration {
    let (octave, within) = ((bucket + 1) / PER_OCTAVE, (bucket + 1) % PER_OCTAVE);
    let base = FIRST << octave.min(32);
    Duration::from_micros(base + base * within as u64 / PER_OCTAVE as u64)
}

/// Returns the duration that a share of `q` (`0..=1`) does not exceed: the upper edge of its bucket. `None` of
/// nothing.
pub fn quantile(counts: impl IntoIterator<Item = u64> + Clone, q: f64) -> Option<Duration> {
    let total: u64 = counts.clone().into_iter().sum();
    let wanted = ((total as f64 * q).ceil() as u64).clamp(1, total.max(1));
    let mut seen = 0;
    let found = counts.into_iter().position(|count| {
        seen += count;
        seen >= wanted
    });
    found.map(upper_edge)
}

/// Returns the same in seconds, as if what is in a bucket lay evenly in it: for what is compared with itself, where the
/// width of a bucket would be a difference. `None` of nothing.
pub(crate) fn quantile_within(counts: &[u64; BUCKETS], q: f64) -> Option<f64> {
    let total: u64 = counts.iter().sum();
    let wanted = total as f64 * q;
    let mut seen = 0.0;
    for (bucket, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let count = *count as f64;
        if seen + count >= wanted {
            let from = bucket.checked_sub(1).map_or(0.0, |before| upper_edge(before).as_secs_f64());
            return Some(from + (upper_edge(bucket).as_secs_f64() - from) * (wanted - seen) / count);
        }
        seen += count;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_is_in_its_bucket() {
        for micros in (0..2_000_000).step_by(37) {
            let duration = Duration::from_micros(micros);
            let index = bucket(duration);
            assert!(duration <= upper_edge(index) + Duration::from_micros(1), "{micros} {index}");
            assert!(index == 0 || duration >= upper_edge(index - 1) - Duration::from_micros(1), "{micros} {index}");
        }
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    /// Each in its place within its bucket, as if what is there lay evenly.
    #[test]
    fn quantiles_within_a_bucket_are_in_proportion() {
        let edge = |bucket: usize| upper_edge(bucket).as_secs_f64();
        let mut counts = [0; BUCKETS];
        (counts[0], counts[16], counts[20]) = (10, 10, 20);
        for (q, truth) in [
            (0.125, edge(0) / 2.0),
            (0.25, edge(0)),
            (0.375, (edge(15) + edge(16)) / 2.0),
            (0.5, edge(16)),
            (0.75, (edge(19) + edge(20)) / 2.0),
            (1.0, edge(20)),
        ] {
            let found = quantile_within(&counts, q).unwrap_or_default();
            assert!((found - truth).abs() < 1e-12, "{q}: {found}, not {truth}");
        }
        assert_eq!(quantile_within(&[0; BUCKETS], 0.5), None);
    }

    #[test]
    fn quantiles_are_within_an_eighth() {
        let mut counts = [0; BUCKETS];
        (1..=1_000).for_each(|ms| counts[bucket(Duration::from_millis(ms))] += 1);
        for (q, truth) in [(0.5, 500.0), (0.95, 950.0), (0.99, 990.0), (1.0, 1_000.0)] {
            let found = quantile(counts, q).map_or(0.0, |found| found.as_secs_f64() * 1_000.0);
            assert!((truth..truth * 1.13).contains(&found), "{q}: {found}");
        }
        assert_eq!(quantile([0; BUCKETS], 0.5), None);
    }
}
