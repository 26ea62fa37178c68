//! The report of a replay: counts, each with an example.

use std::collections::BTreeMap;

use serde::Serialize;

/// The log's requests by their results before and now.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) lines: Count,
    /// The first line that cannot be read, and why.
    pub(super) unreadable: Option<String>,
    /// The first request that no node can decide, and why.
    pub(super) undecidable: Option<String>,
    /// Served in the same region, or refused for the same reason.
    pub(super) unchanged: u64,
    /// Served in another region.
    pub(super) moved: Moves,
    /// Served, and now refused.
    pub(super) refused: RefusalTally,
    /// Refused, and now served.
    pub(super) served: Moves,
    /// Refused, and now for another reason.
    pub(super) refused_otherwise: RefusalTally,
    /// Decided, but then failed for a cause outside the table; not compared.
    pub(super) failed_otherwise: u64,
    /// Of those decided, the ones on a route of the new table that goes by how far clients are.
    pub(super) by_client: u64,
    /// Of these, the ones whose line has no coordinates: decided by the node, and perhaps wrongly.
    pub(super) without_coordinates: u64,
    /// The round trips of requests that are served before and after.
    pub(super) latency_ms: Option<Latencies>,
    /// The busiest second of each region.
    pub(super) capacity: Vec<Capacity>,
    /// Requests whose second was not counted: their time is missing, or the log spans too many hours.
    pub(super) capacity_uncounted: u64,
    pub(super) residency: ResidencyChanges,
}

/// The numbers of lines, by how they were handled.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Count {
    pub(super) readable: u64,
    pub(super) unreadable: u64,
    /// The requests that were decided again.
    pub(super) decided: u64,
    /// Redirected, malformed or misdirected: the node decided nothing.
    pub(super) never_decided: u64,
    /// Their node's region is not in the table.
    pub(super) undecidable: u64,
}

/// Requests that go elsewhere.
#[derive(Debug, Default, Serialize)]
pub(super) struct Moves {
    pub(super) requests: u64,
    /// The most frequent first.
    pub(super) by: Vec<Move>,
    #[serde(skip)]
    pub(super) counts: BTreeMap<(String, String), (u64, Option<Example>)>,
}

/// Requests that go from one place to another.
#[derive(Debug, Serialize)]
pub(super) struct Move {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) requests: u64,
    pub(super) example: Option<Example>,
}

/// Requests that are refused.
#[derive(Debug, Default, Serialize)]
pub(super) struct RefusalTally {
    pub(super) requests: u64,
    /// The most frequent first.
    pub(super) by: Vec<RefusalKind>,
    #[serde(skip)]
    pub(super) counts: BTreeMap<(u16, &'static str), (u64, Option<Example>)>,
}

/// Requests that are refused for one reason.
#[derive(Debug, Serialize)]
pub(super) struct RefusalKind {
    pub(super) status: u16,
    pub(super) reason: &'static str,
    pub(super) requests: u64,
    pub(super) example: Option<Example>,
}

/// The first request of its kind.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Example {
    pub(super) line: u64,
    /// The difference in this request.
    pub(super) what: String,
    /// The command that explains the request.
    pub(super) explain: String,
}

/// Round trips by the tables, in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Latencies {
    pub(super) requests: u64,
    pub(super) before: Latency,
    pub(super) after: Latency,
}

/// A distribution of round trips, in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Latency {
    pub(super) mean: f64,
    pub(super) p50: f64,
    pub(super) p95: f64,
}

/// A region's busiest second, and its capacity.
#[derive(Debug, Serialize)]
pub(super) struct Capacity {
    pub(super) region: String,
    pub(super) peak_before: u32,
    pub(super) peak_after: u32,
    pub(super) capacity_rps: Option<f64>,
    pub(super) exceeded: bool,
}

/// Requests whose residency changes.
#[derive(Debug, Default, Serialize)]
pub(super) struct ResidencyChanges {
    /// Requests that may go where the old table does not let them.
    pub(super) widened: Affected,
    /// Requests that may no longer go where the old table lets them, and nowhere else.
    pub(super) narrowed: Affected,
    /// Requests that the log shows served where the new table does not let them.
    pub(super) forbidden: Affected,
}

/// Requests by jurisdiction and data class.
#[derive(Debug, Default, Serialize)]
pub(super) struct Affected {
    pub(super) requests: u64,
    /// The most frequent first.
    pub(super) by: Vec<AffectedGroup>,
    #[serde(skip)]
    pub(super) counts: BTreeMap<(String, String), (u64, Option<Example>)>,
}

/// Requests of the clients of some jurisdictions, with one class of data.
#[derive(Debug, Serialize)]
pub(super) struct AffectedGroup {
    pub(super) jurisdictions: String,
    pub(super) data_class: String,
    pub(super) requests: u64,
    pub(super) example: Option<Example>,
}

/// Adds one to the count of a key; a key past [`MOST_KEYS`] counts under `rest`.
fn count<K: Ord + Clone>(
    counts: &mut BTreeMap<K, (u64, Option<Example>)>,
    key: K,
    rest: &K,
    example: impl FnOnce() -> Example,
) {
    let key = if counts.len() >= MOST_KEYS && !counts.contains_key(&key) { rest.clone() } else { key };
    let (requests, known) = counts.entry(key).or_default();
    *requests += 1;
    if known.is_none() {
        *known = Some(example());
    }
}

/// The most keys that are counted separately: more than the tables' own names make, while a log may name anything.
const MOST_KEYS: usize = 10_000;

const OTHERS: &str = "others";

impl Moves {
    pub(super) fn add(&mut self, from: &str, to: &str, example: impl FnOnce() -> Example) {
        self.requests += 1;
        count(&mut self.counts, (from.to_owned(), to.to_owned()), &(OTHERS.to_owned(), OTHERS.to_owned()), example);
    }

    pub(super) fn finish(&mut self) {
        let counts = std::mem::take(&mut self.counts).into_iter();
        self.by = counts.map(|((from, to), (requests, example))| Move { from, to, requests, example }).collect();
        self.by.sort_by_key(|each| std::cmp::Reverse(each.requests));
    }
}

impl RefusalTally {
    pub(super) fn add(&mut self, why: (u16, &'static str), example: impl FnOnce() -> Example) {
        self.requests += 1;
        count(&mut self.counts, why, &why, example);
    }

    pub(super) fn finish(&mut self) {
        let counts = std::mem::take(&mut self.counts).into_iter();
        self.by = counts
            .map(|((status, reason), (requests, example))| RefusalKind { status, reason, requests, example })
            .collect();
        self.by.sort_by_key(|each| std::cmp::Reverse(each.requests));
    }
}

impl Affected {
    pub(super) fn add(&mut self, whose: (String, String), example: impl FnOnce() -> Example) {
        self.requests += 1;
        count(&mut self.counts, whose, &(OTHERS.to_owned(), OTHERS.to_owned()), example);
    }

    pub(super) fn finish(&mut self) {
        let counts = std::mem::take(&mut self.counts).into_iter();
        self.by = counts
            .map(|((jurisdictions, data_class), (requests, example))| AffectedGroup {
                jurisdictions,
                data_class,
                requests,
                example,
            })
            .collect();
        self.by.sort_by_key(|each| std::cmp::Reverse(each.requests));
    }
}
