//! How endpoints, regions and standbys come back, step by step, and the small words and figures beside them.

use std::time::Duration;

use policy::affinity::AffinityKey;
use policy::failover::{Failover, Outlier};
use policy::health::{
    Cause, Claim, EndpointHealth, Evidence, Fleet, LagWord, Phase, Primary, Probe, ProbePlan, RegionHealth, Symptom,
    Word, is_needed,
};
use policy::load::FleetLoad;
use policy::pressure::{Criticality, FULL, OVERLOAD_MARK, Spill};
use policy::quantile::BUCKETS;
use policy::region::Role;
use policy::trial::Observed;
use policy::{Health, LoadReport};

const SECOND: Duration = Duration::from_secs(1);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Back at once where nothing stands against it, so that what is seen is the evidence's doing alone.
fn at_once() -> Failover {
    Failover { failback_delay: Duration::ZERO, ramp: vec![100], ..Failover::default() }
}

/// A suspicion is forgotten after each base ejection time without another: the next one is then as short as the first.
#[test]
fn suspicions_are_forgotten_one_by_one() {
    let failover = at_once();
    let mut region = RegionHealth::default();
    let mut suspected_for = |from: u64| {
        assert!(region.suspect(seconds(from), &failover.outlier));
        for second in from.. {
            region.observe(seconds(second), Evidence::Serves, &failover);
            if region.phase() != Phase::Suspected {
                // Quiet for some time, looked at each second.
                return (second - from, second, region.clone());
            }
        }
        unreachable!()
    };
    let (first, _, _) = suspected_for(1);
    let (second, until, region) = suspected_for(32);
    assert_eq!((first, second), (30, 60), "the second is twice as long");
    // One is forgotten at 30 s of quiet, and the other at 60 s.
    for (quiet, expected) in [(29, 90), (30, 60), (59, 60), (60, 30), (600, 30)] {
        let mut region = region.clone();
        (until..=until + quiet).for_each(|second| {
            region.observe(seconds(second), Evidence::Serves, &failover);
        });
        assert!(region.suspect(seconds(until + quiet), &failover.outlier));
        let up = (until + quiet..).find(|second| {
            region.observe(seconds(*second), Evidence::Serves, &failover);
            region.phase() == Phase::Up
        });
        assert_eq!(up, Some(until + quiet + expected), "after {quiet} s of quiet");
    }
}

/// A first suspicion is a blip, over with its ejection. A second one soon after takes the whole way back; and is a blip
/// again once the region has been up for as long as its failback takes.
#[test]
fn a_blip_is_one_fall_alone() {
    let failover = Failover { failback_delay: seconds(100), ramp: vec![100], ..Failover::default() };
    for (up_for, is_blip) in [(1, false), (99, false), (100, true), (101, true), (500, true)] {
        let mut region = RegionHealth::default();
        let mut at = |second: u64, evidence| {
            region.observe(seconds(second), evidence, &failover);
            region.phase()
        };
        assert_eq!((at(1_000, Evidence::Serves), at(1_010, Evidence::Suspected)), (Phase::Up, Phase::Suspected));
        assert_eq!(at(1_020, Evidence::Serves), Phase::Up, "a blip");
        (1_020..=1_020 + up_for).for_each(|second| assert_eq!(at(second, Evidence::Serves), Phase::Up));
        let again = 1_020 + up_for;
        assert_eq!(at(again, Evidence::Suspected), Phase::Suspected);
        let back = if is_blip { Phase::Up } else { Phase::Waiting(seconds(again + 5)) };
        assert_eq!(at(again + 5, Evidence::Serves), back, "up for {up_for} s");
    }
}

#[test]
fn a_cold_region_is_down_until_it_is_known_to_serve() {
    let failover = Failover::default();
    let mut region = RegionHealth::cold();
    assert_eq!((region.phase(), region.health(&failover)), (Phase::Down, Health::Down));
    assert!(region.observe(SECOND, Evidence::Serves, &failover));
    assert_eq!((region.phase(), region.health(&failover)), (Phase::Up, Health::Up));
}

