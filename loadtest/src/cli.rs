//! The commands, a file for each.

mod arguments;
mod clients;
mod http;
mod job;
mod mmdb;
mod origin;
mod signal;
mod simulate;
mod target;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// An open-loop HTTP(S) load generator with honest latencies.
#[derive(Parser)]
#[command(name = "loadtest", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Send requests at a fixed rate and report.
    Http(Box<arguments::Args>),
    /// Serve a fixed answer, for a proxy under test to forward to.
    Origin(origin::Args),
    /// Write a GeoIP country database with made-up networks, and list them as NETWORK,COUNTRY.
    Mmdb(mmdb::Args),
    /// Simulate a fleet in virtual time: is it stable, how fast does it settle, who is spilled and shed?
    Simulate(simulate::Args),
}

impl Cli {
    pub(crate) fn run(self) -> ExitCode {
        match self.command {
            Command::Http(args) => http::run(*args),
            Command::Origin(args) => origin::run(args),
            Command::Mmdb(args) => mmdb::run(&args),
            Command::Simulate(args) => simulate::run(&args),
        }
    }
}

/// Returns the exit code of a command that ran, after saying what went wrong, if anything.
fn ended(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("loadtest: {error:#}");
        ExitCode::FAILURE
    })
}

/// Returns the exit code for arguments that make no sense: 2, as clap itself exits.
fn bad_arguments(error: &anyhow::Error) -> ExitCode {
    eprintln!("loadtest: {error:#}");
    ExitCode::from(2)
}
