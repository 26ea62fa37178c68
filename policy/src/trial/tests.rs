use proptest::prelude::*;

use super::*;

/// Requests, errors, shed, refused; all answers took `ms` but one in 25, which took ten times as long.
fn did(requests: u64, [errors, shed, refused]: [u64; 3], ms: u64) -> Observed {
    let mut observed = Observed { requests, errors, shed, refused, ..Observed::default() };
    let bucket = |ms| quantile::bucket(Duration::from_millis(ms));
    observed.times[bucket(ms * 10)] = requests / 25;
    observed.times[bucket(ms)] = requests - requests / 25;
    observed
}

fn well(requests: u64) -> Observed {
    did(requests, [0; 3], 100)
}

fn nodes(before: Observed, since: Observed) -> Nodes {
    Nodes { before, since }
}

fn told(staged: &Nodes, others: &Nodes) -> Vec<String> {
    judge(staged, others, &Marks::default()).iter().map(Finding::to_string).collect()
}

/// Returns the names of what is found, of nodes that did `before` and `since`, with nobody else.
fn found(before: Observed, since: Observed) -> Vec<&'static str> {
    let findings = judge(&nodes(before, since), &Nodes::default(), &Marks::default());
    findings.iter().map(|finding| finding.signal.name()).collect()
}

#[test]
fn what_is_found_against_the_same_nodes_before() {
    let counts = |requests, counts| did(requests, counts, 100);
    for (what, before, since, expected) in [
        ("nothing yet", well(9_120), Observed::default(), &[][..]),
        ("all is well", well(9_120), well(480), &[]),
        ("four errors of four", well(9_120), counts(4, [4, 0, 0]), &[]),
        ("five errors of five", well(9_120), counts(5, [5, 0, 0]), &["errors"]),
        ("31 errors", counts(9_120, [4, 0, 0]), counts(480, [31, 0, 0]), &["errors"]),
        ("errors beyond chance, below the mark", well(1_000_000), counts(10_000, [90, 0, 0]), &[]),
        ("past the mark by chance", well(9_120), counts(400, [5, 0, 0]), &[]),
        ("errors as ever", counts(9_120, [912, 0, 0]), counts(480, [50, 0, 0]), &[]),
        ("fewer errors", counts(9_120, [912, 0, 0]), counts(480, [0; 3]), &[]),
        ("refused from nothing", well(9_120), counts(480, [0, 0, 5]), &["refused"]),
        ("refused from nothing, too few", well(9_120), counts(480, [0, 0, 4]), &[]),
        ("refused as ever", counts(9_120, [0, 0, 950]), counts(480, [0, 0, 55]), &[]),
        ("refused more than ever", counts(9_120, [0, 0, 950]), counts(480, [0, 0, 85]), &["refused"]),
        ("shed", counts(9_120, [2, 2, 0]), counts(480, [0, 6, 0]), &["shed"]),
        ("shed, which are errors", well(9_120), counts(480, [40, 40, 0]), &["errors", "shed"]),
        ("slower", well(9_120), did(480, [0; 3], 150), &["latency"]),
        ("slower, by less than a quarter", well(9_120), did(480_000, [0; 3], 117), &[]),
        ("slower, of too few", well(9_120), did(99, [0; 3], 900), &[]),
        ("faster", well(9_120), did(480, [0; 3], 50), &[]),
        ("everything", well(9_120), did(480, [48, 24, 24], 900), &["errors", "latency", "shed", "refused"]),
    ] {
        assert_eq!(found(before, since), expected, "{what}");
    }
}

#[test]
fn the_nodes_own_past_comes_before_the_others_and_those_before_the_marks() {
    let bad = || did(480, [31, 0, 31], 100);
    let busy = |before, since| nodes(well(before), well(since));
    for (before, others, baseline) in [
        (100, busy(9_000, 9_000), "before"),
        (99, busy(9_000, 100), "others"),
        (0, busy(0, 100), "others"),
        (99, busy(9_000, 99), "mark"),
        (0, Nodes::default(), "mark"),
    ] {
        let findings = judge(&nodes(well(before), bad()), &others, &Marks::default());
        let told = findings.iter().map(|finding| match finding.baseline {
            Baseline::Before { .. } => "before",
            Baseline::Others(_) => "others",
            Baseline::Mark(_) => "mark",
        });
        // With the marks alone, only errors can be too many.
        let signals = if baseline == "mark" { 1 } else { 2 };
        assert_eq!(told.collect::<Vec<_>>(), vec![baseline; signals], "{before} before");
    }
}

#[test]
fn a_mark_is_the_operators() {
    let staged = nodes(Observed::default(), did(1_000, [50, 0, 0], 100));
    for (error_rate, errors) in [(0.0, true), (0.01, true), (0.03, true), (0.05, false), (1.0, false)] {
        let findings = judge(&staged, &Nodes::default(), &Marks { error_rate });
        assert_eq!(!findings.is_empty(), errors, "{error_rate}");
    }
}

