//! Who the node's clients are, lately: a bounded sample, to judge a new geo database by.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::client::key_of;

/// The clients of recent requests, as each worker thread remembers them. In memory only.
#[derive(Debug, Default)]
pub(crate) struct RecentClients(Mutex<Vec<Arc<Sample>>>);

/// What one worker thread remembers: the clients of its first requests, and then of one request in `SAMPLED`, each in
/// the place of the oldest.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    requests: AtomicUsize,
    addresses: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    addresses: Vec<IpAddr>,
    oldest: usize,
}

/// Requests remembered for each worker: 70 KiB, and enough to tell a share of 2 % from one of 3 %.
const REMEMBERED: usize = 4096;

/// Once that many are remembered: rare enough to cost nothing, and a full turn within minutes on a busy node.
const SAMPLED: usize = 16;

impl RecentClients {
    /// Returns a sample for one more worker.
    pub(crate) fn sample(&self) -> Arc<Sample> {
        let sample = Arc::new(Sample::default());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(sample.clone());
        sample
    }

    /// Returns an address of each client that is remembered. A client is an IPv4 address, or a /64 of IPv6, as
    /// everywhere else.
    pub(crate) fn distinct(&self) -> Vec<IpAddr> {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut clients: HashMap<u64, IpAddr> = HashMap::new();
        for sample in samples {
            let ring = sample.addresses.lock().unwrap_or_else(PoisonError::into_inner);
            clients.extend(ring.addresses.iter().map(|address| (key_of(*address), *address)));
        }
        clients.into_values().collect()
    }
}

impl Sample {
    /// Notes the client of a request.
    pub(crate) fn note(&self, client: IpAddr) {
        let request = self.requests.fetch_add(1, Ordering::Relaxed);
        if request >= REMEMBERED && !request.is_multiple_of(SAMPLED) {
            return;
        }
        let mut ring = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let Ring { addresses, oldest } = &mut *ring;
        if addresses.len() < REMEMBERED {
            addresses.push(client);
        } else if let Some(place) = addresses.get_mut(*oldest) {
            *place = client;
            *oldest = (*oldest + 1) % REMEMBERED;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn the_first_requests_and_then_one_in_sixteen_are_remembered() {
        let clients = RecentClients::default();
        let [one, two] = [clients.sample(), clients.sample()];
        let address = |number: usize| IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap()));
        (0..REMEMBERED).for_each(|number| one.note(address(number)));
        assert_eq!(clients.distinct().len(), REMEMBERED);
        // One newcomer, whom a sixteenth of the sample will show.
        (0..REMEMBERED).for_each(|_| one.note(address(1 << 20)));
        let distinct = clients.distinct();
        assert_eq!(distinct.len(), REMEMBERED - REMEMBERED / SAMPLED + 1);
        assert!(distinct.contains(&address(1 << 20)) && !distinct.contains(&address(0)));
        assert!(distinct.contains(&address(REMEMBERED - 1)));
        // It ends with whoever is left.
        (0..REMEMBERED * SAMPLED).for_each(|_| one.note(address(7)));
        assert_eq!(clients.distinct(), [address(7)]);
        // Hosts of a /64 are one client.
        for host in [1, 2] {
            two.note(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, host)));
            two.note(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 2, 0, 0, 0, host)));
        }
        assert_eq!(clients.distinct().len(), 3);
    }
}
