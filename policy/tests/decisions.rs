//! Tables of facts and verdicts.

use std::time::Duration;

use policy::attempt::{is_lawful_in_both, revoked};
use policy::decide::{is_lawful, order};
use policy::failover::FailoverScope;
use policy::jurisdiction::{
    DataClass, Denial, JurisdictionId, Rule, Scope, Selector, SuperRegion, Transfer, WhenUnavailable,
};
use policy::region::{AdminState, Capabilities, Region, Role, Standby, TakesWrites};
use policy::route::{HostPattern, MethodSet, PathPattern, RouteSpec, UnknownLag};
use policy::score::{CurveShape, LatencyCurve, ScoringSpec};
use policy::table::{TableError, TableSpec, UnknownOrigin, UnlistedJurisdiction};
use policy::{
    Access, CurrentTable, Facts, Health, Method, Moment, Origin, Payload, Period, Permit, Reason, RegionSet,
    RegionView, Revoked, Snapshot, Table, Verdict, Withheld, Writes, decide, explain,
};

mod sample;
use sample::{class, countries, jurisdiction, region, route, rule, spec};

/// A request to decide, by names.
#[derive(Clone)]
struct Case<'a> {
    table: &'a Table,
    view: Vec<RegionView>,
    path: &'a str,
    method: Method,
    payload: Payload,
    origin: Origin,
    consent: bool,
    from: &'a str,
    key: u64,
    pinned: Option<&'a str>,
}

impl<'a> Case<'a> {
    fn new(table: &'a Table, countries: &str, path: &'a str) -> Self {
        let from = table.regions().next().map_or("", |(_, region)| region.name.as_str());
        let set = countries.split(' ').filter_map(|code| code.parse().ok()).collect();
        Self {
            table,
            view: vec![RegionView::default(); table.spec().regions.len()],
            path,
            method: Method::Get,
            payload: Payload::Nothing,
            origin: Origin::of(set),
            consent: false,
            from,
            key: 1,
            pinned: None,
        }
    }

    fn down(mut self, names: &str) -> Self {
        for name in names.split(' ').filter(|name| !name.is_empty()) {
            self.view[self.table.region_named(name).expect(name).index()].health = Health::Down;
        }
        self
    }

    fn facts(&self) -> Facts<'a> {
        Facts {
            host: "api.example.com",
            path: self.path,
            method: self.method,
            payload: self.payload,
            origin: self.origin,
            declared: &[],
            consent: self.consent,
            client_at: None,
            client_key: self.key,
            from: self.table.region_named(self.from).expect("a region"),
            pinned: self.pinned.and_then(|name| self.table.region_named(name)),
            only: None,
            criticality: None,
        }
    }

    fn verdict(&self) -> Verdict {
        decide(self.table, &self.facts(), self.view.as_slice())
    }

    /// The order as names, or the refusal's reason.
    fn outcome(&self) -> String {
        outcome(self.table, &self.facts(), self.view.as_slice())
    }

    /// The permits of the attempts, if each failed in turn.
    fn permits(&self) -> Vec<Permit> {
        permits(self.table, &self.facts(), self.view.as_slice())
    }
}

fn outcome(table: &Table, facts: &Facts<'_>, view: &[RegionView]) -> String {
    match decide(table, facts, view) {
        Verdict::Forward(permitted) => {
            let attempts: Vec<_> = permits(table, facts, view).iter().map(Permit::region).collect();
            assert_eq!(attempts, order(table, permitted.route(), facts, view), "the order told is the order tried");
            assert_eq!(attempts.iter().copied().collect::<RegionSet>(), *permitted.eligible());
            assert_eq!(attempts.first(), Some(&permitted.first()));
            attempts.iter().map(|id| table.region(*id).name.as_str()).collect::<Vec<_>>().join(" ")
        }
        Verdict::Refuse(refusal) => refusal.reason.name().into(),
    }
}

fn permits(table: &Table, facts: &Facts<'_>, view: &[RegionView]) -> Vec<Permit> {
    let Verdict::Forward(permitted) = decide(table, facts, view) else { return Vec::new() };
    let mut tried = RegionSet::EMPTY;
    std::iter::from_fn(|| {
        let permit = permitted.next(table, facts, &tried, &CurrentTable { table, view })?;
        tried.insert(permit.region());
        Some(permit)
    })
    .collect()
}

/// Ireland and Germany, two in the US, Brazil; personal data on `/v3`, GDPR and a US preference.
fn world() -> TableSpec {
    let mut spec = spec(vec![
        region("br", "BR"),
        region("de", "DE"),
        region("ie", "IE"),
        region("us-east", "US"),
        policy::region::Region { priority: 1, ..region("us-west", "US") },
    ]);
    let id = |index| policy::RegionId::new(index).expect("an id");
    // Far enough apart that nothing ties: the hash's part has tests of its own.
    let ms = [(3, 4, 60.0), (3, 2, 80.0), (3, 1, 120.0), (3, 0, 200.0), (2, 1, 70.0), (2, 0, 180.0), (2, 4, 140.0)];
    spec.latency_ms = ms.iter().map(|(from, to, ms)| (id(*from), id(*to), *ms)).collect();
    spec.jurisdictions = vec![
        jurisdiction("eu", &["@EU"]),
        jurisdiction("us", &["US"]),
        jurisdiction("br", &["BR"]),
        jurisdiction("cn", &["CN"]),
    ];
    spec.data_classes.push(class("personal", Transfer::Allowed));
    spec.rules = vec![
        rule(0, 1, &["@EU"], Transfer::Prohibited),
        rule(1, 1, &["US"], Transfer::Allowed),
        rule(2, 1, &["BR"], Transfer::WithSafeguards),
        rule(3, 1, &[], Transfer::Prohibited),
    ];
    spec.routes.push(route("api", "/v3/", 1));
    spec
}

fn table(spec: TableSpec) -> Table {
    Table::new(spec).expect("a table")
}

#[test]
fn residency_decides_before_score() {
    let table = table(world());
    for (countries, down, expected) in [
        ("US", "", "us-east us-west ie de br"),
        ("US", "us-east", "us-west ie de br"),
        ("US", "us-east us-west", "ie de br"),
        ("DE", "", "ie de"),
        ("DE", "ie", "de"),
        ("DE", "ie de", "residency_unavailable"),
        ("BR", "", "br us-east ie de us-west"),
        ("BR", "br", "us-east ie de us-west"),
        ("CN", "", "residency_prohibited"),
        // No rule: by level and score alone.
        ("JP", "", "us-east ie de br us-west"),
        ("JP", "us-east ie de br us-west", "unavailable"),
        // Several countries: the rules of all hold.
        ("DE US", "", "ie de"),
        ("DE BR", "", "ie de"),
        ("US BR", "", "us-east ie de br us-west"),
        ("DE CN", "", "residency_prohibited"),
        // Nobody knows: every restricting jurisdiction at once, China's too.
        ("", "", "residency_prohibited"),
    ] {
        let mut case = Case::new(&table, countries, "/v3/x").down(down);
        case.from = "us-east";
        assert_eq!(case.outcome(), expected, "{countries:?} with {down:?} down");
    }
}

