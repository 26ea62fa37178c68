//! An explanation tells what the decision did, and enough of it to do it again.

use std::collections::BTreeSet;
use std::time::Duration;

use policy::decide::{TIE_MARGIN, closeness, order};
use policy::explain::{Ground, HealthExplained, LatencySource, Outcome, RegionExplained, Ruling, schema};
use policy::jurisdiction::{Denial, JurisdictionId, Scope, SuperRegion, Transfer, WhenUnavailable};
use policy::region::{AdminState, Capabilities, Region};
use policy::route::{Affinity, Criticality, RouteSpec};
use policy::score::Weights;
use policy::table::{TableSpec, UnknownOrigin, UnlistedJurisdiction};
use policy::{
    Explanation, Facts, Health, Method, Origin, Payload, Reason, RegionId, RegionSet, RegionView, Reported, Snapshot,
    Table, Verdict, View, decide, explain,
};
use proptest::prelude::*;
use serde_json::Value;

mod sample;
use sample::{class, jurisdiction, region, route, rule, spec};

/// Three in the Union, two in the US, one in Brazil; personal data under four laws on `/v3`.
fn world() -> TableSpec {
    let mut spec = spec(vec![
        Region { line: 10, ..region("br", "BR") },
        Region { line: 20, coordinates: Some((52.5, 13.4)), ..region("de", "DE") },
        Region { line: 30, ..region("fr", "FR") },
        Region { line: 40, ..region("ie", "IE") },
        Region { line: 50, coordinates: Some((39.0, -77.5)), ..region("us-east", "US") },
        Region { line: 60, priority: 1, ..region("us-west", "US") },
    ]);
    spec.latency_ms = vec![(id(4), id(3), 80.0), (id(2), id(4), 120.0)];
    spec.jurisdictions = vec![
        jurisdiction("eu", &["@EU"]),
        jurisdiction("us", &["US"]),
        jurisdiction("br", &["BR"]),
        jurisdiction("cn", &["CN"]),
    ];
    spec.data_classes.push(class("personal", Transfer::Allowed));
    spec.rules = vec![
        policy::jurisdiction::Rule {
            line: 100,
            regulation: "GDPR".into(),
            ..rule(0, 1, &["@EU"], Transfer::Prohibited)
        },
        policy::jurisdiction::Rule { line: 110, regulation: "CCPA".into(), ..rule(1, 1, &["US"], Transfer::Allowed) },
        policy::jurisdiction::Rule {
            line: 120,
            regulation: "LGPD".into(),
            ..rule(2, 1, &["BR"], Transfer::WithSafeguards)
        },
        policy::jurisdiction::Rule { line: 130, regulation: "PIPL".into(), ..rule(3, 1, &[], Transfer::Prohibited) },
    ];
    spec.routes.push(RouteSpec { line: 200, ..route("api", "/v3/", 1) });
    spec
}

fn id(index: usize) -> RegionId {
    RegionId::new(index).expect("an id")
}

fn facts(country: &str, path: &'static str) -> Facts<'static> {
    let set = country.split(' ').filter_map(|code| code.parse().ok()).collect();
    Facts {
        host: "api.example.com",
        path,
        method: Method::Get,
        payload: Payload::Nothing,
        origin: Origin::of(set),
        declared: &[],
        consent: false,
        client_at: None,
        client_key: 1,
        from: id(4),
        pinned: None,
        only: None,
        criticality: None,
    }
}

/// Explains, and checks that what is told is what is decided.
fn explained(table: &Table, facts: &Facts<'_>, view: &[RegionView]) -> Explanation {
    seen(table, facts, Snapshot { regions: view, table_expired: false })
}

/// The same, of a table that may have expired.
fn seen(table: &Table, facts: &Facts<'_>, view: Snapshot<'_>) -> Explanation {
    let explanation = explain(table, facts, &view, vec!["test".into()]);
    agrees(table, facts, &view, &explanation);
    explanation
}

fn up(table: &Table) -> Vec<RegionView> {
    vec![RegionView::default(); table.spec().regions.len()]
}

fn named<'a>(explanation: &'a Explanation, name: &str) -> &'a RegionExplained {
    explanation.regions.iter().find(|region| region.name == name).expect("a region")
}

/// `rule@line verdict: effect` of everything that is said of a region.
fn why(explanation: &Explanation, name: &str) -> Vec<String> {
    let word = |ruling: Ruling| serde_json::to_value(ruling).expect("JSON").as_str().expect("a word").to_owned();
    let line = |line: Option<u32>| line.map_or(String::new(), |line| format!("@{line}"));
    let said = named(explanation, name).why.iter();
    said.map(|why| format!("{}{} {}: {}", why.rule, line(why.line), word(why.verdict), why.effect)).collect()
}

