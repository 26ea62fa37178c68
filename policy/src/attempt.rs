//! The plan of a request's attempts: each is checked again, just before the dial.

use crate::decide::{can_serve, decide_on_route, latency_ms, lawful};
use crate::facts::Facts;
use crate::permit::Permit;
use crate::region::{RegionId, RegionSet};
use crate::table::Table;
use crate::verdict::{Permits, Verdict};
use crate::view::View;

/// A table with a view of its regions.
#[derive(Debug)]
pub struct Seen<'a, V: ?Sized> {
    /// The table.
    pub table: &'a Table,
    /// The live state, by the table's ids.
    pub view: &'a V,
}

impl Permits {
    /// Permission for the next attempt: the first region of the order that is not in `tried` (ids
    /// of the pinned table), that the *pinned* table permitted, and that the *current* table
    /// permits as well and finds able to serve now. `None` when there is none left.
    ///
    /// The permit's region id is of the current table. While no reload happened the two tables are
    /// one and the check is of the view alone; after one, the facts are decided anew.
    pub fn next<V: View + ?Sized>(
        &self,
        pinned: &Table,
        facts: &Facts<'_>,
        tried: &RegionSet,
        current: &Seen<'_, V>,
    ) -> Option<Permit> {
        let untried = self.order.iter().copied().filter(|region| !tried.contains(*region));
        if std::ptr::eq(pinned, current.table) {
            return untried
                .into_iter()
                .find(|region| self.still_serves(*region, facts, current))
                .map(|region| Permit::new(region, self.safeguarded.contains(region)));
        }
        let translate = |region: RegionId| current.table.region_named(&pinned.region(region).name);
        let facts = translate_facts(pinned, self, facts, current.table)?;
        let route = current.table.find_route(facts.host, facts.path, facts.method)?;
        let Verdict::Forward(now) = decide_on_route(current.table, route, &facts, current.view) else { return None };
        let region = untried.into_iter().filter_map(translate).find(|region| now.order.contains(region))?;
        Some(Permit::new(region, now.safeguarded.contains(region)))
    }

    fn still_serves<V: View + ?Sized>(&self, region: RegionId, facts: &Facts<'_>, current: &Seen<'_, V>) -> bool {
        let route = current.table.route(self.route);
        let access = route.access(facts.method);
        let seen = current.view.region(region);
        debug_assert!(lawful(current.table, route.spec.data_class, access, facts).all().contains(region));
        can_serve(route, access, &seen, || latency_ms(current.table, facts.from, region, &seen))
    }
}

/// The facts in another table's terms. Consent counts there only when both tables' routes take it
/// from the same header. `None` when the node's own region, or the only one allowed, is gone.
fn translate_facts<'a>(pinned: &Table, permits: &Permits, facts: &Facts<'a>, current: &Table) -> Option<Facts<'a>> {
    let translate = |region: RegionId| current.region_named(&pinned.region(region).name);
    let header = |table: &Table, route| table.route(route).spec.consent_header.clone();
    let route = current.find_route(facts.host, facts.path, facts.method)?;
    let only = match facts.only {
        Some(only) => Some(translate(only)?),
        None => None,
    };
    Some(Facts {
        from: translate(facts.from)?,
        pinned: facts.pinned.and_then(translate),
        only,
        consent: facts.consent && header(pinned, permits.route) == header(current, route),
        ..*facts
    })
}
