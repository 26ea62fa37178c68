//! Tables before and after, and what is told of it.

use policy::decide::is_lawful;
use policy::diff::{Diff, GroupKind, LawChange, RouteFate};
use policy::jurisdiction::{ClassId, DataClass, JurisdictionId, Scope, Selector, SuperRegion, Transfer};
use policy::region::AdminState;
use policy::region::Region;
use policy::route::{HostPattern, MethodSet, PathPattern, RouteSpec};
use policy::score::LatencyCurve;
use policy::table::{TableSpec, UnknownOrigin, UnlistedJurisdiction};
use policy::{Access, Facts, Method, Origin, Payload, RegionId, Table};

mod sample;
use sample::{class, countries, jurisdiction, large, region, route, rule, spec};

/// Three regions, Europeans' personal data in Europe, Brazilians' with safeguards, public data anywhere.
fn base() -> TableSpec {
    let mut spec = spec(vec![region("us", "US"), region("ie", "IE"), region("br", "BR")]);
    spec.jurisdictions = vec![jurisdiction("eu", &["@EU"]), jurisdiction("br", &["BR"])];
    spec.data_classes.push(class("personal", Transfer::Allowed));
    spec.rules = vec![rule(0, 1, &["@EU"], Transfer::Prohibited), rule(1, 1, &["BR"], Transfer::WithSafeguards)];
    spec.routes.push(route("api", "/v3", 1));
    spec
}

fn diff(old: TableSpec, new: TableSpec) -> Diff {
    Diff::between(&Table::new(old).unwrap(), &Table::new(new).unwrap()).unwrap()
}

/// The difference that a change of [`base`] makes.
fn changed(change: impl FnOnce(&mut TableSpec)) -> Diff {
    let mut new = base();
    change(&mut new);
    diff(base(), new)
}

/// What is told of where requests may go, in few words: `eu api/writes/With +us`.
fn told(diff: &Diff) -> Vec<String> {
    diff.law.iter().map(in_words).collect()
}

fn in_words(change: &LawChange) -> String {
    let who = &change.who;
    let mut whom: Vec<String> = if who.everybody { vec!["everybody".into()] } else { Vec::new() };
    whom.extend(who.groups.iter().map(|group| match group.kind {
        GroupKind::Unlisted => "unlisted".to_owned(),
        GroupKind::UnlistedInSuperRegion => format!("unlisted of {}", group.name),
        GroupKind::Jurisdiction | GroupKind::SuperRegion => group.name.clone(),
    }));
    whom.extend(who.others.iter().map(ToString::to_string));
    whom.extend((who.unknown && !who.everybody).then(|| "unknown".to_owned()));
    whom.extend(who.declared.iter().map(|name| format!("tenant:{name}")));
    let routes: Vec<String> =
        change
            .routes
            .iter()
            .map(|passage| {
                if passage.old == passage.new {
                    passage.new.clone()
                } else {
                    format!("{}>{}", passage.old, passage.new)
                }
            })
            .collect();
    let mut words = format!("{} {}", whom.join(","), routes.join(","));
    if let Some(requests) = &change.requests {
        words.push_str(&format!("/{requests:?}"));
    }
    if let Some(consent) = &change.consent {
        words.push_str(&format!("/{consent:?}"));
    }
    words.push_str(if change.anywhere { " anywhere" } else { "" });
    words.push_str(if change.was_anywhere { " was anywhere" } else { "" });
    for gain in &change.gained {
        let new = if gain.is_new { " new" } else { "" };
        let moved = gain.was_in.map_or(String::new(), |country| format!(" from {country}"));
        let rules = if gain.under_old_rules { " by old rules" } else { "" };
        words.push_str(&format!(" +{}{new}{moved}{rules}", gain.region));
    }
    change.lost.iter().for_each(|region| words.push_str(&format!(" -{region}")));
    change.unguarded.iter().for_each(|region| words.push_str(&format!(" unguarded:{region}")));
    change.guarded.iter().for_each(|region| words.push_str(&format!(" guarded:{region}")));
    if let Some(preference) = &change.preference {
        words.push_str(&format!(" first {}>{}", preference.old.join(","), preference.new.join(",")));
    }
    if change.refused_before {
        words.push_str(" was refused");
    }
    if let Some(status) = change.refused_with {
        words.push_str(&format!(" {status}"));
    }
    words
}