fn agrees(table: &Table, facts: &Facts<'_>, view: &Snapshot<'_>, told: &Explanation) {
    let names = |ids: &mut dyn Iterator<Item = RegionId>| -> Vec<String> {
        ids.map(|id| table.region(id).name.clone()).collect()
    };
    let verdict = decide(table, facts, view);
    assert_eq!(told.origin.certain, told.origin.countries.len() == 1);
    let Some(route) = table.find_route(facts.host, facts.path, facts.method) else {
        assert_eq!((told.status, told.reason, told.verdict), (404, Some(Reason::NoRoute), Outcome::Refuse));
        assert!(told.regions.is_empty() && told.order.is_empty() && told.if_down.is_empty());
        return;
    };
    match &verdict {
        Verdict::Forward(permits) => {
            assert_eq!((told.verdict, told.status, told.reason), (Outcome::Forward, 200, None));
            assert_eq!(told.eligible, names(&mut permits.eligible().iter()));
            assert_eq!(told.order[0], table.region(permits.first()).name);
        }
        Verdict::Refuse(refusal) => {
            let reason = refusal.reason;
            assert_eq!((told.verdict, told.status, told.reason), (Outcome::Refuse, reason.status(), Some(reason)));
            assert_eq!(told.page, refusal.page.is_some());
            assert!(told.detail.is_some() && told.order.is_empty() && told.eligible.is_empty());
        }
    }
    let order = order(table, route, facts, view);
    assert_eq!(told.order, names(&mut order.iter().copied()));
    assert_eq!(told.regions.len(), table.spec().regions.len(), "every region");
    for region in &told.regions {
        let place = told.order.iter().position(|name| *name == region.name).map(|index| index + 1);
        assert_eq!((region.place, region.eligible), (place, place.is_some()), "{region:#?}");
        let refused = region.why.iter().any(|why| why.verdict == Ruling::Refuses);
        assert_eq!(refused, place.is_none(), "out for a reason, and in for none: {region:#?}");
        assert_eq!(told.allowed.contains(&region.name), region.allowed);
        assert_eq!(region.level.is_some(), region.allowed);
        let by_law = region.why.iter().any(|why| why.regulation.is_some() && why.verdict == Ruling::Refuses);
        assert!(!(by_law && region.allowed), "{region:#?}");
        let opens = region.why.iter().any(|why| why.verdict == Ruling::Opens);
        assert!(!region.opened || opens, "{region:#?}");
        assert!(region.opened || !region.safeguards);
        let weights = &told.scoring.as_ref().expect("a scoring").weights;
        let terms = &region.terms;
        let sum = weights.latency * terms.latency
            + weights.load * terms.load
            + weights.compliance * terms.compliance
            + weights.cost * terms.cost;
        assert!((sum - region.score).abs() < 0.01, "the score is the sum of its parts: {region:#?}");
        assert_eq!(region.tied, region.hash.is_some());
        assert_eq!(region.tied, !region.tied_with.is_empty());
    }
    assert_eq!(again(told), told.order, "what is told is enough to decide again");
    if_down_is_what_is_decided(table, facts, view, told);
    let _: Explanation = serde_json::from_value(fits_the_schema(told)).expect("it reads what it writes");
}

/// The order, from the explanation alone.
fn again(told: &Explanation) -> Vec<String> {
    let mut left: Vec<&RegionExplained> = told.regions.iter().filter(|region| region.eligible).collect();
    let rank = |region: &RegionExplained| {
        // A region at the start of its ramp keeps nobody.
        let pinned = told.request.pinned.as_ref() == Some(&region.name) && region.weight.ramp > 0;
        (!pinned, region.opened, region.weight.moved_off, region.spill.spilled, region.level)
    };
    let mut order = Vec::new();
    while let Some(best) = left.iter().map(|region| rank(region)).min() {
        let rivals: Vec<_> = left.iter().copied().filter(|region| rank(region) == best).collect();
        let score = rivals.iter().map(|region| region.score).fold(f32::MIN, f32::max);
        let near: Vec<_> =
            rivals.into_iter().filter(|region| region.share.is_some() || region.score >= score - TIE_MARGIN).collect();
        let drawn = |region: &RegionExplained| {
            let near = if region.share.is_some() { 1.0 } else { closeness(region.score, score) };
            region.hash.expect("the draw of a tie") * near
        };
        let first = match near.as_slice() {
            [only] => only,
            tied => {
                for (one, other) in tied.iter().flat_map(|one| tied.iter().map(move |other| (one, other))) {
                    assert!(one.name == other.name || one.tied_with.contains(&other.name), "{one:#?} {other:#?}");
                }
                tied.iter().max_by(|one, other| drawn(one).total_cmp(&drawn(other))).expect("several")
            }
        };
        order.push(first.name.clone());
        let name = first.name.clone();
        left.retain(|region| region.name != name);
    }
    order
}

