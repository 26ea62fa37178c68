//! `meridian geo check`

use std::ops::ControlFlow;
use std::path::PathBuf;

use policy::relocation::Relocations;

use super::disagreement::{Disagreement, Setting};
use super::logged::Logged;
use super::progress::Progress;
use super::sources::{self, SourceTold};
use super::{Failed, Format, input, print, words};
use crate::databases::survey::{DatabaseGroup, Survey};
use crate::node::Geo;

/// Check geo databases.
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// The databases, the best first, as in the node's `geoip.databases`
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Numbers of autonomous systems whose addresses say nothing, as the node's `geoip.anonymous_asns`
    #[arg(long, value_delimiter = ',', value_name = "NUMBER")]
    anonymous_asns: Vec<u32>,
    /// Tell what they cost under this routing table
    #[arg(long, value_name = "TABLE")]
    table: Option<PathBuf>,
    /// Count the requests of this access log, too; `-` is stdin
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl Check {
    pub(super) fn execute(self) -> Result<(), Failed> {
        let mut progress = Progress::new();
        let table = sources::table(self.table.as_deref())?;
        let logged = Logged::read(self.log.as_deref(), &mut progress)?;
        let databases = sources::open(&self.files, &mut progress)?;
        let geo = Geo { anonymous_asns: self.anonymous_asns, ..Geo::default() };
        let each = (0..databases.len()).map(|database| vec![database]);
        let sources: Vec<DatabaseGroup> = each.chain([(0..databases.len()).collect()]).collect();
        let survey = Survey::of(&databases.iter().collect::<Vec<_>>(), &sources, &geo, &logged.clients, |done, all| {
            progress.at("comparing", done, all);
            ControlFlow::Continue(())
        });
        drop(progress);
        let survey = survey.map_err(|error| input(&error.to_string()))?;
        let disagreement = Disagreement::of(
            &survey,
            Setting {
                databases: databases.iter().map(SourceTold::of).collect(),
                table: table.as_ref().map(|(document, told)| (told.clone(), Relocations::new(&document.table))),
                log: self.log.as_ref().map(|_| logged.told(&survey)),
                clients: &logged.clients,
            },
        );
        match self.format {
            Format::Json => {
                let json = serde_json::to_string_pretty(&disagreement).map_err(|error| Failed::Ran(error.into()))?;
                print(&format!("{json}\n"));
            }
            Format::Text => print(&words::disagreement(&disagreement)),
        }
        Ok(())
    }
}