#[test]
fn the_same_table_is_no_change() {
    assert!(changed(|_| {}).is_empty());
    let only_a_version = changed(|new| new.version = "other".into());
    assert!(only_a_version.is_empty());
    assert_eq!((only_a_version.old_version.as_str(), only_a_version.new_version.as_str()), ("sample", "other"));
}

#[test]
fn the_order_and_the_wording_of_a_table_are_no_change() {
    let same = changed(|new| {
        // Every id becomes another.
        new.regions.reverse();
        new.jurisdictions.reverse();
        new.data_classes.reverse();
        new.routes.reverse();
        new.rules.reverse();
        for rule in &mut new.rules {
            rule.jurisdiction = JurisdictionId(1 - rule.jurisdiction.0);
            rule.data_classes = vec![ClassId(0)];
        }
        for route in &mut new.routes {
            route.data_class = ClassId(1 - route.data_class.0);
        }
    });
    assert!(same.is_empty(), "{same:#?}");
    let reworded = changed(|new| {
        let eu = [RegionId::new(1).unwrap()].into_iter().collect();
        new.rules[0].allow = Some(vec![Selector { regions: Some(eu), ..Selector::default() }]);
    });
    assert_eq!(told(&reworded), [""; 0]);
    assert_eq!(reworded.settings.len(), 1, "the rule itself is told: {reworded:#?}");
}

/// Whoever publishes must see first what lets data go further.
#[test]
fn widenings_come_first() {
    let of = |eu: &[&str], br: &[&str]| {
        let mut spec = base();
        spec.rules = vec![rule(0, 1, eu, Transfer::Prohibited), rule(1, 1, br, Transfer::Prohibited)];
        spec
    };
    for (old, new) in [
        (of(&["@EU", "US"], &["BR"]), of(&["@EU"], &["BR", "US"])),
        (of(&["@EU"], &["BR", "US"]), of(&["@EU", "US"], &["BR"])),
    ] {
        let changes = diff(old, new);
        let kinds: Vec<bool> = changes.law.iter().map(|change| change.widens()).collect();
        assert!(kinds.first() == Some(&true) && kinds.last() == Some(&false), "{:?}", told(&changes));
        assert!(kinds.is_sorted_by(|one, other| one >= other), "{:?}", told(&changes));
    }
}

#[test]
fn a_wider_rule_is_told_once_for_all_its_countries() {
    let wider = changed(|new| new.rules[0] = rule(0, 1, &["@EU", "US"], Transfer::Prohibited));
    assert_eq!(told(&wider), ["eu,unknown api +us"]);
    assert!(wider.widens() && !wider.shrinks());
    assert_eq!(wider.law[0].who.countries.len(), 34);
    assert_eq!(wider.law[0].who.groups[0].countries, 34);
    let [setting] = wider.settings.as_slice() else { panic!("{wider:#?}") };
    assert_eq!(setting.key, "residency: eu for personal (law)");
    assert_eq!(setting.old.as_deref(), Some("countries @EU; transfer prohibited"));
    assert_eq!(setting.new.as_deref(), Some("countries @EU, US; transfer prohibited"));
}