fn if_down_is_what_is_decided(table: &Table, facts: &Facts<'_>, view: &Snapshot<'_>, told: &Explanation) {
    let n = told.order.len();
    let counts: Vec<usize> = told.if_down.iter().map(|step| step.down.len()).collect();
    let expected: Vec<usize> = (1..=n).filter(|count| *count <= 8 || *count == n).collect();
    assert_eq!(counts, expected);
    for step in &told.if_down {
        assert_eq!(step.down, told.order[..step.down.len()]);
        assert_eq!(step.serves.as_ref(), told.order.get(step.down.len()), "the chain is the order");
        let mut down = view.regions.to_vec();
        for name in &step.down {
            down[table.region_named(name).expect("a region").index()].health = Health::Down;
        }
        match decide(table, facts, &Snapshot { regions: &down, ..*view }) {
            Verdict::Forward(permits) => {
                assert_eq!(step.serves.as_ref(), Some(&table.region(permits.first()).name));
                assert_eq!((step.verdict, step.status, step.reason, step.page), (Outcome::Forward, 200, None, false));
            }
            Verdict::Refuse(refusal) => {
                let reason = refusal.reason;
                let refused = (step.verdict, step.status, step.reason, step.page);
                assert_eq!(refused, (Outcome::Refuse, reason.status(), Some(reason), refusal.page.is_some()));
            }
        }
    }
}

/// The JSON of an explanation, checked against the schema: every field that is there is described,
/// every field that is described is there, and each is of its type.
fn fits_the_schema(told: &Explanation) -> Value {
    thread_local!(static SCHEMA: Value = serde_json::to_value(schema()).expect("JSON"));
    let json = serde_json::to_value(told).expect("JSON");
    SCHEMA.with(|schema| fits(schema, schema, &json, "$"));
    json
}

fn fits(root: &Value, schema: &Value, value: &Value, at: &str) {
    if let Err(problem) = conforms(root, schema, value, at) {
        panic!("{problem}\n{value:#}");
    }
}

fn conforms(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{at}: {value} is not {what} by {schema}"));
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.strip_prefix("#/$defs/").expect("a local reference");
        return conforms(root, root["$defs"].get(name).ok_or(format!("no {name}"))?, value, at);
    }
    for alternatives in ["anyOf", "oneOf"] {
        if let Some(any) = schema[alternatives].as_array() {
            let fitting = any.iter().filter(|one| conforms(root, one, value, at).is_ok()).count();
            return if fitting == 1 { Ok(()) } else { wrong(alternatives) };
        }
    }
    if schema.get("const").is_some_and(|only| only != value) {
        return wrong("the constant");
    }
    if schema["enum"].as_array().is_some_and(|all| !all.contains(value)) {
        return wrong("one of the words");
    }
    let of = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("a type {other}"),
    };
    let fits_the_type = match &schema["type"] {
        Value::String(kind) => of(kind),
        Value::Array(kinds) => kinds.iter().any(|kind| of(kind.as_str().expect("a word"))),
        Value::Null => schema.get("const").is_some() || schema.get("enum").is_some(),
        other => panic!("a type {other}"),
    };
    if !fits_the_type {
        return wrong("of the type");
    }
    for (bound, outside) in [("minimum", -1.0), ("maximum", 1.0)] {
        let beyond = schema[bound].as_f64().zip(value.as_f64()).is_some_and(|(bound, n)| (n - bound) * outside > 1e-3);
        if beyond {
            return wrong(bound);
        }
    }
    if let (Some(object), Some(properties)) = (value.as_object(), schema["properties"].as_object()) {
        let required: BTreeSet<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let described: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        let there: BTreeSet<&str> = object.keys().map(String::as_str).collect();
        if required != described || there != described {
            return Err(format!("{at}: has {there:?}, describes {described:?}, requires {required:?}"));
        }
        for (name, part) in object {
            conforms(root, &properties[name], part, &format!("{at}.{name}"))?;
        }
    }
    for (index, part) in value.as_array().into_iter().flatten().enumerate() {
        conforms(root, &schema["items"], part, &format!("{at}[{index}]"))?;
    }
    Ok(())
}

