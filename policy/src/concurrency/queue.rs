//! Who waits for a place where all are taken, who gets the next, and who gives up: a queue that is bounded in number and
//! in time.
//!
//! Those of a traffic class that has less than its guarantee come first ([`super::classes`]). Then the more important.
//! Among equals, those of the client with the fewest in the queue do, so that one that
//! sends many gets what the others leave. Among those again, who came first, until the queue has stood for a tenth of
//! its age without being empty (but for those that gave up): then what comes in is more than what goes out, and the
//! newest comes first, since its client still waits, and what is not critical gives up after a quarter of the age, or
//! sooner where that is said, unless its class is owed a place. (CoDel's idea, as Facebook and Google have it for
//! requests.) Where that is said, a queue that has stood lately is found to stand again as much sooner, and a few places
//! stay free for the critical while there are any: who is critical then waits once, at the origin, and not before at the
//! queue as well.

use std::collections::hash_map::Entry;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::classes::{Guarantees, MOST_CLASSES, Taken, TrafficSlot};
use crate::pressure::Criticality;

/// The bounds of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuePlan {
    /// How many wait, at most; 0: nobody does.
    pub length: usize,
    /// For how long each waits, at most.
    pub age: Duration,
}

/// Why one leaves without a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// There are too many.
    Full,
    /// It has waited for too long.
    TooOld,
}

/// Who asks for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// How critical it is.
    pub criticality: Criticality,
    /// The hash of its client's identity.
    pub client: u64,
    /// Its traffic class.
    pub class: Option<TrafficSlot>,
}

/// Those that wait. `T` is what they are told by.
#[derive(Debug)]
pub struct Queue<T> {
    plan: QueuePlan,
    /// In the order in which they came.
    waiting: Vec<Waiting<T>>,
    /// How many of each client wait, however critical.
    counts: FxHashMap<u64, usize>,
    /// Since when it has not been empty.
    busy_since: Duration,
    /// For how long those wait at most, while more comes in than goes out, that are not critical.
    hurry: Option<Duration>,
    /// When it was left empty by those that have waited for too long: that is no sign of rest.
    gave_up: Option<Duration>,
    /// When more was last found to come in than goes out.
    stood: Option<Duration>,
    /// When a critical request last came that found others waiting, or all places taken.
    critical: Option<Duration>,
    guarantees: Guarantees,
    /// How many of each class wait.
    by_class: [u32; MOST_CLASSES],
    /// When each class had a place last, as a number of [`Queue::pops`].
    served: [u64; MOST_CLASSES],
    /// How many places there were.
    pops: u64,
}

#[derive(Debug)]
struct Waiting<T> {
    criticality: Criticality,
    client: u64,
    /// Its class, of those that have guarantees.
    class: Option<usize>,
    since: Duration,
    item: T,
}

impl<T> Queue<T> {
    /// Makes an empty queue.
    pub fn new(plan: QueuePlan) -> Self {
        Self {
            plan,
            waiting: Vec::new(),
            counts: FxHashMap::default(),
            busy_since: Duration::ZERO,
            hurry: None,
            gave_up: None,
            stood: None,
            critical: None,
            guarantees: Guarantees::default(),
            by_class: [0; MOST_CLASSES],
            served: [0; MOST_CLASSES],
            pops: 0,
        }
    }

    /// Sets other bounds. What is past them leaves with the next [`Queue::expire`] and [`Queue::push`].
    pub fn set_plan(&mut self, plan: QueuePlan) {
        self.plan = plan;
    }

    /// Sets for how long those that are not critical wait while more comes in than goes out, where that is less than a
    /// quarter of the age: what they wait for may be quick.
    pub fn set_hurry(&mut self, hurry: Option<Duration>) {
        self.hurry = hurry.map(|hurry| hurry.max(LEAST_HURRY));
    }

    /// Sets what classes are guaranteed. Those that wait stay of the class at a position that is `kept`; others are of
    /// none from then on.
    pub fn set_guarantees(&mut self, guarantees: Guarantees, kept: &[bool; MOST_CLASSES]) {
        self.by_class = [0; MOST_CLASSES];
        for each in &mut self.waiting {
            each.class = each.class.filter(|index| kept.get(*index) == Some(&true));
            if let Some(count) = each.class.and_then(|index| self.by_class.get_mut(index)) {
                *count += 1;
            }
        }
        self.guarantees = guarantees;
    }

