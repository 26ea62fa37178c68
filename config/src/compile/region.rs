//! `[regions.NAME]`: where the service runs.

use policy::region::{AdminState, Capabilities, Region, Role, Tier};
use std::collections::BTreeMap;

use super::concurrency::{self, Concurrency};
use super::countries::country as read_country;
use super::frameworks::frameworks;
use super::health::health;
use super::operator::operator;
use super::{split, standby};
use crate::endpoint::{Endpoint, EndpointRole, Upstream};
use crate::field::{Field, Section};
use crate::name::version as read_version;
use crate::quote::quote;

/// Returns the regions in the order of their names; a region with an error may be left out.
pub(super) fn regions(root: &Section<'_>, defaults: &Concurrency) -> Vec<(Region, Upstream)> {
    let Some(section) = root.required("regions", "a table has at least one [regions.NAME]") else { return Vec::new() };
    let Some(section) = section.open_section() else { return Vec::new() };
    if section.is_empty() {
        section.error("a table has at least one [regions.NAME]".to_owned());
    }
    let mut owners = BTreeMap::new();
    let regions: Vec<_> = section.fields().filter_map(|field| region(&field, &mut owners, defaults)).collect();
    if !regions.is_empty() && regions.iter().all(|(region, _)| region.weight == 0) {
        section.error("the weight of every region is 0: give at least one of them clients".to_owned());
    }
    section.fields().for_each(|field| standby::check(&section, &field, &regions));
    split::check(&section, regions.iter().map(|(region, _)| region));
    regions
}

/// The words for a [`Tier`].
pub(super) const TIERS: &[(&str, Tier)] =
    &[("primary", Tier::Primary), ("secondary", Tier::Secondary), ("tertiary", Tier::Tertiary), ("edge", Tier::Edge)];

/// Reads a region. `owners` are the endpoints seen so far, with the names of their regions.
fn region<'t>(
    field: &Field<'t>,
    owners: &mut BTreeMap<String, &'t str>,
    defaults: &Concurrency,
) -> Option<(Region, Upstream)> {
    let section = field.section(KEYS)?;
    let role = section.field("role").and_then(|field| field.choice(ROLES)).unwrap_or(Role::Active);
    let state = section.field("state").and_then(|field| field.choice(STATES)).unwrap_or(AdminState::Serving);
    let capabilities = section.field("capabilities").map_or(BOTH, |field| capabilities(&field));
    let endpoints_field = section.field("endpoints");
    let gateway = section.field("gateway");
    if gateway.is_none() && state != AdminState::Disabled && capabilities != NEITHER {
        let remedy = "nobody could reach this region: give endpoints = [\"host:port\"] or a gateway, or say \
            state = \"disabled\"";
        match &endpoints_field {
            None => section.missing("endpoints", remedy),
            Some(field) if field.is_empty_list() => field.error(format!("the list is empty: {remedy}")),
            Some(_) => {}
        }
    }
    let optional_list = |key| section.field(key).map(|field| frameworks(&field)).unwrap_or_default();
    let upstream = Upstream {
        endpoints: endpoints_field.map(|list| endpoints(&list, field.key(), owners)).unwrap_or_default(),
        gateway: gateway.and_then(|field| endpoint(&field, EndpointRole::Gateway)),
        health: section.field("health").map(|field| health(&field)).unwrap_or_default(),
        concurrency: concurrency::of_region(&section, defaults),
    };
    let country = section.required("country", "say where the region is: country = \"DE\"");
    let country = country.and_then(|field| read_country(&field));
    let region = Region {
        name: field.key().to_owned(),
        coordinates: section.field("coordinates").and_then(|field| coordinates(&field)),
        tier: section.field("tier").and_then(|field| field.choice(TIERS)).unwrap_or(Tier::Primary),
        role,
        priority: section
            .field("priority")
            .and_then(|field| field.integer(0..=u16::MAX))
            .unwrap_or_else(|| role.default_priority()),
        weight: section.field("weight").and_then(|field| field.integer(0..=100)).unwrap_or(100),
        share: section.field("share").and_then(|field| field.integer(1..=MAX_SHARE)),
        standby: section.field("standby").and_then(|field| standby::standby(&field, role)),
        state,
        capabilities,
        operator: section.field("operator").and_then(|field| operator(&field)),
        compliance: optional_list("compliance"),
        capacity_rps: section.field("capacity_rps").and_then(|field| field.number(1.0..=1e9)),
        cost_per_gb: section.field("cost_per_gb").and_then(|field| field.number(0.0..=1e6)).unwrap_or(0.0),
        line: field.line(),
        // Last, because its absence returns early: all else has been read, and so checked, by then.
        country: country?,
    };
    Some((region, upstream))
}

