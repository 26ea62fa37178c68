use proptest::prelude::*;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// 5 % for 30 minutes, 25 % for an hour, 75 % for two, 100 %.
fn spec() -> Canary {
    Canary {
        version: "v2".to_owned(),
        steps: vec![5, 25, 75, 100],
        pace: vec![MINUTE * 30, MINUTE * 60, MINUTE * 120],
        success: Success { requests: 10_000, error_rate: 0.001, p95: Duration::from_millis(200) },
        failure: Failure { error_rate: 0.005, p95: Duration::from_millis(500) },
        line: 1,
    }
}

fn tally(requests: u64, errors: u64, slow: u64, p95_ms: u64) -> Tally {
    let p95 = (requests > 0).then(|| Duration::from_millis(p95_ms));
    Tally { requests, errors, slow, p95 }
}

fn failed(requests: u64, errors: u64) -> Tally {
    tally(requests, errors, errors, 100)
}

#[test]
fn a_good_canary_goes_step_by_step() {
    let (spec, mut rollout) = (spec(), Rollout::new(MINUTE));
    let (good, stable) = (tally(10_000, 10, 0, 200), tally(190_000, 0, 0, 10));
    for (minutes, requests, percent, outcome) in [
        (1, 10_000, 5, None),
        (30, 10_000, 5, None),
        (31, 9_999, 5, None),
        (40, 10_000, 25, Some(RolloutOutcome::Advanced(25))),
        (41, 10_000, 25, None),
        (99, 1_000_000, 25, None),
        (100, 10_000, 75, Some(RolloutOutcome::Advanced(75))),
        (219, 10_000, 75, None),
        (220, 10_000, 100, Some(RolloutOutcome::Advanced(100))),
        // A step without a pace of its own has the last one's.
        (339, 10_000, 100, None),
        (340, 10_000, 100, Some(RolloutOutcome::Promoted)),
        (1_000, 10_000, 100, None),
    ] {
        let decision = rollout.judge(MINUTE * minutes, &spec, &Tally { requests, ..good }, &stable);
        assert_eq!((decision.map(|d| d.outcome), rollout.percent(&spec)), (outcome, percent), "after {minutes} min");
    }
    assert_eq!((rollout.stage(), rollout.since()), (RolloutStage::Promoted, MINUTE * 340));
    // What it does from then on is nobody's question any more.
    assert_eq!(rollout.judge(MINUTE * 1_001, &spec, &failed(1_000, 1_000), &Tally::default()), None);
}

#[test]
fn a_step_must_be_within_the_marks_or_no_worse_than_the_stable_version() {
    let spec = spec();
    let unseen = Tally::default();
    for (trial, stable, advances) in [
        (tally(10_000, 10, 0, 200), unseen, true),
        (tally(10_000, 11, 0, 200), unseen, false),
        (tally(10_000, 10, 0, 201), unseen, false),
        (tally(9_999, 0, 0, 1), unseen, false),
        (tally(10_000, 40, 0, 200), tally(190_000, 760, 0, 100), true),
        (tally(10_000, 41, 0, 200), tally(190_000, 760, 0, 100), false),
        (tally(10_000, 10, 0, 300), tally(190_000, 10, 0, 300), true),
        (tally(10_000, 10, 0, 300), tally(190_000, 10, 0, 299), false),
        // Too few requests to compare with.
        (tally(10_000, 40, 0, 200), tally(499, 499, 499, 500), false),
    ] {
        let mut rollout = Rollout::new(Duration::ZERO);
        let decision = rollout.judge(MINUTE * 30, &spec, &trial, &stable);
        assert_eq!(decision.map(|d| d.outcome), advances.then_some(RolloutOutcome::Advanced(25)), "{trial}; {stable}");
    }
}

