//! `meridian run`

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use super::Failed;
use crate::clock::LawClock;
use crate::prepare::LoadedNode;
use crate::reload::Watches;
use crate::serve::{LAST_LINES, RunOptions, run};
use crate::telemetry::log::{LogFormat, finish, start};

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
    /// End when stdin does: with the process that holds the pipe's other end
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

impl Run {
    pub(super) fn execute(self) -> Result<(), Failed> {
        let watches = Watches::of(&self.config)?;
        let law = Arc::new(LawClock::start());
        let loaded = LoadedNode::load(&self.config, law.now())?;
        start(self.log_format).map_err(|error| Failed::Ran(error.into()))?;
        if self.until_stdin_ends {
            end_with_stdin().map_err(|error| Failed::Ran(error.into()))?;
        }
        run(loaded, watches, law, RunOptions { access_log: !self.no_access_log }).map_err(Failed::Ran)
    }
}

/// Starts a thread that ends the process at once when stdin ends.
fn end_with_stdin() -> std::io::Result<()> {
    let wait = || {
        while std::io::stdin().read(&mut [0]).is_ok_and(|bytes| bytes > 0) {}
        finish(LAST_LINES);
        std::process::exit(0);
    };
    std::thread::Builder::new().name("stdin".into()).spawn(wait).map(drop)
}
