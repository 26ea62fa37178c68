//! Small tables, and what a proof must find in each.

use policy::jurisdiction::{DataClass, JurisdictionId, Rule, Scope, Selector, SuperRegion, Transfer, WhenUnavailable};
use policy::moment::{Moment, Period};
use policy::proof::{Cause, Consent, Finding, Idle, Misjudgement, Part, Proof, Severity, prove};
use policy::region::{AdminState, Capabilities};
use policy::residency::Source;
use policy::route::{HostPattern, MethodSet, PathPattern, RouteSpec};
use policy::table::{TableSpec, UnknownOrigin, UnlistedJurisdiction};
use policy::{Access, Method, RegionSet, RouteId, Table};

mod sample;
use sample::{class, jurisdiction, region, route, rule, spec};

/// Regions in Germany, Ireland and the United States; personal data on `/v3`, kept in the Union.
fn world() -> TableSpec {
    let mut spec = spec(vec![region("de", "DE"), region("ie", "IE"), region("us", "US")]);
    spec.jurisdictions = vec![jurisdiction("eu", &["@EU"]), jurisdiction("us", &["US"])];
    spec.data_classes.push(class("personal", Transfer::Allowed));
    spec.rules = vec![rule(0, 1, &["@EU"], Transfer::Prohibited), rule(1, 1, &["US"], Transfer::Allowed)];
    spec.routes.push(route("api", "/v3/", 1));
    spec
}

fn proved(spec: TableSpec) -> (Proof, TableSpec) {
    (prove(&Table::new(spec.clone()).expect("a table")), spec)
}

/// What is found, each as its severity and sentence.
fn found(spec: TableSpec) -> Vec<String> {
    let (proof, spec) = proved(spec);
    proof.findings.iter().map(|finding| format!("{:?}: {}", finding.severity(), finding.describe(&spec))).collect()
}

fn the_gap(spec: TableSpec) -> policy::proof::Gap {
    let (proof, spec) = proved(spec);
    let [Finding::Unserved(gap)] = proof.findings.as_slice() else {
        panic!("{:?}", proof.findings.iter().map(|one| one.describe(&spec)).collect::<Vec<_>>())
    };
    (**gap).clone()
}

#[test]
fn a_good_table_has_no_finding() {
    let (proof, _) = proved(world());
    assert_eq!(proof.findings, []);
    assert!(proof.decisions > 500, "{}", proof.decisions);
}

#[test]
fn a_table_that_serves_nobody_is_an_error() {
    for change in [
        |region: &mut policy::region::Region| region.state = AdminState::Disabled,
        |region: &mut policy::region::Region| region.capabilities = Capabilities { read: false, write: false },
    ] {
        let mut spec = world();
        spec.regions.iter_mut().for_each(change);
        let (proof, _) = proved(spec);
        assert!(proof.findings.contains(&Finding::ServesNobody) && proof.has_errors());
    }
    // Pinned clients are still served.
    let mut spec = world();
    spec.regions.iter_mut().for_each(|region| region.state = AdminState::Draining);
    let (proof, _) = proved(spec);
    assert!(!proof.has_errors());
    assert!(
        matches!(&proof.findings[..], [Finding::RoutesServeNobody { routes, part: Part::All }] if routes.count == 2)
    );
}

#[test]
fn routes_that_no_region_can_serve_are_named_once() {
    let mut spec = world();
    for index in 0..10 {
        let strict = RouteSpec {
            require_compliance: vec!["none".into()],
            ..route(&format!("s{index}"), &format!("/s{index}"), 0)
        };
        spec.routes.push(strict);
    }
    assert_eq!(
        found(spec),
        ["Warning: no region can ever serve routes s0, s1, s2 and 7 more: look at capabilities, state and \
          require_compliance"]
    );
    let mut spec = world();
    spec.regions.iter_mut().for_each(|region| region.capabilities.write = false);
    assert!(found(spec.clone())[0].contains("serve the writes of routes public, api"));
    // Where nothing can write, nothing is missed.
    for route in &mut spec.routes {
        route.methods = Some([Method::Get, Method::Head].into_iter().collect());
    }
    assert_eq!(found(spec.clone()), Vec::<String>::new());
    spec.routes[0].access = Some(Access::Write);
    assert!(found(spec)[0].contains("can ever serve route public"));
}

