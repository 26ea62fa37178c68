//! `[regions.NAME]`: where the service runs.

use policy::health::{Check, HttpCheck, ProbePlan};
use policy::region::{Capabilities, Region, RegionState, Role, Tier};
use std::collections::BTreeMap;

use super::countries::country as read_country;
use super::frameworks::frameworks;
use crate::endpoint::Endpoint;
use crate::field::Field;
use crate::quote::quote;
use crate::section::Section;
use crate::table::Upstream;

/// The regions in the order of their names; a region with an error may be left out.
pub(super) fn regions(root: &Section<'_>) -> Vec<(Region, Upstream)> {
    let Some(section) = root.required("regions", "a table has at least one [regions.NAME]") else { return Vec::new() };
    let Some(section) = section.open_section() else { return Vec::new() };
    if section.is_empty() {
        section.error("a table has at least one [regions.NAME]".to_owned());
    }
    let mut owners = BTreeMap::new();
    let regions: Vec<_> = section.fields().filter_map(|field| region(&field, &mut owners)).collect();
    if !regions.is_empty() && regions.iter().all(|(region, _)| region.weight == 0) {
        section.error("the weight of every region is 0: give at least one of them clients".to_owned());
    }
    regions
}

/// The words for a [`Tier`].
pub(super) const TIERS: &[(&str, Tier)] =
    &[("primary", Tier::Primary), ("secondary", Tier::Secondary), ("tertiary", Tier::Tertiary), ("edge", Tier::Edge)];

/// `owners` are the endpoints seen so far, and the names of their regions.
fn region<'t>(field: &Field<'t>, owners: &mut BTreeMap<String, &'t str>) -> Option<(Region, Upstream)> {
    let section = field.section(KEYS)?;
    let role = section.field("role").and_then(|field| field.choice(ROLES)).unwrap_or(Role::Active);
    let state = section.field("state").and_then(|field| field.choice(STATES)).unwrap_or(RegionState::Serving);
    let capabilities = section.field("capabilities").map_or(BOTH, |field| capabilities(&field));
    let endpoints_field = section.field("endpoints");
    let gateway = section.field("gateway");
    if gateway.is_none() && state != RegionState::Disabled && capabilities != NEITHER {
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
        gateway: gateway.and_then(|field| endpoint(&field, true)),
        health: section.field("health").map(|field| health(&field)).unwrap_or_default(),
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
        state,
        capabilities,
        compliance: optional_list("compliance"),
        capacity_rps: section.field("capacity_rps").and_then(|field| field.number(1.0..=1e9)),
        cost_per_gb: section.field("cost_per_gb").and_then(|field| field.number(0.0..=1e6)).unwrap_or(0.0),
        line: field.line(),
        // Last, because it can end it: all else has been read, and so checked, by then.
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
    for member in list.into_iter().take(MAX_ENDPOINTS) {
        let Some(endpoint) = endpoint(&member, false) else { continue };
        match owners.insert(endpoint.authority(), region) {
            Some(owner) if owner == region => {
                member.error(format!("\"{}\" is in this list already", endpoint.authority()));
            }
            Some(owner) => {
                let authority = endpoint.authority();
                member.warning(format!("\"{authority}\" is an endpoint of {owner} too: it will serve for both"));
            }
            None => {}
        }
        endpoints.push(endpoint);
    }
    endpoints
}

fn endpoint(field: &Field<'_>, bare_is_tls: bool) -> Option<Endpoint> {
    let text = field.text()?;
    Endpoint::parse(text, bare_is_tls).map_err(|problem| field.error(format!("{}: {problem}", quote(text)))).ok()
}

fn health(field: &Field<'_>) -> ProbePlan {
    let mut plan = ProbePlan::default();
    let Some(section) = field.section(&["path", "interval", "timeout", "failures", "successes"]) else { return plan };
    let graphic = |b: u8| b.is_ascii_graphic() && b != b'#';
    let is_path = |path: &str| path.starts_with('/') && path.bytes().all(graphic);
    let path = section.field("path").and_then(|field| field.text_that(is_path, "is not a path such as \"/health\""));
    let paths = path.map_or(HttpCheck::default().paths, |path| vec![path.to_owned()]);
    plan.check = Check::Http(HttpCheck { paths, ..HttpCheck::default() });
    let duration = |key| section.field(key).and_then(|field| field.duration());
    let count = |key| section.field(key).and_then(|field| field.integer(1..=1000));
    plan.interval = duration("interval").unwrap_or(plan.interval);
    plan.unhealthy_interval = ProbePlan::default_unhealthy_interval(plan.interval);
    // A default that does not fit the interval given gives way.
    plan.timeout = duration("timeout").unwrap_or(plan.timeout.min(plan.interval));
    plan.failures = count("failures").unwrap_or(plan.failures);
    plan.successes = count("successes").unwrap_or(plan.successes);
    if let Some(field) = section.field("timeout").filter(|_| plan.timeout > plan.interval) {
        field.warning("longer than the interval: probes of one endpoint will wait for each other".to_owned());
    }
    plan
}

const KEYS: &[&str] = &[
    "country",
    "coordinates",
    "tier",
    "role",
    "priority",
    "weight",
    "state",
    "capabilities",
    "compliance",
    "capacity_rps",
    "cost_per_gb",
    "endpoints",
    "gateway",
    "health",
];

const ROLES: &[(&str, Role)] = &[("active", Role::Active), ("warm", Role::Warm), ("cold", Role::Cold)];

const STATES: &[(&str, RegionState)] =
    &[("serving", RegionState::Serving), ("draining", RegionState::Draining), ("disabled", RegionState::Disabled)];

const MAX_ENDPOINTS: usize = 1024;

const BOTH: Capabilities = Capabilities { read: true, write: true };
const NEITHER: Capabilities = Capabilities { read: false, write: false };
