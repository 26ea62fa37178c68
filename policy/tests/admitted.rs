//! What those wait that are admitted under overload: a limit that finds itself with its queue, as a node has them, beside an
//! origin in virtual time that serves so many at once and has the others wait in its own queue.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use policy::concurrency::{Bounds, Gradient, Queue, QueuePlan, Request, Taken, Tick};
use policy::pressure::Criticality;
use policy::quantile::{BUCKETS, bucket};

/// A generator of numbers that are the same each time (xorshift).
struct Random(u64);

impl Random {
    fn share(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The pause before the next of so many a second, in microseconds.
    fn pause(&mut self, rate: f64) -> u64 {
        (-libm::log(1.0 - self.share()) * 1e6 / rate) as u64 + 1
    }
}

#[derive(Clone, Copy)]
struct Asked {
    at: u64,
    sent: u64,
    criticality: Criticality,
}

/// A node and its origin. All times are in microseconds.
struct World {
    random: Random,
    now: u64,
    gradient: Gradient,
    limit: usize,
    queue: Queue<Asked>,
    in_flight: usize,
    /// Of the places, for critical requests.
    kept: usize,
    turned_away: u32,
    heads: [u32; BUCKETS],
    served: BTreeMap<(u64, u64), Asked>,
    waiting: VecDeque<Asked>,
    begun: u64,
    /// When those came that were answered, how critical they were, and what they took.
    answered: Vec<(u64, Criticality, u64)>,
    refused: Vec<Criticality>,
}

impl World {
    fn new(seed: u64) -> Self {
        Self::bounded(seed, Bounds { initial: 20, min: 1, max: 10_000 })
    }

