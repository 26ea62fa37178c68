//! How many requests a region gets from this node at once, and who waits for a place.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use policy::concurrency::{ConcurrencyPlan, Gradient, Leaves, Mode, Queue, Tick};
use policy::pressure::Criticality;
use policy::quantile::{BUCKETS, bucket};
use tokio::sync::oneshot;

use crate::clock::uptime;
use crate::occupancy::InFlight;

/// The limits of one region: endpoints of the version on trial have one of their own, so that what they are slow at
/// takes no place from the others. They outlive a table, with their region.
#[derive(Debug, Default)]
pub(crate) struct RegionLimits {
    stable: Arc<Limiter>,
    on_trial: Arc<Limiter>,
}

/// One limit. Every worker takes places of it, without a lock while there are any; one thread ticks it.
#[derive(Debug)]
pub(crate) struct Limiter {
    /// How many may be taken; [`UNLIMITED`] while there is no limit.
    limit: AtomicUsize,
    taken: AtomicUsize,
    /// How many wait, as it was when the queue's lock was last given back.
    waiting: AtomicUsize,
    /// Whether a place is given back with the answer's head, and not with its end.
    is_until_head: AtomicBool,
    /// Whether somebody found no place since the last tick.
    was_reached: AtomicBool,
    /// Clients with failures as those give that have too much to do, since the last tick: one of 64 bits each.
    overloaded: AtomicU64,
    /// Answers since the last tick by their time to the head.
    answers: Box<[AtomicU32]>,
    inner: Mutex<Inner>,
}

/// What only changes of the limit need, and those that find no place.
#[derive(Debug)]
struct Inner {
    gradient: Option<Gradient>,
    queue: Queue<Waiter>,
    next_id: u64,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    outcome: oneshot::Sender<Result<Place, Leaves>>,
}

/// A place of a limit. It is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Limiter>);

/// There is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// A request in the queue, until this is dropped.
#[derive(Debug)]
pub(crate) struct Waits {
    limiter: Arc<Limiter>,
    id: u64,
    outcome: oneshot::Receiver<Result<Place, Leaves>>,
}

/// What an attempt holds of its region: one of its requests in flight, and a place where there is a limit.
#[derive(Debug)]
pub(crate) struct Held {
    _in_flight: InFlight,
    place: Option<Place>,
}

/// A limit as it is now, for `/status` and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LimitNow {
    /// How many there may be.
    pub(crate) limit: usize,
    /// How many there are.
    pub(crate) taken: usize,
    /// How many wait.
    pub(crate) waiting: usize,
}

impl RegionLimits {
    /// Returns the limit of one group of endpoints.
    pub(crate) fn of(&self, is_on_trial: bool) -> &Arc<Limiter> {
        if is_on_trial { &self.on_trial } else { &self.stable }
    }

    /// Puts a plan in force; `cap` is the most that the node lets there be. What waits goes on by the new one.
    pub(crate) fn set_plan(&self, plan: &ConcurrencyPlan, cap: usize) {
        self.stable.set_plan(plan, cap);
        self.on_trial.set_plan(plan, cap);
    }

    /// Follows what was seen since the last tick.
    pub(crate) fn tick(&self) {
        self.stable.tick();
        self.on_trial.tick();
    }

    /// Returns the limit of the whole region; `None` where there is none. The version on trial counts only where there
    /// is one.
    pub(crate) fn now(&self, has_trial: bool) -> Option<LimitNow> {
        let stable = self.stable.now()?;
        let Some(on_trial) = self.on_trial.now().filter(|_| has_trial) else { return Some(stable) };
        Some(LimitNow {
            limit: stable.limit.saturating_add(on_trial.limit),
            taken: stable.taken + on_trial.taken,
            waiting: stable.waiting + on_trial.waiting,
        })
    }

