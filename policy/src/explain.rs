//! A decision with its whole trace: every region, and why it is in or out.
//!
//! What is told is what [`mod@crate::decide`] did: its own order, its own sets, its own parts of a score.

mod document;
mod failure;
mod law;
mod regions;
mod schema;

pub use document::*;
pub use schema::schema;

use crate::decide::{decide_on_route, lawful, order, scope};
use crate::facts::Facts;
use crate::load::Reported;
use crate::region::{Access, RegionId, RegionSet};
use crate::residency::Allowed;
use crate::round_trip::Measured;
use crate::route::{Affinity, Payload, Route, RouteId};
use crate::score::ScoringSpec;
use crate::table::Table;
use crate::verdict::{Reason, Refusal, Verdict};
use crate::view::{RegionView, Snapshot, View};

/// Explains the decision on `facts`; `sources` says who answered what about the origin.
pub fn explain(table: &Table, facts: &Facts<'_>, view: &(impl View + ?Sized), sources: Vec<String>) -> Explanation {
    // A view is live: it is read once, so that every part tells of the same moment.
    let ids = || table.regions().map(|(id, _)| id);
    let regions: Vec<RegionView> = ids().map(|id| view.region(id)).collect();
    let told: Vec<Told> = ids().map(|id| Told { reported: view.reported(id), measured: view.measured(id) }).collect();
    let seen = Snapshot { regions: &regions, table_expired: view.table_expired() };
    let names = |ids: &[RegionId]| ids.iter().map(|id| table.region(*id).name.clone()).collect();
    let unrouted = Explanation {
        verdict: Outcome::Refuse,
        status: Reason::NoRoute.status(),
        reason: Some(Reason::NoRoute),
        detail: Some(detail(Reason::NoRoute).to_owned()),
        page: false,
        request: request(table, facts),
        route: None,
        route_terms: None,
        data_class: None,
        access: None,
        scoring: None,
        table_version: table.spec().version.clone(),
        from: table.region(facts.from).name.clone(),
        origin: OriginExplained {
            countries: facts.origin.countries().iter().collect(),
            certain: facts.origin.is_certain(),
            sources,
            evidence: Vec::new(),
            like: law::stand_ins(table, facts),
            coordinates: facts.client_at.map(|at| at.coordinates.degrees()),
        },
        jurisdictions: law::jurisdictions(table, facts, None),
        rules: Vec::new(),
        not_in_force: Vec::new(),
        at: Some(table.spec().at.latest()),
        next_boundary: table.next_boundary(),
        allowed: Vec::new(),
        eligible: Vec::new(),
        order: Vec::new(),
        if_down: Vec::new(),
        regions: Vec::new(),
    };
    let Some(id) = table.find_route(facts.host, facts.path, facts.method) else { return unrouted };
    let route = table.route(id);
    let mut room = None;
    let allowed = *lawful(table, route, facts, &mut room);
    let (access, scope) = (route.access(facts.method, facts.payload), scope(table, route, facts, &allowed));
    let case = Case { table, facts, id, route, access, allowed, scope, seen, told: &told };
    let rules = law::rules(&case);
    let order = order(table, id, facts, &seen);
    let eligible: RegionSet = order.iter().copied().collect();
    let jurisdictions = law::jurisdictions(table, facts, Some(&case));
    let explanation = Explanation {
        not_in_force: law::dormant(&case, &jurisdictions),
        route: Some(route.spec.name.clone()),
        route_terms: Some(route_terms(table, route, facts)),
        data_class: Some(table.spec().data_classes[route.spec.data_class.0].name.clone()),
        access: Some(case.access),
        scoring: Some(scoring(table, route)),
        jurisdictions,
        rules: rules.iter().map(|rule| rule.explained(&case)).collect(),
        allowed: names(&case.allowed.all().iter().collect::<Vec<_>>()),
        eligible: names(&eligible.iter().collect::<Vec<_>>()),
        order: names(&order),
        if_down: failure::if_down(&case, &order),
        regions: regions::regions(&case, &order, &rules),
        ..unrouted
    };
    match decide_on_route(table, id, facts, &seen) {
        Verdict::Forward(_) => {
            Explanation { verdict: Outcome::Forward, status: 200, reason: None, detail: None, ..explanation }
        }
        Verdict::Refuse(Refusal { reason, page, .. }) => Explanation {
            status: reason.status(),
            reason: Some(reason),
            detail: Some(detail(reason).to_owned()),
            page: page.is_some(),
            ..explanation
        },
    }
}

