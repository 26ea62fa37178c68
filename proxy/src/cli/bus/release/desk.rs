//! Where publications are signed and written.

use std::time::SystemTime;

use config::bus::{Bus, Place, Publication, PublishError, SigningKey};

use super::refused;
use crate::cli::Failed;
use crate::cli::bus::scene::Published;
use crate::cli::bus::time::{ago, unix_ms};

/// The bus, and whose hand writes there.
pub(super) struct Desk<'a> {
    pub(super) bus: &'a Bus,
    pub(super) key: Option<&'a SigningKey>,
    /// The revision of the live table that all was compared with.
    pub(super) after: u64,
}

impl Desk<'_> {
    /// Signs and writes, if what is in its place is still of the revision `after`. Gives the new one.
    ///
    /// # Errors
    /// When somebody else was first, or the bus does not take it.
    pub(super) async fn write(&self, mut publication: Publication, after: u64) -> Result<u64, Failed> {
        // Now, and not when the question was asked: a staged table's lease counts from here.
        publication.issued_ms = publication.issued_ms.max(unix_ms(SystemTime::now()));
        if let Some(key) = self.key {
            key.sign(&mut publication, self.bus.bucket());
        }
        let place = if publication.stage.is_some() { Place::Rollout } else { Place::Table };
        let error = match self.bus.publish(&publication, after).await {
            Ok(revision) => return Ok(revision),
            Err(error @ PublishError::TooLarge { .. }) => return Err(error.into()),
            Err(error) => error,
        };
        // After a time-out it may have been written all the same; then a try again is overtaken by itself.
        let now = self.bus.live(place).await?.and_then(Published::of);
        match (error, now) {
            (_, Some(now)) if now.publication.fingerprint() == publication.fingerprint() => Ok(now.revision),
            (PublishError::Overtaken, Some(now)) => Err(refused(format!(
                "nothing was written: {} published revision {} (version {:?}) {} ago; look at it with `meridian \
                 history`, and publish again what should follow it",
                now.publication.by,
                now.revision,
                now.publication.version().unwrap_or_default(),
                ago(now.created, SystemTime::now())
            ))),
            (PublishError::Overtaken, None) => {
                Err(refused("nothing was written: the table was deleted meanwhile".to_owned()))
            }
            (error, _) => Err(error.into()),
        }
    }
}