#[test]
fn a_laxer_transfer_widens_under_its_own_condition() {
    let transfer = |transfer| changed(|new| new.rules[0].transfer = transfer);
    assert_eq!(told(&transfer(Transfer::Allowed)), ["eu api anywhere +us +br", "unknown api +us +br"]);
    assert_eq!(
        told(&transfer(Transfer::RequiresLocalCopy)),
        ["eu api/[Reads] anywhere +us +br", "unknown api/[Reads] +us +br"]
    );
    // Nobody can consent where no route listens.
    let unheard = transfer(Transfer::WithConsent);
    assert_eq!(told(&unheard), [""; 0]);
    let heard = |header: &str| {
        let mut spec = base();
        spec.routes[1].consent_header = Some(header.into());
        spec
    };
    let mut new = heard("x");
    new.rules[0].transfer = Transfer::WithConsent;
    assert_eq!(told(&diff(heard("x"), new.clone()))[0], "eu api/[With] anywhere +us +br");
    // Consent in a place that was not looked at is consent that was not heard.
    let mut elsewhere = new.clone();
    elsewhere.routes[1].consent_header = Some("y".into());
    let moved = diff(new, elsewhere);
    assert_eq!(told(&moved)[..1], ["eu api/[NewlyHeard] anywhere +us +br"]);
    assert!(told(&moved)[2..].iter().all(|words| words.contains("NoLongerHeard")), "{:?}", told(&moved));
}

#[test]
fn safeguards_that_are_no_longer_asked_for_are_a_widening() {
    let dropped = changed(|new| new.rules[1].transfer = Transfer::Allowed);
    assert_eq!(told(&dropped)[0], "br api unguarded:us unguarded:ie");
    assert!(dropped.widens() && !dropped.shrinks());
    let mut before = base();
    before.rules[1].transfer = Transfer::Allowed;
    let asked = diff(before, base());
    assert_eq!(told(&asked)[0], "br api guarded:us guarded:ie");
    assert!(!asked.widens() && asked.shrinks());
}

#[test]
fn stricter_is_no_widening() {
    let narrower = changed(|new| new.rules[1].transfer = Transfer::Prohibited);
    assert_eq!(told(&narrower), ["br api -us -ie", "unknown api -ie 451"]);
    assert!(narrower.shrinks() && !narrower.widens());
    let nothing = changed(|new| new.rules[0].allow = Some(Vec::new()));
    assert_eq!(told(&nothing), ["eu,unknown api -ie 451"]);
}

#[test]
fn a_set_can_move() {
    let moved = changed(|new| new.rules[0] = rule(0, 1, &["US"], Transfer::Prohibited));
    assert_eq!(told(&moved), ["eu,unknown api +us -ie"]);
    assert!(moved.widens() && moved.shrinks());
}

#[test]
fn what_a_law_prefers_is_no_widening() {
    let mut old = base();
    old.rules[0] = rule(0, 1, &["IE"], Transfer::Allowed);
    let mut new = base();
    new.rules[0] = rule(0, 1, &["US"], Transfer::Allowed);
    let preferred = diff(old, new);
    assert_eq!(told(&preferred)[0], "eu api first ie>us");
    assert!(!preferred.widens() && !preferred.shrinks() && !preferred.is_empty());
}

#[test]
fn a_laxer_class_of_a_route_widens() {
    let laxer = changed(|new| new.routes[1].data_class = ClassId(0));
    assert_eq!(laxer.law[0].routes[0].old_class, "personal");
    assert_eq!(laxer.law[0].routes[0].new_class, "public");
    assert_eq!(told(&laxer)[0], "eu,unknown api anywhere +us +br");
    assert!(
        matches!(laxer.routes.as_slice(), [change] if change.fate == RouteFate::Changed && change.settings.len() == 1)
    );
}

