//! What operators are told, whole: an explanation's law, the definitions of its schema, what a comparison and a proof say
//! of things that stand alone.

use std::time::Duration;

use policy::concurrency::TrafficClass;
use policy::diff::{Diff, horizon};
use policy::jurisdiction::{Denial, JurisdictionId, Rule, Scope, Selector, Transfer, WhenUnavailable};
use policy::list::{Countries, Entry, List, ListId};
use policy::proof::{Finding, prove};
use policy::region::{Operator, Region, Tier};
use policy::replay::ReplaySide;
use policy::route::{HostPattern, RouteSpec, UnknownLag};
use policy::table::TableSpec;
use policy::{
    CurrentTable, Explanation, Facts, Method, Moment, Origin, Payload, Period, RegionId, RegionSet, RegionView,
    RouteId, Table, Verdict, decide, explain,
};

mod sample;
use sample::{class, countries, jurisdiction, region, route, rule, spec};

/// Regions in Germany, Ireland and the United States; personal data on `/v3`, kept in the Union.
fn base() -> TableSpec {
    let mut spec = spec(vec![region("de", "DE"), region("ie", "IE"), region("us", "US")]);
    spec.jurisdictions = vec![jurisdiction("eu", &["@EU"]), jurisdiction("us", &["US"])];
    spec.data_classes.push(class("personal", Transfer::Allowed));
    spec.rules = vec![Rule { regulation: "GDPR".into(), ..rule(0, 1, &["@EU"], Transfer::Prohibited) }];
    spec.routes.push(route("api", "/v3", 1));
    spec
}

fn changed(change: impl FnOnce(&mut TableSpec)) -> Table {
    let mut spec = base();
    change(&mut spec);
    Table::new(spec).unwrap()
}

fn id(index: usize) -> RegionId {
    RegionId::new(index).unwrap()
}

fn facts(method: Method) -> Facts<'static> {
    Facts {
        client_at: None,
        host: "api.example.com",
        path: "/v3/x",
        method,
        payload: Payload::Nothing,
        origin: Origin::Country("FR".parse().unwrap()),
        declared: &[],
        consent: false,
        client_key: 1,
        from: id(0),
        pinned: None,
        only: None,
        criticality: None,
    }
}

fn explained(table: &Table, facts: &Facts<'_>) -> Explanation {
    let view = vec![RegionView { lag: Some(Duration::ZERO), ..RegionView::default() }; table.spec().regions.len()];
    explain(table, facts, view.as_slice(), Vec::new())
}

/// What is said of the region in the United States.
fn of_us(table: &Table, method: Method) -> Vec<String> {
    let told = explained(table, &facts(method));
    let us = told.regions.iter().find(|region| region.name == "us").unwrap();
    us.why.iter().map(|why| format!("{}: {}", why.rule, why.effect)).collect()
}

/// Each condition of a transfer, for a read and for a write: what the request lacks is named, and nothing else.
#[test]
fn what_a_request_lacks_is_told_and_nothing_else() {
    let consent = "consent from a trusted source (header x-consent: granted or claim ok)";
    let read = "a read (a local copy must stay)";
    for (rules, border, on_a_read, on_a_write) in [
        (Transfer::WithConsent, Transfer::Allowed, Some(consent.to_owned()), Some(consent.to_owned())),
        (Transfer::RequiresLocalCopy, Transfer::Allowed, None, Some(read.to_owned())),
        (
            Transfer::WithConsent,
            Transfer::RequiresLocalCopy,
            Some(consent.to_owned()),
            Some(format!("{consent} and {read}")),
        ),
    ] {
        let table = changed(|spec| {
            spec.rules[0].transfer = rules;
            spec.data_classes[1].cross_border = border;
            spec.routes[1].consent_header = Some("x-consent".into());
            spec.routes[1].consent_claim = Some("ok".into());
        });
        for (method, lacks) in [(Method::Get, on_a_read), (Method::Post, on_a_write)] {
            let expected = match lacks {
                Some(lacks) => format!("GDPR: refused: needs {lacks}"),
                None => "GDPR: opened as a later level, for a read".to_owned(),
            };
            assert_eq!(of_us(&table, method), [expected], "{rules:?}, {border:?}, {method:?}");
        }
    }
}

