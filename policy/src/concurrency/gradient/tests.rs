//! The limit beside a simulated origin, in virtual time: so many are served at once, the others wait in its queue.

use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::quantile::bucket;
use proptest::prelude::*;

/// How long the origin works on a request, in microseconds.
type Service = fn(&mut Random) -> f64;

/// A generator of numbers that are the same each time (xorshift).
struct Random(u64);

impl Random {
    fn share(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -libm::log(1.0 - self.share()) * mean
    }
}

/// An origin, a node that limits what it sends there, and clients that come whether or not they are served.
struct World {
    random: Random,
    now: u64,
    limiter: Gradient,
    service: Service,
    /// How many the origin serves at once, and how many times as long it takes for each.
    servers: usize,
    slower: f64,
    /// Requests a second that come.
    rate: f64,
    next: u64,
    /// When who is served will be done, and since when it is there.
    served: BTreeMap<(u64, u64), u64>,
    waiting: VecDeque<u64>,
    arrivals: u64,
    answers: [u32; BUCKETS],
    turned_away: u32,
    next_tick: u64,
    done: u64,
    refused: u64,
    longest: u64,
    took: Vec<u64>,
    limits: Vec<u32>,
}

impl World {
    fn new(seed: u64, bounds: Bounds, servers: usize, service: Service) -> Self {
        Self {
            random: Random(seed | 1),
            now: 0,
            limiter: Gradient::new(bounds),
            service,
            servers,
            slower: 1.0,
            rate: 0.0,
            next: u64::MAX,
            served: BTreeMap::new(),
            waiting: VecDeque::new(),
            arrivals: 0,
            answers: [0; BUCKETS],
            turned_away: 0,
            next_tick: TICK,
            done: 0,
            refused: 0,
            longest: 0,
            took: Vec::new(),
            limits: Vec::new(),
        }
    }

    /// Lets so many seconds pass with so many requests a second; answers a second.
    fn run(&mut self, seconds: u64, rate: f64) -> f64 {
        self.rate = rate;
        self.next = self.now + self.gap();
        (self.done, self.refused, self.longest) = (0, 0, 0);
        self.limits.clear();
        self.took.clear();
        let end = self.now + seconds * 1_000_000;
        loop {
            let first_done = self.served.first_key_value().map_or(u64::MAX, |((at, _), _)| *at);
            self.now = self.next.min(first_done).min(self.next_tick);
            if self.now >= end {
                self.now = end;
                return self.done as f64 / seconds as f64;
            }
            if self.now == first_done {
                self.finish();
            } else if self.now == self.next {
                self.arrive();
                self.next = self.now + self.gap();
            } else {
                self.tick();
            }
        }
    }

    fn gap(&mut self) -> u64 {
        if self.rate == 0.0 { u64::MAX / 4 } else { self.random.exponential(1e6 / self.rate) as u64 + 1 }
    }

    fn in_flight(&self) -> usize {
        self.served.len() + self.waiting.len()
    }

    fn arrive(&mut self) {
        self.arrivals += 1;
        if self.in_flight() >= self.limiter.limit() as usize {
            self.refused += 1;
            self.turned_away += 1;
        } else if self.served.len() < self.servers {
            self.serve(self.now);
        } else {
            self.waiting.push_back(self.now);
        }
    }

    fn serve(&mut self, since: u64) {
        let takes = ((self.service)(&mut self.random) * self.slower) as u64 + 1;
        self.arrivals += 1;
        self.served.insert((self.now + takes, self.arrivals), since);
    }

    fn finish(&mut self) {
        let ((_, _), since) = self.served.pop_first().expect("one is served");
        let took = self.now - since;
        self.longest = self.longest.max(took);
        self.took.push(took);
        self.done += 1;
        self.answers[bucket(Duration::from_micros(took))] += 1;
        if let Some(since) = self.waiting.pop_front() {
            self.serve(since);
        }
    }

    fn tick(&mut self) {
        self.next_tick += TICK;
        let in_flight = self.in_flight() as u32;
        let seen = Tick { in_flight, turned_away: self.turned_away, answers: &self.answers, overloads: 0 };
        self.limits.push(self.limiter.tick(Duration::from_micros(self.now), &seen));
        self.answers.fill(0);
        self.turned_away = 0;
    }

    /// Returns what all but one in a hundred took at most.
    fn p99(&mut self) -> u64 {
        self.took.sort_unstable();
        self.took[self.took.len() * 99 / 100]
    }

