//! `meridian fleet`

mod row;
mod text;

use std::time::Duration;

use anyhow::anyhow;
use config::bus::{Bus, BusError, Entry, Place, TableVersion};
use serde::Serialize;

use self::row::{Row, State};
use super::bus::Flags;
use super::bus::connection::with_bus;
use super::bus::console::{unix_ms, utc_millis};
use super::bus::view::Published;
use super::{Failed, Format, print};
use screen::Screen;

use crate::clock;

/// Show the nodes.
#[derive(Debug, clap::Args)]
pub(super) struct Fleet {
    /// Show them again each second, until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Exit with 1 if any node is in one of these states, or none reports
    #[arg(long, value_enum, value_delimiter = ',', conflicts_with = "watch", value_name = "WHAT")]
    fail_on: Vec<FailOn>,
    /// The format of the output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    bus: Flags,
}

/// Which states of a node fail the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum FailOn {
    /// The node refuses the newest table.
    Rejected,
    /// Tables were published since the node's own.
    Lagging,
    /// The node's last report is older than two report intervals.
    Silent,
    /// The node's table has expired: it refuses restricted routes.
    Expired,
}

/// All nodes at one moment, and the table that they should have.
#[derive(Debug, Serialize)]
struct FleetView {
    live: Option<Live>,
    heartbeat: Option<Beat>,
    /// The bucket's weaknesses.
    bucket: Vec<Trouble>,
    nodes: Vec<Row>,
}

/// The newest heartbeat.
#[derive(Debug, Serialize)]
struct Beat {
    epoch: u64,
    revision: u64,
    by: String,
    /// UTC, by its signer's clock.
    signed: String,
    age_seconds: u64,
    /// Whether it is about the live table.
    of_live: bool,
}

/// A weakness of the bucket.
#[derive(Debug, Serialize)]
struct Trouble {
    kind: &'static str,
    says: String,
}

/// The live table.
#[derive(Debug, Serialize)]
struct Live {
    epoch: u64,
    revision: u64,
    version: Option<String>,
    signed: bool,
    /// UTC, by its publisher's clock.
    issued: String,
    /// UTC; null where its publisher sets no end.
    valid_until: Option<String>,
}

impl Fleet {
    pub(super) fn execute(self) -> Result<(), Failed> {
        with_bus(&self.bus, async |bus, _| {
            let mut history = Vec::new();
            if !self.watch {
                let view = read_view(&bus, &mut history).await?;
                self.show(&view, None)?;
                return self.enforce_fail_on(&view);
            }
            let screen = match self.format {
                Format::Text => Screen::open().map_err(|error| Failed::Ran(error.into()))?,
                Format::Json => None,
            };
            tokio::select! {
                shown = async {
                    loop {
                        match read_view(&bus, &mut history).await {
                            Ok(view) => self.show(&view, screen.as_ref())?,
                            Err(error) => show_error(&error, screen.as_ref())?,
                        }
                        tokio::time::sleep(REDRAW).await;
                    }
                } => shown,
                _ = tokio::signal::ctrl_c() => Ok(()),
            }
        })
    }

    fn enforce_fail_on(&self, view: &FleetView) -> Result<(), Failed> {
        let is_bad = |row: &Row| {
            self.fail_on.iter().any(|what| match what {
                FailOn::Rejected => row.is(State::Rejected),
                FailOn::Lagging => row.lag.is_some(),
                FailOn::Silent => row.is(State::Silent),
                FailOn::Expired => row.is(State::Expired),
            })
        };
        if view.nodes.is_empty() && !self.fail_on.is_empty() {
            return Err(Failed::Ran(anyhow!("fleet: no node reports")));
        }
        let bad: Vec<&str> = view.nodes.iter().filter(|row| is_bad(row)).map(|row| row.node.as_str()).collect();
        match bad.is_empty() {
            true => Ok(()),
            false => Err(Failed::Ran(anyhow!("fleet: not as they should be: {}", bad.join(", ")))),
        }
    }

    fn show(&self, view: &FleetView, screen: Option<&Screen>) -> Result<(), Failed> {
        let shown = match self.format {
            Format::Text => text::text(view),
            // With --watch: a document a line.
            Format::Json if self.watch => format!("{}\n", serde_json::to_string(view).map_err(ran)?),
            Format::Json => format!("{}\n", serde_json::to_string_pretty(view).map_err(ran)?),
        };
        match screen {
            Some(screen) => draw(screen, &shown),
            None => {
                print(&shown);
                Ok(())
            }
        }
    }
}

fn show_error(error: &BusError, screen: Option<&Screen>) -> Result<(), Failed> {
    match screen {
        Some(screen) => draw(screen, &error.to_string()),
        None => {
            eprintln!("meridian: {error}");
            Ok(())
        }
    }
}

fn draw(screen: &Screen, text: &str) -> Result<(), Failed> {
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    screen.draw(&lines).map_err(|error| Failed::Ran(error.into()))
}

fn ran(error: serde_json::Error) -> Failed {
    Failed::Ran(error.into())
}

/// Reads the state of the bus. The history is read again only when a table was added.
async fn read_view(bus: &Bus, history: &mut Vec<Entry>) -> Result<FleetView, BusError> {
    let newest = bus.live(Place::Table).await?;
    if newest.as_ref().map(|entry| entry.revision) != history.last().map(|entry| entry.revision) {
        *history = bus.history().await?;
    }
    let now = clock::system_time();
    let nodes = bus.reports().await?.into_iter().map(|(report, heard)| Row::of(report, heard, history, now));
    let nodes = nodes.collect();
    let live = newest.and_then(Published::of);
    let heartbeat = bus.heartbeat().await?.and_then(Result::ok).map(|beat| Beat {
        of_live: live.as_ref().is_some_and(|live| beat.is_about(&TableVersion::of(&live.publication, live.revision))),
        epoch: beat.epoch,
        revision: beat.revision,
        signed: utc_millis(beat.signed_ms),
        age_seconds: unix_ms(now).saturating_sub(beat.signed_ms) / 1000,
        by: beat.by,
    });
    let live = live.map(|live| Live {
        epoch: live.publication.epoch,
        revision: live.revision,
        version: live.publication.version(),
        signed: live.publication.signature.is_some(),
        issued: utc_millis(live.publication.issued_ms),
        valid_until: live.publication.valid_until_ms.map(utc_millis),
    });
    let weaknesses = bus.weaknesses().await?.into_iter();
    let bucket = weaknesses.map(|weakness| Trouble { kind: weakness.kind(), says: weakness.to_string() }).collect();
    Ok(FleetView { live, heartbeat, bucket, nodes })
}

/// How often `--watch` draws: nodes report every five seconds, staged ones every second.
const REDRAW: Duration = Duration::from_secs(1);
