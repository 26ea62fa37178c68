//! The small pure parts that decisions and defences are made of, each beside what it must equal.

use std::collections::BTreeSet;
use std::time::Duration;

use policy::chance::Cases;
use policy::failover::Failover;
use policy::health::{
    Cause, Counts, EndpointCounts, Evidence, Fleet, Holder, Phase, RegionHealth, Seen, Sliding, Word,
};
use policy::load::FleetLoad;
use policy::overload::{Actions, Resource, Shares, StandingLag};
use policy::pressure::Criticality;
use policy::quantile::{BUCKETS, bucket, quantile};
use policy::region::{Region, Standby, TakesWrites};
use policy::rollout::{self, Canary, Failure, Rollout, RolloutOutcome, Success, Tally};
use policy::{Access, Country, CountrySet, LoadReport, Reason, RegionId, RegionSet};

mod sample;
use sample::region;

const SECOND: Duration = Duration::from_secs(1);

fn ids(indices: &BTreeSet<usize>) -> RegionSet {
    indices.iter().filter_map(|index| RegionId::new(*index)).collect()
}

/// Sets of regions are sets of numbers, of which some are the first and the last of a word.
#[test]
fn sets_of_regions_are_sets() {
    let of = |step: usize, from: usize| (from..RegionSet::CAPACITY).step_by(step).collect::<BTreeSet<usize>>();
    let samples = [
        BTreeSet::new(),
        BTreeSet::from([0]),
        BTreeSet::from([63, 64, 127, 1023]),
        of(1, 0),
        of(7, 3),
        of(64, 0),
        of(64, 63),
        of(97, 1),
    ];
    for one in &samples {
        let set = ids(one);
        let members: Vec<usize> = set.iter().take(RegionSet::CAPACITY + 1).map(RegionId::index).collect();
        assert_eq!(members, one.iter().copied().collect::<Vec<_>>());
        assert_eq!((set.len(), set.is_empty()), (one.len(), one.is_empty()));
        for index in [0, 1, 2, 3, 62, 63, 64, 65, 100, 127, 128, 1022, 1023] {
            let id = RegionId::new(index).unwrap();
            assert_eq!(set.contains(id), one.contains(&index), "{index} of {one:?}");
            let (mut more, mut less) = (one.clone(), one.clone());
            more.insert(index);
            less.remove(&index);
            let (mut inserted, mut removed) = (set, set);
            inserted.insert(id);
            removed.remove(id);
            assert_eq!((inserted, removed), (ids(&more), ids(&less)), "{index} of {one:?}");
        }
        for other in &samples {
            let theirs = ids(other);
            assert_eq!(set.and(&theirs), ids(&(one & other)));
            assert_eq!(set.or(&theirs), ids(&(one | other)));
            assert_eq!(set.without(&theirs), ids(&(one - other)));
            assert_eq!(set.is_subset(&theirs), one.is_subset(other), "{one:?} {other:?}");
        }
    }
    assert_eq!(RegionSet::first(65), ids(&(0..65).collect()));
    assert_eq!(format!("{:?}", ids(&BTreeSet::from([3, 64]))), "{3, 64}");
}

#[test]
fn sets_of_countries_are_sets() {
    let all: Vec<Country> = Country::all().take(1_000).collect();
    let of = |step: usize, from: usize| all.iter().copied().skip(from).step_by(step).collect::<BTreeSet<Country>>();
    let samples = [BTreeSet::new(), of(1, 0), of(2, 0), of(2, 1), of(31, 5), of(64, 63), of(1_000, 7)];
    let set = |one: &BTreeSet<Country>| one.iter().copied().collect::<CountrySet>();
    for one in &samples {
        let members: Vec<Country> = set(one).iter().take(1_000).collect();
        assert_eq!(members, one.iter().copied().collect::<Vec<_>>());
        assert_eq!((set(one).len(), set(one).is_empty()), (one.len(), one.is_empty()));
        assert!(all.iter().all(|country| set(one).contains(*country) == one.contains(country)));
        for other in &samples {
            let mut both = set(one);
            both.extend(&set(other));
            assert_eq!(both, set(&(one | other)));
            assert_eq!(set(one).is_subset(&set(other)), one.is_subset(other));
        }
    }
}

