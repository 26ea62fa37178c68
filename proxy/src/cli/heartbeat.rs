//! `meridian heartbeat`

mod memory;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::anyhow;
use config::bus::{
    Bus, Heartbeat as Beat, MOST_SKEW, Moment, Place, Publication, SigningKey, TableVersion, TrustedKeys,
};

use self::memory::Memory;
use super::bus::connection::{publisher, with_bus};
use super::bus::console::{ago, unix_ms, utc, utc_millis};
use super::bus::view::Published;
use super::bus::{Flags, Source, guard};
use super::{Failed, Format};
use crate::clock;
use crate::serve::LAST_LINES;
use crate::telemetry::log;
use crate::telemetry::printed::Printed;

/// Sign that the newest routing table still is the newest one.
#[derive(Debug, clap::Args)]
pub(super) struct Heartbeat {
    /// Sign with this ed25519 key, PEM
    #[arg(long, value_name = "KEY")]
    sign: PathBuf,
    /// How often to sign: a small part of the nodes' max_age
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    every: Duration,
    /// Sign once and exit, for a cron job
    #[arg(long, conflicts_with = "every")]
    once: bool,
    /// Record in this file which table was signed for, and sign for none that was published before it
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// The format of the output; in JSON a heartbeat a line
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    bus: Flags,
}

impl Heartbeat {
    pub(super) fn execute(self) -> Result<(), Failed> {
        let key = SigningKey::load(&self.sign).map_err(|error| Failed::Input(error.into()))?;
        if self.every.is_zero() {
            return Err(Failed::Input(anyhow!("--every is more than nothing")));
        }
        let mut memory = Memory::load(self.state.as_deref())?;
        // Nodes wait for the signatures: readers of the output that hang or end must not stop them.
        log::open().map_err(|error| Failed::Ran(error.into()))?;
        let printed = Printed::start().map_err(|error| Failed::Ran(error.into()))?;
        let ended = self.run(&key, &mut memory, &printed);
        printed.finish(LAST_LINES);
        ended
    }

    fn run(&self, key: &SigningKey, memory: &mut Memory, printed: &Printed) -> Result<(), Failed> {
        loop {
            let signed = with_bus(&self.bus, async |bus, source| {
                printed.print(&self.beat(&bus, &source, key, memory).await?);
                Ok(())
            });
            let pause = match signed {
                Ok(()) if self.once => return Ok(()),
                Ok(()) => self.every,
                Err(Failed::Ran(error)) if !self.once => {
                    let pause = self.every.min(RETRY);
                    let pause_text = humantime::format_duration(pause);
                    log::write_raw(&format!("meridian: {error:#}; tried again in {pause_text}\n"));
                    pause
                }
                Err(failed) => return Err(failed),
            };
            // A signal ends the process here as anywhere: there is nothing to clean up.
            std::thread::sleep(pause);
        }
    }

    /// Signs once, and returns what to print.
    async fn beat(&self, bus: &Bus, source: &Source, key: &SigningKey, memory: &mut Memory) -> Result<String, Failed> {
        let trusted = TrustedKeys::load(&source.trusted_keys).map_err(|errors| {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Failed::Input(anyhow!(errors.join("\n")))
        })?;
        let trusted = key.trusted().and(trusted);
        let now = clock::system_time();
        guard::clock(bus.time().await?, now).map_err(|why| Failed::Ran(anyhow!(why)))?;
        let Published { revision, publication, .. } = newest(bus, &trusted, now).await?;
        let version = TableVersion::of(&publication, revision);
        memory.check(&version).map_err(|why| Failed::Ran(anyhow!(why)))?;
        let last = match bus.heartbeat().await? {
            Some(Ok(beat)) if trusted.verify_heartbeat(&beat, bus.bucket()).is_ok() => Some(beat),
            _ => None,
        };
        if let Some(beyond) = last.as_ref().filter(|beat| beat.is_beyond(&version)) {
            return Err(Failed::Ran(anyhow!(
                "{} signed at {} that revision {} is the newest, and the bus shows none after revision {revision}: \
                 nothing was signed; somebody holds it back, or an old state was restored",
                beyond.by,
                utc_millis(beyond.signed_ms),
                beyond.revision
            )));
        }
        // With two signers whose clocks differ, the later heartbeat must have the later time.
        let last_ms = last.map_or(0, |beat| beat.signed_ms).min(unix_ms(now + MOST_SKEW));
        let signed_ms = unix_ms(now).max(last_ms.saturating_add(1));
        let mut beat = Beat::new(&version, signed_ms, &publisher());
        key.sign_heartbeat(&mut beat, bus.bucket());
        // The state first, so that it is never behind: a heartbeat that fails is signed the next time.
        memory.keep(&version)?;
        bus.put_heartbeat(&beat).await?;
        self.shown(&beat, &publication, now)
    }

    fn shown(&self, beat: &Beat, publication: &Publication, now: SystemTime) -> Result<String, Failed> {
        if let Some(until) = publication.valid_until_ms.filter(|until| *until < beat.signed_ms) {
            let (revision, until) = (beat.revision, utc_millis(until));
            log::write_raw(&format!(
                "warning: revision {revision} is valid until {until}, and no heartbeat makes that longer: publish it again\n"
            ));
        }
        match self.format {
            Format::Json => {
                let line = serde_json::to_string(beat).map_err(|error| Failed::Ran(error.into()))?;
                Ok(format!("{line}\n"))
            }
            Format::Text => Ok(format!(
                "{}: signed that revision {} (version {:?}, issued {}) is the newest\n",
                utc(now),
                beat.revision,
                publication.version().unwrap_or_default(),
                utc_millis(beat.issued_ms)
            )),
        }
    }
}

/// Returns the newest table that a known key has signed. Another entry in its place is no reason to stop: no node that
/// trusts keys takes it.
async fn newest(bus: &Bus, trusted: &TrustedKeys, now: SystemTime) -> Result<Published, Failed> {
    let is_good = |table: &Published| {
        let claimed = table.publication.claimed_sha256.as_ref();
        let moment = Moment { elapsed: Duration::ZERO, unix_ms: unix_ms(now) };
        trusted.verify(&table.publication, bus.bucket()).is_ok()
            && claimed.is_none_or(|claimed| *claimed == table.publication.sha256())
            && !moment.is_before(table.publication.issued_ms)
    };
    let live = bus.live(Place::Table).await?.and_then(Published::of);
    if let Some(live) = live.clone().filter(is_good) {
        return Ok(live);
    }
    let signed = bus.history().await?.into_iter().filter_map(Published::of).filter(is_good);
    // A publication that was written again is not newer for that.
    let newest = signed.max_by_key(|table| (table.publication.epoch, table.publication.issued_ms, table.revision));
    let Some(newest) = newest else {
        return Err(Failed::Ran(anyhow!(
            "no table on the bus is signed by a key that is known here (--sign, trusted_keys of --config): nothing was \
             signed; `meridian publish TABLE --sign KEY` puts one there"
        )));
    };
    let revision = newest.revision;
    match live {
        Some(live) => log::write_raw(&format!(
            "warning: revision {} by {} is on the bus since {}, and no key that is known here has signed it: this is about \
             revision {revision}\n",
            live.revision,
            live.publication.by,
            ago(live.created, now)
        )),
        None => {
            log::write_raw(&format!(
                "warning: the table was deleted from the bus: this is about revision {revision}\n"
            ));
        }
    }
    Ok(newest)
}

/// The longest pause after a failure.
const RETRY: Duration = Duration::from_secs(60);