/// One request under one route, while it is explained.
struct Case<'a> {
    table: &'a Table,
    facts: &'a Facts<'a>,
    id: RouteId,
    route: &'a Route,
    access: Access,
    allowed: Allowed,
    /// The regions within the failover scope; `None` for all.
    scope: Option<RegionSet>,
    seen: Snapshot<'a>,
    told: &'a [Told],
}

/// What a view tells of a region beside what decisions read.
struct Told {
    reported: Option<Reported>,
    measured: Option<Measured>,
}

fn request(table: &Table, facts: &Facts<'_>) -> RequestExplained {
    let region = |id: RegionId| table.region(id).name.clone();
    RequestExplained {
        method: facts.method.name().to_owned(),
        upgrade: facts.payload == Payload::Tunnel,
        content: facts.payload == Payload::Content,
        host: facts.host.to_owned(),
        path: facts.path.to_owned(),
        consent: facts.consent,
        declared: facts.declared.iter().map(|id| table.spec().jurisdictions[id.0].name.clone()).collect(),
        pinned: facts.pinned.map(region),
        only: facts.only.map(region),
    }
}

fn route_terms(table: &Table, route: &Route, facts: &Facts<'_>) -> RouteTerms {
    let spec = &route.spec;
    let class = spec.traffic_class.and_then(|index| table.spec().traffic_classes.get(index));
    RouteTerms {
        line: spec.line,
        criticality: route.criticality(facts.criticality).name().to_owned(),
        traffic_class: class.map(|class| class.name.clone()),
        affinity: match spec.affinity {
            Affinity::None => "none",
            Affinity::ClientIp => "client_ip",
            Affinity::Cookie(_) => "cookie",
        }
        .to_owned(),
        attempts: spec.retry.attempts,
        failover: spec.failover.name().to_owned(),
    }
}

fn scoring(table: &Table, route: &Route) -> ScoringExplained {
    let ScoringSpec { name, weights, latency_curve, latency_from, shares } = &table.spec().scorings[route.spec.scoring];
    let share = |weight: f64| (weight / weights.sum()) as f32;
    ScoringExplained {
        name: name.clone(),
        shares: *shares,
        latency_from: *latency_from,
        weights: Shares {
            latency: share(weights.latency),
            load: share(weights.load),
            compliance: share(weights.compliance),
            cost: share(weights.cost),
        },
        latency_curve: Some(CurveExplained {
            name: latency_curve.name().map(str::to_owned),
            shape: latency_curve.shape(),
            knots: latency_curve
                .knots()
                .iter()
                .map(|(ms, points)| KnotExplained { ms: *ms, points: *points })
                .collect(),
        }),
    }
}

/// Returns a reason in words.
fn detail(reason: Reason) -> &'static str {
    match reason {
        Reason::NoRoute => "no route of the table is for this host, path and method",
        Reason::ResidencyProhibited => "the law leaves no region that may ever serve this",
        Reason::ResidencyUnavailable => "no lawful region can serve this now; the others must not be used",
        Reason::Unavailable => "no region can serve this now; the law is not the cause",
        Reason::TableExpired => "the law restricts this data, and the table has expired",
        Reason::EmergencyRouteOff => "an emergency is in force, and switches this route off",
        Reason::EmergencyReadOnly => "an emergency is in force, and lets this client read only: this is a write",
        Reason::EmergencyShed => "an emergency is in force, and sheds what is no more critical than this",
    }
}