#[test]
fn a_jurisdiction_without_a_region_must_say_so() {
    let brazil = |rule: Option<Rule>| {
        let mut spec = world();
        spec.jurisdictions.push(jurisdiction("br", &["BR"]));
        spec.rules.extend(rule);
        spec
    };
    assert_eq!(found(brazil(None)), Vec::<String>::new(), "no rule, no restriction");
    let said = |rule: Rule| found(TableSpec { unknown_origin: UnknownOrigin::Refuse, ..brazil(Some(rule)) });
    assert_eq!(said(rule(2, 1, &[], Transfer::Prohibited)), Vec::<String>::new());
    assert_eq!(
        found(brazil(Some(rule(2, 1, &["BR"], Transfer::Prohibited)))),
        ["Warning: no region satisfies this, and so nobody may serve personal of br, unknown clients (route api): \
          write allow = [] if that is meant"]
    );
    // A rule that prefers regions that there are none of refuses nobody.
    let preferring = found(brazil(Some(rule(2, 1, &["BR"], Transfer::Allowed))));
    assert_eq!(preferring, ["Warning: no region satisfies this: write allow = [] if that is meant"]);
    // The class itself stays at home.
    let mut spec = brazil(None);
    spec.data_classes[1].cross_border = Transfer::Prohibited;
    let gap = the_gap_beside_notes(spec);
    assert_eq!((gap.cause, gap.part, gap.routes.count), (Cause::Border, Part::All, 1));
    assert_eq!(
        gap.case.command("my routes.toml"),
        "meridian explain --table 'my routes.toml' --from de --country BR --path /v3 --method GET"
    );
    // Open to reads alone.
    let local = Rule { allow: Some(Vec::new()), ..rule(2, 1, &["BR"], Transfer::RequiresLocalCopy) };
    assert_eq!(said(local), Vec::<String>::new(), "that writes are refused is said");
}

/// The only gap that is a warning.
fn the_gap_beside_notes(spec: TableSpec) -> policy::proof::Gap {
    let (proof, _) = proved(spec);
    let mut gaps = proof.findings.iter().filter(|one| one.severity() == Severity::Warning);
    let (Some(Finding::Unserved(gap)), None) = (gaps.next(), gaps.next()) else { panic!("{:?}", proof.findings) };
    (**gap).clone()
}

#[test]
fn consent_that_cannot_come_is_told_from_consent_that_is_needed() {
    let mut spec = world();
    spec.jurisdictions.push(jurisdiction("br", &["BR"]));
    spec.data_classes[1].cross_border = Transfer::WithConsent;
    spec.unknown_origin = UnknownOrigin::Refuse;
    assert_eq!(the_gap(spec.clone()).cause, Cause::ConsentNotTaken);
    for by_claim in [false, true] {
        let mut spec = spec.clone();
        match by_claim {
            true => spec.routes[1].consent_claim = Some("consent".into()),
            false => spec.routes[1].consent_header = Some("x-consent".into()),
        }
        let (proof, spec) = proved(spec);
        let [needed] = proof.findings.as_slice() else { panic!("{:?}", proof.findings) };
        assert_eq!(needed.severity(), Severity::Note);
        assert_eq!(needed.describe(&spec), "refused without consent: personal of br (route api)");
        assert!(!needed.case().expect("a case").consent);
        let lost = proof.lost_if(RegionSet::first(3)).filter(|one| one.consent == Consent::With);
        assert!(lost.count() > 0);
    }
}

