//! The words that a comparison has for each setting, and what a specification must not hold.

use std::time::Duration;

use policy::concurrency::TrafficClass;
use policy::diff::Diff;
use policy::emergency::{EmergencySpec, ReadOnly};
use policy::jurisdiction::{
    ClassId, Denial, Jurisdiction, JurisdictionId, Rule, Scope, Selector, Transfer, WhenUnavailable,
};
use policy::list::{Countries, Entry, List, ListId};
use policy::region::{AdminState, Operator, Region, Role, Standby, TakesWrites, Tier};
use policy::route::{Affinity, Criticality, MethodSet, RouteSpec, ServerName, UnknownLag};
use policy::table::{TableSpec, UnknownOrigin};
use policy::{Access, Method, Period, RegionId, RouteId, Table};

mod sample;
use sample::{class, countries, jurisdiction, region, route, rule, spec};

fn base() -> TableSpec {
    let mut spec = spec(vec![region("us", "US"), region("ie", "IE")]);
    spec.jurisdictions = vec![jurisdiction("eu", &["@EU"]), jurisdiction("us", &["US"])];
    spec.data_classes.push(class("personal", Transfer::Allowed));
    spec.rules = vec![rule(0, 1, &["@EU"], Transfer::Prohibited)];
    spec.lists.push(List { name: "adequate".into(), entries: vec![entry("JP", Period::ALWAYS)] });
    spec.routes.push(route("api", "/v3", 1));
    spec
}

fn entry(country: &str, period: Period) -> Entry {
    Entry {
        country: Some(country.parse().unwrap()),
        period,
        scope: String::new(),
        source: String::new(),
        partial: false,
    }
}

fn never() -> Period {
    let day = |day: &str| day.parse().unwrap();
    Period { from: Some(day("2027-01-02")), until: Some(day("2027-01-01")) }
}

/// A standby that takes the writes of another region over.
fn pair(of: &str) -> Standby {
    let writes = Some(TakesWrites { max_lag: Duration::from_secs(5), voters: 3 });
    Standby { promote_after: Duration::from_secs(30), of: vec![of.into()], writes }
}

/// What is told of a change, each as `key: old > new`.
fn told(change: impl FnOnce(&mut TableSpec)) -> Vec<String> {
    let (old, mut new) = (base(), base());
    change(&mut new);
    let diff = Diff::between(&Table::new(old).unwrap(), &Table::new(new).unwrap()).unwrap();
    let of_routes = diff.routes.iter().flat_map(|route| &route.settings);
    let in_words = |old: &Option<String>| old.clone().unwrap_or_else(|| "-".into());
    let all = diff.settings.iter().chain(of_routes);
    all.map(|said| format!("{}: {} > {}", said.key, in_words(&said.old), in_words(&said.new))).collect()
}

