//! How many bytes of bodies the node holds, and how many it may: one count for all of its connections, since what each may
//! hold, times all of them, is more than any machine has.
//!
//! Counted is what there is much of, where it is held: what requests keep to be sent again, exactly; and what clients have
//! sent on HTTP/2 and nobody has read. On HTTP/1.1 the next bytes are read once the last have gone up. And of answers what is
//! more than a little on one connection, or in one piece: quick ones cost the count nothing.
//!
//! A worker takes bytes of the count some more at a time than it needs, and keeps some that were given back for its next
//! requests: most contents write to no line that another worker writes to. What the node may hold is judged by what was
//! taken, so that it never holds more; less than 1/32 of it may be kept by workers for nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use crate::per_worker::{Padded, PerWorker};

/// The count. One for each node; any thread counts.
#[derive(Debug)]
pub(crate) struct BodyBudget {
    /// The bytes that are held, and those that workers keep.
    taken: Padded<AtomicU64>,
    /// [`u64::MAX`] is no limit.
    limit: AtomicU64,
    /// How many bytes a worker takes beside those that it needs.
    extra: AtomicU64,
    /// Of each worker, the bytes that it keeps.
    spare: PerWorker<AtomicU64>,
}

/// A worker's hold on the [`BodyBudget`]. Its references are counted where only that worker counts.
#[derive(Debug, Default)]
pub(crate) struct WorkerBodies {
    shared: Arc<BodyBudget>,
    spare: Arc<Padded<AtomicU64>>,
}

/// What one request holds. It is given back with it.
#[derive(Debug)]
pub(crate) struct BodyShare {
    budget: Arc<WorkerBodies>,
    bytes: u64,
}

/// What of requests' contents has come on one HTTP/2 connection and was not read yet. The connection and its requests
/// share it, on their worker's thread.
#[derive(Debug)]
pub(crate) struct UnreadContent {
    bytes: AtomicU64,
    /// The most that its windows let it have.
    most: u64,
    /// Contents that may still be read.
    contents: AtomicU64,
    budget: Arc<WorkerBodies>,
    is_paused: AtomicBool,
    /// Of the connection's task, while nothing is read.
    waker: Mutex<Option<Waker>>,
}

/// What one connection, of a client or to an origin, holds of answers. It and its requests share it, on their worker's thread.
#[derive(Debug)]
pub(crate) struct HeldAnswers {
    bytes: AtomicU64,
    /// How many of them the node has counted: whole steps.
    counted: AtomicU64,
    budget: Arc<BodyBudget>,
}

impl Default for BodyBudget {
    fn default() -> Self {
        let (taken, spare) = (Padded::default(), PerWorker::default());
        Self { taken, limit: AtomicU64::new(u64::MAX), extra: AtomicU64::new(MOST_EXTRA), spare }
    }
}

impl BodyBudget {
    /// Returns the hold of a worker, by its number.
    pub(crate) fn of_worker(self: &Arc<Self>, worker: usize) -> Arc<WorkerBodies> {
        let spare = self.spare.of_worker(worker);
        self.fit_extra();
        Arc::new(WorkerBodies { shared: self.clone(), spare })
    }

    /// Returns the bytes that are held.
    pub(crate) fn held(&self) -> u64 {
        let mut spare = 0;
        self.spare.for_each(|kept| spare += kept.load(Ordering::Relaxed));
        self.taken().saturating_sub(spare)
    }

    /// Returns the most that may be, if there is a limit.
    pub(crate) fn limit(&self) -> Option<u64> {
        Some(self.limit.load(Ordering::Relaxed)).filter(|limit| *limit < u64::MAX)
    }

    /// Sets the most that may be held, by which it depends how much workers keep. The node's watch does at each look.
    pub(crate) fn set_limit(&self, limit: Option<u64>) {
        self.limit.store(limit.unwrap_or(u64::MAX), Ordering::Relaxed);
        self.fit_extra();
    }

