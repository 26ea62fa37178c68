//! How far the clients of each country are from regions, beyond what their coordinates say.
//!
//! ```text
//! exchange.rs: a client has connected --> pending --the watch, each second--> ClientWays::settle --> decisions
//! load.rs: what nodes of other regions, and of this one, report -----------------^
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use policy::Country;
use policy::client_way::{ClientTrips, filled};
use policy::hash::client_key;
use rustc_hash::FxHashMap;

use crate::clock::uptime;

/// What is known of the ways of clients, across tables. Any thread reads it without a lock; of those that connect one in
/// so many is noted, under a lock that nobody waits for.
#[derive(Debug, Default)]
pub(crate) struct ClientWays {
    settled: ArcSwap<SettledWays>,
    pending: Mutex<Vec<Connected>>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    own: ClientTrips,
    reported: FxHashMap<Reporter, (Duration, f32)>,
}

/// Who reports of whom: the hashes of a region's and a node's name, and the clients' country.
type Reporter = (u64, Country, u64);

/// A client that has connected to this node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connected {
    /// Its country, which is certain.
    pub(crate) country: Country,
    /// See [`policy::Facts::client_key`].
    pub(crate) client_key: u64,
    /// By how many milliseconds its round trip is longer than is assumed of its distance.
    pub(crate) excess_ms: f32,
}

/// What it comes to, for the regions of one table.
#[derive(Debug, Default)]
pub(crate) struct SettledWays {
    /// Of the table.
    generation: u64,
    /// By region, what is measured there, in milliseconds.
    known: Vec<BTreeMap<Country, f32>>,
    filled: FxHashMap<Country, Box<[f32]>>,
}

/// Clients that are noted between two looks of the watch, at most.
const MOST_PENDING: usize = 256;

/// What nodes report that is kept, at most: of 200 nodes, a hundred countries each.
const MOST_REPORTED: usize = 20_000;

/// The window of clients' ways, in windows of regions' (`latency.window`): each client has a way of its own, and it takes
/// many of them.
const WINDOWS: u32 = 10;

impl ClientWays {
    /// Notes a client that has connected, unless others are being noted.
    pub(crate) fn note(&self, connected: Connected) {
        if let Ok(mut pending) = self.pending.try_lock()
            && pending.len() < MOST_PENDING
        {
            pending.push(connected);
        }
    }

    /// Takes what a node reports of the clients that connect to it in its region, in milliseconds.
    pub(crate) fn report(&self, region: &str, node: &str, excess_ms: &BTreeMap<Country, f32>) {
        let [region, node] = [region, node].map(|name| client_key(name.as_bytes()));
        let mut inner = lock(&self.inner);
        for (country, ms) in excess_ms {
            let reporter = (region, *country, node);
            if inner.reported.len() < MOST_REPORTED || inner.reported.contains_key(&reporter) {
                inner.reported.insert(reporter, (uptime(), *ms));
            }
        }
    }

    /// Works out what decisions go by at the regions of a table, of which the one at `here` is this node's; `window` is
    /// `latency.window`, without which nothing is measured. What this node measures goes before what its neighbours do.
    pub(crate) fn settle(&self, generation: u64, regions: &[&str], here: usize, window: Duration) {
        let (now, window) = (uptime(), window * WINDOWS);
        let pending = std::mem::take(&mut *lock(&self.pending));
        let mut inner = lock(&self.inner);
        if window.is_zero() {
            *inner = Inner::default();
        } else {
            for Connected { country, client_key, excess_ms } in pending {
                inner.own.take(country, client_key, excess_ms, window, now);
            }
        }
        inner.reported.retain(|_, (at, _)| now.saturating_sub(*at) < window);
        let mut words: FxHashMap<(u64, Country), Vec<f32>> = FxHashMap::default();
        for ((region, country, _), (_, ms)) in &inner.reported {
            words.entry((*region, *country)).or_default().push(*ms);
        }
        let indices: FxHashMap<u64, usize> =
            regions.iter().enumerate().map(|(index, name)| (client_key(name.as_bytes()), index)).collect();
        let mut known = vec![BTreeMap::new(); regions.len()];
        for ((region, country), mut words) in words {
            words.sort_unstable_by(f32::total_cmp);
            let median = words.get((words.len() - 1) / 2).copied();
            let of_region = indices.get(&region).and_then(|index| known.get_mut(*index));
            if let (Some(of_region), Some(median)) = (of_region, median) {
                of_region.insert(country, median);
            }
        }
        if let Some(of_here) = known.get_mut(here) {
            of_here.extend(inner.own.settle(window, now));
        }
        let filled = filled(&known);
        self.settled.store(Arc::new(SettledWays { generation, known, filled }));
    }

