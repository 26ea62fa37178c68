//! What dates change by themselves, and what two tables make of them.

use serde::Serialize;

use super::DiffError;
use super::law::{self, LawChange};
use super::space::{self, Pair};
use crate::moment::Moment;
use crate::table::Table;

/// Where requests may go from a date on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dated {
    /// From then on.
    pub at: Moment,
    /// What differs, the widenings first.
    pub law: Vec<LawChange>,
}

/// Returns what the dates of one table change by themselves from the time of its law on, up to and with `until`:
/// each date on which somebody gains or loses regions.
///
/// # Errors
/// None for a table that can be compared with itself.
pub fn horizon(table: &Table, until: Moment) -> Result<Vec<Dated>, DiffError> {
    let mut changes = Vec::new();
    let mut before = table.clone();
    let now = table.spec().at.latest();
    let boundaries = table.spec().boundaries().into_iter().filter(|moment| now < *moment && *moment <= until);
    for at in boundaries.take(MOST_DATES) {
        let Ok(after) = table.at(at.into()) else { continue };
        let law = law::changes(&before, &after, &space::pairs(&before, &after).list)?;
        if !law.is_empty() {
            changes.push(Dated { at, law });
        }
        before = after;
    }
    Ok(changes)
}

/// Returns the differences of two tables from each later date on, where they are others than before; `now` are
/// today's.
pub(super) fn later(old: &Table, new: &Table, pairs: &[Pair], now: &[LawChange]) -> Result<Vec<Dated>, DiffError> {
    let mut boundaries = [old.spec().boundaries(), new.spec().boundaries()].concat();
    boundaries.retain(|moment| !new.spec().at.may_have_reached(*moment));
    boundaries.sort_unstable();
    boundaries.dedup();
    let mut known = now.to_vec();
    let mut later = Vec::new();
    for at in boundaries.into_iter().take(MOST_COMPARED) {
        let (Ok(before), Ok(after)) = (old.at(at.into()), new.at(at.into())) else { continue };
        let law = law::changes(&before, &after, pairs)?;
        if law != known {
            later.push(Dated { at, law: law.clone() });
            known = law;
        }
    }
    Ok(later)
}

/// More dates than a law has in the years that anybody looks ahead.
const MOST_DATES: usize = 1000;

/// A comparison of the largest tables takes a second.
const MOST_COMPARED: usize = 32;