#[test]
fn errors_end_a_canary_that_is_past_the_mark_and_worse_than_the_stable_version() {
    let unseen = Tally::default();
    for (trial, stable, ends) in [
        (failed(4, 4), failed(76, 0), false),
        (failed(5, 5), failed(95, 0), true),
        (failed(180, 5), failed(3_420, 0), true),
        (failed(181, 5), failed(3_439, 0), false),
        // Five errors are just what 900 requests at the mark have.
        (failed(900, 5), failed(17_100, 0), false),
        (failed(900, 13), failed(17_100, 0), true),
        (failed(100_000, 500), unseen, false),
        (failed(100_000, 568), unseen, false),
        (failed(100_000, 569), unseen, true),
        (failed(100_000, 569), failed(1_900_000, 0), true),
        // A trouble of both, more or less.
        (failed(1_000, 200), failed(19_000, 3_800), false),
        (failed(1_000, 239), failed(19_000, 3_800), false),
        (failed(1_000, 240), failed(19_000, 3_800), true),
        (failed(1_000, 1_000), failed(19_000, 19_000), false),
        // Nobody to compare with: the mark alone, beyond chance.
        (failed(5, 5), unseen, true),
        (failed(900, 5), unseen, false),
        (failed(2_400, 24), unseen, true),
        (failed(2_400, 24), failed(119, 119), true),
        (failed(2_400, 24), failed(120, 0), false),
    ] {
        let decision = Rollout::new(Duration::ZERO).judge(MINUTE, &spec(), &trial, &stable);
        let ended = decision.map(|d| d.outcome) == Some(RolloutOutcome::Ended(Cause::ErrorRate));
        assert_eq!(ended, ends, "{trial}; {stable}");
        assert!(ended || decision.is_none(), "{decision:?}");
    }
}

#[test]
fn a_long_p95_ends_a_canary_that_is_past_the_mark_and_slower_than_the_stable_version() {
    let unseen = Tally::default();
    for (trial, stable, ends) in [
        (tally(99, 0, 99, 600), tally(1_881, 0, 0, 100), false),
        (tally(100, 0, 100, 600), tally(1_900, 0, 0, 100), true),
        (tally(100, 0, 100, 600), unseen, true),
        // More than 5 %, as may be by chance; and beyond it.
        (tally(100, 0, 6, 600), tally(1_900, 0, 0, 100), false),
        (tally(100, 0, 13, 600), tally(1_900, 0, 0, 100), true),
        (tally(100_000, 0, 5_000, 500), tally(1_900_000, 0, 0, 100), false),
        // Not by a quarter, whatever their number.
        (tally(100_000, 0, 10_000, 590), tally(1_900_000, 0, 60_000, 480), false),
        (tally(100_000, 0, 10_000, 601), tally(1_900_000, 0, 60_000, 480), true),
        // Slow both.
        (tally(1_000, 0, 900, 2_000), tally(19_000, 0, 17_000, 2_000), false),
    ] {
        let decision = Rollout::new(Duration::ZERO).judge(MINUTE, &spec(), &trial, &stable);
        let ended = decision.map(|d| d.outcome) == Some(RolloutOutcome::Ended(Cause::Latency));
        assert_eq!(ended, ends, "{trial}; {stable}");
    }
}

#[test]
fn an_ended_canary_stays_ended_and_says_why() {
    let (spec, mut rollout) = (spec(), Rollout::new(Duration::ZERO));
    let decision = rollout.judge(MINUTE, &spec, &failed(10, 5), &failed(190, 0)).map(|d| d.to_string());
    let expected = "ended at 5 % for its errors: 10 requests, 5 errors (50.000 %), P95 100 ms; \
                    stable: 190 requests, 0 errors (0.000 %), P95 100 ms";
    assert_eq!(decision.as_deref(), Some(expected));
    assert_eq!((rollout.percent(&spec), rollout.since()), (0, MINUTE));
    assert_eq!(rollout.judge(MINUTE * 1_000, &spec, &tally(1_000_000, 0, 0, 1), &Tally::default()), None);
    assert_eq!(rollout.stage(), RolloutStage::Ended(Cause::ErrorRate));
}

#[test]
fn a_fixed_weight_never_grows_and_may_end() {
    let spec = Canary { steps: vec![10], pace: Vec::new(), ..spec() };
    let mut rollout = Rollout::new(Duration::ZERO);
    assert_eq!(rollout.judge(MINUTE * 10_000, &spec, &tally(1_000_000, 0, 0, 1), &failed(9_000_000, 0)), None);
    assert_eq!(rollout.percent(&spec), 10);
    assert!(rollout.judge(MINUTE * 10_001, &spec, &failed(10, 10), &failed(90, 0)).is_some());
    assert_eq!(rollout.percent(&spec), 0);
}

#[test]
fn steps_that_stop_short_of_all_clients_stay_at_the_last() {
    let spec = Canary { steps: vec![5, 25], ..spec() };
    let mut rollout = Rollout::new(Duration::ZERO);
    let (good, stable) = (tally(10_000, 0, 0, 1), failed(100_000, 0));
    assert!(rollout.judge(MINUTE * 30, &spec, &good, &stable).is_some());
    assert_eq!(rollout.judge(MINUTE * 10_000, &spec, &good, &stable), None);
    assert_eq!((rollout.stage(), rollout.percent(&spec)), (RolloutStage::Trying(1), 25));
}