#[test]
fn a_region_may_serve_what_it_can_and_the_writes_that_it_may_take_over() {
    let takes = |writes| Standby { promote_after: 30 * SECOND, of: vec!["a".into()], writes };
    let writes = Some(TakesWrites { max_lag: SECOND, voters: 3 });
    for (read, write, standby, expected) in [
        (true, true, None, [true, true]),
        (true, false, None, [true, false]),
        (false, true, None, [false, true]),
        (true, false, Some(takes(None)), [true, false]),
        (true, false, Some(takes(writes)), [true, true]),
        (false, false, Some(takes(writes)), [false, true]),
    ] {
        let mut one = Region { standby, ..region("b", "DE") };
        (one.capabilities.read, one.capabilities.write) = (read, write);
        assert_eq!([Access::Read, Access::Write].map(|access| one.may_serve(access)), expected, "{one:?}");
    }
}

/// What a node does at its marks, to the percent, of each resource.
#[test]
fn what_an_overloaded_node_does_is_known_to_the_percent() {
    for (share, patience, streams, closes, pause, refused) in [
        (0.8499, 100, 100, false, 0, [0, 0, 0]),
        (0.85, 99, 100, false, 0, [1, 0, 0]),
        (0.8749, 77, 100, false, 0, [49, 0, 0]),
        (0.8999, 55, 100, false, 0, [99, 0, 0]),
        (0.90, 55, 99, true, 0, [100, 0, 0]),
        (0.92, 37, 64, true, 0, [100, 1, 0]),
        (0.9349, 24, 37, true, 0, [100, 29, 0]),
        (0.95, 10, 10, true, 1, [100, 59, 0]),
        (0.9549, 10, 10, true, 1, [100, 69, 0]),
        (0.975, 10, 10, true, 5, [100, 100, 0]),
        (0.999, 10, 10, true, 10, [100, 100, 0]),
        (1.0, 10, 10, true, 10, [100, 100, 100]),
    ] {
        let found = Actions::at(&Shares { memory: share, ..Shares::default() });
        let expected = Actions { patience, streams, closes, accept_pause_ms: pause, refused, lacks: Resource::Memory };
        let near = |one: u8, other: u8| one.abs_diff(other) <= 1;
        let alike = near(found.patience, patience)
            && near(found.streams, streams)
            && found.refused.iter().zip(refused).all(|(one, other)| near(*one, other))
            && (found.closes, found.accept_pause_ms) == (closes, pause);
        assert!(alike, "at {share}: {found:?}, not {expected:?}");
        // At a mark something is done, and below it nothing.
        for (is_begun, done) in [
            (share >= 0.85, found.patience < 100),
            (share >= 0.85, found.refused(Criticality::Sheddable) > 0),
            (share >= 0.90, found.streams < 100),
            (share >= 0.92, found.refused(Criticality::Default) > 0),
            (share >= 1.0, found.refused(Criticality::Critical) > 0),
        ] {
            assert_eq!(is_begun, done, "at {share}: {found:?}");
        }
        assert_eq!(found.is_idle(), share < 0.85);
    }
}

/// Logs say for want of what requests are refused: the resource that is nearest to its end, and that refusing relieves.
#[test]
fn what_lacks_is_what_is_nearest_to_its_end() {
    for (memory, descriptors, connections, lag, lacks) in [
        (0.95, 0.9, 0.9, 0.9, Resource::Memory),
        (0.9, 0.95, 0.9, 0.9, Resource::Descriptors),
        (0.9, 0.9, 0.9, 0.95, Resource::Lag),
        (0.86, 0.0, 1.0, 0.0, Resource::Memory),
        (0.95, 0.95, 0.95, 0.95, Resource::Memory),
    ] {
        let shares = Shares { memory, descriptors, connections, lag };
        assert_eq!(Actions::at(&shares).lacks, lacks, "{shares:?}");
        assert_eq!(Resource::ALL.map(|resource| shares.of(resource)), [memory, descriptors, connections, lag]);
    }
    assert_eq!(Resource::ALL.map(Resource::name), ["memory", "descriptors", "connections", "lag"]);
}

