//! A proof must see what a mistaken compilation or a mistaken decision would do: tables that were
//! compiled from another law than they state.

use super::decisions::{astray, difference};
use super::*;
use crate::failover::FailoverScope;
use crate::jurisdiction::{JurisdictionId, Scope, SuperRegion, Transfer};
use crate::region::AdminState;
use crate::residency::Allowed;
use crate::table::{TableSpec, UnknownOrigin, UnlistedJurisdiction};

use crate::sample::{class, countries, jurisdiction, region, route, rule, spec};

/// Regions in Germany, Ireland and the United States; personal data on `/v3`, kept in the Union.
fn world() -> TableSpec {
    let mut spec = spec(vec![region("de", "DE"), region("ie", "IE"), region("us", "US")]);
    spec.jurisdictions = vec![jurisdiction("eu", &["@EU"]), jurisdiction("us", &["US"])];
    spec.data_classes.push(class("personal", Transfer::Allowed));
    spec.rules = vec![rule(0, 1, &["@EU"], Transfer::Prohibited), rule(1, 1, &["US"], Transfer::Allowed)];
    spec.routes.push(route("api", "/v3/", 1));
    spec.routes.push(route("more", "/more/", 0));
    spec
}

type Change<'a> = &'a dyn Fn(&mut TableSpec);

/// Returns what is found of a table that was compiled from `world` and says what `change` makes of it.
fn forged(change: impl Fn(&mut TableSpec)) -> Vec<Finding> {
    let mut said = world();
    change(&mut said);
    prove(&Table::new(world()).expect("a table").saying(said)).findings
}

/// Returns the first fault: what, where, and for whom.
fn fault(findings: &[Finding]) -> Option<(Option<Misjudgement>, usize, String)> {
    findings.iter().find_map(|finding| match finding {
        Finding::Leak { case, region } => Some((None, region.index(), case.command("t"))),
        Finding::Misjudged { case, region, how } => Some((Some(*how), region.index(), case.command("t"))),
        _ => None,
    })
}

#[test]
fn a_table_that_is_compiled_as_it_says_has_no_fault() {
    assert_eq!(fault(&forged(|_| {})), None);
}

