//! `meridian replay`

mod era;
pub(in crate::cli) mod line;
mod rate;
mod report;
mod tally;
mod words;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use config::RoutingTable;
use policy::{Health, Moment, RegionId, RegionView, Table};

use self::era::Eras;
use self::line::{Lines, Read};
use self::report::Report;
use self::tally::Tally;
use super::what_if::{assignment, region};
use super::{Failed, Format, print};

/// Decide an access log again.
#[derive(Debug, clap::Args)]
pub(super) struct Replay {
    /// The access log, as a node writes it; `-` is stdin
    #[arg(long, value_name = "FILE")]
    log: PathBuf,
    /// The routing table to decide with
    #[arg(long, value_name = "NEW")]
    table: PathBuf,
    /// The routing table to compare with, instead of the results in the log
    #[arg(long, value_name = "OLD")]
    against: Option<PathBuf>,
    /// The region of the node that decided, for lines that do not say it
    #[arg(long, value_name = "REGION")]
    from: Option<String>,
    /// Read the laws as of that time: a date, which is 00:00 UTC, or a time with an offset; else each request is
    /// decided by the law of its own time
    #[arg(long, value_name = "WHEN")]
    at: Option<Moment>,
    /// Take a region as down in the new decisions
    #[arg(long, value_name = "REGION")]
    down: Vec<String>,
    /// Take a region as loaded in the new decisions
    #[arg(long, value_name = "REGION=0.9")]
    load: Vec<String>,
    /// Exit with 1 if any request is affected in one of these ways
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    fail_on: Vec<FailOn>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Which effects on requests fail the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum FailOn {
    /// A request may go where the old table does not let it; or was served where the new one does not.
    Widening,
    /// A request that was served is refused.
    Refused,
    /// A request is served in another region.
    Moved,
}

impl Replay {
    pub(super) fn execute(self) -> Result<(), Failed> {
        if self.fail_on.contains(&FailOn::Widening) && self.against.is_none() {
            return Err(input("--fail-on widening needs --against OLD: a log does not say what its table allowed"));
        }
        let at = self.at.unwrap_or_else(crate::clock::wall);
        let new = RoutingTable::load(&self.table, at)?;
        let old = self.against.as_deref().map(|old| RoutingTable::load(old, at)).transpose()?;
        if let Some(from) = &self.from {
            region(&new.table, from).map_err(because)?;
        }
        let era_tables = era::era_tables(&new.table, old.as_ref().map(|old| &*old.table), self.at);
        let mut eras = Eras::new(&era_tables, &self.view(&new.table)?).map_err(|error| input(&error.to_string()))?;
        let mut tally = Tally::new(eras.take_last(), &self.table);
        let mut lines = Lines::new(self.open()?);
        loop {
            match lines.next().map_err(|error| input(&format!("{}: {error}", self.log.display())))? {
                None => break,
                Some((number, Read::Unreadable(why))) => tally.unreadable(number, &why),
                Some((number, Read::Line(mut line))) => {
                    if line.from.is_none() {
                        line.from.clone_from(&self.from);
                    }
                    if line.from.is_none() && line.was_decided() {
                        let why = "does not say which region decided; name it with --from REGION";
                        return Err(input(&format!("{}: line {number} {why}", self.log.display())));
                    }
                    eras.turn(&mut tally, line.second());
                    tally.add(number, &line);
                }
            }
        }
        let report = tally.report();
        if report.lines.readable == 0 {
            let why = report.unreadable.as_ref().map_or(String::new(), |first| format!(": {first}"));
            return Err(input(&format!("{}: no line of it can be read{why}", self.log.display())));
        }
        match self.format {
            Format::Json => {
                let json = serde_json::to_string_pretty(&report).map_err(|error| Failed::Ran(error.into()))?;
                print(&format!("{json}\n"));
            }
            Format::Text => print(&words::text(&report, &self.log, &self.table, self.against.as_deref())),
        }
        self.enforce_fail_on(&report)
    }

    fn enforce_fail_on(&self, report: &Report) -> Result<(), Failed> {
        let failed = |what: &FailOn| match what {
            FailOn::Widening if report.residency.widened.requests > 0 => {
                Some((report.residency.widened.requests, "may go where the old table does not let them (widening)"))
            }
            FailOn::Widening if report.residency.forbidden.requests > 0 => {
                Some((report.residency.forbidden.requests, "were served where the new table does not let them"))
            }
            FailOn::Refused if report.refused.requests > 0 => {
                Some((report.refused.requests, "were served and are refused now"))
            }
            FailOn::Moved if report.moved.requests > 0 => Some((report.moved.requests, "are served in another region")),
            FailOn::Moved if report.without_coordinates * 2 > report.by_client => Some((
                report.without_coordinates,
                "are on routes that go by how far clients are, and have no coordinates: whether they move is unknown",
            )),
            _ => None,
        };
        let left_out = report.lines.unreadable + report.lines.undecidable;
        match self.fail_on.iter().find_map(failed) {
            None if left_out > 0 && !self.fail_on.is_empty() => {
                Err(Failed::Ran(anyhow!("replay: {left_out} line(s) could not be decided, and may hide anything")))
            }
            None => Ok(()),
            Some((requests, what)) => Err(Failed::Ran(anyhow!("replay: {requests} request(s) {what}"))),
        }
    }

    fn open(&self) -> Result<Box<dyn BufRead>, Failed> {
        if self.log == Path::new("-") {
            return Ok(Box::new(std::io::stdin().lock()));
        }
        let file = File::open(&self.log).map_err(|error| input(&format!("{}: {error}", self.log.display())))?;
        Ok(Box::new(BufReader::with_capacity(1 << 18, file)))
    }

    /// Returns the view that `--down` and `--load` describe.
    fn view(&self, table: &Table) -> Result<Vec<RegionView>, Failed> {
        let mut view = vec![RegionView::default(); table.spec().regions.len()];
        let mut change = |id: RegionId, change: &dyn Fn(&mut RegionView)| {
            view.get_mut(id.index()).into_iter().for_each(change);
        };
        for name in &self.down {
            change(region(table, name).map_err(because)?, &|seen| seen.health = Health::Down);
        }
        for text in &self.load {
            let (name, value) = assignment(text, "--load", "REGION=0.9").map_err(because)?;
            change(region(table, name).map_err(because)?, &|seen| (seen.utilisation, seen.pressure) = (value, value));
        }
        Ok(view)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn because(error: anyhow::Error) -> Failed {
    input(&error.to_string())
}

fn input(why: &str) -> Failed {
    Failed::Input(anyhow!("meridian replay: {why}"))
}