    /// Returns whether answers are to hold little: half of what may be held is.
    pub(crate) fn is_tight(&self) -> bool {
        self.taken() >= self.limit.load(Ordering::Relaxed) / 2
    }

    /// Returns whether they need no longer: a quarter of it is not.
    pub(crate) fn is_at_ease(&self) -> bool {
        self.taken() < self.limit.load(Ordering::Relaxed) / 4
    }

    fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    fn is_full(&self) -> bool {
        self.taken() >= self.limit.load(Ordering::Relaxed)
    }

    fn fit_extra(&self) {
        let extra = self.limit.load(Ordering::Relaxed) / KEPT_OF_LIMIT / self.spare.len().max(1) as u64;
        let extra = extra.min(MOST_EXTRA);
        if self.extra.load(Ordering::Relaxed) != extra {
            self.extra.store(extra, Ordering::Relaxed);
        }
    }

    fn take(&self, bytes: u64) {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give_back(&self, bytes: u64) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl WorkerBodies {
    /// Has the worker keep no more than it takes at once: it may have nothing to do from now on, or the limit have become
    /// smaller.
    pub(crate) fn settle(&self) {
        self.keep(0, |spare, extra| spare.min(extra));
    }

    /// Takes bytes, if there is room for them.
    fn try_take(&self, bytes: u64) -> bool {
        self.take_if(bytes, |taken, limit| taken <= limit)
    }

    /// Takes bytes that are there already.
    fn take(&self, bytes: u64) {
        self.take_if(bytes, |_, _| true);
    }

    /// Takes bytes, of those that the worker keeps, as far as they suffice; and further ones, if what is taken may be so much
    /// under the limit.
    fn take_if(&self, bytes: u64, may: impl Fn(u64, u64) -> bool) -> bool {
        let less = |spare: u64| spare.checked_sub(bytes);
        if bytes == 0 || self.spare.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
            return true;
        }
        let kept = self.spare.swap(0, Ordering::Relaxed);
        let more = bytes.saturating_sub(kept);
        let limit = self.shared.limit.load(Ordering::Relaxed);
        let extra = self.shared.extra.load(Ordering::Relaxed);
        let is_roomy = self.shared.taken().saturating_add(more).saturating_add(extra) <= limit;
        let extra = if is_roomy { extra } else { 0 };
        let before = self.shared.taken.fetch_add(more + extra, Ordering::Relaxed);
        let may = may(before.saturating_add(more), limit);
        // Others may have come between the look and this.
        let extra_left = if may && before.saturating_add(more + extra) <= limit { extra } else { 0 };
        let back = extra - extra_left + if may { 0 } else { more };
        if back > 0 {
            self.shared.give_back(back);
        }
        let spare = if may { (kept + more + extra_left).saturating_sub(bytes) } else { kept };
        if spare > 0 {
            self.spare.fetch_add(spare, Ordering::Relaxed);
        }
        may
    }

    fn give_back(&self, bytes: u64) {
        if bytes > 0 {
            self.keep(bytes, |spare, extra| if spare <= 2 * extra { spare } else { extra });
        }
    }

    /// Keeps of what is spare, with what is given back, so much; the node gets the rest.
    fn keep(&self, given: u64, so_much: impl Fn(u64, u64) -> u64) {
        let extra = self.shared.extra.load(Ordering::Relaxed);
        let kept = |spare: u64| so_much(spare + given, extra);
        let (Ok(before) | Err(before)) =
            self.spare.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |spare| Some(kept(spare)));
        let back = (before + given).saturating_sub(kept(before));
        if back > 0 {
            self.shared.give_back(back);
        }
    }
}

impl BodyShare {
    /// Makes the share of a request that holds nothing yet.
    pub(crate) fn of(budget: &Arc<WorkerBodies>) -> Self {
        Self { budget: budget.clone(), bytes: 0 }
    }

    /// Holds so many bytes in all, if there is room for what is more than before.
    pub(crate) fn try_grow_to(&mut self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        let more = bytes.saturating_sub(self.bytes);
        let has_room = more == 0 || self.budget.try_take(more);
        if has_room {
            self.bytes = self.bytes.max(bytes);
        }
        has_room
    }

