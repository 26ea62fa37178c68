//! Parses the flags by which `explain` and `replay` assume another state of the regions.

use anyhow::anyhow;
use policy::{RegionId, Table};

/// Returns the region of a name.
///
/// # Errors
/// When there is none, with the nearest name or all names.
pub(super) fn region(table: &Table, name: &str) -> anyhow::Result<RegionId> {
    table.region_named(name).ok_or_else(|| {
        let known: Vec<&str> = table.regions().map(|(_, region)| region.name.as_str()).collect();
        let hint = config::nearest(name, known.iter().copied()).map(|near| format!("; did you mean {near:?}?"));
        let hint = hint.unwrap_or_else(|| format!("; there are {}", known.join(", ")));
        anyhow!("the table has no region {name:?}{hint}")
    })
}

/// Parses a region's name and a number, as in `REGION=0.9`.
///
/// # Errors
/// When the text is not of that form, or the number is negative.
pub(super) fn assignment<'a>(text: &'a str, flag: &str, form: &str) -> anyhow::Result<(&'a str, f32)> {
    let parsed = text.split_once('=').and_then(|(name, value)| Some((name, value.parse::<f32>().ok()?)));
    parsed
        .filter(|(_, value)| value.is_finite() && *value >= 0.0)
        .ok_or_else(|| anyhow!("{flag} {text:?} is not of the form {form}"))
}