#[test]
fn rules_that_contradict_each_other_are_named() {
    let mut spec = world();
    spec.rules.push(Rule { line: 9, regulation: "other".into(), ..rule(0, 1, &["US"], Transfer::Prohibited) });
    let gap = the_gap_beside_notes(spec.clone());
    assert_eq!(gap.cause, Cause::Contradiction(vec![Source::Rule(0), Source::Rule(2)]));
    assert!(found(spec)[0].contains(
        "no region satisfies both the rule at line 1 (law) and the rule at line 9 (other), so that nobody may serve \
         personal of eu, unknown clients (route api)"
    ));
    // A country in two jurisdictions obeys both.
    let mut spec = world();
    spec.unknown_origin = UnknownOrigin::Refuse;
    spec.jurisdictions.push(jurisdiction("vienna", &["AT", "CH"]));
    spec.rules.push(rule(2, 1, &["US"], Transfer::Prohibited));
    let gap = the_gap_beside_notes(spec.clone());
    assert_eq!(gap.cause, Cause::Contradiction(vec![Source::Rule(0), Source::Rule(2)]));
    assert_eq!(gap.clients.describe(&spec), "AT");
    // Two laws that open on consent do not contradict each other, once there is consent.
    let mut spec = world();
    spec.rules[0].transfer = Transfer::WithConsent;
    spec.rules.push(rule(0, 1, &["US"], Transfer::WithConsent));
    spec.routes[1].consent_header = Some("x-consent".into());
    assert!(found(spec).iter().all(|one| one.starts_with("Note: refused without consent")));
}

#[test]
fn that_the_strictest_law_is_nobodys_is_told_with_the_remedy() {
    // The strictest reading of two strict laws is nowhere.
    let mut spec = world();
    spec.rules[1].transfer = Transfer::Prohibited;
    let remedy = "name the jurisdictions that unknown clients are treated like, as in unknown_origin = \
        { like = [\"eu\"] }, or write \"refuse\" if that is meant";
    let strictest = "Warning: nobody may serve personal of unknown clients (route api): unknown_origin = \"strictest\" \
        asks for the rules of every jurisdiction at once";
    assert_eq!(found(spec.clone()), [format!("{strictest}; {remedy}")]);
    assert!(the_gap(spec.clone()).case.command("t").contains("--country unknown"));
    // Also where one of them says outright that nobody serves its own clients.
    spec.rules[1].allow = Some(Vec::new());
    assert_eq!(found(spec.clone()), [format!("{strictest} (us allows no region); {remedy}")]);
    for (like, expected) in [
        (vec![JurisdictionId(0)], None),
        (vec![JurisdictionId(1)], Some("the jurisdictions that unknown_origin names leave no region in common")),
        (vec![JurisdictionId(0), JurisdictionId(1)], Some("leave no region in common (us allows no region)")),
    ] {
        spec.unknown_origin = UnknownOrigin::Like(like);
        let found = found(spec.clone());
        assert_eq!(found.len(), usize::from(expected.is_some()), "{found:?}");
        assert!(found.iter().zip(expected).all(|(words, expected)| words.contains(expected)), "{found:?}");
    }
    spec.unknown_origin = UnknownOrigin::Refuse;
    assert_eq!(found(spec), Vec::<String>::new());
}

#[test]
fn what_follows_from_a_choice_is_a_note() {
    let mut spec = world();
    spec.rules[1].transfer = Transfer::Prohibited;
    // And so are a tenant's law and its client's.
    spec.unknown_origin = UnknownOrigin::Refuse;
    assert_eq!(found(spec.clone()), Vec::<String>::new());
    spec.routes[1].jurisdictions = vec![JurisdictionId(0)];
    let gap = the_gap(spec.clone());
    assert_eq!((gap.cause, gap.clients.describe(&spec)), (Cause::Tenant, "us".to_owned()));
    spec.unlisted_jurisdiction = UnlistedJurisdiction::Refuse;
    assert_eq!(found(spec).len(), 1, "what is said outright is no finding");
}

