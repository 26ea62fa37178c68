//! The proof: what a whole table would do to every client, before it is live.
//!
//! For every country × data class × route × access × consent × set of failed regions it shows that no
//! permit leaves the regions that the law allows; and it tells which clients no region may serve,
//! who loses service when regions fail, and which rules and routes do nothing. The law is read anew
//! from the [`TableSpec`], rule by rule and region by region (`law.rs`), and compared with what the
//! compiled table decides (`decisions.rs`): a mistake in the compilation is found, not repeated.
//!
//! # How the space is reduced, and why that is sound
//!
//! - **Countries to profiles, profiles to rows.** A rule, a border or a super-region knows a country
//!   only by whether it belongs, so that countries that belong to the same jurisdictions and
//!   super-regions are under the same law. The look-up by country is compiled, and might be wrong for
//!   one country alone: it is compared for all 250 of them. Behind the look-up a decision sees
//!   nothing of a client but the allowed set, so that profiles with the same one are decided once.
//! - **Sets of countries to pairs.** The rules of every member hold, so that the allowed set is the
//!   intersection of the members', and a permit for the set is one for each member. All pairs of
//!   different rows are compared; larger sets are folded of the same step.
//! - **Declared jurisdictions** are constraints like a country's: each is compared with each row, for
//!   the routes that take them.
//! - **Routes to kinds.** A decision's *set* of regions depends on the route's data class, the regions
//!   able to serve it, its declared jurisdictions, and whether it can read, write, or take consent.
//!   Scoring, affinity, criticality and retries order that set, and never add to it. A maximum latency
//!   or lag only takes regions away: the check runs with every region near and fresh, from one node.
//!   Each route is decided once all the same, and its able regions compared, lest one alone be
//!   compiled as another kind. A request that falls under no route is refused before the law is asked.
//! - **Consent × access** are four openings. All are looked into for leaks; for who is served, those
//!   that a route's methods and consent can bring.
//! - **Failed sets.** A region's part in a decision depends on its own state, not on another's: what is
//!   left when the set F fails is E \ F, where E is what is eligible when all are up. So no F needs to
//!   be tried for a leak but those that could show that this independence is broken, and these are
//!   tried for every different E: each region of E alone down, each alone up, and the chain of the
//!   attempts from none down to all of E down, at whose end nothing may be permitted whatever else is
//!   up. And clients lose service by F exactly when E ⊆ F: so E itself is the one minimal fatal set,
//!   and [`Proof::lost_if`] answers for any F: one region, a country, a provider.
//! - **Levers.** A pinned or an only region adds nothing to the lawful: tried for a forbidden region and
//!   for each that drains.
//!
//! What is left for the largest table that we know of is some thousands of decisions, in well under
//! 2 s. For tables far beyond it (hundreds of classes under hundreds of laws, a thousand regions) two
//! parts have a budget: comparing pairs, and trying failures and attempts, each of which repeats one
//! and the same step. Past the budget the rest of these is left out; every country, class, route and
//! opening is still looked into on its own.

mod clients;
mod decisions;
mod finding;
mod kind;
mod law;
mod request;
mod rules;
mod service;

use std::collections::BTreeMap;

use crate::country::{Country, CountrySet};
use crate::jurisdiction::{ClassId, Scope};
use crate::region::{RegionId, RegionSet};
use crate::table::{Table, TableSpec, UnlistedJurisdiction};
pub use clients::Clients;
pub use finding::{Case, Cause, Finding, Gap, Idle, Misjudgement, Severity};
pub use request::{Part, Routes};
pub use service::{Consent, Reliance};

/// Clients whom no jurisdiction protects, and what data of theirs may go anywhere though others' may not.
#[derive(Clone, Debug, PartialEq)]
pub struct Unlisted {
    /// Their countries.
    pub countries: CountrySet,
    /// The data: carried by some route, and kept from some region for somebody.
    pub classes: Vec<ClassId>,
}