/// The law is judged by requests, not by the names of routes.
#[test]
fn a_laxer_route_inside_another_widens() {
    let inside = changed(|new| new.routes.push(route("docs", "/v3/docs", 0)));
    assert_eq!(told(&inside)[0], "eu,unknown api>docs anywhere +us +br");
    assert_eq!(inside.law[0].routes[0].at, ["/v3/docs/*"]);
    assert!(matches!(inside.routes.as_slice(), [change] if change.fate == RouteFate::Added && change.route == "docs"));
    let [takeover] = inside.takeovers.as_slice() else { panic!("{inside:#?}") };
    assert_eq!((takeover.route.as_str(), takeover.by.as_deref(), takeover.shadowed), ("api", Some("docs"), false));
    assert_eq!(takeover.at, ["/v3/docs/*"]);

    let renamed = changed(|new| new.routes[1] = route("api-v3", "/v3", 0));
    assert_eq!(told(&renamed)[0], "eu,unknown api>api-v3 anywhere +us +br");
    let fate = RouteFate::Renamed { from: "api".into() };
    assert!(matches!(renamed.routes.as_slice(), [change] if change.fate == fate), "{:#?}", renamed.routes);

    // A host of its own, a method of its own: each takes requests that fell under a stricter class.
    let host = RouteSpec { host: HostPattern::Exact("a.example".into()), ..route("host", "/", 0) };
    assert_eq!(told(&changed(|new| new.routes.push(host)))[0], "eu,unknown api>host anywhere +us +br");
    let below = RouteSpec { host: HostPattern::Below("example".into()), ..route("below", "/", 0) };
    assert_eq!(told(&changed(|new| new.routes.push(below)))[0], "eu,unknown api>below anywhere +us +br");
    let methods: MethodSet = [Method::Post].into_iter().collect();
    let post = RouteSpec { methods: Some(methods), ..route("post", "/v3", 0) };
    let posts = changed(|new| new.routes.push(post));
    assert_eq!(told(&posts)[0], "eu,unknown api>post anywhere +us +br");
    assert_eq!(posts.takeovers[0].methods, Some(vec![Method::Post]));
    let exact = RouteSpec { path: PathPattern::Exact("/v3/x".into()), ..route("exact", "/", 0) };
    assert_eq!(told(&changed(|new| new.routes.push(exact)))[0], "eu,unknown api>exact anywhere +us +br");
}

#[test]
fn a_laxer_route_behind_a_removed_one_widens() {
    let removed = changed(|new| drop(new.routes.remove(1)));
    assert_eq!(told(&removed)[0], "eu,unknown api>public anywhere +us +br");
    let fate = RouteFate::Removed { goes_to: vec!["public".into()], not_found: false };
    assert!(matches!(removed.routes.as_slice(), [change] if change.fate == fate), "{:#?}", removed.routes);

    // Where a host's own route goes, the routes of any host decide: each of them.
    let mut old = base();
    old.routes.push(RouteSpec { host: HostPattern::Exact("a.example".into()), ..route("host", "/", 1) });
    let gone = diff(old, base());
    assert_eq!(told(&gone)[0], "eu,unknown host>public anywhere +us +br");
    let fate = RouteFate::Removed { goes_to: vec!["public".into(), "api".into()], not_found: false };
    assert!(matches!(gone.routes.as_slice(), [change] if change.fate == fate), "{:#?}", gone.routes);
}

#[test]
fn a_route_that_nothing_reaches_is_shadowed() {
    let mut old = base();
    old.routes[1].host = HostPattern::Below("example".into());
    let mut new = old.clone();
    for methods in [
        [Method::Get, Method::Head, Method::Post, Method::Put, Method::Patch],
        [Method::Delete, Method::Connect, Method::Options, Method::Trace, Method::Get],
    ] {
        let name = format!("with {:?}", methods[0]);
        let methods = Some(methods.into_iter().collect());
        new.routes.push(RouteSpec { methods, host: HostPattern::Below("example".into()), ..route(&name, "/v3", 1) });
    }
    let left = diff(old.clone(), new.clone());
    assert_eq!(left.takeovers.len(), 2);
    assert!(left.takeovers.iter().all(|takeover| !takeover.shadowed), "extension methods still reach it: {left:#?}");
    assert!(!left.widens());
    new.routes.push(RouteSpec { host: HostPattern::Below("example".into()), ..route("all", "/v3", 1) });
    new.routes.remove(1);
    new.routes.push(RouteSpec { host: HostPattern::Below("example".into()), ..route("api", "/v3/x/y", 1) });
    let narrowed = diff(old, new);
    assert!(narrowed.takeovers.iter().all(|takeover| !takeover.shadowed && takeover.route == "api"), "{narrowed:#?}");
}

