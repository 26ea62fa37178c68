//! What must be true of a specification before it becomes a table.

use rustc_hash::{FxHashMap, FxHashSet};
use thiserror::Error;

use super::{Table, TableSpec};
use crate::concurrency::MOST_CLASSES;
use crate::emergency::ReadOnly;
use crate::jurisdiction::{ClassId, JurisdictionId, UnknownOrigin};
use crate::list::Countries;
use crate::region::{Region, RegionId, RegionSet, Role, TakesWrites};
use crate::score::{LatencyCurve, ScoringSpec};

/// Why a specification is no table. Only what a caller could not have checked piece by piece, or
/// must never get wrong; the config crate finds the rest with line and path.
#[derive(Clone, Debug, PartialEq, Error)]
#[allow(missing_docs)]
pub enum TableError {
    #[error("a table needs at least one region")]
    NoRegion,
    #[error("{0} regions; a table may have at most {max}", max = RegionSet::CAPACITY)]
    TooManyRegions(usize),
    #[error("the weight of every region is 0: give at least one of them clients")]
    NoWeight,
    #[error("{with} has a share and {without}, of the same priority, has none: give one to both or to neither")]
    MixedShares { with: String, without: String },
    #[error("a table needs at least one route")]
    NoRoute,
    #[error("{0} routes; a table may have at most {max}", max = Table::MAX_ROUTES)]
    TooManyRoutes(usize),
    #[error("{0} traffic classes; a table may have at most {MOST_CLASSES}")]
    TooManyTrafficClasses(usize),
    #[error("two {kind} are named {name:?}")]
    Duplicate { kind: &'static str, name: String },
    #[error("{0} different latency curves; the scorings of a table may have at most {max}", max = Table::MAX_CURVES)]
    TooManyCurves(usize),
    #[error("{place}: {value} is not a number that can stand there")]
    BadNumber { place: String, value: f64 },
    #[error("unknown clients are to be treated like those of no jurisdiction: name at least one")]
    LikeNobody,
    #[error("{place} refers to a {kind} that the table does not have")]
    Dangling { place: String, kind: &'static str },
    #[error("region {region}: standby.writes: {why}")]
    NoPair { region: String, why: &'static str },
    #[error("{place}: its end is not after its beginning")]
    EmptyPeriod { place: String },
}

pub(super) fn check(spec: &TableSpec) -> Result<(), TableError> {
    match spec.regions.len() {
        0 => return Err(TableError::NoRegion),
        n if n > RegionSet::CAPACITY => return Err(TableError::TooManyRegions(n)),
        _ => {}
    }
    match spec.routes.len() {
        0 => return Err(TableError::NoRoute),
        n if n > Table::MAX_ROUTES => return Err(TableError::TooManyRoutes(n)),
        _ => {}
    }
    unique("regions", spec.regions.iter().map(|region| &region.name))?;
    unique("routes", spec.routes.iter().map(|route| &route.name))?;
    unique("lists", spec.lists.iter().map(|list| &list.name))?;
    unique("jurisdictions", spec.jurisdictions.iter().map(|jurisdiction| &jurisdiction.name))?;
    unique("data classes", spec.data_classes.iter().map(|class| &class.name))?;

    let non_negative = |place: String, value: f64| match value {
        v if v.is_finite() && v >= 0.0 => Ok(()),
        value => Err(TableError::BadNumber { place, value }),
    };
    for region in &spec.regions {
        non_negative(format!("region {}: cost_per_gb", region.name), region.cost_per_gb)?;
        non_negative(format!("region {}: capacity_rps", region.name), region.capacity_rps.unwrap_or(0.0))?;
        if let Some(standby) = &region.standby
            && standby.of.iter().any(|name| *name == region.name || !spec.regions.iter().any(|one| one.name == *name))
        {
            return Err(TableError::Dangling { place: format!("region {}: standby.of", region.name), kind: "region" });
        }
        let (latitude, longitude) = region.coordinates.unwrap_or_default();
        let place = |axis: &str| format!("region {}: {axis}", region.name);
        non_negative(place("latitude"), 90.0 - latitude.abs())?;
        non_negative(place("longitude"), 180.0 - longitude.abs())?;
    }
    let region_known = |id: &RegionId| id.index() < spec.regions.len();
    let dangling = |place: String, kind| Err(TableError::Dangling { place, kind });
    for (key, pairs) in [("latency_ms", &spec.latency_ms), ("latency_sla_ms", &spec.latency_sla_ms)] {
        for (from, to, ms) in pairs {
            if !region_known(from) || !region_known(to) {
                return dangling(key.into(), "region");
            }
            non_negative(key.into(), *ms)?;
        }
    }
    if spec.regions.iter().all(|region| region.weight == 0) {
        return Err(TableError::NoWeight);
    }
    check_shares(&spec.regions)?;
    check_pairs(&spec.regions)?;
    let jurisdiction_known = |id: &JurisdictionId| id.0 < spec.jurisdictions.len();
    let class_known = |id: &ClassId| id.0 < spec.data_classes.len();
    let list_known = |countries: &Countries| countries.lists().iter().all(|id| id.0 < spec.lists.len());
    for jurisdiction in &spec.jurisdictions {
        if !list_known(&jurisdiction.countries) {
            return dangling(format!("jurisdiction {}", jurisdiction.name), "list");
        }
    }
    for list in &spec.lists {
        if list.entries.iter().any(|entry| entry.period.is_empty()) {
            return Err(TableError::EmptyPeriod { place: format!("list {}", list.name) });
        }
    }
    for rule in &spec.rules {
        let place = || format!("the rule at line {}", rule.line);
        let (selectors, denial) = (|| rule.allow.iter().flatten(), rule.deny.as_ref());
        let selected = selectors().flat_map(|selector| selector.jurisdictions.iter().flatten());
        let denied = denial.iter().flat_map(|denial| denial.jurisdictions.iter().flatten());
        if !jurisdiction_known(&rule.jurisdiction) || !selected.chain(denied).all(jurisdiction_known) {
            return dangling(place(), "jurisdiction");
        }
        let selected = selectors().flat_map(|selector| selector.countries.iter().chain(&selector.operator_countries));
        let denied = denial.iter().flat_map(|denial| denial.countries.iter().chain(&denial.operator_countries));
        if !selected.chain(denied).all(list_known) {
            return dangling(place(), "list");
        }
        if !rule.data_classes.iter().all(class_known) {
            return dangling(place(), "data class");
        }
        if rule.period.is_empty() {
            return Err(TableError::EmptyPeriod { place: place() });
        }
    }
    if let UnknownOrigin::Like(like) = &spec.unknown_origin {
        if like.is_empty() {
            return Err(TableError::LikeNobody);
        }
        if !like.iter().all(jurisdiction_known) {
            return dangling("unknown_origin".into(), "jurisdiction");
        }
    }
    unique("traffic classes", spec.traffic_classes.iter().map(|class| &class.name))?;
    if spec.traffic_classes.len() > MOST_CLASSES {
        return Err(TableError::TooManyTrafficClasses(spec.traffic_classes.len()));
    }
    for class in &spec.traffic_classes {
        if !(class.guaranteed > 0.0 && class.guaranteed <= 1.0) {
            let place = format!("traffic class {}: guaranteed", class.name);
            return Err(TableError::BadNumber { place, value: class.guaranteed });
        }
    }
    let guaranteed: f64 = spec.traffic_classes.iter().map(|class| class.guaranteed).sum();
    if guaranteed > 1.0 + 1e-9 {
        return Err(TableError::BadNumber { place: "the guarantees of all traffic classes".into(), value: guaranteed });
    }
    let mut curves: Vec<&LatencyCurve> = Vec::new();
    for ScoringSpec { name, weights, latency_curve, latency_from: _, shares: _ } in &spec.scorings {
        if !weights.is_usable() {
            return Err(TableError::BadNumber { place: format!("scoring {name}"), value: weights.sum() });
        }
        if !curves.contains(&latency_curve) {
            curves.push(latency_curve);
        }
    }
    if curves.len() > Table::MAX_CURVES {
        return Err(TableError::TooManyCurves(curves.len()));
    }
    for route in &spec.routes {
        if !class_known(&route.data_class) {
            return dangling(format!("route {}", route.name), "data class");
        }
        if route.scoring >= spec.scorings.len() {
            return dangling(format!("route {}", route.name), "scoring");
        }
        if route.traffic_class.is_some_and(|index| index >= spec.traffic_classes.len()) {
            return dangling(format!("route {}", route.name), "traffic class");
        }
        if !route.jurisdictions.iter().all(jurisdiction_known) {
            return dangling(format!("route {}", route.name), "jurisdiction");
        }
    }
    if let Some(emergency) = &spec.emergency {
        if emergency.routes_off.iter().any(|id| id.0 as usize >= spec.routes.len()) {
            return dangling("emergency.routes_off".into(), "route");
        }
        if let Some(ReadOnly::Of(named)) = &emergency.read_only
            && !named.iter().all(jurisdiction_known)
        {
            return dangling("emergency.read_only".into(), "jurisdiction");
        }
    }
    Ok(())
}

/// Checks that regions which may stand side by side all have a share, or none.
fn check_shares(regions: &[Region]) -> Result<(), TableError> {
    let mut first: FxHashMap<(u16, bool), &Region> = FxHashMap::default();
    let with_standby: FxHashSet<u16> =
        regions.iter().filter(|region| region.standby.is_some()).map(|region| region.priority).collect();
    for region in regions {
        if region.share == Some(0) {
            return Err(TableError::BadNumber { place: format!("region {}: share", region.name), value: 0.0 });
        }
        let other = *first
            .entry((region.priority, region.role == Role::Cold && !with_standby.contains(&region.priority)))
            .or_insert(region);
        let (with, without) = match (region.share, other.share) {
            (Some(_), None) => (region, other),
            (None, Some(_)) => (other, region),
            (None, None) | (Some(_), Some(_)) => continue,
        };
        return Err(TableError::MixedShares { with: with.name.clone(), without: without.name.clone() });
    }
    Ok(())
}

/// Checks that each standby that takes writes over takes them from one region, which has them, and hands them to no other.
fn check_pairs(regions: &[Region]) -> Result<(), TableError> {
    let mut primaries = FxHashSet::default();
    for region in regions {
        let Some(standby) = region.standby.as_ref().filter(|standby| standby.writes.is_some()) else { continue };
        let wrong = |why| Err(TableError::NoPair { region: region.name.clone(), why });
        let [of] = standby.of.as_slice() else { return wrong("it stands in for one region") };
        let primary = regions.iter().find(|one| one.name == *of);
        if !primary.is_some_and(|primary| primary.capabilities.write && primary.standby.is_none()) {
            return wrong("the region that it stands in for is no standby, and serves writes");
        }
        if region.capabilities.write {
            return wrong("it serves writes whether it is promoted or not");
        }
        if !primaries.insert(of) {
            return wrong("another standby takes the writes of the same region");
        }
        if standby.promote_after < TakesWrites::LEAST_PROMOTE_AFTER {
            return wrong("promote_after is too short for a fleet to agree");
        }
    }
    Ok(())
}

fn unique<'a>(kind: &'static str, names: impl Iterator<Item = &'a String>) -> Result<(), TableError> {
    let mut seen = FxHashSet::default();
    for name in names {
        if !seen.insert(name) {
            return Err(TableError::Duplicate { kind, name: name.clone() });
        }
    }
    Ok(())
}
