//! Values exactly at a bound, and things that are told beside others.

use std::borrow::Cow;
use std::time::Duration;

use policy::concurrency::TrafficClass;
use policy::diff::{Diff, LawChange};
use policy::emergency::EmergencySpec;
use policy::jurisdiction::{ClassId, Denial, Rule, Transfer};
use policy::path::canonical;
use policy::proof::{Finding, prove};
use policy::region::{Standby, TakesWrites};
use policy::route::{Criticality, HostPattern, MethodSet, RouteSpec};
use policy::table::{TableError, TableSpec, UnknownOrigin};
use policy::{Method, RegionId, Table};

mod sample;
use sample::{class, countries, jurisdiction, region, route, rule, spec};

/// Regions in Germany and the United States; personal data on `/v3`, kept in the Union; unknown clients refused.
fn base() -> TableSpec {
    let mut spec = spec(vec![region("de", "DE"), region("us", "US")]);
    spec.jurisdictions = vec![jurisdiction("eu", &["@EU"]), jurisdiction("us", &["US"])];
    spec.data_classes.push(class("personal", Transfer::Allowed));
    spec.rules = vec![rule(0, 1, &["@EU"], Transfer::Prohibited)];
    spec.routes.push(route("api", "/v3", 1));
    spec.unknown_origin = UnknownOrigin::Refuse;
    spec
}

/// Why a specification is no table, in words; nothing where it is one.
fn refused(change: impl FnOnce(&mut TableSpec)) -> String {
    let mut spec = base();
    change(&mut spec);
    Table::new(spec).err().map(|error: TableError| error.to_string()).unwrap_or_default()
}

#[test]
fn what_is_exactly_at_a_bound_is_allowed_or_not() {
    type Change = fn(&mut TableSpec);
    let id = |index| RegionId::new(index).unwrap();
    let standby = |spec: &mut TableSpec, seconds: u64| {
        let writes = Some(TakesWrites { max_lag: Duration::from_secs(5), voters: 3 });
        spec.regions[1].capabilities.write = false;
        let promote_after = Duration::from_secs(seconds);
        spec.regions[1].standby = Some(Standby { promote_after, of: vec!["de".into()], writes });
    };
    assert_eq!(refused(|spec| standby(spec, 10)), "");
    assert!(refused(|spec| standby(spec, 9)).contains("promote_after is too short"));
    for (from, to, is_known) in [(0, 1, true), (1, 0, true), (0, 2, false), (2, 0, false), (2, 2, false)] {
        for key in ["latency_ms", "latency_sla_ms"] {
            let found = refused(|spec| {
                let pairs = if key == "latency_ms" { &mut spec.latency_ms } else { &mut spec.latency_sla_ms };
                pairs.push((id(from), id(to), 1.0));
            });
            assert_eq!(found.is_empty(), is_known, "{from} {to}: {found}");
            assert!(is_known || found.starts_with(key), "{found}");
        }
    }
    let traffic = |shares: &'static [f64]| {
        refused(|spec| {
            let of = |(index, share): (usize, &f64)| TrafficClass { name: format!("c{index}"), guaranteed: *share };
            spec.traffic_classes = shares.iter().enumerate().map(of).collect();
        })
    };
    for (shares, is_table) in [
        (&[][..], true),
        (&[1.0], true),
        (&[0.3, 0.3], true),
        (&[0.1, 0.2, 0.7], true),
        (&[0.0625; 16], true),
        (&[0.05; 17], false),
        (&[0.0], false),
        (&[1.000_001], false),
        (&[0.6, 0.5], false),
        (&[f64::NAN], false),
    ] {
        assert_eq!(traffic(shares).is_empty(), is_table, "{shares:?}: {}", traffic(shares));
    }
    let cases: [(Change, bool); 6] = [
        (|spec| spec.regions[0].coordinates = Some((90.0, -180.0)), true),
        (|spec| spec.regions[0].coordinates = Some((-90.0, 180.0)), true),
        (|spec| spec.regions[0].coordinates = Some((90.1, 0.0)), false),
        (|spec| spec.regions[0].cost_per_gb = 0.0, true),
        (|spec| spec.regions[0].weight = 0, true),
        (|spec| spec.regions.iter_mut().for_each(|region| region.weight = 0), false),
    ];
    for (index, (change, is_table)) in cases.into_iter().enumerate() {
        assert_eq!(refused(change).is_empty(), is_table, "case {index}");
    }
}