#[test]
fn a_new_connection_gets_its_share_of_streams_and_one_at_least() {
    for (percent, most, streams) in [(100, 250, 250), (55, 100, 55), (10, 250, 25), (10, 5, 1), (0, 100, 1)] {
        let actions = Actions { streams: percent, ..Actions::default() };
        assert_eq!(actions.streams(most), streams, "{percent} % of {most}");
    }
    for (percent, timeout, shortened) in [(100, 10, 10), (99, 100, 99), (50, 10, 5), (10, 10, 1), (0, 60, 1)] {
        let actions = Actions { patience: percent, ..Actions::default() };
        assert_eq!(actions.shortened(timeout * SECOND), shortened * SECOND, "{percent} % of {timeout} s");
    }
}

/// Workers read what is to be done from one number: nothing of it may be lost or mixed up.
#[test]
fn actions_are_packed_whole() {
    for lacks in Resource::ALL {
        for closes in [false, true] {
            let actions =
                Actions { patience: 90, streams: 80, closes, accept_pause_ms: 7, refused: [60, 50, 40], lacks };
            assert_eq!(Actions::from_bits(actions.to_bits()), actions);
        }
    }
    assert_eq!(Actions::default().to_bits(), 0);
    assert_eq!(Actions::from_bits(0), Actions::default());
    let unheard_of = Actions { closes: true, ..Actions::default() }.to_bits() | 0b1111_0000;
    assert_eq!(Actions::from_bits(unheard_of).lacks, Resource::Memory);
}

/// The lag that stands is the least of the last five readings, whatever came before.
#[test]
fn lag_stands_as_long_as_five_readings_say_so() {
    let readings: Vec<u32> = (0..200_u32).map(|step| step.wrapping_mul(2_654_435_761) % 97).collect();
    let mut lag = StandingLag::default();
    for (step, reading) in readings.iter().enumerate() {
        let least = if step < 4 { 0 } else { *readings[step - 4..=step].iter().min().unwrap() };
        assert_eq!(lag.observe(*reading * SECOND), least * SECOND, "reading {step}");
    }
}

fn seen(attempts: u64, errors: u64, slow: u64) -> Counts {
    let [attempts, errors, slow] = [attempts, errors, slow].map(Seen::of_clients);
    Counts { attempts, errors, slow, ..Counts::default() }
}

/// An endpoint is ejected for what it does worse than the others of its region: often enough, past the mark, notably so
/// and beyond chance. Each of these alone, or three of them, eject nobody.
#[test]
fn an_endpoint_is_ejected_when_all_speaks_against_it() {
    let failover = Failover::default();
    let cases = [
        ("worse in every way", (10_000, 3_100), (10_000, 1_500), true),
        ("exactly twice as bad", (10_000, 3_000), (10_000, 1_500), true),
        ("fewer than errors in a row", (10, 4), (1_000, 0), false),
        ("as many as errors in a row", (10, 5), (1_000, 0), true),
        ("below the mark", (1_000, 50), (1_000, 1), false),
        ("not twice as bad", (10_000, 2_900), (10_000, 1_500), false),
        ("perhaps by chance", (20, 5), (50, 5), false),
        ("others enough to compare with", (100, 90), (5, 0), true),
        ("too few others to compare with", (100, 90), (4, 0), false),
    ];
    for (what, (attempts, errors), (of_others, their_errors), ejected) in cases {
        let others = seen(of_others, their_errors, 0);
        let verdict = seen(attempts, errors, 0).verdict_among(&others, &failover);
        assert_eq!(verdict, ejected.then_some(Cause::ErrorRate), "{what}");
    }
    assert_eq!(seen(1_000, 0, 50).verdict_among(&seen(1_000, 0, 5), &failover), Some(Cause::Latency));
    assert_eq!(seen(1_000, 0, 10).verdict_among(&seen(1_000, 0, 0), &failover), None, "a hundredth is no P99 past it");
}