#[test]
fn every_setting_of_a_region_has_its_words() {
    type Change = fn(&mut Region);
    let cases: [(Change, &str); 12] = [
        (|ie| ie.role = Role::Warm, "regions.ie.role: active > warm"),
        (|ie| ie.role = Role::Cold, "regions.ie.role: active > cold"),
        (|ie| ie.state = AdminState::Draining, "regions.ie.state: serving > draining"),
        (|ie| ie.tier = Tier::Secondary, "regions.ie.tier: primary > secondary"),
        (|ie| ie.tier = Tier::Tertiary, "regions.ie.tier: primary > tertiary"),
        (|ie| ie.coordinates = Some((53.3, -6.2)), "regions.ie.coordinates: none > [53.3, -6.2]"),
        (|ie| ie.capabilities.write = false, "regions.ie.capabilities: read, write > read"),
        (|ie| ie.capacity_rps = Some(50.5), "regions.ie.capacity_rps: unknown > 50.5"),
        (|ie| ie.cost_per_gb = 0.09, "regions.ie.cost_per_gb: 0 > 0.09"),
        (
            |ie| ie.operator = Some(Operator { name: "Acme".into(), country: "US".parse().unwrap(), assurance: None }),
            "regions.ie.operator: unknown > Acme of US",
        ),
        (
            |ie| {
                let assurance = Some("seal-3".to_owned());
                ie.operator = Some(Operator { name: "Acme".into(), country: "FR".parse().unwrap(), assurance });
            },
            "regions.ie.operator: unknown > Acme of FR, assurance seal-3",
        ),
        (
            |ie| {
                let promote_after = Duration::from_secs(30);
                ie.standby = Some(Standby { promote_after, of: Vec::new(), writes: None });
            },
            "regions.ie.standby: none > promoted after 30s",
        ),
    ];
    for (change, expected) in cases {
        let told = told(|new| change(&mut new.regions[1]));
        assert!(told.contains(&expected.to_owned()), "{expected}: {told:?}");
    }
    let taking_over = told(|new| {
        new.regions[1].capabilities.write = false;
        new.regions[1].standby = Some(pair("us"));
    });
    let words = "regions.ie.standby: none > promoted after 30s of us, takes writes over when it is primary, at most 5s \
                 behind, by 3 voters";
    assert!(taking_over.contains(&words.to_owned()), "{taking_over:?}");
}

#[test]
fn every_setting_of_a_route_has_its_words() {
    type Change = fn(&mut RouteSpec);
    let cases: [(Change, &str); 10] = [
        (|api| api.access = Some(Access::Read), "access: auto > read"),
        (|api| api.access = Some(Access::Write), "access: auto > write"),
        (|api| api.server_name = ServerName::Client, "server_name: endpoint > client"),
        (
            |api| api.server_name = ServerName::Name("origin.example.com".into()),
            "server_name: endpoint > origin.example.com",
        ),
        (|api| api.affinity = Affinity::ClientIp, "affinity: none > client_ip"),
        (|api| api.affinity = Affinity::Cookie(Duration::from_secs(60)), "affinity: none > cookie, 60s"),
        (|api| api.lag_unknown = UnknownLag::Ineligible, "lag_unknown: eligible > ineligible"),
        (|api| api.streams_uploads = true, "stream_idle_timeout: 3600s (of answers and calls) > 3600s"),
        (
            |api| api.methods = Some([Method::Get, Method::Post].into_iter().collect::<MethodSet>()),
            "methods: all > GET, POST",
        ),
        (|api| api.criticality = Criticality::Critical, "criticality: default > critical"),
    ];
    for (change, expected) in cases {
        let told = told(|new| change(&mut new.routes[1]));
        assert!(told.contains(&expected.to_owned()), "{expected}: {told:?}");
    }
}

