//! What the law must know of a request, from everybody whose word counts: the geo databases, headers
//! of trusted proxies, another node, a verified token, and our own cookie.

use std::time::SystemTime;

use config::RoutingTable;
use http::HeaderMap;
use http::header::{COOKIE, HeaderName, HeaderValue, SET_COOKIE};
use policy::jurisdiction::JurisdictionId;
use policy::route::{Affinity, RouteSpec};
use policy::{Country, CountrySet, Origin, RegionId, Table};
use smallvec::SmallVec;

use crate::client::Client;
use crate::node::{Geo, unix_seconds};
use crate::peers::Sender;
use crate::peers::headers::Asks;
use crate::token::Tokens;

/// What is known of a request beside its target.
#[derive(Clone, Debug)]
pub struct Known {
    /// Where the client may be, by all sources.
    pub origin: Origin,
    /// The jurisdictions that a trusted proxy declares for the tenant.
    pub declared: SmallVec<[JurisdictionId; 2]>,
    /// Whether consent was given where the route looks for it.
    pub consent: bool,
    /// Where the client's cookie pins it.
    pub pinned: Option<RegionId>,
}

/// Whose word counts on this node.
#[derive(Clone, Copy)]
pub struct Witnesses<'a> {
    /// The databases, and what is configured beside them.
    pub geo: &'a Geo,
    /// Whose tokens are believed.
    pub tokens: &'a Tokens,
}

/// Why a trusted proxy's word cannot be taken: the request is refused, because what it asks cannot be
/// kept.
pub type Contradiction = &'static str;

impl Known {
    /// Hears the witnesses of one request.
    ///
    /// # Errors
    /// When a trusted proxy declares a jurisdiction that the table does not have.
    pub fn of(
        document: &RoutingTable,
        route: &RouteSpec,
        (client, sender): (&Client, &Sender),
        headers: &HeaderMap,
        witnesses: Witnesses<'_>,
    ) -> Result<Self, Contradiction> {
        let table = &document.table;
        let (consents, said, declared) = match sender {
            Sender::Stranger => (false, Said::Nothing, SmallVec::new()),
            Sender::TrustedProxy => {
                let consents = route.consent_header.as_deref().is_some_and(|name| granted(headers, name));
                let country = witnesses.geo.country_header.as_ref();
                let tenant = route.jurisdiction_header.as_deref();
                (
                    consents,
                    country.map_or(Said::Nothing, |header| said(headers, header)),
                    tenant.map(|header| declared(table, headers.get_all(header))).transpose()?.unwrap_or_default(),
                )
            }
            // Another node heard its own peers, and tells what it took from them. What else is in the
            // request may be a client's, which that node's table had no reason to take out.
            Sender::Peer(peer) => match &peer.asks {
                Asks::Probe => (false, Said::Anywhere, SmallVec::new()),
                Asks::Serve(vouched) => {
                    let through = |header: &str| vouched.consent.as_ref().is_some_and(|said| said == header);
                    let tenant = vouched.tenant.iter().filter(|_| route.jurisdiction_header.is_some());
                    (route.consent_header.as_deref().is_some_and(through), vouched.origin, declared(table, tenant)?)
                }
            },
        };
        let token = |claim: &str| witnesses.tokens.grants(headers, claim);
        Ok(Self {
            origin: widened(client, &said),
            declared,
            consent: consents || route.consent_claim.as_deref().is_some_and(token),
            pinned: pin(document, route, headers),
        })
    }

    /// The header through which a trusted proxy has told of consent.
    pub fn consent_through<'r>(&self, route: &'r RouteSpec, sender: &Sender, headers: &HeaderMap) -> Option<&'r str> {
        // What a token's claim consents to, whoever gets the request finds out by the token.
        let is_heard = matches!(sender, Sender::TrustedProxy) && self.consent;
        route.consent_header.as_deref().filter(|header| is_heard && granted(headers, header))
    }
}

/// What a country header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Nothing, or that it does not know.
    Nothing,
    /// Any of these countries: one, unless a node says it.
    Countries(CountrySet),
    /// An anonymous network, or nothing that can be understood: the client may be anywhere.
    Anywhere,
}