    fn mean_limit(&self) -> f64 {
        self.limits.iter().map(|limit| f64::from(*limit)).sum::<f64>() / self.limits.len().max(1) as f64
    }
}

const TICK: u64 = 100_000;
const WIDE: Bounds = Bounds { initial: 32, min: 3, max: 10_000 };

fn even(_: &mut Random) -> f64 {
    50_000.0
}

fn exponential(random: &mut Random) -> f64 {
    random.exponential(50_000.0)
}

/// Most are quick, some are not: a Pareto of shape 1.5, cut off.
fn heavy(random: &mut Random) -> f64 {
    (20_000.0 / libm::pow(1.0 - random.share(), 1.0 / 1.5)).min(5e6)
}

/// A cache before slow pages.
fn bimodal(random: &mut Random) -> f64 {
    if random.share() < 0.7 { 2_000.0 } else { 150_000.0 }
}

const SERVICES: [(&str, Service); 4] =
    [("even", even), ("exponential", exponential), ("heavy", heavy), ("bimodal", bimodal)];

fn mean(service: Service) -> f64 {
    let mut random = Random(99);
    (0..100_000).map(|_| service(&mut random)).sum::<f64>() / 100_000.0
}

/// Returns how much an origin of so many servers answers in a second.
fn capacity(servers: usize, service: Service) -> f64 {
    servers as f64 * 1e6 / mean(service)
}

#[test]
fn under_overload_it_settles_at_about_what_is_served_at_once() {
    for (name, service) in SERVICES {
        for servers in [4, 16, 64] {
            for times in [3.0, 10.0] {
                let capacity = capacity(servers, service);
                // What the same origin answers when it is never without work.
                let most = servers as u32 * 10;
                let mut busy = World::new(7, Bounds { initial: most, min: most, max: most }, servers, service);
                busy.run(10, capacity * 0.5);
                let peak = busy.run(60, capacity * times);
                let mut world = World::new(7, WIDE, servers, service);
                world.run(5, capacity * 0.5);
                world.run(5, capacity * times);
                let rate = world.run(60, capacity * times);
                let limit = world.mean_limit();
                let case = format!("{name}, {servers} servers, {times} times: {rate:.0} of {peak:.0}/s at {limit:.0}");
                assert!(rate >= peak * 0.88, "{case}");
                assert!(limit <= servers as f64 * 2.5 + 4.0, "{case}");
            }
        }
    }
}

/// The longest that an admitted request takes is about what it is without a queue.
#[test]
fn what_is_admitted_does_not_wait_for_long() {
    let mut world = World::new(3, WIDE, 16, even);
    world.run(5, 160.0);
    world.run(10, 3_200.0);
    world.run(30, 3_200.0);
    assert!(world.longest <= 100_000, "{} us, of 50,000 in quiet", world.longest);
}

#[test]
fn it_begins_under_overload_and_finds_the_quiet_time() {
    for (name, service) in SERVICES {
        let capacity = capacity(8, service);
        let mut world = World::new(5, Bounds { initial: 400, ..WIDE }, 8, service);
        world.run(40, capacity * 5.0);
        let rate = world.run(30, capacity * 5.0);
        let limit = world.mean_limit();
        assert!(limit <= 40.0, "{name}: {limit}");
        assert!(rate >= capacity * 0.75, "{name}: {rate:.0} of {capacity:.0}/s");
    }
}

/// An origin that takes three times as long for good is no queue; nor is it one once it is as quick as before.
#[test]
fn the_quiet_time_follows_the_origin() {
    for (name, service) in [SERVICES[0], SERVICES[1]] {
        let capacity = capacity(16, service);
        let mut world = World::new(11, WIDE, 16, service);
        world.run(20, capacity * 2.0);
        world.slower = 3.0;
        world.run(30, capacity * 2.0);
        let slow = world.run(30, capacity * 2.0);
        assert!(slow >= capacity / 3.0 * 0.85, "{name}, slower: {slow:.0} of {:.0}/s", capacity / 3.0);
        world.slower = 1.0;
        world.run(15, capacity * 2.0);
        let quick = world.run(30, capacity * 2.0);
        assert!(quick >= capacity * 0.85, "{name}, as before: {quick:.0} of {capacity:.0}/s");
        assert!(world.mean_limit() <= 44.0, "{name}: {}", world.mean_limit());
    }
}