#[test]
fn every_part_of_a_rule_has_its_words() {
    let of_rule = |change: &dyn Fn(&mut Rule)| {
        let told = told(|new| change(&mut new.rules[0]));
        told.into_iter().find(|said| said.starts_with("residency:")).unwrap_or_default()
    };
    let set = |names: &[&str]| -> Option<Countries> { Some(countries(names).into()) };
    let listed = Some(Countries::new(countries(&["DE"]), vec![ListId(0)]));
    let cases: [(Denial, &str); 7] = [
        (
            Denial { regions: Some([RegionId::new(0).unwrap()].into_iter().collect()), ..Denial::default() },
            "regions us",
        ),
        (Denial { countries: set(&["US"]), ..Denial::default() }, "countries US"),
        (Denial { countries: listed, ..Denial::default() }, "countries DE and list:adequate"),
        (Denial { jurisdictions: Some(vec![JurisdictionId(1)]), ..Denial::default() }, "jurisdictions us"),
        (
            Denial {
                operator_countries: set(&["US"]),
                assurance: Some(vec!["b".into(), "a".into()]),
                ..Denial::default()
            },
            "operators of US, and never assurance a, b",
        ),
        (Denial { tiers: Some(vec![Tier::Edge, Tier::Tertiary]), ..Denial::default() }, "tier edge, tertiary"),
        (Denial { tiers: Some(vec![Tier::Secondary]), ..Denial::default() }, "tier secondary"),
    ];
    for (deny, expected) in cases {
        let told = of_rule(&|rule| rule.deny = Some(deny.clone()));
        assert!(told.ends_with(&format!("; never {expected}")), "{expected}: {told}");
    }
    let selectors: [(Selector, &str); 4] = [
        (Selector { tiers: Some(vec![Tier::Primary]), ..Selector::default() }, "tier primary"),
        (Selector { assurance: Some(vec!["high".into()]), ..Selector::default() }, "assurance high"),
        (Selector { operator_countries: set(&["DE"]), ..Selector::default() }, "operators of DE"),
        (
            Selector {
                jurisdictions: Some(vec![JurisdictionId(0)]),
                compliance: Some(vec!["c5".into()]),
                ..Selector::default()
            },
            "jurisdictions eu with compliance c5",
        ),
    ];
    for (selector, expected) in selectors {
        assert!(!selector.is_empty());
        let told = of_rule(&|rule| rule.allow = Some(vec![selector.clone()]));
        assert!(told.ends_with(&format!("> {expected}; transfer prohibited")), "{expected}: {told}");
    }
    assert!(Selector::default().is_empty());
    let page = of_rule(&|rule| rule.when_unavailable = WhenUnavailable::Maintenance("soon".into()));
    assert!(page.contains("; a maintenance page ("), "{page}");
    for (how, expected) in [
        (Transfer::WithConsent, "with_consent"),
        (Transfer::WithSafeguards, "with_safeguards"),
        (Transfer::RequiresLocalCopy, "requires_local_copy"),
        (Transfer::Allowed, "allowed"),
    ] {
        let told = of_rule(&|rule| rule.transfer = how);
        assert!(told.ends_with(&format!("; transfer {expected}")), "{told}");
    }
}

#[test]
fn defaults_and_emergencies_have_their_words() {
    let like = told(|new| new.unknown_origin = UnknownOrigin::Like(vec![JurisdictionId(1), JurisdictionId(0)]));
    assert_eq!(like, ["residency_defaults.unknown_origin: strictest > like eu, us"]);
    let scope = told(|new| new.data_classes[1].scope = Scope::Global);
    assert!(scope.contains(&"data_classes.personal.scope: jurisdiction > global".to_owned()), "{scope:?}");
    let emergency = |said: EmergencySpec| told(|new| new.emergency = Some(said));
    let nothing = || EmergencySpec { shed: None, read_only: None, routes_off: Vec::new(), page: None, until: None };
    let all = emergency(EmergencySpec { read_only: Some(ReadOnly::All), ..nothing() });
    assert_eq!(all, ["emergency.read_only: - > everybody's writes are refused"]);
    let us = ReadOnly::Of(vec![JurisdictionId(1)]);
    let some = emergency(EmergencySpec { read_only: Some(us.clone()), ..nothing() });
    assert_eq!(
        some,
        ["emergency.read_only: - > us: writes of clients who may be in US, and of unknown clients, are refused"]
    );
    // Where unknown clients are like somebody else's, they are not among them.
    let mut new = base();
    new.unknown_origin = UnknownOrigin::Like(vec![JurisdictionId(0)]);
    let old = new.clone();
    new.emergency = Some(EmergencySpec { read_only: Some(us), ..nothing() });
    let diff = Diff::between(&Table::new(old).unwrap(), &Table::new(new).unwrap()).unwrap();
    assert_eq!(
        diff.settings[0].new.as_deref(),
        Some("us: writes of clients who may be in US are refused"),
        "{:?}",
        diff.settings
    );
    let over = emergency(EmergencySpec {
        routes_off: vec![RouteId(1)],
        until: Some("2026-01-01".parse().unwrap()),
        page: Some("closed".into()),
        ..nothing()
    });
    let expected = [
        "emergency.page: - > a page of 6 bytes",
        "emergency.routes_off: - > api",
        "emergency.until: - > 2026-01-01, and so over",
    ];
    assert_eq!(over, expected);
}