/// Decisions see how many clients may use a region: all of them on a step of 100 %.
#[test]
fn what_decisions_see_is_the_ramps_step() {
    let failover = Failover {
        failback_delay: Duration::ZERO,
        ramp: vec![10, 50, 100],
        ramp_step: seconds(10),
        ..Failover::default()
    };
    let mut region = RegionHealth::default();
    region.observe(seconds(1), Evidence::Down, &failover);
    let mut seen = Vec::new();
    for second in 2..=23 {
        region.observe(seconds(second), Evidence::Serves, &failover);
        seen.push(region.health(&failover));
    }
    let ramp = |percent, count| std::iter::repeat_n(Health::Ramping(percent), count);
    let expected: Vec<Health> = ramp(10, 10).chain(ramp(50, 10)).chain([Health::Up; 2]).collect();
    assert_eq!(seen, expected);
    // A reload may shorten the ramp while a region is on it.
    let shorter = Failover { ramp: vec![100], ..failover.clone() };
    let mut region = RegionHealth::default();
    region.observe(seconds(1), Evidence::Down, &failover);
    region.observe(seconds(2), Evidence::Serves, &failover);
    assert_eq!(region.health(&shorter), Health::Up);
}

fn outlier() -> Outlier {
    Failover::default().outlier
}

/// Errors in a row are counted, wanted for an ejection and forgotten by a success; and what could not even connect is
/// avoided from the first on.
#[test]
fn errors_in_a_row_are_counted() {
    let mut endpoint = EndpointHealth::default();
    assert!(!endpoint.is_suspect() && !endpoint.is_in_doubt(SECOND));
    for count in 1..=4 {
        assert!(!endpoint.on_error(SECOND, Symptom::Unreachable, &outlier()));
        assert_eq!((endpoint.errors_in_a_row(), endpoint.is_suspect()), (count, true));
    }
    assert!(endpoint.on_error(SECOND, Symptom::Unreachable, &outlier()), "five are enough");
    assert!(endpoint.eject(SECOND, Cause::ConsecutiveErrors, &outlier()));
    assert_eq!((endpoint.errors_in_a_row(), endpoint.is_suspect(), endpoint.is_gone(SECOND)), (0, false, true));
    endpoint.on_success();
    assert!(!endpoint.is_gone(SECOND), "an answer came after all");
    for symptom in [Symptom::Silent, Symptom::Broken, Symptom::Refused] {
        let mut endpoint = EndpointHealth::default();
        endpoint.on_error(SECOND, symptom, &outlier());
        assert_eq!((endpoint.errors_in_a_row(), endpoint.is_suspect()), (1, false), "{symptom:?}");
        endpoint.on_success();
        assert_eq!((endpoint.errors_in_a_row(), endpoint.is_in_doubt(SECOND)), (0, false));
    }
}

/// While it is ejected the latest attempt says whether anybody is there.
#[test]
fn an_ejected_endpoint_is_gone_while_nobody_is_there() {
    let mut endpoint = EndpointHealth::default();
    endpoint.on_error(SECOND, Symptom::Refused, &outlier());
    assert!(endpoint.eject(SECOND, Cause::ErrorRate, &outlier()) && !endpoint.is_gone(SECOND));
    for (symptom, is_gone) in [(Symptom::Unreachable, true), (Symptom::Silent, false), (Symptom::Unreachable, true)] {
        assert!(!endpoint.on_error(SECOND, symptom, &outlier()), "it is out already");
        assert_eq!(endpoint.is_gone(SECOND), is_gone, "{symptom:?}");
    }
    assert!(!endpoint.is_gone(seconds(31)), "its ejection is over");
}

/// A request that waits for long has the probes ask at once, until one of them passes or an answer comes.
#[test]
fn a_long_wait_is_a_doubt() {
    for ends in [
        (|endpoint| endpoint.on_probe(SECOND, Probe::Passed, &ProbePlan::default())) as fn(&mut EndpointHealth),
        EndpointHealth::on_success,
    ] {
        let mut endpoint = EndpointHealth::default();
        endpoint.on_wait();
        assert!(endpoint.is_in_doubt(SECOND) && endpoint.is_up(SECOND));
        ends(&mut endpoint);
        assert!(!endpoint.is_in_doubt(SECOND));
    }
}

#[test]
fn probes_are_quicker_while_something_is_wrong() {
    for (interval, unhealthy) in [(300, 300), (1_000, 500), (10_000, 1_000), (30_000, 3_000), (600_000, 5_000)] {
        let found = ProbePlan::default_unhealthy_interval(Duration::from_millis(interval));
        assert_eq!(found, Duration::from_millis(unhealthy), "of {interval} ms");
    }
    assert_eq!(ProbePlan::default().unhealthy_interval, seconds(3));
}