#[test]
fn counts_add_up_part_by_part() {
    let of = |n: u64| {
        let seen = |at: u64| Seen { requests: n * at, clients: n + at };
        Counts {
            attempts: seen(3),
            errors: seen(5),
            confirmed: seen(7),
            contested: seen(11),
            slow: seen(13),
            retries: n * 17,
            full: n * 19,
        }
    };
    let (one, other) = (of(2), of(9));
    let sum = one.plus(&other);
    let expected = |at: u64| Seen { requests: 11 * at, clients: 11 + 2 * at };
    let parts = [sum.attempts, sum.errors, sum.confirmed, sum.contested, sum.slow];
    assert_eq!(parts, [3, 5, 7, 11, 13].map(expected));
    assert_eq!((sum.retries, sum.full), (11 * 17, 11 * 19));
    assert_eq!((sum.since(&one), sum.since(&other), one.since(&sum)), (other, one, Counts::default()));
    assert_eq!(
        [Cause::ConsecutiveErrors, Cause::ErrorRate, Cause::Latency].map(Cause::name),
        ["consecutive_errors", "error_rate", "latency_p99"]
    );
}

/// The last while in tenths of a span, beside a list of everything that came.
#[test]
fn a_sliding_sum_is_of_the_last_ten_slots() {
    let span = Duration::from_millis(1_000);
    for start in [0_u64, 1_234_567] {
        let (mut sliding, mut came) = (Sliding::default(), Vec::new());
        let mut now = start;
        for step in 0..300_u64 {
            now += [0, 1, 40, 100, 130, 99, 950, 3_000][(step * step % 8) as usize];
            came.push((now / 100, step));
            sliding.add(Duration::from_millis(now), span, &Counts { retries: step, ..Counts::default() });
            let expected: u64 = came.iter().filter(|(slot, _)| slot + 10 > now / 100).map(|(_, count)| count).sum();
            assert_eq!(sliding.sum().retries, expected, "at {now} ms");
        }
        sliding.clear();
        assert_eq!(sliding.sum(), Counts::default());
    }
}

#[test]
fn a_region_counts_its_endpoints() {
    let share =
        |endpoints, in_rotation| EndpointCounts { endpoints, probed_up: endpoints, in_rotation }.share_in_rotation();
    assert_eq!([share(0, 0), share(4, 1), share(4, 4), share(8, 2)], [0.0, 0.25, 1.0, 0.25]);
}

/// A region's way back step by step, and its phase at each, which `/status` shows.
#[test]
fn a_region_that_returns_is_up_when_its_ramp_reaches_all_clients() {
    let failover = Failover { failback_delay: 10 * SECOND, ramp_step: 5 * SECOND, ..Failover::default() };
    let mut region = RegionHealth::default();
    for (second, evidence, phase) in [
        (1, Evidence::Down, Phase::Down),
        (2, Evidence::Serves, Phase::Waiting(2 * SECOND)),
        (11, Evidence::Serves, Phase::Waiting(2 * SECOND)),
        (12, Evidence::Serves, Phase::Ramping(0, 12 * SECOND)),
        (16, Evidence::Serves, Phase::Ramping(0, 12 * SECOND)),
        (17, Evidence::Serves, Phase::Ramping(1, 17 * SECOND)),
        (22, Evidence::Serves, Phase::Up),
    ] {
        let before = region.phase();
        assert_eq!(region.observe(second * SECOND, evidence, &failover), before != phase, "after {second} s");
        assert_eq!(region.phase(), phase, "after {second} s");
    }
}

/// Each bucket ends where the next begins.
#[test]
fn buckets_lie_side_by_side() {
    for index in 0..BUCKETS - 1 {
        let mut counts = [0; BUCKETS];
        counts[index] = 1;
        let edge = quantile(counts, 0.5).unwrap();
        assert_eq!(bucket(edge), index + 1, "{edge:?}");
        assert_eq!(bucket(edge - Duration::from_micros(1)), index, "{edge:?}");
    }
    let edges = [0, 8, 16].map(|at| {
        let mut counts = [0; BUCKETS];
        counts[at] = 3;
        quantile(counts, 1.0).unwrap().as_micros()
    });
    assert_eq!(edges, [72, 144, 288], "eight to an octave, from 64 us");
}

#[test]
fn a_quantile_is_the_first_bucket_that_holds_enough() {
    let mut counts = [0; BUCKETS];
    [10, 20, 30, 40].into_iter().for_each(|index| counts[index] = 25);
    let of = |q| bucket(quantile(counts, q).unwrap()) - 1;
    assert_eq!([0.0, 0.01, 0.25, 0.26, 0.5, 0.75, 0.76, 1.0].map(of), [10, 10, 10, 20, 20, 30, 40, 40]);
}

