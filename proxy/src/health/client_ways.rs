//! How far the clients of each country are from regions, beyond what their coordinates say.
//!
//! ```text
//! exchange.rs: a client has connected --> Pending --the watch, each second--> ClientWays::settled --> routing.rs --> decisions
//! load.rs: what nodes of other regions, and of this one, report -------------------^
//! ```

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use policy::Country;
use policy::client_way::{ClientTrips, filled, median};
use policy::hash::client_key;
use rustc_hash::FxHashMap;

use crate::clock::uptime;

/// What is known of the ways of clients, across tables. Of those that connect some are noted, under a lock that nobody
/// waits for.
#[derive(Debug, Default)]
pub(crate) struct ClientWays {
    pending: Mutex<Pending>,
    inner: Mutex<Inner>,
}

/// The clients that are noted between two looks of the watch: of each country a few at random, however many connect and
/// however often one of them does.
#[derive(Debug, Default)]
struct Pending {
    /// What orders clients, another in each turn.
    salt: u64,
    /// By that order.
    of: FxHashMap<Country, BTreeMap<u64, Connected>>,
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
    /// By region, what is measured there, in milliseconds.
    known: Vec<BTreeMap<Country, f32>>,
    filled: FxHashMap<Country, Box<[f32]>>,
}

/// Clients of one country that are noted between two looks of the watch, at most.
const MOST_PENDING: usize = 8;

/// What nodes report that is kept, at most: of 200 nodes, a hundred countries each.
const MOST_REPORTED: usize = 20_000;

/// The window of clients' ways, in windows of regions' (`latency.window`): each client has a way of its own, and it takes
/// many of them.
const WINDOWS: u32 = 10;

impl ClientWays {
    /// Notes a client that has connected, unless others are being noted.
    pub(crate) fn note(&self, connected: Connected) {
        let Ok(mut pending) = self.pending.try_lock() else { return };
        let rank = client_key(&(connected.client_key ^ pending.salt).to_le_bytes());
        let of_country = pending.of.entry(connected.country).or_default();
        of_country.insert(rank, connected);
        if of_country.len() > MOST_PENDING {
            of_country.pop_last();
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

    /// Takes in the clients that were noted; `window` is `latency.window`, without which nothing is measured.
    pub(crate) fn take_in(&self, window: Duration) {
        let (now, window) = (uptime(), window * WINDOWS);
        let next = Pending { salt: fastrand::u64(..), ..Pending::default() };
        let pending = std::mem::replace(&mut *lock(&self.pending), next);
        let mut inner = lock(&self.inner);
        if window.is_zero() {
            *inner = Inner::default();
            return;
        }
        for Connected { country, client_key, excess_ms } in pending.of.into_values().flat_map(BTreeMap::into_values) {
            inner.own.take(country, client_key, excess_ms, window, now);
        }
    }

    /// Works out what decisions go by at the regions of a table, of which the one at `here` is this node's: of each the
    /// median of what its nodes say, this one among its own.
    pub(crate) fn settled(&self, regions: &[&str], here: usize, window: Duration) -> SettledWays {
        if window.is_zero() {
            return SettledWays::default();
        }
        let (now, window) = (uptime(), window * WINDOWS);
        let mut inner = lock(&self.inner);
        inner.reported.retain(|_, (at, _)| now.saturating_sub(*at) < window);
        let names: Vec<u64> = regions.iter().map(|name| client_key(name.as_bytes())).collect();
        let indices: FxHashMap<u64, usize> = names.iter().enumerate().map(|(index, name)| (*name, index)).collect();
        let mut words: FxHashMap<(usize, Country), Vec<f32>> = FxHashMap::default();
        for ((region, country, _), (_, ms)) in &inner.reported {
            if let Some(region) = indices.get(region) {
                words.entry((*region, *country)).or_default().push(*ms);
            }
        }
        for (country, ms) in inner.own.settle(window, now) {
            words.entry((here, country)).or_default().push(ms);
        }
        let mut known = vec![BTreeMap::new(); regions.len()];
        for ((region, country), words) in words {
            if let (Some(of_region), Some(median)) = (known.get_mut(region), median(words)) {
                of_region.insert(country, median);
            }
        }
        let filled = filled(&known);
        SettledWays { known, filled }
    }

    /// Returns what this node itself measures, and tells others.
    pub(crate) fn measured(&self, window: Duration) -> BTreeMap<Country, f32> {
        lock(&self.inner).own.settle(window * WINDOWS, uptime())
    }
}

impl SettledWays {
    /// Returns by how many milliseconds the ways of a country's clients are longer than is assumed, by region.
    pub(crate) fn excess_ms(&self, country: Option<Country>) -> &[f32] {
        let found = country.and_then(|country| self.filled.get(&country));
        found.map(|excess| &**excess).unwrap_or_default()
    }

    /// Returns what is measured at a region.
    pub(crate) fn known(&self, region: usize) -> BTreeMap<Country, f32> {
        self.known.get(region).cloned().unwrap_or_default()
    }
}

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
        for client_key in clients {
            ways.note(Connected { country: country(code), client_key, excess_ms });
            ways.take_in(WINDOW);
        }
    }

