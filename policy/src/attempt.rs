//! The plan of a request's attempts: each is checked again, just before the dial.

use smallvec::SmallVec;

use crate::client_way::ClientAt;
use crate::decide::{
    can_serve, could_serve, decide_on_route, is_expired, is_lawful, lawful, order, reach_ms, switched_off,
};
use crate::emergency::Asks;
use crate::facts::Facts;
use crate::jurisdiction::JurisdictionId;
use crate::permit::Permit;
use crate::region::{AdminState, RegionId, RegionSet};
use crate::route::RouteId;
use crate::table::Table;
use crate::verdict::{Permits, Reason, Refusal, Verdict};
use crate::view::{View, WithDown};

/// A table with a view of its regions.
#[derive(Debug)]
pub struct CurrentTable<'a, V: ?Sized> {
    /// The table.
    pub table: &'a Table,
    /// The live state, by the table's ids.
    pub view: &'a V,
}

impl Permits {
    /// Permission for the next attempt: the best region by the *current* table and view that is not
    /// in `tried` (ids of the pinned table), and that the *pinned* table permits as well. `None` when
    /// there is none left.
    ///
    /// The permit's region id is of the current table. The first attempt while no reload happened is
    /// the decision's own; every other is decided anew, with what was tried taken as down.
    pub fn next<V: View + ?Sized>(
        &self,
        pinned: &Table,
        facts: &Facts<'_>,
        tried: &RegionSet,
        current: &CurrentTable<'_, V>,
    ) -> Option<Permit> {
        if std::ptr::eq(pinned, current.table) {
            if tried.is_empty() && self.first_still_serves(facts, current) {
                return Some(Permit::new(self.first, self.safeguarded));
            }
            let view = WithDown { view: current.view, down: *tried };
            return match decide_on_route(pinned, self.route, facts, &view) {
                Verdict::Forward(now) => Some(Permit::new(now.first, now.safeguarded)),
                Verdict::Refuse(_) => None,
            };
        }
        self.next_after_reload(pinned, facts, tried, current)
    }

    fn first_still_serves<V: View + ?Sized>(&self, facts: &Facts<'_>, current: &CurrentTable<'_, V>) -> bool {
        let route = current.table.route(self.route);
        let seen = current.view.region(self.first);
        let latency_ms = || reach_ms(current.table, facts.from, self.first, &seen);
        !is_expired(route, current.view)
            && can_serve(
                route,
                route.access(facts.method, facts.payload),
                current.table.constants(self.first),
                &seen,
                latency_ms,
            )
    }

    fn next_after_reload<V: View + ?Sized>(
        &self,
        pinned: &Table,
        facts: &Facts<'_>,
        tried: &RegionSet,
        current: &CurrentTable<'_, V>,
    ) -> Option<Permit> {
        let table = current.table;
        let forward = |region: RegionId| table.region_named(&pinned.region(region).name);
        let back = |region: RegionId| pinned.region_named(&table.region(region).name);
        let declared = translate_declared(pinned, facts.declared, table)?;
        let now = translate_facts(pinned, self.route, facts, &declared, table)?;
        let route = table.find_route(now.host, now.path, now.method)?;
        let view = WithDown { view: current.view, down: tried.iter().filter_map(forward).collect() };
        let was = pinned.route(self.route);
        // The order asks this of the table in force; here it is asked of the pinned one.
        if is_expired(was, current.view) {
            return None;
        }
        let permitted = |region: &RegionId| {
            let seen = current.view.region(*region);
            let constants = table.constants(*region);
            let near_and_fresh = can_serve(was, was.access(facts.method, facts.payload), constants, &seen, || {
                reach_ms(table, now.from, *region, &seen)
            });
            near_and_fresh && back(*region).is_some_and(|region| could_serve(pinned, was, facts, region))
        };
        let region = order(table, route, &now, &view).into_iter().find(permitted)?;
        // Where either table asks for safeguards, the audit notes them.
        let asked = |table: &Table, route, facts: &Facts<'_>, region| {
            let mut room = None;
            lawful(table, table.route(route), facts, &mut room).safeguarded.contains(region)
        };
        let safeguarded = asked(table, route, &now, region) || asked(pinned, self.route, facts, back(region)?);
        Some(Permit::new(region, safeguarded))
    }
}

/// Returns whether the law of both tables allows a region, given in the ids of `current`, for this request: nothing
/// else of a decision. The check before each dial that does not depend on how the region was chosen.
pub fn is_lawful_in_both(pinned: &Table, facts: &Facts<'_>, current: &Table, region: RegionId) -> bool {
    if std::ptr::eq(pinned, current) {
        return is_lawful(pinned, facts, region);
    }
    let lawful_now = || {
        let was = pinned.find_route(facts.host, facts.path, facts.method)?;
        let declared = translate_declared(pinned, facts.declared, current)?;
        let now = translate_facts(pinned, was, facts, &declared, current)?;
        Some(is_lawful(current, &now, region))
    };
    let then = pinned.region_named(&current.region(region).name);
    then.is_some_and(|then| is_lawful(pinned, facts, then)) && lawful_now() == Some(true)
}