#[test]
fn a_super_region_without_a_region_is_found() {
    let mut spec = world();
    spec.data_classes.push(DataClass { scope: Scope::SuperRegion, ..class("regional", Transfer::Allowed) });
    for name in ["@AMERICAS", "@EMEA", "@APAC"] {
        spec.super_regions.push(SuperRegion { name: name.into(), countries: sample::countries(&[name]) });
    }
    spec.routes.push(route("regional", "/regional", 2));
    spec.unknown_origin = UnknownOrigin::Refuse;
    let (proof, _) = proved(spec.clone());
    let [Finding::Unserved(apac), Finding::Unserved(none)] = proof.findings.as_slice() else {
        panic!("{:?}", proof.findings)
    };
    assert_eq!((&none.cause, &apac.cause), (&Cause::NoSuperRegion, &Cause::SuperRegion));
    assert!(apac.clients.countries.contains("JP".parse().unwrap()) && apac.clients.countries.iter().count() > 20);
    spec.regions.push(region("jp", "JP"));
    assert_eq!(
        found(spec),
        ["Warning: nobody may serve regional of AQ (route regional): regional keeps to its super-region, and these \
          countries are in none"]
    );
}

#[test]
fn allowed_regions_that_cannot_serve_are_named() {
    let mut spec = world();
    spec.regions[0].state = AdminState::Disabled;
    spec.regions[1].capabilities.write = false;
    let gap = the_gap_beside_notes(spec.clone());
    assert_eq!((gap.part, gap.clients.describe(&spec)), (Part::Writes, "eu, unknown clients".to_owned()));
    assert!(found(spec)[0].contains("only de, ie may serve writes of personal of eu"));
}

#[test]
fn rules_that_change_nothing_are_found() {
    let added = |rule: Rule| {
        let mut spec = world();
        spec.data_classes.push(class("unused", Transfer::Allowed));
        spec.rules.push(rule);
        found(spec)
    };
    assert_eq!(
        added(rule(0, 2, &["@EU"], Transfer::Prohibited)),
        ["Warning: this rule has no effect: no route carries its data"]
    );
    let implied = "Warning: this rule has no effect: the rule at line 1 (law) asks for all that it does";
    for (idle, what) in [
        (rule(0, 1, &["@EU"], Transfer::Prohibited), "the same again"),
        (rule(0, 1, &["@EU", "US"], Transfer::Prohibited), "more regions"),
        (rule(0, 1, &["@EU"], Transfer::Allowed), "a laxer transfer"),
        (rule(0, 1, &["@EU"], Transfer::WithSafeguards), "safeguards for what is prohibited"),
    ] {
        assert_eq!(added(idle), [implied], "{what}");
    }
    let some = rule(0, 1, &["@EU", "US"], Transfer::Prohibited);
    for (useful, what) in [
        (rule(0, 1, &["DE"], Transfer::Allowed), "it prefers Germany"),
        (rule(0, 1, &["DE"], Transfer::Prohibited), "it is stricter"),
        (Rule { regulation: "another".into(), ..some.clone() }, "another law may ask for the same"),
        (Rule { when_unavailable: WhenUnavailable::Maintenance("page".into()), ..some.clone() }, "it has a page"),
        (Rule { blocked_by: Some("https://law.example".into()), ..some }, "it says who has data kept away"),
        (rule(1, 1, &["US"], Transfer::WithSafeguards), "it marks what the other opens"),
    ] {
        let mut spec = world();
        spec.rules.push(useful);
        let (proof, _) = proved(spec);
        let idle = proof.findings.iter().any(|one| matches!(one, Finding::RuleWithoutEffect { rule: 2, .. }));
        assert!(!idle, "{what}");
    }
    let (proof, _) = proved({
        let mut spec = world();
        spec.rules.push(rule(0, 1, &["@EU"], Transfer::Prohibited));
        spec
    });
    assert_eq!(
        proof.findings,
        [Finding::RuleWithoutEffect { rule: 2, why: Idle::ImpliedBy(0) }],
        "the first one stays"
    );
}