/// Why a rule denies a region, by each of its parts.
#[test]
fn a_denial_is_told_with_its_ground() {
    let acme = |country: &str, assurance: Option<&str>| {
        let assurance = assurance.map(str::to_owned);
        Some(Operator { name: "Acme".into(), country: country.parse().unwrap(), assurance })
    };
    let none = Denial::default;
    let us = || Some(Countries::from(countries(&["US"])));
    let cases: [(Denial, Option<Operator>, &str); 8] = [
        (Denial { regions: Some([id(2)].into_iter().collect()), ..none() }, None, "it is named"),
        (Denial { countries: us(), ..none() }, None, "it is in US"),
        (Denial { jurisdictions: Some(vec![JurisdictionId(1)]), ..none() }, None, "it is in US, of us"),
        (Denial { operator_countries: us(), ..none() }, None, "nobody has named its operator"),
        (Denial { operator_countries: us(), ..none() }, acme("US", None), "its operator Acme is of US"),
        (
            Denial { assurance: Some(vec!["low".into()]), ..none() },
            acme("DE", None),
            "its operator's assurance is not known",
        ),
        (
            Denial { assurance: Some(vec!["low".into()]), ..none() },
            acme("DE", Some("low")),
            "its operator's assurance is low",
        ),
        (Denial { tiers: Some(vec![Tier::Tertiary]), ..none() }, None, "of its tier"),
    ];
    for (deny, operator, ground) in cases {
        let table = changed(|spec| {
            spec.regions[2] = Region { operator, tier: Tier::Tertiary, ..region("us", "US") };
            (spec.rules[0].allow, spec.rules[0].deny) = (None, Some(deny));
        });
        assert_eq!(of_us(&table, Method::Get), [format!("GDPR: refused: denied by the rule, {ground}")]);
        let told = explained(&table, &facts(Method::Get));
        assert!(told.rules[0].denies.contains(&"us".to_owned()), "{:?}", told.rules);
    }
}

/// Why nothing is let out, for each thing that can keep it.
#[test]
fn what_lets_nothing_out_is_told_with_its_reason() {
    let until = Some("2026-06-01".parse::<Moment>().unwrap());
    let over = changed(|spec| {
        spec.rules[0].transfer = Transfer::Allowed;
        spec.rules[0].period = Period { from: None, until };
    });
    assert_eq!(
        of_us(&over, Method::Get),
        ["GDPR: refused: the rule is over since 2026-06-01, and opens nothing any more"]
    );
    let told = explained(&over, &facts(Method::Get));
    assert!(told.rules[0].is_over && told.rules[0].valid_until == until);
    let class = changed(|spec| {
        spec.rules[0].transfer = Transfer::Allowed;
        spec.data_classes[1].cross_border = Transfer::Prohibited;
    });
    assert_eq!(of_us(&class, Method::Get), ["GDPR: refused: transfer is prohibited for data class personal"]);
    let border = changed(|spec| {
        spec.rules.clear();
        spec.data_classes[1].cross_border = Transfer::Prohibited;
    });
    assert_eq!(
        of_us(&border, Method::Get),
        ["data_classes.personal.cross_border in eu: refused: the data class may not leave the jurisdiction"]
    );
    let scope = changed(|spec| {
        spec.rules.clear();
        spec.data_classes[1].scope = Scope::SuperRegion;
    });
    assert_eq!(
        of_us(&scope, Method::Get),
        ["data_classes.personal.scope: refused: the data class may not leave the super-region"]
    );
}

