//! What a table says differently of a client that turns out to be elsewhere.
//!
//! A geo database that is replaced by a newer one, or contradicted by another, moves clients from one origin to
//! another. [`Relocations`] tells what that means for each data class: which regions such a client gains and loses, and
//! whether it is refused.

use std::collections::BTreeSet;

use crate::jurisdiction::{ClassId, JurisdictionId};
use crate::origin::Origin;
use crate::region::{Access, RegionSet};
use crate::residency::{Allowed, Opening, Subject};
use crate::route::{Method, Payload, Route};
use crate::table::Table;

/// Compares what one table's law says of two origins. Prepared once for a table.
#[derive(Debug)]
pub struct Relocations<'t> {
    table: &'t Table,
    classes: Vec<RoutedClass<'t>>,
}

/// A data class that routes carry.
#[derive(Debug)]
pub struct RoutedClass<'t> {
    /// The class.
    pub id: ClassId,
    /// Its name.
    pub name: &'t str,
    /// The routes that carry it, in the table's order.
    pub routes: Vec<&'t str>,
    cases: Vec<Case<'t>>,
}

/// One kind of request that the law tells apart.
#[derive(Debug, PartialEq)]
struct Case<'t> {
    tenant: &'t [JurisdictionId],
    opening: Opening,
    /// The regions that can serve it at all.
    able: RegionSet,
}

impl Case<'_> {
    /// Returns whether one of these regions can serve such a request.
    fn has_one_of(&self, regions: &RegionSet) -> bool {
        !regions.and(&self.able).is_empty()
    }
}

/// What changes for the requests of one data class. Kinds of request (reads and writes, with consent and without) are
/// taken together: what changes for any of them changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClassChange {
    /// Regions that some request may go to and could not before: by the law alone, so that one which is disabled counts.
    pub gained: RegionSet,
    /// Regions that some request may go to without safeguards, and could not before.
    pub unguarded: RegionSet,
    /// Regions that some request may no longer go to.
    pub lost: RegionSet,
    /// Whether some request has no region left that could serve it, and had one before.
    pub refused: bool,
    /// Whether some request has a region that can serve it, and had none before.
    pub served: bool,
}

impl ClassChange {
    /// The change of nothing.
    pub const NONE: Self = Self {
        gained: RegionSet::EMPTY,
        unguarded: RegionSet::EMPTY,
        lost: RegionSet::EMPTY,
        refused: false,
        served: false,
    };

    /// Returns whether some request may go where it could not, or without safeguards that were asked.
    pub fn widens(&self) -> bool {
        !self.gained.is_empty() || !self.unguarded.is_empty()
    }

    /// Returns whether some request may no longer go where it could.
    pub fn narrows(&self) -> bool {
        !self.lost.is_empty()
    }
}

/// Under whose law a client is, by its origin.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Jurisdictions {
    /// Under these; more than one where a country is in several, or several countries are possible.
    Known {
        /// Those that list a possible country.
        listed: BTreeSet<JurisdictionId>,
        /// Whether some possible country is in none.
        unlisted: bool,
    },
    /// Nobody knows.
    Unknown,
}

impl<'t> Relocations<'t> {
    /// Prepares the comparison for a table.
    pub fn new(table: &'t Table) -> Self {
        let spec = table.spec();
        let mut classes: Vec<RoutedClass<'t>> = Vec::new();
        for route in spec.routes.iter().enumerate().map(|(index, _)| table.route(crate::RouteId(index as u32))) {
            let id = route.spec.data_class;
            let position = classes.iter().position(|class| class.id == id).unwrap_or_else(|| {
                let name = spec.data_classes[id.0].name.as_str();
                classes.push(RoutedClass { id, name, routes: Vec::new(), cases: Vec::new() });
                classes.len() - 1
            });
            let class = &mut classes[position];
            class.routes.push(&route.spec.name);
            for case in cases(route) {
                if !class.cases.contains(&case) {
                    class.cases.push(case);
                }
            }
        }
        Self { table, classes }
    }

