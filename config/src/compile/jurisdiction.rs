//! `[jurisdictions.NAME]` and `[super_regions.NAME]`: named sets of countries.

use policy::CountrySet;
use policy::jurisdiction::{Jurisdiction, SuperRegion};

use super::countries::countries;
use crate::field::Field;
use crate::section::Section;

/// The jurisdictions in the order of their names.
pub(super) fn jurisdictions(root: &Section<'_>) -> Vec<Jurisdiction> {
    let sets = country_sets(root, "jurisdictions").into_iter();
    sets.map(|(name, countries)| Jurisdiction { name, countries }).collect()
}

/// The super-regions in the order of their names.
pub(super) fn super_regions(root: &Section<'_>) -> Vec<SuperRegion> {
    let sets = country_sets(root, "super_regions").into_iter();
    sets.map(|(name, countries)| SuperRegion { name, countries }).collect()
}

fn country_sets(root: &Section<'_>, key: &str) -> Vec<(String, CountrySet)> {
    let Some(section) = root.field(key).and_then(|field| field.open_section()) else { return Vec::new() };
    let set = |field: Field<'_>| {
        let list =
            field.section(&["countries"])?.required("countries", "say which: countries = [\"DE\", \"@EFTA\"]")?;
        Some((field.key().to_owned(), countries(&list)?))
    };
    section.fields().filter_map(set).collect()
}