/// An explanation names the route and what it says, as JSON has it.
#[test]
fn an_explanation_names_its_route_and_law() {
    let table = changed(|spec| spec.rules[0].when_unavailable = WhenUnavailable::Maintenance("soon".into()));
    let told = serde_json::to_value(explained(&table, &facts(Method::Get))).unwrap();
    for (field, expected) in [
        ("route", r#""api""#),
        ("data_class", r#""personal""#),
        ("access", r#""read""#),
        ("verdict", r#""forward""#),
        ("status", "200"),
        ("jurisdictions", r#"["eu"]"#),
        ("allowed", r#"["de","ie"]"#),
        ("eligible", r#"["de","ie"]"#),
        ("not_in_force", "[]"),
    ] {
        assert_eq!(told[field].to_string(), expected, "{field}");
    }
    assert_eq!(told["scoring"]["name"], "balanced");
    let rule = &told["rules"][0];
    assert_eq!((&rule["rule"], &rule["jurisdiction"], &rule["page"]), (&"GDPR".into(), &"eu".into(), &true.into()));
    assert!(told["route_terms"].is_object());
}

/// A rule that has not begun, and one whose place another has taken, bind nobody: they are told as such.
#[test]
fn rules_that_are_not_in_force_are_listed() {
    let day = |day: &str| Some(day.parse::<Moment>().unwrap());
    let table = changed(|spec| {
        spec.rules[0].period = Period { from: None, until: day("2026-01-01") };
        let mut next = spec.rules[0].clone();
        (next.line, next.period) = (7, Period { from: day("2026-01-01"), until: None });
        let mut later = spec.rules[0].clone();
        (later.line, later.regulation, later.period) =
            (9, "DSA".into(), Period { from: day("2027-01-01"), until: None });
        spec.rules.extend([next, later]);
    });
    let told = explained(&table, &facts(Method::Get));
    let dormant: Vec<_> = told
        .not_in_force
        .iter()
        .map(|one| (one.rule.as_str(), one.line, one.jurisdiction.as_str(), one.valid_from, one.succeeded_by))
        .collect();
    assert_eq!(dormant, [("GDPR", 1, "eu", None, Some(7)), ("DSA", 9, "eu", day("2027-01-01"), None)]);
    assert_eq!(told.next_boundary, day("2027-01-01"));
    assert_eq!(told.rules.iter().map(|rule| rule.line).collect::<Vec<_>>(), [Some(7)]);
}

/// Programs are generated from the schema: the names of its types are theirs.
#[test]
fn the_schemas_types_keep_their_names() {
    let schema = serde_json::to_value(policy::explain::schema()).unwrap();
    let named: Vec<&str> = schema["$defs"].as_object().unwrap().keys().map(String::as_str).collect();
    for own in ["Access", "Country", "CurveShape", "Moment", "Reason", "Terms"] {
        assert!(named.contains(&own), "{own}: {named:?}");
        assert!(schema["$defs"][own]["description"].as_str().is_some_and(|text| text.len() > 10), "{own}");
    }
    assert!(named.iter().all(|name| name.starts_with(|first: char| first.is_ascii_uppercase())), "{named:?}");
    let reasons = schema["$defs"]["Reason"]["oneOf"].as_array().unwrap();
    let told = reasons.iter().map(|one| one["const"].as_str().unwrap());
    assert!(told.eq(policy::Reason::ALL.map(policy::Reason::name)));
    assert!(reasons.iter().all(|one| one["description"].as_str().unwrap().len() > 10));
}

/// A comparison that has only one thing to say is not empty.
#[test]
fn one_difference_of_any_kind_is_a_difference() {
    let diff = |new: &Table| Diff::between(&changed(|_| {}), new).unwrap();
    let parts = |diff: &Diff| {
        [
            diff.law.is_empty(),
            diff.later.is_empty(),
            diff.new_places.is_empty(),
            diff.routes.is_empty(),
            diff.takeovers.is_empty(),
            diff.settings.is_empty(),
        ]
        .map(|empty| u8::from(!empty))
    };
    let same = diff(&changed(|spec| spec.version = "other".into()));
    assert!(same.is_empty() && parts(&same) == [0; 6]);
    let setting = diff(&changed(|spec| spec.regions[0].priority = 3));
    assert_eq!((setting.is_empty(), parts(&setting)), (false, [0, 0, 0, 0, 0, 1]), "{setting:?}");
    let a_route = diff(&changed(|spec| spec.routes[1].timeout = Duration::from_secs(3)));
    assert_eq!((a_route.is_empty(), parts(&a_route)), (false, [0, 0, 0, 1, 0, 0]), "{a_route:?}");
    let law = diff(&changed(|spec| spec.rules[0].transfer = Transfer::Allowed));
    assert!(!law.is_empty() && law.widens() && !law.shrinks());
    let place = diff(&changed(|spec| spec.regions.push(region("jp", "JP"))));
    assert!(!place.is_empty() && place.widens() && !place.new_places.is_empty());
}

/// A change that only a later date brings is a difference today.
#[test]
fn what_a_later_date_changes_is_a_difference_today() {
    let day = |day: &str| Some(day.parse::<Moment>().unwrap());
    let dated = |until: Option<Moment>| {
        let lists = |spec: &mut TableSpec| {
            let period = Period { from: None, until };
            let source = String::new();
            let entry = Entry { country: "US".parse().ok(), period, scope: String::new(), source, partial: false };
            spec.lists = vec![List { name: "adequate".into(), entries: vec![entry] }];
            let listed = Countries::new(countries(&["@EU"]), vec![ListId(0)]);
            spec.rules[0].allow = Some(vec![Selector { countries: Some(listed), ..Selector::default() }]);
        };
        changed(lists)
    };
    let (forever, until) = (dated(None), dated(day("2027-06-01")));
    let diff = Diff::between(&forever, &until).unwrap();
    assert!(!diff.is_empty() && diff.law.is_empty());
    assert_eq!(diff.later.iter().map(|one| Some(one.at)).collect::<Vec<_>>(), [day("2027-06-01")]);
    assert!(diff.shrinks() && !diff.widens());
    // What a table's own dates change is told up to and with a day, and not past it.
    for (up_to, changes) in [("2027-05-31", 0), ("2027-06-01", 1), ("2028-01-01", 1)] {
        let told = horizon(&until, day(up_to).unwrap()).unwrap();
        assert_eq!(told.len(), changes, "up to {up_to}: {told:?}");
        assert!(told.iter().all(|one| Some(one.at) == day("2027-06-01") && one.law[0].lost == ["us"]));
    }
    assert!(horizon(&forever, day("2030-01-01").unwrap()).unwrap().is_empty());
}

/// A set of countries is told as the table writes it: its own countries, its lists, or both.
#[test]
fn a_jurisdictions_countries_are_told_as_they_are_written() {
    let with = |written: &[&str], listed: bool| {
        let written = countries(written);
        changed(move |spec| {
            spec.lists = vec![List { name: "more".into(), entries: Vec::new() }];
            spec.jurisdictions[1].countries =
                Countries::new(written, if listed { vec![ListId(0)] } else { Vec::new() });
        })
    };
    let told = |old: &Table, new: &Table| {
        let settings = Diff::between(old, new).unwrap().settings;
        let found = settings.into_iter().find(|said| said.key.contains("jurisdictions.us"));
        found.and_then(|said| Some((said.old?, said.new?)))
    };
    let words = |one: &str, other: &str| Some((one.to_owned(), other.to_owned()));
    let (plain, both, lists) = (with(&["US"], false), with(&["US"], true), with(&[], true));
    assert_eq!(told(&plain, &both), words("US", "US and list:more"));
    assert_eq!(told(&both, &lists), words("US and list:more", "list:more"));
}

/// A table's traffic class is found again by its name, wherever the table in force has it.
#[test]
fn a_traffic_class_is_kept_by_name_across_a_reload() {
    let with = |names: &[&str]| {
        let named = |name: &&str| TrafficClass { name: (*name).into(), guaranteed: 0.2 };
        let traffic_classes: Vec<TrafficClass> = names.iter().map(named).collect();
        changed(|spec| {
            spec.routes[1].traffic_class = traffic_classes.len().checked_sub(1);
            spec.traffic_classes = traffic_classes;
        })
    };
    let (pinned, moved, gone) = (with(&["bulk", "live"]), with(&["live", "bulk"]), with(&[]));
    let api = RouteId(1);
    assert_eq!(
        [&pinned, &moved, &gone].map(|current| current.traffic_of(&pinned, api)),
        [Some(1), Some(0), None],
        "the class of the route that the request was decided by"
    );
    assert_eq!((pinned.traffic_of(&gone, api), pinned.traffic_of(&pinned, RouteId(0))), (None, None));
}

/// The first attempt goes where the decision said, though loads have changed since; once it was tried, the loads of now
/// count.
#[test]
fn the_first_attempt_is_the_decisions_own() {
    let table = changed(|spec| spec.latency_ms = vec![(id(0), id(1), 200.0)]);
    let facts = facts(Method::Get);
    let idle = vec![RegionView::default(); 3];
    let Verdict::Forward(permits) = decide(&table, &facts, idle.as_slice()) else { panic!("it is refused") };
    assert_eq!(permits.first(), id(0));
    let mut full = idle.clone();
    (full[0].utilisation, full[0].pressure) = (5.0, 5.0);
    let Verdict::Forward(now) = decide(&table, &facts, full.as_slice()) else { panic!("it is refused") };
    assert_eq!(now.first(), id(1), "another decision would go elsewhere");
    let current = CurrentTable { table: &table, view: full.as_slice() };
    let next = |tried: &[usize]| {
        let tried: RegionSet = tried.iter().map(|index| id(*index)).collect();
        permits.next(&table, &facts, &tried, &current).map(|permit| permit.region())
    };
    assert_eq!((next(&[]), next(&[0]), next(&[0, 1])), (Some(id(0)), Some(id(1)), None));
}

#[test]
fn a_replayed_decision_knows_how_far_regions_are() {
    let table = changed(|spec| spec.latency_ms = vec![(id(0), id(2), 90.0)]);
    let side = ReplaySide::at_rest(&table);
    assert_eq!(side.latency_ms("de", id(2)), Some(90.0));
    assert_eq!(side.latency_ms("gone", id(2)), None);
}

/// Clients of countries that no jurisdiction lists are under no rule: told where some route carries data that others'
/// rules restrict, with the classes.
#[test]
fn who_is_under_no_rule_is_told_with_the_data() {
    let unlisted = |change: &dyn Fn(&mut TableSpec)| prove(&changed(change)).unlisted;
    let found = unlisted(&|_| {}).unwrap();
    assert_eq!(found.classes.iter().map(|class| class.0).collect::<Vec<_>>(), [1]);
    let listed = |country: &str| !found.countries.contains(country.parse().unwrap());
    assert_eq!(["FR", "US", "BR", "CH"].map(listed), [true, true, false, false]);
    assert!(unlisted(&|spec| spec.data_classes[1].scope = Scope::Global).is_none(), "global data is nobody's");
    assert!(unlisted(&|spec| drop(spec.routes.pop())).is_none(), "nothing carries the data");
    assert!(unlisted(&|spec| spec.unlisted_jurisdiction = policy::table::UnlistedJurisdiction::Refuse).is_none());
}

/// A rule that is not over, and leaves no region by what it denies itself: it is not told as one whose end left none.
#[test]
fn a_rule_that_denies_what_it_selects_leaves_no_region() {
    let with = |until: &str| {
        let mut spec = base();
        let deny = Denial { countries: Some(countries(&["DE"]).into()), ..Denial::default() };
        let period = Period { from: None, until: Some(until.parse::<Moment>().unwrap()) };
        spec.rules[0] = Rule { deny: Some(deny), period, ..rule(0, 1, &["DE"], Transfer::Prohibited) };
        spec.unknown_origin = policy::table::UnknownOrigin::Refuse;
        let found = prove(&Table::new(spec.clone()).unwrap()).findings;
        found.iter().map(|one| one.describe(&spec)).collect::<Vec<_>>()
    };
    assert_eq!(with("2027-06-01"), ["the rule at line 1 (law) leaves no region for personal of eu (route api)"]);
    assert_eq!(
        with("2026-06-01"),
        ["the rule at line 1 (law) is over since 2026-06-01, and nothing has taken its place: no region is left for \
          personal of eu (route api)"]
    );
}

/// A country that a list will hold is no place for data yet: the proof reads that as decisions do.
#[test]
fn a_list_that_has_not_begun_is_read_alike() {
    let day = |day: &str| Some(day.parse::<Moment>().unwrap());
    for (from, until, partial) in [
        (None, None, false),
        (None, None, true),
        (day("2027-01-01"), None, false),
        (day("2027-01-01"), None, true),
        (None, day("2026-01-01"), false),
        (day("2027-01-01"), day("2028-01-01"), false),
    ] {
        let table = changed(|spec| {
            let (period, source) = (Period { from, until }, String::new());
            let entry = Entry { country: "US".parse().ok(), period, scope: String::new(), source, partial };
            spec.lists = vec![List { name: "adequate".into(), entries: vec![entry] }];
            spec.jurisdictions[0].countries = Countries::new(countries(&["@EU"]), vec![ListId(0)]);
            spec.rules.clear();
            spec.data_classes[1].cross_border = Transfer::Prohibited;
            spec.unknown_origin = policy::table::UnknownOrigin::Refuse;
        });
        let faults: Vec<_> = prove(&table)
            .findings
            .into_iter()
            .filter(|one| matches!(one, Finding::Leak { .. } | Finding::Misjudged { .. }))
            .collect();
        assert_eq!(faults, [], "{from:?} to {until:?}");
    }
}

/// Of two rules that hold, the one that keeps a region away is told before the one that would open it.
#[test]
fn what_refuses_is_told_before_what_opens() {
    let table = changed(|spec| {
        spec.jurisdictions.push(jurisdiction("fr", &["FR"]));
        spec.rules = vec![
            Rule { regulation: "A".into(), ..rule(0, 1, &["@EU"], Transfer::Allowed) },
            Rule { regulation: "B".into(), line: 2, ..rule(2, 1, &["@EU"], Transfer::RequiresLocalCopy) },
            Rule { regulation: "C".into(), line: 3, ..rule(0, 1, &["US"], Transfer::Prohibited) },
            Rule { regulation: "D".into(), line: 4, ..rule(2, 1, &["@EU"], Transfer::Prohibited) },
        ];
    });
    let names = |said: Vec<String>| said.into_iter().map(|one| one[..1].to_owned()).collect::<String>();
    assert_eq!(names(of_us(&table, Method::Post)), "DBAC", "never; not for a write; opened; selected");
    assert_eq!(names(of_us(&table, Method::Get)), "DABC", "never; both opened; selected");
}

/// A route that takes no replica of unknown age, or none that is far behind, is no fault: how far behind regions are is not
/// the table's word.
#[test]
fn a_route_that_bounds_the_lag_is_proved_like_any_other() {
    let table = changed(|spec| {
        spec.routes[1].max_replication_lag = Some(Duration::from_secs(1));
        spec.routes[1].lag_unknown = UnknownLag::Ineligible;
        spec.routes[1].max_latency = Some(Duration::from_millis(1));
        // A replica: it can be behind.
        spec.regions[1].capabilities.write = false;
    });
    assert_eq!(prove(&table).findings, []);
}

/// What each host's own routes take from the wider ones is told with the requests that it is about, and no others.
#[test]
fn a_takeover_is_told_with_its_own_requests() {
    let host = |spec: &mut TableSpec, prefix: &str| {
        let host = HostPattern::Exact("api.example.com".into());
        spec.routes.push(RouteSpec { host, ..route("own", prefix, 0) });
    };
    let diff = Diff::between(&changed(|_| {}), &changed(|spec| host(spec, "/v3/a"))).unwrap();
    let told: Vec<_> = diff.takeovers.iter().map(|one| (one.route.as_str(), one.by.as_deref(), &one.at)).collect();
    assert_eq!(told, [("api", Some("own"), &vec!["api.example.com/v3/a/*".to_owned()])]);
    let diff = Diff::between(&changed(|_| {}), &changed(|spec| host(spec, "/"))).unwrap();
    let told: Vec<_> = diff.takeovers.iter().map(|one| (one.route.as_str(), one.by.as_deref(), &one.at)).collect();
    let expected = [("public", vec!["api.example.com/*".to_owned()]), ("api", vec!["api.example.com/v3/*".to_owned()])];
    assert_eq!(told, expected.iter().map(|(route, at)| (*route, Some("own"), at)).collect::<Vec<_>>());
}