    /// Returns the data classes that routes carry, in the order of their first routes.
    pub fn classes(&self) -> &[RoutedClass<'t>] {
        &self.classes
    }

    /// Returns what changes for a class, by its position in [`Relocations::classes`], when a client's origin does.
    pub fn change(&self, class: usize, before: &Origin, after: &Origin) -> ClassChange {
        let mut change = ClassChange::NONE;
        let Some(class) = self.classes.get(class) else { return change };
        for case in &class.cases {
            let (old, new) = (self.allowed(class.id, case, before), self.allowed(class.id, case, after));
            let (was, is) = (old.all(), new.all());
            change.gained = change.gained.or(&is.without(&was));
            change.unguarded = change.unguarded.or(&old.safeguarded.and(&is.without(&new.safeguarded)));
            change.lost = change.lost.or(&was.without(&is));
            let (was_served, is_served) = (case.has_one_of(&was), case.has_one_of(&is));
            change.refused |= was_served && !is_served;
            change.served |= is_served && !was_served;
        }
        change
    }

    /// Returns whether some request of a class has no region that could serve it from an origin.
    pub fn refuses(&self, class: usize, origin: &Origin) -> bool {
        let Some(class) = self.classes.get(class) else { return false };
        class.cases.iter().any(|case| !case.has_one_of(&self.allowed(class.id, case, origin).all()))
    }

    /// Returns under whose law a client of an origin is.
    pub fn jurisdictions(&self, origin: &Origin) -> Jurisdictions {
        let countries = origin.countries();
        if countries.is_empty() {
            return Jurisdictions::Unknown;
        }
        let (mut listed, mut unlisted) = (BTreeSet::new(), false);
        for country in countries.iter() {
            let of_country = self.table.residency().jurisdictions(country);
            unlisted |= of_country.is_empty();
            listed.extend(of_country);
        }
        Jurisdictions::Known { listed, unlisted }
    }

    /// Returns the names of jurisdictions, `unlisted` for none, and `unknown`.
    pub fn names(&self, jurisdictions: &Jurisdictions) -> Vec<&'t str> {
        match jurisdictions {
            Jurisdictions::Unknown => vec!["unknown"],
            Jurisdictions::Known { listed, unlisted } => {
                let spec = self.table.spec();
                let names = listed.iter().filter_map(|id| Some(spec.jurisdictions.get(id.0)?.name.as_str()));
                names.chain(unlisted.then_some("unlisted")).collect()
            }
        }
    }

    /// Returns the names of regions, in the table's order.
    pub fn regions(&self, regions: &RegionSet) -> Vec<&'t str> {
        regions.iter().map(|id| self.table.region(id).name.as_str()).collect()
    }

    fn allowed(&self, class: ClassId, case: &Case<'_>, origin: &Origin) -> Allowed {
        let subject = Subject { origin, declared: [case.tenant, &[]], class, opening: case.opening };
        *self.table.residency().allowed(subject, &mut None)
    }
}

/// Returns the kinds of request that a route can get.
fn cases(route: &Route) -> Vec<Case<'_>> {
    let spec = &route.spec;
    let hears_consent = spec.consent_header.is_some() || spec.consent_claim.is_some();
    let consents: &[bool] = if hears_consent { &[false, true] } else { &[false] };
    let takes = |method: Method| spec.methods.as_ref().is_none_or(|methods| methods.contains(method));
    let mut cases = Vec::new();
    for access in [Access::Read, Access::Write] {
        let methods = Method::NAMED.iter().map(|(_, method)| *method).chain([Method::Other]);
        let accesses = |method| [Payload::Nothing, Payload::Content].map(|payload| route.access(method, payload));
        if methods.filter(|method| takes(*method)).any(|method| accesses(method).contains(&access)) {
            let able = *route.able(access);
            let case = |consent: &bool| Case {
                tenant: &spec.jurisdictions,
                opening: Opening { consent: *consent, access },
                able,
            };
            cases.extend(consents.iter().map(case));
        }
    }
    cases
}

#[cfg(test)]
mod tests;
