//! `meridian run`

use std::path::PathBuf;
use std::sync::Arc;

use super::Failed;
use crate::clock::LawClock;
use crate::prepare::LoadedNode;
use crate::reload::Watches;
use crate::serve::{RunOptions, run};
use crate::telemetry::log::{LogFormat, start};

/// Run a node.
#[derive(Debug, clap::Args)]
pub(super) struct Run {
    /// The node file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Do not log requests to stdout
    #[arg(long)]
    no_access_log: bool,
    /// How the node's own log on stderr is written
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

impl Run {
    pub(super) fn execute(self) -> Result<(), Failed> {
        let watches = Watches::of(&self.config)?;
        let law = Arc::new(LawClock::start());
        let loaded = LoadedNode::load(&self.config, law.now())?;
        start(self.log_format);
        run(loaded, watches, law, RunOptions { access_log: !self.no_access_log }).map_err(Failed::Ran)
    }
}