#[test]
fn a_finding_tells_an_engineer_what_and_whether_it_is_the_table() {
    let staged = nodes(did(9_120, [4, 0, 0], 100), did(480, [31, 0, 0], 100));
    let alone = "errors: 31 of 480 (6.5 %) with the staged table, 4 of 9120 (0.0 %) on the same nodes before";
    for (others, rest) in [
        (Nodes::default(), ""),
        (nodes(well(99), well(9_000)), ""),
        (nodes(well(9_000), well(9_000)), "; the other nodes are no worse than before"),
        (
            nodes(did(80_000, [9, 0, 0], 100), did(9_000, [700, 0, 0], 100)),
            "; the other nodes became worse too (9 of 80000 (0.0 %) before, 700 of 9000 (7.8 %) since): \
             it may not be the table",
        ),
    ] {
        assert_eq!(told(&staged, &others), [format!("{alone}{rest}")]);
    }

    let staged = nodes(well(0), did(480, [0, 0, 48], 200));
    assert_eq!(
        told(&staged, &nodes(well(0), did(9_120, [0, 0, 90], 100))),
        [
            "latency: P95 213 ms with the staged table, P95 106 ms on the other nodes meanwhile \
             (longer than 106 ms took 480 of 480 (100.0 %), instead of 4.0 %)",
            "refused: 48 of 480 (10.0 %) with the staged table, 90 of 9120 (1.0 %) on the other nodes meanwhile",
        ]
    );
    let errors = nodes(well(0), did(480, [31, 0, 0], 100));
    assert_eq!(
        told(&errors, &Nodes::default()),
        ["errors: 31 of 480 (6.5 %) with the staged table, more than 1.0 %, and nothing to compare it with"]
    );
}

#[test]
fn what_is_worse_everywhere_is_said_to_be() {
    let (good, bad) = (|| did(9_000, [9, 0, 9], 100), || did(9_000, [900, 90, 900], 400));
    let findings = judge(&nodes(good(), bad()), &nodes(good(), bad()), &Marks::default());
    assert_eq!(findings.len(), 4);
    let too = |finding: &Finding| {
        matches!(&finding.baseline, Baseline::Before { elsewhere: Elsewhere::Worse { .. }, .. })
            && finding.to_string().ends_with("it may not be the table")
    };
    assert!(findings.iter().all(too), "{findings:#?}");
    // Compared with the others, nothing is left.
    let fresh = nodes(Observed::default(), bad());
    assert_eq!(judge(&fresh, &nodes(good(), bad()), &Marks::default()), []);
}

#[test]
fn counts_are_differences_and_sums() {
    let (early, late) = (did(1_000, [1, 2, 3], 100), did(1_500, [4, 4, 4], 100));
    let between = late.since(&early);
    assert_eq!((between.requests, between.errors, between.shed, between.refused), (500, 3, 2, 1));
    assert_eq!((early.plus(&between), between.timed()), (late.clone(), 500));
    // It started anew.
    assert_eq!(early.since(&late), Observed::default());
}

#[test]
fn counts_and_findings_are_read_as_they_were_written() {
    let observed = did(1_000, [1, 2, 3], 100);
    let json = serde_json::to_value(&observed).expect("JSON");
    assert_eq!(json["times"], serde_json::json!([[84, 960], [111, 40]]), "the empty ones are left out");
    assert_eq!(serde_json::from_value::<Observed>(json.clone()).expect("counts"), observed);
    let mut strange = json;
    strange["times"] = serde_json::json!([[177, 1]]);
    let error = serde_json::from_value::<Observed>(strange).expect_err("there is no such bucket");
    assert_eq!(error.to_string(), "invalid value: integer `177`, expected a bucket of a time");

    let findings = judge(&nodes(well(9_120), did(480, [48, 24, 24], 900)), &Nodes::default(), &Marks::default());
    let json = serde_json::to_string(&findings).expect("JSON");
    assert_eq!(serde_json::from_str::<Vec<Finding>>(&json).expect("findings"), findings);
}

fn any_observed() -> impl Strategy<Value = Observed> {
    (0_u64..30_000, prop::array::uniform3(0_u64..3_000), 1_u64..900)
        .prop_map(|(requests, counts, ms)| did(requests, counts.map(|count| count.min(requests)), ms))
}

proptest! {
    #[test]
    fn what_is_no_worse_is_never_found(
        since in any_observed(), others in any_observed(), more in 1_usize..20
    ) {
        let usual = (0..more).fold(Observed::default(), |sum, _| sum.plus(&since));
        prop_assume!(usual.requests >= LEAST_REQUESTS);
        let nothing = Observed::default();
        for (staged, others) in [
            (nodes(usual.clone(), since.clone()), nodes(others.clone(), others)),
            (nodes(nothing.clone(), since), nodes(nothing, usual)),
        ] {
            prop_assert_eq!(judge(&staged, &others, &Marks::default()), []);
        }
    }

    #[test]
    fn a_finding_is_of_a_larger_share(before in any_observed(), since in any_observed(), others in any_observed()) {
        for finding in judge(&nodes(before, since), &nodes(others.clone(), others), &Marks::default()) {
            let usual = match finding.baseline {
                Baseline::Before { figure, .. } | Baseline::Others(figure) => figure.cases.share(),
                Baseline::Mark(share) => share,
            };
            prop_assert!(finding.staged.cases.share() > usual && finding.staged.cases.count() >= LEAST_CASES);
        }
    }
}