#[test]
fn the_law_is_told_by_name_line_and_word() {
    let table = Table::new(world()).expect("a table");
    let told = explained(&table, &facts("DE", "/v3"), &up(&table));
    assert_eq!(why(&told, "ie"), ["GDPR@100 allows: allowed: selected by the rule"]);
    assert_eq!(why(&told, "br"), ["GDPR@100 refuses: refused: transfer is prohibited"]);
    assert_eq!(named(&told, "br").why[0].regulation.as_deref(), Some("GDPR"));
    assert_eq!(
        (told.rules.len(), told.rules[0].ground, told.rules[0].elsewhere.as_str()),
        (1, Ground::Client, "never")
    );
    assert_eq!(told.rules[0].selects, ["de", "fr", "ie"]);

    let told = explained(&table, &facts("BR", "/v3"), &up(&table));
    assert_eq!(told.order[0], "br");
    assert_eq!(why(&told, "us-east"), ["LGPD@120 opens: opened as a later level, with safeguards (audited)"]);
    assert!(named(&told, "us-east").opened && named(&told, "us-east").safeguards);
    // Of two priorities: the law's own regions by theirs, and then those that it opens by theirs.
    let levels: Vec<_> = ["br", "de", "us-east", "us-west"].map(|name| named(&told, name).level).into();
    assert_eq!(levels, [Some(0), Some(2), Some(2), Some(3)]);

    let told = explained(&table, &facts("US", "/"), &up(&table));
    assert!(told.rules.is_empty());
    assert_eq!(why(&told, "br"), ["residency allows: allowed: no rule restricts this data class here"]);

    let mut spec = world();
    let deny = Some(Denial { countries: Some(sample::countries(&["US"]).into()), ..Denial::default() });
    spec.rules.iter_mut().for_each(|rule| (rule.allow, rule.deny) = (None, deny.clone()));
    let table = Table::new(spec).expect("a table");
    let told = explained(&table, &facts("DE", "/v3"), &up(&table));
    assert_eq!(why(&told, "ie"), ["GDPR@100 allows: allowed: not denied by the rule"]);
}

#[test]
fn the_decisive_law_comes_first() {
    let mut spec = world();
    spec.rules[2].transfer = Transfer::WithConsent;
    let table = Table::new(spec).expect("a table");
    let told = explained(&table, &facts("BR CN", "/v3"), &up(&table));
    let (first, second) = (&named(&told, "de").why[0], &named(&told, "de").why[1]);
    assert_eq!((first.rule.as_str(), second.rule.as_str()), ("PIPL", "LGPD"), "consent would not help");
    assert_eq!(second.effect, "refused: needs consent from a trusted source (the route names no source)");
    assert_eq!((told.status, told.if_down.len()), (451, 0));
    let told = explained(&table, &facts("BR", "/v3"), &up(&table));
    assert_eq!(told.rules[0].elsewhere, "needs consent from a trusted source (the route names no source)");
}

#[test]
fn an_unknown_client_is_under_every_law_of_the_class() {
    let mut spec = world();
    spec.rules.pop();
    let table = Table::new(spec).expect("a table");
    let told = explained(&table, &facts("", "/v3"), &up(&table));
    assert_eq!(told.jurisdictions, ["eu", "us", "br"], "not cn, which has no rule");
    assert!(told.rules.iter().all(|rule| rule.ground == Ground::Unknown) && told.rules.len() == 3);
    assert_eq!(explained(&table, &facts("", "/"), &up(&table)).jurisdictions, [""; 0]);
}

#[test]
fn declared_jurisdictions_are_listed_and_marked() {
    let mut spec = world();
    spec.routes[1].jurisdictions = vec![JurisdictionId(0)];
    let table = Table::new(spec).expect("a table");
    let declared = [JurisdictionId(1)];
    let told = explained(&table, &Facts { declared: &declared, ..facts("BR", "/v3") }, &up(&table));
    assert_eq!((told.jurisdictions.join(" "), told.request.declared.join(" ")), ("eu us br".into(), "us".into()));
    let grounds: Vec<_> = told.rules.iter().map(|rule| (rule.rule.as_str(), rule.ground)).collect();
    assert_eq!(grounds, [("LGPD", Ground::Client), ("GDPR", Ground::Route), ("CCPA", Ground::Request)]);
    assert_eq!(
        why(&told, "br"),
        [
            "GDPR@100 refuses: refused: transfer is prohibited (its jurisdiction is declared by the route)",
            "CCPA@110 opens: opened as a later level (its jurisdiction is declared for the request)",
            "LGPD@120 allows: allowed: selected by the rule",
        ]
    );
}

