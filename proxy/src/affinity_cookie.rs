//! The cookie that pins a client of a route to the region that served it: `meridian-affinity.ROUTE=VALUE`.
//! What its value holds, and how it is signed, is [`policy::affinity`]'s.

use config::RoutingTable;
use http::HeaderMap;
use http::header::{COOKIE, HeaderValue, SET_COOKIE};
use policy::RegionId;
use policy::route::{Affinity, RouteSpec};

use crate::clock;

/// The beginning of the name of the cookie that pins a client of a route to its region; the route's
/// own name follows, so that two routes do not overwrite each other's.
pub(crate) const COOKIE_NAME: &str = "meridian-affinity.";

/// Returns where a client is pinned: by the first of its cookies that is sound and for this route.
pub(crate) fn pin(document: &RoutingTable, route: &RouteSpec, headers: &HeaderMap) -> Option<RegionId> {
    let Affinity::Cookie(_) = route.affinity else { return None };
    let now = clock::unix_seconds();
    let crumbs = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(';'));
    let values =
        crumbs.filter_map(|crumb| crumb.trim().strip_prefix(COOKIE_NAME)?.strip_prefix(&route.name)?.strip_prefix('='));
    let mut pins = values.take(MOST_TRIED).filter_map(|value| document.affinity.open(&route.name, value, now));
    pins.find_map(|pin| document.table.region_named(pin.region))
}

/// Cookies of one request that are looked into: a client has one, or two while a path's ends, and each costs an HMAC.
const MOST_TRIED: usize = 4;

/// Makes the cookie that pins a client of this route to the region that served it; `None` when it is
/// pinned there already, or not at all.
pub(crate) fn new_pin(
    document: &RoutingTable,
    route: &RouteSpec,
    pinned: Option<RegionId>,
    served: &str,
    scheme: &str,
) -> Option<HeaderValue> {
    let Affinity::Cookie(ttl) = route.affinity else { return None };
    if pinned.is_some_and(|region| document.table.region(region).name == served) {
        // It keeps the end that it was given: nobody stays away from a better region for ever.
        return None;
    }
    let seconds = ttl.as_secs().max(1);
    let expires = clock::unix_seconds().saturating_add(seconds);
    let value = document.affinity.seal(&route.name, served, expires);
    let secure = if scheme == "https" { "; Secure" } else { "" };
    let cookie =
        format!("{COOKIE_NAME}{}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}", route.name);
    HeaderValue::try_from(cookie).ok()
}

/// Returns a cookie line without our own cookies; `None` when nothing is left.
pub(crate) fn without_pin(line: &[u8]) -> Option<Vec<u8>> {
    let is_ours = |crumb: &[u8]| crumb.trim_ascii().starts_with(COOKIE_NAME.as_bytes());
    let kept: Vec<&[u8]> = line.split(|byte| *byte == b';').filter(|crumb| !is_ours(crumb)).collect();
    let kept = kept.join(&b';').trim_ascii().to_vec();
    (!kept.is_empty()).then_some(kept)
}

/// Drops cookies of our name from an answer: an origin has no say in where a client stays.
pub(crate) fn drop_pins(headers: &mut HeaderMap) {
    let is_pin = |value: &HeaderValue| value.as_bytes().trim_ascii_start().starts_with(COOKIE_NAME.as_bytes());
    if !headers.get_all(SET_COOKIE).iter().any(is_pin) {
        return;
    }
    let kept: Vec<HeaderValue> = headers.get_all(SET_COOKIE).iter().filter(|value| !is_pin(value)).cloned().collect();
    headers.remove(SET_COOKIE);
    for value in kept {
        headers.append(SET_COOKIE, value);
    }
}
