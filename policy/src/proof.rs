//! A static check of a whole table: what it would do to clients, before it is live.
//!
//! Countries of one residency profile are under the same rules, and a decision's law depends on
//! nothing else of them, so that one country of each profile stands for all.

use crate::decide::subject;
use crate::facts::Facts;
use crate::origin::Origin;
use crate::region::{Access, RegionId};
use crate::residency::{Opening, Subject};
use crate::route::{Method, RouteId};
use crate::table::Table;

/// What the check found.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// No route has a region for anybody: the table would refuse every request. An error.
    ServesNobody,
    /// No region can ever serve this route, whoever asks: capability, compliance or state rules all
    /// of them out. A warning.
    RouteServesNobody(RouteId),
    /// A rule selects no region at all though it names some selector. A warning.
    RuleSelectsNothing(usize),
}

/// Checks a table. See [`Finding`] for what is an error.
pub fn prove(table: &Table) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut served = false;
    let origins: Vec<Origin> = table
        .residency()
        .representatives()
        .into_iter()
        .map(Origin::Country)
        .chain(std::iter::once(Origin::Unknown))
        .collect();
    for id in (0..table.route_count()).map(|index| RouteId(index as u32)) {
        let route = table.route(id);
        let accesses: &[Access] = match route.spec.access {
            Some(Access::Read) => &[Access::Read],
            Some(Access::Write) => &[Access::Write],
            None => &[Access::Read, Access::Write],
        };
        if accesses.iter().all(|access| route.able(*access).is_empty()) {
            findings.push(Finding::RouteServesNobody(id));
            continue;
        }
        // Every condition met: whoever is refused now is refused always.
        served = served
            || origins.iter().any(|origin| {
                accesses.iter().any(|access| {
                    let facts = Facts {
                        host: "",
                        path: "",
                        method: Method::Get,
                        origin: *origin,
                        declared: &[],
                        consent: true,
                        client_key: 0,
                        from: RegionId(0),
                        pinned: None,
                        only: None,
                    };
                    let opening = Opening { consent: true, access: *access };
                    let subject = Subject { opening, ..subject(route, &facts) };
                    let mut room = None;
                    !table.residency().allowed(subject, &mut room).all().and(route.able(*access)).is_empty()
                })
            });
    }
    if !served {
        findings.push(Finding::ServesNobody);
    }
    for (index, rule) in table.spec().rules.iter().enumerate() {
        let selected = |(id, region): (RegionId, &_)| {
            rule.allow.iter().any(|selector| selector.selects(id, region, &table.spec().jurisdictions))
        };
        if !rule.allow.is_empty() && !table.regions().any(selected) {
            findings.push(Finding::RuleSelectsNothing(index));
        }
    }
    findings
}
