//! What `geo check` and `geo compare` share: a survey of databases, and the table and log that it is measured by.

use std::ops::ControlFlow;
use std::path::PathBuf;

use config::RoutingTable;
use geoip::Database;
use policy::relocation::Relocations;
use serde::Serialize;

use super::logged::{LogReport, Logged};
use super::progress::Progress;
use super::sources::{self, SourceReport, TableReport};
use super::{Failed, Format, input, print};
use crate::client::Geo;
use crate::databases::survey::{Clients, DatabaseGroup, Survey};

/// The options that both commands take.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Numbers of autonomous systems whose addresses say nothing, as the node's `geoip.anonymous_asns`
    #[arg(long, value_delimiter = ',', value_name = "NUMBER")]
    anonymous_asns: Vec<u32>,
    /// Tell what it means under this routing table
    #[arg(long, value_name = "TABLE")]
    pub(super) table: Option<PathBuf>,
    /// Count the requests of this access log, too; `-` is stdin
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// A survey, its databases, and the table and the access log that it is measured by. Lives as long as the command.
pub(super) struct Surveyed {
    pub(super) databases: Vec<SourceReport>,
    pub(super) survey: Survey,
    table: Option<(RoutingTable, TableReport)>,
    log: Option<Logged>,
    nobody: Clients,
}

impl Options {
    /// Surveys these files, grouped by `sources`, which is given their number.
    pub(super) fn survey(
        &self,
        files: &[PathBuf],
        sources: impl FnOnce(usize) -> Vec<DatabaseGroup>,
    ) -> Result<Surveyed, Failed> {
        let mut progress = Progress::new();
        let table = sources::table(self.table.as_deref())?;
        let log = self.log.as_deref().map(|file| Logged::read(file, &mut progress)).transpose()?;
        let databases = sources::open(files, &mut progress)?;
        let geo = Geo { anonymous_asns: self.anonymous_asns.clone(), ..Geo::default() };
        let nobody = Clients::default();
        let clients = log.as_ref().map_or(&nobody, |log| &log.clients);
        let all: Vec<&Database> = databases.iter().collect();
        let survey = Survey::of(&all, &sources(databases.len()), &geo, clients, |done, all| {
            progress.at("comparing", done, all);
            ControlFlow::Continue(())
        });
        let survey = survey.map_err(|error| input(&error.to_string()))?;
        Ok(Surveyed { databases: databases.iter().map(SourceReport::of).collect(), survey, table, log, nobody })
    }

    /// Prints the result, in the requested format.
    pub(super) fn print<T: Serialize>(&self, found: &T, in_words: impl FnOnce(&T) -> String) -> Result<(), Failed> {
        match self.format {
            Format::Json => {
                let json = serde_json::to_string_pretty(found).map_err(|error| Failed::Ran(error.into()))?;
                print(&format!("{json}\n"));
            }
            Format::Text => print(&in_words(found)),
        }
        Ok(())
    }
}

impl Surveyed {
    /// Returns the table's file and version, if there is a table.
    pub(super) fn table_report(&self) -> Option<TableReport> {
        self.table.as_ref().map(|(_, report)| report.clone())
    }

    /// Returns the effects of a change of origin under the table, if there is a table.
    pub(super) fn relocations(&self) -> Option<Relocations<'_>> {
        self.table.as_ref().map(|(document, _)| Relocations::new(&document.table))
    }

    /// Returns the report on the access log, if there is one.
    pub(super) fn log_report(&self) -> Option<LogReport> {
        self.log.as_ref().map(|log| log.report(&self.survey))
    }

    /// Returns the access log's clients: none without a log.
    pub(super) fn clients(&self) -> &Clients {
        self.log.as_ref().map_or(&self.nobody, |log| &log.clients)
    }
}