#[test]
fn after_an_overload_all_are_served_within_seconds() {
    for (name, service) in SERVICES {
        let capacity = capacity(32, service);
        let mut world = World::new(13, WIDE, 32, service);
        world.run(10, capacity * 0.5);
        world.run(30, capacity * 10.0);
        world.run(5, capacity * 0.6);
        world.run(20, capacity * 0.6);
        let share = world.refused as f64 / (world.done + world.refused).max(1) as f64;
        assert!(share <= 0.01, "{name}: {share}");
    }
}

/// Where there is enough room, it refuses nobody by itself, whatever the answers take.
#[test]
fn below_capacity_it_makes_no_refusals_of_its_own() {
    for (name, service) in SERVICES {
        for servers in [16, 64] {
            let mut world = World::new(17, WIDE, servers, service);
            world.run(10, capacity(servers, service) * 0.5);
            world.run(120, capacity(servers, service) * 0.5);
            let share = world.refused as f64 / (world.done + world.refused) as f64;
            assert!(share <= 0.005, "{name}, {servers}: {share}");
        }
    }
}

#[test]
fn idle_it_keeps_its_limit_and_a_burst_has_room() {
    let mut world = World::new(19, WIDE, 1_000, even);
    world.run(20, 8_000.0);
    let before = world.limiter.limit();
    world.run(600, 0.2);
    assert!(world.limiter.limit() >= before / 2, "{before}, then {}", world.limiter.limit());
    world.run(5, 8_000.0);
    assert!(world.refused < 4_000, "{} of 40,000", world.refused);
}

/// A cache that is emptied makes more of the answers slow, and none of them waits.
#[test]
fn more_slow_answers_among_quick_ones_are_no_queue() {
    let mut world = World::new(23, WIDE, 64, bimodal);
    world.run(30, 600.0);
    world.service = |random| if random.share() < 0.3 { 2_000.0 } else { 150_000.0 };
    world.run(30, 400.0);
    assert_eq!(world.refused, 0);
}

