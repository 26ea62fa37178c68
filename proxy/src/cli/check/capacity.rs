//! Which regions could not carry what another's loss would bring them.

use policy::capacity::{ASSUMED_UTILISATION, Loss, losses_at_rest};
use policy::pressure::OVERLOAD_MARK;
use policy::{RegionId, Table};

use crate::capacity::shown;

/// Returns a line for each region whose loss would take others past the overload mark, after one that says what is
/// assumed; nothing where there is none.
pub(super) fn in_words(table: &Table) -> String {
    let lines: Vec<String> =
        losses_at_rest(table).iter().filter_map(|loss| line(table, loss)).map(|line| format!("    {line}\n")).collect();
    if lines.is_empty() {
        return String::new();
    }
    format!(
        "  overload past {:.0} % after a loss, if each region that takes clients carries {:.0} % of its capacity_rps, all \
         of it for its own jurisdictions:\n{}",
        OVERLOAD_MARK * 100.0,
        ASSUMED_UTILISATION * 100.0,
        lines.concat()
    )
}

/// Returns the losses of all regions.
pub(super) fn as_json(table: &Table) -> serde_json::Value {
    serde_json::json!({
        "assumed_utilisation": ASSUMED_UTILISATION,
        "losses": shown(table, &losses_at_rest(table)),
    })
}

fn line(table: &Table, loss: &Loss) -> Option<String> {
    let name = |id: RegionId| table.region(id).name.as_str();
    let full = loss.takers.iter().filter_map(|taker| {
        let utilisation = taker.utilisation.filter(|utilisation| *utilisation > f64::from(OVERLOAD_MARK))?;
        Some(format!("{} would be at {:.0} %", name(taker.region), utilisation * 100.0))
    });
    let full: Vec<String> = full.collect();
    (!full.is_empty()).then(|| format!("if {} is lost, {}", name(loss.region), full.join(", ")))
}
