//! Which nodes there are, by their own reports: nobody else's word about a region's load counts.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use config::bus::REPORT_TTL;

/// The nodes whose reports have come within [`REPORT_TTL`].
#[derive(Debug, Default)]
pub struct Peers(Mutex<HashMap<String, Peer>>);

#[derive(Debug)]
struct Peer {
    region: String,
    /// By [`crate::routing::now`].
    seen: Duration,
}

impl Peers {
    /// A node has reported.
    pub fn saw(&self, node: &str, region: &str, now: Duration) {
        let mut peers = self.lock();
        if let Some(peer) = peers.get_mut(node) {
            *peer = Peer { region: region.to_owned(), seen: now };
        } else if peers.len() < MAX_PEERS {
            peers.insert(node.to_owned(), Peer { region: region.to_owned(), seen: now });
        }
    }

    /// Whether a node reports, and from this region.
    pub fn is_in(&self, node: &str, region: &str, now: Duration) -> bool {
        self.lock().get(node).is_some_and(|peer| peer.region == region && peer.is_alive(now))
    }

    /// Forgets those that have not reported for long.
    pub fn prune(&self, now: Duration) {
        self.lock().retain(|_, peer| peer.is_alive(now));
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Peer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peer {
    fn is_alive(&self, now: Duration) -> bool {
        now.saturating_sub(self.seen) <= REPORT_TTL
    }
}

/// More nodes than this are not known by each other.
const MAX_PEERS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_known_while_it_reports_and_where() {
        let peers = Peers::default();
        let at = Duration::from_secs;
        peers.saw("b", "eu", at(0));
        peers.saw("a", "us", at(20));
        assert!(peers.is_in("b", "eu", at(30)) && !peers.is_in("b", "us", at(30)));
        assert!(!peers.is_in("b", "eu", at(31)));
        peers.prune(at(31));
        assert_eq!(peers.count(), 1);
        for number in 0..2 * MAX_PEERS {
            peers.saw(&number.to_string(), "eu", at(31));
        }
        assert_eq!(peers.count(), MAX_PEERS);
    }
}
