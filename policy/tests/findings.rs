//! What a proof says of tables that leave somebody without a region, each cause in its words.

use policy::jurisdiction::{DataClass, JurisdictionId, Scope, SuperRegion, Transfer};
use policy::moment::{Moment, Period};
use policy::proof::{Case, Cause, Finding, Severity, prove};
use policy::residency::Source;
use policy::route::RouteSpec;
use policy::table::{TableSpec, UnknownOrigin};
use policy::{Access, Payload, Table};

mod sample;
use sample::{class, jurisdiction, region, route, rule, spec};

/// Regions in Germany, Ireland and the United States; personal data on `/v3`, kept in the Union; unknown clients refused.
fn world() -> TableSpec {
    let mut spec = spec(vec![region("de", "DE"), region("ie", "IE"), region("us", "US")]);
    spec.jurisdictions = vec![jurisdiction("eu", &["@EU"]), jurisdiction("us", &["US"])];
    spec.data_classes.push(class("personal", Transfer::Allowed));
    spec.rules = vec![rule(0, 1, &["@EU"], Transfer::Prohibited), rule(1, 1, &["US"], Transfer::Allowed)];
    spec.routes.push(route("api", "/v3/", 1));
    spec.unknown_origin = UnknownOrigin::Refuse;
    spec
}

fn findings(spec: &TableSpec) -> Vec<Finding> {
    prove(&Table::new(spec.clone()).expect("a table")).findings
}

/// What is said, notes aside.
fn said(spec: &TableSpec) -> Vec<String> {
    let warnings = findings(spec).into_iter().filter(|one| one.severity() != Severity::Note);
    warnings.map(|one| one.describe(spec)).collect()
}

fn causes(spec: &TableSpec) -> Vec<Cause> {
    let gap = |one: Finding| match one {
        Finding::Unserved(gap) => Some(gap.cause),
        _ => None,
    };
    findings(spec).into_iter().filter_map(gap).collect()
}

#[test]
fn reads_that_no_region_serves_are_told_from_writes() {
    let mut spec = world();
    spec.regions.iter_mut().for_each(|region| region.capabilities.read = false);
    let said = said(&spec);
    assert!(said[0].starts_with("no region can ever serve the reads of routes public, api: "), "{said:?}");
}

/// The end of a rule opens nothing: it says since when it is over, and that nothing has taken its place.
#[test]
fn a_rule_that_is_over_says_since_when() {
    let mut spec = world();
    spec.regions.truncate(1);
    spec.regions[0] = region("br", "BR");
    spec.rules.truncate(1);
    spec.rules[0] = rule(0, 1, &["BR"], Transfer::Allowed);
    assert_eq!(said(&spec), Vec::<String>::new());
    spec.rules[0].period = Period { from: None, until: Some("2026-06-01".parse::<Moment>().unwrap()) };
    assert_eq!(
        said(&spec),
        ["the rule at line 1 (law) is over since 2026-06-01, and nothing has taken its place: no region is left for \
          personal of eu (route api)"]
    );
    spec.rules[0] = rule(0, 1, &["DE"], Transfer::Prohibited);
    spec.rules[0].period = Period { from: None, until: Some("2027-06-01".parse::<Moment>().unwrap()) };
    let [Finding::RuleSelectsNothing { refuses: Some(gap), .. }] = &findings(&spec)[..] else {
        panic!("{:?}", findings(&spec))
    };
    assert_eq!(gap.cause, Cause::Rule(0));
}

/// A class that keeps to its super-region, beside a rule that asks for regions elsewhere.
#[test]
fn a_rule_against_a_class_is_a_contradiction() {
    let mut spec = world();
    for name in ["@AMERICAS", "@EMEA"] {
        spec.super_regions.push(SuperRegion { name: name.into(), countries: sample::countries(&[name]) });
    }
    spec.data_classes[1] = DataClass { scope: Scope::SuperRegion, ..class("personal", Transfer::Allowed) };
    spec.rules[0] = rule(0, 1, &["US"], Transfer::Prohibited);
    let contradictions: Vec<Cause> =
        causes(&spec).into_iter().filter(|cause| matches!(cause, Cause::Contradiction(_))).collect();
    assert_eq!(contradictions, [Cause::Contradiction(vec![Source::Rule(0), Source::SuperRegion])]);
    let said = said(&spec);
    assert!(
        said.iter().any(|one| one.starts_with(
            "no region satisfies both the rule at line 1 (law) and data_classes.personal.scope, so that nobody may serve \
             personal of "
        )),
        "{said:?}"
    );
    // Without the rule the class alone leaves nobody in a super-region that has no region.
    spec.rules.clear();
    spec.regions.truncate(2);
    let said = self::said(&spec);
    assert!(
        said.iter().any(|one| one.ends_with("personal keeps to its super-region, and no region is there")),
        "{said:?}"
    );
}