/// A standby is needed while no region that it stands in for would be below the mark without it.
#[test]
fn a_standby_is_needed_while_nobody_has_room() {
    let primary = |health, pressure, capacity| Primary { health, pressure, capacity };
    let (low, high) = (OVERLOAD_MARK, OVERLOAD_MARK + 0.01);
    for (primaries, relief, needed) in [
        (vec![], 0.0, true),
        (vec![primary(Health::Down, 0.0, 100.0)], 0.0, true),
        (vec![primary(Health::Up, low, 100.0)], 0.0, false),
        (vec![primary(Health::Up, high, 100.0)], 0.0, true),
        (vec![primary(Health::Up, high, 100.0), primary(Health::Up, 0.1, 100.0)], 0.0, false),
        (vec![primary(Health::Up, low - 0.25, 100.0)], 25.0, false),
        (vec![primary(Health::Up, low - 0.24, 100.0)], 25.0, true),
        // Nobody says how much they can take: then nothing can be said of what they would have to.
        (vec![primary(Health::Up, low, 0.0)], 25.0, false),
    ] {
        assert_eq!(is_needed(primaries.iter().copied(), relief), needed, "{primaries:?}, {relief}");
    }
}

#[test]
fn words_are_those_of_the_configuration_and_of_status() {
    let all = [Criticality::Sheddable, Criticality::Default, Criticality::Critical];
    assert_eq!(all.map(Criticality::name), ["sheddable", "default", "critical"]);
    assert_eq!(all.map(|one| Criticality::named(one.name())), all.map(Some));
    assert_eq!(Criticality::named("important"), None);
    let claims = [Claim::Unsaid, Claim::Replica, Claim::Mixed, Claim::Primary];
    assert_eq!(claims.map(Claim::name), ["unsaid", "replica", "mixed", "primary"]);
    assert_eq!([Role::Active, Role::Warm, Role::Cold].map(Role::default_priority), [0, 1, 2]);
}

/// The criticalities of a table divide the way from the mark to full among them, the unimportant first.
#[test]
fn each_criticality_spills_in_its_own_band() {
    use Criticality::{Critical, Default, Sheddable};
    let at = |share: f32| OVERLOAD_MARK + (FULL - OVERLOAD_MARK) * share;
    for (of, in_the_table, from, to) in [
        (Default, &[Default][..], 0.0, 1.0),
        (Default, &[], 0.0, 1.0),
        (Sheddable, &[Default, Sheddable], 0.0, 0.5),
        (Default, &[Default, Sheddable], 0.5, 1.0),
        (Critical, &[Critical, Default, Sheddable], 2.0 / 3.0, 1.0),
        (Default, &[Critical, Default, Sheddable], 1.0 / 3.0, 2.0 / 3.0),
        // What a request is lowered to has its band, though no route has it.
        (Sheddable, &[Critical], 0.0, 0.5),
    ] {
        let spill = Spill::of(of, in_the_table);
        for (share, expected) in [(from, 0.0), ((from + to) / 2.0, 0.5), (to, 1.0), (to + 1.0, 1.0), (-1.0, 0.0)] {
            let found = spill.share(at(share));
            assert!((found - expected).abs() < 1e-4, "{of:?} of {in_the_table:?} at {share}: {found}");
        }
    }
}

/// A pseudonym is a number of its own for each client, in all of its bytes, and for each key; and logs do not tell the key.
#[test]
fn pseudonyms_tell_clients_apart_and_nothing_of_the_key() {
    let key = AffinityKey::new(b"secret");
    let all: Vec<[u8; 8]> = (0..2_000).map(|client| key.pseudonym(client).to_be_bytes()).collect();
    for at in 0..8 {
        let seen: std::collections::BTreeSet<u8> = all.iter().map(|bytes| bytes[at]).collect();
        assert!(seen.len() > 200, "byte {at} has {} values", seen.len());
    }
    assert!((0..2_000).all(|client| key.pseudonym(client) == AffinityKey::new(b"secret").pseudonym(client)));
    assert!((0..2_000).all(|client| key.pseudonym(client) != AffinityKey::new(b"other").pseudonym(client)));
    assert_eq!(format!("{key:?}"), "AffinityKey");
}

/// What is sealed is an HMAC-SHA-256, as any other program makes it: were it another one day, every pinned client would move.
#[test]
fn the_bytes_of_cookies_and_pseudonyms_stay() {
    let key = AffinityKey::new(b"secret");
    assert_eq!(key.seal("api", "eu", 0xfff0), "fff0.cfd46e08e838c2131a445e1f84188c7d.eu");
    assert_eq!(key.pseudonym(7), 0xe6d8_4b3b_01fd_f4c6);
}

