//! A limit that finds itself: as many requests at once as an origin answers without having them wait.
//!
//! By Little's law, what is in flight at an origin that is just busy is its throughput times the time that an answer
//! takes while nothing waits, the *quiet* time; more than that only waits. So the limit follows
//! `in flight x quiet time x TOLERANCE / time now + headroom`: it shrinks when answers take longer than they do while
//! it is quiet, and grows while it is used and they do not.
//!
//! - Times are to an answer's head, of live traffic alone, as the median and the P90 of a window of answers. Only where
//!   both are longer does anything wait: more slow pages among quick ones move one of them, and a queue moves both.
//! - Where nobody is turned away, slower answers are the origin's own: the limit stays above what is in use, and what such
//!   answers take is soon taken for what they take without a queue. Where few are, it shrinks by less.
//! - Quicker answers are believed within seconds, and slower ones only of a limit that is not in use: a flood of a cache's
//!   answers is not what all others are measured by.
//! - A limit that is in use hides what the quiet time is: whatever waits at the origin looks like its service. So every
//!   `CHECK`, or later where a check takes long, it is lowered, by about a third to a half of what is in use, and then
//!   further for as long as that makes answers quicker; what they take then is the quiet time, also where the origin has
//!   become slower for good. It counts once all that were sent before are answered. A check is given up where too few
//!   answers come, and ends where the origin fails all the same; where answers take so long that it would be, none begins.
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
    /// How many were refused a place, or had to wait for it.
    pub turned_away: u32,
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
    /// What answers took while the limit kept nobody waiting, or what `quiet` was last found to be.
    unhindered: Option<Times>,
    /// What they took in the last window.
    last: Option<Times>,
    /// How many checks may still take `quiet` for known.
    trust: u32,
    /// From when on `quiet` is looked for again.
    next_check: Duration,
    /// Whether it was in use in the last window: the answers of a short one may be of requests that were sent before.
    was_near: bool,
}

/// What the limit is about to do.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Grows fast, once it is in use, until it is felt for the first time.
    Starting,
    /// Follows the gradient.
    Following,
    /// Is lowered to find the quiet time.
    Checking(Check),
}

/// A limit that is lowered for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Check {
    /// When it began, and when it is given up.
    begun: Duration,
    until: Duration,
    /// Since when no more is in flight than it lets be, and how many were answered since.
    low_since: Option<Duration>,
    answers: u64,
    /// The limit before.
    resume: f64,
    /// What answers took before it was lowered the last time.
    before: Times,
    /// How many times it was lowered.
    steps: u32,
}

/// Answers since the last decision.
#[derive(Clone, Debug)]
struct Window {
    since: Option<Duration>,
    answers: Box<[u64; BUCKETS]>,
    overloads: u64,
    in_use: f64,
    turned_away: u64,
}

/// The median and the P90 of times to an answer's head, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Times([f64; 2]);

impl Gradient {
    /// Begins anew.
    pub fn new(bounds: Bounds) -> Self {
        let limit = f64::from(bounds.initial.max(bounds.min).min(bounds.max));
        let (phase, window, next_check) = (Phase::Starting, Window::new(), CHECK);
        Self {
            bounds,
            limit,
            phase,
            window,
            quiet: None,
            unhindered: None,
            last: None,
            trust: 0,
            next_check,
            was_near: false,
        }
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
        if let Phase::Checking(check) = &mut self.phase {
            check.observe(now, self.limit, seen);
            if now >= check.until {
                // It says nothing: it is tried again later.
                let check = *check;
                self.end_check(now, &check, check.resume, CHECK);
            } else if !check.has_settled(now, self.limit) {
                return self.limit();
            }
        }
        self.window.add(now, self.limit, seen);
        let median = self.last.map_or(Duration::ZERO, Times::median);
        let many = if matches!(self.phase, Phase::Checking(_)) { OF_A_CHECK } else { OF_A_WINDOW };
        if let Some(window) = self.window.closed(now, median, many) {
            self.decide(now, &window);
            self.bound();
        }
        self.limit()
    }

