//! A limit that finds itself: as many requests at once as an origin answers without having them wait.
//!
//! By Little's law, what is in flight at an origin that is just busy is its throughput times the time that an answer
//! takes while nothing waits, the *quiet* time; more than that only waits. So the limit follows
//! `in flight x quiet time x TOLERANCE / time now + headroom`: it shrinks when answers take longer than they do while
//! it is quiet, and grows while it is used and they do not.
//!
//! - Times are to an answer's head, of live traffic alone, as the median and the P90 of a window of answers. Only where
//!   both are longer does anything wait: more slow pages among quick ones move one of them, and a queue moves both.
//! - A limit that is in use hides what the quiet time is: whatever waits at the origin looks like its service. So every
//!   [`CHECK`] it is lowered a little, by about a third and then further for as long as that makes answers quicker; what
//!   they take then is the quiet time, also where the origin has become slower for good. It is never lowered to a number
//!   that has nothing to do with what the origin serves, and never below its least.
//! - Failures that tell of too much (503, no answer in time, no connection) lower it too.
//! - An idle origin's limit stays: what is not used shows nothing.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::quantile::{BUCKETS, quantile_within};

/// Where the limit begins, and between which it stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The first limit.
    pub initial: u32,
    /// The least.
    pub min: u32,
    /// The most.
    pub max: u32,
}

/// What was seen since the last tick.
#[derive(Clone, Copy, Debug)]
pub struct Tick<'a> {
    /// Requests in flight at this moment.
    pub in_flight: u32,
    /// Whether somebody was refused a place, or had to wait for it.
    pub was_reached: bool,
    /// Answers by the time to their head, in the buckets of [`crate::quantile`].
    pub answers: &'a [u32; BUCKETS],
    /// Attempts that failed as they do at who has too much to do.
    pub overloads: u32,
}

/// The limit and what it goes by. One thread ticks it, about ten times a second.
#[derive(Clone, Debug)]
pub struct Gradient {
    bounds: Bounds,
    limit: f64,
    phase: Phase,
    window: Window,
    /// What answers take while nothing waits; `None` until the first window.
    quiet: Option<Times>,
    /// What they took in the last window.
    last: Option<Times>,
    /// When `quiet` was last found to be so.
    checked: Duration,
}

/// What the limit is about to do.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Grows fast until it is felt for the first time.
    Starting,
    /// Follows the gradient.
    Following,
    /// Is lowered to find the quiet time.
    Checking {
        /// From when on answers are of requests that were sent under the lowered limit.
        settled: Duration,
        /// When it is given up.
        until: Duration,
        /// The limit before.
        resume: f64,
        /// What answers took before it was lowered the last time.
        before: Times,
        /// How many times it was lowered.
        steps: u32,
    },
}

/// Answers since the last decision.
#[derive(Clone, Debug)]
struct Window {
    since: Option<Duration>,
    answers: Box<[u64; BUCKETS]>,
    overloads: u64,
    in_use: f64,
    was_reached: bool,
}

/// The median and the P90 of times to an answer's head, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Times([f64; 2]);

impl Gradient {
    /// Begins anew.
    pub fn new(bounds: Bounds) -> Self {
        let limit = f64::from(bounds.initial.max(bounds.min).min(bounds.max));
        let (window, checked) = (Window::new(), Duration::ZERO);
        Self { bounds, limit, phase: Phase::Starting, window, quiet: None, last: None, checked }
    }

