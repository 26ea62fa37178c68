//! `loadtest http`: send requests at a fixed rate and report.

use std::process::ExitCode;

use anyhow::Context as _;
use loadtest::{Report, run_until};

use super::arguments::{Args, Format};
use super::job::Job;
use super::signal;

pub(super) fn run(args: Args) -> ExitCode {
    let (format, fail_on_error) = (args.format, args.fail_on_error);
    match Job::try_from(args) {
        Ok(job) => super::ended(send(job, format, fail_on_error)),
        Err(error) => super::bad_arguments(&error),
    }
}

fn send(job: Job, format: Format, fail_on_error: bool) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    let Job { plan, request } = job;
    let report = runtime.block_on(run_until(&plan, signal::stop(), request, |_| {}))?;
    match format {
        Format::Text => print!("{report}"),
        Format::Json => println!("{}", serde_json::to_string_pretty(&report)?),
    }
    Ok(if fail_on_error && has_errors(&report) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn has_errors(report: &Report) -> bool {
    report.failed > 0 || report.server_errors() > 0
}