/// The proof reads the dates anew: rules that end and have a successor or none, on either side of each date.
#[test]
fn rules_with_dates_are_read_as_the_table_reads_them() {
    let day = |text: &str| Some(text.parse::<Moment>().expect("a date"));
    let first = Rule {
        period: Period { from: day("2026-01-01"), until: day("2027-01-01") },
        ..rule(0, 1, &["@EU"], Transfer::Prohibited)
    };
    let begins = |from, rule: Rule| Rule { period: Period { from, until: None }, ..rule };
    let wider = rule(0, 1, &["@EU", "US"], Transfer::Prohibited);
    let successors = [
        ("none", vec![]),
        ("later", vec![begins(day("2026-12-15"), wider.clone())]),
        ("at its end", vec![begins(day("2027-01-01"), wider.clone())]),
        ("after its end", vec![begins(day("2027-02-01"), wider.clone())]),
        ("of the same day", vec![begins(day("2026-01-01"), wider.clone())]),
        ("earlier", vec![begins(day("2025-01-01"), wider.clone())]),
        ("without beginning", vec![begins(None, wider.clone())]),
        ("of another law", vec![begins(day("2026-12-15"), Rule { regulation: "other".into(), ..wider.clone() })]),
        (
            "of another jurisdiction",
            vec![begins(day("2026-12-15"), Rule { jurisdiction: JurisdictionId(1), ..wider.clone() })],
        ),
        (
            "of another class",
            vec![begins(
                day("2026-12-15"),
                Rule { data_classes: vec![policy::jurisdiction::ClassId(0)], ..wider.clone() },
            )],
        ),
        ("that opens nothing", vec![begins(day("2026-12-15"), Rule { allow: None, ..wider })]),
    ];
    for (what, others) in successors {
        for at in ["2025-12-31", "2026-06-01", "2026-12-20", "2027-01-01", "2027-03-01"] {
            let mut spec = world();
            spec.at = day(at).expect("a date").into();
            spec.rules[0] = first.clone();
            spec.rules.extend(others.clone());
            let (proof, spec) = proved(spec);
            let wrong = proof.findings.iter().filter(|one| matches!(one, Finding::Misjudged { .. }));
            let wrong: Vec<String> = wrong.map(|one| one.describe(&spec)).collect();
            assert!(wrong.is_empty(), "{what}, at {at}: {wrong:?}");
        }
    }
}

#[test]
fn routes_that_nothing_reaches_are_found() {
    let methods = |names: &[Method]| Some(names.iter().copied().collect::<MethodSet>());
    let all: Vec<Method> = Method::NAMED.iter().map(|(_, method)| *method).collect();
    let mut spec = world();
    spec.routes.push(RouteSpec { methods: methods(&all[..4]), ..route("some", "/v3", 1) });
    assert_eq!(found(spec.clone()), Vec::<String>::new());
    spec.routes.push(RouteSpec { methods: methods(&all[4..]), ..route("others", "/v3", 1) });
    let (proof, _) = proved(spec.clone());
    let takers = vec![RouteId(2), RouteId(3)];
    assert_eq!(proof.findings, [Finding::RouteUnreachable { route: RouteId(1), takers }]);
    assert_eq!(found(spec), ["Warning: no request comes here: they fall under some, others"]);
    // More specific routes leave something over.
    let mut spec = world();
    for (name, host, path) in [
        ("below", HostPattern::Below("example.com".into()), PathPattern::Prefix("/v3".into())),
        ("any", HostPattern::Exact("any".into()), PathPattern::Prefix(String::new())),
        ("host", HostPattern::Exact("any.example.com".into()), PathPattern::Prefix("/v3".into())),
        ("exact", HostPattern::Any, PathPattern::Exact("/v3".into())),
        ("slash", HostPattern::Any, PathPattern::Exact("/v3/".into())),
        ("deeper", HostPattern::Any, PathPattern::Prefix("/v3/any".into())),
        ("root", HostPattern::Any, PathPattern::Exact("/".into())),
    ] {
        spec.routes.push(RouteSpec { host, path, ..route(name, "", 1) });
    }
    assert_eq!(found(spec), Vec::<String>::new());
}