/// What the compiler of tables never makes, somebody who makes a table otherwise may: it is refused, with its place.
#[test]
fn what_a_specification_must_not_hold_is_refused_with_its_place() {
    type Change = fn(&mut TableSpec);
    let cases: [(Change, &str); 27] = [
        (|spec| spec.regions.clear(), "a table needs at least one region"),
        (|spec| spec.routes.clear(), "a table needs at least one route"),
        (|spec| spec.regions[1].name = "us".into(), "two regions are named \"us\""),
        (|spec| spec.regions.iter_mut().for_each(|one| one.weight = 0), "the weight of every region is 0"),
        (|spec| spec.regions[0].cost_per_gb = -0.1, "region us: cost_per_gb: -0.1 is not a number"),
        (|spec| spec.regions[0].capacity_rps = Some(f64::NAN), "region us: capacity_rps: NaN is not a number"),
        (|spec| spec.regions[0].coordinates = Some((91.0, 0.0)), "region us: latitude: -1 is not a number"),
        (|spec| spec.regions[0].coordinates = Some((0.0, -181.0)), "region us: longitude: -1 is not a number"),
        (|spec| spec.regions[0].share = Some(0), "region us: share: 0 is not a number"),
        (|spec| spec.regions[0].share = Some(5), "us has a share and ie, of the same priority, has none"),
        (|spec| spec.regions[1].share = Some(5), "ie has a share and us, of the same priority, has none"),
        (
            |spec| spec.latency_ms.push((RegionId::new(0).unwrap(), RegionId::new(9).unwrap(), 1.0)),
            "latency_ms refers to a region",
        ),
        (
            |spec| spec.latency_sla_ms.push((RegionId::new(0).unwrap(), RegionId::new(1).unwrap(), -1.0)),
            "latency_sla_ms: -1 is not a number",
        ),
        (
            |spec| {
                let named = Countries::new(countries(&["US"]), vec![ListId(1)]);
                spec.jurisdictions[1] = Jurisdiction { name: "us".into(), countries: named };
            },
            "jurisdiction us refers to a list",
        ),
        (|spec| spec.lists[0].entries[0].period = never(), "list adequate: its end is not after its beginning"),
        (|spec| spec.rules[0].period = never(), "the rule at line 1: its end is not after its beginning"),
        (|spec| spec.rules[0].jurisdiction = JurisdictionId(2), "the rule at line 1 refers to a jurisdiction"),
        (
            |spec| {
                let jurisdictions = Some(vec![JurisdictionId(2)]);
                spec.rules[0].deny = Some(Denial { jurisdictions, ..Denial::default() });
            },
            "the rule at line 1 refers to a jurisdiction",
        ),
        (
            |spec| {
                let operator_countries = Some(Countries::new(countries(&[]), vec![ListId(1)]));
                spec.rules[0].deny = Some(Denial { operator_countries, ..Denial::default() });
            },
            "the rule at line 1 refers to a list",
        ),
        (|spec| spec.rules[0].data_classes.push(ClassId(2)), "the rule at line 1 refers to a data class"),
        (
            |spec| spec.unknown_origin = UnknownOrigin::Like(vec![JurisdictionId(2)]),
            "unknown_origin refers to a jurisd",
        ),
        (|spec| spec.routes[1].data_class = ClassId(2), "route api refers to a data class"),
        (|spec| spec.routes[1].scoring = 1, "route api refers to a scoring"),
        (|spec| spec.routes[1].traffic_class = Some(0), "route api refers to a traffic class"),
        (|spec| spec.routes[1].jurisdictions.push(JurisdictionId(2)), "route api refers to a jurisdiction"),
        (
            |spec| {
                let class = |name: &str, guaranteed| TrafficClass { name: name.into(), guaranteed };
                spec.traffic_classes = vec![class("a", 0.6), class("b", 0.6)];
            },
            "the guarantees of all traffic classes: 1.2 is not a number",
        ),
        (
            |spec| spec.traffic_classes.push(TrafficClass { name: "a".into(), guaranteed: 0.0 }),
            "traffic class a: guaranteed: 0 is not a number",
        ),
    ];
    assert!(Table::new(base()).is_ok());
    for (change, expected) in cases {
        let mut spec = base();
        change(&mut spec);
        let error = Table::new(spec).map(|_| ()).expect_err(expected).to_string();
        assert!(error.starts_with(expected), "{expected}: {error}");
    }
    let emergency = |routes_off, read_only| {
        let mut spec = base();
        spec.emergency = Some(EmergencySpec { shed: None, read_only, routes_off, page: None, until: None });
        Table::new(spec).map(|_| ()).unwrap_err().to_string()
    };
    assert!(emergency(vec![RouteId(2)], None).starts_with("emergency.routes_off refers to a route"));
    let unknown = ReadOnly::Of(vec![JurisdictionId(2)]);
    assert!(emergency(Vec::new(), Some(unknown)).starts_with("emergency.read_only refers to a jurisdiction"));
    let mut many = base();
    let class = |index| TrafficClass { name: format!("class {index}"), guaranteed: 0.01 };
    many.traffic_classes = (0..40).map(class).collect();
    let error = Table::new(many).map(|_| ()).unwrap_err().to_string();
    assert!(error.starts_with("40 traffic classes; a table may have at most"), "{error}");
}