    /// Sets other bounds, and keeps what is known.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
        self.bound();
    }

    /// Returns the limit.
    pub fn limit(&self) -> u32 {
        self.limit as u32
    }

    /// Returns the median that answers take while nothing waits, as far as it is known.
    pub fn quiet(&self) -> Option<Duration> {
        self.quiet.map(|Times([median, _])| Duration::from_secs_f64(median))
    }

    /// Takes what was seen since the last tick. Returns the limit.
    pub fn tick(&mut self, now: Duration, seen: &Tick<'_>) -> u32 {
        if let Phase::Checking { settled, until, resume, .. } = self.phase {
            if now >= until {
                // Too few answers: it is tried again later.
                (self.phase, self.limit, self.checked) = (Phase::Following, resume, now);
                self.window.clear();
                self.bound();
            } else if now < settled {
                self.window.clear();
                return self.limit();
            }
        }
        self.window.add(now, self.limit, seen);
        let least = self.last.map_or(SHORTEST_WINDOW, |Times([median, _])| {
            Duration::from_secs_f64(median.min(LONGEST_MEDIAN)).max(SHORTEST_WINDOW)
        });
        let many = if matches!(self.phase, Phase::Checking { .. }) { MANY_OF_A_CHECK } else { MANY };
        if let Some(window) = self.window.closed(now, least, many) {
            self.decide(now, &window);
            self.bound();
        }
        self.limit()
    }

    fn decide(&mut self, now: Duration, window: &Closed) {
        let is_near = window.was_reached || window.in_use >= self.limit * NEAR;
        let in_use = if window.was_reached { self.limit } else { window.in_use.min(self.limit) };
        if let Some(times) = window.times {
            self.last = Some(times);
            if let Phase::Checking { .. } = self.phase {
                return self.check(now, times);
            }
            match &mut self.quiet {
                Some(quiet) => quiet.fall_towards(times, window.answers),
                None => {
                    self.quiet = Some(times);
                    // What is known so far may be the time of requests that wait.
                    self.checked = now.saturating_sub(CHECK - FIRST_CHECK);
                }
            }
        } else if matches!(self.phase, Phase::Checking { .. }) {
            return;
        }
        let gradient = match (self.quiet, window.times) {
            (Some(quiet), Some(times)) => (TOLERANCE * quiet.least_of(times)).clamp(STEEPEST, GROWTH),
            _ => 1.0,
        };
        let failed = window.overload_share;
        let gradient = if failed > FEW { gradient.min(1.0 - failed / 2.0) } else { gradient };
        let headroom = (libm::sqrt(self.limit) / 2.0).max(1.0);
        if gradient < 1.0 && (is_near || gradient <= STEEP) {
            self.phase = Phase::Following;
            let most = if is_near { self.limit + headroom } else { self.limit };
            let from = if gradient <= STEEP { in_use } else { self.limit };
            self.limit = (from * gradient + headroom).max(self.limit * STEEPEST).min(most);
        } else if gradient >= 1.0 && is_near {
            let factor = if self.phase == Phase::Starting { 2.0 } else { gradient };
            self.limit = self.limit * factor + headroom;
        }
        self.bound();
        if !window.was_reached {
            // Nothing hides what answers take.
            self.checked = self.checked.max(now.saturating_sub(CHECK - FIRST_CHECK));
        } else if let (Some(quiet), Some(times)) = (self.quiet, window.times)
            && now.saturating_sub(self.checked) >= CHECK
        {
            let waits = quiet.least_of(times).min(1.0);
            self.lower(now, (self.limit, in_use * (waits * BELOW).max(LOWEST)), times, 1);
        }
    }

    /// Lowers the limit, to see whether answers become quicker.
    fn lower(&mut self, now: Duration, (resume, limit): (f64, f64), before: Times, steps: u32) {
        let settle = Duration::from_secs_f64(before.0[1].clamp(0.05, LONGEST_MEDIAN));
        let settled = now + settle;
        let until = settled + settle * 4 + LONGEST_CHECK;
        (self.limit, self.phase) = (limit, Phase::Checking { settled, until, resume, before, steps });
        self.window.clear();
    }

    /// Takes what answers take under a lowered limit.
    fn check(&mut self, now: Duration, times: Times) {
        let Phase::Checking { resume, before, steps, .. } = self.phase else { return };
        // As quick as is known: there is nothing to find out.
        let is_known = self.quiet.is_some_and(|quiet| AS_KNOWN.contains(&times.over(quiet)));
        let quicker = times.over(before) < NOTABLE;
        if quicker && !is_known && steps < MOST_STEPS && self.limit > f64::from(self.bounds.min) {
            return self.lower(now, (resume, self.limit * FURTHER), times, steps + 1);
        }
        self.quiet = Some(times);
        self.phase = Phase::Following;
        // What was not known is looked at again soon: it may still be the time of requests that wait.
        self.checked = if is_known { now } else { now.saturating_sub(CHECK - CHECK_AGAIN) };
        // A right limit takes a step or two. One that took more was too much.
        if steps > STEPS_OF_A_RIGHT_ONE {
            self.limit = resume.min(self.limit / FURTHER / FURTHER);
        } else {
            self.limit = resume;
        }
    }

    fn bound(&mut self) {
        let (min, max) = (f64::from(self.bounds.min), f64::from(self.bounds.max));
        self.limit = self.limit.max(min).min(max);
    }
}

/// What a window has shown.
struct Closed {
    times: Option<Times>,
    answers: u64,
    overload_share: f64,
    in_use: f64,
    was_reached: bool,
}

impl Window {
    fn new() -> Self {
        Self { since: None, answers: Box::new([0; BUCKETS]), overloads: 0, in_use: 0.0, was_reached: false }
    }

    fn clear(&mut self) {
        self.answers.fill(0);
        (self.since, self.overloads, self.in_use, self.was_reached) = (None, 0, 0.0, false);
    }

