//! How many requests a region gets from this node at once, and who waits for a place.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use policy::concurrency::{
    ClassPositions, ConcurrencyPlan, Gradient, Leaves, Mode, PlacedClasses, Queue, Request, Taken, Tick, TrafficClass,
    TrafficSlot,
};
use policy::pressure::Criticality;
use policy::quantile::{BUCKETS, bucket};
use tokio::sync::oneshot;

use crate::clock::{self, uptime};
use crate::health::class_places::ClassPlaces;
use crate::in_flight::Counted;

/// The limits of one region: endpoints of the version on trial have one of their own, so that what they are slow at
/// takes no place from the others. They outlive a table, with their region.
#[derive(Debug, Default)]
pub(crate) struct RegionLimits {
    stable: LimiterHandle,
    on_trial: LimiterHandle,
    /// Where both count the places of traffic classes. Held while a plan is put in force.
    classes: Mutex<ClassPositions>,
}

/// One limit. Every worker takes places of it, without a lock while there are any; one thread ticks it.
#[derive(Debug)]
pub(crate) struct Limiter {
    /// How many may be taken; [`UNLIMITED`] while there is no limit.
    limit: AtomicUsize,
    /// How many are, in the lower half, and in the upper one by which plan: a limit of those whose head is awaited does not
    /// count what was taken for a whole answer.
    taken: AtomicU64,
    /// How many of them each traffic class has.
    by_class: ClassPlaces,
    /// How many wait, as it was when the queue's lock was last given back.
    waiting: AtomicUsize,
    /// How many places are kept for critical requests, likewise.
    kept: AtomicUsize,
    /// Whether a place is given back with the answer's head, and not with its end.
    is_until_head: AtomicBool,
    /// How many found no place since the last tick.
    turned_away: AtomicU32,
    /// Clients with failures as those give that have too much to do, since the last tick: one of 64 bits each.
    overloaded: AtomicU64,
    /// What half of the answers take in quiet, as far as it is known.
    quiet_micros: AtomicU64,
    /// Answers since the last tick by their time to the head.
    answers: Box<[AtomicU32]>,
    inner: Mutex<Inner>,
}

/// A limit in the hands of one thread. Copies count their references in a place of its own, which only copies of them share;
/// a place that was waited for has the handle of whoever gave it back.
#[derive(Clone, Debug, Default)]
#[allow(clippy::redundant_allocation, reason = "the outer one counts for one thread, the inner one for all")]
pub(crate) struct LimiterHandle(Arc<Arc<Limiter>>);

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
pub(crate) struct Place {
    limiter: LimiterHandle,
    /// By which plan it was taken.
    plan: u32,
    /// The traffic class that it is counted for.
    class: Option<TrafficSlot>,
}

/// There is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// A request in the queue, until this is dropped.
#[derive(Debug)]
pub(crate) struct Waits {
    limiter: LimiterHandle,
    id: u64,
    outcome: oneshot::Receiver<Result<Place, Leaves>>,
}

/// What an attempt holds of its region: one of its requests in flight, and a place where there is a limit.
#[derive(Debug)]
pub(crate) struct Held {
    _in_flight: Counted,
    place: Option<Place>,
    /// Since when an answer's head is awaited, where nothing but the origin can keep it waiting.
    awaited_since: Option<Instant>,
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
    pub(crate) fn of(&self, is_on_trial: bool) -> &LimiterHandle {
        if is_on_trial { &self.on_trial } else { &self.stable }
    }

    /// Puts a plan in force; `cap` is the most that the node lets there be, and `classes` have shares of it. What waits
    /// goes on by the new one. Returns where the classes are.
    pub(crate) fn set_plan(&self, plan: &ConcurrencyPlan, cap: usize, classes: &[TrafficClass]) -> PlacedClasses {
        let mut positions = self.classes.lock().unwrap_or_else(PoisonError::into_inner);
        // Places that do not count for the limit any more do not for the classes either.
        let anew = matches!(plan.mode, Mode::Adaptive(_)) && !self.is_adaptive();
        let placed = positions.place(classes, anew);
        self.stable.set_plan(plan, cap, &placed);
        self.on_trial.set_plan(plan, cap, &placed);
        placed
    }

    /// Returns how many places a traffic class has taken.
    pub(crate) fn taken_by(&self, class: TrafficSlot, has_trial: bool) -> usize {
        let index = usize::from(class.index);
        let on_trial = if has_trial { self.on_trial.by_class.of(index) } else { 0 };
        self.stable.by_class.of(index).saturating_add(on_trial) as usize
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
        self.set_plan(&ConcurrencyPlan::default(), UNLIMITED, &[]);
    }

    /// Returns whether the limits find themselves.
    pub(crate) fn is_adaptive(&self) -> bool {
        self.stable.is_until_head.load(Ordering::Relaxed)
    }
}

impl LimitNow {
    /// Returns what takes and awaits places; those that are kept free while others wait are no room.
    pub(crate) fn in_use(&self) -> usize {
        let taken = if self.waiting > 0 { self.taken.max(self.limit) } else { self.taken };
        taken.saturating_add(self.waiting)
    }

