//! `[scoring.NAME]`: what counts in the choice between regions.

use policy::score::Weights;

use super::names::Names;
use crate::field::{Field, Section};

/// Returns the scorings in the order of their names: the built-in ones, and those declared, which may replace a
/// built-in one.
pub(super) fn scorings(root: &Section<'_>, names: &Names<'_>) -> Vec<(String, Weights)> {
    let declared = root.field("scoring").and_then(|field| field.open_section());
    let weights = |name: &str| match declared.as_ref().and_then(|section| section.field(name)) {
        Some(field) => weights(&field),
        None => Weights::built_in(name),
    };
    names.scorings.iter().filter_map(|name| Some((name.to_owned(), weights(name)?))).collect()
}

fn weights(field: &Field<'_>) -> Option<Weights> {
    let section = field.section(&["latency", "load", "compliance", "cost"])?;
    let weight = |key| match section.field(key) {
        Some(field) => field.number(0.0..=1e6),
        None => Some(0.0),
    };
    // All four are read, and so checked, before one of them can return early.
    let (latency, load, compliance, cost) = (weight("latency"), weight("load"), weight("compliance"), weight("cost"));
    let weights = Weights { latency: latency?, load: load?, compliance: compliance?, cost: cost? };
    if !weights.is_usable() {
        field.error("no weight is above zero: give at least one of latency, load, compliance, cost".to_owned());
    }
    Some(weights)
}
