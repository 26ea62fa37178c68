//! Whether the bus, the clocks and a publication's time are as nodes want them; and what else must run.

use std::time::{Duration, SystemTime};

use anyhow::anyhow;
use config::bus::{Bus, BusError, MAX_AGE, MOST_SKEW, Publication};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::{Release, refused};
use crate::cli::Failed;
use crate::cli::bus::console::Console;
use crate::cli::bus::guard;
use crate::cli::bus::outcome::Outcome;
use crate::cli::bus::scene::Scene;
use crate::cli::bus::time::{long, unix_ms, utc_millis};

impl Release {
    /// Compares this machine's clock with the bus' and with the newest publication.
    pub(super) async fn check_clock(&self, bus: &Bus, scene: &Scene, console: &mut Console) -> Result<(), Failed> {
        let now = SystemTime::now();
        match bus.time().await {
            Ok(time) => guard::clock(time, now).map_err(refused)?,
            // Without a bucket there is no clock to ask; who may not ask is told apart by what follows.
            Err(BusError::NoBucket { .. }) => {}
            Err(error) => {
                drop(bus.complaint());
                console
                    .warn(&format!("warning: the bus' clock is not known ({error}), and not compared with this one"));
            }
        }
        let newest =
            scene.newest.as_ref().filter(|newest| is_beyond_reason(newest.publication.issued_ms, unix_ms(now)));
        if let Some(newest) = newest {
            console.warn(&format!(
                "warning: revision {} by {} says that it was issued at {}, which is to come: no node takes it, and this is \
                 not stamped after it",
                newest.revision,
                newest.publication.by,
                utc_millis(newest.publication.issued_ms)
            ));
        }
        Ok(())
    }

    /// Tells what is weak about the bucket, if there is one.
    pub(super) async fn tell_weaknesses(
        &self,
        bus: &Bus,
        outcome: &mut Outcome,
        console: &mut Console,
    ) -> Result<(), Failed> {
        let weaknesses = match bus.weaknesses().await {
            Err(BusError::NoBucket { .. }) => return Ok(()),
            weaknesses => weaknesses?,
        };
        for weakness in weaknesses {
            tell(weakness.to_string(), outcome, console);
        }
        Ok(())
    }

    /// Tells what must run so that nodes go on with what was just published.
    pub(super) async fn tell_freshness(
        &self,
        bus: &Bus,
        draft: &Publication,
        outcome: &mut Outcome,
        console: &mut Console,
    ) {
        let issued = draft.issued_ms;
        if let Some(until) = draft.valid_until_ms {
            console.say(&format!("issued {}, valid until {}\n", utc_millis(issued), utc_millis(until)));
        }
        if self.sign.is_none() || draft.valid_until_ms.is_some() {
            return;
        }
        // What is not known is not told: the table is published.
        let Ok(heartbeat) = bus.heartbeat().await else { return };
        let max_age = humantime::format_duration(MAX_AGE);
        let remedy = format!(
            "nodes with trusted_keys refuse restricted routes once nothing about the table was signed for max_age \
             ({max_age} unless their files say otherwise): run `meridian heartbeat --sign KEY`, or publish with --valid-for"
        );
        match heartbeat.and_then(Result::ok) {
            None => tell(format!("there is no heartbeat on the bus, and {remedy}"), outcome, console),
            Some(beat) => {
                let age = Duration::from_millis(unix_ms(SystemTime::now()).saturating_sub(beat.signed_ms));
                if age > MAX_AGE {
                    tell(format!("the last heartbeat was signed {} ago, and {remedy}", long(age)), outcome, console);
                }
            }
        }
    }

    /// Until when the table may be used, in Unix milliseconds, if anybody says.
    pub(super) fn valid_until_ms(&self, now_ms: u64) -> Result<Option<u64>, Failed> {
        let of_now = |valid: Duration| now_ms.saturating_add(u64::try_from(valid.as_millis()).unwrap_or(u64::MAX));
        let until = self.valid_for.map(of_now).or(self.valid_until.map(unix_ms));
        match until {
            Some(until) if until <= now_ms => {
                Err(Failed::Input(anyhow!("--valid-until {} is over: nobody could use the table", utc_millis(until))))
            }
            until => Ok(until),
        }
    }
}

/// Whether a publication's time is so far ahead that it is nobody's clock, and not to be carried on.
pub(super) fn is_beyond_reason(issued_ms: u64, now_ms: u64) -> bool {
    Duration::from_millis(issued_ms.saturating_sub(now_ms)) > MOST_SKEW
}

/// Reads a time with its offset, or a date, which is 00:00 UTC.
pub(super) fn moment(text: &str) -> Result<SystemTime, String> {
    // A time without its offset is none: read as a date, it would lose its hours.
    let is_date = text.len() == "2026-12-31".len();
    let timestamp = match is_date {
        true => text.parse::<Date>().and_then(|date| date.to_zoned(TimeZone::UTC)).map(|zoned| zoned.timestamp()),
        false => text.parse::<Timestamp>(),
    };
    timestamp
        .map(SystemTime::from)
        .map_err(|_| "say a date such as 2026-12-31, or a time such as 2026-12-31T18:00:00Z".to_owned())
}

fn tell(what: String, outcome: &mut Outcome, console: &mut Console) {
    console.warn(&format!("warning: {what}"));
    outcome.warnings.push(what);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_date_or_a_time_with_its_offset() {
        let seconds = |text| moment(text).map(|time| unix_ms(time) / 1000);
        assert_eq!(seconds("2026-12-31"), Ok(1_798_675_200));
        assert_eq!(seconds("2026-12-31T01:00:00+01:00"), Ok(1_798_675_200));
        assert_eq!(seconds("2026-12-31T00:00:00Z"), Ok(1_798_675_200));
        for wrong in ["", "soon", "2026-13-31", "2026-12-31T00:00:00"] {
            assert!(seconds(wrong).unwrap_err().contains("say a date"), "{wrong}");
        }
    }
}
