//! The outcome of a publication: the one JSON document of `--format json`.

use anyhow::anyhow;
use policy::diff::Diff;
use policy::shrinkage::Shrinkage;
use serde::Serialize;

use super::arrival::Arrival;
use super::canary::Objection;
use super::console::Console;
use crate::cli::{Failed, Format, print};

/// The outcome of a command that publishes, filled in as it goes.
#[derive(Debug, Default, Serialize)]
pub(in crate::cli) struct Outcome {
    pub(in crate::cli) outcome: Fate,
    /// Why the command fails, if it does.
    pub(super) error: Option<String>,
    /// The table's version.
    pub(super) version: Option<String>,
    /// The hash of its text, in hexadecimal.
    pub(super) sha256: Option<String>,
    pub(super) epoch: Option<u64>,
    /// The revision that it has on the bus.
    pub(super) revision: Option<u64>,
    /// When it was signed or written, and until when it may be used, UTC.
    pub(super) issued: Option<String>,
    pub(super) valid_until: Option<String>,
    /// Warnings about the bus.
    pub(super) warnings: Vec<String>,
    /// The revision that was live before; 0 for none.
    pub(super) after: Option<u64>,
    pub(super) diff: Option<Diff>,
    /// The capacity that the table takes away past the limit, without an override.
    pub(super) shrinkage: Vec<Shrinkage>,
    /// The nodes on which the table was staged.
    pub(super) canary: Vec<String>,
    /// Why the staged table was withdrawn.
    pub(super) objections: Vec<Objection>,
    /// Which nodes have taken it.
    pub(super) nodes: Option<Arrival>,
    /// How long the nodes took.
    pub(super) took_ms: Option<u64>,
}

/// What is on the bus after the command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::cli) enum Fate {
    /// What was there before.
    #[default]
    NotPublished,
    /// What was there before, which is the same table.
    Unchanged,
    /// The new table.
    Published,
    /// What was there before; some nodes had the staged table for a while, or have it until its lease ends.
    Withdrawn,
    /// Unknown: the bus fell silent during the write.
    Unknown,
}

impl Outcome {
    /// Ends a command; in JSON, prints the whole outcome, of a failure, too.
    ///
    /// # Errors
    /// Those of the command.
    pub(in crate::cli) fn finish(mut self, done: Result<(), Failed>, console: &Console) -> Result<(), Failed> {
        if console.format() == Format::Text {
            return done;
        }
        if let Err(failed) = &done {
            self.error = Some(format!("{:#}", failed.error()));
        }
        let json = serde_json::to_string_pretty(&self).map_err(|error| Failed::Ran(error.into()))?;
        print(&format!("{json}\n"));
        done
    }
}

/// Adds a warning, on the console and in the outcome.
pub(super) fn warn(what: String, outcome: &mut Outcome, console: &mut Console) {
    console.warn(&format!("warning: {what}"));
    outcome.warnings.push(what);
}

/// Returns the failure of a command that was tried and refused.
pub(super) fn refused(why: String) -> Failed {
    Failed::Ran(anyhow!(why))
}
