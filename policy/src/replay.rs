//! A request of the past, decided again.
//!
//! A log has names where a decision has ids, and what a node heard then where another table might
//! not have listened. What a table would not hear is not known to it here either: consent and
//! declared jurisdictions count only where its route listens, and in the places where it was heard.

use std::time::Duration;

use smallvec::SmallVec;

use crate::client_way::ClientAt;
use crate::decide::decide_on_route;
use crate::diff::{Difference, Heard, Laws};
use crate::facts::Facts;
use crate::globe::Coordinates;
use crate::jurisdiction::JurisdictionId;
use crate::origin::Origin;
use crate::path::canonical;
use crate::pressure::Criticality;
use crate::region::{RegionId, RegionSet};
use crate::residency::{Opening, Subject};
use crate::route::{Method, Payload, Route, RouteId};
use crate::table::Table;
use crate::verdict::{Reason, Verdict};
use crate::view::RegionView;

/// A request as a log has it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The host, in lower case, without port.
    pub host: &'a str,
    /// The path as the client sent it, without query.
    pub path: &'a str,
    /// The method.
    pub method: Method,
    /// What it sent after its head.
    pub payload: Payload,
    /// Where the client may be.
    pub origin: Origin,
    /// Whether consent was given where the route looks for it.
    pub consent: bool,
    /// The names of the jurisdictions that were declared for the tenant.
    pub declared: &'a [String],
    /// The hash of the client's identity.
    pub client_key: u64,
    /// Where the client was, as far as a score went by it.
    pub client_at: Option<Coordinates>,
    /// The name of the region that decides.
    pub from: &'a str,
    /// The name of the region that the client was pinned to.
    pub pinned: Option<&'a str>,
    /// How critical it was taken to be, where that was less than its route said.
    pub criticality: Option<Criticality>,
}

/// A table, and the state of its regions that requests are decided with.
pub struct ReplaySide<'a> {
    /// The table.
    pub table: &'a Table,
    /// The state, by the table's ids.
    pub view: Vec<RegionView>,
}

/// A request decided again.
#[derive(Clone, Debug)]
pub struct Again {
    /// The route that it falls under.
    pub route: Option<RouteId>,
    /// What becomes of it.
    pub outcome: ReplayOutcome,
    /// The regions that the law allows; `None` where it comes to no law: 400 or 404.
    pub lawful: Option<RegionSet>,
    consent: bool,
    declared: SmallVec<[JurisdictionId; 2]>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayOutcome {
    /// This region is tried first.
    Served(RegionId),
    /// It is refused.
    Refused(Refused),
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Refused {
    /// The status.
    pub status: u16,
    /// The reason that the answer has.
    pub reason: &'static str,
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        Self { status: reason.status(), reason: reason.name() }
    }
}

/// The request's path can be read in two ways, or a declared jurisdiction is unknown.
const BAD_REQUEST: Refused = Refused { status: 400, reason: "bad_request" };

impl<'a> ReplaySide<'a> {
    /// Makes a table with every region up, idle and fresh.
    pub fn at_rest(table: &'a Table) -> Self {
        let seen = RegionView { lag: Some(Duration::ZERO), ..RegionView::default() };
        Self { table, view: vec![seen; table.spec().regions.len()] }
    }

    /// Decides a request. `heard_by` is the table that the request was heard with, if it is known.
    /// `None` when the table has no region of the deciding node's name.
    pub fn decide(&self, asked: &Asked<'_>, heard_by: Option<&Table>) -> Option<Again> {
        let from = self.table.region_named(asked.from)?;
        let refused = |route, refused| Again {
            route,
            outcome: ReplayOutcome::Refused(refused),
            lawful: None,
            consent: false,
            declared: SmallVec::new(),
        };
        let Ok(path) = canonical(asked.path) else { return Some(refused(None, BAD_REQUEST)) };
        let find = |table: &Table, path: &str| table.find_route(asked.host, path, asked.method);
        let found = find(self.table, &path.path);
        if path.readings.iter().any(|reading| find(self.table, reading) != found) {
            return Some(refused(None, BAD_REQUEST));
        }
        let Some(id) = found else { return Some(refused(None, Reason::NoRoute.into())) };
        let route = self.table.route(id);
        let then = heard_by.and_then(|table| Some(table.route(find(table, &path.path)?)));
        let consent = asked.consent && hears_consent(route, then);
        let declared: &[String] = if hears_tenants(route, then) { asked.declared } else { &[] };
        let Some(declared) = declared.iter().map(|name| self.table.jurisdiction_named(name)).collect() else {
            return Some(refused(Some(id), BAD_REQUEST));
        };
        let declared: SmallVec<[JurisdictionId; 2]> = declared;
        let facts = Facts {
            host: asked.host,
            path: &path.path,
            method: asked.method,
            payload: asked.payload,
            origin: asked.origin,
            declared: &declared,
            consent,
            client_key: asked.client_key,
            client_at: asked.client_at.map(|coordinates| ClientAt { coordinates, excess_ms: &[] }),
            from,
            pinned: asked.pinned.and_then(|name| self.table.region_named(name)),
            only: None,
            criticality: asked.criticality,
        };
        let outcome = match decide_on_route(self.table, id, &facts, self.view.as_slice()) {
            Verdict::Forward(permits) => ReplayOutcome::Served(permits.first()),
            Verdict::Refuse(refusal) => ReplayOutcome::Refused(refusal.reason.into()),
        };
        let subject = Subject {
            origin: &asked.origin,
            declared: [&route.spec.jurisdictions, &declared],
            class: route.spec.data_class,
            opening: Opening { consent, access: route.access(asked.method, asked.payload) },
        };
        let lawful = Some(self.table.residency().allowed(subject, &mut None).all());
        Some(Again { route: Some(id), outcome, lawful, consent, declared })
    }

    /// Returns how far a region is from the one that decides, in milliseconds, by the table.
    pub fn latency_ms(&self, from: &str, to: RegionId) -> Option<f32> {
        Some(self.table.prior_latency_ms(self.table.region_named(from)?, to))
    }
}

/// Returns what two tables' laws say differently of one request, by what became of it under each; `None` where it
/// may go is the same, and where one of the tables has no law for it.
pub fn residency_change(
    laws: &Laws<'_>,
    asked: &Asked<'_>,
    (before, old): (&Table, &Again),
    (after, new): (&Table, &Again),
) -> Option<Difference> {
    old.lawful.and(new.lawful)?;
    let (was, is) = (before.route(old.route?), after.route(new.route?));
    let Asked { method, payload, .. } = *asked;
    laws.compare(
        &asked.origin,
        &Heard { route: was, method, payload, declared: &old.declared, consent: old.consent },
        &Heard { route: is, method, payload, declared: &new.declared, consent: new.consent },
    )
}

/// Returns whether a route would take the consent that another took.
fn hears_consent(route: &Route, then: Option<&Route>) -> bool {
    let places = |route: &Route| (route.spec.consent_header.clone(), route.spec.consent_claim.clone());
    let here = places(route);
    here != (None, None) && then.is_none_or(|then| places(then) == here)
}

/// Returns whether a route would take the declared tenants that another took.
fn hears_tenants(route: &Route, then: Option<&Route>) -> bool {
    let header = &route.spec.jurisdiction_header;
    header.is_some() && then.is_none_or(|then| then.spec.jurisdiction_header == *header)
}
