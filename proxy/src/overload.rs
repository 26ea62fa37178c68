//! How near the node is to the end of what it has, for whatever acts on it: a load of an integer.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use policy::overload::{Actions, Resource, Shares};
use policy::pressure::Criticality;

/// What the node lacks, and what it does about it. One for each node; one thread writes, any thread reads.
#[derive(Debug, Default)]
pub(crate) struct Overload {
    /// [`Actions::to_bits`].
    actions: AtomicU64,
    /// In the order of [`Resource::ALL`], the bits of an `f32`.
    shares: [AtomicU32; 4],
    /// Bytes.
    memory_used: AtomicU64,
    /// Bytes; 0 is no limit.
    memory_limit: AtomicU64,
    /// Connections that may be accepted until the watch looks again.
    accepts: AtomicU64,
    workers: Mutex<Vec<Arc<LoopLag>>>,
}

/// How late a worker's timers are. The worker writes, each time that its own fires.
#[derive(Debug, Default)]
pub(crate) struct LoopLag {
    /// When the next fires, in milliseconds of the process's uptime; 0 before the first is set.
    due_ms: AtomicU64,
    late_ms: AtomicU64,
}

impl Overload {
    /// Returns what to do.
    pub(crate) fn actions(&self) -> Actions {
        Actions::from_bits(self.actions.load(Ordering::Relaxed))
    }

    /// Returns for want of what a request of this criticality is refused, if it is: of those that could be, the share that
    /// is too many, whichever they are.
    pub(crate) fn refuses(&self, criticality: Criticality) -> Option<Resource> {
        let bits = self.actions.load(Ordering::Relaxed);
        if bits == 0 {
            return None;
        }
        let actions = Actions::from_bits(bits);
        (fastrand::u8(..100) < actions.refused(criticality)).then_some(actions.lacks)
    }

    /// Takes what was found out.
    pub(crate) fn set(&self, shares: &Shares, actions: Actions) {
        for (cell, resource) in self.shares.iter().zip(Resource::ALL) {
            cell.store(shares.of(resource).to_bits(), Ordering::Relaxed);
        }
        self.actions.store(actions.to_bits(), Ordering::Relaxed);
    }

    /// Takes the bytes that are in use, and the most that may be.
    pub(crate) fn set_memory(&self, used: u64, limit: Option<u64>) {
        self.memory_used.store(used, Ordering::Relaxed);
        self.memory_limit.store(limit.unwrap_or(0), Ordering::Relaxed);
    }

    /// Lets so many connections be accepted until the next look.
    pub(crate) fn set_accepts(&self, accepts: u64) {
        self.accepts.store(accepts, Ordering::Relaxed);
    }

    /// Takes one of the connections that may be accepted until the next look, if there is one left.
    pub(crate) fn take_accept(&self) -> bool {
        self.accepts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    /// Returns the share of each resource that is in use.
    pub(crate) fn shares(&self) -> Shares {
        let [memory, descriptors, connections, lag] = std::array::from_fn(|index| {
            self.shares.get(index).map_or(0.0, |share| f32::from_bits(share.load(Ordering::Relaxed)))
        });
        Shares { memory, descriptors, connections, lag }
    }

    /// Returns the bytes in use, and the most that may be, if there is a limit.
    pub(crate) fn memory(&self) -> (u64, Option<u64>) {
        let limit = self.memory_limit.load(Ordering::Relaxed);
        (self.memory_used.load(Ordering::Relaxed), (limit > 0).then_some(limit))
    }

    /// Returns the place where one more worker says how late it is.
    pub(crate) fn of_worker(&self) -> Arc<LoopLag> {
        let lag = Arc::<LoopLag>::default();
        self.lock().push(lag.clone());
        lag
    }

    /// Returns how late each worker is now.
    pub(crate) fn lags(&self, now: Duration) -> Vec<Duration> {
        self.lock().iter().map(|worker| worker.at(now)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<LoopLag>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LoopLag {
    /// Notes that the worker's timer has fired at `now`, and is set anew to [`LoopLag::PERIOD`] later.
    pub(crate) fn fired(&self, now: Duration) {
        let now = now.as_millis() as u64;
        let due = self.due_ms.load(Ordering::Relaxed);
        let late = if due == 0 { 0 } else { now.saturating_sub(due) };
        self.late_ms.store(late, Ordering::Relaxed);
        self.due_ms.store(now + Self::PERIOD.as_millis() as u64, Ordering::Relaxed);
    }

    /// Returns how late it was, or is by now.
    fn at(&self, now: Duration) -> Duration {
        let due = self.due_ms.load(Ordering::Relaxed);
        let overdue = if due == 0 { 0 } else { (now.as_millis() as u64).saturating_sub(due) };
        Duration::from_millis(overdue.max(self.late_ms.load(Ordering::Relaxed)))
    }

    /// From one firing to the next.
    pub(crate) const PERIOD: Duration = Duration::from_millis(100);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_late_by_its_timer_and_by_its_silence() {
        let ms = Duration::from_millis;
        let overload = Overload::default();
        let worker = overload.of_worker();
        let late = |now| overload.lags(ms(now));
        assert_eq!(late(5000), [ms(0)], "before its first");
        worker.fired(ms(5000));
        assert_eq!(late(5100), [ms(0)]);
        assert_eq!(late(5400), [ms(300)], "it is stuck");
        worker.fired(ms(5450));
        assert_eq!(late(5460), [ms(350)]);
        worker.fired(ms(5551));
        assert_eq!(late(5560), [ms(1)]);
    }

    #[test]
    fn only_so_many_are_refused() {
        let overload = Overload::default();
        let refused =
            |criticality| (0..1000).filter(|_| overload.refuses(criticality) == Some(Resource::Memory)).count();
        let shares = |memory| Shares { memory, ..Shares::default() };
        assert_eq!(refused(Criticality::Sheddable), 0);
        overload.set(&shares(0.875), Actions::at(&shares(0.875)));
        assert!((350..650).contains(&refused(Criticality::Sheddable)), "about half");
        assert_eq!(refused(Criticality::Default), 0);
        overload.set(&shares(0.99), Actions::at(&shares(0.99)));
        assert_eq!(refused(Criticality::Default), 1000);
        assert_eq!(refused(Criticality::Critical), 0);
        overload.set(&shares(0.1), Actions::at(&shares(0.1)));
        assert_eq!(refused(Criticality::Sheddable), 0);
    }
}
