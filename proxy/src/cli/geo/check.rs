//! `meridian geo check`

use std::path::PathBuf;

use super::disagreement::Disagreement;
use super::surveyed::Options;
use super::{Failed, words};

/// Check geo databases.
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// The databases, the best first, as in the node's `geoip.databases`
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    options: Options,
}

impl Check {
    pub(super) fn execute(self) -> Result<(), Failed> {
        // Each as a source of its own, and last all of them as one.
        let each_and_all = |count| (0..count).map(|database| vec![database]).chain([(0..count).collect()]).collect();
        let surveyed = self.options.survey(&self.files, each_and_all)?;
        self.options.print(&Disagreement::of(&surveyed), words::disagreement)
    }
}
