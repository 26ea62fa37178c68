//! Where publications are signed and written.

use std::time::SystemTime;

use config::bus::{Bus, Entry, Place, Publication, PublishError, SigningKey};

use super::refused;
use crate::cli::Failed;
use crate::cli::bus::outcome::{Fate, Outcome};
use crate::cli::bus::scene::Published;
use crate::cli::bus::time::{ago, unix_ms};

/// The bus, and whose hand writes there.
pub(super) struct Desk<'a> {
    pub(super) bus: &'a Bus,
    pub(super) key: Option<&'a SigningKey>,
    /// The revision of the live table that all was compared with.
    pub(super) after: u64,
}

/// Why a publication was not written, as far as is known.
pub(super) enum Unwritten {
    /// It is not there.
    Refused(Failed),
    /// The bus fell silent: it may be there, or come to be.
    Unknown(Failed),
}

impl Unwritten {
    /// The failure, noted in the outcome.
    pub(super) fn told(self, outcome: &mut Outcome) -> Failed {
        match self {
            Unwritten::Refused(failed) => failed,
            Unwritten::Unknown(failed) => {
                outcome.outcome = Fate::Unknown;
                failed
            }
        }
    }
}

impl Desk<'_> {
    /// Signs and writes, if what is in its place is still of the revision `after`. Gives the new one.
    ///
    /// # Errors
    /// When somebody else was first, or the bus does not take it, or does not say.
    pub(super) async fn write(&self, mut publication: Publication, after: u64) -> Result<u64, Unwritten> {
        // Now, and not when the question was asked: a staged table's lease counts from here.
        publication.issued_ms = publication.issued_ms.max(unix_ms(SystemTime::now()));
        if let Some(key) = self.key {
            key.sign(&mut publication, self.bus.bucket());
        }
        let place = if publication.stage.is_some() { Place::Rollout } else { Place::Table };
        let (mut tries, mut may_be_there) = (0, false);
        loop {
            let error = match self.bus.publish(&publication, after).await {
                Ok(revision) => return Ok(revision),
                Err(error @ PublishError::TooLarge { .. }) => return Err(Unwritten::Refused(error.into())),
                Err(error) => error,
            };
            tries += 1;
            may_be_there |= !matches!(error, PublishError::Overtaken);
            let why = match self.bus.live(place).await {
                Ok(Some(now)) if is(&now, &publication) => return Ok(now.revision),
                // Whatever of ours still comes there is overtaken. What was deleted leaves a mark.
                Ok(Some(now)) if now.revision != after => return Err(Unwritten::Refused(overtaken(now))),
                Ok(_) => error.to_string(),
                Err(error) => error.to_string(),
            };
            // The server does not answer who lacks a right.
            let complaint = self.bus.complaint().filter(|complaint| complaint.contains(place.key()));
            if let Some(complaint) = complaint {
                return Err(Unwritten::Refused(refused(format!(
                    "nothing was written: {why}; the server says: {complaint}"
                ))));
            }
            if tries < TRIES {
                continue;
            }
            if !may_be_there {
                return Err(Unwritten::Refused(error.into()));
            }
            let later = match place {
                Place::Table => "; `meridian history` tells once the bus answers",
                Place::Rollout => "",
            };
            return Err(Unwritten::Unknown(refused(format!("nobody knows whether it was written: {why}{later}"))));
        }
    }
}

fn is(entry: &Entry, publication: &Publication) -> bool {
    entry.publication.as_ref().is_some_and(|found| found.fingerprint() == publication.fingerprint())
}

/// Somebody else was first.
fn overtaken(now: Entry) -> Failed {
    let Some(now) = Published::of(now) else {
        return refused("nothing was written: the table was deleted meanwhile".to_owned());
    };
    refused(format!(
        "nothing was written: {} published revision {} (version {:?}) {} ago; look at it with `meridian history`, and \
         publish again what should follow it",
        now.publication.by,
        now.revision,
        now.publication.version().unwrap_or_default(),
        ago(now.created, SystemTime::now())
    ))
}

/// How often a table is written that the bus says nothing of.
const TRIES: u32 = 2;