    fn decide(&mut self, now: Duration, window: &Closed) {
        let was_reached = window.turned_away_share > 0.0;
        let is_near = was_reached || window.in_use >= self.limit * NEAR;
        let in_use = if was_reached { self.limit } else { window.in_use.min(self.limit) };
        let failed = window.overload_share;
        if let Phase::Checking(check) = self.phase {
            if failed > FEW {
                // It has too much to do even so: that is what to go by.
                self.end_check(now, &check, self.limit, CHECK);
            } else {
                return window.times.map_or((), |times| self.check(now, &check, times));
            }
        }
        if let Some(times) = window.times {
            self.last = Some(times);
            self.learn(now, times, window, is_near);
        }
        let gradient_from = |quiet: Option<Times>| match (quiet, window.times) {
            (Some(quiet), Some(times)) => (TOLERANCE * quiet.least_of(times)).clamp(STEEPEST, GROWTH),
            _ => 1.0,
        };
        // Few that are turned away tell little.
        let certainty = if was_reached { (window.turned_away_share / FEW).min(1.0) } else { 1.0 };
        let slower = 1.0 - (1.0 - gradient_from(self.unhindered)).max(0.0) * certainty;
        let growth = gradient_from(self.quiet);
        let gradient = if slower < 1.0 { slower } else { growth.max(1.0) };
        let fails = failed > FEW;
        let gradient = if fails { gradient.min(1.0 - failed / 2.0) } else { gradient };
        let headroom = (libm::sqrt(self.limit) / 2.0).max(1.0);
        if gradient < 1.0 && (is_near || gradient <= STEEP) {
            self.phase = Phase::Following;
            let most = if is_near { self.limit + headroom } else { self.limit };
            let from = if gradient <= STEEP { in_use } else { self.limit };
            // What it keeps nobody from does not wait for want of a lower one.
            let least = if was_reached || fails { 0.0 } else { (in_use / NEAR).min(self.limit) };
            self.limit = (from * gradient + headroom).max(self.limit * STEEPEST).max(least).min(most);
        } else if growth >= 1.0 && gradient >= 1.0 && is_near && (self.was_near || window.lasted >= SLOW_WINDOW) {
            let factor = if self.phase == Phase::Starting { 2.0 } else { gradient };
            self.limit = self.limit * factor + headroom;
        }
        self.was_near = is_near;
        self.bound();
        if !was_reached && self.trust > 0 {
            // Nothing hides what answers take.
            self.next_check = self.next_check.max(now + FIRST_CHECK);
        }
        if let (Some(quiet), Some(times)) = (self.quiet, window.times)
            && was_reached
            && now >= self.next_check
        {
            let waits = quiet.least_of(times).min(1.0);
            let limit = in_use * (waits * BELOW).max(LOWEST);
            // Where answers are so slow that a check would be given up, none begins.
            let needs = times.p90() * 2 + times.median().mul_f64(OF_A_CHECK.1 as f64 / limit.max(1.0));
            if needs < LONGEST_CHECK {
                let resume = self.limit;
                let check =
                    Check { begun: now, until: now, low_since: None, answers: 0, resume, before: times, steps: 1 };
                self.lower(limit, check);
            }
        }
    }

    /// Takes what answers take in a window of the limit as it is.
    fn learn(&mut self, now: Duration, times: Times, window: &Closed, is_near: bool) {
        let known = (window.answers as f64 / PLENTY).min(1.0);
        let share = |of: Duration| (window.lasted.as_secs_f64() / of.as_secs_f64()).min(known);
        let (Some(quiet), Some(unhindered)) = (&mut self.quiet, &mut self.unhindered) else {
            (self.quiet, self.unhindered) = (Some(times), Some(times));
            // What is known so far may be the time of requests that wait.
            self.next_check = now + FIRST_CHECK;
            return;
        };
        if times.over(*quiet) < DOUBTFUL {
            self.trust = 0;
        }
        if self.trust == 0 || times.over(*quiet) < *AS_KNOWN.start() {
            quiet.fall_towards(times, share(FALL));
        }
        unhindered.fall_towards(times, share(FALL));
        if window.turned_away_share == 0.0 {
            unhindered.rise_towards(times, share(RISE));
        }
        if !is_near {
            quiet.rise_towards(times, share(SLOW_RISE));
        }
    }

