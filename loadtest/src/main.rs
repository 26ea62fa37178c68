//! The command line: `loadtest http`, `loadtest origin`, `loadtest mmdb`.
//!
//! Exit codes: 0 good; 1 it ran and failed; 2 the arguments are bad. Errors go to stderr.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    cli::Cli::parse().run()
}
