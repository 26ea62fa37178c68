//! What the loss of each region would make of the others, for people and programs.

use policy::capacity::{Loss, losses};
use policy::region::AdminState;
use policy::{RegionId, Table};
use serde::Serialize;

use crate::routing::Routing;

/// What becomes of a region's load without it.
#[derive(Debug, Serialize)]
pub(crate) struct LossShown<'a> {
    region: &'a str,
    load_rps: f64,
    /// The share of it that is refused.
    refused: f64,
    takers: Vec<TakerShown<'a>>,
}

/// A region that takes a part of it.
#[derive(Debug, Serialize)]
struct TakerShown<'a> {
    region: &'a str,
    /// Its part.
    share: f64,
    /// The share of its capacity in use then; null where that is not known.
    utilisation: Option<f64>,
}

/// Returns what the loss of each region would cost by this node's view and the load that it knows of: the fleet's,
/// as far as it is reported.
pub(crate) fn losses_now(routing: &Routing) -> Vec<LossShown<'_>> {
    let utilisation = |id: RegionId| f64::from(routing.region(id).fleet_load());
    shown(routing.table(), &losses(routing.table(), routing, utilisation))
}

/// Returns the regions that serve and have no `capacity_rps`: of their loss nothing is told, nor how full they would be
/// without another.
pub(crate) fn unmeasured(table: &Table) -> Vec<&str> {
    let serving = table.regions().filter(|(_, region)| region.state == AdminState::Serving);
    serving.filter(|(_, region)| region.capacity_rps.is_none()).map(|(_, region)| region.name.as_str()).collect()
}

/// Returns losses with the names of their regions, and figures of a sample's precision.
pub(crate) fn shown<'a>(table: &'a Table, losses: &[Loss]) -> Vec<LossShown<'a>> {
    let name = |id: RegionId| table.region(id).name.as_str();
    let rounded = |share: f64| (share * 1000.0).round() / 1000.0;
    let loss = |loss: &Loss| LossShown {
        region: name(loss.region),
        load_rps: loss.load_rps.round(),
        refused: rounded(loss.refused),
        takers: loss
            .takers
            .iter()
            .map(|taker| TakerShown {
                region: name(taker.region),
                share: rounded(taker.share),
                utilisation: taker.utilisation.map(rounded),
            })
            .collect(),
    };
    losses.iter().map(loss).collect()
}