#[test]
fn a_public_route_knows_no_border() {
    let table = table(world());
    for countries in ["CN", "DE", "", "DE CN"] {
        let mut case = Case::new(&table, countries, "/x");
        case.from = "us-east";
        assert_eq!(case.outcome(), "us-east ie de br us-west", "{countries:?}");
    }
}

#[test]
fn transfers_open_the_rest_on_their_condition() {
    for (transfer, border, consent, method, opened) in [
        (Transfer::Prohibited, Transfer::Allowed, true, Method::Get, false),
        (Transfer::WithConsent, Transfer::Allowed, false, Method::Get, false),
        (Transfer::WithConsent, Transfer::Allowed, true, Method::Post, true),
        (Transfer::WithSafeguards, Transfer::Allowed, false, Method::Post, true),
        (Transfer::RequiresLocalCopy, Transfer::Allowed, false, Method::Get, true),
        (Transfer::RequiresLocalCopy, Transfer::Allowed, true, Method::Post, false),
        (Transfer::Allowed, Transfer::Allowed, false, Method::Post, true),
        // Where the class and the rule differ the stricter wins.
        (Transfer::Allowed, Transfer::Prohibited, true, Method::Get, false),
        (Transfer::Allowed, Transfer::WithConsent, false, Method::Get, false),
        (Transfer::Allowed, Transfer::WithConsent, true, Method::Get, true),
        (Transfer::Prohibited, Transfer::WithConsent, true, Method::Get, false),
        // Neither of these implies the other: both must hold.
        (Transfer::RequiresLocalCopy, Transfer::WithConsent, true, Method::Post, false),
        (Transfer::RequiresLocalCopy, Transfer::WithConsent, false, Method::Get, false),
        (Transfer::RequiresLocalCopy, Transfer::WithConsent, true, Method::Get, true),
    ] {
        let mut spec = spec(vec![region("de", "DE"), region("us", "US")]);
        spec.jurisdictions = vec![jurisdiction("eu", &["@EU"])];
        spec.data_classes.push(class("personal", border));
        spec.rules = vec![rule(0, 1, &["@EU"], transfer)];
        spec.routes.push(route("api", "/v3", 1));
        let table = table(spec);
        let mut case = Case::new(&table, "DE", "/v3");
        (case.consent, case.method, case.from) = (consent, method, "us");
        let expected = if opened { "de us" } else { "de" };
        assert_eq!(case.outcome(), expected, "{transfer:?} {border:?} consent {consent} {method:?}");
        let safeguarded: Vec<bool> = case.permits().iter().map(Permit::is_safeguarded).collect();
        let expected = [false, transfer == Transfer::WithSafeguards];
        assert_eq!(safeguarded, if opened { &expected[..] } else { &expected[..1] });
    }
}

#[test]
fn a_class_that_may_not_cross_borders_stays_home_without_a_rule() {
    let mut spec = spec(vec![region("de", "DE"), region("us", "US")]);
    spec.jurisdictions = vec![jurisdiction("eu", &["@EU"]), jurisdiction("us", &["US"]), jurisdiction("jp", &["JP"])];
    spec.data_classes.push(class("pii", Transfer::Prohibited));
    spec.routes.push(route("api", "/v3", 1));
    let table = table(spec);
    for (countries, expected) in [("FR", "de"), ("US", "us"), ("JP", "residency_prohibited"), ("BR", "de us")] {
        assert_eq!(Case::new(&table, countries, "/v3").outcome(), expected, "{countries}");
    }
}

#[test]
fn several_rules_and_jurisdictions_intersect() {
    let mut spec = spec(vec![region("de", "DE"), region("fr", "FR"), region("us", "US")]);
    spec.regions[0].compliance = vec!["c5".into()];
    spec.jurisdictions = vec![jurisdiction("eu", &["@EU"]), jurisdiction("german", &["DE"])];
    spec.data_classes.push(class("personal", Transfer::Allowed));
    spec.rules = vec![rule(0, 1, &["@EU"], Transfer::Prohibited), rule(1, 1, &["US"], Transfer::Allowed)];
    spec.rules[1].allow = Some(vec![Selector { compliance: Some(vec!["c5".into()]), ..Selector::default() }]);
    spec.routes.push(route("api", "/v3", 1));
    let table = table(spec);
    // Germany is in both: de first, fr opened by the German rule and inside the Union's.
    assert_eq!(Case::new(&table, "DE", "/v3").outcome(), "de fr");
    assert_eq!(Case::new(&table, "DE", "/v3").down("de").outcome(), "fr");
    assert!(
        Case::new(&table, "FR", "/v3").outcome().contains("de")
            && !Case::new(&table, "FR", "/v3").outcome().contains("us")
    );
}

#[test]
fn super_regions_hold_data_of_their_scope() {
    let mut spec = world();
    spec.data_classes.push(DataClass {
        name: "emea".into(),
        cross_border: Transfer::Allowed,
        scope: Scope::SuperRegion,
    });
    spec.super_regions = vec![
        SuperRegion { name: "emea".into(), countries: countries(&["@EMEA"]) },
        SuperRegion { name: "americas".into(), countries: countries(&["@AMERICAS"]) },
    ];
    spec.routes.push(route("regional", "/r", 2));
    let mut lone = spec.clone();
    lone.super_regions.truncate(1);
    let (table, lone) = (table(spec), table(lone));
    let outcome = |code| {
        let mut order: Vec<String> = Case::new(&table, code, "/r").outcome().split(' ').map(str::to_owned).collect();
        order.sort();
        order.join(" ")
    };
    assert_eq!(outcome("GB"), "de ie");
    assert_eq!(outcome("CA"), "br us-east us-west");
    // In no super-region, and in none that is known: nowhere.
    assert_eq!(outcome("JP"), "residency_prohibited");
    assert_eq!(outcome(""), "residency_prohibited");
    // Nor where there is but one: the client may be in none.
    assert_eq!(Case::new(&lone, "", "/r").outcome(), "residency_prohibited");
}