#[test]
fn leaks_are_found_wherever_the_compilation_is_laxer_than_the_law() {
    let ireland = |spec: &mut TableSpec| spec.rules[0].allow = rule(0, 1, &["IE"], Transfer::Prohibited).allow;
    let norway = |spec: &mut TableSpec| spec.jurisdictions[0] = jurisdiction("eu", &["@EU", "NO"]);
    let american = |spec: &mut TableSpec| spec.rules[1].transfer = Transfer::Prohibited;
    let read_only = |spec: &mut TableSpec| spec.rules[1].transfer = Transfer::RequiresLocalCopy;
    let consent = |spec: &mut TableSpec| spec.data_classes[1].cross_border = Transfer::WithConsent;
    let super_region = |spec: &mut TableSpec| {
        spec.data_classes[1].scope = Scope::SuperRegion;
        spec.super_regions = ["@EMEA", "@AMERICAS", "@APAC"]
            .map(|name| SuperRegion { name: name.into(), countries: countries(&[name]) })
            .to_vec();
    };
    let unknown = |spec: &mut TableSpec| spec.unknown_origin = UnknownOrigin::Refuse;
    let unlisted = |spec: &mut TableSpec| spec.unlisted_jurisdiction = UnlistedJurisdiction::Refuse;
    let tenant = |spec: &mut TableSpec| spec.routes[1].jurisdictions = vec![JurisdictionId(0)];
    let other_class = |spec: &mut TableSpec| spec.routes[2].data_class = spec.routes[1].data_class;
    let changes: [(Change<'_>, usize, &str); 10] = [
        (&other_class, 2, "--country unknown --path /more --method GET"),
        (&ireland, 0, "--country AT --path /v3 --method GET"),
        (&norway, 2, "--country NO --path /v3 --method GET"),
        (&american, 0, "--country US --path /v3 --method GET"),
        (&read_only, 0, "--country US --path /v3 --method POST"),
        (&consent, 0, "--country US --path /v3 --method GET"),
        (&super_region, 2, "--country AD --path /v3 --method GET"),
        (&unknown, 0, "--country unknown --path /v3 --method GET"),
        (&unlisted, 0, "--country AD --path /v3 --method GET"),
        (&tenant, 2, "--country AD --path /v3 --method GET"),
    ];
    for (change, region, request) in changes {
        let (how, leaked, case) = fault(&forged(change)).expect(request);
        assert_eq!((how, leaked), (None, region), "{request}");
        assert!(case.ends_with(request), "{case} is not {request}");
    }
    assert!(forged(ireland).len() <= 16, "one fault is told a few times");
}

#[test]
fn other_faults_are_told_from_leaks() {
    let lax = |spec: &mut TableSpec| spec.rules[0].transfer = Transfer::Allowed;
    let marked = |spec: &mut TableSpec| spec.rules[1].transfer = Transfer::WithSafeguards;
    let preferred = |spec: &mut TableSpec| spec.rules[1].allow = rule(1, 1, &["DE"], Transfer::Allowed).allow;
    let disabled = |spec: &mut TableSpec| spec.regions[2].state = AdminState::Disabled;
    let draining = |spec: &mut TableSpec| spec.regions[2].state = AdminState::Draining;
    let compliant = |spec: &mut TableSpec| spec.routes[1].require_compliance = vec!["soc2".into()];
    let changes: [(Change<'_>, Misjudgement); 6] = [
        (&lax, Misjudgement::Withheld),
        (&marked, Misjudgement::Mismarked),
        (&preferred, Misjudgement::Mismarked),
        (&disabled, Misjudgement::Unable),
        (&draining, Misjudgement::Unable),
        (&compliant, Misjudgement::Unable),
    ];
    for (change, expected) in changes {
        assert_eq!(fault(&forged(change)).map(|(how, ..)| how), Some(Some(expected)));
    }
}

/// A table whose decisions go farther than the route's failover scope says, and one whose stay nearer.
#[test]
fn a_failover_scope_that_is_not_kept_is_a_fault() {
    use FailoverScope::{Any, Jurisdiction, Region};
    for (compiled, said, expected) in [
        (Any, Any, None),
        (Region, Region, None),
        (Jurisdiction, Jurisdiction, None),
        (Any, Region, Some(Misjudgement::Unable)),
        (Jurisdiction, Region, Some(Misjudgement::Unable)),
        (Region, Any, Some(Misjudgement::Withheld)),
        (Region, Jurisdiction, Some(Misjudgement::Unable)),
    ] {
        let with = |failover| {
            let mut spec = world();
            spec.unknown_origin = UnknownOrigin::Refuse;
            spec.routes[1].failover = failover;
            spec
        };
        let found = prove(&Table::new(with(compiled)).expect("a table").saying(with(said))).findings;
        let how = fault(&found).map(|(how, ..)| how);
        assert_eq!(how, expected.map(Some), "{compiled:?} taken for {said:?}");
    }
}

/// A scope is kept whatever there is around the first choice: jurisdictions, a country's other regions, or none.
#[test]
fn a_failover_scope_that_is_kept_is_no_fault() {
    use FailoverScope::{Any, Jurisdiction, Region};
    for failover in [Any, Jurisdiction, Region] {
        for with_jurisdictions in [false, true] {
            let mut spec = world();
            spec.regions.push(region("de-2", "DE"));
            spec.regions.push(region("jp", "JP"));
            spec.routes.iter_mut().for_each(|route| route.failover = failover);
            if !with_jurisdictions {
                (spec.rules, spec.jurisdictions) = (Vec::new(), Vec::new());
            }
            let found = prove(&Table::new(spec).expect("a table")).findings;
            assert_eq!(fault(&found), None, "{failover:?}, {with_jurisdictions}");
        }
    }
}

/// One fault shows itself in thousands of ways: as many are shown as anybody reads.
#[test]
fn eight_cases_of_a_fault_are_shown() {
    let found = forged(|spec| spec.rules[1].transfer = Transfer::Prohibited);
    let faults = found.iter().filter(|one| matches!(one, Finding::Leak { .. } | Finding::Misjudged { .. }));
    assert_eq!(faults.count(), 8);
}

/// How many decisions a proof takes, in a world without a law: what it leaves out, it cannot find.
#[test]
fn a_proof_tries_every_client_failure_and_attempt() {
    // A read and a write, with consent and without: for every country and for unknown clients; and one of each route that
    // says the same as another.
    let clients = 4 * (crate::country::Country::all().count() + 1);
    let (of_the_route, of_the_kind) = (2, 4);
    for (regions, failures, attempts) in [
        // The only one down.
        (1, 1, 1),
        // Each down, each alone up, and all down.
        (2, 2 * 2 + 1, 2),
        (3, 2 * 3 + 1, 3),
    ] {
        let names = ["a", "b", "c"].into_iter().take(regions);
        let table = Table::new(spec(names.map(|name| region(name, "DE")).collect())).expect("a table");
        let expected = clients + of_the_route + of_the_kind + failures + attempts;
        assert_eq!(prove(&table).decisions, expected, "{regions} regions");
    }
}

/// Returns the first `count` regions.
fn first(count: usize) -> RegionSet {
    RegionSet::first(count)
}

#[test]
fn a_decision_that_lies_is_caught() {
    let id = |index| RegionId::new(index).expect("an id");
    let one = |index| std::iter::once(id(index)).collect::<RegionSet>();
    // Lawful are 0, 1 and 2; able are 0, 1 and 3.
    let able = first(2).or(&one(3));
    for (found, expected) in [
        (first(2), None),
        (first(2).or(&one(3)), Some((id(3), None))),
        (first(3), Some((id(2), Some(Misjudgement::Unable)))),
        (one(0), Some((id(1), Some(Misjudgement::Withheld)))),
    ] {
        assert_eq!(difference(&first(3), &able, &found), expected, "{found:?}");
    }
}

#[test]
fn attempts_that_go_astray_are_caught() {
    let id = |index| RegionId::new(index).expect("an id");
    let opened = std::iter::once(id(1)).collect();
    // 0 is at home, 1 open with safeguards; 2 is lawful and down; 3 is forbidden.
    let home = first(3).without(&opened);
    let allowed = Allowed { home, opened, safeguarded: opened };
    let unable = Some(Misjudgement::Unable);
    let (withheld, mismarked) = (Some(Misjudgement::Withheld), Some(Misjudgement::Mismarked));
    for (attempts, told, expected) in [
        (&[(0, false), (1, true)][..], &[0, 1][..], None),
        (&[(0, false), (3, false)], &[0, 1], Some((3, None))),
        (&[(0, false), (1, true), (3, false)], &[0, 1], Some((3, None))),
        (&[(0, false), (2, false)], &[0, 1], Some((2, unable))),
        (&[(0, false), (0, false)], &[0, 1], Some((0, unable))),
        (&[(0, false), (1, false)], &[0, 1], Some((1, mismarked))),
        (&[(0, true), (1, true)], &[0, 1], Some((0, mismarked))),
        (&[(1, true), (0, false)], &[0, 1], Some((1, mismarked))),
        (&[(0, false)], &[0, 1], Some((1, withheld))),
        (&[], &[], Some((0, withheld))),
        (&[(0, false), (1, true)], &[0, 1, 2], Some((2, unable))),
    ] {
        let attempts: Vec<(RegionId, bool)> = attempts.iter().map(|(index, marked)| (id(*index), *marked)).collect();
        let told: Vec<RegionId> = told.iter().map(|index| id(*index)).collect();
        let found = astray(&allowed, &first(2), &attempts, &told);
        assert_eq!(found, expected.map(|(index, how)| (id(index), how)), "{attempts:?}");
    }
}