    /// Returns the limit of the group of endpoints that is the fuller one by it; `None` where there is none.
    pub(crate) fn fullest(&self, has_trial: bool) -> Option<LimitNow> {
        let stable = self.stable.now()?;
        let on_trial = self.on_trial.now().filter(|on_trial| has_trial && on_trial.is_fuller_than(&stable));
        Some(on_trial.unwrap_or(stable))
    }

    /// Ends the limits: all that wait go on.
    pub(crate) fn end(&self) {
        self.set_plan(&ConcurrencyPlan::default(), UNLIMITED);
    }

    /// Returns whether the limits find themselves.
    pub(crate) fn is_adaptive(&self) -> bool {
        self.stable.is_until_head.load(Ordering::Relaxed)
    }
}

impl LimitNow {
    /// Returns what takes and awaits places.
    pub(crate) fn in_use(&self) -> usize {
        self.taken + self.waiting
    }

    fn is_fuller_than(&self, other: &Self) -> bool {
        self.in_use().saturating_mul(other.limit.max(1)) > other.in_use().saturating_mul(self.limit.max(1))
    }
}

impl Limiter {
    /// Takes a place; none is needed where there is no limit.
    ///
    /// # Errors
    /// When all are taken, or others wait.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Option<Place>, Full> {
        let limit = self.limit.load(Ordering::Relaxed);
        if limit == UNLIMITED {
            return Ok(None);
        }
        if self.waiting.load(Ordering::SeqCst) == 0 && self.take() {
            return Ok(Some(Place(self.clone())));
        }
        self.was_reached.store(true, Ordering::Relaxed);
        Err(Full)
    }

    /// Has a request wait for a place.
    ///
    /// # Errors
    /// When there is no room in the queue for it.
    pub(crate) fn wait(self: &Arc<Self>, criticality: Criticality, client: u64) -> Result<Waits, Leaves> {
        let now = uptime();
        let (sender, outcome) = oneshot::channel();
        let (id, gives_way) = {
            let mut inner = self.lock();
            let id = inner.next_id;
            inner.next_id += 1;
            let gives_way = inner.queue.push(now, criticality, client, Waiter { id, outcome: sender });
            self.waiting.store(inner.queue.len(), Ordering::SeqCst);
            (id, gives_way)
        };
        match gives_way {
            Some(itself) if itself.id == id => return Err(Leaves::Full),
            Some(other) => drop(other.outcome.send(Err(Leaves::Full))),
            None => {}
        }
        // A place that was given back before this one was seen to wait.
        self.hand_out();
        Ok(Waits { limiter: self.clone(), id, outcome })
    }

    /// Takes how long an answer's head took.
    pub(crate) fn answered(&self, took: Duration) {
        if let Some(count) = self.answers.get(bucket(took)).filter(|_| self.is_until_head.load(Ordering::Relaxed)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes a failure as those give that have too much to do. A client may ask for what always fails: from one tick to
    /// the next each client counts once.
    pub(crate) fn overloaded(&self, client_key: u64) {
        self.overloaded.fetch_or(1 << (client_key % u64::from(u64::BITS)), Ordering::Relaxed);
    }

    fn now(&self) -> Option<LimitNow> {
        let limit = Some(self.limit.load(Ordering::Relaxed)).filter(|limit| *limit != UNLIMITED)?;
        let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        Some(LimitNow { limit, taken: count(&self.taken), waiting: count(&self.waiting) })
    }

    fn set_plan(self: &Arc<Self>, plan: &ConcurrencyPlan, cap: usize) {
        {
            let mut inner = self.lock();
            let mut plan = *plan;
            let cap = u32::try_from(cap).unwrap_or(u32::MAX).max(1);
            match &mut plan.mode {
                Mode::Off => {}
                Mode::Fixed(limit) => *limit = cap.min(*limit),
                Mode::Adaptive(bounds) => (bounds.min, bounds.max) = (bounds.min.min(cap), bounds.max.min(cap)),
            }
            let limit = match (plan.mode, &mut inner.gradient) {
                (Mode::Off, gradient) => {
                    *gradient = None;
                    UNLIMITED
                }
                (Mode::Fixed(limit), gradient) => {
                    *gradient = None;
                    limit as usize
                }
                (Mode::Adaptive(bounds), Some(gradient)) => {
                    gradient.set_bounds(bounds);
                    gradient.limit() as usize
                }
                (Mode::Adaptive(bounds), gradient) => gradient.insert(Gradient::new(bounds)).limit() as usize,
            };
            inner.queue.set_plan(plan.queue);
            inner.queue.set_hurry(None);
            self.is_until_head.store(matches!(plan.mode, Mode::Adaptive(_)), Ordering::Relaxed);
            self.limit.store(limit, Ordering::SeqCst);
        }
        self.hand_out();
    }

    fn tick(self: &Arc<Self>) {
        if self.limit.load(Ordering::Relaxed) == UNLIMITED {
            return;
        }
        {
            let mut inner = self.lock();
            let Inner { gradient, queue, .. } = &mut *inner;
            if let Some(gradient) = gradient {
                let mut answers = [0; BUCKETS];
                for (count, shared) in answers.iter_mut().zip(&self.answers) {
                    if shared.load(Ordering::Relaxed) > 0 {
                        *count = shared.swap(0, Ordering::Relaxed);
                    }
                }
                let seen = Tick {
                    in_flight: u32::try_from(self.taken.load(Ordering::Relaxed)).unwrap_or(u32::MAX),
                    was_reached: self.was_reached.swap(false, Ordering::Relaxed),
                    answers: &answers,
                    overloads: self.overloaded.swap(0, Ordering::Relaxed).count_ones(),
                };
                self.limit.store(gradient.tick(uptime(), &seen) as usize, Ordering::SeqCst);
                queue.set_hurry(gradient.quiet());
            }
        }
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.hand_out();
        }
    }

    /// Takes a place, if there is one.
    fn take(&self) -> bool {
        let limit = self.limit.load(Ordering::SeqCst);
        let more = |taken| (taken < limit).then_some(taken + 1);
        self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    /// Gives a place back. Whoever waits is either seen here, or sees the place itself.
    fn leave(self: &Arc<Self>) {
        self.taken.fetch_sub(1, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.hand_out();
        }
    }

    /// Gives the places that there are to those that wait, and sends those away that have waited for too long.
    fn hand_out(self: &Arc<Self>) {
        let now = uptime();
        let mut go_on = Vec::new();
        let leave = {
            let mut inner = self.lock();
            while !inner.queue.is_empty() && self.take() {
                match inner.queue.pop(now) {
                    Some(waiter) => go_on.push((waiter, Place(self.clone()))),
                    // As a number, since a place that is dropped would ask for the lock.
                    None => {
                        self.taken.fetch_sub(1, Ordering::SeqCst);
                    }
                }
            }
            // After the places: who gets one has not waited for too long.
            let leave = inner.queue.expire(now);
            self.waiting.store(inner.queue.len(), Ordering::SeqCst);
            leave
        };
        for waiter in leave {
            // Who is no longer there needs no answer.
            drop(waiter.outcome.send(Err(Leaves::TooOld)));
        }
        for (waiter, place) in go_on {
            // The place of who is no longer there is given back as the answer is dropped.
            drop(waiter.outcome.send(Ok(place)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Limiter {
    fn default() -> Self {
        let queue = Queue::new(ConcurrencyPlan::default().queue);
        Self {
            limit: AtomicUsize::new(UNLIMITED),
            taken: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            is_until_head: AtomicBool::new(false),
            was_reached: AtomicBool::new(false),
            overloaded: AtomicU64::new(0),
            answers: (0..BUCKETS).map(|_| AtomicU32::new(0)).collect(),
            inner: Mutex::new(Inner { gradient: None, queue, next_id: 0 }),
        }
    }
}

impl Place {
    /// Returns the limit that it is of.
    pub(crate) fn limiter(&self) -> &Arc<Limiter> {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Waits {
    /// Waits for the place.
    ///
    /// # Errors
    /// When it has waited for too long, or more important ones have come.
    pub(crate) async fn place(&mut self) -> Result<Place, Leaves> {
        (&mut self.outcome).await.unwrap_or(Err(Leaves::TooOld))
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        let mut inner = self.limiter.lock();
        if inner.queue.remove(|waiter| waiter.id == self.id) {
            self.limiter.waiting.store(inner.queue.len(), Ordering::SeqCst);
        }
    }
}

impl Held {
    /// Counts a request as in flight there.
    pub(crate) fn new(in_flight: &Arc<AtomicUsize>, place: Option<Place>) -> Self {
        Self { _in_flight: InFlight::enter(in_flight), place }
    }

    /// Returns the limit that it has a place of.
    pub(crate) fn limiter(&self) -> Option<&Limiter> {
        self.place.as_ref().map(|place| &**place.limiter())
    }

    /// Gives the place back: its answer is not the one that is passed on, or only if there is no better one, and whoever
    /// asks again does not wait for it.
    pub(crate) fn give_back(&mut self) {
        self.place = None;
    }

    /// Notes that its answer's head is here: the place of a limit of those whose head is awaited is given back.
    pub(crate) fn on_head(&mut self) {
        if self.limiter().is_some_and(|limiter| limiter.is_until_head.load(Ordering::Relaxed)) {
            self.place = None;
        }
    }
}

/// What stands for no limit.
const UNLIMITED: usize = usize::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use policy::concurrency::{Bounds, QueuePlan};
    use std::task::{Context, Poll, Waker};

    fn limiter(mode: Mode, length: usize) -> Arc<Limiter> {
        let limiter = Arc::new(Limiter::default());
        limiter.set_plan(&plan(mode, length), 1_000);
        limiter
    }

    fn plan(mode: Mode, length: usize) -> ConcurrencyPlan {
        ConcurrencyPlan { mode, queue: QueuePlan { length, age: Duration::from_secs(3_600) } }
    }

    fn poll(waits: &mut Waits) -> Poll<Result<Place, Leaves>> {
        std::pin::pin!(waits.place()).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn is_there(waits: &mut Waits) -> bool {
        // A place that is there is given back at once.
        matches!(poll(waits), Poll::Ready(Ok(_)))
    }

    #[test]
    fn a_place_goes_to_who_waits_and_back() {
        let limiter = limiter(Mode::Fixed(1), 4);
        let place = limiter.enter().unwrap().unwrap();
        assert!(limiter.enter().is_err());
        let mut second = limiter.wait(Criticality::Default, 1).unwrap();
        let mut first = limiter.wait(Criticality::Critical, 2).unwrap();
        assert!(poll(&mut first).is_pending() && poll(&mut second).is_pending());
        drop(place);
        assert!(poll(&mut second).is_pending(), "the more important comes first");
        assert!(limiter.enter().is_err(), "nobody comes before those that wait");
        assert!(is_there(&mut first));
        assert!(is_there(&mut second));
        assert_eq!(limiter.now(), Some(LimitNow { limit: 1, taken: 0, waiting: 0 }));
        assert!(limiter.enter().unwrap().is_some());
    }

    #[test]
    fn who_goes_away_leaves_the_queue_or_gives_its_place_on() {
        let limiter = limiter(Mode::Fixed(1), 4);
        let place = limiter.enter().unwrap();
        let gone = limiter.wait(Criticality::Default, 1).unwrap();
        let granted = limiter.wait(Criticality::Default, 2).unwrap();
        let mut last = limiter.wait(Criticality::Default, 3).unwrap();
        drop(gone);
        assert_eq!(limiter.now().unwrap().waiting, 2);
        drop(place);
        // It has the place, and has not looked.
        assert_eq!(limiter.now().unwrap().waiting, 1);
        drop(granted);
        assert!(is_there(&mut last));
        assert_eq!(limiter.now(), Some(LimitNow { limit: 1, taken: 0, waiting: 0 }));
    }

    #[test]
    fn without_a_limit_all_that_wait_go_on() {
        let limiter = limiter(Mode::Adaptive(Bounds { initial: 2, min: 1, max: 2 }), 4);
        let places = [limiter.enter().unwrap(), limiter.enter().unwrap()];
        let mut waits: Vec<Waits> =
            (0..4).map(|client| limiter.wait(Criticality::Sheddable, client).unwrap()).collect();
        // One more pushes out the oldest.
        waits.push(limiter.wait(Criticality::Sheddable, 4).unwrap());
        assert!(matches!(poll(&mut waits.remove(0)), Poll::Ready(Err(Leaves::Full))));
        limiter.set_plan(&plan(Mode::Off, 4), 1_000);
        assert!(waits.iter_mut().all(is_there));
        assert!(limiter.enter().unwrap().is_none());
        drop(places);
        limiter.set_plan(&plan(Mode::Fixed(3), 0), 1_000);
        assert_eq!(limiter.now(), Some(LimitNow { limit: 3, taken: 0, waiting: 0 }));
        let _places: Vec<_> = (0..3).map(|_| limiter.enter().unwrap()).collect();
        assert_eq!(limiter.wait(Criticality::Critical, 0).map(|_| ()), Err(Leaves::Full), "there is no queue");
    }

    #[test]
    fn a_client_counts_once_in_a_tick_and_again_in_the_next() {
        let limiter = limiter(Mode::Adaptive(Bounds { initial: 8, min: 1, max: 8 }), 4);
        let overloads = || limiter.overloaded.load(Ordering::Relaxed).count_ones();
        for client in [1, 2, 1, 2, 1] {
            limiter.overloaded(client);
        }
        assert_eq!(overloads(), 2);
        limiter.tick();
        assert_eq!(overloads(), 0);
        limiter.overloaded(1);
        assert_eq!(overloads(), 1);
    }

    #[test]
    fn a_fixed_limit_is_no_more_than_the_cap() {
        let limiter = Arc::new(Limiter::default());
        limiter.set_plan(&plan(Mode::Fixed(500), 4), 10);
        assert_eq!(limiter.now().map(|now| now.limit), Some(10));
    }

    #[test]
    fn the_fuller_group_says_how_full_a_region_is() {
        let limits = RegionLimits::default();
        assert_eq!(limits.fullest(true), None);
        limits.set_plan(&plan(Mode::Fixed(4), 4), 1_000);
        let _stable = limits.of(false).enter().unwrap();
        let _on_trial = [limits.of(true).enter().unwrap(), limits.of(true).enter().unwrap()];
        let of = |taken| Some(LimitNow { limit: 4, taken, waiting: 0 });
        assert_eq!((limits.fullest(false), limits.fullest(true)), (of(1), of(2)));
    }

    /// Many threads take and give back: never more places than there are, and nobody waits for ever.
    #[test]
    fn no_place_and_no_waiter_is_lost_among_threads() {
        let limiter = limiter(Mode::Fixed(3), 1_000);
        let taken = AtomicUsize::new(0);
        let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
        std::thread::scope(|scope| {
            for client in 0..8 {
                let (limiter, taken) = (&limiter, &taken);
                scope.spawn(move || {
                    for _ in 0..2_000 {
                        let place = match limiter.enter() {
                            Ok(place) => place.unwrap(),
                            Err(Full) => {
                                let mut waits = limiter.wait(Criticality::Default, client).unwrap();
                                runtime().block_on(waits.place()).unwrap()
                            }
                        };
                        assert!(taken.fetch_add(1, Ordering::SeqCst) < 3);
                        std::thread::yield_now();
                        taken.fetch_sub(1, Ordering::SeqCst);
                        drop(place);
                    }
                });
            }
        });
        assert_eq!(limiter.now(), Some(LimitNow { limit: 3, taken: 0, waiting: 0 }));
    }
}