#[test]
fn defaults_for_the_unlisted_and_the_unknown() {
    let mut strict = world();
    strict.unlisted_jurisdiction = UnlistedJurisdiction::Refuse;
    let strict = table(strict);
    assert_eq!(Case::new(&strict, "JP", "/v3").outcome(), "residency_prohibited");
    assert_eq!(Case::new(&strict, "DE", "/v3").down("ie").outcome(), "de");
    let mut open = world();
    // Without China, the strictest reading leaves what the Union and Brazil both allow.
    open.rules.pop();
    let open = table(open);
    let mut unknown = Case::new(&open, "", "/v3");
    unknown.from = "ie";
    assert_eq!(unknown.outcome(), "ie de");
    let mut refused = world();
    refused.rules.pop();
    refused.unknown_origin = UnknownOrigin::Refuse;
    assert_eq!(Case::new(&table(refused), "", "/v3").outcome(), "residency_prohibited");
    // With China, whose rule is nowhere, an unknown client can be like one of the Union's.
    let mut like = world();
    assert_eq!(Case::new(&table(like.clone()), "", "/v3").outcome(), "residency_prohibited");
    like.unknown_origin = UnknownOrigin::Like(vec![JurisdictionId(0)]);
    let like = table(like);
    let mut unknown = Case::new(&like, "", "/v3");
    unknown.from = "ie";
    assert_eq!(unknown.outcome(), "ie de");
    assert_eq!(Case::new(&like, "CN", "/v3").outcome(), "residency_prohibited");
}

#[test]
fn capability_compliance_state_distance_and_lag_make_ineligible() {
    let mut spec = world();
    spec.regions[1].capabilities = Capabilities { read: true, write: false };
    spec.regions[2].state = AdminState::Draining;
    spec.regions[3].compliance = vec!["hipaa".into()];
    spec.regions[4].state = AdminState::Disabled;
    spec.routes.push(RouteSpec { require_compliance: vec!["hipaa".into()], ..route("health", "/health", 0) });
    spec.routes.push(RouteSpec { max_latency: Some(Duration::from_millis(120)), ..route("near", "/near", 0) });
    spec.routes.push(RouteSpec { max_replication_lag: Some(Duration::from_secs(60)), ..route("lag", "/lag", 0) });
    let table = table(spec);
    let case = |path| Case { from: "us-east", ..Case::new(&table, "JP", path) };
    assert_eq!(case("/x").outcome(), "us-east de br");
    assert_eq!(Case { method: Method::Post, ..case("/x") }.outcome(), "us-east br");
    assert_eq!(Case { pinned: Some("ie"), ..case("/x") }.outcome(), "ie us-east de br");
    assert_eq!(Case { pinned: Some("us-west"), ..case("/x") }.outcome(), "us-east de br");
    assert_eq!(case("/health").outcome(), "us-east");
    assert_eq!(case("/near").outcome(), "us-east de");
    let mut lagging = case("/lag");
    lagging.view[1].lag = Some(Duration::from_secs(61));
    lagging.view[0].lag = Some(Duration::from_secs(60));
    assert_eq!(lagging.outcome(), "us-east br");
    lagging.method = Method::Post;
    assert_eq!(lagging.outcome(), "us-east br", "writes do not read replicas; de does not write at all");
}

#[test]
fn a_read_of_a_replica_of_unknown_age_can_fail_closed() {
    let mut spec = world();
    spec.regions[1].capabilities = Capabilities { read: true, write: false };
    spec.regions[2].role = Role::Warm;
    let limited = RouteSpec { max_replication_lag: Some(Duration::from_secs(60)), ..route("lag", "/lag", 0) };
    spec.routes.push(RouteSpec { lag_unknown: UnknownLag::Ineligible, ..limited.clone() });
    spec.routes.push(RouteSpec { path: PathPattern::Prefix("/lax".into()), name: "lax".into(), ..limited });
    let names = [spec.regions[1].name.clone(), spec.regions[2].name.clone()];
    let table = table(spec);
    let case = |path| Case { from: "us-east", ..Case::new(&table, "JP", path) };
    let held = |outcome: &str| names.clone().map(|name| outcome.split(' ').any(|one| one == name));
    assert_eq!(held(&case("/lax/x").outcome()), [true, true]);
    assert_eq!(held(&case("/lag/x").outcome()), [false, false]);
    let mut told = case("/lag/x");
    told.view[1].lag = Some(Duration::from_secs(60));
    told.view[2].lag = Some(Duration::from_secs(61));
    assert_eq!(held(&told.outcome()), [true, false]);
    let writes = Case { method: Method::Post, ..case("/lag/x") };
    assert_eq!(held(&writes.outcome()), [false, true], "a write reads no replica");
    assert!(case("/lag/x").outcome().starts_with("us-east"), "what active regions with writes have is never a copy");
}

#[test]
fn a_failover_scope_ends_at_the_first_choice_or_its_jurisdictions() {
    let mut spec = world();
    for (name, failover) in [("region", FailoverScope::Region), ("within", FailoverScope::Jurisdiction)] {
        spec.routes.push(RouteSpec { failover, ..route(name, &format!("/{name}"), 0) });
    }
    let table = table(spec);
    let case = |country, from, path| Case { from, ..Case::new(&table, country, path) };
    assert_eq!(case("DE", "de", "/any").outcome(), "de ie us-east br us-west");
    for (country, from, path, outcome, with_first_down) in [
        ("DE", "de", "/region/x", "de", "unavailable"),
        ("DE", "de", "/within/x", "de ie", "ie"),
        // The first choice's, where the client's own has it not; no jurisdiction has the United States.
        ("DE", "us-east", "/within/x", "us-east us-west", "us-west"),
        ("JP", "br", "/within/x", "br", "unavailable"),
        ("", "ie", "/within/x", "ie de", "de"),
    ] {
        let mut case = case(country, from, path);
        assert_eq!(case.outcome(), outcome, "{country} from {from} on {path}");
        let first = table.region_named(outcome.split(' ').next().unwrap()).unwrap();
        case.view[first.index()].health = Health::Down;
        assert_eq!(case.outcome(), with_first_down, "{country} from {from} on {path}");
        case.view[first.index()] =
            RegionView { health: Health::Ramping(0), pressure: 2.0, rtt_ms: Some(900.0), ..RegionView::default() };
        assert!(case.outcome().contains(outcome.split(' ').next().unwrap()), "{path}: full, slow, and still the one");
    }
    let mut all_down = case("DE", "de", "/region/x");
    all_down.view.iter_mut().for_each(|seen| seen.health = Health::Down);
    assert_eq!(all_down.outcome(), "unavailable");
    let pinned = Case { pinned: Some("br"), ..case("DE", "de", "/region/x") };
    assert_eq!(pinned.outcome(), "br");
}