    fn add(&mut self, now: Duration, limit: f64, seen: &Tick<'_>) {
        self.since.get_or_insert(now);
        for (sum, count) in self.answers.iter_mut().zip(seen.answers) {
            *sum += u64::from(*count);
        }
        self.overloads += u64::from(seen.overloads);
        self.in_use = self.in_use.max(f64::from(seen.in_flight).min(limit));
        self.was_reached |= seen.was_reached;
    }

    /// Ends the window once it says enough.
    fn closed(&mut self, now: Duration, least: Duration, many: u64) -> Option<Closed> {
        let lasted = now.saturating_sub(self.since?);
        let answers: u64 = self.answers.iter().sum();
        let all = answers + self.overloads;
        let is_enough = lasted >= least && all >= many || lasted >= least.max(SLOW_WINDOW) && all >= ENOUGH;
        if !is_enough {
            if lasted >= LONGEST_WINDOW {
                self.clear();
            }
            return None;
        }
        let time = |q| quantile_within(&self.answers, q);
        let times = (answers >= ENOUGH).then(|| Some(Times([time(0.5)?, time(0.9)?]))).flatten();
        let overload_share = self.overloads as f64 / all.max(1) as f64;
        let closed = Closed { times, answers, overload_share, in_use: self.in_use, was_reached: self.was_reached };
        self.clear();
        Some(closed)
    }
}

impl Times {
    /// Returns the share of `other` that this is, by the quantile where it is the larger one.
    fn least_of(self, other: Times) -> f64 {
        let share = |at: usize| self.0[at] / other.0[at].max(f64::MIN_POSITIVE);
        share(0).max(share(1))
    }

    /// Returns how many times `other` this is, over both quantiles.
    fn over(self, other: Times) -> f64 {
        libm::sqrt(self.0[0] / other.0[0] * (self.0[1] / other.0[1]))
    }

    /// Takes quicker answers into account, by how many they are.
    fn fall_towards(&mut self, times: Times, answers: u64) {
        let weight = (answers as f64 / PLENTY).min(1.0);
        for (mine, theirs) in self.0.iter_mut().zip(times.0) {
            *mine += (theirs - *mine).min(0.0) * weight;
        }
    }
}

/// How much longer answers may take than while it is quiet: the noise of a window, and a queue that keeps the origin
/// busy.
const TOLERANCE: f64 = 1.3;
/// What one window may change it by.
const STEEPEST: f64 = 0.5;
const GROWTH: f64 = 1.1;
/// Down to this a gradient may be noise where the limit is not in use; below it, what is in use counts and not the limit.
const STEEP: f64 = 0.7;
/// From this share of it on a limit is in use. It is below the mark from which a region spills, so that it grows before.
const NEAR: f64 = 0.6;
/// Fewer failures than this share show nothing.
const FEW: f64 = 0.05;

/// How often the quiet time is looked for under a limit that is in use; how soon for the first time, and after it was found
/// to be another.
const CHECK: Duration = Duration::from_secs(10);
const FIRST_CHECK: Duration = Duration::from_secs(1);
const CHECK_AGAIN: Duration = Duration::from_secs(2);
/// The limit for it: somewhat less than what would be in flight if nothing waited, and of what is in flight at least so
/// much.
const BELOW: f64 = 0.7;
const LOWEST: f64 = 0.5;
/// What answers take then, by what they took in quiet before, within the noise of a window.
const AS_KNOWN: RangeInclusive<f64> = 0.85..=1.15;
/// How much further it is lowered each time that it made answers quicker by this.
const FURTHER: f64 = 0.7;
const NOTABLE: f64 = 0.9;
const MOST_STEPS: u32 = 12;
const STEPS_OF_A_RIGHT_ONE: u32 = 2;
/// How long one step may take, beside what answers take.
const LONGEST_CHECK: Duration = Duration::from_secs(2);

/// A window lasts as long as this and the median, and until it has many answers; or longer, with enough.
const SHORTEST_WINDOW: Duration = Duration::from_millis(100);
const MANY: u64 = 50;
/// A check asks more than whether it goes up or down.
const MANY_OF_A_CHECK: u64 = 150;
const SLOW_WINDOW: Duration = Duration::from_secs(1);
const ENOUGH: u64 = 10;
/// What came longer ago says nothing of now.
const LONGEST_WINDOW: Duration = Duration::from_secs(10);
/// The longest median that a window waits for, in seconds.
const LONGEST_MEDIAN: f64 = 5.0;
/// So many quicker answers are believed at once.
const PLENTY: f64 = 200.0;

#[cfg(test)]
mod tests;