    fn is_fuller_than(&self, other: &Self) -> bool {
        self.in_use().saturating_mul(other.limit.max(1)) > other.in_use().saturating_mul(self.limit.max(1))
    }
}

impl LimiterHandle {
    /// Returns the same limit for another thread.
    pub(crate) fn of_worker(&self) -> Self {
        Self(Arc::new(Arc::clone(&*self.0)))
    }

    /// Returns how many references there are to the limit itself.
    #[cfg(test)]
    pub(crate) fn references(&self) -> usize {
        Arc::strong_count(&*self.0)
    }

    /// Returns whether both are of one limit.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&*self.0, &*other.0)
    }

    /// Takes a place for a request of a traffic class; none is needed where there is no limit.
    ///
    /// # Errors
    /// When all are taken, but for those that are kept for critical requests, or others wait who come first.
    pub(crate) fn enter(&self, class: Option<TrafficSlot>, criticality: Criticality) -> Result<Option<Place>, Full> {
        let limit = self.limit.load(Ordering::Relaxed);
        if limit == UNLIMITED {
            return Ok(None);
        }
        let is_critical = criticality == Criticality::Critical;
        let kept = if is_critical { 0 } else { self.kept.load(Ordering::Relaxed) };
        let is_next = self.waiting.load(Ordering::SeqCst) == 0 || is_critical && self.lets_critical_pass();
        if is_next && let Some(plan) = self.take_leaving(kept) {
            let class = class.filter(|slot| self.by_class.add(*slot));
            return Ok(Some(Place { limiter: self.clone(), plan, class }));
        }
        self.turned_away.fetch_add(1, Ordering::Relaxed);
        Err(Full)
    }

    /// Has a request wait for a place.
    ///
    /// # Errors
    /// When there is no room in the queue for it.
    pub(crate) fn wait(&self, request: Request) -> Result<Waits, Leaves> {
        let now = uptime();
        let (sender, outcome) = oneshot::channel();
        let (id, gives_way) = {
            let mut inner = self.lock();
            let id = inner.next_id;
            inner.next_id += 1;
            let gives_way = inner.queue.push(now, request, Waiter { id, outcome: sender });
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

    fn set_plan(&self, plan: &ConcurrencyPlan, cap: usize, placed: &PlacedClasses) {
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
            self.by_class.follow(&placed.guarantees);
            inner.queue.set_guarantees(placed.guarantees, &placed.kept);
            inner.queue.set_plan(plan.queue);
            let is_until_head = matches!(plan.mode, Mode::Adaptive(_));
            if !is_until_head {
                inner.queue.set_hurry(None);
            }
            if is_until_head && !self.is_until_head.swap(is_until_head, Ordering::Relaxed) {
                let next = |taken| Some(u64::from(plan_of(taken).wrapping_add(1)) << PLAN_SHIFT);
                let _before = self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
            }
            self.is_until_head.store(is_until_head, Ordering::Relaxed);
            self.limit.store(limit, Ordering::SeqCst);
        }
        self.hand_out();
    }

    fn tick(&self) {
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
                    in_flight: taken_of(self.taken.load(Ordering::Relaxed)),
                    turned_away: self.turned_away.swap(0, Ordering::Relaxed),
                    answers: &answers,
                    overloads: self.overloaded.swap(0, Ordering::Relaxed).count_ones(),
                };
                self.limit.store(gradient.tick(uptime(), &seen) as usize, Ordering::SeqCst);
                let quiet = gradient.quiet();
                let micros = quiet.and_then(|quiet| u64::try_from(quiet.as_micros()).ok());
                self.quiet_micros.store(micros.unwrap_or(u64::MAX), Ordering::Relaxed);
                queue.set_hurry(quiet.map(|quiet| quiet / 2));
            }
        }
        if self.waiting.load(Ordering::SeqCst) > 0 || self.kept.load(Ordering::Relaxed) > 0 {
            self.hand_out();
        }
    }

    /// Returns whether a critical request comes before all that wait.
    fn lets_critical_pass(&self) -> bool {
        let mut inner = self.lock();
        let taken = self.taken_by_classes(&inner.queue);
        inner.queue.lets_critical_pass(uptime(), &taken)
    }

    /// Gives a place back. Whoever waits is either seen here, or sees the place itself.
    fn leave(&self, plan: u32) {
        self.release(plan);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.hand_out();
        }
    }

    /// Gives the places that there are to those that wait, and sends those away that have waited for too long.
    fn hand_out(&self) {
        self.hand_out_at(uptime());
    }

    fn hand_out_at(&self, now: Duration) {
        let mut go_on = Vec::new();
        let leave = {
            let mut inner = self.lock();
            while !inner.queue.is_empty() {
                let taken = self.taken_by_classes(&inner.queue);
                let spare = inner.queue.spare(now, self.limit.load(Ordering::SeqCst), &taken);
                let Some(plan) = self.take_leaving(spare) else { break };
                match inner.queue.pop(now, &taken) {
                    Some((waiter, class)) => {
                        let slot = class.and_then(|index| inner.queue.guarantees().slot(index));
                        let class = slot.filter(|slot| self.by_class.add(*slot));
                        go_on.push((waiter, Place { limiter: self.clone(), plan, class }));
                    }
                    // As a number, since a place that is dropped would ask for the lock.
                    None => self.release(plan),
                }
            }
            // After the places: who gets one has not waited for too long.
            let taken = self.taken_by_classes(&inner.queue);
            let leave = inner.queue.expire(now, &taken);
            self.waiting.store(inner.queue.len(), Ordering::SeqCst);
            let kept = inner.queue.kept(now, self.limit.load(Ordering::SeqCst));
            self.kept.store(kept, Ordering::Relaxed);
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
}

impl Limiter {
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
        let taken = taken_of(self.taken.load(Ordering::Relaxed)) as usize;
        Some(LimitNow { limit, taken, waiting: self.waiting.load(Ordering::Relaxed) })
    }

    /// Returns for how long a request of a traffic class that has less than its guarantee waits here before it goes where
    /// there is a place at once; `None` where the class has it.
    pub(crate) fn owes(&self, class: TrafficSlot) -> Option<Duration> {
        let inner = self.lock();
        let taken = self.taken_by_classes(&inner.queue);
        let guarantees = inner.queue.guarantees();
        taken.is_below(guarantees, guarantees.index(class)).then(|| inner.queue.patience())
    }

    /// Takes a place, if so many are left besides; by which plan.
    fn take_leaving(&self, spare: usize) -> Option<u32> {
        let limit = self.limit.load(Ordering::SeqCst).saturating_sub(spare);
        let more = |taken| ((taken_of(taken) as usize) < limit && taken_of(taken) < u32::MAX).then_some(taken + 1);
        self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).ok().map(plan_of)
    }

    /// Takes a place out of the count; one of a plan before is no longer in it.
    fn release(&self, plan: u32) {
        let less = |taken| (plan_of(taken) == plan && taken_of(taken) > 0).then(|| taken - 1);
        let _before = self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
    }

    /// Returns how many places each class has; nothing where there are none.
    fn taken_by_classes(&self, queue: &Queue<Waiter>) -> Taken {
        if queue.guarantees().is_empty() {
            return Taken::default();
        }
        Taken { limit: self.limit.load(Ordering::Relaxed), by_class: self.by_class.counts() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for LimiterHandle {
    type Target = Limiter;

    fn deref(&self) -> &Limiter {
        &self.0
    }
}

impl Default for Limiter {
    fn default() -> Self {
        let queue = Queue::new(ConcurrencyPlan::default().queue);
        Self {
            limit: AtomicUsize::new(UNLIMITED),
            taken: AtomicU64::new(0),
            by_class: ClassPlaces::default(),
            waiting: AtomicUsize::new(0),
            kept: AtomicUsize::new(0),
            is_until_head: AtomicBool::new(false),
            turned_away: AtomicU32::new(0),
            quiet_micros: AtomicU64::new(u64::MAX),
            overloaded: AtomicU64::new(0),
            answers: (0..BUCKETS).map(|_| AtomicU32::new(0)).collect(),
            inner: Mutex::new(Inner { gradient: None, queue, next_id: 0 }),
        }
    }
}

impl Place {
    /// Returns the limit that it is of.
    pub(crate) fn limiter(&self) -> &LimiterHandle {
        &self.limiter
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(class) = self.class {
            self.limiter.by_class.remove(class);
        }
        self.limiter.leave(self.plan);
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
    /// Holds a request's place in the region's count, and one of its limit.
    pub(crate) fn new(in_flight: Counted, place: Option<Place>) -> Self {
        Self { _in_flight: in_flight, place, awaited_since: None }
    }

    /// Returns the limit that it has a place of.
    pub(crate) fn limiter(&self) -> Option<&Limiter> {
        self.place.as_ref().map(|place| &**place.limiter())
    }

    /// Notes that the answer's head is awaited from then on, and of nobody but the origin. If nobody waits for it any more,
    /// because its client has gone or another answer was quicker, it took at least until then.
    pub(crate) fn awaits_head(&mut self, since: Instant) {
        self.awaited_since = self.place.is_some().then_some(since);
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

impl Drop for Held {
    fn drop(&mut self) {
        let (Some(limiter), Some(since)) = (self.limiter(), self.awaited_since) else { return };
        if !limiter.is_until_head.load(Ordering::Relaxed) {
            return;
        }
        let waited = clock::now().saturating_duration_since(since);
        // A shorter time says nothing of how long it would have been.
        if waited.as_micros() > u128::from(limiter.quiet_micros.load(Ordering::Relaxed)) {
            limiter.answered(waited);
        }
    }
}

fn taken_of(taken: u64) -> u32 {
    taken as u32
}

fn plan_of(taken: u64) -> u32 {
    (taken >> PLAN_SHIFT) as u32
}

/// Where the number of the plan is in the count of places.
const PLAN_SHIFT: u32 = 32;

/// What stands for no limit.
const UNLIMITED: usize = usize::MAX;

#[cfg(test)]
mod tests;