#[test]
fn a_standby_is_held_back_until_it_is_promoted() {
    let mut spec = world();
    let standby = Some(Standby { promote_after: Duration::from_secs(120), of: Vec::new(), writes: None });
    spec.regions[4] = Region { role: Role::Warm, standby: standby.clone(), ..spec.regions[4].clone() };
    let plain = table(spec.clone());
    // In its primary's own place, and cold.
    spec.regions[4] = Region { role: Role::Cold, priority: 0, ..spec.regions[4].clone() };
    let taking_over = table(spec);
    for (table, country, down, overloaded, held, promoted) in [
        (&plain, "JP", "", false, "us-east ie de br us-west", "us-east ie de br us-west"),
        (&plain, "JP", "", true, "ie de br us-east us-west", "ie de br us-west us-east"),
        (&taking_over, "JP", "us-east", false, "ie de br us-west", "us-west ie de br"),
        // Nobody goes unserved for it, and nobody leaves the law's own regions.
        (&plain, "US", "us-east", false, "us-west ie de br", "us-west ie de br"),
        (&plain, "JP", "us-east ie de br", false, "us-west", "us-west"),
    ] {
        let mut case = Case { from: "us-east", ..Case::new(table, country, "/v3/x").down(down) };
        case.view[3].pressure = if overloaded { 1.0 } else { 0.0 };
        assert_eq!(case.outcome(), held, "{country} without {down:?}");
        case.view.iter_mut().for_each(|seen| seen.promoted = true);
        assert_eq!(case.outcome(), promoted, "{country} without {down:?}, promoted");
    }
}

