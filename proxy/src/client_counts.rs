//! How much each client has of what is limited by client: its connections, or its requests in flight.

use std::net::IpAddr;
use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

/// What counts as one client: an IPv4 address, or the /64 of an IPv6 address, whose hosts change the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ClientNetwork {
    /// An address.
    V4([u8; 4]),
    /// The first half of one.
    V6([u8; 8]),
}

/// Counts by client. One for each thing that is limited, for as long as the process lives; any thread counts. A client
/// that has nothing has no entry: there are never more than there are connections, or requests and tunnels.
#[derive(Debug, Default)]
pub(crate) struct ClientCounts(Arc<DashMap<ClientNetwork, usize>>);

/// One of what a client has, for as long as this lives.
#[derive(Debug)]
pub(crate) struct ClientPlace {
    counts: Arc<ClientCounts>,
    client: ClientNetwork,
}

impl ClientNetwork {
    /// Returns the client that an address is of; of one that carries an IPv4 address, as translators write it, that one's.
    pub(crate) fn of(address: IpAddr) -> Self {
        match geoip::embedded(address) {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }

    /// Returns its hash, the same on every node.
    pub(crate) fn key(&self) -> u64 {
        match self {
            Self::V4(octets) => policy::hash::client_key(octets),
            Self::V6(octets) => policy::hash::client_key(octets),
        }
    }
}

impl ClientCounts {
    /// Returns the same counts, in the hands of a worker: what holds a place counts a reference where only that worker does.
    pub(crate) fn of_worker(&self) -> Arc<Self> {
        Arc::new(Self(self.0.clone()))
    }

    /// Counts one more of a client's; `None` when it has `most` already.
    pub(crate) fn enter(self: &Arc<Self>, client: ClientNetwork, most: usize) -> Option<ClientPlace> {
        match self.0.entry(client) {
            Entry::Occupied(mut count) if *count.get() < most => *count.get_mut() += 1,
            Entry::Occupied(_) => return None,
            Entry::Vacant(none) => drop(none.insert(1)),
        }
        Some(ClientPlace { counts: self.clone(), client })
    }
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.counts.0.entry(self.client) {
            match count.get_mut() {
                0 | 1 => drop(count.remove()),
                more => *more -= 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_an_address_or_half_of_one() {
        let of = |address: &str| ClientNetwork::of(address.parse().unwrap());
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        // A translator's network is not one client.
        assert_ne!(of("64:ff9b::81.2.69.142"), of("64:ff9b::81.2.69.143"));
        assert_eq!(of("64:ff9b::81.2.69.142"), of("81.2.69.142"));
        // All of IPv4 is not the /64 that it is mapped into, nor the beginning of another.
        assert_ne!(of("::1"), of("::ffff:0.0.0.1"));
    }

    #[test]
    fn counts_go_up_to_the_limit_and_leave_nothing_behind() {
        let counts = Arc::new(ClientCounts::default());
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|address| ClientNetwork::of(address.parse().unwrap()));
        let held: Vec<_> = (0..3).map(|_| counts.enter(one, 3).unwrap()).collect();
        assert!(counts.enter(one, 3).is_none() && counts.enter(one, 2).is_none());
        let others = counts.enter(other, 1).unwrap();
        assert_eq!(counts.0.len(), 2);
        // Another limit, as a reload brings it, counts those before.
        let more = counts.enter(one, 4).unwrap();
        drop((held, others));
        assert_eq!(counts.0.len(), 1);
        assert!(counts.enter(one, 1).is_none());
        drop(more);
        assert!(counts.0.is_empty());
    }

    #[test]
    fn workers_count_together_and_their_references_apart() {
        let counts = Arc::new(ClientCounts::default());
        let workers = [counts.of_worker(), counts.of_worker()];
        let client = ClientNetwork::of("192.0.2.1".parse().unwrap());
        let references = || (Arc::strong_count(&counts), Arc::strong_count(&counts.0));
        let before = references();
        let _held = workers.each_ref().map(|worker| worker.enter(client, 2).unwrap());
        assert!(counts.enter(client, 2).is_none());
        assert_eq!(references(), before);
    }

    #[test]
    fn any_thread_counts() {
        let counts = Arc::new(ClientCounts::default());
        let client = ClientNetwork::of("2001:db8::1".parse().unwrap());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| drop(counts.enter(client, 2))));
            }
        });
        assert!(counts.0.is_empty());
    }
}
