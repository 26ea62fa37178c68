//! What clients owe for requests that they have cancelled over HTTP/2, beyond the connection that they did it on: one that
//! connects anew for each of its bursts has no more of them than one that stays.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rustc_hash::FxHashMap;

use crate::client_counts::ClientNetwork;

/// The debts of addresses, until time has paid them: some seconds. One for each node; any thread uses it.
#[derive(Debug, Default)]
pub(crate) struct Cancellations {
    debts: Mutex<FxHashMap<ClientNetwork, Debt>>,
    /// How many there are, for those who would find none.
    count: AtomicUsize,
}

/// In thousandths of what one cancelled request costs.
#[derive(Clone, Copy, Debug)]
struct Debt {
    owed: u64,
    /// When, in milliseconds.
    since: u64,
}

impl Debt {
    /// A thousandth a millisecond is one a second.
    fn left(self, now_ms: u64) -> u64 {
        self.owed.saturating_sub(now_ms.saturating_sub(self.since).saturating_mul(PAID_PER_SECOND))
    }
}

impl Cancellations {
    /// Returns what a client owes, in thousandths.
    pub(crate) fn owed(&self, client: IpAddr, now_ms: u64) -> u64 {
        if self.count.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let debts = self.debts.lock().unwrap_or_else(PoisonError::into_inner);
        debts.get(&ClientNetwork::of(client)).map_or(0, |debt| debt.left(now_ms))
    }

    /// Notes what a client owes at the end of a connection, in thousandths.
    pub(crate) fn leave(&self, client: IpAddr, owed: u64, now_ms: u64) {
        if owed == 0 {
            return;
        }
        let mut debts = self.debts.lock().unwrap_or_else(PoisonError::into_inner);
        if debts.len() >= WORTH_A_LOOK {
            debts.retain(|_, debt| debt.left(now_ms) > 0);
        }
        // From so many addresses, none of them is worth remembering.
        let client = ClientNetwork::of(client);
        if debts.len() < MOST || debts.contains_key(&client) {
            let debt = debts.entry(client).or_insert(Debt { owed: 0, since: now_ms });
            *debt = Debt { owed: debt.left(now_ms).max(owed), since: now_ms };
        }
        self.count.store(debts.len(), Ordering::Relaxed);
    }
}

/// What time pays of a debt; the pace of a connection's own budget.
pub(crate) const PAID_PER_SECOND: u64 = 100;
/// From so many on, those that are paid are forgotten with each new one.
const WORTH_A_LOOK: usize = 64;
/// Some hundred kilobytes.
const MOST: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_debt_is_an_address_s_until_time_has_paid_it() {
        let debts = Cancellations::default();
        assert_eq!(debts.owed(address("192.0.2.1"), 0), 0);
        debts.leave(address("192.0.2.1"), 200_000, 1000);
        debts.leave(address("192.0.2.1"), 50_000, 1500);
        debts.leave(address("2001:db8::1"), 100_000, 1000);
        assert_eq!(debts.owed(address("192.0.2.1"), 1500), 150_000, "the larger of what is left and what is new");
        assert_eq!(debts.owed(address("::ffff:192.0.2.1"), 1500), 150_000);
        assert_eq!(debts.owed(address("192.0.2.2"), 1500), 0);
        assert_eq!(debts.owed(address("2001:db8::ffff:2"), 1500), 50_000, "the same network");
        assert_eq!(debts.owed(address("2001:db8:0:1::1"), 1500), 0);
        assert_eq!(debts.owed(address("192.0.2.1"), 3001), 0);
    }

    #[test]
    fn those_that_are_paid_are_forgotten_and_there_is_an_end() {
        let debts = Cancellations::default();
        let address = |number: u32| IpAddr::V4(number.into());
        for number in 0..10_000 {
            debts.leave(address(number), 200_000, 0);
        }
        assert_eq!(debts.count.load(Ordering::Relaxed), MOST);
        debts.leave(address(20_000), 1, 2001);
        assert_eq!(debts.count.load(Ordering::Relaxed), 1);
        debts.leave(address(1), 0, 2001);
        assert_eq!(debts.owed(address(1), 2001), 0);
    }
}