    /// Lowers the limit, to see whether answers become quicker.
    fn lower(&mut self, limit: f64, mut check: Check) {
        let longest = (SHORT_CHECK + check.before.p90() * CHECK_TIMES).min(LONGEST_CHECK);
        check.until = check.until.max(check.begun + longest);
        (self.limit, self.phase) = (limit, Phase::Checking(check));
        self.window.clear();
    }

    /// Takes what answers take under a lowered limit.
    fn check(&mut self, now: Duration, check: &Check, times: Times) {
        self.last = Some(times);
        let over = times.over(check.before);
        // As quick as is known: there is nothing to find out.
        let is_known = self.trust > 0 && self.quiet.is_some_and(|quiet| AS_KNOWN.contains(&times.over(quiet)));
        let is_least = check.steps >= MOST_STEPS || self.limit <= f64::from(self.bounds.min);
        // Where they are slower, more was about to wait than was seen before; and what is new must be seen twice.
        let is_new = check.steps == 1 && self.quiet.is_some_and(|quiet| times.over(quiet) > *AS_KNOWN.end());
        if (!(NOTABLE..=SLOWER).contains(&over) || is_new) && !is_known && !is_least {
            let next = Check { low_since: None, answers: 0, before: times, steps: check.steps + 1, ..*check };
            return self.lower(self.limit * FURTHER, next);
        }
        self.trust = if is_known { self.trust - 1 } else { TRUST };
        (self.quiet, self.unhindered) = (Some(times), Some(times));
        // A right limit takes a step or two. One that took more was too much.
        let is_right = check.steps <= STEPS_OF_A_RIGHT_ONE;
        let limit = if is_right { check.resume } else { check.resume.min(self.limit / FURTHER / FURTHER) };
        // What was not known is looked at again soon: it may still be the time of requests that wait.
        self.end_check(now, check, limit, if is_known { CHECK } else { CHECK_AGAIN });
    }

    /// Goes on with a limit; the next check is `pause` later at the earliest, and the later the longer this one took.
    fn end_check(&mut self, now: Duration, check: &Check, limit: f64, pause: Duration) {
        let took = now.saturating_sub(check.begun);
        let least = if pause < CHECK { took / 4 } else { took * FEW_CHECKS };
        (self.phase, self.limit, self.next_check) = (Phase::Following, limit, now + pause.max(least));
        self.window.clear();
        self.bound();
    }

    fn bound(&mut self) {
        let (min, max) = (f64::from(self.bounds.min), f64::from(self.bounds.max));
        self.limit = self.limit.max(min).min(max);
    }
}

impl Check {
    fn observe(&mut self, now: Duration, limit: f64, seen: &Tick<'_>) {
        if seen.in_flight > limit as u32 {
            (self.low_since, self.answers) = (None, 0);
        } else if self.low_since.is_none() {
            self.low_since = Some(now);
        } else {
            self.answers += seen.answers.iter().map(|count| u64::from(*count)).sum::<u64>();
        }
    }

    /// Returns whether answers are of requests that were sent under the lowered limit: for a whole P90 of the time before,
    /// no more was in flight, and as many were answered.
    fn has_settled(&self, now: Duration, limit: f64) -> bool {
        let settle = self.before.p90().max(SHORTEST_SETTLE);
        self.answers as f64 >= limit && self.low_since.is_some_and(|since| now.saturating_sub(since) >= settle)
    }
}

/// What a window has shown.
struct Closed {
    lasted: Duration,
    times: Option<Times>,
    answers: u64,
    overload_share: f64,
    in_use: f64,
    turned_away_share: f64,
}

impl Window {
    fn new() -> Self {
        Self { since: None, answers: Box::new([0; BUCKETS]), overloads: 0, in_use: 0.0, turned_away: 0 }
    }

    fn clear(&mut self) {
        self.answers.fill(0);
        (self.since, self.overloads, self.in_use, self.turned_away) = (None, 0, 0.0, 0);
    }