/// What is proved of a table.
#[derive(Clone, Debug, Default)]
pub struct Proof {
    /// What is wrong, or worth knowing.
    pub findings: Vec<Finding>,
    /// Whose service rests on which regions.
    pub reliances: Vec<Reliance>,
    /// How many decisions were compared with the law.
    pub decisions: usize,
    /// Whom no jurisdiction lists, where that lets some data go anywhere that is otherwise restricted.
    pub unlisted: Option<Unlisted>,
}

/// Proves a table, as it is without an emergency: that refuses on purpose, only ever takes away, and passes.
pub fn prove(table: &Table) -> Proof {
    let table = &*table.without_emergency();
    let spec = table.spec();
    let law = law::Law::new(spec);
    let profiles = law::profiles(spec);
    let mut routes = kind::Routing::new(table);
    let mut decisions = decisions::Comparison::new(table, routes.draining);
    let mut service = service::Service::new(table, routes.draining);
    decisions.check_ability(&routes);
    for group in routes.kinds.chunk_by(|one, next| one.law() == next.law()) {
        let Some(first) = group.first() else { continue };
        let rows = law.rows(&profiles, first.class, &first.jurisdictions);
        let apart = law::distinct(&rows);
        decisions.check_law(&law, &rows, &apart, group);
        for kind in group {
            decisions.check_routes(&rows, kind, &routes.requests);
            decisions.check_kind(&law, &apart, kind);
            service.add(&law, &rows, kind);
        }
    }
    let compared = decisions.count;
    let mut findings = decisions.findings;
    findings.append(&mut routes.findings);
    let (found, reliances) = service.finish();
    findings.extend(found);
    rules::check(&law, &mut findings);
    Proof { findings, reliances, decisions: compared, unlisted: unlisted(table) }
}

fn unlisted(table: &Table) -> Option<Unlisted> {
    let spec = table.spec();
    let listed = |country: &Country| spec.jurisdictions.iter().any(|one| one.countries.so_far().contains(*country));
    let countries: CountrySet = Country::all().filter(|country| !listed(country)).collect();
    let restricted = |id: &ClassId| spec.data_classes[id.0].scope != Scope::Global && table.is_restricted(*id);
    let mut classes: Vec<ClassId> = spec.routes.iter().map(|route| route.data_class).filter(restricted).collect();
    classes.sort_unstable();
    classes.dedup();
    let tells = spec.unlisted_jurisdiction == UnlistedJurisdiction::Allow && !countries.is_empty();
    (tells && !classes.is_empty()).then_some(Unlisted { countries, classes })
}

impl Proof {
    /// Returns whether the table must not be used.
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity() == Severity::Error)
    }

    /// Whose service is lost while these regions, and perhaps others, are down: exactly those that
    /// rely on no region beside them.
    pub fn lost_if(&self, failed: RegionSet) -> impl Iterator<Item = &Reliance> {
        self.reliances.iter().filter(move |reliance| reliance.regions.is_subset(&failed))
    }

    /// Returns the regions whose failure alone costs somebody the service, and whom.
    pub fn single_points(&self) -> BTreeMap<RegionId, Vec<&Reliance>> {
        let mut points: BTreeMap<RegionId, Vec<&Reliance>> = BTreeMap::new();
        for reliance in &self.reliances {
            let mut regions = reliance.regions.iter();
            if let (Some(only), None) = (regions.next(), regions.next()) {
                points.entry(only).or_default().push(reliance);
            }
        }
        points
    }

    /// Returns what to tell an operator beside the problems, a line each: what is refused by design, and what each
    /// region's failure alone would cost. `spec` is that of the table.
    pub fn lines(&self, spec: &TableSpec) -> Vec<String> {
        let notes = self.findings.iter().filter(|finding| finding.severity() == Severity::Note);
        let points = self.single_points().into_iter().map(|(region, lost)| {
            let lost: Vec<String> = lost.iter().map(|reliance| reliance.describe(spec)).collect();
            format!("if {} fails, nobody may serve {}", spec.regions[region.index()].name, lost.join("; "))
        });
        notes.map(|note| note.describe(spec)).chain(points).collect()
    }
}

#[cfg(test)]
mod tests;