#[test]
fn a_standby_stands_in_for_those_that_it_names_or_the_active_ones_around_it() {
    let of = |names: &[&str], jurisdictions: bool, active: &[usize]| {
        let mut spec = world();
        if !jurisdictions {
            (spec.jurisdictions, spec.rules) = (Vec::new(), Vec::new());
        }
        for (index, region) in spec.regions.iter_mut().enumerate() {
            region.role = if active.contains(&index) { Role::Active } else { Role::Warm };
        }
        let of = names.iter().map(|name| (*name).to_owned()).collect();
        spec.regions[1].standby = Some(Standby { promote_after: Duration::ZERO, of, writes: None });
        let table = table(spec);
        let id = table.region_named("de").unwrap();
        assert_eq!(table.stands_in_for(table.region_named("ie").unwrap()), None);
        let others = table.stands_in_for(id).unwrap();
        let names = others.iter().map(|id| table.region(id).name.clone());
        names.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(of(&[], true, &[0, 2, 3]), "ie");
    assert_eq!(of(&["us-east", "br"], true, &[0, 2, 3]), "br us-east");
    assert_eq!(of(&[], false, &[0, 2, 3]), "br ie us-east", "there is none in its country");
    assert_eq!(of(&[], true, &[0, 3]), "br us-east", "there is none in its jurisdiction");
    let mut spec = world();
    spec.regions[1].standby = Some(Standby { promote_after: Duration::ZERO, of: vec!["de".into()], writes: None });
    assert!(matches!(Table::new(spec), Err(TableError::Dangling { .. })));
}

#[test]
fn a_standby_gets_the_writes_when_it_has_them_and_only_where_the_law_lets_it() {
    let mut spec = world();
    let takes = TakesWrites { max_lag: Duration::from_secs(60), voters: 3 };
    let standby = Standby { promote_after: Duration::from_secs(120), of: vec!["ie".into()], writes: Some(takes) };
    // The copy of "ie" is in the United States, where the data of its clients may not be written.
    spec.regions[3] = Region {
        role: Role::Warm,
        standby: Some(standby.clone()),
        capabilities: Capabilities { read: true, write: false },
        ..spec.regions[3].clone()
    };
    [0, 1, 4].into_iter().for_each(|other| spec.regions[other].capabilities.write = false);
    spec.routes.push(RouteSpec {
        max_replication_lag: Some(Duration::from_secs(60)),
        lag_unknown: UnknownLag::Ineligible,
        ..route("fresh", "/fresh", 0)
    });
    let (good, elsewhere, lost) = (Writes::Granted, Writes::Withheld(Withheld::Elsewhere), Withheld::Lost);
    let written = table(spec.clone());
    for (primary, copy, path, country, outcome) in [
        (Writes::AsDeclared, Writes::AsDeclared, "/x", "JP", "ie"),
        (good, elsewhere, "/x", "JP", "ie"),
        (elsewhere, good, "/x", "JP", "us-east"),
        (Writes::Withheld(lost), Writes::Withheld(lost), "/x", "JP", "unavailable"),
        (elsewhere, good, "/v3/x", "DE", "residency_unavailable"),
        (good, elsewhere, "/v3/x", "DE", "ie"),
    ] {
        let mut case = Case { method: Method::Post, ..Case::new(&written, country, path) };
        (case.view[2].writes, case.view[3].writes) = (primary, copy);
        assert_eq!(case.outcome(), outcome, "{primary:?} {copy:?} {path} of {country}");
    }
    // Of the two, the one without the writes is a replica, whose lag must be known.
    for (primary, copy, outcome) in [(good, elsewhere, "ie"), (elsewhere, good, "us-east")] {
        let mut case = Case::new(&written, "JP", "/fresh");
        (case.view[2].writes, case.view[3].writes) = (primary, copy);
        assert_eq!(case.outcome(), outcome);
    }
    // How far a request may go is told from the standby, where its primary is out of service.
    let mut stays = spec.clone();
    stays.regions[2].state = AdminState::Disabled;
    stays.routes.push(RouteSpec { failover: FailoverScope::Region, ..route("stays", "/stays", 0) });
    let stays = table(stays);
    let mut case = Case { method: Method::Post, ..Case::new(&stays, "JP", "/stays") };
    (case.view[2].writes, case.view[3].writes) = (elsewhere, good);
    assert_eq!(case.outcome(), "us-east");
    let refused = |change: &dyn Fn(&mut TableSpec)| {
        let mut spec = spec.clone();
        change(&mut spec);
        assert!(matches!(Table::new(spec), Err(TableError::NoPair { .. })));
    };
    refused(&|spec| spec.regions[2].capabilities.write = false);
    refused(&|spec| spec.regions[3].capabilities.write = true);
    refused(&|spec| spec.regions[3].standby = Some(Standby { of: Vec::new(), ..standby.clone() }));
    refused(&|spec| spec.regions[1].standby = Some(standby.clone()));
    refused(&|spec| {
        spec.regions[3].standby = Some(Standby { promote_after: Duration::from_secs(4), ..standby.clone() });
    });
}

#[test]
fn weight_moves_its_share_of_clients_off_and_keeps_them_there() {
    let of = |weight, key| {
        let mut spec = world();
        spec.regions[3].weight = weight;
        let table = table(spec);
        Case { key, from: "us-east", ..Case::new(&table, "US", "/v3") }.outcome()
    };
    let first = |weight, key: u64| of(weight, policy::hash::client_key(&key.to_be_bytes())).starts_with("us-east");
    let share = |weight| (0..2000).filter(|key| first(weight, *key)).count() as f64 / 2000.0;
    assert_eq!((share(0), share(100)), (0.0, 1.0));
    assert!((0.08..0.12).contains(&share(10)), "{}", share(10));
    // Who had it at 10 percent has it at 50: a ramp never bounces a client.
    assert!((0..500).filter(|key| first(10, *key)).all(|key| first(50, key)));
    // Moved off is not away: it is the last resort among the law's own regions.
    assert_eq!(of(0, 1), "us-west us-east ie de br");
}

#[test]
fn ties_share_clients_by_headroom() {
    let mut spec = spec(vec![region("a", "US"), region("b", "US"), region("c", "US")]);
    spec.regions[0].capacity_rps = Some(3000.0);
    spec.regions[1].capacity_rps = Some(1000.0);
    spec.regions[2].capacity_rps = Some(1000.0);
    let table = table(spec);
    let firsts = |view: Vec<RegionView>| {
        let mut counts = [0_u32; 3];
        for key in 0..6000_u32 {
            let key = policy::hash::client_key(&key.to_be_bytes());
            let case = Case { key, view: view.clone(), ..Case::new(&table, "US", "/") };
            let Verdict::Forward(permits) = case.verdict() else { panic!("served") };
            counts[permits.first().index()] += 1;
        }
        counts.map(|count| (f64::from(count) / 60.0).round() as i32)
    };
    // Latency is 1 ms at home and unknown elsewhere: level the field with measurements.
    let near = RegionView { rtt_ms: Some(10.0), ..RegionView::default() };
    let [a, b, c] = firsts(vec![near; 3]);
    assert!((a - 60).abs() <= 2 && (b - 20).abs() <= 2 && (c - 20).abs() <= 2, "{a} {b} {c}");
    // One that is three of the five points behind gets two fifths of what its headroom, 900, would give it.
    let [a, b, c] = firsts(vec![near, RegionView { utilisation: 0.1, ..near }, near]);
    assert!((a - 69).abs() <= 2 && (b - 8).abs() <= 2 && (c - 23).abs() <= 2, "{a} {b} {c}");
    // A region past the tie margin gets none of them.
    let [a, b, c] = firsts(vec![near, RegionView { utilisation: 0.5, ..near }, near]);
    assert!((a - 75).abs() <= 2 && b == 0 && (c - 25).abs() <= 2, "{a} {b} {c}");
}

#[test]
fn the_order_in_the_file_has_no_influence() {
    let forward = table(world());
    let mut spec = world();
    spec.regions.reverse();
    let last = spec.regions.len() - 1;
    let flip = |id: policy::RegionId| policy::RegionId::new(last - id.index()).expect("an id");
    spec.latency_ms.iter_mut().for_each(|(from, to, _)| (*from, *to) = (flip(*from), flip(*to)));
    spec.rules.reverse();
    let backward = table(spec);
    for (countries, path, key) in ["US", "DE", "BR", "JP", "DE BR"].iter().flat_map(|c| [(c, "/v3", 1), (c, "/x", 2)]) {
        let of = |table| Case { key, from: "us-east", ..Case::new(table, countries, path) }.outcome();
        assert_eq!(of(&forward), of(&backward), "{countries} {path}");
    }
}

#[test]
fn the_most_specific_route_wins() {
    let mut spec = spec(vec![region("a", "US")]);
    let exact = HostPattern::Exact("api.example.com".into());
    let below = HostPattern::Below("example.com".into());
    let get: MethodSet = [Method::Get].into_iter().collect();
    spec.routes = vec![
        route("any", "/", 0),
        RouteSpec { host: below.clone(), ..route("below", "/", 0) },
        RouteSpec { host: HostPattern::Below("api.example.com".into()), ..route("deeper", "/", 0) },
        RouteSpec { host: exact.clone(), ..route("v3", "/v3/", 0) },
        RouteSpec { host: exact.clone(), ..route("v3-users", "/v3/users", 0) },
        RouteSpec { host: exact.clone(), methods: Some(get), ..route("v3-users-get", "/v3/users", 0) },
        RouteSpec { host: exact, path: PathPattern::Exact("/v3/health".into()), ..route("health", "/", 0) },
    ];
    let table = table(spec);
    for (host, path, method, expected) in [
        ("api.example.com", "/v3/health", Method::Get, "health"),
        ("api.example.com", "/v3/health/x", Method::Get, "v3"),
        ("api.example.com", "/v3/healthy", Method::Get, "v3"),
        ("api.example.com", "/v3", Method::Get, "v3"),
        ("api.example.com", "/v3/", Method::Get, "v3"),
        ("api.example.com", "/v33", Method::Get, "below"),
        ("api.example.com", "/v3/users/7", Method::Get, "v3-users-get"),
        ("api.example.com", "/v3/users/7", Method::Post, "v3-users"),
        ("api.example.com", "/other", Method::Get, "below"),
        ("x.api.example.com", "/", Method::Get, "deeper"),
        ("y.x.api.example.com", "/v3", Method::Get, "deeper"),
        ("www.example.com", "/", Method::Get, "below"),
        ("example.com", "/", Method::Get, "any"),
        ("elsewhere.test", "/v3/users", Method::Get, "any"),
    ] {
        let found = table.find_route(host, path, method).map(|id| table.route(id).spec.name.as_str());
        assert_eq!(found, Some(expected), "{method:?} {host}{path}");
    }
}

/// Permits of the same facts under `pinned`, then attempts with `current` in force.
fn attempts(pinned: &Table, current: &Table, down: &str, countries: &str) -> Vec<String> {
    let case = Case { from: "us-east", ..Case::new(pinned, countries, "/v3") };
    let Verdict::Forward(permits) = case.verdict() else { return vec!["refused".into()] };
    let view = Case::new(current, countries, "/v3").down(down).view;
    let seen = CurrentTable { table: current, view: view.as_slice() };
    let mut tried = RegionSet::EMPTY;
    let mut dialled = Vec::new();
    while let Some(permit) = permits.next(pinned, &case.facts(), &tried, &seen) {
        let name = &current.region(permit.region()).name;
        tried.insert(pinned.region_named(name).expect("in both tables"));
        dialled.push(name.clone());
    }
    dialled
}

#[test]
fn every_attempt_satisfies_pinned_and_current() {
    let old = table(world());
    assert_eq!(attempts(&old, &old, "", "DE"), ["ie", "de"]);
    assert_eq!(attempts(&old, &old, "ie", "DE"), ["de"], "the view of now counts");
    let mut narrower = world();
    narrower.rules[0] = rule(0, 1, &["DE"], Transfer::Prohibited);
    let narrower = table(narrower);
    assert_eq!(attempts(&old, &narrower, "", "DE"), ["de"], "a table that forbids more holds at once");
    assert_eq!(attempts(&narrower, &old, "", "DE"), ["de"], "one that allows more does not widen a request under way");
    let mut renamed = world();
    renamed.regions[2].name = "ie-2".into();
    assert_eq!(attempts(&old, &table(renamed), "", "DE"), ["de"], "a region that is gone is not dialled");
    let mut moved = world();
    moved.regions[2].country = "US".parse().expect("a country");
    assert_eq!(attempts(&old, &table(moved), "", "DE"), ["de"], "nor one that has left the Union");
    let mut routeless = world();
    routeless.routes.retain(|route| route.name != "api" && route.name != "public");
    routeless.routes.push(route("other", "/other", 0));
    assert!(attempts(&old, &table(routeless), "", "DE").is_empty());
    let mut disabled = world();
    disabled.regions[2].state = AdminState::Disabled;
    assert_eq!(attempts(&old, &table(disabled), "", "DE"), ["de"]);
}

#[test]
fn safeguards_of_either_table_are_noted_across_a_reload() {
    let with = |transfer| {
        let mut spec = world();
        spec.rules[2] = rule(2, 1, &["BR"], transfer);
        table(spec)
    };
    let (safeguarded, free) = (with(Transfer::WithSafeguards), with(Transfer::Allowed));
    for (pinned, current, noted) in [
        (&safeguarded, &free, true),
        (&free, &safeguarded, true),
        (&safeguarded, &safeguarded, true),
        (&free, &free, false),
    ] {
        // A copy, so that even the same table counts as another one.
        let current = current.clone();
        let case = Case { from: "us-east", ..Case::new(pinned, "BR", "/v3") };
        let Verdict::Forward(permitted) = case.verdict() else { panic!("served") };
        let tried: RegionSet = pinned.region_named("br").into_iter().collect();
        let seen = CurrentTable { table: &current, view: case.view.as_slice() };
        let permit = permitted.next(pinned, &case.facts(), &tried, &seen).expect("opened");
        assert_eq!(current.region(permit.region()).name, "us-east");
        assert_eq!(permit.is_safeguarded(), noted);
    }
}

#[test]
fn a_pin_is_kept_across_a_reload() {
    let old = table(world());
    let case = Case { from: "us-east", pinned: Some("de"), ..Case::new(&old, "DE", "/v3") };
    assert_eq!(case.outcome(), "de ie");
    let Verdict::Forward(permitted) = case.verdict() else { panic!("served") };
    let mut draining = world();
    draining.regions[1].state = AdminState::Draining;
    let draining = table(draining);
    let seen = CurrentTable { table: &draining, view: case.view.as_slice() };
    let permit = permitted.next(&old, &case.facts(), &RegionSet::EMPTY, &seen).expect("a region");
    assert_eq!(draining.region(permit.region()).name, "de", "who is pinned there may finish");
}

#[test]
fn a_tenants_jurisdiction_is_kept_across_a_reload() {
    let old = table(world());
    let declared = [old.jurisdiction_named("br").expect("br")];
    let case = Case { from: "us-east", ..Case::new(&old, "US", "/v3") };
    let facts = Facts { declared: &declared, ..case.facts() };
    // No region is the first choice of both laws; each opens what the other keeps to.
    assert_eq!(outcome(&old, &facts, &case.view), "us-east ie de br us-west");
    let Verdict::Forward(permitted) = decide(&old, &facts, case.view.as_slice()) else { panic!("served") };
    let all = |current: &Table| {
        let view = vec![RegionView::default(); current.spec().regions.len()];
        let mut tried = RegionSet::EMPTY;
        let mut dialled = Vec::new();
        while let Some(permit) =
            permitted.next(&old, &facts, &tried, &CurrentTable { table: current, view: view.as_slice() })
        {
            assert!(is_lawful_in_both(&old, &facts, current, permit.region()));
            let name = &current.region(permit.region()).name;
            tried.insert(old.region_named(name).expect("in both tables"));
            dialled.push(name.clone());
        }
        let lawful = current.regions().filter(|(id, _)| is_lawful_in_both(&old, &facts, current, *id)).count();
        assert_eq!(lawful, dialled.len());
        dialled.join(" ")
    };
    // Under another number, it is the same jurisdiction.
    let mut reordered = world();
    reordered.jurisdictions.rotate_left(1);
    reordered.rules.iter_mut().for_each(|rule| rule.jurisdiction.0 = (rule.jurisdiction.0 + 3) % 4);
    assert_eq!(all(&table(reordered)), "us-east ie de br us-west");
    let mut stricter = world();
    stricter.rules[2] = rule(2, 1, &["BR"], Transfer::Prohibited);
    assert_eq!(all(&table(stricter)), "br");
    // Where it is gone nobody knows what it asks.
    let mut renamed = world();
    renamed.jurisdictions[2].name = "brazil".into();
    assert_eq!(all(&table(renamed)), "");
}

#[test]
fn consent_does_not_carry_over_to_another_header() {
    let with_header = |header: &str| {
        let mut spec = spec(vec![region("de", "DE"), region("us", "US")]);
        spec.jurisdictions = vec![jurisdiction("eu", &["@EU"])];
        spec.data_classes.push(class("personal", Transfer::Allowed));
        spec.rules = vec![rule(0, 1, &["@EU"], Transfer::WithConsent)];
        spec.routes.push(RouteSpec { consent_header: Some(header.into()), ..route("api", "/v3", 1) });
        table(spec)
    };
    let (pinned, other) = (with_header("x-consent"), with_header("x-other"));
    let case = Case { consent: true, ..Case::new(&pinned, "DE", "/v3") };
    let Verdict::Forward(permits) = case.verdict() else { panic!("served") };
    let view = vec![RegionView::default(); 2];
    let tried: RegionSet = pinned.region_named("de").into_iter().collect();
    let next =
        |current| permits.next(&pinned, &case.facts(), &tried, &CurrentTable { table: current, view: view.as_slice() });
    assert!(next(&pinned).is_some() && next(&other).is_none());
}

/// A regulation is by default named for its jurisdiction, so that two rules of one may have nothing to do with each
/// other: the end of one that denies must not open what it denies because another has begun.
#[test]
fn a_denial_ends_only_where_a_later_rule_denies_too() {
    let moment = |text: &str| Some(text.parse::<Moment>().expect("a date"));
    let denial = |codes: &[&str]| Denial { countries: Some(countries(codes).into()), ..Denial::default() };
    let first = |allow| Rule {
        allow,
        deny: Some(denial(&["CN"])),
        period: Period { from: None, until: moment("2027-01-01") },
        ..rule(0, 1, &["@EU"], Transfer::Allowed)
    };
    let selects = rule(0, 1, &["@EU"], Transfer::Allowed).allow;
    let later = |deny| Rule {
        deny,
        period: Period { from: moment("2026-12-15"), until: None },
        ..rule(0, 1, &["@EU"], Transfer::Allowed)
    };
    for allow in [None, selects] {
        for (deny, expected) in [(None, false), (Some(denial(&["RU"])), true)] {
            let mut spec = spec(vec![region("de", "DE"), region("cn", "CN")]);
            spec.jurisdictions = vec![jurisdiction("eu", &["@EU"])];
            spec.data_classes.push(class("personal", Transfer::Allowed));
            spec.rules = vec![first(allow.clone()), later(deny)];
            spec.routes.push(route("all", "/all", 1));
            let dated = table(spec);
            let opens = |at: &str| {
                let now = dated.at(moment(at).expect("a date").into()).expect("a table");
                let case = Case::new(&now, "DE", "/all");
                is_lawful(&now, &case.facts(), now.region_named("cn").expect("a region"))
            };
            assert!(!opens("2026-12-31"), "{allow:?}");
            assert_eq!(opens("2027-01-01"), expected, "{allow:?}");
        }
    }
}

#[test]
fn a_payload_makes_a_write_unless_its_route_says_that_it_reads() {
    let mut spec = spec(vec![region("de", "DE"), region("us", "US")]);
    spec.jurisdictions = vec![jurisdiction("eu", &["@EU"])];
    spec.data_classes.push(class("personal", Transfer::Allowed));
    spec.rules = vec![rule(0, 1, &["@EU"], Transfer::RequiresLocalCopy)];
    spec.routes.push(route("socket", "/socket", 1));
    spec.routes.push(RouteSpec { access: Some(Access::Read), ..route("ticker", "/ticker", 1) });
    let table = table(spec);
    let outcome = |path, method, payload| {
        let case = Case { method, payload, ..Case::new(&table, "DE", path).down("de") };
        outcome(&table, &case.facts(), case.view.as_slice())
    };
    for method in [Method::Get, Method::Head, Method::Options] {
        assert_eq!(outcome("/socket", method, Payload::Nothing), "us");
        for payload in [Payload::Content, Payload::Tunnel] {
            assert_eq!(outcome("/socket", method, payload), "residency_unavailable", "{method:?} {payload:?}");
            assert_eq!(outcome("/ticker", method, payload), "us", "{method:?} {payload:?}");
        }
    }
}

#[test]
fn what_is_under_way_is_revoked_by_law_and_levers_and_nothing_else() {
    let pinned = table(world());
    let case = Case::new(&pinned, "DE", "/v3");
    let de = pinned.region_named("de").expect("a region");
    let well = vec![RegionView::default(); pinned.spec().regions.len()];
    let why = |current: &Table, view: &[RegionView]| {
        revoked(&pinned, &case.facts(), de, &CurrentTable { table: current, view }).map(Revoked::name)
    };
    let changed = |change: &dyn Fn(&mut TableSpec)| {
        let mut spec = world();
        change(&mut spec);
        table(spec)
    };
    let index = de.index();
    for (expected, current) in [
        (None, changed(&|_| {})),
        (None, changed(&|spec| spec.regions[index].state = AdminState::Draining)),
        (None, changed(&|spec| spec.regions[index].weight = 0)),
        (None, changed(&|spec| spec.regions.reverse())),
        (Some("disabled"), changed(&|spec| spec.regions[index].state = AdminState::Disabled)),
        (Some("unable"), changed(&|spec| spec.regions[index].capabilities.read = false)),
        (Some("unable"), changed(&|spec| spec.routes[1].require_compliance = vec!["fips".into()])),
        (Some("residency"), changed(&|spec| spec.rules[0].allow = rule(0, 1, &["IE"], Transfer::Prohibited).allow)),
        (Some("removed"), changed(&|spec| spec.regions[index].name = "de-2".into())),
    ] {
        assert_eq!(why(&current, &well), expected, "{:#?}", current.spec().regions[index]);
    }
    let mut ill = well.clone();
    ill[index].health = Health::Down;
    assert_eq!(why(&pinned, &ill), None, "its health is no law");
    let expired = Snapshot { regions: &well, table_expired: true };
    let why = revoked(&pinned, &case.facts(), de, &CurrentTable { table: &pinned, view: &expired });
    assert_eq!(why, Some(Revoked::Expired));
    let public = Case::new(&pinned, "DE", "/");
    let why = revoked(&pinned, &public.facts(), de, &CurrentTable { table: &pinned, view: &expired });
    assert_eq!(why, None, "no law restricts it");
}

#[test]
fn an_origin_of_no_country_is_unknown_whatever_is_declared() {
    let table = table(world());
    let case = Case { origin: Origin::Countries(countries(&[])), ..Case::new(&table, "", "/v3") };
    let declared: Vec<_> = table.jurisdiction_named("us").into_iter().collect();
    let facts = policy::Facts { declared: &declared, ..case.facts() };
    assert_eq!(outcome(&table, &facts, case.view.as_slice()), "residency_prohibited");
}

#[test]
fn only_holds_a_request_to_the_region_that_was_chosen() {
    let table = table(world());
    let case = Case::new(&table, "DE", "/v3");
    let only = |name| {
        let facts = Facts { only: table.region_named(name), ..case.facts() };
        outcome(&table, &facts, case.view.as_slice())
    };
    assert_eq!(only("de"), "de");
    assert_eq!(only("us-east"), "residency_unavailable", "another node's choice does not make it lawful");
}

#[test]
fn a_maintenance_page_is_for_the_unavailable_only() {
    let mut spec = world();
    spec.rules[0].when_unavailable = WhenUnavailable::Maintenance("<h1>soon</h1>".into());
    let table = table(spec);
    let page = |case: Case<'_>| match case.verdict() {
        Verdict::Refuse(refusal) => refusal.page.map(|page| page.to_string()),
        Verdict::Forward(_) => None,
    };
    assert_eq!(page(Case::new(&table, "DE", "/v3").down("ie de")).as_deref(), Some("<h1>soon</h1>"));
    assert_eq!(page(Case::new(&table, "CN", "/v3")), None);
    assert_eq!(page(Case::new(&table, "DE", "/v3")), None);
}

