//! `[drain]`: how the node drains.

use std::time::Duration;

use super::Drain;
use crate::field::Section;

/// Returns the settings, each with its default.
pub(super) fn drain(root: &Section<'_>) -> Drain {
    let section = root.field("drain").and_then(|field| field.section(&["announce"]));
    let announce = section.and_then(|section| section.field("announce")).and_then(|field| field.duration_or_zero());
    Drain { announce: announce.unwrap_or(ANNOUNCE) }
}

/// The default of `announce`: enough for a balancer that probes each second or two and acts on the second or third
/// answer.
const ANNOUNCE: Duration = Duration::from_secs(5);