#[test]
fn new_requests_are_no_widening() {
    let mut old = base();
    old.routes.remove(0);
    let new = base();
    let more = diff(old.clone(), new.clone());
    assert_eq!(told(&more), [""; 0], "what was answered 404 had no law");
    assert!(matches!(more.routes.as_slice(), [change] if change.fate == RouteFate::Added));
    let fewer = diff(new, old);
    assert_eq!(told(&fewer), [""; 0]);
    let fate = RouteFate::Removed { goes_to: Vec::new(), not_found: true };
    assert!(matches!(fewer.routes.as_slice(), [change] if change.fate == fate), "{:#?}", fewer.routes);
}

#[test]
fn defaults_are_the_law_of_many() {
    let mut refusing = base();
    refusing.unlisted_jurisdiction = UnlistedJurisdiction::Refuse;
    let wider = diff(refusing.clone(), base());
    assert_eq!(told(&wider), ["unlisted api anywhere +us +ie +br", "unknown api +ie was refused"]);
    assert!(wider.widens());
    assert_eq!(told(&diff(base(), refusing)), ["unlisted api was anywhere -us -ie -br 451", "unknown api -ie 451"]);

    let mut refusing = base();
    refusing.unknown_origin = UnknownOrigin::Refuse;
    assert_eq!(told(&diff(refusing.clone(), base())), ["unknown api +ie was refused"]);
    assert_eq!(told(&diff(base(), refusing)), ["unknown api -ie 451"]);
}

#[test]
fn a_class_has_a_border_and_a_scope() {
    let strict = changed(|new| new.data_classes[1].cross_border = Transfer::Prohibited);
    assert_eq!(told(&strict)[0], "br api -us -ie");
    assert!(!strict.widens());
    let global = changed(|new| new.data_classes[1].scope = Scope::Global);
    assert_eq!(told(&global), ["eu,unknown api anywhere +us +br", "br api unguarded:us unguarded:ie"]);
    let mut old = base();
    old.data_classes[1].scope = Scope::SuperRegion;
    old.super_regions = vec![SuperRegion { name: "emea".into(), countries: countries(&["@EMEA"]) }];
    let wider = diff(old.clone(), base());
    assert!(wider.widens());
    assert_eq!(told(&wider)[0], "unlisted api anywhere +us +ie +br");
    assert!(told(&wider)[1].starts_with("br api") && told(&wider)[1].ends_with("was refused"), "{:?}", told(&wider));
    old.super_regions[0].countries = countries(&["@EMEA", "US"]);
    let mut narrower = old.clone();
    narrower.super_regions[0].countries = countries(&["@EMEA"]);
    let moved = diff(narrower, old);
    assert!(moved.widens(), "American regions are in EMEA now: {:?}", told(&moved));
}

#[test]
fn a_country_can_leave_a_jurisdiction() {
    let without_france = jurisdiction("eu", &["DE", "IE"]);
    let mut new = base();
    new.jurisdictions[0] = without_france;
    let left = diff(base(), new);
    let [change] = left.law.as_slice() else { panic!("{:?}", told(&left)) };
    assert_eq!((change.who.countries.len(), change.who.unknown), (32, false));
    assert_eq!(change.gained.len(), 2);
    assert!(left.widens());
    let gone = changed(|new| {
        new.jurisdictions.remove(0);
        new.rules.remove(0);
        new.rules[0].jurisdiction = JurisdictionId(0);
    });
    assert_eq!(told(&gone)[0], "eu api anywhere +us +br", "the name is the old table's");
    assert!(gone.widens());
}

