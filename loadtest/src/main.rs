//! The command line: `loadtest http`, `loadtest origin`, `loadtest mmdb`, `loadtest simulate`.
//!
//! Exit codes: 0 good; 1 it ran and failed, or a scenario does not hold what it promises; 2 the arguments are bad. Errors go to stderr.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    cli::Cli::parse().run()
}
