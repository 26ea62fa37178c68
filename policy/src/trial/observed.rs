//! What nodes did, as counts that only grow.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::quantile::{self, BUCKETS};

/// What a node, or several, did so far: cumulative counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// All requests.
    pub requests: u64,
    /// Those answered with a status from 500 on.
    pub errors: u64,
    /// Those shed for overload.
    pub shed: u64,
    /// Those refused because of the law.
    pub refused: u64,
    /// The times to an answer's head, by [`quantile::bucket`]; on the wire, pairs of a bucket and its
    /// count, without the empty ones.
    #[serde(with = "filled")]
    pub times: [u64; BUCKETS],
}

impl Observed {
    /// Returns what was done since an earlier count of the same nodes. A count that fell is of a node that started
    /// anew, and counts as nothing: a trial then sees less of it, never more than it did.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        self.zip(earlier, u64::saturating_sub)
    }

    /// Returns what both did.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.zip(other, u64::saturating_add)
    }

    /// Returns how many answers have a time.
    pub(super) fn timed(&self) -> u64 {
        self.times.iter().sum()
    }

    /// Returns how many answers took longer than the upper edge of a bucket.
    pub(super) fn longer_than(&self, edge: Duration) -> u64 {
        let past = |bucket: &usize| quantile::upper_edge(*bucket) > edge;
        (0..BUCKETS).filter(past).map(|bucket| self.times[bucket]).sum()
    }

    fn zip(&self, other: &Self, op: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            requests: op(self.requests, other.requests),
            errors: op(self.errors, other.errors),
            shed: op(self.shed, other.shed),
            refused: op(self.refused, other.refused),
            times: std::array::from_fn(|bucket| op(self.times[bucket], other.times[bucket])),
        }
    }
}

impl Default for Observed {
    /// Nothing yet.
    fn default() -> Self {
        Self { requests: 0, errors: 0, shed: 0, refused: 0, times: [0; BUCKETS] }
    }
}

/// Most buckets are empty: the others go over the wire.
mod filled {
    use serde::de::{Error, Unexpected};
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::quantile::BUCKETS;

    pub(super) fn serialize<S: Serializer>(times: &[u64; BUCKETS], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(times.iter().enumerate().filter(|(_, count)| **count > 0))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u64; BUCKETS], D::Error> {
        let mut times = [0; BUCKETS];
        for (bucket, count) in Vec::<(usize, u64)>::deserialize(deserializer)? {
            let unknown = || D::Error::invalid_value(Unexpected::Unsigned(bucket as u64), &"a bucket of a time");
            *times.get_mut(bucket).ok_or_else(unknown)? = count;
        }
        Ok(times)
    }
}