    /// Returns for how long those wait at most, while more comes in than goes out, that are not critical.
    pub fn patience(&self) -> Duration {
        let quarter = self.plan.age / HURRY;
        self.hurry.map_or(quarter, |hurry| hurry.min(quarter))
    }

    /// Returns what classes are guaranteed.
    pub fn guarantees(&self) -> &Guarantees {
        &self.guarantees
    }

    /// Returns how many of each class wait.
    pub fn by_class(&self) -> [u32; MOST_CLASSES] {
        self.by_class
    }

    /// Returns how many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Returns whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns whether more has come in than went out for a while.
    pub fn is_overloaded(&self, now: Duration) -> bool {
        !self.is_empty() && now.saturating_sub(self.busy_since) >= self.interval(now)
    }

    /// Returns for how long a queue may stand before it is too much that comes in. From calm that is long enough for the
    /// first places to come back, and the next: a burst stays one. One that stood lately is given no longer than those in it
    /// are to wait.
    fn interval(&self, now: Duration) -> Duration {
        let tenth = self.plan.age / INTERVAL;
        let Some(hurry) = self.hurry else { return tenth };
        if self.stood.is_some_and(|at| now.saturating_sub(at) < self.plan.age) {
            return hurry.max(LEAST_INTERVAL).min(tenth);
        }
        (hurry * CALM).min(self.plan.age / 2).max(LEAST_INTERVAL)
    }

    /// Returns how many of `limit` places are kept free for critical requests, whoever waits: some, while more comes in than
    /// goes out, or did until those that waited gave up; and critical requests come, and it was said what is to wait for
    /// how long.
    pub fn kept(&self, now: Duration, limit: usize) -> usize {
        let within = |at: Option<Duration>, span: Duration| at.is_some_and(|at| now.saturating_sub(at) < span);
        let stands = self.is_overloaded(now) || self.is_empty() && within(self.gave_up, self.interval(now));
        if self.hurry.is_none() || !stands || !within(self.critical, CRITICAL_LATELY) {
            return 0;
        }
        limit.isqrt().min(limit.saturating_sub(1) / 2)
    }

    /// Returns how many of `limit` places, of which those are `taken`, the next one that waits is to leave free:
    /// [`Queue::kept`], but none where it is critical, or owed a place.
    pub fn spare(&self, now: Duration, limit: usize, taken: &Taken) -> usize {
        let kept = self.kept(now, limit);
        if kept > 0 && (self.has_critical() || self.most_owed(taken).is_some()) { 0 } else { kept }
    }

    /// Notes that a critical request has come, and returns whether it comes before all that wait, where those places are
    /// `taken`.
    pub fn lets_critical_pass(&mut self, now: Duration, taken: &Taken) -> bool {
        self.critical = Some(now);
        !self.has_critical() && self.most_owed(taken).is_none()
    }

    fn has_critical(&self) -> bool {
        self.waiting.iter().any(|each| each.criticality == Criticality::Critical)
    }

    /// Takes one in. Returns who gives way to it if there are too many, which may be itself: those of classes beyond
    /// their share of the queue first, those of no class where they are more than what the classes leave of it; of these
    /// the least important, of the client with the most of them the oldest.
    pub fn push(&mut self, now: Duration, request: Request, item: T) -> Option<T> {
        let Request { criticality, client, class } = request;
        if self.plan.length == 0 {
            return Some(item);
        }
        if self.is_empty() && self.gave_up.is_none_or(|at| now.saturating_sub(at) >= self.interval(now)) {
            self.busy_since = now;
        }
        self.gave_up = None;
        if criticality == Criticality::Critical {
            self.critical = Some(now);
        }
        let class = class.and_then(|slot| self.guarantees.index(slot));
        self.waiting.push(Waiting { criticality, client, class, since: now, item });
        if let Some(count) = class.and_then(|index| self.by_class.get_mut(index)) {
            *count += 1;
        }
        *self.counts.entry(client).or_default() += 1;
        if self.waiting.len() <= self.plan.length {
            return None;
        }
        let classed = self.by_class.iter().sum::<u32>() as usize;
        let rest = self.waiting.len().saturating_sub(classed) <= self.guarantees.rest(self.plan.length);
        let gives_way = |(at, each): &(usize, &Waiting<T>)| {
            // Of equals the first, which is the oldest.
            (
                each.class.map_or(rest, |index| self.is_within_share(index)),
                each.criticality,
                std::cmp::Reverse(self.of_the_same(each)),
                *at,
            )
        };
        let (at, _) = self.waiting.iter().enumerate().min_by_key(gives_way)?;
        Some(self.take(at))
    }

