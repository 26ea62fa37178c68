//! Reads the clients of an access log.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::progress::Progress;
use super::{Failed, input};
use crate::cli::replay::line::{Lines, Read};
use crate::databases::survey::{Clients, Survey};

/// An access log that was read.
#[derive(Debug, Default)]
pub(super) struct Logged {
    /// Its clients, their requests by data class.
    pub(super) clients: Clients,
    report: LogReport,
}

/// The report on a log as a whole.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct LogReport {
    pub(super) file: PathBuf,
    /// The requests that are counted.
    pub(super) requests: u64,
    /// Lines that cannot be read.
    pub(super) unreadable: u64,
    /// Requests whose client's address the log does not have (`log.client_addresses = "none"`).
    pub(super) without_address: u64,
    /// Requests of clients past the number that is counted.
    pub(super) left_out: u64,
    /// Requests from addresses that no database has a record for.
    pub(super) unassigned: u64,
}

impl Logged {
    /// Returns the report on the log, once it is surveyed.
    pub(super) fn report(&self, survey: &Survey) -> LogReport {
        LogReport { unassigned: survey.unassigned_requests, ..self.report.clone() }
    }

    /// Reads a log, `-` from stdin.
    pub(super) fn read(file: &Path, progress: &mut Progress) -> Result<Self, Failed> {
        let unreadable = |error: std::io::Error| input(&format!("{}: {error}", file.display()));
        let mut logged =
            Self { report: LogReport { file: file.to_owned(), ..LogReport::default() }, ..Self::default() };
        let (reader, length): (Box<dyn BufRead>, u64) = if file == Path::new("-") {
            (Box::new(std::io::stdin().lock()), 0)
        } else {
            let opened = File::open(file).map_err(unreadable)?;
            let length = opened.metadata().map_or(0, |facts| facts.len());
            (Box::new(BufReader::with_capacity(1 << 18, opened)), length)
        };
        let mut lines = Lines::new(reader);
        while let Some((number, read)) = lines.next().map_err(unreadable)? {
            if number % 4096 == 0 {
                progress.at("reading the log", lines.bytes(), length.max(lines.bytes()));
            }
            let report = &mut logged.report;
            match read {
                Read::Unreadable(_) => report.unreadable += 1,
                // The node that chose the region has a line for the same request.
                Read::Line(line) if line.chosen => {}
                Read::Line(line) => match line.client {
                    None => report.without_address += 1,
                    Some(client) => {
                        report.requests += 1;
                        logged.clients.count(client, line.data_class.as_deref().unwrap_or_default());
                    }
                },
            }
        }
        let report = &mut logged.report;
        report.left_out = logged.clients.left_out;
        report.requests -= report.left_out;
        match report.requests {
            0 if report.without_address > 0 => Err(input(&format!(
                "{}: none of its lines has a client's address; log.client_addresses = \"truncated\" logs enough of it",
                file.display()
            ))),
            0 => Err(input(&format!("{}: no line of it can be read as one of an access log", file.display()))),
            _ => Ok(logged),
        }
    }
}