    fn bounded(seed: u64, bounds: Bounds) -> Self {
        let gradient = Gradient::new(bounds);
        Self {
            random: Random(seed | 1),
            now: 0,
            limit: gradient.limit() as usize,
            gradient,
            queue: Queue::new(QueuePlan { length: 128, age: Duration::from_secs(1) }),
            in_flight: 0,
            kept: 0,
            turned_away: 0,
            heads: [0; BUCKETS],
            served: BTreeMap::new(),
            waiting: VecDeque::new(),
            begun: 0,
            answered: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// Lets so much time pass, with so many critical and other requests a second.
    fn run(&mut self, lasts: Duration, critical: f64, other: f64) {
        let end = self.now + lasts.as_micros() as u64;
        let mut next_tick = self.now + TICK;
        let mut next = [self.now + self.random.pause(critical), self.now + self.random.pause(other)];
        while self.now < end {
            let first_done = self.served.first_key_value().map_or(u64::MAX, |((at, _), _)| *at);
            self.now = first_done.min(next_tick).min(next[0]).min(next[1]);
            if self.now == first_done {
                self.finish();
            } else if self.now == next_tick {
                next_tick += TICK;
                self.tick();
            } else if self.now == next[0] {
                self.arrive(Criticality::Critical);
                next[0] = self.now + self.random.pause(critical);
            } else {
                self.arrive(Criticality::Default);
                next[1] = self.now + self.random.pause(other);
            }
        }
    }

    fn arrive(&mut self, criticality: Criticality) {
        let asked = Asked { at: self.now, sent: 0, criticality };
        let is_critical = criticality == Criticality::Critical;
        let kept = if is_critical { 0 } else { self.kept };
        let passes =
            self.queue.is_empty() || is_critical && self.queue.lets_critical_pass(at(self.now), &Taken::default());
        if passes && self.in_flight + kept < self.limit {
            return self.send(asked);
        }
        self.turned_away += 1;
        let client = (self.random.share() * 1e9) as u64;
        let gives_way = self.queue.push(at(self.now), Request { criticality, client, class: None }, asked);
        self.refused.extend(gives_way.map(|asked| asked.criticality));
        self.hand_out();
    }

    /// As the node's limiter does.
    fn hand_out(&mut self) {
        let (now, none) = (at(self.now), Taken::default());
        while !self.queue.is_empty() && self.in_flight + self.queue.spare(now, self.limit, &none) < self.limit {
            let Some((asked, _)) = self.queue.pop(now, &none) else { break };
            self.send(asked);
        }
        self.refused.extend(self.queue.expire(now, &none).into_iter().map(|asked| asked.criticality));
        self.kept = self.queue.kept(now, self.limit);
    }

    fn send(&mut self, asked: Asked) {
        self.in_flight += 1;
        self.waiting.push_back(Asked { sent: self.now, ..asked });
        self.serve();
    }

    fn serve(&mut self) {
        if self.served.len() < SERVERS
            && let Some(asked) = self.waiting.pop_front()
        {
            self.begun += 1;
            self.served.insert((self.now + SERVICE, self.begun), asked);
        }
    }

    fn finish(&mut self) {
        let (_, asked) = self.served.pop_first().expect("one is served");
        self.in_flight -= 1;
        self.heads[bucket(at(self.now - asked.sent))] += 1;
        self.answered.push((asked.at, asked.criticality, self.now - asked.at));
        self.serve();
        self.hand_out();
    }

    fn tick(&mut self) {
        let in_flight = self.in_flight as u32;
        let seen = Tick { in_flight, turned_away: self.turned_away, answers: &self.heads, overloads: 0 };
        self.limit = self.gradient.tick(at(self.now), &seen) as usize;
        (self.heads, self.turned_away) = ([0; BUCKETS], 0);
        self.queue.set_hurry(self.gradient.quiet().map(|quiet| quiet / 2));
        self.hand_out();
    }

    /// Returns what all but one in a hundred took at most, of those that came from then on, in milliseconds.
    fn p99(&self, of: Criticality, from: u64) -> f64 {
        let those = self.answered.iter().filter(|(came, criticality, _)| *came >= from && *criticality == of);
        let mut took: Vec<u64> = those.map(|(_, _, took)| *took).collect();
        took.sort_unstable();
        took[took.len() * 99 / 100] as f64 / 1e3
    }
}

fn at(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

const TICK: u64 = 100_000;
const SERVERS: usize = 8;
const SERVICE: u64 = 50_000;
/// What the origin serves a second.
const CAPACITY: f64 = SERVERS as f64 * 1e6 / SERVICE as f64;

/// From a quiet while into three and ten times what the origin serves: P99 stays within twice that of the quiet while, on
/// average over several courses of it, of the critical and of whoever else is admitted.
#[test]
fn who_is_admitted_waits_no_more_than_twice_as_long() {
    for times in [3.0, 10.0] {
        let (mut quiet, mut critical, mut other, mut served) = (0.0, 0.0, 0.0, 0.0);
        const COURSES: u64 = 12;
        for seed in 1..=COURSES {
            let mut world = World::new(seed * 7919);
            world.run(Duration::from_secs(6), CAPACITY / 4.0, CAPACITY / 4.0);
            quiet += world.p99(Criticality::Critical, 0);
            let (begins, before) = (world.now, world.answered.len());
            world.run(Duration::from_secs(12), CAPACITY / 4.0, CAPACITY * (times - 0.25));
            critical += world.p99(Criticality::Critical, begins);
            other += world.p99(Criticality::Default, begins);
            served += (world.answered.len() - before) as f64 / 12.0;
            assert!(!world.refused.contains(&Criticality::Critical), "{seed}");
        }
        let what = format!("{times} times: critical {critical}, other {other}, quiet {quiet}, served {served}");
        assert!(critical <= 2.0 * quiet && other <= 2.0 * quiet, "{what}");
        assert!(served / COURSES as f64 >= 0.9 * CAPACITY, "{what}");
    }
}

/// What is spared for the critical is part of the limit: where that cannot grow, it is missing. So nothing is spared where
/// none come, and all places are used for whoever does.
#[test]
fn nothing_is_spared_for_critical_requests_that_do_not_come() {
    for (max, initial) in [(5, 5), (8, 8), (10_000, 20)] {
        let mut world = World::bounded(5, Bounds { initial, min: 1, max });
        world.run(Duration::from_secs(20), NONE, CAPACITY * 3.0);
        let before = world.answered.len();
        world.run(Duration::from_secs(60), NONE, CAPACITY * 3.0);
        let served = (world.answered.len() - before) as f64 / 60.0;
        let most = CAPACITY * f64::from(max.min(SERVERS as u32)) / SERVERS as f64;
        // A check of what is quiet lowers the limit.
        assert!(served >= 0.9 * most, "{served} of {most}");
    }
}

/// A burst on a calm node waits for the first places to come back, and the next, and nobody of it is refused.
#[test]
fn a_burst_after_calm_is_served() {
    let mut world = World::bounded(3, Bounds { initial: 8, min: 8, max: 8 });
    world.run(Duration::from_secs(20), NONE, CAPACITY / 4.0);
    world.run(Duration::from_secs(2), NONE, NONE);
    assert!(world.gradient.quiet().is_some_and(|quiet| quiet > Duration::from_millis(40)), "it is known");
    assert_eq!((world.in_flight, world.refused.len()), (0, 0));
    for _ in 0..2 * SERVERS {
        world.arrive(Criticality::Default);
    }
    world.run(Duration::from_secs(1), NONE, NONE);
    assert_eq!((world.in_flight, world.refused.len()), (0, 0));
}

/// Requests a second that are none.
const NONE: f64 = 1e-9;