    fn add(&mut self, now: Duration, limit: f64, seen: &Tick<'_>) {
        self.since.get_or_insert(now);
        for (sum, count) in self.answers.iter_mut().zip(seen.answers) {
            *sum += u64::from(*count);
        }
        self.overloads += u64::from(seen.overloads);
        self.in_use = self.in_use.max(f64::from(seen.in_flight).min(limit));
        self.turned_away += u64::from(seen.turned_away);
    }

    /// Ends the window once it says enough.
    fn closed(&mut self, now: Duration, median: Duration, (many, enough): (u64, u64)) -> Option<Closed> {
        let least = median.clamp(SHORTEST_WINDOW, LONGEST_MEDIAN);
        let lasted = now.saturating_sub(self.since?);
        let answers: u64 = self.answers.iter().sum();
        let all = answers + self.overloads;
        let is_enough = lasted >= least && all >= many || lasted >= least.max(SLOW_WINDOW) && all >= enough;
        if !is_enough {
            if lasted >= least * 2 + LONGEST_WINDOW && enough == ENOUGH {
                self.clear();
            }
            return None;
        }
        let time = |q| quantile_within(&self.answers, q);
        let times = (answers >= ENOUGH).then(|| Some(Times([time(0.5)?, time(0.9)?]))).flatten();
        let overload_share = self.overloads as f64 / all.max(1) as f64;
        let turned_away_share = self.turned_away as f64 / (all + self.turned_away).max(1) as f64;
        let closed = Closed { lasted, times, answers, overload_share, in_use: self.in_use, turned_away_share };
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

    fn median(self) -> Duration {
        Duration::try_from_secs_f64(self.0[0]).unwrap_or(LONGEST_CHECK)
    }

    fn p90(self) -> Duration {
        Duration::try_from_secs_f64(self.0[1]).unwrap_or(LONGEST_CHECK)
    }

    /// Takes quicker answers into account, by a share of how much quicker they are.
    fn fall_towards(&mut self, times: Times, share: f64) {
        for (mine, theirs) in self.0.iter_mut().zip(times.0) {
            *mine += (theirs - *mine).min(0.0) * share;
        }
    }

    /// Takes slower answers into account, by a share of how much slower they are.
    fn rise_towards(&mut self, times: Times, share: f64) {
        for (mine, theirs) in self.0.iter_mut().zip(times.0) {
            *mine += (theirs - *mine).max(0.0) * share;
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
/// Past this they are slower, beyond the noise.
const SLOWER: f64 = 1.3;
/// Much quicker answers than are known may be those of a cache: what is known is looked at again as soon as it matters.
const DOUBTFUL: f64 = 0.7;
/// How many checks in a row end as soon as answers are as quick as is known; the next one looks whether they become quicker.
const TRUST: u32 = 4;
const MOST_STEPS: u32 = 12;
const STEPS_OF_A_RIGHT_ONE: u32 = 3;
/// How long a step waits at least; how long a check may take, beside so many times what answers take, and at most; and how
/// many times as long as it took there is none after it.
const SHORTEST_SETTLE: Duration = Duration::from_millis(50);
const SHORT_CHECK: Duration = Duration::from_secs(10);
const CHECK_TIMES: u32 = 10;
const LONGEST_CHECK: Duration = Duration::from_secs(120);
const FEW_CHECKS: u32 = 5;

/// How soon quicker answers are believed, which may be those of a cache, and slower ones: of a limit that keeps nobody
/// waiting, and for growth, of one that is not in use.
/// So many answers are believed as far as that lets them be.
const PLENTY: f64 = 200.0;
const FALL: Duration = Duration::from_secs(3);
const RISE: Duration = Duration::from_secs(3);
const SLOW_RISE: Duration = Duration::from_secs(10);

/// A window lasts as long as this and the median, and until it has many answers; or longer, with enough.
const SHORTEST_WINDOW: Duration = Duration::from_millis(100);
const OF_A_WINDOW: (u64, u64) = (50, ENOUGH);
/// A check asks more than whether it goes up or down.
const OF_A_CHECK: (u64, u64) = (150, 80);
const SLOW_WINDOW: Duration = Duration::from_secs(1);
const ENOUGH: u64 = 10;
/// What came longer ago says nothing of now.
const LONGEST_WINDOW: Duration = Duration::from_secs(10);
/// The longest median that a window waits for.
const LONGEST_MEDIAN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
