//! `loadtest simulate`: a fleet in virtual time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use loadtest::simulate::{Measures, SCENARIOS, Scenario, Size, simulate, svg, text};

use super::arguments::Format;

/// What to simulate, in which size, and how to report it.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The scenarios; `--list` names them
    #[arg(value_name = "SCENARIO", required_unless_present_any = ["all", "list"])]
    scenarios: Vec<String>,
    /// Simulate every scenario
    #[arg(long, conflicts_with = "scenarios")]
    all: bool,
    /// List the scenarios
    #[arg(long)]
    list: bool,
    /// Nodes in the fleet: at least one in each region
    #[arg(long, value_name = "N", default_value_t = 200)]
    nodes: usize,
    /// Regions
    #[arg(long, value_name = "N", default_value_t = 20)]
    regions: usize,
    /// Hours of virtual time
    #[arg(long, value_name = "HOURS", default_value_t = 1.0)]
    hours: f64,
    /// What clients, delays and losses depend on: the same seed gives the same result
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Write the table, in Markdown, to this file too
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// Draw each scenario to a file of its name in this directory
    #[arg(long, value_name = "DIRECTORY")]
    svg: Option<PathBuf>,
    /// How to write the report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn run(args: &Args) -> ExitCode {
    if args.list {
        SCENARIOS.iter().for_each(|scenario| println!("{:<24}{}", scenario.name, scenario.what));
        return ExitCode::SUCCESS;
    }
    match chosen(args) {
        Ok((scenarios, size)) => super::ended(report(args, &scenarios, &size)),
        Err(error) => super::bad_arguments(&error),
    }
}

fn chosen(args: &Args) -> anyhow::Result<(Vec<&'static Scenario>, Size)> {
    let seconds = args.hours * 3600.0;
    if !seconds.is_finite() || seconds < 0.0 {
        bail!("--hours {}: no time", args.hours);
    }
    let size = Size { nodes: args.nodes, regions: args.regions, seconds: seconds.round() as u64, seed: args.seed };
    size.check()?;
    if args.all {
        return Ok((SCENARIOS.iter().collect(), size));
    }
    let named = |name: &String| {
        Scenario::named(name).with_context(|| {
            let known: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
            format!("no scenario {name:?}; there are {}", known.join(", "))
        })
    };
    Ok((args.scenarios.iter().map(named).collect::<anyhow::Result<_>>()?, size))
}

fn report(args: &Args, scenarios: &[&Scenario], size: &Size) -> anyhow::Result<ExitCode> {
    let mut runs: Vec<Measures> = Vec::new();
    for scenario in scenarios {
        let outcome = simulate(scenario, size)?;
        if let Some(directory) = &args.svg {
            fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
            write(&directory.join(format!("{}.svg", scenario.name)), &svg(&outcome))?;
        }
        runs.push(outcome.measures);
    }
    if let Some(file) = &args.table {
        write(file, &text(&runs))?;
    }
    match args.format {
        Format::Text => print!("{}", text(&runs)),
        Format::Json => println!("{}", serde_json::to_string_pretty(&runs)?),
    }
    let all_hold = runs.iter().all(|measures| measures.broken.is_empty());
    Ok(if all_hold { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}
