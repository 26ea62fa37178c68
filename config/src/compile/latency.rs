//! `[latency_ms.FROM]`: round trips between regions, before any is measured.

use policy::RegionId;

use super::names::Names;
use crate::field::Section;

/// Reads the round trips: (from, to, milliseconds), each pair once.
pub(super) fn latencies(root: &Section<'_>, names: &Names<'_>) -> Vec<(RegionId, RegionId, f64)> {
    let Some(section) = root.field("latency_ms").and_then(|field| field.open_section()) else { return Vec::new() };
    let mut latencies = Vec::new();
    for from_field in section.fields() {
        let from = names.regions.resolve_key(&from_field);
        let Some(section) = from_field.open_section() else { continue };
        for to_field in section.fields() {
            let to = names.regions.resolve_key(&to_field);
            let ms = to_field.number(0.0..=60_000.0);
            latencies.extend(from.zip(to).zip(ms).map(|((from, to), ms)| (from, to, ms)));
        }
    }
    latencies
}
