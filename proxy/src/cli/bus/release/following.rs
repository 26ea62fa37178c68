//! What becomes of a table once it is published.

use std::time::SystemTime;

use config::bus::{Bus, Publication};

use super::{Release, refused};
use crate::cli::Failed;
use crate::cli::bus::arrival::{Arrival, Goal, nodes};
use crate::cli::bus::console::Console;
use crate::cli::bus::outcome::{Fate, Outcome};
use crate::cli::bus::scene::{Reports, Scene};
use crate::cli::bus::time::long;
use crate::cli::bus::wait::wait;

impl Release {
    /// Waits until every node has the table, or has refused it.
    pub(super) async fn follow(
        &self,
        bus: &Bus,
        (draft, reports): (&Publication, &Reports),
        revision: u64,
        outcome: &mut Outcome,
        console: &mut Console,
    ) -> Result<(), Failed> {
        outcome.revision = Some(revision);
        let what = format!("revision {revision}");
        if self.no_wait {
            console.say(&format!("{what} is published; `meridian fleet` tells who has it\n"));
            return Ok(());
        }
        let mark = (draft.epoch, revision);
        let reporting = reports.iter().map(|(report, _)| report.node.clone()).collect();
        let waited = wait(bus, &Goal::Live { nodes: reporting, mark, newest: mark }, &what, self.wait, console).await;
        let waited =
            waited.map_err(|error| refused(format!("{what} is published, and nobody knows who has it: {error}")))?;
        outcome.took_ms = Some(u64::try_from(waited.took.as_millis()).unwrap_or(u64::MAX));
        let arrival = outcome.nodes.insert(waited.arrival);
        if arrival.nodes() == 0 {
            console.say(&format!("{what} is published; no node reports to this bus yet\n"));
            return Ok(());
        }
        if arrival.is_complete() && arrival.rejected.is_empty() {
            let (all, took) = (nodes(arrival.nodes()), waited.took.as_secs_f64());
            let after = match outcome.outcome {
                Fate::Unchanged => String::new(),
                _ => format!(", {took:.1} s after it was published"),
            };
            console.say(&format!("{what} is in force on {all}{after}\n"));
            return Ok(());
        }
        if arrival.rejected.is_empty() {
            // Nodes that are ahead of this bucket will never take it.
            self.refuse_older(&Scene::read(bus).await?, draft)?;
        } else {
            console.warn(arrival.rejections().trim_end());
        }
        Err(refused(format!("{what} is published, and {}", self.lacking(arrival))))
    }

    /// Which nodes do not have it, and what to do.
    fn lacking(&self, arrival: &Arrival) -> String {
        let (rejected, late, all) = (arrival.rejected.len(), arrival.to_come.len(), nodes(arrival.nodes()));
        let rejected = (rejected > 0).then(|| format!("{rejected} of {all} reject it and stay on the table before"));
        let late = (late > 0).then(|| {
            let missing = arrival.missing(SystemTime::now());
            format!("after {} {late} of {all} have not said that they have it: {missing}", long(self.wait))
        });
        let said: Vec<String> = rejected.into_iter().chain(late).collect();
        format!(
            "{}; `meridian fleet --watch` follows them, `meridian rollback` publishes the table before again",
            said.join("; ")
        )
    }
}
