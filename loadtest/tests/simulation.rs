//! The simulator in a small size: it repeats itself, and the fleet holds what its scenarios promise.

use loadtest::simulate::{Outcome, SCENARIOS, Scenario, Size, Tuning, simulate, svg, text};

const SMALL: Size = Size { nodes: 6, regions: 3, seconds: Size::LEAST_SECONDS, seed: 1 };

fn outcome(scenario: &str, size: &Size) -> Outcome {
    simulate(Scenario::named(scenario).expect("a scenario"), size, &Tuning::default()).expect("a size")
}

fn holds(scenario: &str) -> Outcome {
    let outcome = outcome(scenario, &SMALL);
    assert!(outcome.measures.broken.is_empty(), "{:#?}", outcome.measures);
    outcome
}

#[test]
fn a_seed_gives_one_result_and_another_seed_another() {
    let size = |seed| Size { nodes: 3, seed, ..SMALL };
    let [first, again, other] = [1, 1, 2].map(|seed| outcome("report-loss", &size(seed)));
    assert!(first == again);
    assert!(svg(&first) == svg(&again));
    assert!(first != other);
}

#[test]
fn a_dead_region_loses_only_what_the_law_keeps_there() {
    let measures = holds("region-loss-and-return").measures;
    // Of three regions two are in the EU: its personal data has another.
    let all = [measures.sheddable, measures.default, measures.critical];
    assert!(all.iter().all(|shares| shares.lost < 0.01 && shares.refused == 0.0), "{measures:#?}");
    assert!(measures.sheddable.spilled > measures.default.spilled, "{measures:#?}");
    assert!(measures.converged_s.is_some_and(|seconds| seconds < 60), "{measures:#?}");
}

#[test]
fn overload_sheds_the_unimportant_first() {
    let measures = outcome("overload", &SMALL).measures;
    let [sheddable, default, critical] =
        [measures.sheddable, measures.default, measures.critical].map(|each| each.shed);
    assert!(sheddable > 30.0 && default < sheddable / 4.0 && critical < 0.1, "{measures:#?}");
}

#[test]
fn a_steady_fleet_is_steady() {
    let measures = holds("uneven").measures;
    assert!(measures.highest < 0.9 && measures.critical.spilled == 0.0, "{measures:#?}");
}

#[test]
fn a_table_has_a_line_for_each_run() {
    let runs = [outcome("steady", &Size { nodes: 3, ..SMALL }).measures];
    let lines = text(&runs);
    assert_eq!(lines.lines().count(), 3, "{lines}");
    assert!(lines.contains("| steady"), "{lines}");
}

#[test]
fn a_size_has_bounds() {
    for (size, complaint) in [
        (Size { regions: 2, ..SMALL }, "2 regions"),
        (Size { regions: 31, nodes: 100, ..SMALL }, "31 regions"),
        (Size { nodes: 2, ..SMALL }, "2 nodes in 3 regions"),
        (Size { nodes: 2_001, ..SMALL }, "2001 nodes"),
        (Size { seconds: 599, ..SMALL }, "599 s"),
        (Size { seconds: 86_401, ..SMALL }, "86401 s"),
    ] {
        let error = simulate(&SCENARIOS[0], &size, &Tuning::default()).expect_err("a bad size").to_string();
        assert!(error.contains(complaint), "{error}");
    }
}