#[test]
fn a_new_region_is_a_widening_where_a_rule_bounds() {
    let german = changed(|new| new.regions.push(region("de", "DE")));
    assert_eq!(told(&german), ["eu,unknown api +de new by old rules"], "not for public data, nor where no rule holds");
    assert!(german.widens());
    assert!(german.settings.iter().any(|setting| setting.key == "regions.de" && setting.old.is_none()));
    let american = changed(|new| new.regions.push(region("us-2", "US")));
    assert_eq!(told(&american), [""; 0], "Brazilians' data may go anywhere with safeguards already");
    let by_name = changed(|new| {
        new.regions.push(region("de", "DE"));
        new.rules[0].allow = Some(vec![Selector {
            regions: Some([1, 3].into_iter().filter_map(RegionId::new).collect()),
            ..Selector::default()
        }]);
    });
    assert_eq!(told(&by_name)[0], "eu,unknown api +de new by old rules");
    let canadian = changed(|new| {
        new.regions.push(region("ca", "CA"));
        new.rules[0] = rule(0, 1, &["@EU", "CA"], Transfer::Prohibited);
    });
    assert_eq!(told(&canadian), ["eu,unknown api +ca new"]);
}

#[test]
fn a_region_that_goes_is_told_where_a_rule_bounds() {
    let without = changed(|new| drop(new.regions.remove(1)));
    assert_eq!(told(&without), ["eu,unknown api -ie 451"]);
    assert!(!without.widens());
    assert!(without.settings.iter().any(|setting| setting.key == "regions.ie" && setting.new.is_none()));
}

#[test]
fn a_region_in_another_country_is_another_place() {
    let abroad = changed(|new| new.regions[0].country = "DE".parse().unwrap());
    assert_eq!(told(&abroad)[0], "eu,unknown api +us new from US by old rules");
    assert!(abroad.widens());
    // A rule that names the region follows it wherever it goes: that is what must not pass unseen.
    let mut old = base();
    let ireland = [RegionId::new(1).unwrap()].into_iter().collect();
    old.rules[0].allow = Some(vec![Selector { regions: Some(ireland), ..Selector::default() }]);
    let mut new = old.clone();
    new.regions[1].country = "US".parse().unwrap();
    let followed = diff(old, new);
    assert_eq!(told(&followed), ["eu,unknown api +ie new from IE -ie"]);
    assert!(followed.settings.iter().any(|setting| setting.key == "regions.ie.country"));
}

#[test]
fn frameworks_of_regions_and_routes_bound_too() {
    let certified = |name: &str, country: &str| Region { compliance: vec!["soc2".into()], ..region(name, country) };
    let mut old = base();
    old.regions[1] = certified("ie", "IE");
    old.routes[1].require_compliance = vec!["soc2".into()];
    let mut new = old.clone();
    new.routes[1].require_compliance.clear();
    assert_eq!(told(&diff(old.clone(), new.clone())), ["unlisted api anywhere +us +br", "br api +us +br"]);
    assert_eq!(told(&diff(new, old.clone())), ["unlisted api was anywhere -us -br", "br api -us -br"]);
    let mut new = old.clone();
    new.regions[0] = certified("us", "US");
    assert_eq!(told(&diff(old.clone(), new)), ["br,unlisted api +us"]);
    let mut new = old.clone();
    new.regions[1] = region("ie", "IE");
    assert_eq!(told(&diff(old, new)), ["everybody api -ie 503"], "the law allows some, the route none");
}