#[test]
fn state_and_route_say_why_a_lawful_region_is_out() {
    let mut spec = world();
    spec.routes[1].max_latency = Some(Duration::from_millis(100));
    spec.routes[1].max_replication_lag = Some(Duration::from_secs(60));
    spec.routes[1].require_compliance = vec!["soc2".into()];
    for region in &mut spec.regions[1..] {
        region.compliance = vec!["soc2".into()];
    }
    spec.regions[5].capabilities = Capabilities { read: false, write: true };
    spec.regions[3].state = AdminState::Draining;
    let table = Table::new(spec).expect("a table");
    let mut view = up(&table);
    view[4].lag = Some(Duration::from_secs(61));
    view[1].rtt_ms = Some(30.0);
    view[1].health = Health::Down;
    let told = explained(&table, &facts("US", "/v3"), &view);
    let out = |name: &str| why(&told, name).into_iter().filter(|why| why.contains("refuses")).collect::<Vec<_>>();
    assert_eq!(
        out("br"),
        [
            "require_compliance@200 refuses: refused: is not soc2",
            "max_latency@200 refuses: refused: more than 100 ms away"
        ]
    );
    assert_eq!(out("de"), ["health refuses: refused: down"]);
    assert_eq!(out("ie"), ["state@40 refuses: refused: draining"]);
    assert_eq!(out("us-east"), ["max_replication_lag@200 refuses: refused: its replica lags too far behind"]);
    assert_eq!(
        out("us-west"),
        [
            "capabilities@60 refuses: refused: does not serve reads",
            "max_latency@200 refuses: refused: more than 100 ms away"
        ]
    );
    assert_eq!(
        (named(&told, "de").health, told.status, told.reason),
        (HealthExplained::Down, 503, Some(Reason::Unavailable))
    );

    let told = explained(&table, &Facts { only: Some(id(1)), pinned: Some(id(3)), ..facts("US", "/v3") }, &up(&table));
    assert!(why(&told, "ie").contains(&"state@40 notes: draining: kept for a client pinned here".to_owned()));
    assert!(
        why(&told, "ie").contains(&"gateway refuses: refused: another node has already chosen the region".to_owned())
    );
    assert_eq!((told.request.only.as_deref(), told.request.pinned.as_deref()), (Some("de"), Some("ie")));
}

#[test]
fn latency_tells_where_it_is_from() {
    let table = Table::new(world()).expect("a table");
    let mut view = up(&table);
    view[5].rtt_ms = Some(61.0);
    let told = explained(&table, &facts("US", "/"), &view);
    let source = |name: &str| (named(&told, name).latency_source, named(&told, name).latency_ms.round() as u32);
    assert_eq!(source("us-west"), (LatencySource::Measured, 61));
    assert_eq!(source("ie"), (LatencySource::Table, 80));
    assert_eq!(source("fr"), (LatencySource::Table, 120), "given the other way round");
    assert_eq!(source("us-east"), (LatencySource::Local, 1));
    assert_eq!(source("de"), (LatencySource::GreatCircle, 140));
    assert_eq!(source("br"), (LatencySource::Unknown, 150));
}

