//! `meridian publish`

use std::path::PathBuf;

use anyhow::anyhow;

use super::Failed;
use super::bus::connection::with_bus;
use super::bus::outcome::Outcome;
use super::bus::release::{Proposal, Release};
use super::bus::{Console, Flags};

/// Publish a routing table.
#[derive(Debug, clap::Args)]
pub(super) struct Publish {
    /// The routing table
    #[arg(value_name = "TABLE")]
    table: PathBuf,
    #[command(flatten)]
    release: Release,
    #[command(flatten)]
    bus: Flags,
}

impl Publish {
    pub(super) fn execute(self) -> Result<(), Failed> {
        let mut console = Console::new(self.release.format);
        let mut outcome = Outcome::default();
        let done = self.perform(&mut outcome, &mut console);
        outcome.finish(done, &console)
    }

    fn perform(&self, outcome: &mut Outcome, console: &mut Console) -> Result<(), Failed> {
        let name = self.table.display().to_string();
        let text = std::fs::read(&self.table).map_err(|error| Failed::Input(anyhow!("{name}: {error}")))?;
        // A file that is not UTF-8 is reported when the proposal is read.
        let text = match std::str::from_utf8(&text) {
            Ok(text) => config::RoutingTable::text_to_publish(&self.table, text).into(),
            Err(_) => text.into(),
        };
        let proposal = Proposal::new(text, &name, None)?;
        with_bus(&self.bus, async |bus, source| self.release.perform(&bus, &source, &proposal, outcome, console).await)
    }
}