#[test]
fn an_expired_table_serves_only_what_no_law_can_restrict() {
    let class_of = |cross_border, scope| DataClass { name: "personal".into(), cross_border, scope };
    let free = class_of(Transfer::Allowed, Scope::Jurisdiction);
    let with_rule = |transfer| {
        let mut spec = world();
        spec.rules = vec![rule(0, 1, &["@EU"], transfer)];
        spec
    };
    let with_class = |class: DataClass| {
        let mut spec = world();
        spec.rules.clear();
        spec.data_classes[1] = class;
        spec
    };
    let refusing = |unlisted, unknown| TableSpec {
        unlisted_jurisdiction: if unlisted { UnlistedJurisdiction::Refuse } else { UnlistedJurisdiction::Allow },
        unknown_origin: if unknown { UnknownOrigin::Refuse } else { UnknownOrigin::Strictest },
        ..with_class(free.clone())
    };
    let mut of_tenants = with_rule(Transfer::Prohibited);
    of_tenants.jurisdictions[0].countries = countries(&[]).into();
    for (what, spec, restricted) in [
        ("a rule that keeps", with_rule(Transfer::Prohibited), true),
        ("a rule that asks for consent", with_rule(Transfer::WithConsent), true),
        ("a rule that opens reads", with_rule(Transfer::RequiresLocalCopy), true),
        ("a rule that only marks", with_rule(Transfer::WithSafeguards), false),
        ("a rule that only prefers", with_rule(Transfer::Allowed), false),
        ("a rule of a jurisdiction that only tenants have", of_tenants, true),
        ("no rule", with_class(free.clone()), false),
        ("a border", with_class(class_of(Transfer::WithConsent, Scope::Jurisdiction)), true),
        ("a border that nothing asks for", with_class(class_of(Transfer::Prohibited, Scope::Global)), false),
        ("a super-region", with_class(class_of(Transfer::Allowed, Scope::SuperRegion)), true),
        ("no country without a jurisdiction", refusing(true, false), true),
        ("no client from nowhere", refusing(false, true), true),
    ] {
        let table = table(spec);
        let case = Case::new(&table, "US", "/v3/x");
        let id = table.find_route("api.example.com", "/v3/x", Method::Get).expect("a route");
        assert_eq!(table.route(id).is_restricted(), restricted, "{what}");
        let verdict = |table_expired| decide(&table, &case.facts(), &Snapshot { regions: &case.view, table_expired });
        match verdict(true) {
            Verdict::Refuse(refusal) if restricted => assert_eq!(refusal.reason, Reason::TableExpired, "{what}"),
            after => assert_eq!(after, verdict(false), "{what}"),
        }
        let public = Facts { path: "/x", ..case.facts() };
        let expired = Snapshot { regions: &case.view, table_expired: true };
        assert!(matches!(decide(&table, &public, &expired), Verdict::Forward(_)), "{what}: a public route");
    }
}