#[test]
fn a_tally_is_read_off_a_histogram() {
    let mut answered = [0; BUCKETS];
    answered[quantile::bucket(Duration::from_millis(10))] = 90;
    answered[quantile::bucket(Duration::from_secs(1))] = 4;
    let mark = Duration::from_millis(500);
    let seen = Tally::of(answered, 6, mark);
    assert_eq!((seen.requests, seen.errors, seen.slow), (100, 6, 10));
    assert_eq!(seen.p95_ms(), None, "the 95th has failed");
    let p95_ms = Tally::of(answered, 4, mark).p95_ms();
    assert!(p95_ms.is_some_and(|ms| (1_000.0..1_130.0).contains(&ms)), "{p95_ms:?}");
    assert_eq!(Tally::of([0; BUCKETS], 0, mark), Tally::default());
}

/// Both versions fail alike, far past the mark, and the question is asked after each ten requests.
#[test]
fn a_trouble_of_both_versions_seldom_ends_it_however_often_it_is_asked() {
    let spec = Canary { steps: vec![5, 100], ..spec() };
    let mut hash = 1_u64;
    let mut chance = || {
        hash = crate::hash::mix(hash.wrapping_add(0x9e37_79b9_7f4a_7c15));
        crate::hash::fraction(hash)
    };
    let mut ended = 0;
    for _ in 0..200 {
        let mut rollout = Rollout::new(Duration::ZERO);
        let mut tallies = [failed(0, 0); 2];
        for _ in 0..1_000 {
            for _ in 0..10 {
                let seen = &mut tallies[usize::from(chance() > 0.05)];
                seen.requests += 1;
                seen.errors += u64::from(chance() < 0.1);
            }
            ended += usize::from(rollout.judge(MINUTE, &spec, &tallies[0], &tallies[1]).is_some());
        }
    }
    assert!(ended <= 6, "{ended} of 200");
}

fn any_tally() -> impl Strategy<Value = Tally> {
    (0_u64..30_000, 0.0_f64..0.02, 0.0_f64..0.2, 1_u64..700).prop_map(|(requests, errors, slow, p95_ms)| {
        tally(requests, (requests as f64 * errors) as u64, (requests as f64 * slow) as u64, p95_ms)
    })
}

proptest! {
    #[test]
    fn the_share_grows_by_success_alone_and_falls_to_nothing_alone(
        looks in prop::collection::vec((0_u32..90, any_tally(), any_tally()), 1..40)
    ) {
        let (spec, mut rollout) = (spec(), Rollout::new(Duration::ZERO));
        let mut now = Duration::ZERO;
        for (minutes, trial, stable) in looks {
            now += MINUTE * minutes;
            let (before, since, stage) = (rollout.percent(&spec), rollout.since(), rollout.stage());
            let decision = rollout.judge(now, &spec, &trial, &stable);
            let after = rollout.percent(&spec);
            prop_assert!(after == 0 || spec.steps.contains(&after));
            prop_assert!(after >= before || after == 0 && matches!(rollout.stage(), RolloutStage::Ended(_)));
            prop_assert_eq!(decision.is_some(), rollout.stage() != stage);
            if after > before || rollout.stage() == RolloutStage::Promoted && stage != RolloutStage::Promoted {
                let step = spec.steps.iter().position(|step| *step == before).unwrap_or_default();
                prop_assert!(now - since >= spec.pace[step.min(2)]);
                prop_assert!(trial.requests >= 10_000);
                prop_assert!(trial.error_rate() <= spec.success.error_rate.max(stable.error_rate()));
                prop_assert!(trial.p95 <= stable.p95.max(Some(spec.success.p95)));
            }
            if !matches!(stage, RolloutStage::Trying(_)) {
                prop_assert_eq!(rollout.stage(), stage);
            }
        }
    }

    #[test]
    fn what_is_no_worse_than_the_stable_version_is_not_ended(trial in any_tally(), more in 1_u64..20) {
        let stable = Tally { requests: trial.requests * more, errors: trial.errors * more, slow: trial.slow * more, ..trial };
        let decision = Rollout::new(Duration::ZERO).judge(Duration::ZERO, &spec(), &trial, &stable);
        prop_assert_eq!(decision, None);
    }
}