/// What a trusted proxy's country header says. `XX` is Cloudflare's and Fastly's word for an unknown
/// country, `T1` Cloudflare's for Tor.
pub fn said(headers: &HeaderMap, header: &HeaderName) -> Said {
    said_in(headers.get_all(header).iter())
}

/// The same of a header's lines.
pub fn said_in<'a>(mut lines: impl Iterator<Item = &'a HeaderValue>) -> Said {
    match (lines.next().map(HeaderValue::as_bytes), lines.next()) {
        (None | Some(b"" | b"XX"), None) => Said::Nothing,
        (Some(codes), None) => {
            let countries = std::str::from_utf8(codes).ok().and_then(|codes| {
                codes.split(',').map(|code| code.trim().parse::<Country>().ok()).collect::<Option<CountrySet>>()
            });
            countries.map_or(Said::Anywhere, Said::Countries)
        }
        (_, Some(_)) => Said::Anywhere,
    }
}

/// A client's origin, with one more source.
pub fn widened(client: &Client, said: &Said) -> Origin {
    match said {
        _ if client.anonymous => Origin::Unknown,
        Said::Nothing => client.origin,
        Said::Anywhere => Origin::Unknown,
        Said::Countries(more) => {
            let mut countries = client.origin.countries();
            countries.extend(more);
            Origin::of(countries)
        }
    }
}

/// Whether every line of a header says `granted`: a proxy may have appended its own to a client's.
pub fn granted(headers: &HeaderMap, name: &str) -> bool {
    let mut lines = headers.get_all(name).iter().peekable();
    lines.peek().is_some() && lines.all(|line| line == "granted")
}

/// The jurisdictions that a header's lines name, comma-separated.
pub fn declared<'a>(
    table: &Table,
    lines: impl IntoIterator<Item = &'a HeaderValue>,
) -> Result<SmallVec<[JurisdictionId; 2]>, Contradiction> {
    let mut found = SmallVec::new();
    for line in lines {
        let line = line.to_str().map_err(|_| UNKNOWN_JURISDICTION)?;
        for name in line.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let id = table.jurisdiction_named(name).ok_or(UNKNOWN_JURISDICTION)?;
            if !found.contains(&id) {
                found.push(id);
            }
        }
    }
    Ok(found)
}

const UNKNOWN_JURISDICTION: Contradiction = "a trusted proxy declares a jurisdiction that the table does not have";

/// The beginning of the name of the cookie that pins a client of a route to its region; the route's
/// own name follows, so that two routes do not overwrite each other's.
pub const COOKIE_NAME: &str = "meridian-affinity.";

/// Where a client is pinned, by the first of its cookies that is sound and for this route.
fn pin(document: &RoutingTable, route: &RouteSpec, headers: &HeaderMap) -> Option<RegionId> {
    let Affinity::Cookie(_) = route.affinity else { return None };
    let now = unix_seconds(SystemTime::now());
    let crumbs = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(';'));
    let values =
        crumbs.filter_map(|crumb| crumb.trim().strip_prefix(COOKIE_NAME)?.strip_prefix(&route.name)?.strip_prefix('='));
    let mut pins = values.filter_map(|value| document.affinity.open(&route.name, value, now));
    pins.find_map(|pin| document.table.region_named(pin.region))
}

/// The cookie that pins a client of this route to the region that served it, or `None` when it is
/// pinned there already, or not at all.
pub fn new_pin(
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
    let expires = unix_seconds(SystemTime::now()).saturating_add(seconds);
    let value = document.affinity.seal(&route.name, served, expires);
    let secure = if scheme == "https" { "; Secure" } else { "" };
    let cookie =
        format!("{COOKIE_NAME}{}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}", route.name);
    HeaderValue::try_from(cookie).ok()
}

/// A cookie line without our own cookies; `None` when nothing is left.
pub fn without_pin(line: &[u8]) -> Option<Vec<u8>> {
    let is_ours = |crumb: &[u8]| crumb.trim_ascii().starts_with(COOKIE_NAME.as_bytes());
    let kept: Vec<&[u8]> = line.split(|byte| *byte == b';').filter(|crumb| !is_ours(crumb)).collect();
    let kept = kept.join(&b';').trim_ascii().to_vec();
    (!kept.is_empty()).then_some(kept)
}

/// Drops cookies of our name from an answer: an origin has no say in where a client stays.
pub fn drop_pins(headers: &mut HeaderMap) {
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