/// Writes are taken over from one region that has them, by one that has none, and after a time in which a fleet agrees.
#[test]
fn a_pair_that_two_regions_could_write_in_is_refused() {
    let refused = |change: &dyn Fn(&mut TableSpec)| {
        let mut spec = base();
        spec.regions.push(region("de", "DE"));
        spec.regions[1].capabilities.write = false;
        spec.regions[1].standby = Some(pair("us"));
        change(&mut spec);
        Table::new(spec).map(|_| ()).err().map(|error| error.to_string())
    };
    assert_eq!(refused(&|_| {}), None);
    let shortest = |seconds| Some(Standby { promote_after: Duration::from_secs(seconds), ..pair("us") });
    assert_eq!(refused(&|spec| spec.regions[1].standby = shortest(10)), None);
    type Change = fn(&mut TableSpec);
    let cases: [(Change, &str); 6] = [
        (|spec| spec.regions[1].capabilities.write = true, "it serves writes whether it is promoted or not"),
        (
            |spec| spec.regions[0].capabilities.write = false,
            "the region that it stands in for is no standby, and serves",
        ),
        (
            |spec| spec.regions[0].standby = Some(Standby { writes: None, ..pair("de") }),
            "the region that it stands in for is no standby, and serves writes",
        ),
        (
            |spec| spec.regions[1].standby = Some(Standby { of: Vec::new(), ..pair("us") }),
            "it stands in for one region",
        ),
        (
            |spec| spec.regions[1].standby = Some(Standby { of: vec!["us".into(), "de".into()], ..pair("us") }),
            "it stands in for one region",
        ),
        (
            |spec| {
                let promote_after = Duration::from_millis(9_999);
                spec.regions[1].standby = Some(Standby { promote_after, ..pair("us") });
            },
            "promote_after is too short",
        ),
    ];
    for (change, expected) in cases {
        let said = refused(&change).unwrap_or_default();
        assert!(said.starts_with(&format!("region ie: standby.writes: {expected}")), "{expected}: {said}");
    }
    let another = refused(&|spec| {
        spec.regions[2].capabilities.write = false;
        spec.regions[2].standby = Some(pair("us"));
    });
    assert!(another.unwrap_or_default().starts_with("region de: standby.writes: another standby takes"));
}
