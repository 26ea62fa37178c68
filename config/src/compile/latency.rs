//! `[latency_ms.FROM]`: round trips between regions, before any is measured; `[latency_sla_ms.FROM]`: what they are to be
//! at most; `[latency]`: how they are measured.

use std::time::Duration;

use policy::RegionId;

use super::names::Names;
use crate::field::Section;

/// Reads the round trips under a key: (from, to, milliseconds), each pair once.
pub(super) fn latencies(root: &Section<'_>, key: &str, names: &Names<'_>) -> Vec<(RegionId, RegionId, f64)> {
    let Some(section) = root.field(key).and_then(|field| field.open_section()) else { return Vec::new() };
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

/// Reads for how long a measured round trip counts; zero when none is to be measured.
pub(super) fn window(root: &Section<'_>) -> Duration {
    let section = root.field("latency").and_then(|field| field.section(&["window"]));
    let Some(field) = section.and_then(|section| section.field("window")) else { return DEFAULT_WINDOW };
    let window = field.duration_or_zero().unwrap_or(DEFAULT_WINDOW);
    if window != Duration::ZERO && !(SHORTEST_WINDOW..=LONGEST_WINDOW).contains(&window) {
        field.error("out of range: a window is 5s to 1h, or 0s, which leaves latency_ms alone".to_owned());
    }
    window
}

/// Long enough for several probes of each endpoint, and short enough to follow a change of the path.
const DEFAULT_WINDOW: Duration = Duration::from_secs(60);
/// Every endpoint is probed twice in a window.
const SHORTEST_WINDOW: Duration = Duration::from_secs(5);
const LONGEST_WINDOW: Duration = Duration::from_secs(3600);