fn observed(n: u64) -> Observed {
    let times = std::array::from_fn(|bucket| if bucket % 3 == 0 { 0 } else { n * bucket as u64 });
    Observed { requests: 3 * n, errors: 5 * n, shed: 7 * n, refused: 11 * n, times }
}

/// Nodes tell their counts to each other: what arrives is what was sent, and what is empty is not sent.
#[test]
fn counts_of_a_trial_add_up_and_survive_the_wire() {
    assert_eq!(observed(2).plus(&observed(5)), observed(7));
    assert_eq!(observed(7).since(&observed(5)), observed(2));
    assert_eq!(observed(5).since(&observed(7)), Observed::default(), "a node that started anew");
    let json = serde_json::to_value(observed(2)).unwrap();
    let sent = json["times"].as_array().unwrap();
    assert_eq!(sent.len(), (0..BUCKETS).filter(|bucket| bucket % 3 != 0).count());
    assert_eq!(serde_json::from_value::<Observed>(json).unwrap(), observed(2));
    let mut beyond = serde_json::to_value(Observed::default()).unwrap();
    beyond["times"] = serde_json::json!([[BUCKETS, 1]]);
    assert!(serde_json::from_value::<Observed>(beyond).is_err(), "no such bucket");
}

/// A report without a word of the origins is as short as an old version's.
#[test]
fn a_report_says_the_load_of_origins_only_where_it_is_known() {
    let report = |origin_load| LoadReport {
        client_excess_ms: std::collections::BTreeMap::new(),
        node: "one".into(),
        region: "a".into(),
        requests_in_flight: 1,
        cap: 2,
        rps: 3.0,
        origin_load,
        round_trips: std::collections::BTreeMap::new(),
    };
    for (load, said) in [(0.0, false), (0.5, true)] {
        let json = serde_json::to_value(report(load)).unwrap();
        assert_eq!((json.get("origin_load").is_some(), json.get("round_trips").is_some()), (said, false));
        assert_eq!(serde_json::from_value::<LoadReport>(json).unwrap(), report(load));
    }
}

/// There is room for 1,024 nodes on a region, and for 16,384 reports in all; who is known is heard all the same.
#[test]
fn there_is_room_for_so_many_nodes_and_no_more() {
    let report = |node: usize| LoadReport {
        client_excess_ms: std::collections::BTreeMap::new(),
        node: format!("n{node}"),
        region: "a".into(),
        requests_in_flight: 1,
        cap: 2,
        rps: 3.0,
        origin_load: 0.0,
        round_trips: std::collections::BTreeMap::new(),
    };
    let mut fleet = FleetLoad::default();
    for region in 0..FleetLoad::MOST / FleetLoad::MOST_ON_A_REGION {
        let name = format!("r{region}");
        for node in 0..FleetLoad::MOST_ON_A_REGION {
            // The last place of all is left.
            if region > 0 || node > 0 {
                assert_eq!(fleet.take(&name, &report(node), SECOND), Ok(()), "node {node} on {name}");
            }
        }
        let full = fleet.take(&name, &report(FleetLoad::MOST_ON_A_REGION), SECOND);
        assert_eq!(full.is_err(), region > 0, "{name}");
    }
    assert!(fleet.take("another", &report(0), SECOND).is_err());
    assert_eq!(fleet.take("r1", &report(1), 2 * SECOND), Ok(()), "it is known");
    fleet.forget(2 * SECOND, |region| region != "r2");
    assert_eq!(fleet.take("another", &report(0), SECOND), Ok(()), "a region is gone, and its places are free");
}

/// A node hears a majority when those heard, with itself, are more than half; and takes the worst that it hears of the lag.
#[test]
fn a_fleet_is_put_together_from_what_is_heard() {
    let word = |behind: Option<u64>, told: u64| Word {
        primary_lost: false,
        standby_lost: false,
        term: Some(0),
        has_spoken: false,
        lag: behind.map(|behind| policy::health::HeardLag {
            of: policy::health::Holder::Standby,
            lag: LagWord { told: seconds(told), behind: seconds(behind) },
        }),
    };
    let fleet = Fleet::of(3, &[word(Some(1), 10), word(Some(4), 10), word(None, 10)], Some(0));
    assert_eq!(fleet.lag, Some(LagWord { told: seconds(10), behind: seconds(4) }));
    assert_eq!((fleet.known, fleet.heard, fleet.affirming), (3, 3, 3));
}
