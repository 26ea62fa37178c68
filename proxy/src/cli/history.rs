//! `meridian history`

use config::bus::{Entry, Heartbeat, Publication, TableVersion};
use serde::Serialize;

use super::bus::Flags;
use super::bus::connection::with_bus;
use super::bus::console::aligned;
use super::bus::console::{utc, utc_millis};
use super::{Failed, Format, print};

/// List the tables on the bus.
#[derive(Debug, clap::Args)]
pub(super) struct History {
    /// The format of the output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    bus: Flags,
}

/// A publication, or a deletion.
#[derive(Debug, Serialize)]
struct Row {
    revision: u64,
    /// UTC, by the bus's clock.
    when: String,
    live: bool,
    #[serde(flatten)]
    table: Option<Table>,
}

/// What was published.
#[derive(Debug, Serialize)]
struct Table {
    epoch: u64,
    version: Option<String>,
    by: String,
    /// When the table was signed, or written, UTC by its publisher's clock.
    issued: String,
    /// Until when the table may be used, by its publisher, UTC.
    valid_until: Option<String>,
    /// When the newest heartbeat about it was signed, UTC.
    heartbeat: Option<String>,
    bytes: usize,
    sha256: String,
    signed: bool,
    note: String,
    allow_shrink: Vec<String>,
}

impl History {
    pub(super) fn execute(self) -> Result<(), Failed> {
        let read = with_bus(&self.bus, async |bus, _| Ok((bus.history().await?, bus.heartbeat().await?)))?;
        let (history, heartbeat) = read;
        let rows = rows(&history, heartbeat.and_then(Result::ok).as_ref());
        match self.format {
            Format::Json => {
                let json = serde_json::to_string_pretty(&rows).map_err(|error| Failed::Ran(error.into()))?;
                print(&format!("{json}\n"));
            }
            Format::Text => print(&text(&rows)),
        }
        Ok(())
    }
}

/// Returns the rows, the newest first.
fn rows(history: &[Entry], heartbeat: Option<&Heartbeat>) -> Vec<Row> {
    let live = history.last().map(|entry| entry.revision);
    let of = |entry: &Entry, publication: &Publication| {
        let is_it = |beat: &&Heartbeat| beat.is_about(&TableVersion::of(publication, entry.revision));
        heartbeat.filter(is_it).map(|beat| utc_millis(beat.signed_ms))
    };
    let row = |entry: &Entry| Row {
        revision: entry.revision,
        when: utc(entry.created),
        live: Some(entry.revision) == live && entry.publication.is_some(),
        table: entry.publication.as_ref().map(|publication| Table {
            epoch: publication.epoch,
            version: publication.version(),
            by: publication.by.clone(),
            issued: utc_millis(publication.issued_ms),
            valid_until: publication.valid_until_ms.map(utc_millis),
            heartbeat: of(entry, publication),
            bytes: publication.text.len(),
            sha256: publication.sha256(),
            signed: publication.signature.is_some(),
            note: publication.note.clone(),
            allow_shrink: publication.allow.iter().cloned().collect(),
        }),
    };
    history.iter().rev().map(row).collect()
}

fn text(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "nothing was published here yet; `meridian publish TABLE` publishes a table\n".to_owned();
    }
    let line = |row: &Row| {
        let revision = format!("{}{}", row.revision, if row.live { " live" } else { "" });
        let Some(table) = &row.table else {
            let none = || "-".to_owned();
            let when = row.when.clone();
            return [revision, none(), when, none(), "deleted".to_owned(), none(), none(), none(), String::new()];
        };
        let allowed = table.allow_shrink.iter().map(|name| format!("allows {name} to shrink"));
        let signed = table.signed.then(|| "signed".to_owned());
        let until = table.valid_until.as_ref().map(|until| format!("valid until {until}"));
        let heartbeat = table.heartbeat.as_ref().map(|signed| format!("heartbeat {signed}"));
        let note = Some(table.note.clone()).filter(|note| !note.is_empty());
        [
            revision,
            table.epoch.to_string(),
            row.when.clone(),
            table.issued.clone(),
            table.version.clone().unwrap_or_else(|| "?".to_owned()),
            table.by.clone(),
            table.bytes.to_string(),
            table.sha256.chars().take(12).collect(),
            signed.into_iter().chain(until).chain(heartbeat).chain(allowed).chain(note).collect::<Vec<_>>().join("; "),
        ]
    };
    let lines: Vec<_> = rows.iter().map(line).collect();
    aligned(["REVISION", "EPOCH", "WHEN", "ISSUED", "VERSION", "BY", "BYTES", "SHA256", "NOTE"], &lines)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn the_newest_is_first_and_the_live_one_is_marked() {
        let entry =
            |revision, publication| Entry { revision, created: SystemTime::UNIX_EPOCH, publication, unreadable: None };
        let table = |text| Some(Publication::new(text, 1, 1000, "me@here"));
        let signed = table("version = '2'").map(|publication| {
            let publication = Publication { signature: Some("a:b".to_owned()), ..publication };
            let valid_until_ms = Some(3_600_000);
            Publication { allow: ["eu".to_owned()].into(), valid_until_ms, ..publication.noted("why") }
        });
        let history = [entry(1, table("version = '1'")), entry(7, None), entry(9, signed)];
        let version = TableVersion::of(history[2].publication.as_ref().unwrap(), 9);
        let beat = Heartbeat::new(&version, 2000, "me@here");
        let shown = text(&rows(&history, Some(&beat)));
        let lines: Vec<&str> = shown.lines().collect();
        assert!(
            lines[1].starts_with("9 live    1      1970-01-01T00:00:00Z  1970-01-01T00:00:01Z  2        me@here  13"),
            "{shown}"
        );
        assert!(
            lines[1].ends_with(
                "signed; valid until 1970-01-01T01:00:00Z; heartbeat 1970-01-01T00:00:02Z; allows eu to shrink; why"
            ),
            "{shown}"
        );
        assert!(
            lines[2].starts_with("7         -      1970-01-01T00:00:00Z  -                     deleted"),
            "{shown}"
        );
        assert!(lines[3].starts_with("1         1"), "{shown}");
        // Nothing is live after a deletion.
        assert!(!text(&rows(&history[..2], None)).contains("live"));
    }
}
