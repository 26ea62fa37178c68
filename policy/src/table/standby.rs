//! Which regions a standby stands in for.

use super::Table;
use crate::region::{RegionId, RegionSet, Role, Standby};

/// Returns the regions that a standby stands in for: those that it names, or else the active ones without a standby's
/// part that share a jurisdiction with it (its country, where no jurisdiction has it); or else all of these.
pub(super) fn stands_in_for(table: &Table, id: RegionId, standby: &Standby) -> RegionSet {
    if !standby.of.is_empty() {
        return standby.of.iter().filter_map(|name| table.region_named(name)).collect();
    }
    let active: RegionSet = table
        .regions()
        .filter(|(_, region)| region.role == Role::Active && region.standby.is_none())
        .map(|(id, _)| id)
        .collect();
    let country = table.region(id).country;
    let near: RegionSet = table.regions().filter(|(_, one)| one.country == country).map(|(id, _)| id).collect();
    let shared = table.jurisdictions_around(id).map(|one| *table.regions_in(one)).reduce(|all, some| all.or(&some));
    let close = active.and(&shared.unwrap_or(near));
    if close.is_empty() { active } else { close }
}
