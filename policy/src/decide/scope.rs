//! How far a request may go from its first choice.

use super::{choose, subject};
use crate::client_way::ClientAt;
use crate::facts::Facts;
use crate::failover::FailoverScope;
use crate::jurisdiction::JurisdictionId;
use crate::region::{RegionId, RegionSet};
use crate::residency::Allowed;
use crate::route::Route;
use crate::table::Table;
use crate::view::{RegionView, View, Writes};

/// Returns the regions within a request's failover scope, lawful or not; `None` for all. It depends on no live state,
/// so that what fails under way, or is measured, does not move it.
#[inline]
pub(crate) fn scope(table: &Table, route: &Route, facts: &Facts<'_>, allowed: &Allowed) -> Option<RegionSet> {
    match route.spec.failover {
        FailoverScope::Any => None,
        FailoverScope::Region => Some(first_choice(table, route, facts, allowed).into_iter().collect()),
        FailoverScope::Jurisdiction => Some(match first_choice(table, route, facts, allowed) {
            Some(first) => around(table, route, facts, first),
            None => RegionSet::EMPTY,
        }),
    }
}

/// Every region up, idle and fresh: near as well, or as far as the table assumes.
struct AtRest {
    near: bool,
    writes: Writes,
}

impl View for AtRest {
    fn region(&self, _: RegionId) -> RegionView {
        let (rtt_ms, writes) = (self.near.then_some(0.0), self.writes);
        RegionView { rtt_ms, writes, lag: Some(std::time::Duration::ZERO), ..RegionView::default() }
    }
}

/// Returns the region that would serve with every region up and idle. Where the table assumes all of them too far for
/// the route, what is measured may know better: then distance has no say. A standby that takes writes over counts for a
/// write where no region is left that has them by the table.
fn first_choice(table: &Table, route: &Route, facts: &Facts<'_>, allowed: &Allowed) -> Option<RegionId> {
    let client_at = facts.client_at.map(|at| ClientAt { excess_ms: &[], ..at });
    let facts = &Facts { client_at, ..*facts };
    let with = |near, writes| choose(table, route, facts, &AtRest { near, writes }, allowed, None);
    // A region that could not take them at all is out either way.
    let chosen = |near| with(near, Writes::AsDeclared).or_else(|| with(near, Writes::Granted));
    chosen(false).or_else(|| chosen(true)).map(|(first, _)| first)
}

/// Returns the regions that lie in the same jurisdictions as the first choice: in all of those that hold for the
/// request and have it; of all that have it, where none does both; and where no jurisdiction has it, its country.
fn around(table: &Table, route: &Route, facts: &Facts<'_>, first: RegionId) -> RegionSet {
    let subject = subject(route, facts);
    let of_client = subject.origin.countries();
    let residency = table.residency();
    let holds = |id: &JurisdictionId| {
        subject.declared.iter().any(|declared| declared.contains(id))
            || of_client.iter().any(|country| residency.jurisdictions(country).contains(id))
    };
    let having = || table.jurisdictions_around(first);
    let all = |ids: &mut dyn Iterator<Item = JurisdictionId>| -> Option<RegionSet> {
        ids.map(|id| *table.regions_in(id)).reduce(|all, some| all.and(&some))
    };
    let country = table.region(first).country;
    all(&mut having().filter(holds))
        .or_else(|| all(&mut having()))
        .unwrap_or_else(|| table.regions().filter(|(_, one)| one.country == country).map(|(id, _)| id).collect())
}
