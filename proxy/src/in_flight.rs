//! Counts what is in flight of something that has a limit, exactly where that matters, and without having all workers
//! write to one place.
//!
//! A worker takes places of the shared count a few at a time, and keeps some that have become free for its next requests:
//! as long as what it has in flight rises and falls by less than it keeps, it writes to no line that another writes to. What
//! is in flight is what was taken, less what is spare; so who goes by what was taken never lets there be more than a limit,
//! and who is refused by that looks at what others have to spare, and finds the last place wherever it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::per_worker::{Padded, PerWorker};

/// What is in flight of one thing. All workers count in it, by a [`WorkerCount`] each; it may outlive a table.
#[derive(Debug, Default)]
pub(crate) struct InFlightCount {
    /// The places that workers have taken, in use or spare, in the lower half; in the upper one how often that has changed,
    /// by which a reader sees that nothing has moved between it and the workers.
    taken: Padded<AtomicU64>,
    /// Of each worker, the places that it keeps.
    spare: PerWorker<AtomicUsize>,
    /// How many there may be.
    limit: AtomicUsize,
    /// How many places a worker takes beside the one that it needs.
    extra: AtomicUsize,
    /// How many were spare at the last [`InFlightCount::settle`].
    spare_lately: AtomicUsize,
}

/// A worker's hold on an [`InFlightCount`]. Its references are counted where only that worker counts.
#[derive(Debug)]
pub(crate) struct WorkerCount {
    shared: Arc<InFlightCount>,
    spare: Arc<Padded<AtomicUsize>>,
}

/// One thing in flight, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Counted(Arc<WorkerCount>);

impl InFlightCount {
    /// Returns the hold of a worker, by its number.
    pub(crate) fn of_worker(self: &Arc<Self>, worker: usize) -> Arc<WorkerCount> {
        let spare = self.spare.of_worker(worker);
        self.set_limit(self.limit.load(Ordering::Relaxed));
        Arc::new(WorkerCount { shared: self.clone(), spare })
    }

    /// Takes another limit, by which it depends how many places are kept: none where there are few.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
        let extra = limit / KEPT_OF_LIMIT / self.spare.len().max(1);
        self.extra.store(extra.min(MOST_EXTRA), Ordering::Relaxed);
    }

    /// Counts what is in flight. While workers take and give back places it may count spare ones, too, and never too few.
    pub(crate) fn exactly(&self) -> usize {
        let mut taken = self.taken.load(Ordering::SeqCst);
        for _ in 0..MOST_LOOKS {
            let spare = self.spare();
            let after = self.taken.load(Ordering::SeqCst);
            if taken == after {
                return places(taken).saturating_sub(spare);
            }
            taken = after;
        }
        places(taken)
    }

    /// Tells about how many there are, without a look at the workers: by what they had to spare lately.
    pub(crate) fn roughly(&self) -> usize {
        places(self.taken.load(Ordering::Relaxed)).saturating_sub(self.spare_lately.load(Ordering::Relaxed))
    }

    /// Looks what workers have to spare, for [`InFlightCount::roughly`].
    pub(crate) fn settle(&self) {
        let spare = self.spare();
        if self.spare_lately.load(Ordering::Relaxed) != spare {
            self.spare_lately.store(spare, Ordering::Relaxed);
        }
    }

    fn spare(&self) -> usize {
        let mut sum = 0;
        self.spare.for_each(|spare| sum += spare.load(Ordering::SeqCst));
        sum
    }

    /// Adds to the places that are taken, or takes away from them.
    fn change(&self, by: isize) {
        self.taken.fetch_add(CHANGE.wrapping_add_signed(by as i64), Ordering::SeqCst);
    }
}

impl WorkerCount {
    /// Counts one more, until what is returned is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> Counted {
        self.take();
        Counted(self.clone())
    }

    /// Counts one more, until [`WorkerCount::give`].
    pub(crate) fn take(&self) {
        let less = |spare: usize| spare.checked_sub(1);
        if self.spare.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_err() {
            // First there: a place that is taken twice is a place too many, for a moment, and no place too few.
            let extra = self.shared.extra.load(Ordering::Relaxed);
            self.shared.change(1 + extra as isize);
            if extra > 0 {
                self.spare.fetch_add(extra, Ordering::SeqCst);
            }
        }
    }

    /// Counts one less.
    pub(crate) fn give(&self) {
        let extra = self.shared.extra.load(Ordering::Relaxed);
        let kept = |spare: usize| if spare < 2 * extra { spare + 1 } else { extra };
        let (Ok(before) | Err(before)) =
            self.spare.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |spare| Some(kept(spare)));
        let back = (before + 1).saturating_sub(kept(before));
        if back > 0 {
            // Last there, likewise.
            self.shared.change(-(back as isize));
        }
    }

    /// Asks whether one that is counted here may be beside the others that there are. Workers are looked at only where what
    /// they have taken would be too many.
    ///
    /// # Errors
    /// When not: how many others there are.
    pub(crate) fn admits(&self, may: impl Fn(usize) -> bool) -> Result<(), usize> {
        let most = places(self.shared.taken.load(Ordering::SeqCst));
        let own = self.spare.load(Ordering::Relaxed);
        if may(most.saturating_sub(own + 1)) {
            return Ok(());
        }
        let others = self.shared.exactly().saturating_sub(1);
        if may(others) { Ok(()) } else { Err(others) }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.give();
    }
}