#[test]
fn failures_for_load_lower_it_and_it_comes_back() {
    let mut limiter = Gradient::new(Bounds { initial: 100, min: 4, max: 200 });
    let mut answers = [0; BUCKETS];
    answers[bucket(Duration::from_millis(20))] = 50;
    let mut tick = |tenths: u64, overloads| {
        let seen = Tick { in_flight: 100, turned_away: 10, answers: &answers, overloads };
        limiter.tick(Duration::from_millis(100 * tenths), &seen)
    };
    let grown = (1..50).map(|at| tick(at, 0)).last();
    assert_eq!(grown, Some(200), "as many as it may");
    let failing = (50..100).map(|at| tick(at, 50)).last();
    assert!(failing.is_some_and(|limit| limit <= 10), "{failing:?}");
    let again = (100..150).map(|at| tick(at, 0)).last();
    assert!(again.is_some_and(|limit| limit >= 100), "{again:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is seen, it stays within its bounds.
    #[test]
    fn the_bounds_hold(
        (min, more) in (1..50_u32, 0..500_u32),
        seen in prop::collection::vec((0..600_u32, 0..100_u32, 0..BUCKETS, 0..200_u32, 0..50_u32, 0..3_000_u64), 0..300),
    ) {
        let bounds = Bounds { initial: min + more / 2, min, max: min + more };
        let mut limiter = Gradient::new(bounds);
        let mut now = Duration::ZERO;
        for (in_flight, turned_away, bucket, count, overloads, wait) in seen {
            let mut answers = [0; BUCKETS];
            answers[bucket] = count;
            now += Duration::from_millis(wait);
            let limit = limiter.tick(now, &Tick { in_flight, turned_away, answers: &answers, overloads });
            prop_assert!((bounds.min..=bounds.max).contains(&limit), "{limit} of {bounds:?}");
        }
    }
}

/// Wherever it begins, an origin that has too much to do has work, and hardly ever a long queue.
#[test]
fn it_settles_wherever_it_begins() {
    let mut long = Vec::new();
    for seed in 1..100_u64 {
        let (servers, initial) = (4 + (seed * 7 % 44) as usize, 3 + (seed * 31 % 197) as u32);
        let wanted = capacity(servers, exponential) * (2.0 + (seed % 13) as f64 / 2.0);
        let seeds = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut world = World::new(seeds, Bounds { initial, ..WIDE }, servers, exponential);
        world.run(20, wanted);
        let share = world.run(30, wanted) / capacity(servers, exponential);
        assert!(share >= 0.85, "{share} of what {servers} servers can do, from {initial}");
        long.extend(Some(world.mean_limit() / servers as f64).filter(|times| *times > 4.0));
    }
    assert!(long.len() <= 5, "{long:?}");
}

/// An origin that is far from full becomes slower, or takes turns with a cache: nobody waits, so that hardly anybody is
/// turned away.
#[test]
fn slower_answers_of_an_origin_with_room_are_no_overload() {
    let constant: [Service; 4] = [|_| 20_000.0, |_| 45_000.0, |_| 1_000.0, |_| 50_000.0];
    let turned_away = |seed: u64, phases: &[(usize, u64)]| {
        let mut world = World::new(seed, WIDE, 100_000, constant[0]);
        let mut all = (0, 0);
        for (service, seconds) in phases {
            world.service = constant[*service];
            world.run(*seconds, 1_000.0);
            all = (all.0 + world.refused, all.1 + world.done + world.refused);
        }
        all.0 as f64 / all.1 as f64
    };
    for seed in 1..20 {
        let slower = turned_away(seed, &[(0, 20), (1, 60)]);

        assert!(slower <= 0.01, "{seed}: {slower}");
        let quick = turned_away(seed, &[(3, 20), (2, 1), (3, 30)]);

        assert!(quick <= 0.02, "{seed}: {quick}");
        let quick = turned_away(seed, &[(2, 1), (3, 30)]);
        // With the limit that it begins with, which is too low then.
        assert!(quick <= 0.07, "{seed}, at first: {quick}");
    }
}

/// Answers that take seconds, or half a minute: what waits for them is no quiet time.
#[test]
fn with_slow_answers_the_limit_stays_at_about_what_is_served_at_once() {
    for (seconds, service) in SLOW {
        for servers in [16, 64] {
            for times in [1.5, 3.0] {
                let mut world = World::new(29, WIDE, servers, service);
                let capacity = servers as f64 / seconds;
                world.run(200, capacity * 0.5);
                let mut most = 0.0_f64;
                let mut rates = Vec::new();
                for _ in 0..6 {
                    rates.push(world.run(300, capacity * times) / capacity);
                    most = most.max(world.mean_limit());
                }
                let case = format!("{seconds} s, {servers} servers, {times} times: {rates:.2?} at {most}");
                assert!(most <= servers as f64 * 4.0 + 4.0, "{case}");
                assert!(rates.iter().sum::<f64>() >= rates.len() as f64 * 0.7, "{case}");
            }
        }
    }
}

const SLOW: [(f64, Service); 4] = [
    (1.0, |_| 1e6),
    (1.0, |random| random.exponential(1e6)),
    (5.0, |random| random.exponential(5e6)),
    (30.0, |random| random.exponential(30e6)),
];

/// A check that shows nothing ends: one at whose lowered limit the origin fails, or under which nobody is answered.
#[test]
fn a_check_ends_when_the_origin_fails_or_says_nothing() {
    let mut answers = [0; BUCKETS];
    answers[bucket(Duration::from_millis(20))] = 50;
    for (of_check, overloads, longest) in [(&answers, 50, 20), (&[0; BUCKETS], 0, 200)] {
        let mut limiter = Gradient::new(Bounds { initial: 100, min: 4, max: 100 });
        let mut at = 0;
        let mut tick = |limiter: &mut Gradient, answers: &[u32; BUCKETS], overloads| {
            at += 1;
            let in_flight = limiter.limit();
            limiter.tick(Duration::from_millis(100 * at), &Tick { in_flight, turned_away: 50, answers, overloads });
            matches!(limiter.phase, Phase::Checking(_))
        };
        assert!((0..200).any(|_| tick(&mut limiter, &answers, 0)), "it begins");
        let lasted = (0..longest).take_while(|_| tick(&mut limiter, of_check, overloads)).count();
        assert!(lasted < longest, "{lasted}");
    }
}

/// From the first second of an overload on: what is let in at the beginning waits at the origin, and is of the P99 too.
#[test]
fn an_overload_that_comes_at_once_lets_nobody_in_to_wait() {
    for seed in [1, 6, 12, 33] {
        for times in [3.0, 10.0] {
            let mut world = World::new(seed, Bounds { initial: 16, min: 4, max: 1_000_000 }, 8, even);
            world.run(12, 80.0);
            let quiet = world.p99();
            let rate = world.run(15, 160.0 * times);
            let p99 = world.p99();
            assert!(p99 <= quiet * 2, "{times} times: {p99} us, of {quiet} in quiet");
            assert!(rate >= 160.0 * 0.9, "{times} times: {rate}/s of 160");
        }
    }
}