#[test]
fn spill_and_weight_tell_whom_they_move() {
    let mut spec = world();
    spec.regions[3].weight = 40;
    let table = Table::new(spec).expect("a table");
    let mut view = up(&table);
    view[1] = RegionView { utilisation: 0.925, pressure: 0.925, ..RegionView::default() };
    view[2].health = Health::Ramping(10);
    let mut seen = BTreeSet::new();
    let mut spilled = 0;
    for key in 0..200 {
        let client_key = policy::hash::client_key(&[key]);
        let told = explained(&table, &Facts { client_key, ..facts("DE", "/v3") }, &view);
        let de = named(&told, "de");
        assert!((de.spill.share - 0.5).abs() < 1e-3, "{de:#?}");
        spilled += u32::from(de.spill.spilled);
        assert_eq!((named(&told, "ie").weight.percent, named(&told, "fr").weight.ramp), (40, 10));
        for name in ["de", "ie", "fr"] {
            seen.extend(why(&told, name).into_iter().skip(1).map(|said| format!("{name} {said}")));
        }
        let pinned = explained(&table, &Facts { client_key, pinned: Some(id(1)), ..facts("DE", "/v3") }, &view);
        assert_eq!(pinned.order[0], "de");
        assert!(!named(&pinned, "de").spill.spilled);
        let full = why(&pinned, "de").into_iter().filter(|said| said.starts_with("overload")).collect::<Vec<_>>();
        assert_eq!(full, ["overload notes: 92 % full, so 50 % of clients move on; a pinned one stays"]);
        let elsewhere = explained(&table, &Facts { client_key, pinned: Some(id(3)), ..facts("DE", "/v3") }, &view);
        let why = why(&elsewhere, "ie");
        assert!(!why.iter().any(|said| said.starts_with("overload")), "nothing is full there: {why:?}");
    }
    assert!((70..130).contains(&spilled), "half of 200: {spilled}");
    let expected = [
        "de overload moves: 92 % full, so 50 % of clients move on, this one too",
        "de overload notes: 92 % full, so 50 % of clients move on, not this one",
        "fr health notes: ramping: 10 % of its clients",
        "fr weight@30 moves: only 10 % of clients (ramping: 10 %), not this one: a last resort",
        "ie weight@40 moves: only 40 % of clients, not this one: a last resort",
    ];
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[test]
fn ties_tell_their_draw() {
    let mut spec = world();
    spec.latency_ms = [3, 2, 1].map(|to| (id(4), id(to), 80.0)).to_vec();
    spec.latency_ms.push((id(4), id(0), 300.0));
    let table = Table::new(spec).expect("a table");
    let mut firsts = BTreeSet::new();
    for key in 0..50 {
        let client_key = policy::hash::client_key(&[key]);
        let told = explained(&table, &Facts { client_key, ..facts("FR", "/v3") }, &up(&table));
        firsts.insert(told.order[0].clone());
        assert_eq!(named(&told, "de").tied_with, ["fr", "ie"]);
        assert!(!named(&told, "br").tied);
    }
    assert_eq!(firsts.len(), 3, "the hash draws: {firsts:?}");
}

#[test]
fn a_client_kept_by_address_is_weighed_by_the_table_alone() {
    let mut spec = world();
    spec.routes[1].affinity = Affinity::ClientIp;
    let table = Table::new(spec).expect("a table");
    let mut view = up(&table);
    view[1] = RegionView { utilisation: 0.99, pressure: 0.99, rtt_ms: Some(300.0), ..RegionView::default() };
    let told = explained(&table, &facts("DE", "/v3"), &view);
    let de = named(&told, "de");
    assert_eq!((de.terms.load, de.utilisation, de.rtt_ms), (100.0, 0.99, Some(300.0)));
    assert!((de.spill.share - 0.14 / 0.15).abs() < 1e-3, "past the mark it spills: {de:#?}");
    assert_eq!(de.latency_source, LatencySource::GreatCircle);
    let notes = why(&told, "de");
    assert!(
        notes.iter().any(|why| why.contains("neither load below the overload mark nor measured latency is weighed"))
    );
    assert_eq!(told.route_terms.expect("a route").affinity, "client_ip");
    for (live, is_said) in [
        (RegionView::default(), false),
        (RegionView { utilisation: 0.5, ..RegionView::default() }, true),
        (RegionView { rtt_ms: Some(3.0), ..RegionView::default() }, true),
    ] {
        view[1] = live;
        let notes = why(&explained(&table, &facts("DE", "/v3"), &view), "de");
        assert_eq!(notes.iter().any(|why| why.contains("kept by address")), is_said, "{notes:?}");
    }
}

#[test]
fn a_refusal_tells_its_page() {
    let mut spec = world();
    spec.rules[0].when_unavailable = WhenUnavailable::Maintenance("<h1>soon</h1>".into());
    let table = Table::new(spec).expect("a table");
    let told = explained(&table, &facts("DE", "/v3"), &up(&table));
    let last = told.if_down.last().expect("a step");
    assert_eq!((last.status, last.reason, last.page), (503, Some(Reason::ResidencyUnavailable), true));
    assert!(!told.page && told.rules[0].page);
}

#[test]
fn an_expired_table_is_told_where_the_law_has_a_say() {
    let mut spec = world();
    spec.rules[0].when_unavailable = WhenUnavailable::Maintenance("<h1>soon</h1>".into());
    let table = Table::new(spec).expect("a table");
    let regions = up(&table);
    let expired = Snapshot { regions: &regions, table_expired: true };
    let told = seen(&table, &facts("DE", "/v3"), expired);
    assert_eq!((told.verdict, told.status, told.reason), (Outcome::Refuse, 503, Some(Reason::TableExpired)));
    assert_eq!(told.detail.as_deref(), Some("the law restricts this data, and the table has expired"));
    assert!(told.page, "as while the lawful regions are down");
    assert_eq!(told.allowed, ["de", "fr", "ie"], "what the table says of the law stays told");
    assert_eq!(
        why(&told, "de"),
        [
            "GDPR@100 allows: allowed: selected by the rule",
            "table_expired refuses: refused: the table has expired: nothing that counts has confirmed it in time (/status says what)",
        ]
    );
    let told = seen(&table, &facts("DE", "/"), expired);
    assert_eq!((told.verdict, told.order.len()), (Outcome::Forward, 6), "no law has a say here");
}

/// What an older node says has fewer fields; the contract's own are enough to read it.
#[test]
fn the_contracts_fields_are_enough_to_read() {
    let table = Table::new(world()).expect("a table");
    let told = serde_json::to_value(explained(&table, &facts("DE", "/v3"), &up(&table))).expect("JSON");
    let keep = |value: &Value, names: &[&str]| -> Value {
        names.iter().map(|name| ((*name).to_owned(), value[*name].clone())).collect::<serde_json::Map<_, _>>().into()
    };
    let mut old = keep(
        &told,
        &[
            "verdict",
            "status",
            "reason",
            "route",
            "data_class",
            "access",
            "table_version",
            "from",
            "origin",
            "jurisdictions",
            "allowed",
            "eligible",
            "order",
        ],
    );
    let region = |region: &Value| {
        let fields = ["name", "allowed", "eligible", "level", "score", "terms", "latency_ms", "utilisation"];
        let mut kept = keep(region, &fields);
        kept["why"] = region["why"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|why| keep(why, &["rule", "line", "effect"]))
            .collect();
        kept
    };
    old["regions"] = told["regions"].as_array().expect("a list").iter().map(region).collect();
    let read: Explanation = serde_json::from_value(old).expect("an explanation");
    assert_eq!((read.order.len(), read.regions.len()), (3, 6));
}

/// The schema describes every field: on-call tools are written by it.
#[test]
fn every_field_of_the_schema_is_described() {
    let schema = serde_json::to_value(schema()).expect("JSON");
    let plain = ["Shares", "Terms"];
    let defs =
        schema["$defs"].as_object().expect("definitions").iter().filter(|(name, _)| !plain.contains(&name.as_str()));
    for (name, def) in defs.chain([(&"the whole".to_owned(), &schema)]) {
        assert!(def["description"].is_string(), "{name}");
        for (field, property) in def["properties"].as_object().into_iter().flatten() {
            assert!(property["description"].is_string(), "{name}.{field}");
        }
    }
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
}

/// The view is live: what changes while it is read must not show twice.
#[test]
fn a_view_is_read_once() {
    struct Flapping(std::cell::Cell<u32>);
    impl View for Flapping {
        fn region(&self, _: RegionId) -> RegionView {
            let reads = self.0.replace(self.0.get() + 1);
            RegionView { health: if reads < 6 { Health::Up } else { Health::Down }, ..RegionView::default() }
        }
    }
    let table = Table::new(world()).expect("a table");
    let told = explain(&table, &facts("DE", "/v3"), &Flapping(std::cell::Cell::new(0)), Vec::new());
    assert_eq!((told.verdict, told.order.len()), (Outcome::Forward, 3));
}

/// The load of each region is told as the view weighs it, and what was reported of it beside that.
#[test]
fn what_the_fleet_reports_is_told_with_its_age() {
    struct Fleet;
    impl View for Fleet {
        fn region(&self, _: RegionId) -> RegionView {
            RegionView { utilisation: 0.5, ..RegionView::default() }
        }

        fn reported(&self, id: RegionId) -> Option<Reported> {
            let of_germany = Reported { utilisation: 0.75, age: Duration::from_millis(7500), nodes: 12 };
            (id.index() == 1).then_some(of_germany)
        }
    }
    let table = Table::new(world()).expect("a table");
    let told = explain(&table, &facts("DE", "/v3"), &Fleet, Vec::new());
    let json = fits_the_schema(&told);
    let de = named(&told, "de");
    let reported = de.reported.map(|reported| (reported.utilisation, reported.age_seconds, reported.nodes));
    assert_eq!((de.utilisation, reported), (0.5, Some((0.75, 7.5, 12))));
    assert_eq!(json["regions"][1]["reported"]["nodes"], 12);
    assert!(json["regions"][2]["reported"].is_null() && named(&told, "fr").reported.is_none());
    let down = RegionSet::first(1);
    assert!(policy::view::WithDown { view: &Fleet, down }.reported(id(1)).is_some(), "passed through");
}

fn tables() -> impl Strategy<Value = TableSpec> {
    let homes = prop::sample::select(vec!["BR", "DE", "FR", "IE", "US", "JP"]);
    let state = prop_oneof![
        6 => Just(AdminState::Serving),
        1 => Just(AdminState::Draining),
        1 => Just(AdminState::Disabled)
    ];
    let parts =
        (homes, state, 0..3_u16, prop::sample::select(vec![100, 100, 100, 40, 0]), any::<(bool, bool)>(), 0..400_u32);
    let transfer = || {
        prop::sample::select(vec![
            Transfer::Prohibited,
            Transfer::WithConsent,
            Transfer::WithSafeguards,
            Transfer::RequiresLocalCopy,
            Transfer::Allowed,
        ])
    };
    let regions = prop::collection::vec(parts, 1..14);
    let law = (prop::collection::vec(transfer(), 3), transfer(), 0..3_usize, any::<bool>(), any::<bool>());
    let route = (any::<bool>(), any::<bool>(), 0..3_usize, prop::option::of(60..300_u64), prop::option::of(0..3_usize));
    (regions, law, route).prop_map(|(regions, law, (lag, kept, criticality, far, declared))| {
        let mut spec = spec(
            regions
                .iter()
                .enumerate()
                .map(|(index, (home, state, priority, weight, (write, soc2), _))| Region {
                    state: *state,
                    priority: *priority,
                    weight: if index == 0 { 100 } else { *weight },
                    capabilities: Capabilities { read: true, write: *write },
                    compliance: if *soc2 { vec!["soc2".into()] } else { Vec::new() },
                    coordinates: (index % 3 == 0).then_some((f64::from(*priority) * 20.0, index as f64 * 9.0)),
                    cost_per_gb: f64::from(*priority),
                    line: index as u32 + 1,
                    ..region(&format!("r{index}"), home)
                })
                .collect(),
        );
        let given = regions.iter().enumerate().filter(|(index, _)| index % 2 == 1);
        spec.latency_ms = given.map(|(to, parts)| (id(0), id(to), f64::from(parts.5))).collect();
        let (transfers, border, scope, refuse_unknown, refuse_unlisted) = law;
        spec.jurisdictions =
            vec![jurisdiction("eu", &["@EU"]), jurisdiction("br", &["BR"]), jurisdiction("us", &["US", "BR"])];
        spec.super_regions = vec![SuperRegion { name: "emea".into(), countries: sample::countries(&["@EMEA"]) }];
        spec.data_classes.push(class("personal", border));
        spec.data_classes[1].scope = [Scope::Jurisdiction, Scope::SuperRegion, Scope::Jurisdiction][scope];
        let allow: [&[&str]; 3] = [&["@EU"], &["BR"], &["US", "DE"]];
        spec.rules = (0..scope.max(1)).map(|index| rule(index, 1, allow[index], transfers[index])).collect();
        if refuse_unknown {
            spec.unknown_origin = UnknownOrigin::Refuse;
        }
        if refuse_unlisted {
            spec.unlisted_jurisdiction = UnlistedJurisdiction::Refuse;
        }
        spec.scorings[0].weights = Weights { latency: 5.0, load: 3.0, compliance: 2.0, cost: 1.0 };
        spec.routes.push(RouteSpec {
            max_replication_lag: lag.then_some(Duration::from_secs(60)),
            affinity: if kept { Affinity::ClientIp } else { Affinity::None },
            criticality: [Criticality::Critical, Criticality::Default, Criticality::Sheddable][criticality],
            max_latency: far.map(Duration::from_millis),
            prefer_compliance: vec!["soc2".into()],
            jurisdictions: declared.map(JurisdictionId).into_iter().collect(),
            ..route_with_header()
        });
        spec
    })
}

fn route_with_header() -> RouteSpec {
    RouteSpec { consent_header: Some("x-consent".into()), ..route("api", "/v3/", 1) }
}

fn views() -> impl Strategy<Value = Vec<RegionView>> {
    let health =
        prop_oneof![5 => Just(Health::Up), 1 => (0..=100_u8).prop_map(Health::Ramping), 1 => Just(Health::Down)];
    let one = (health, 0.0..1.1_f32, prop::option::of(1.0..300.0_f32), prop::option::of(0..120_u64));
    let one = one.prop_map(|(health, load, rtt_ms, lag)| RegionView {
        health,
        utilisation: load,
        pressure: load,
        rtt_ms,
        reach_ms: None,
        lag: lag.map(Duration::from_secs),
        promoted: load > 0.5,
        writes: match load {
            0.9.. => policy::Writes::Withheld(policy::Withheld::Lost),
            0.7.. => policy::Writes::Granted,
            _ => policy::Writes::AsDeclared,
        },
    });
    prop::collection::vec(one, 14)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_explanation_is_what_is_decided(
        spec in tables(),
        view in views(),
        country in prop::sample::select(vec!["DE", "BR", "US", "JP", "", "DE BR", "US JP"]),
        path in prop::sample::select(vec!["/v3", "/v3", "/v3", "/"]),
        write in any::<bool>(),
        consent in any::<bool>(),
        client_key in any::<u64>(),
        pinned in prop::option::of(0..20_usize),
        only in prop::option::of(0..200_usize),
        declared in prop::option::of(0..3_usize),
        table_expired in prop::bool::weighted(0.1),
    ) {
        let table = Table::new(spec).expect("a table");
        let count = table.spec().regions.len();
        let declared: Vec<_> = declared.map(JurisdictionId).into_iter().collect();
        let facts = Facts {
            method: if write { Method::Post } else { Method::Get },
            consent,
            client_key,
            declared: &declared,
            from: id(0),
            pinned: pinned.filter(|index| *index < count).map(id),
            only: only.filter(|index| *index < count).map(id),
            criticality: None,
            ..facts(country, path)
        };
        let told = seen(&table, &facts, Snapshot { regions: &view[..count], table_expired });
        let allowed: RegionSet = told.allowed.iter().filter_map(|name| table.region_named(name)).collect();
        for (region, _) in table.regions() {
            let lawful = policy::decide::is_lawful(&table, &facts, region);
            prop_assert_eq!(allowed.contains(region), lawful);
        }
    }
}