#[test]
fn who_loses_service_is_told_for_every_set_of_failed_regions() {
    let (proof, spec) = proved(world());
    let table = Table::new(spec.clone()).expect("a table");
    let set = |names: &[&str]| names.iter().filter_map(|name| table.region_named(name)).collect::<RegionSet>();
    let lost = |names: &[&str]| proof.lost_if(set(names)).map(|one| one.describe(&spec)).collect::<Vec<_>>();
    assert_eq!(lost(&["de"]), Vec::<String>::new());
    assert_eq!(lost(&["de", "us"]), Vec::<String>::new());
    assert_eq!(lost(&["de", "ie"]), ["personal of eu, unknown clients (route api)"]);
    assert_eq!(lost(&["de", "ie", "us"]).len(), 3);
    assert!(proof.single_points().is_empty() && proof.lines(&spec).is_empty());

    let mut spec = world();
    spec.regions[1].capabilities.write = false;
    spec.rules[1].transfer = Transfer::WithConsent;
    spec.routes[1].consent_header = Some("x-consent".into());
    let (proof, spec) = proved(spec);
    let lines = proof.lines(&spec);
    assert_eq!(
        lines,
        [
            "refused without consent: personal of unknown clients (route api)",
            "if de fails, nobody may serve writes of personal of eu (route api); writes of personal of unknown \
             clients (route api), with consent",
            "if us fails, nobody may serve personal of us (route api), without consent",
        ]
    );
}

#[test]
fn hosts_and_paths_are_quoted_for_the_shell() {
    let mut spec = world();
    spec.rules[0].allow = Some(vec![Selector { compliance: Some(vec!["none".into()]), ..Selector::default() }]);
    spec.routes[1].host = HostPattern::Below("example.com".into());
    spec.routes[1].path = PathPattern::Exact("/it's&more".into());
    let (proof, _) = proved(spec);
    let Some(case) = proof.findings.iter().find_map(Finding::case) else { panic!("{:?}", proof.findings) };
    assert_eq!(
        case.command("routes.toml"),
        "meridian explain --table routes.toml --from de --country AT --host any.example.com --path '/it'\\''s&more' \
         --method GET"
    );
}

#[test]
fn the_largest_table_is_proved() {
    let (proof, spec) = proved(sample::largest(false));
    let faults = proof.findings.iter().find(|one| one.severity() == Severity::Error);
    assert_eq!(faults.map(|one| one.describe(&spec)), None);
    assert!(proof.decisions > 10_000);
    assert!(proof.findings.len() < 200, "{} findings", proof.findings.len());
}

#[test]
fn faults_of_meridian_are_told_as_such() {
    let (_, spec) = proved(world());
    let case = the_case();
    let region = policy::RegionId::new(2).expect("an id");
    let leak = Finding::Leak { case: case.clone(), region };
    assert_eq!(leak.severity(), Severity::Error);
    assert_eq!(leak.describe(&spec), "the law forbids us, and a decision permits it: a fault of Meridian");
    for how in [Misjudgement::Unable, Misjudgement::Withheld, Misjudgement::Mismarked] {
        let finding = Finding::Misjudged { case: case.clone(), region, how };
        assert!(finding.severity() == Severity::Error && finding.describe(&spec).contains("a fault of Meridian"));
    }
}

fn the_case() -> policy::proof::Case {
    let mut spec = world();
    spec.rules[0].allow = Some(vec![Selector { compliance: Some(vec!["none".into()]), ..Selector::default() }]);
    proved(spec).0.findings.iter().find_map(|one| one.case().cloned()).expect("a case")
}