#[test]
fn tenants_have_jurisdictions_of_their_own() {
    let mut old = base();
    old.routes[1].jurisdictions = vec![JurisdictionId(0)];
    let wider = diff(old.clone(), base());
    assert_eq!(told(&wider)[0], "unlisted api anywhere +us +br");
    assert!(wider.widens() && !diff(base(), old).widens());

    // A header that nobody listens to any more.
    let listening = |header: &str| {
        let mut spec = base();
        spec.routes[1].jurisdiction_header = Some(header.into());
        spec
    };
    let deaf = diff(listening("x-tenant"), base());
    assert!(deaf.widens());
    assert!(told(&deaf).contains(&"tenant:eu api +us +br".to_owned()), "{:?}", told(&deaf));
    let elsewhere = diff(listening("x-tenant"), listening("x-other"));
    assert!(elsewhere.widens() && elsewhere.shrinks(), "{:?}", told(&elsewhere));

    // Declared jurisdictions change with the rules, and are told once for all countries.
    let mut new = listening("x-tenant");
    new.rules[0] = rule(0, 1, &["@EU", "US"], Transfer::Prohibited);
    assert_eq!(told(&diff(listening("x-tenant"), new.clone())), ["eu,unknown,tenant:eu api +us"]);
    new = listening("x-tenant");
    new.jurisdictions.remove(0);
    new.rules.remove(0);
    new.rules[0].jurisdiction = JurisdictionId(0);
    let gone = diff(listening("x-tenant"), new);
    assert!(told(&gone).contains(&"tenant:eu api 400".to_owned()), "{:?}", told(&gone));
}

#[test]
fn reads_and_writes_are_told_apart() {
    let mut old = base();
    old.rules[0].transfer = Transfer::RequiresLocalCopy;
    let mut new = old.clone();
    new.routes[1].access = Some(Access::Read);
    let wider = diff(old, new);
    assert_eq!(told(&wider)[0], "eu api/[WritesTakenForReads] anywhere +us +br");
}

#[test]
fn levers_are_settings() {
    let levers = changed(|new| {
        new.regions[0].state = AdminState::Disabled;
        new.regions[1].weight = 10;
        new.regions[1].tier = policy::region::Tier::Edge;
        new.latency_ms = vec![(RegionId::new(0).unwrap(), RegionId::new(1).unwrap(), 80.0)];
        new.failover.threshold = 0.9;
        new.scorings[0].latency_curve = LatencyCurve::built_in("steps").unwrap();
        new.routes[1].timeout = std::time::Duration::from_secs(1);
    });
    assert!(!levers.widens() && !levers.shrinks() && !levers.is_empty());
    let settings: Vec<String> = levers
        .settings
        .iter()
        .map(|s| format!("{}: {} > {}", s.key, s.old.as_deref().unwrap_or("-"), s.new.as_deref().unwrap_or("-")))
        .collect();
    assert_eq!(
        settings,
        [
            "regions.ie.tier: primary > edge",
            "regions.ie.weight: 100 > 10",
            "regions.us.state: serving > disabled",
            "latency_ms.us.ie: - > 80 ms",
            "failover.threshold: 0.5 > 0.9",
            "scoring.balanced.latency_curve: line > steps",
        ]
    );
    assert_eq!(levers.routes[0].settings[0].key, "timeout");
}

/// A class of the new table under the name of an old one is compared by what it allows.
#[test]
fn a_class_of_another_name_is_compared_by_what_it_allows() {
    let same = changed(|new| new.data_classes[1].name = "pii".into());
    assert_eq!(told(&same), [""; 0]);
    let other = changed(|new| {
        new.data_classes.push(DataClass { name: "lax".into(), cross_border: Transfer::Allowed, scope: Scope::Global });
        new.routes[1].data_class = ClassId(2);
    });
    assert_eq!(told(&other)[0], "eu,unknown api anywhere +us +br");
}

