//! What an operator switches off: written from the contract, by names and countries.

use policy::emergency::{EmergencySpec, ReadOnly};
use policy::route::{Criticality, RouteSpec};
use policy::table::UnknownOrigin;

use super::book::{Book, Names, Request};
use super::law::reads;

/// The reason by which an emergency refuses a request of which a trusted proxy says that it is so critical; `None` where it
/// does not. `now` is in Unix seconds.
pub fn refused_in_emergency(
    book: &Book<'_>,
    emergency: &EmergencySpec,
    route: &RouteSpec,
    request: &Request,
    said: Option<Criticality>,
    now: i64,
) -> Option<&'static str> {
    if emergency.until.is_some_and(|until| until.unix_seconds() <= now) {
        return None;
    }
    if emergency.routes_off.iter().any(|id| book.spec.routes[id.0 as usize].name == route.name) {
        return Some("emergency_route_off");
    }
    if !reads(route, request) && is_read_only_for(book, emergency, route, request) {
        return Some("emergency_read_only");
    }
    let order = ["sheddable", "default", "critical"];
    let place =
        |criticality: Criticality| order.iter().position(|name| *name == criticality.name()).expect("one of them");
    let critical = said.map_or(place(route.criticality), |said| place(said).min(place(route.criticality)));
    emergency.shed.is_some_and(|shed| critical <= place(shed)).then_some("emergency_shed")
}

fn is_read_only_for(book: &Book<'_>, emergency: &EmergencySpec, route: &RouteSpec, request: &Request) -> bool {
    let name = |index: usize| book.spec.jurisdictions[index].name.clone();
    let named: Names = match &emergency.read_only {
        None => return false,
        Some(ReadOnly::All) => return true,
        Some(ReadOnly::Of(ids)) => ids.iter().map(|id| name(id.0)).collect(),
    };
    let of_tenant: Names = route.jurisdictions.iter().map(|id| name(id.0)).collect();
    if of_tenant.iter().chain(&request.declared).any(|declared| named.contains(declared)) {
        return true;
    }
    // Whoever is of a jurisdiction may be in any country of it, and so in one that a named jurisdiction protects.
    for country in of_tenant.iter().chain(&request.declared).flat_map(|declared| &book.protected[declared]) {
        if named.iter().any(|name| book.protected[name].contains(country)) {
            return true;
        }
    }
    // Where a client of these jurisdictions may be.
    let places = |names: &Names| -> Names { names.iter().flat_map(|name| book.protected[name].clone()).collect() };
    match (&request.countries, &book.spec.unknown_origin) {
        (Some(countries), _) => countries.iter().any(|country| places(&named).contains(country)),
        (None, UnknownOrigin::Strictest | UnknownOrigin::Refuse) => true,
        (None, UnknownOrigin::Like(ids)) => {
            let like: Names = ids.iter().map(|id| name(id.0)).collect();
            like.iter().any(|name| named.contains(name)) || !places(&like).is_disjoint(&places(&named))
        }
    }
}