fn places(taken: u64) -> usize {
    taken as u32 as usize
}

/// What a change adds beside the places.
const CHANGE: u64 = 1 << 32;
/// A worker that gives back what it has more than twice of rarely needs it again; more would show a region as busier than
/// it is.
const MOST_EXTRA: usize = 8;
/// Of so many places one is kept, by all workers together, or two at most: until somebody has looked, a region seems to be
/// so much fuller than it is.
const KEPT_OF_LIMIT: usize = 64;
/// Who is passed by changes so often goes by what is taken.
const MOST_LOOKS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(limit: usize, workers: usize) -> (Arc<InFlightCount>, Vec<Arc<WorkerCount>>) {
        let count = Arc::new(InFlightCount::default());
        count.set_limit(limit);
        let workers = (0..workers).map(|worker| count.of_worker(worker)).collect();
        (count, workers)
    }

    /// How often the place that all workers share was written to.
    fn changes(count: &InFlightCount) -> u64 {
        count.taken.load(Ordering::SeqCst) >> 32
    }

    #[test]
    fn a_worker_that_goes_on_as_before_writes_to_nothing_that_others_write_to() {
        let (count, workers) = limited(10_000, 4);
        let under_way: Vec<_> = workers.iter().flat_map(|worker| (0..100).map(|_| worker.enter())).collect();
        let before = changes(&count);
        for round in 0..1_000 {
            for worker in &workers {
                let more: Vec<_> = (0..round % MOST_EXTRA).map(|_| worker.enter()).collect();
                assert!(worker.admits(|others| others < 1_000).is_ok());
                drop(more);
            }
        }
        assert!(changes(&count) - before <= 4, "{} changes", changes(&count) - before);
        assert_eq!(count.exactly(), 400);
        drop(under_way);
        assert_eq!(count.exactly(), 0);
        count.settle();
        assert_eq!(count.roughly(), 0);
    }

    #[test]
    fn the_last_place_is_found_wherever_it_is_kept() {
        let (count, workers) = limited(1_000, 2);
        let [one, other] = [&workers[0], &workers[1]];
        let may = |others: usize| others < 1_000;
        drop((0..8).map(|_| other.enter()).collect::<Vec<_>>());
        assert!(count.spare() > 0, "the other keeps some");
        let mut under_way = Vec::new();
        loop {
            under_way.push(one.enter());
            if one.admits(may).is_err() {
                under_way.pop();
                break;
            }
        }
        assert_eq!((under_way.len(), count.exactly()), (1_000, 1_000));
        under_way.pop();
        let last = other.enter();
        assert_eq!(other.admits(may), Ok(()));
        let _too_many = other.enter();
        assert_eq!(other.admits(may), Err(1_000));
        drop(last);
    }

    #[test]
    fn few_places_are_counted_one_by_one() {
        let (count, workers) = limited(100, 2);
        let held: Vec<_> = (0..3).map(|_| workers[0].enter()).collect();
        assert_eq!((count.roughly(), count.exactly()), (3, 3));
        drop(held);
        assert_eq!((count.roughly(), count.exactly(), count.spare()), (0, 0, 0));
    }

    #[test]
    fn a_smaller_limit_has_workers_give_back_what_they_keep() {
        let (count, workers) = limited(1_000, 1);
        drop((0..20).map(|_| workers[0].enter()).collect::<Vec<_>>());
        assert!(count.spare() > 0);
        count.set_limit(4);
        drop(workers[0].enter());
        assert_eq!((count.spare(), count.roughly()), (0, 0));
    }

    #[test]
    fn however_workers_go_there_are_never_more_than_the_limit() {
        const LIMIT: usize = 600;
        let (count, workers) = limited(LIMIT, 4);
        assert!(count.extra.load(Ordering::Relaxed) > 0);
        let (in_use, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for (seed, worker) in workers.iter().enumerate() {
                let (in_use, most) = (&in_use, &most);
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed as u64);
                    let mut held = Vec::new();
                    for _ in 0..20_000 {
                        if random.usize(..held.len() + 800) < held.len() {
                            in_use.fetch_sub(1, Ordering::SeqCst);
                            held.swap_remove(random.usize(..held.len()));
                            continue;
                        }
                        let entered = worker.enter();
                        if worker.admits(|others| others < LIMIT).is_ok() {
                            most.fetch_max(in_use.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            held.push(entered);
                        }
                    }
                    in_use.fetch_sub(held.len(), Ordering::SeqCst);
                });
            }
        });
        assert_eq!(most.into_inner(), LIMIT, "never more, and all of them");
        assert_eq!(count.exactly(), 0);
    }
}
