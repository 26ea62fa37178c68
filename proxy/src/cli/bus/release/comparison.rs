//! What a table changes, for whoever publishes it.

use std::path::Path;

use config::RoutingTable;

use super::{Proposal, Release, refused};
use crate::cli::Failed;
use crate::cli::bus::console::Console;
use crate::cli::bus::flags::Source;
use crate::cli::bus::guard;
use crate::cli::bus::outcome::Outcome;
use crate::cli::bus::scene::Scene;
use crate::cli::check::{against, words};

impl Release {
    /// Shows what changes, and refuses what takes too much away.
    pub(super) fn compare(
        &self,
        scene: &Scene,
        source: &Source,
        proposal: &Proposal,
        outcome: &mut Outcome,
        console: &mut Console,
    ) -> Result<(), Failed> {
        let Some(newest) = &scene.newest else {
            console.say("the first table on this bus\n");
            return Ok(());
        };
        let base = scene.held.as_ref().unwrap_or(newest);
        if scene.held.is_some() {
            console.warn(&format!(
                "no node has revision {} in force, which is live: this is compared with revision {}, which most have",
                newest.revision, base.revision
            ));
        }
        let old = format!("revision {}", base.revision);
        let table = match RoutingTable::from_afar(&old, &base.publication.text, proposal.table.table.spec().at) {
            Ok(table) => table,
            Err(problems) => {
                console.warn(&format!("{problems}\n{old} is no table, so there is nothing to compare with"));
                return Ok(());
            }
        };
        match against::diff(&table, &proposal.table) {
            Ok(diff) => {
                console.say(&words::text(&diff, Path::new(&old), Path::new(&proposal.name)));
                outcome.diff = Some(diff);
            }
            Err(error) => console.warn(&format!("what changes since {old} is not known: {error}")),
        }
        let max_shrink = self.max_shrink.unwrap_or(source.max_shrink);
        let shrunk = guard::shrunk(&table, &proposal.table, max_shrink, &self.allowed());
        if shrunk.is_empty() {
            return Ok(());
        }
        let words = guard::too_small(&shrunk, max_shrink);
        outcome.shrinkage = shrunk;
        Err(refused(words))
    }
}