#[test]
fn explanations_say_why() {
    let table = table(world());
    let case = Case::new(&table, "DE", "/v3").down("ie");
    let explained = explain(&table, &case.facts(), case.view.as_slice(), vec!["test".into()]);
    assert_eq!((explained.verdict, explained.order.join(" ").as_str()), (policy::explain::Outcome::Forward, "de"));
    assert_eq!(explained.jurisdictions, ["eu"]);
    assert_eq!(explained.allowed, ["de", "ie"]);
    let why = |name: &str| {
        let region = explained.regions.iter().find(|region| region.name == name).expect("a region");
        region.why.iter().map(|why| why.effect.as_str()).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(why("ie"), "allowed: selected by the rule; refused: down");
    assert_eq!(why("us-east"), "refused: transfer is prohibited");
    assert!(explained.regions.iter().all(|region| region.eligible == (region.name == "de")));
}

#[test]
fn specifications_that_are_no_tables() {
    let broken = |change: &dyn Fn(&mut TableSpec)| {
        let mut spec = world();
        change(&mut spec);
        Table::new(spec).err()
    };
    let many = (0..1025).map(|index| region(&format!("r{index}"), "US")).collect::<Vec<_>>();
    assert_eq!(broken(&|spec| spec.regions.clear()), Some(TableError::NoRegion));
    assert_eq!(broken(&|spec| spec.regions = many.clone()), Some(TableError::TooManyRegions(1025)));
    assert_eq!(broken(&|spec| spec.routes.clear()), Some(TableError::NoRoute));
    assert!(matches!(broken(&|spec| spec.regions[1].name = "br".into()), Some(TableError::Duplicate { .. })));
    assert!(matches!(broken(&|spec| spec.regions[1].cost_per_gb = f64::NAN), Some(TableError::BadNumber { .. })));
    assert!(matches!(broken(&|spec| spec.regions[1].capacity_rps = Some(-1.0)), Some(TableError::BadNumber { .. })));
    assert!(matches!(broken(&|spec| spec.latency_ms[0].2 = f64::INFINITY), Some(TableError::BadNumber { .. })));
    assert!(matches!(broken(&|spec| spec.scorings[0].weights.latency = -1.0), Some(TableError::BadNumber { .. })));
    let curves = |count: u8| {
        move |spec: &mut TableSpec| {
            spec.scorings = (0..count)
                .map(|index| {
                    let knots = vec![(0.0, f64::from(index))];
                    let latency_curve = LatencyCurve::new(CurveShape::Steps, knots).expect("a curve");
                    ScoringSpec { latency_curve, ..spec.scorings[0].clone() }
                })
                .collect();
        }
    };
    assert_eq!(broken(&curves(16)), None);
    assert_eq!(broken(&curves(17)), Some(TableError::TooManyCurves(17)));
    assert!(matches!(broken(&|spec| spec.routes[0].scoring = 9), Some(TableError::Dangling { .. })));
    let like = |ids: &[usize]| UnknownOrigin::Like(ids.iter().map(|id| JurisdictionId(*id)).collect());
    assert_eq!(broken(&|spec| spec.unknown_origin = like(&[])), Some(TableError::LikeNobody));
    assert!(matches!(broken(&|spec| spec.unknown_origin = like(&[0, 9])), Some(TableError::Dangling { .. })));
    assert!(matches!(
        broken(&|spec| spec.regions[1].coordinates = Some((91.0, 0.0))),
        Some(TableError::BadNumber { .. })
    ));
    assert!(broken(&|_| ()).is_none());
}
