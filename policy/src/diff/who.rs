//! Whom a change is for: groups of countries by the names that the tables have for them.

use serde::Serialize;

use crate::country::{Country, CountrySet};
use crate::table::TableSpec;

/// Whom a change is for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Who {
    /// Whether it is for every country and every client whose country is unknown.
    pub everybody: bool,
    /// Groups of the countries by name, the largest first.
    pub groups: Vec<Group>,
    /// The countries that no such group holds.
    pub others: Vec<Country>,
    /// Every country.
    pub countries: Vec<Country>,
    /// Clients whose country is unknown.
    pub unknown: bool,
    /// Tenants that a trusted proxy declares under these jurisdictions.
    pub declared: Vec<String>,
}

/// A group of countries that has a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// The jurisdiction or super-region; empty for [`GroupKind::Unlisted`].
    pub name: String,
    /// What kind of group it is.
    pub kind: GroupKind,
    /// How many countries it has.
    pub countries: usize,
}

/// What kind of group has the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupKind {
    /// A jurisdiction.
    Jurisdiction,
    /// A super-region.
    SuperRegion,
    /// The countries that no jurisdiction lists.
    Unlisted,
    /// Those of a super-region that no jurisdiction lists.
    UnlistedInSuperRegion,
}

/// The groups that two tables have names for.
pub(super) struct Names {
    /// By kind, the largest first in each.
    groups: Vec<(Group, CountrySet)>,
}

impl Names {
    /// Makes the new table's names, and those of the old one that the new one no longer has.
    pub(super) fn new(old: &TableSpec, new: &TableSpec) -> Self {
        let mut groups: Vec<(Group, CountrySet)> = Vec::new();
        let mut add = |name: &str, kind: GroupKind, set: CountrySet| {
            let known = groups.iter().any(|(group, _)| group.kind == kind && group.name == name);
            if !known && !set.is_empty() {
                groups.push((Group { name: name.to_owned(), kind, countries: set.iter().count() }, set));
            }
        };
        for spec in [new, old] {
            for jurisdiction in &spec.jurisdictions {
                add(&jurisdiction.name, GroupKind::Jurisdiction, *jurisdiction.countries.so_far());
            }
            let listed = |country: &Country| spec.jurisdictions.iter().any(|j| j.countries.so_far().contains(*country));
            let unlisted: Vec<Country> = Country::all().filter(|country| !listed(country)).collect();
            add("", GroupKind::Unlisted, unlisted.iter().copied().collect());
            for around in &spec.super_regions {
                add(&around.name, GroupKind::SuperRegion, around.countries);
                let within = unlisted.iter().copied().filter(|country| around.countries.contains(*country));
                add(&around.name, GroupKind::UnlistedInSuperRegion, within.collect());
            }
        }
        let rank = |kind: GroupKind| match kind {
            GroupKind::Jurisdiction => 0,
            GroupKind::Unlisted => 1,
            GroupKind::SuperRegion => 2,
            GroupKind::UnlistedInSuperRegion => 3,
        };
        groups.sort_by_key(|(group, _)| (rank(group.kind), std::cmp::Reverse(group.countries)));
        Self { groups }
    }

    /// These countries and the others, in the fewest words.
    pub(super) fn who(&self, countries: &CountrySet, unknown: bool, declared: Vec<String>) -> Who {
        let everybody = unknown && Country::all().all(|country| countries.contains(country));
        let mut rest: Vec<Country> = countries.iter().collect();
        let mut groups = Vec::new();
        for (group, set) in self.groups.iter().filter(|_| !everybody) {
            if set.iter().all(|country| countries.contains(country))
                && rest.iter().any(|country| set.contains(*country))
            {
                rest.retain(|country| !set.contains(*country));
                groups.push(group.clone());
            }
        }
        if everybody {
            rest.clear();
        }
        Who { everybody, groups, others: rest, countries: countries.iter().collect(), unknown, declared }
    }
}
