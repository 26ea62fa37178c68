//! The databases and the table of a command, as reports show them.

use std::path::{Path, PathBuf};

use config::RoutingTable;
use geoip::Database;
use serde::Serialize;

use super::progress::Progress;
use super::{Failed, input};

/// One database, as a report shows it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct SourceReport {
    pub(super) file: String,
    /// The publisher's name for the database's contents.
    pub(super) kind: String,
    /// Unix seconds.
    pub(super) build_epoch: u64,
    /// The day of the build, in UTC.
    pub(super) built: String,
    pub(super) ipv6: bool,
    pub(super) nodes: u64,
}

impl SourceReport {
    pub(super) fn of(database: &Database) -> Self {
        Self {
            file: database.path().display().to_string(),
            kind: database.kind().to_owned(),
            build_epoch: database.build_epoch(),
            built: day(database.build_epoch()),
            ipv6: database.has_ipv6(),
            nodes: database.nodes(),
        }
    }

    /// Returns the file, its contents, and its day.
    pub(super) fn in_words(&self) -> String {
        let families = if self.ipv6 { "IPv4 and IPv6" } else { "IPv4 only" };
        format!("{}  {:?}, built {}, {families}, {} nodes", self.file, self.kind, self.built, self.nodes)
    }
}

/// A table, as a report shows it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct TableReport {
    pub(super) file: String,
    pub(super) version: String,
}

/// Opens every file, or returns all that is wrong with them.
pub(super) fn open(files: &[PathBuf], progress: &mut Progress) -> Result<Vec<Database>, Failed> {
    let (mut databases, mut problems) = (Vec::new(), Vec::new());
    for (done, file) in files.iter().enumerate() {
        progress.at("reading databases", done as u64, files.len() as u64);
        match Database::open(file) {
            Ok(database) => databases.push(database),
            Err(problem) => problems.push(problem.to_string()),
        }
    }
    if problems.is_empty() { Ok(databases) } else { Err(input(&problems.join("\nmeridian geo: "))) }
}

/// Loads the table, if one is given.
pub(super) fn table(file: Option<&Path>) -> Result<Option<(RoutingTable, TableReport)>, Failed> {
    let Some(file) = file else { return Ok(None) };
    let document = RoutingTable::load(file, crate::clock::wall())?;
    let version = document.table.spec().version.clone();
    Ok(Some((document, TableReport { file: file.display().to_string(), version })))
}

/// Returns the day of a Unix time, in UTC.
fn day(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.map_or_else(|| format!("at {seconds}"), |time| time.strftime("%Y-%m-%d").to_string())
}
