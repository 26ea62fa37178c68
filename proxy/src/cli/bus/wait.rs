//! Following the nodes' reports until a table has come to where it is to be.

use std::time::{Duration, Instant, SystemTime};

use config::bus::{BURIED_AFTER, Bus, BusError, Place};

use super::arrival::{Arrival, Goal};
use super::console::Console;
use super::scene::{Published, Reports, is_silent};

/// What became of a wait.
#[derive(Clone, Debug)]
pub(super) struct Waited {
    /// How far it was at the end.
    pub(super) arrival: Arrival,
    /// How long that took.
    pub(super) took: Duration,
}

/// Waits until every node has decided, or the time is up. A node that refuses a staged table ends the
/// wait at once. `what` starts each line of progress.
///
/// # Errors
/// When the bus does not answer at the end.
pub(super) async fn wait(
    bus: &Bus,
    goal: &Goal,
    what: &str,
    patience: Duration,
    console: &mut Console,
) -> Result<Waited, BusError> {
    let started = Instant::now();
    let mut goal = goal.clone();
    loop {
        let is_last = started.elapsed() >= patience;
        match look(bus, &mut goal).await {
            Ok(reports) => {
                let arrival = Arrival::of(&goal, &reports);
                if arrival.nodes() > 0 {
                    console.progress(&format!("{what}: {arrival}"));
                }
                let is_refused = matches!(goal, Goal::Staged(..)) && !arrival.rejected.is_empty();
                if is_last || is_refused || arrival.is_complete() {
                    return Ok(Waited { arrival, took: started.elapsed() });
                }
            }
            Err(error) if is_last => return Err(error),
            Err(error) => console.progress(&format!("{what}: {error}; it goes on once the bus answers")),
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The reports of now. Where a node has a later table, the goal learns whether that is the live one.
async fn look(bus: &Bus, goal: &mut Goal) -> Result<Reports, BusError> {
    let mut reports = bus.reports_within(BURIED_AFTER).await?;
    let now = SystemTime::now();
    reports.retain(|(report, heard)| goal.waits_for(&report.node) || !is_silent(*heard, now));
    if goal.is_behind(&reports)
        && let (Goal::Live { newest, .. }, Some(live)) = (goal, bus.live(Place::Table).await?.and_then(Published::of))
    {
        *newest = live.mark().max(*newest);
    }
    Ok(reports)
}

const POLL: Duration = Duration::from_millis(250);
