//! `meridian geo`: geo databases as releases.

mod amount;
mod check;
mod compare;
mod disagreement;
mod flows;
mod logged;
mod movement;
mod progress;
mod sources;
mod surveyed;
mod words;

use anyhow::anyhow;

use super::{Failed, Format, print};

/// Check and compare geo databases.
#[derive(Debug, clap::Args)]
pub(super) struct Geo {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show what geo databases know, where they disagree, and what that costs under a routing table
    Check(check::Check),
    /// Show what changes from one geo database to another: which countries, and for whom under a routing table
    Compare(compare::Compare),
}

impl Geo {
    pub(super) fn execute(self) -> Result<(), Failed> {
        match self.command {
            Command::Check(check) => check.execute(),
            Command::Compare(compare) => compare.execute(),
        }
    }
}

fn input(why: &str) -> Failed {
    Failed::Input(anyhow!("meridian geo: {why}"))
}

/// Parses a share such as `2%`, for clap.
fn share(text: &str) -> Result<f64, String> {
    config::share(text).ok_or_else(|| format!("{text:?} is not a share such as \"2%\", from 0% to 100%"))
}