    /// Takes out who gets the next place, where `taken` are.
    pub fn pop(&mut self, now: Duration, taken: &Taken) -> Option<(T, Option<usize>)> {
        let owed = self.most_owed(taken);
        // Who is owed a place is not too much that comes in.
        let newest_first = owed.is_none() && self.is_overloaded(now);
        let comes_last = |(at, each): &(usize, &Waiting<T>)| {
            let order = if newest_first { self.waiting.len() - at } else { *at };
            let is_other = owed.is_some() && each.class != owed;
            (is_other, std::cmp::Reverse(each.criticality), self.of_the_same(each), order)
        };
        let (at, each) = self.waiting.iter().enumerate().min_by_key(comes_last)?;
        let class = each.class;
        self.pops += 1;
        if let Some(served) = class.and_then(|index| self.served.get_mut(index)) {
            *served = self.pops;
        }
        Some((self.take(at), class))
    }

    /// Returns the class, of those that wait and have less than they are guaranteed, that has the smallest part of it; of
    /// several, the one that has had no place for longest.
    fn most_owed(&self, taken: &Taken) -> Option<usize> {
        let served = |index: usize| self.served.get(index).copied().unwrap_or_default();
        let waits = self.by_class.iter().enumerate().filter(|(_, waiting)| **waiting > 0).map(|(index, _)| index);
        waits
            .filter(|index| taken.is_below(&self.guarantees, Some(*index)))
            .min_by(|one, other| taken.compare(&self.guarantees, *one, *other).then(served(*one).cmp(&served(*other))))
    }

    /// Takes out who has waited for too long, where `taken` are: who is of a class below its guarantee waits for the whole
    /// age.
    pub fn expire(&mut self, now: Duration, taken: &Taken) -> Vec<T> {
        let is_overloaded = self.is_overloaded(now);
        if is_overloaded {
            self.stood = Some(now);
        }
        let mut expired = Vec::new();
        let mut at = 0;
        while let Some(each) = self.waiting.get(at) {
            let is_owed = taken.is_below(&self.guarantees, each.class);
            let is_hurried = is_overloaded && each.criticality < Criticality::Critical && !is_owed;
            let most = if is_hurried { self.patience() } else { self.plan.age };
            if now.saturating_sub(each.since) >= most {
                expired.push(self.take(at));
            } else {
                at += 1;
            }
        }
        if !expired.is_empty() && self.is_empty() {
            self.gave_up = Some(now);
        }
        expired
    }

    /// Takes out who no longer waits; false when it is not there.
    pub fn remove(&mut self, is_it: impl Fn(&T) -> bool) -> bool {
        let at = self.waiting.iter().position(|each| is_it(&each.item));
        at.map(|at| self.take(at)).is_some()
    }

    fn of_the_same(&self, each: &Waiting<T>) -> usize {
        self.counts.get(&each.client).copied().unwrap_or_default()
    }

    /// Returns whether no more of a class wait than its share of the queue is.
    fn is_within_share(&self, class: usize) -> bool {
        let waiting = self.by_class.get(class).copied().unwrap_or(u32::MAX) as usize;
        waiting <= self.guarantees.places(class, self.plan.length)
    }

    fn take(&mut self, at: usize) -> T {
        let Waiting { client, class, item, .. } = self.waiting.remove(at);
        if let Some(count) = class.and_then(|index| self.by_class.get_mut(index)) {
            *count -= 1;
        }
        if let Entry::Occupied(mut count) = self.counts.entry(client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        item
    }
}

/// The part of its age for which a queue may stand before it is too much that comes in.
const INTERVAL: u32 = 10;
/// A queue that has not stood lately does so, at the earliest, after so many times what those in it are to wait then: with
/// half of what an answer takes in quiet, after one answer and a half: by then most places have come back.
const CALM: u32 = 3;
/// Places are kept free for critical requests for so long after one has come.
const CRITICAL_LATELY: Duration = Duration::from_secs(5);
/// A burst of requests that is over sooner is none of too many, however quick their answers are.
const LEAST_INTERVAL: Duration = Duration::from_millis(25);
/// The part of its age that is left then to what is not critical.
const HURRY: u32 = 4;
/// Nobody is refused for having waited for less.
const LEAST_HURRY: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests;
