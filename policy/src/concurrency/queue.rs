//! Who waits for a place where all are taken, who gets the next, and who gives up: a queue that is bounded in number and
//! in time.
//!
//! Those of a traffic class that has less than its guarantee come first ([`super::classes`]). Then the more important.
//! Among equals, those of the client with the fewest in the queue do, so that one that
//! sends many gets what the others leave. Among those again, who came first, until the queue has stood for a tenth of
//! its age without being empty (but for those that gave up): then what comes in is more than what goes out, and the newest comes first, since its
//! client still waits, and what is not critical gives up after a quarter of the age, or sooner where that is said. (CoDel's
//! idea, as Facebook and Google have it for requests.)

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
    guarantees: Guarantees,
    /// How many of each class wait.
    by_class: [u32; MOST_CLASSES],
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
            guarantees: Guarantees::default(),
            by_class: [0; MOST_CLASSES],
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

    /// Sets what classes are guaranteed. Where these are other classes, those that wait are of none.
    pub fn set_guarantees(&mut self, guarantees: Guarantees) {
        if guarantees.key() != self.guarantees.key() {
            self.waiting.iter_mut().for_each(|each| each.class = None);
            self.by_class = [0; MOST_CLASSES];
        }
        self.guarantees = guarantees;
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
        !self.is_empty() && now.saturating_sub(self.busy_since) >= self.plan.age / INTERVAL
    }

    /// Takes one in. Returns who gives way to it if there are too many, which may be itself: those of classes beyond
    /// their share of the queue first, and of these the least important, of the client with the most of them the oldest.
    pub fn push(&mut self, now: Duration, request: Request, item: T) -> Option<T> {
        let Request { criticality, client, class } = request;
        if self.plan.length == 0 {
            return Some(item);
        }
        if self.is_empty() && self.gave_up.is_none_or(|at| now.saturating_sub(at) >= self.plan.age / INTERVAL) {
            self.busy_since = now;
        }
        self.gave_up = None;
        let class = class.and_then(|slot| self.guarantees.index(slot));
        self.waiting.push(Waiting { criticality, client, class, since: now, item });
        if let Some(count) = class.and_then(|index| self.by_class.get_mut(index)) {
            *count += 1;
        }
        *self.counts.entry(client).or_default() += 1;
        if self.waiting.len() <= self.plan.length {
            return None;
        }
        let gives_way = |(at, each): &(usize, &Waiting<T>)| {
            // Of equals the first, which is the oldest.
            (self.is_within_share(each), each.criticality, std::cmp::Reverse(self.of_the_same(each)), *at)
        };
        let (at, _) = self.waiting.iter().enumerate().min_by_key(gives_way)?;
        Some(self.take(at))
    }

    /// Takes out who gets the next place, where `taken` are.
    pub fn pop(&mut self, now: Duration, taken: &Taken) -> Option<(T, Option<usize>)> {
        let newest_first = self.is_overloaded(now);
        let comes_last = |(at, each): &(usize, &Waiting<T>)| {
            let order = if newest_first { self.waiting.len() - at } else { *at };
            let is_owed = taken.is_below(&self.guarantees, each.class);
            (!is_owed, std::cmp::Reverse(each.criticality), self.of_the_same(each), order)
        };
        let (at, each) = self.waiting.iter().enumerate().min_by_key(comes_last)?;
        let class = each.class;
        Some((self.take(at), class))
    }

    /// Takes out who has waited for too long.
    pub fn expire(&mut self, now: Duration) -> Vec<T> {
        let is_overloaded = self.is_overloaded(now);
        let mut expired = Vec::new();
        let mut at = 0;
        while let Some(each) = self.waiting.get(at) {
            let is_hurried = is_overloaded && each.criticality < Criticality::Critical;
            let quarter = self.plan.age / HURRY;
            let most = if is_hurried { self.hurry.map_or(quarter, |hurry| hurry.min(quarter)) } else { self.plan.age };
            if now.saturating_sub(each.since) >= most {
                expired.push(self.take(at));
                self.gave_up = Some(now);
            } else {
                at += 1;
            }
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

    /// Returns whether no more of its class wait than its share of the queue is.
    fn is_within_share(&self, each: &Waiting<T>) -> bool {
        each.class.is_some_and(|index| {
            let waiting = self.by_class.get(index).copied().unwrap_or(u32::MAX) as usize;
            waiting <= self.guarantees.places(index, self.plan.length)
        })
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
/// The part of its age that is left then to what is not critical.
const HURRY: u32 = 4;
/// Nobody is refused for having waited for less.
const LEAST_HURRY: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests;