    fn of(ways: &ClientWays, code: &str, here: usize) -> Vec<f32> {
        ways.settled(&["a", "b", "c"], here, WINDOW).excess_ms(Some(country(code))).to_vec()
    }

    #[test]
    fn of_each_region_the_median_of_its_nodes_counts_this_ones_own_among_them() {
        let (at_a, at_b) = (ClientWays::default(), ClientWays::default());
        connect(&at_a, "DE", 0..64, 30.0);
        connect(&at_b, "DE", 0..64, 14.0);
        let word = |ms: f32| BTreeMap::from([(country("DE"), ms), (country("FR"), 8.0)]);
        for (node, ms) in [("n1", 12.0), ("n2", 250.0)] {
            [&at_a, &at_b].into_iter().for_each(|ways| ways.report("b", node, &word(ms)));
        }
        at_a.report("b", "b-1", &at_b.measured(WINDOW));
        at_a.report("a", "n3", &BTreeMap::from([(country("DE"), 20.0)]));
        at_b.report("a", "a-1", &at_a.measured(WINDOW));
        at_b.report("a", "n3", &BTreeMap::from([(country("DE"), 20.0)]));
        // At either node the same; where nobody is, the least.
        for (ways, here) in [(&at_a, 0), (&at_b, 1)] {
            assert_eq!((of(ways, "DE", here), of(ways, "FR", here)), (vec![20.0, 14.0, 14.0], vec![8.0; 3]));
            assert!(of(ways, "IT", here).is_empty());
        }
        assert!(at_a.settled(&["a"], 0, WINDOW).excess_ms(None).is_empty());
        let known = at_a.settled(&["a", "b"], 0, WINDOW).known(1);
        assert_eq!(known.keys().map(Country::code).collect::<Vec<_>>(), ["DE", "FR"]);
    }

    /// A node far from a country, whose clients have long ways wherever they go, has seen a few of them.
    #[test]
    fn few_clients_bring_their_region_no_nearer_and_no_other_either() {
        let ways = ClientWays::default();
        ways.report("a", "n1", &BTreeMap::from([(country("DE"), 30.0)]));
        for client in 0..40 {
            connect(&ways, "DE", client..client + 1, 30.0);
            assert_eq!(of(&ways, "DE", 1), [30.0; 3], "{client}");
            assert_eq!(ways.measured(WINDOW).contains_key(&country("DE")), client >= 31, "{client}");
        }
        // Nor is its own word, of few, before a neighbour's of many.
        let fresh = ClientWays::default();
        fresh.report("a", "n1", &BTreeMap::from([(country("DE"), 30.0)]));
        connect(&fresh, "DE", 0..31, 5.0);
        assert_eq!(of(&fresh, "DE", 0), [30.0; 3]);
    }

    #[test]
    fn without_a_window_nothing_is_measured() {
        let ways = ClientWays::default();
        connect(&ways, "DE", 0..64, 30.0);
        assert_eq!(of(&ways, "DE", 0), [30.0; 3]);
        assert!(ways.settled(&["a"], 0, Duration::ZERO).excess_ms(Some(country("DE"))).is_empty());
        ways.take_in(Duration::ZERO);
        assert!(of(&ways, "DE", 0).is_empty() && ways.measured(WINDOW).is_empty());
    }

    #[test]
    fn whoever_connects_often_takes_nobodys_place() {
        let ways = ClientWays::default();
        let note = |code: &str, client_key| ways.note(Connected { country: country(code), client_key, excess_ms: 1.0 });
        (0..10_000).for_each(|_| note("DE", 7));
        assert_eq!(lock(&ways.pending).of[&country("DE")].len(), 1);
        (100..10_000).for_each(|client| note("DE", client));
        note("FR", 1);
        let counts = ["DE", "FR"].map(|code| lock(&ways.pending).of[&country(code)].len());
        assert_eq!(counts, [MOST_PENDING, 1]);
    }

    #[test]
    fn however_much_is_reported_it_has_its_bound() {
        let ways = ClientWays::default();
        for node in 0..=MOST_REPORTED {
            ways.report("a", &node.to_string(), &BTreeMap::from([(country("DE"), 1.0)]));
        }
        assert_eq!(lock(&ways.inner).reported.len(), MOST_REPORTED);
    }
}