/// Whatever the tables, a request that may go where the old table does not let it is told of.
#[test]
fn no_widening_is_missed() {
    let mut seed = 1_u64;
    let mut draw = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let hosts = ["a.b.c", "x.b.c", "y.c", "z"];
    let paths = ["/", "/p", "/p/q", "/p/q/r", "/pq", "/o/q"];
    let mut random = || {
        let mut spec = base();
        spec.data_classes.push(class("strict", [Transfer::Prohibited, Transfer::WithConsent][draw(2)]));
        spec.rules[0].transfer = [Transfer::Prohibited, Transfer::RequiresLocalCopy][draw(2)];
        spec.rules[draw(2)].data_classes.push(ClassId(2));
        spec.routes.clear();
        for index in 0..1 + draw(7) {
            let host = match draw(5) {
                0 => HostPattern::Any,
                1 => HostPattern::Below(["c", "b.c"][draw(2)].into()),
                _ => HostPattern::Exact(hosts[draw(hosts.len())].into()),
            };
            let path = paths[draw(paths.len())];
            let exact = draw(4) == 0;
            let path = if exact {
                PathPattern::Exact(path.into())
            } else {
                PathPattern::Prefix(path.trim_end_matches('/').into())
            };
            let sets = [vec![Method::Get], vec![Method::Get, Method::Post], vec![Method::Delete]];
            let methods = (draw(3) == 0).then(|| sets[draw(3)].iter().copied().collect());
            let access = [None, Some(Access::Read), None][draw(3)];
            spec.routes.push(RouteSpec { host, path, methods, access, ..route(&format!("r{index}"), "/", draw(3)) });
        }
        Table::new(spec).unwrap()
    };
    let (mut widened, mut shrunk, mut neither) = (0, 0, 0);
    for _ in 0..200 {
        let (old, new) = (random(), random());
        let diff = Diff::between(&old, &new).unwrap();
        let (mut widens, mut shrinks) = (false, false);
        for (host, path) in hosts.iter().chain(&["w.c", "other"]).flat_map(|host| paths.map(|path| (*host, path))) {
            let asked =
                [Method::Get, Method::Post, Method::Delete, Method::Other].map(|method| (method, Payload::Nothing));
            for ((method, payload), country) in asked
                .into_iter()
                .chain([(Method::Get, Payload::Tunnel), (Method::Get, Payload::Content)])
                .flat_map(|asked| ["DE", "BR", "US", "?"].map(|country| (asked, country)))
            {
                let origin = country.parse().map_or(Origin::Unknown, Origin::Country);
                let request = Facts {
                    host,
                    path,
                    method,
                    payload,
                    origin,
                    declared: &[],
                    consent: false,
                    client_at: None,
                    client_key: 1,
                    from: RegionId::new(0).unwrap(),
                    pinned: None,
                    only: None,
                    criticality: None,
                };
                if [&old, &new].iter().any(|table| table.find_route(host, path, method).is_none()) {
                    continue;
                }
                for region in 0..3 {
                    let may = |table| is_lawful(table, &request, RegionId::new(region).unwrap());
                    widens |= may(&new) && !may(&old);
                    shrinks |= may(&old) && !may(&new);
                }
            }
        }
        assert!(!widens || diff.widens(), "{:#?} {:#?}", old.spec().routes, new.spec().routes);
        assert!(!shrinks || diff.shrinks(), "{:#?} {:#?}", old.spec().routes, new.spec().routes);
        widened += usize::from(widens);
        shrunk += usize::from(shrinks);
        neither += usize::from(!diff.widens() && !diff.shrinks());
    }
    assert!(widened > 20 && shrunk > 20 && neither > 1, "{widened} {shrunk} {neither}");
}

#[test]
fn large_tables_are_compared_too() {
    let old = large(64, 5_000);
    let mut new = large(64, 5_000);
    new.rules[0].transfer = Transfer::Allowed;
    new.routes.push(RouteSpec { host: HostPattern::Below("example.com".into()), ..route("below", "/service-1", 0) });
    let diff = diff(old, new);
    assert!(diff.widens());
    assert!(diff.law.len() < 10, "{}", diff.law.len());
}

#[test]
fn too_many_regions_are_refused() {
    let many = |prefix: &str| spec((0..600).map(|n| region(&format!("{prefix}{n}"), "US")).collect());
    let tables = [many("a"), many("b")].map(|spec| Table::new(spec).unwrap());
    assert!(Diff::between(&tables[0], &tables[1]).is_err());
    assert!(Diff::between(&tables[0], &tables[0]).is_ok_and(|diff| diff.is_empty()));
}
