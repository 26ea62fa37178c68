//! The clients of an access log.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::progress::Progress;
use super::{Failed, input};
use crate::cli::replay::line::{Lines, Read};
use crate::databases::survey::{Clients, Survey};

/// An access log, read.
#[derive(Debug, Default)]
pub(super) struct Logged {
    /// Its clients, their requests by data class.
    pub(super) clients: Clients,
    told: LogTold,
}

/// What a report says of a log as a whole.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct LogTold {
    pub(super) file: PathBuf,
    /// Requests that are counted.
    pub(super) requests: u64,
    /// Lines that are none.
    pub(super) unreadable: u64,
    /// Requests whose client's address the log does not have (`log.client_addresses = "none"`).
    pub(super) without_address: u64,
    /// Requests of more clients than are counted apart.
    pub(super) left_out: u64,
    /// Requests from addresses that no database has a record for.
    pub(super) unassigned: u64,
}

impl Logged {
    /// Tells the log as a whole, once it is surveyed.
    pub(super) fn told(&self, survey: &Survey) -> LogTold {
        LogTold { unassigned: survey.unassigned_requests, ..self.told.clone() }
    }

    /// Reads a log, `-` from stdin.
    pub(super) fn read(file: &Path, progress: &mut Progress) -> Result<Self, Failed> {
        let unreadable = |error: std::io::Error| input(&format!("{}: {error}", file.display()));
        let mut logged = Self { told: LogTold { file: file.to_owned(), ..LogTold::default() }, ..Self::default() };
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
            let told = &mut logged.told;
            match read {
                Read::Unreadable(_) => told.unreadable += 1,
                // Another node's line is of the same request.
                Read::Line(line) if line.chosen => {}
                Read::Line(line) => match line.client {
                    None => told.without_address += 1,
                    Some(client) => {
                        told.requests += 1;
                        logged.clients.count(client, line.data_class.as_deref().unwrap_or_default());
                    }
                },
            }
        }
        let told = &mut logged.told;
        told.left_out = logged.clients.left_out;
        told.requests -= told.left_out;
        match told.requests {
            0 if told.without_address > 0 => Err(input(&format!(
                "{}: none of its lines has a client's address; log.client_addresses = \"truncated\" logs enough of it",
                file.display()
            ))),
            0 => Err(input(&format!("{}: no line of it can be read as one of an access log", file.display()))),
            _ => Ok(logged),
        }
    }
}