fn capabilities(field: &Field<'_>) -> Capabilities {
    let mut capabilities = NEITHER;
    for member in field.list().unwrap_or_default() {
        match member.choice(&[("read", true), ("write", false)]) {
            Some(true) => capabilities.read = true,
            Some(false) => capabilities.write = true,
            None => {}
        }
    }
    capabilities
}

fn coordinates(field: &Field<'_>) -> Option<(f64, f64)> {
    match field.list()?.as_slice() {
        [latitude, longitude] => Some((latitude.number(-90.0..=90.0)?, longitude.number(-180.0..=180.0)?)),
        _ => {
            field.error("expected [latitude, longitude] in degrees, such as [53.35, -6.26]".to_owned());
            None
        }
    }
}

fn endpoints<'t>(field: &Field<'_>, region: &'t str, owners: &mut BTreeMap<String, &'t str>) -> Vec<Endpoint> {
    let list = field.list().unwrap_or_default();
    if list.len() > MAX_ENDPOINTS {
        field.error(format!("{} endpoints; a region can have at most {MAX_ENDPOINTS}", list.len()));
    }
    let mut endpoints = Vec::new();
    for field in list.into_iter().take(MAX_ENDPOINTS) {
        let Some(endpoint) = member(&field) else { continue };
        match owners.insert(endpoint.authority(), region) {
            Some(owner) if owner == region => {
                field.error(format!("\"{}\" is in this list already", endpoint.authority()));
            }
            Some(owner) => {
                let authority = endpoint.authority();
                field.warning(format!("\"{authority}\" is an endpoint of {owner} too: it will serve for both"));
            }
            None => {}
        }
        endpoints.push(endpoint);
    }
    endpoints
}

/// Reads `"host:port"`, or `{ address = "host:port", version = "…" }`.
fn member(field: &Field<'_>) -> Option<Endpoint> {
    if field.peek_section().is_none() {
        return endpoint(field, EndpointRole::Origin);
    }
    let section = field.section(&["address", "version"])?;
    let version = section.field("version").and_then(|field| read_version(&field));
    let address = section.required("address", "say where it listens: address = \"host:port\"")?;
    Some(Endpoint { version: version.map(Into::into), ..endpoint(&address, EndpointRole::Origin)? })
}

fn endpoint(field: &Field<'_>, role: EndpointRole) -> Option<Endpoint> {
    let text = field.text()?;
    Endpoint::parse(text, role).map_err(|problem| field.error(format!("{}: {problem}", quote(text)))).ok()
}

const KEYS: &[&str] = &[
    "country",
    "coordinates",
    "tier",
    "role",
    "priority",
    "weight",
    "share",
    "standby",
    "state",
    "capabilities",
    "operator",
    "compliance",
    "capacity_rps",
    "cost_per_gb",
    "endpoints",
    "gateway",
    "health",
    "concurrency",
];

const ROLES: &[(&str, Role)] = &[("active", Role::Active), ("warm", Role::Warm), ("cold", Role::Cold)];

const STATES: &[(&str, AdminState)] =
    &[("serving", AdminState::Serving), ("draining", AdminState::Draining), ("disabled", AdminState::Disabled)];

const MAX_ENDPOINTS: usize = 1024;

/// The largest share: a million tells any two apart, and single precision has it exactly.
const MAX_SHARE: u32 = 1_000_000;

const BOTH: Capabilities = Capabilities { read: true, write: true };
const NEITHER: Capabilities = Capabilities { read: false, write: false };
