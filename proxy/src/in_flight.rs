//! Counts what is in flight of something that has a limit, exactly where that matters, and without having all workers
//! write to one place.
//!
//! A worker takes places of the shared count a few at a time, and keeps some that have become free for its next requests:
//! as long as what it has in flight rises and falls by less than it keeps, it writes to no line that another writes to. What
//! is in flight is what was taken, less what is spare; so who goes by what was taken never lets there be more than a limit.
//! Of several that come at once for the last place the first one gets it, who is judged by what was taken before it; and who
//! is refused by that looks at what others have to spare, and finds the last place wherever it is. While somebody is about to
//! be refused it counts against those that come after it.

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
pub(crate) struct Counted {
    count: Arc<WorkerCount>,
    turn: Turn,
}

/// When something came: how many places were taken before it, if it did not take one that its worker kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn(Option<usize>);

impl InFlightCount {
    /// Returns the hold of a worker, by its number.
    pub(crate) fn of_worker(self: &Arc<Self>, worker: usize) -> Arc<WorkerCount> {
        let spare = self.spare.of_worker(worker);
        self.fit_extra();
        Arc::new(WorkerCount { shared: self.clone(), spare })
    }

    /// Takes another limit, by which it depends how many places are kept: none where there are few.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::SeqCst);
        self.fit_extra();
    }

    fn fit_extra(&self) {
        for _ in 0..MOST_LOOKS {
            let limit = self.limit.load(Ordering::SeqCst);
            let extra = limit / KEPT_OF_LIMIT / self.spare.len().max(1);
            self.extra.store(extra.min(MOST_EXTRA), Ordering::SeqCst);
            // Whoever has set another meanwhile may have been first with what belongs to it.
            if self.limit.load(Ordering::SeqCst) == limit {
                return;
            }
        }
    }

    /// Counts what is in flight: as many as there were, but for those that begin or end meanwhile. It may count spare places
    /// too, while workers take and give back some.
    pub(crate) fn exactly(&self) -> usize {
        let mut taken = self.taken.load(Ordering::SeqCst);
        for _ in 0..MOST_LOOKS {
            let spare = self.spare();
            if spare == 0 {
                break;
            }
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

    /// Adds to the places that are taken, or takes away from them. Returns how many there were.
    fn change(&self, by: isize) -> usize {
        places(self.taken.fetch_add(CHANGE.wrapping_add_signed(by as i64), Ordering::SeqCst))
    }
}

impl WorkerCount {
    /// Counts one more, until what is returned is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> Counted {
        let turn = self.take();
        Counted { count: self.clone(), turn }
    }

    /// Counts one more, until [`WorkerCount::give`].
    pub(crate) fn take(&self) -> Turn {
        let less = |spare: usize| spare.checked_sub(1);
        if self.spare.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
            return Turn(None);
        }
        // Near the limit others would have to look for what is taken beside it.
        let extra = self.shared.extra.load(Ordering::Relaxed);
        let has_room =
            || places(self.shared.taken.load(Ordering::Relaxed)) + extra < self.shared.limit.load(Ordering::Relaxed);
        let extra = if extra > 0 && has_room() { extra } else { 0 };
        // First there: a place that is taken twice is a place too many, for a moment, and no place too few.
        let before = self.shared.change(1 + extra as isize);
        if extra > 0 {
            self.spare.fetch_add(extra, Ordering::SeqCst);
        }
        Turn(Some(before))
    }

    /// Counts one less.
    pub(crate) fn give(&self) {
        self.keep(1, |spare, extra| if spare <= 2 * extra { spare } else { extra });
    }

    /// Has the worker keep no more places than it takes at once: it may have nothing to do from now on, or the limit have
    /// become smaller.
    pub(crate) fn settle(&self) {
        self.keep(0, |spare, extra| spare.min(extra));
    }

    /// Keeps of what is spare, with what is given back, so many; all get the rest.
    fn keep(&self, given: usize, so_many: impl Fn(usize, usize) -> usize) {
        let extra = self.shared.extra.load(Ordering::Relaxed);
        let kept = |spare: usize| so_many(spare + given, extra);
        let (Ok(before) | Err(before)) =
            self.spare.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |spare| Some(kept(spare)));
        let back = (before + given).saturating_sub(kept(before));
        if back > 0 {
            // Last there, likewise.
            self.shared.change(-(back as isize));
        }
    }

    /// Asks whether one that came at its turn may be beside the others that there are. Workers are looked at only where what
    /// they have taken would be too many.
    ///
    /// # Errors
    /// When not: how many others there are.
    pub(crate) fn admits(&self, turn: Turn, may: impl Fn(usize) -> bool) -> Result<(), usize> {
        // Who came later has found this one, and was judged with it.
        if turn.0.is_some_and(&may) {
            return Ok(());
        }
        let most = places(self.shared.taken.load(Ordering::SeqCst));
        let own = self.spare.load(Ordering::Relaxed);
        if may(most.saturating_sub(own + 1)) {
            return Ok(());
        }
        let others = self.shared.exactly().saturating_sub(1);
        if may(others) { Ok(()) } else { Err(others) }
    }
}

impl Counted {
    /// Asks whether it may be beside the others that there are, as [`WorkerCount::admits`].
    ///
    /// # Errors
    /// When not: how many others there are.
    pub(crate) fn admits(&self, may: impl Fn(usize) -> bool) -> Result<(), usize> {
        self.count.admits(self.turn, may)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.count.give();
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
/// Of so many places one is kept, by all workers together, or two at most: by so much a region may seem fuller or emptier
/// than it is, until somebody has looked.
const KEPT_OF_LIMIT: usize = 64;
/// Who is passed by changes so often goes by what it has last seen taken.
const MOST_LOOKS: usize = 2;

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
                assert!(more.iter().all(|more| more.admits(|others| others < 1_000).is_ok()));
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
            let next = one.enter();
            if next.admits(may).is_err() {
                break;
            }
            under_way.push(next);
        }
        assert_eq!((under_way.len(), count.exactly()), (1_000, 1_000));
        under_way.pop();
        let last = other.enter();
        assert_eq!(last.admits(may), Ok(()));
        assert_eq!(other.enter().admits(may), Err(1_000));
    }

    #[test]
    fn of_those_that_come_at_once_for_the_last_place_the_first_one_gets_it() {
        let (_, workers) = limited(8, 4);
        let _under_way: Vec<_> = (0..7).map(|_| workers[0].enter()).collect();
        let at_once: Vec<_> = workers.iter().map(WorkerCount::enter).collect();
        let answers: Vec<_> = at_once.iter().map(|each| each.admits(|others| others < 8).is_ok()).collect();
        assert_eq!(answers, [true, false, false, false]);
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
    fn a_worker_that_has_nothing_to_do_gives_back_what_it_keeps_of_a_smaller_limit() {
        let (count, workers) = limited(1_000, 1);
        drop((0..20).map(|_| workers[0].enter()).collect::<Vec<_>>());
        workers[0].settle();
        assert_eq!(count.spare(), MOST_EXTRA, "it may go on at any time");
        count.set_limit(4);
        workers[0].settle();
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
                        if entered.admits(|others| others < LIMIT).is_ok() {
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
