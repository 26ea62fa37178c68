//! The command line: a file for each command.

mod bus;
mod check;
mod countries;
mod explain;
mod fleet;
mod geo;
mod groups;
mod heartbeat;
mod history;
mod publish;
mod replay;
mod rollback;
mod run;
mod what_if;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use config::Problems;

use crate::serve::LAST_LINES;
use crate::telemetry::log::{finish, write_raw};

/// An edge proxy that decides, for each request, which region may and which should serve it.
#[derive(Debug, Parser)]
#[command(name = "meridian", version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one")]
enum Command {
    /// Run a node until SIGTERM (drain, then exit 0) or SIGINT
    Run(run::Run),
    /// Check node files and routing tables: every problem at once, with line and place; and what changes
    /// for whom since another table
    Check(check::Check),
    /// Explain how one request would be decided, and why
    Explain(explain::Explain),
    /// List the built-in groups of countries, such as @EU: their members, and who says so
    Groups(groups::Groups),
    /// Decide an access log again with another table: what would move, be refused, or go elsewhere
    Replay(replay::Replay),
    /// Check and compare geo databases: what they know, where they disagree, and what changes for whom
    Geo(geo::Geo),
    /// Publish a routing table to the fleet: proved, compared, and tried on some nodes first if you like
    Publish(publish::Publish),
    /// Withdraw the staged routing table, or publish an earlier one again
    Rollback(rollback::Rollback),
    /// List the routing tables that were published
    History(history::History),
    /// Sign at intervals that the newest routing table is still the newest, as nodes with trusted_keys need
    Heartbeat(heartbeat::Heartbeat),
    /// Show the nodes: which routing table each has, and since when
    Fleet(fleet::Fleet),
    /// Show it at work, with nothing but this binary: regions dying and coming back on loopback
    #[cfg(feature = "demo")]
    Demo(demo::Demo),
}

/// The format of a command's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Why a command fails, which sets its exit code.
#[derive(Debug)]
enum Failed {
    /// The command ran, and failed: exit code 1.
    Ran(anyhow::Error),
    /// The input is bad: exit code 2.
    Input(anyhow::Error),
}

impl Failed {
    /// Returns the error of either kind.
    fn error(&self) -> &anyhow::Error {
        match self {
            Failed::Ran(error) | Failed::Input(error) => error,
        }
    }
}

impl From<Problems> for Failed {
    fn from(problems: Problems) -> Self {
        Failed::Input(problems.into())
    }
}

#[cfg(feature = "demo")]
impl From<demo::Failed> for Failed {
    fn from(failed: demo::Failed) -> Self {
        match failed {
            demo::Failed::Ran(error) => Failed::Ran(error),
            demo::Failed::Input(error) => Failed::Input(error),
        }
    }
}

/// Runs the command that the arguments name. Exit codes: 0 good, 1 it ran and failed, 2 the input
/// (arguments, file, table) is bad.
pub fn main() -> ExitCode {
    // clap prints its own errors, with the nearest valid name, and exits with 2.
    let done = match Arguments::parse().command {
        Command::Run(run) => run.execute(),
        Command::Check(check) => check.execute(),
        Command::Explain(explain) => explain.execute(),
        Command::Groups(groups) => groups.execute(),
        Command::Replay(replay) => replay.execute(),
        Command::Geo(geo) => geo.execute(),
        Command::Publish(publish) => publish.execute(),
        Command::Rollback(rollback) => rollback.execute(),
        Command::History(history) => history.execute(),
        Command::Heartbeat(heartbeat) => heartbeat.execute(),
        Command::Fleet(fleet) => fleet.execute(),
        #[cfg(feature = "demo")]
        Command::Demo(demo) => demo.execute().map_err(Failed::from),
    };
    let code = match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::Ran(error)) => {
            write_raw(&format!("meridian: {error:#}\n"));
            ExitCode::from(1)
        }
        Err(Failed::Input(error)) => {
            write_raw(&format!("{error:#}\n"));
            ExitCode::from(2)
        }
    };
    // The log's last lines are written, if their reader takes them.
    finish(LAST_LINES);
    code
}

/// Prints text to stdout; a reader that has gone away (`| head`) is no failure.
fn print(text: &str) {
    use std::io::Write;
    if std::io::stdout().write_all(text.as_bytes()).is_err() {
        std::process::exit(0);
    }
}