    /// Returns what was settled last.
    pub(crate) fn settled(&self) -> Arc<SettledWays> {
        self.settled.load_full()
    }

    /// Returns what this node itself measures and may tell others: of countries with so many clients that most of it is theirs.
    pub(crate) fn measured(&self, window: Duration) -> BTreeMap<Country, f32> {
        let mut inner = lock(&self.inner);
        let mut own = inner.own.settle(window * WINDOWS, uptime());
        own.retain(|country, _| inner.own.clients(*country) >= ENOUGH_CLIENTS);
        own
    }
}

impl SettledWays {
    /// Returns by how many milliseconds the ways of a country's clients are longer than is assumed, by the regions of the
    /// table of that generation; nothing before it was settled for that.
    pub(crate) fn excess_ms(&self, generation: u64, country: Option<Country>) -> &[f32] {
        let found = country.filter(|_| generation == self.generation).and_then(|country| self.filled.get(&country));
        found.map(|excess| &**excess).unwrap_or_default()
    }

    /// Returns what is measured at a region of the table, the first countries of it.
    pub(crate) fn known(&self, generation: u64, region: usize) -> BTreeMap<Country, f32> {
        let known = self.known.get(region).filter(|_| generation == self.generation);
        known.into_iter().flatten().take(MOST_SHOWN).map(|(country, ms)| (*country, *ms)).collect()
    }
}

/// Countries that `/status` shows of a region, at most.
const MOST_SHOWN: usize = 32;

/// Fewer clients of a country are nothing to tell others.
const ENOUGH_CLIENTS: usize = 8;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    fn country(code: &str) -> Country {
        code.parse().unwrap()
    }

    fn connect(ways: &ClientWays, code: &str, clients: std::ops::Range<u64>, excess_ms: f32) {
        clients.for_each(|client_key| ways.note(Connected { country: country(code), client_key, excess_ms }));
    }

    #[test]
    fn a_node_goes_by_its_own_clients_and_by_what_others_report() {
        let ways = ClientWays::default();
        connect(&ways, "DE", 0..64, 30.0);
        let word = |ms: f32| BTreeMap::from([(country("DE"), ms), (country("FR"), 8.0)]);
        for (node, ms) in [("n1", 12.0), ("n2", 900.0), ("n3", 14.0)] {
            ways.report("b", node, &word(ms));
            ways.report("a", node, &word(1.0));
        }
        ways.settle(3, &["a", "b", "c"], 0, WINDOW);
        let settled = ways.settled();
        let of = |code| settled.excess_ms(3, Some(country(code))).iter().map(|ms| ms.round()).collect::<Vec<_>>();
        assert_eq!(of("DE"), [30.0, 14.0, 14.0], "its own; the median; the least where nobody is");
        assert_eq!(of("FR"), [8.0, 8.0, 8.0]);
        assert!(settled.excess_ms(4, Some(country("DE"))).is_empty(), "another table's regions");
        assert!(settled.excess_ms(3, None).is_empty() && of("IT").is_empty());
        assert_eq!(settled.known(3, 1).keys().map(Country::code).collect::<Vec<_>>(), ["DE", "FR"]);
    }

    #[test]
    fn only_what_many_clients_show_is_told() {
        let ways = ClientWays::default();
        connect(&ways, "DE", 0..64, 30.0);
        connect(&ways, "FR", 0..7, 30.0);
        ways.report("a", "n1", &BTreeMap::from([(country("IT"), 5.0)]));
        ways.settle(1, &["a"], 0, WINDOW);
        assert_eq!(ways.measured(WINDOW).keys().map(Country::code).collect::<Vec<_>>(), ["DE"]);
        ways.settle(2, &["a"], 0, Duration::ZERO);
        assert!(ways.settled().excess_ms(2, Some(country("DE"))).is_empty() && ways.measured(WINDOW).is_empty());
    }

    #[test]
    fn however_much_comes_it_has_its_bound() {
        let ways = ClientWays::default();
        connect(&ways, "DE", 0..10_000, 1.0);
        assert_eq!(lock(&ways.pending).len(), MOST_PENDING);
        for node in 0..=MOST_REPORTED {
            ways.report("a", &node.to_string(), &BTreeMap::from([(country("DE"), 1.0)]));
        }
        assert_eq!(lock(&ways.inner).reported.len(), MOST_REPORTED);
    }
}