/// Returns the refusal of a request by an emergency of the table in force, for one that was decided under another. The
/// refusal is in the terms of the table in force.
pub fn switched_off_since(pinned: &Table, facts: &Facts<'_>, current: &Table) -> Option<Refusal> {
    current.emergency()?;
    let was = pinned.find_route(facts.host, facts.path, facts.method)?;
    // What cannot be translated is refused all the same, as what the table in force no longer has.
    let declared = translate_declared(pinned, facts.declared, current)?;
    let now = translate_facts(pinned, was, facts, &declared, current)?;
    let is = current.find_route(now.host, now.path, now.method)?;
    switched_off(current, is, || Asks::of(current.route(is), &now))
}

/// Why a region may no longer serve a request that it was permitted to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Revoked {
    /// The table in force no longer has the region, or a route for the request.
    Removed,
    /// Its law no longer allows the region.
    Residency,
    /// It is too old for what the law restricts: see [`View::table_expired`].
    Expired,
    /// The region is disabled.
    Disabled,
    /// The region no longer has the capability, or a framework, that the route asks for.
    Unable,
    /// An emergency switches its route off, or lets its client read only.
    Emergency,
}

impl Revoked {
    /// Returns its name, for metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Revoked::Removed => "removed",
            Revoked::Residency => "residency",
            Revoked::Expired => "expired",
            Revoked::Disabled => "disabled",
            Revoked::Unable => "unable",
            Revoked::Emergency => "emergency",
        }
    }
}

/// Returns why a region, given in the ids of `pinned`, may no longer serve a request that is under way
/// there; `None` while it may. Health, load, latency and drains have no say in it.
pub fn revoked<V: View + ?Sized>(
    pinned: &Table,
    facts: &Facts<'_>,
    region: RegionId,
    current: &CurrentTable<'_, V>,
) -> Option<Revoked> {
    let table = current.table;
    let found = table.region_named(&pinned.region(region).name);
    let routes = [pinned, table].map(|table| table.find_route(facts.host, facts.path, facts.method));
    let (Some(now), [Some(was), Some(is)]) = (found, routes) else { return Some(Revoked::Removed) };
    let (was, is) = (pinned.route(was), table.route(is));
    let (access_then, access) = (was.access(facts.method, facts.payload), is.access(facts.method, facts.payload));
    let able = was.able(access_then).contains(region) && is.able(access).contains(now);
    if !is_lawful_in_both(pinned, facts, table, now) {
        Some(Revoked::Residency)
    } else if is_expired(was, current.view) || is_expired(is, current.view) {
        Some(Revoked::Expired)
    } else if table.region(now).state == AdminState::Disabled {
        Some(Revoked::Disabled)
    } else if !able {
        Some(Revoked::Unable)
    } else if ends(pinned, facts, table) {
        Some(Revoked::Emergency)
    } else {
        None
    }
}

/// Returns whether an emergency ends what is under way. What is merely shed goes on: most of its cost is spent.
fn ends(pinned: &Table, facts: &Facts<'_>, current: &Table) -> bool {
    switched_off_since(pinned, facts, current).is_some_and(|refusal| refusal.reason != Reason::EmergencyShed)
}

/// Returns the declared jurisdictions in another table's terms. `None` when one of them is gone: what it asked can
/// no longer be kept.
fn translate_declared(
    pinned: &Table,
    declared: &[JurisdictionId],
    current: &Table,
) -> Option<SmallVec<[JurisdictionId; 4]>> {
    let name = |id: &JurisdictionId| pinned.spec().jurisdictions.get(id.0).map(|jurisdiction| &jurisdiction.name);
    declared.iter().map(|id| current.jurisdiction_named(name(id)?)).collect()
}

/// Returns the facts in another table's terms. Consent counts there only when both tables' routes take it from the
/// same places. `None` when the node's own region, or the only one allowed, is gone.
fn translate_facts<'a>(
    pinned: &Table,
    was: RouteId,
    facts: &Facts<'a>,
    declared: &'a [JurisdictionId],
    current: &Table,
) -> Option<Facts<'a>> {
    let translate = |region: RegionId| current.region_named(&pinned.region(region).name);
    let (was, is) = (pinned.route(was), current.route(current.find_route(facts.host, facts.path, facts.method)?));
    let same_consent =
        was.spec.consent_header == is.spec.consent_header && was.spec.consent_claim == is.spec.consent_claim;
    let only = match facts.only {
        Some(only) => Some(translate(only)?),
        None => None,
    };
    Some(Facts {
        from: translate(facts.from)?,
        pinned: facts.pinned.and_then(translate),
        only,
        declared,
        consent: facts.consent && same_consent,
        // By the other table's regions.
        client_at: facts.client_at.map(|at| ClientAt { excess_ms: &[], ..at }),
        ..*facts
    })
}