#[test]
fn cases_say_how_many_of_how_many() {
    assert_eq!(Cases::new(31, 480).to_string(), "31 of 480 (6.5 %)");
    assert_eq!(Cases::new(9, 4).to_string(), "4 of 4 (100.0 %)");
    assert_eq!((Cases::new(1, 4).share(), Cases::new(0, 0).share(), Cases::new(3, 9).count()), (0.25, 0.0, 3));
}

fn canary() -> Canary {
    Canary {
        version: "v2".to_owned(),
        steps: vec![5, 100],
        pace: vec![60 * SECOND],
        success: Success { requests: 100, error_rate: 0.01, p95: SECOND },
        failure: Failure { error_rate: 0.05, p95: 2 * SECOND },
        line: 7,
    }
}

/// A reload goes on with the trial that is under way if it is the same one, wherever the file has it.
#[test]
fn a_trial_is_the_same_as_long_as_it_says_the_same() {
    assert!(canary().is_same_trial(&Canary { line: 9, ..canary() }));
    let others = [
        Canary { version: "v3".into(), ..canary() },
        Canary { steps: vec![5, 50, 100], ..canary() },
        Canary { pace: vec![30 * SECOND], ..canary() },
        Canary { success: Success { requests: 1, ..canary().success }, ..canary() },
        Canary { failure: Failure { error_rate: 0.5, ..canary().failure }, ..canary() },
    ];
    assert!(others.iter().all(|other| !canary().is_same_trial(other)));
}

#[test]
fn a_tally_counts_as_slow_what_is_past_the_marks_bucket() {
    let mark = Duration::from_millis(500);
    let mut answered = [0; BUCKETS];
    let at = bucket(mark);
    [(at - 1, 1), (at, 10), (at + 1, 100), (BUCKETS - 1, 1_000)].into_iter().for_each(|(at, n)| answered[at] = n);
    let tally = Tally::of(answered, 10_000, mark);
    assert_eq!((tally.requests, tally.errors, tally.slow), (11_111, 10_000, 11_100));
    assert_eq!(tally.error_rate(), 10_000.0 / 11_111.0);
}

#[test]
fn a_rollout_tells_what_became_of_it() {
    let tally = |requests, errors, slow, p95| Tally { requests, errors, slow, p95: Some(p95) };
    let stable = tally(2_000, 0, 0, SECOND / 10);
    let mut told = Vec::new();
    let mut rollout = Rollout::new(Duration::ZERO);
    for minute in 1..=2 {
        let decision = rollout.judge(60 * minute * SECOND, &canary(), &tally(100, 1, 0, SECOND), &stable).unwrap();
        told.push((decision.outcome.name(), decision.to_string()));
    }
    let slow = tally(1_000, 0, 900, 3 * SECOND);
    let ended = Rollout::new(Duration::ZERO).judge(SECOND, &canary(), &slow, &stable).unwrap();
    assert_eq!(ended.outcome, RolloutOutcome::Ended(rollout::Cause::Latency));
    told.push((ended.outcome.name(), ended.to_string()));
    let stable = "stable: 2000 requests, 0 errors (0.000 %), P95 100 ms";
    let good = "100 requests, 1 errors (1.000 %), P95 1000 ms";
    let expected = [
        ("advanced", format!("advanced from 5 % to 100 %: {good}; {stable}")),
        ("promoted", format!("promoted at 100 %: {good}; {stable}")),
        ("ended", format!("ended at 5 % for its latency: 1000 requests, 0 errors (0.000 %), P95 3000 ms; {stable}")),
    ];
    assert_eq!(told, expected);
    assert_eq!(
        [rollout::Cause::ErrorRate, rollout::Cause::Latency].map(rollout::Cause::name),
        ["error_rate", "latency_p95"]
    );
    assert_eq!(Tally::default().to_string(), "0 requests");
}

