//! `meridian geo compare`

use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::anyhow;
use policy::relocation::Relocations;

use super::amount::Told;
use super::logged::Logged;
use super::movement::{Movement, Setting};
use super::progress::Progress;
use super::sources::{self, SourceTold};
use super::{Failed, Format, input, print, share, words};
use crate::databases::survey::{DatabaseGroup, Survey};
use crate::node::Geo;

/// Compare two geo databases.
#[derive(Debug, clap::Args)]
pub(super) struct Compare {
    /// The database before
    #[arg(value_name = "OLD.mmdb")]
    old: PathBuf,
    /// The database after
    #[arg(value_name = "NEW.mmdb")]
    new: PathBuf,
    /// Databases that stand beside both, as on the node
    #[arg(long, value_name = "FILE")]
    beside: Vec<PathBuf>,
    /// Numbers of autonomous systems whose addresses say nothing, as the node's `geoip.anonymous_asns`
    #[arg(long, value_delimiter = ',', value_name = "NUMBER")]
    anonymous_asns: Vec<u32>,
    /// Tell what it means under this routing table
    #[arg(long, value_name = "TABLE")]
    table: Option<PathBuf>,
    /// Count the requests of this access log, too; `-` is stdin
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Exit with 1 if more than --max-change is like that, of any kind of address or of the requests
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    fail_on: Vec<FailOn>,
    /// How much --fail-on puts up with
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = share)]
    max_change: f64,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// What a pipeline does not let pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum FailOn {
    /// Requests of a client may go where they could not (needs --table).
    Widening,
    /// A client has no region any more (needs --table).
    Refused,
    /// A client comes under the law of other jurisdictions (needs --table).
    Moved,
    /// A client was in the Union, and is elsewhere.
    LeavesUnion,
}

impl Compare {
    pub(super) fn execute(self) -> Result<(), Failed> {
        let needs_table = self.fail_on.iter().any(|what| *what != FailOn::LeavesUnion);
        if needs_table && self.table.is_none() {
            return Err(input(
                "--fail-on widening, refused and moved need --table TABLE: it says who is under which law",
            ));
        }
        let mut progress = Progress::new();
        let table = sources::table(self.table.as_deref())?;
        let logged = Logged::read(self.log.as_deref(), &mut progress)?;
        let files: Vec<PathBuf> = [&self.old, &self.new].into_iter().chain(&self.beside).cloned().collect();
        let databases = sources::open(&files, &mut progress)?;
        let geo = Geo { anonymous_asns: self.anonymous_asns.clone(), ..Geo::default() };
        let with_beside =
            |database: usize| -> DatabaseGroup { std::iter::once(database).chain(2..databases.len()).collect() };
        let survey = Survey::of(
            &databases.iter().collect::<Vec<_>>(),
            &[with_beside(0), with_beside(1)],
            &geo,
            &logged.clients,
            |done, all| {
                progress.at("comparing", done, all);
                ControlFlow::Continue(())
            },
        );
        drop(progress);
        let survey = survey.map_err(|error| input(&error.to_string()))?;
        let mut told = databases.iter().map(SourceTold::of);
        let (Some(old), Some(new)) = (told.next(), told.next()) else { return Ok(()) };
        let movement = Movement::of(
            &survey,
            Setting {
                old,
                new,
                beside: told.collect(),
                table: table.as_ref().map(|(document, told)| (told.clone(), Relocations::new(&document.table))),
                log: self.log.as_ref().map(|_| logged.told(&survey)),
                clients: &logged.clients,
            },
        );
        match self.format {
            Format::Json => {
                let json = serde_json::to_string_pretty(&movement).map_err(|error| Failed::Ran(error.into()))?;
                print(&format!("{json}\n"));
            }
            Format::Text => print(&words::movement(&movement)),
        }
        self.verdict(&movement)
    }

    fn verdict(&self, movement: &Movement) -> Result<(), Failed> {
        let law = movement.law.as_ref();
        let classes = || law.iter().flat_map(|law| &law.classes);
        for what in &self.fail_on {
            let (amounts, why): (Vec<&Told>, &str) = match what {
                FailOn::Widening => {
                    (classes().map(|class| &class.widened.total).collect(), "may go where they could not (widening)")
                }
                FailOn::Refused => (classes().map(|class| &class.refused.total).collect(), "have no region any more"),
                FailOn::Moved => {
                    (law.iter().map(|law| &law.jurisdictions.total).collect(), "come under the law of others")
                }
                FailOn::LeavesUnion => (vec![&movement.union.leaves.total], "leave the Union"),
            };
            let greatest = amounts.into_iter().map(Told::greatest_share).fold(0.0, f64::max);
            if greatest > self.max_change {
                let share = words::percent(greatest);
                return Err(Failed::Ran(anyhow!("geo compare: {} of clients {why}", share.trim())));
            }
        }
        Ok(())
    }
}