    /// Holds a piece of an answer, which is there already, in place of the one before; a little is not counted.
    pub(crate) fn hold(&mut self, piece: usize) {
        let piece = if piece > LITTLE { piece as u64 } else { 0 };
        if piece != self.bytes {
            self.budget.take(piece);
            self.budget.give_back(std::mem::replace(&mut self.bytes, piece));
        }
    }

    /// Gives everything back.
    pub(crate) fn clear(&mut self) {
        self.budget.give_back(std::mem::take(&mut self.bytes));
    }
}

impl Drop for BodyShare {
    fn drop(&mut self) {
        self.clear();
    }
}

impl HeldAnswers {
    /// Makes that of a new connection.
    pub(crate) fn of(budget: &Arc<BodyBudget>) -> Self {
        Self { bytes: AtomicU64::new(0), counted: AtomicU64::new(0), budget: budget.clone() }
    }

    /// Returns how much it holds, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns the node's count.
    pub(crate) fn budget(&self) -> &BodyBudget {
        &self.budget
    }

    /// Notes that it holds so many bytes more.
    pub(crate) fn add(&self, bytes: u64) {
        self.set(self.bytes().saturating_add(bytes));
    }

    /// Notes that it holds so many bytes less.
    pub(crate) fn take(&self, bytes: u64) {
        self.set(self.bytes().saturating_sub(bytes));
    }

    /// Notes that it holds nothing.
    pub(crate) fn clear(&self) {
        self.set(0);
    }

    fn set(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
        let counted = self.counted.load(Ordering::Relaxed);
        if bytes.abs_diff(counted) >= ALWAYS {
            let steps = bytes / ALWAYS * ALWAYS;
            self.counted.store(steps, Ordering::Relaxed);
            self.budget.take(steps);
            self.budget.give_back(counted);
        }
    }
}

impl Drop for HeldAnswers {
    fn drop(&mut self) {
        let counted = self.counted.load(Ordering::Relaxed);
        if counted > 0 {
            self.budget.give_back(counted);
        }
    }
}

impl UnreadContent {
    /// Makes that of a new connection, whose windows let it have so much.
    pub(crate) fn of(budget: &Arc<WorkerBodies>, most: u64) -> Arc<Self> {
        Arc::new(Self {
            bytes: AtomicU64::new(0),
            most,
            contents: AtomicU64::new(0),
            budget: budget.clone(),
            is_paused: AtomicBool::new(false),
            waker: Mutex::default(),
        })
    }

    /// Notes that so many bytes have come. While the connection has any content, padding counts too, and what belongs to
    /// requests that have ended.
    pub(crate) fn came(&self, bytes: u64) {
        if self.contents.load(Ordering::Relaxed) == 0 {
            return;
        }
        let before = self.bytes.load(Ordering::Relaxed);
        let come = bytes.min(self.most.saturating_sub(before));
        self.bytes.store(before + come, Ordering::Relaxed);
        self.budget.take(come);
    }

