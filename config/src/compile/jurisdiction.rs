//! `[jurisdictions.NAME]` and `[super_regions.NAME]`: named sets of countries.

use policy::jurisdiction::{Jurisdiction, SuperRegion};

use super::countries::{countries, dated_countries};
use super::names::Names;
use crate::field::{Field, Section};

/// Returns the jurisdictions in the order of their names.
pub(super) fn jurisdictions(root: &Section<'_>, names: &Names<'_>) -> Vec<Jurisdiction> {
    let sets = country_sets(root, "jurisdictions", |list| dated_countries(list, &names.lists)).into_iter();
    sets.map(|(name, countries)| Jurisdiction { name, countries }).collect()
}

/// Returns the super-regions in the order of their names.
pub(super) fn super_regions(root: &Section<'_>) -> Vec<SuperRegion> {
    let sets = country_sets(root, "super_regions", countries).into_iter();
    sets.map(|(name, countries)| SuperRegion { name, countries }).collect()
}

fn country_sets<Set>(root: &Section<'_>, key: &str, read: impl Fn(&Field<'_>) -> Option<Set>) -> Vec<(String, Set)> {
    let Some(section) = root.field(key).and_then(|field| field.open_section()) else { return Vec::new() };
    let set = |field: Field<'_>| {
        let list =
            field.section(&["countries"])?.required("countries", "say which: countries = [\"DE\", \"@EFTA\"]")?;
        Some((field.key().to_owned(), read(&list)?))
    };
    section.fields().filter_map(set).collect()
}
