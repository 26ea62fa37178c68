//! `loadtest simulate`: a fleet in virtual time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use loadtest::simulate::{
    KNOBS, Knob, Measures, SCENARIOS, Scenario, Size, Sweep, Tuning, simulate, svg, sweep_svg, sweep_text, text,
};

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
    /// Run the scenarios with each of these values of one thing, `fleet-over=5,15,30` for example, and compare them;
    /// `--list` names what can be varied
    #[arg(long, value_name = "NAME=VALUES")]
    sweep: Option<String>,
    /// Write the table, in Markdown, to this file too
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// Draw each scenario, or the sweep, to a file of its name in this directory
    #[arg(long, value_name = "DIRECTORY")]
    svg: Option<PathBuf>,
    /// How to write the report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn run(args: &Args) -> ExitCode {
    if args.list {
        SCENARIOS.iter().for_each(|scenario| println!("{:<24}{}", scenario.name, scenario.what));
        println!("\nTo sweep:");
        KNOBS.iter().for_each(|knob| println!("{:<24}{}", knob.name, knob.what));
        return ExitCode::SUCCESS;
    }
    let asked = chosen(args).and_then(|chosen| Ok((chosen, args.sweep.as_deref().map(varied).transpose()?)));
    match asked {
        Ok(((scenarios, size), None)) => super::ended(report(args, &scenarios, &size)),
        Ok(((scenarios, size), Some((knob, values)))) => super::ended(compare(args, &scenarios, &size, knob, &values)),
        Err(error) => super::bad_arguments(&error),
    }
}

/// Reads what is to be varied: its name, and a tuning for each value.
fn varied(sweep: &str) -> anyhow::Result<(&'static Knob, Vec<(f64, Tuning)>)> {
    let (name, values) =
        sweep.split_once('=').with_context(|| format!("--sweep {sweep}: NAME=VALUE,VALUE… is meant"))?;
    let knob = Knob::named(name).with_context(|| {
        let known: Vec<&str> = KNOBS.iter().map(|knob| knob.name).collect();
        format!("--sweep: nothing is called {name:?}; there are {}", known.join(", "))
    })?;
    let tuning = |value: &str| {
        let number: Option<f64> = value.trim().parse().ok();
        let (least, most) = knob.bounds;
        number
            .and_then(|number| Some((number, knob.at(number)?)))
            .with_context(|| format!("--sweep: {name} can be {least} to {most}, and not {value:?}"))
    };
    Ok((knob, values.split(',').map(tuning).collect::<anyhow::Result<_>>()?))
}

/// Runs the scenarios with each value, and reports what each came to. What they promise is promised of the product as it is
/// only.
fn compare(
    args: &Args,
    scenarios: &[&Scenario],
    size: &Size,
    knob: &Knob,
    values: &[(f64, Tuning)],
) -> anyhow::Result<ExitCode> {
    let mut runs = Vec::new();
    for (value, tuning) in values {
        let run = |scenario: &&Scenario| Ok(simulate(scenario, size, tuning)?.measures);
        runs.push((*value, scenarios.iter().map(run).collect::<anyhow::Result<Vec<Measures>>>()?));
    }
    let sweep = Sweep { knob: knob.name, runs };
    if let Some(directory) = &args.svg {
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
        write(&directory.join(format!("sweep-{}.svg", knob.name)), &sweep_svg(&sweep))?;
    }
    if let Some(file) = &args.table {
        write(file, &sweep_text(&sweep))?;
    }
    match args.format {
        Format::Text => print!("{}", sweep_text(&sweep)),
        Format::Json => println!("{}", serde_json::to_string_pretty(&sweep)?),
    }
    Ok(ExitCode::SUCCESS)
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
        let outcome = simulate(scenario, size, &Tuning::default())?;
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