/// More than half of the known nodes, for any fleet: two majorities have a node in common.
#[test]
fn a_majority_is_more_than_half() {
    for known in 1..=9_usize {
        let fleet = Fleet::of(known, &[], None);
        for nodes in 0..=known {
            assert_eq!(fleet.is_majority(nodes), nodes > known - nodes, "{nodes} of {known}");
        }
    }
    assert_eq!([Holder::Primary, Holder::Standby].map(Holder::name), ["primary", "standby"]);
    assert_eq!([Holder::Primary, Holder::Standby].map(Holder::other), [Holder::Standby, Holder::Primary]);
}

/// A node goes over to a later term only when a majority goes by it.
#[test]
fn a_later_term_is_followed_with_a_majority() {
    let word = |term| Word { term: Some(term), ..WORD };
    for known in 3..=9_usize {
        for later in 0..known {
            let words: Vec<Word> = (1..known).map(|node| word(if node <= later { 2 } else { 1 })).collect();
            let instead = Fleet::of(known, &words, Some(1)).instead;
            let is_majority = later > known - later;
            assert_eq!(instead, is_majority.then_some(2), "{later} of {known}");
        }
    }
}

/// What a node says that has just started, and has heard nothing.
const WORD: Word = Word { primary_lost: false, standby_lost: false, term: None, has_spoken: false, lag: None };

fn report(node: &str, requests_in_flight: u32, origin_load: f32) -> LoadReport {
    LoadReport {
        node: node.into(),
        region: "a".into(),
        requests_in_flight,
        cap: 100,
        rps: 50.0,
        origin_load,
        round_trips: std::collections::BTreeMap::new(),
        client_excess_ms: std::collections::BTreeMap::new(),
    }
}

/// The load of a region is the greatest of what is known of it, and what is not known is not divided by.
#[test]
fn a_regions_load_is_the_greatest_that_is_known() {
    for (in_flight, origin_load, capacity, utilisation) in [
        (20, 0.0, None, 0.2),
        (20, 0.0, Some(100.0), 0.5),
        (20, 0.0, Some(0.0), 0.2),
        (20, 0.7, Some(100.0), 0.7),
        (90, 0.7, Some(100.0), 0.9),
        (5_000, 0.0, None, 10.0),
    ] {
        let mut fleet = FleetLoad::default();
        fleet.take("a", &report("one", in_flight, origin_load), SECOND).unwrap();
        let reported = fleet.reported("a", capacity, SECOND).unwrap();
        assert!((reported.utilisation - utilisation).abs() < 1e-6, "{reported:?}, not {utilisation}");
        assert_eq!((reported.nodes, reported.age), (1, Duration::ZERO));
    }
    // Idle, of a region whose table says that it can take nothing.
    let mut fleet = FleetLoad::default();
    fleet.take("a", &LoadReport { rps: 0.0, ..report("one", 0, 0.0) }, SECOND).unwrap();
    assert_eq!(fleet.reported("a", Some(0.0), SECOND).unwrap().utilisation, 0.0);
}

/// What endpoints say of their own load is averaged over half a minute; who begins to hear it has all of it at once.
#[test]
fn what_origins_say_is_an_average_of_what_was_heard() {
    let mut fleet = FleetLoad::default();
    let mut at = |second: u32, origin_load: f32| {
        fleet.take("a", &report("one", 0, origin_load), second * SECOND).unwrap();
        fleet.reported("a", None, second * SECOND).unwrap().utilisation
    };
    assert_eq!(at(0, 0.0), 0.0);
    assert_eq!(at(1, 0.8), 0.8, "it begins to hear");
    let mixed = at(16, 0.4);
    assert!((mixed - (0.4 + 0.4 * (-0.5_f32).exp())).abs() < 1e-5, "{mixed}");
    assert_eq!(at(17, 0.0), 0.0, "it hears nothing any more");
}

#[test]
fn emergencies_are_the_reasons_that_an_operator_gave() {
    let is_emergency = |reason: &Reason| reason.name().starts_with("emergency_");
    assert!(Reason::ALL.iter().all(|reason| reason.is_emergency() == is_emergency(reason)));
    assert!(Reason::ALL.iter().all(|reason| Reason::named(reason.name()) == Some(*reason)));
    assert_eq!(Reason::named("emergency"), None);
    let statuses = Reason::ALL.map(Reason::status);
    assert_eq!(statuses, [404, 451, 503, 503, 503, 503, 503, 503]);
}