/// What a table says of pairs of regions holds both ways, and each way has its own word first.
#[test]
fn what_is_to_be_of_the_way_between_two_regions_holds_both_ways() {
    let id = |index| RegionId::new(index).unwrap();
    let mut spec = base();
    spec.regions.push(region("jp", "JP"));
    spec.latency_sla_ms = vec![(id(0), id(1), 80.0), (id(1), id(2), 120.0), (id(2), id(1), 130.0)];
    let table = Table::new(spec).unwrap();
    let of = |from, to| table.latency_sla_ms(id(from), id(to));
    assert_eq!([of(0, 1), of(1, 0), of(1, 2), of(2, 1)], [Some(80.0), Some(80.0), Some(120.0), Some(130.0)]);
    assert_eq!([of(0, 2), of(0, 0)], [None, None]);
}

#[test]
fn a_region_of_unknown_capacity_is_like_the_mean_of_the_others() {
    let mut spec = base();
    spec.regions.push(region("jp", "JP"));
    (spec.regions[0].capacity_rps, spec.regions[1].capacity_rps) = (Some(100.0), Some(300.0));
    let table = Table::new(spec).unwrap();
    let capacities: Vec<f32> = table.regions().map(|(id, _)| table.capacity_rps(id)).collect();
    assert_eq!(capacities, [100.0, 300.0, 200.0]);
}

