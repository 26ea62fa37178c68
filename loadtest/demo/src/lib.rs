//! `meridian demo`: regions that die and come back on loopback, and where clients go.
//!
//! The demo starts its nodes by running the same executable, and plays clients and origins itself with [`loadtest`].

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

mod admin;
mod certificate;
mod clients;
mod files;
mod fleet;
mod geo_database;
mod ingress;
mod ledger;
mod origins;
mod phases;
mod picture;
mod rates;
mod reasons;
mod regions;
mod report;
mod story;
mod summary;
mod try_it;

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use self::admin::Admin;
use self::files::Files;
use self::ingress::Ingress;
use self::ledger::Ledger;
use self::origins::Origins;

use self::story::Story;
use self::summary::Summary;
use screen::{Screen, write};

/// Show regions dying and coming back, and where clients go.
#[derive(Debug, clap::Args)]
pub struct Demo {
    /// Exit after the summary: with 1 if a request failed or personal data went astray
    #[arg(long)]
    once: bool,
    /// How long each of the five phases lasts
    #[arg(long, value_enum, default_value_t = Pace::Normal)]
    pace: Pace,
    /// Requests a second
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(10..=10_000))]
    rate: u32,
    /// Write the demo's files (node file, routing table, certificate, geo database) to this new
    /// directory and leave them there, as an example to start from
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// Why the demo ends badly.
#[derive(Debug)]
pub enum Failed {
    /// It ran, and failed.
    Ran(anyhow::Error),
    /// What the user asked for cannot be done.
    Input(anyhow::Error),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Pace {
    /// Under 10 s in all, for machines.
    Fast,
    /// About 25 s in all.
    Normal,
    /// About a minute in all, to talk over.
    Slow,
}

impl Demo {
    /// Performs the demo.
    ///
    /// # Errors
    /// When it cannot be performed, or what it shows is not what it must be.
    pub fn execute(self) -> Result<(), Failed> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| Failed::Ran(error.into()))?.block_on(self.perform())
    }

    async fn perform(&self) -> Result<(), Failed> {
        let mut stop = pin!(stop().map_err(|error| Failed::Ran(error.into()))?);
        let show = async {
            let origins = Origins::start().await.context("cannot start the origins").map_err(Failed::Ran)?;
            let files = Files::write(self.keep.as_deref(), &origins)?;
            let gateway = Ingress::start(&files.gateway()).await.map_err(Failed::Ran)?;
            files.write_table(&origins, gateway.https)?;
            let mut ingress = Ingress::start(&files.node()).await.map_err(Failed::Ran)?;
            let summary = self.show(&origins, &files, &ingress).await;
            let summary = summary.map_err(|error| Failed::Ran(ingress.blamed_for(error)))?;
            // What is up stays up as long as it is held.
            Ok::<_, Failed>((summary, origins, files, ingress, gateway))
        };
        // An end before the end drops all parts, and thereby ends and removes them.
        let (summary, _origins, files, ingress, _gateway) = tokio::select! {
            shown = show => shown?,
            () = &mut stop => return Err(Failed::Ran(anyhow!("the demo was interrupted before its end"))),
        };
        if !self.once {
            write(&try_it::lines(&ingress, files.directory())).map_err(|error| Failed::Ran(error.into()))?;
            stop.await;
        }
        summary.verdict()
    }

    async fn show(&self, origins: &Origins, files: &Files, ingress: &Ingress) -> anyhow::Result<Summary> {
        write(&self.opening(files, ingress))?;
        let admin = Admin(ingress.admin);
        let ledger = RefCell::new(Ledger::default());
        let story = Story::new(origins, &admin, &ledger, Screen::open()?);
        let (over, stop) = oneshot::channel::<()>();
        // A story that fails ends the fleet by being dropped with it.
        let fleet = fleet::drive(ingress.https, self.rate, &ledger, async { drop(stop.await) });
        let story = async {
            let told = story.tell(self.pace.phase()).await;
            drop(over);
            told
        };
        let (report, ()) = tokio::try_join!(fleet, story)?;
        let summary = Summary::of(ledger.into_inner().total(), report, origins, &admin).await?;
        write(&format!("{summary}\n"))?;
        Ok(summary)
    }

    fn opening(&self, files: &Files, ingress: &Ingress) -> String {
        let Ingress { https, admin, .. } = ingress;
        format!(
            "\
meridian demo: the six regions of the erlmcp-aws example as origins on loopback, one ingress, and a
         node in ap-southeast-1 that it reaches that region through (TLS with both nodes' certificates)
  ingress  https://{https}, admin http://{admin}, files in {}
  clients  {} of seven countries and of unknown ones (??), {} requests/s over HTTP/2 and TLS;
           their addresses are documentation prefixes (RFC 5737, RFC 3849), which a made-up geo
           database places in these countries

",
            files.directory().display(),
            clients::all().len(),
            self.rate,
        )
    }
}

impl Pace {
    fn phase(self) -> Duration {
        Duration::from_millis(match self {
            Pace::Fast => 1_300,
            Pace::Normal => 4_600,
            Pace::Slow => 12_000,
        })
    }
}

/// Resolves when the user wants an end: at Ctrl-C, at SIGTERM, or when the terminal is closed.
fn stop() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}