    /// Notes that a request's content begins.
    pub(crate) fn begin(&self) {
        self.contents.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a content ends of which so many bytes may have come that nobody reads. With the last, there are none.
    pub(crate) fn end(&self, left: u64) {
        let is_last = self.contents.fetch_sub(1, Ordering::Relaxed) == 1;
        self.read(if is_last { u64::MAX } else { left });
    }

    /// Notes that so many, or what there is if that is less, were read, or will not be.
    pub(crate) fn read(&self, bytes: u64) {
        let before = self.bytes.load(Ordering::Relaxed);
        let read = before.min(bytes);
        self.bytes.store(before - read, Ordering::Relaxed);
        self.budget.give_back(read);
        if self.is_paused.load(Ordering::Relaxed) && before - read <= ALWAYS {
            self.resume();
        }
    }

    /// Returns whether nothing more is to be read from the connection for now: the node holds as much as it may, and this
    /// connection has some of it. Its task is woken once that may have changed.
    pub(crate) fn must_wait(&self, cx: &Context<'_>) -> bool {
        if self.bytes.load(Ordering::Relaxed) <= ALWAYS || !self.budget.shared.is_full() {
            return false;
        }
        self.is_paused.store(true, Ordering::Relaxed);
        *self.lock() = Some(cx.waker().clone());
        true
    }

    /// Wakes the connection's task if it waits.
    pub(crate) fn resume(&self) {
        if self.is_paused.swap(false, Ordering::Relaxed)
            && let Some(waker) = self.lock().take()
        {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnreadContent {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes.load(Ordering::Relaxed));
    }
}

/// What each connection may hold however full the node is: were nothing read, nothing would go up, and no room be made.
const ALWAYS: u64 = 64 * 1024;
/// The most that a worker takes beside what it needs: what a route keeps of a content where it says nothing else, or some
/// pieces of an answer.
const MOST_EXTRA: u64 = 64 * 1024;
/// Of so many bytes that may be held one is kept, by all workers together, or two at most.
const KEPT_OF_LIMIT: u64 = 64;
/// A piece of an answer that is not counted, and as much as one is read at a time while the node holds much: a frame of HTTP/2.
pub(crate) const LITTLE: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn budget(limit: u64) -> Arc<BodyBudget> {
        let budget = Arc::<BodyBudget>::default();
        budget.set_limit(Some(limit));
        budget
    }

    #[test]
    fn what_is_held_is_given_back() {
        let budget = budget(100);
        let worker = budget.of_worker(0);
        let (mut one, mut other) = (BodyShare::of(&worker), BodyShare::of(&worker));
        assert!(one.try_grow_to(60) && one.try_grow_to(50) && other.try_grow_to(40));
        assert!(!one.try_grow_to(61));
        assert_eq!(budget.held(), 100);
        drop(other);
        assert!(one.try_grow_to(61));
        one.clear();
        assert_eq!(budget.held(), 0);
        drop(one);
        let unread = UnreadContent::of(&worker, 75);
        unread.came(70);
        assert_eq!(budget.held(), 0, "there is no request that it could belong to");
        unread.begin();
        unread.came(70);
        unread.read(20);
        assert_eq!(budget.held(), 50);
        unread.read(1000);
        assert_eq!(budget.held(), 0, "no more than there is");
        unread.begin();
        unread.came(30);
        unread.came(1000);
        assert_eq!(budget.held(), 75, "no more than its windows let it");
        unread.end(25);
        assert_eq!(budget.held(), 50);
        unread.end(0);
        assert_eq!(budget.held(), 0, "with the last content nothing is left");
        unread.begin();
        unread.came(7);
        drop(unread);
        assert_eq!(budget.held(), 0);
    }

    /// By whole steps, so that what comes and goes below one costs nothing.
    #[test]
    fn answers_are_counted_in_steps() {
        let budget = budget(16 * ALWAYS);
        let held = HeldAnswers::of(&budget);
        for _ in 0..100 {
            held.add(ALWAYS - 1);
            assert_eq!(budget.held(), 0);
            held.take(ALWAYS - 1);
        }
        held.add(5 * ALWAYS + 7);
        assert_eq!((held.bytes(), budget.held()), (5 * ALWAYS + 7, 5 * ALWAYS));
        held.take(ALWAYS);
        assert_eq!(budget.held(), 5 * ALWAYS, "it is less than a step less");
        held.take(7);
        assert_eq!(budget.held(), 4 * ALWAYS);
        assert!(!budget.is_tight() && !budget.is_at_ease());
        held.add(4 * ALWAYS);
        assert!(budget.is_tight());
        held.take(u64::MAX);
        assert_eq!((held.bytes(), budget.held()), (0, 0), "no more than there is");
        held.add(9 * ALWAYS);
        drop(held);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn a_large_piece_is_counted_until_the_next() {
        let budget = budget(100);
        let mut share = BodyShare::of(&budget.of_worker(0));
        share.hold(LITTLE);
        assert_eq!(budget.held(), 0);
        share.hold(LITTLE + 1);
        assert_eq!(budget.held(), LITTLE as u64 + 1, "it is there, whatever may be");
        share.hold(3 * LITTLE);
        assert_eq!(budget.held(), 3 * LITTLE as u64);
        share.hold(1);
        assert_eq!(budget.held(), 0);
        share.hold(2 * LITTLE);
        drop(share);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn most_contents_are_counted_where_only_their_worker_counts() {
        let budget = Arc::<BodyBudget>::default();
        let workers = [0, 1].map(|worker| budget.of_worker(worker));
        let content = |worker: &Arc<WorkerBodies>| {
            let mut share = BodyShare::of(worker);
            assert!(share.try_grow_to(1000) && share.try_grow_to(LITTLE));
            let unread = UnreadContent::of(worker, u64::MAX);
            unread.begin();
            unread.came(LITTLE as u64);
            (share, unread)
        };
        let states = || (budget.taken(), Arc::strong_count(&budget));
        workers.iter().for_each(|worker| drop(content(worker)));
        let before = states();
        for worker in workers.iter().cycle().take(1000) {
            let (share, unread) = content(worker);
            assert_eq!(states(), before);
            assert_eq!(budget.held(), 2 * LITTLE as u64);
            unread.read(LITTLE as u64);
            unread.end(0);
            drop(share);
            assert_eq!((states(), budget.held()), (before, 0));
        }
        // The limit becomes so small that nothing is to be kept of it; who has nothing to do says so at its next look.
        budget.set_limit(Some(100));
        assert!(budget.is_full());
        workers.iter().for_each(|worker| worker.settle());
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn however_workers_go_no_more_is_held_than_may_be() {
        const LIMIT: u64 = 1 << 20;
        let budget = budget(LIMIT);
        let (in_use, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for index in 0..4 {
                let (worker, in_use, most) = (budget.of_worker(index), &in_use, &most);
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(index as u64);
                    let mut held = Vec::new();
                    for _ in 0..10_000 {
                        if random.usize(..held.len() + 800) < held.len() {
                            let (share, bytes): (BodyShare, u64) = held.swap_remove(random.usize(..held.len()));
                            in_use.fetch_sub(bytes, Ordering::SeqCst);
                            drop(share);
                            continue;
                        }
                        let (mut share, bytes) = (BodyShare::of(&worker), random.u64(1..20_000));
                        if share.try_grow_to(bytes as usize) {
                            most.fetch_max(in_use.fetch_add(bytes, Ordering::SeqCst) + bytes, Ordering::SeqCst);
                            held.push((share, bytes));
                        }
                    }
                    in_use.fetch_sub(held.iter().map(|(_, bytes)| bytes).sum::<u64>(), Ordering::SeqCst);
                });
            }
        });
        let most = most.into_inner();
        assert!(most <= LIMIT && most > LIMIT - LIMIT / 16, "{most}");
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn a_connection_that_holds_some_waits_until_there_is_room() {
        let budget = budget(2 * ALWAYS);
        let woken = Arc::<Counting>::default();
        let waker = Waker::from(woken.clone());
        let cx = Context::from_waker(&waker);
        let worker = budget.of_worker(0);
        let (greedy, modest) = (UnreadContent::of(&worker, u64::MAX), UnreadContent::of(&worker, u64::MAX));
        greedy.begin();
        modest.begin();
        greedy.came(2 * ALWAYS);
        modest.came(ALWAYS);
        assert!(greedy.must_wait(&cx));
        assert!(!modest.must_wait(&cx), "each goes on with a little");
        greedy.read(1);
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        greedy.read(ALWAYS);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1, "it has little enough");
        assert!(!greedy.must_wait(&cx));
        greedy.came(ALWAYS);
        assert!(greedy.must_wait(&cx));
        budget.set_limit(None);
        greedy.resume();
        assert_eq!(woken.0.load(Ordering::Relaxed), 2, "somebody has looked");
        assert!(!greedy.must_wait(&cx));
    }
}