/// A standby that names nobody stands in for the active regions around it: of its jurisdictions, else of its country, else
/// all.
#[test]
fn a_standby_stands_in_for_those_around_it() {
    let stands_in = |country: &str, jurisdictions: &[(&str, &[&str])], of: &[&str]| {
        let mut spec = base();
        spec.rules.clear();
        spec.jurisdictions = jurisdictions.iter().map(|(name, members)| jurisdiction(name, members)).collect();
        spec.regions.push(region("fr", "FR"));
        let of = of.iter().map(|name| (*name).to_owned()).collect();
        let standby = Some(Standby { promote_after: Duration::from_secs(30), of, writes: None });
        spec.regions.push(policy::region::Region { standby, ..region("spare", country) });
        let table = Table::new(spec).unwrap();
        let set = table.stands_in_for(table.region_named("spare").unwrap()).unwrap();
        assert!(table.stands_in_for(table.region_named("de").unwrap()).is_none());
        set.iter().map(|id| table.region(id).name.clone()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(stands_in("DE", &[], &["us"]), "us");
    assert_eq!(stands_in("DE", &[("eu", &["@EU"])], &[]), "de fr");
    assert_eq!(stands_in("DE", &[], &[]), "de", "its country's");
    assert_eq!(stands_in("JP", &[], &[]), "de us fr", "nobody is around it");
    assert_eq!(stands_in("JP", &[("jp", &["JP"])], &[]), "de us fr");
}

/// What an operator sheds is told with the routes that it is for.
#[test]
fn what_is_shed_is_told_with_its_routes() {
    use Criticality::{Critical, Default, Sheddable};
    let with = |shed: Option<Criticality>| {
        let mut spec = base();
        spec.routes.push(RouteSpec { criticality: Sheddable, ..route("batch", "/batch", 0) });
        spec.routes[0].criticality = Critical;
        spec.emergency = shed.map(|shed| EmergencySpec {
            shed: Some(shed),
            read_only: None,
            routes_off: Vec::new(),
            page: None,
            until: None,
        });
        Table::new(spec).unwrap()
    };
    for (shed, routes) in [(Sheddable, "batch"), (Default, "api, batch"), (Critical, "public, api, batch")] {
        let told = Diff::between(&with(None), &with(Some(shed))).unwrap().settings;
        let words = format!("{}: all of the routes {routes}, and what is lowered to it", shed.name());
        let told: Vec<_> = told.iter().map(|said| (said.key.as_str(), said.new.as_deref())).collect();
        assert_eq!(told, [("emergency.shed", Some(words.as_str()))]);
    }
}

/// A method that a table names twice is named.
#[test]
fn a_set_of_methods_has_what_was_put_in_however_often() {
    let twice: MethodSet = [Method::Get, Method::Post, Method::Get].into_iter().collect();
    let has = |method| twice.contains(method);
    assert_eq!([Method::Get, Method::Post, Method::Put].map(has), [true, true, false]);
    assert_eq!(twice, [Method::Post, Method::Get].into_iter().collect());
}

/// Most paths need no other form: they are taken as they are, without a copy.
#[test]
fn plain_paths_are_not_copied() {
    for plain in ["/", "/v3/x", "/v3/users.json", "/a-b_c~d/e.f", "/!$&'()*+,=:@", "/x/"] {
        assert!(
            matches!(canonical(plain).map(|found| found.path), Ok(Cow::Borrowed(path)) if path == plain),
            "{plain}"
        );
    }
    for other in ["/a;b", "//a", "/.well-known/x", "/%41", "/\u{e9}"] {
        assert!(matches!(canonical(other).map(|found| found.path), Ok(Cow::Owned(_))), "{other}");
    }
}

/// Requests of a change are told by five patterns at most, whatever there is.
#[test]
fn a_change_shows_five_patterns_of_its_requests() {
    for (hosts, shown) in [(0, 1), (3, 4), (4, 5), (5, 5), (9, 5)] {
        let with = |class: usize| {
            let mut spec = base();
            spec.routes[0].data_class = ClassId(class);
            for index in 0..hosts {
                let host = HostPattern::Exact(format!("h{index}.example.com"));
                let methods = Some([Method::Post].into_iter().collect());
                spec.routes.push(RouteSpec { host, methods, ..route(&format!("r{index}"), "/own", 0) });
            }
            Table::new(spec).unwrap()
        };
        let diff = Diff::between(&with(1), &with(0)).unwrap();
        let passages = diff.law.iter().flat_map(|change| &change.routes);
        let public: Vec<_> = passages.filter(|passage| passage.new == "public").collect();
        assert!(!public.is_empty() && public.iter().all(|one| one.at.len() == shown), "{hosts}: {public:?}");
    }
}

/// Where no rule set bounds and one does now, or the other way round, that is told in a word and with what is lost or
/// gained: not also with the safeguards that came or went with it.
#[test]
fn what_was_anywhere_is_told_in_one_word() {
    let with = |rules: Vec<Rule>| {
        let mut spec = base();
        spec.regions.push(region("jp", "JP"));
        spec.rules = rules;
        Table::new(spec).unwrap()
    };
    let deny = Denial { countries: Some(countries(&["US"]).into()), ..Denial::default() };
    let guarded = rule(0, 1, &["@EU"], Transfer::WithSafeguards);
    let denying = Rule { deny: Some(deny), ..guarded.clone() };
    let told = |old: &Table, new: &Table| {
        let changes = Diff::between(old, new).unwrap().law;
        let parts = |change: &LawChange| {
            let gained: Vec<&str> = change.gained.iter().map(|gain| gain.region.as_str()).collect();
            [
                ("anywhere", change.anywhere.to_string()),
                ("was_anywhere", change.was_anywhere.to_string()),
                ("gained", gained.join(" ")),
                ("lost", change.lost.join(" ")),
                ("unguarded", change.unguarded.join(" ")),
                ("guarded", change.guarded.join(" ")),
            ]
            .into_iter()
            .filter(|(_, said)| !said.is_empty() && said != "false")
            .map(|(part, said)| format!("{part} {said}"))
            .collect::<Vec<_>>()
            .join(", ")
        };
        changes.iter().map(parts).collect::<Vec<_>>()
    };
    let (free, guarded, denying) = (with(Vec::new()), with(vec![guarded]), with(vec![denying]));
    assert_eq!(told(&free, &denying), ["was_anywhere true, lost us"]);
    assert_eq!(told(&denying, &free), ["anywhere true, gained us"]);
    assert_eq!(told(&free, &guarded), ["guarded us jp"]);
    assert_eq!(told(&guarded, &free), ["unguarded us jp"]);
    assert_eq!(told(&guarded, &denying), ["lost us"]);
}

/// What comes first is told where nothing else changes: where regions are lost, that is what there is to tell.
#[test]
fn another_first_choice_is_told_alone() {
    let with = |home: &str, deny: &[&str]| {
        let mut spec = base();
        spec.regions.push(region("ie", "IE"));
        let deny = (!deny.is_empty()).then(|| Denial { countries: Some(countries(deny).into()), ..Denial::default() });
        spec.rules[0] = Rule { deny, ..rule(0, 1, &[home], Transfer::Allowed) };
        Table::new(spec).unwrap()
    };
    let told = |new: &Table| {
        let law = Diff::between(&with("DE", &[]), new).unwrap().law;
        law.into_iter().map(|one| (one.lost, one.preference.map(|first| (first.old, first.new)))).collect::<Vec<_>>()
    };
    let names = |name: &str| vec![name.to_owned()];
    assert_eq!(told(&with("IE", &[])), [(Vec::new(), Some((names("de"), names("ie"))))]);
    assert_eq!(told(&with("IE", &["US"])), [(names("us"), None)]);
}

/// Two rules of one regulation for the same data are told apart by their number.
#[test]
fn rules_of_one_name_are_numbered() {
    let with = |transfer| {
        let mut spec = base();
        spec.rules.push(rule(0, 1, &["DE", "US"], transfer));
        Table::new(spec).unwrap()
    };
    let settings = Diff::between(&with(Transfer::Prohibited), &with(Transfer::Allowed)).unwrap().settings;
    let [setting] = settings.as_slice() else { panic!("{settings:?}") };
    assert!(setting.key.ends_with(" #2"), "{setting:?}");
}

/// A host's own route changes nothing for the requests of that host that it is not for: they are not told with it.
#[test]
fn a_change_is_told_with_the_requests_that_it_is_for() {
    let with = |class: usize, own: bool| {
        let mut spec = base();
        spec.routes[0].data_class = ClassId(class);
        spec.routes.push(route("other", "/other", class));
        if own {
            let host = HostPattern::Exact("api.example.com".into());
            spec.routes.push(RouteSpec { host, ..route("own", "/own", 1) });
        }
        Table::new(spec).unwrap()
    };
    let diff = Diff::between(&with(1, false), &with(0, true)).unwrap();
    let passages = diff.law.iter().flat_map(|change| &change.routes);
    let mut told: Vec<_> = passages.map(|one| (one.old.as_str(), one.new.as_str(), one.at.join(" "))).collect();
    told.sort();
    told.dedup();
    assert_eq!(told, [("other", "other", "/other/*".to_owned()), ("public", "public", "/*".to_owned())]);
}

/// What is found of a rule that selects nothing takes no other finding away.
#[test]
fn a_rule_that_selects_nothing_is_told_beside_what_else_is_found() {
    let mut spec = base();
    spec.rules[0] = rule(0, 1, &["JP"], Transfer::Prohibited);
    spec.routes.push(RouteSpec { require_compliance: vec!["none".into()], ..route("strict", "/strict", 0) });
    let found = prove(&Table::new(spec.clone()).unwrap()).findings;
    let said: Vec<String> = found.iter().map(|one| one.describe(&spec)).collect();
    assert!(matches!(&found[..], [Finding::RoutesServeNobody { .. }, Finding::RuleSelectsNothing { .. }]), "{said:#?}");
    assert_eq!(
        said,
        [
            "no region can ever serve route strict: look at capabilities, state and require_compliance",
            "no region satisfies this, and so nobody may serve personal of eu (route api): write allow = [] if that is \
             meant",
        ]
    );
}