/// A country of two jurisdictions, one of which has a rule, and the other its class alone.
#[test]
fn a_rule_against_a_border_is_a_contradiction() {
    let mut spec = world();
    spec.jurisdictions.push(jurisdiction("dach", &["DE", "AT", "CH"]));
    spec.data_classes[1].cross_border = Transfer::Prohibited;
    spec.rules[0] = rule(0, 1, &["IE"], Transfer::Prohibited);
    let said = said(&spec);
    assert!(
        said.iter().any(|one| one.starts_with(
            "no region satisfies both the rule at line 1 (law) and data_classes.personal.cross_border in dach, so that \
             nobody may serve personal of "
        )),
        "{said:?}"
    );
}

/// Unknown clients may be of one jurisdiction whose own law contradicts itself: that is its clients' finding.
#[test]
fn what_is_of_one_jurisdiction_is_not_told_of_unknown_clients_as_the_strictest() {
    let mut spec = world();
    spec.jurisdictions.truncate(1);
    spec.rules.truncate(1);
    spec.rules.push(rule(0, 1, &["US"], Transfer::Prohibited));
    spec.unknown_origin = UnknownOrigin::Strictest;
    assert_eq!(causes(&spec), [Cause::Contradiction(vec![Source::Rule(0), Source::Rule(1)])]);
    spec.rules[1] = rule(0, 1, &[], Transfer::Prohibited);
    assert!(causes(&spec).iter().all(|cause| *cause == Cause::Strictest), "{:?}", causes(&spec));
}

/// A route for tenants of both: no region satisfies the laws of both, whoever asks.
#[test]
fn a_route_for_tenants_of_two_laws_serves_nobody() {
    let mut spec = world();
    spec.rules[1].transfer = Transfer::Prohibited;
    spec.routes[1].jurisdictions = vec![JurisdictionId(0), JurisdictionId(1)];
    let all: Vec<Cause> = causes(&spec);
    assert!(!all.is_empty() && all.iter().all(|cause| matches!(cause, Cause::Contradiction(_))), "{all:?}");
    assert!(
        said(&spec)[0].starts_with("no region satisfies both the rule at line 1 (law) and the rule at line 1 (law)")
    );
    // For tenants of one, clients of the other are refused, which follows from what the route says.
    spec.routes[1].jurisdictions.pop();
    assert_eq!((causes(&spec), said(&spec)), (vec![Cause::Tenant], Vec::new()));
}

/// The command asks what the finding is about: a request with content, a tunnel, a client with consent.
#[test]
fn the_command_of_a_case_asks_the_same_request() {
    let case = Case {
        from: "de".into(),
        countries: vec!["AT".parse().unwrap(), "DE".parse().unwrap()],
        declared: Some(("x-tenant".into(), "eu,us".into())),
        host: Some("api.example.com".into()),
        path: "/v3".into(),
        method: "POST",
        payload: Payload::Content,
        consent: true,
        down: vec!["ie".into(), "us".into()],
    };
    assert_eq!(
        case.command("t.toml"),
        "meridian explain --table t.toml --from de --country AT,DE --host api.example.com --path /v3 --method POST \
         --header x-tenant:eu,us --down ie --down us --content --consent"
    );
    let tunnel = Case { payload: Payload::Tunnel, consent: false, declared: None, down: Vec::new(), ..case.clone() };
    assert!(tunnel.command("t").ends_with("--method POST --upgrade"), "{}", tunnel.command("t"));
    let nothing = Case { payload: Payload::Nothing, countries: Vec::new(), host: None, ..tunnel };
    assert_eq!(nothing.command("t"), "meridian explain --table t --from de --country unknown --path /v3 --method POST");
}

/// A route that only writes is not found wanting by what only reads may open, and the other way round.
#[test]
fn what_only_reads_open_is_missed_by_writes_alone() {
    let mut spec = world();
    spec.rules[0] = rule(0, 1, &["BR"], Transfer::RequiresLocalCopy);
    let parts = |spec: &TableSpec| said(spec);
    let both = parts(&spec);
    assert!(both.iter().any(|one| one.contains("writes of personal of eu")), "{both:?}");
    spec.routes[1] = RouteSpec { access: Some(Access::Read), ..spec.routes[1].clone() };
    let reads = parts(&spec);
    assert!(!reads.iter().any(|one| one.contains("personal of eu")), "{reads:?}");
}
