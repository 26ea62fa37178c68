//! A table as it is stored on a bus.

use std::time::{Duration, SystemTime};

use async_nats::jetstream::message::StreamMessage;

use super::layout::{OPERATION, Place};
use super::publication::Publication;

/// A table on the bus.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The KV revision.
    pub revision: u64,
    /// When the bus stored it, by the bus's clock.
    pub created: SystemTime,
    /// The table, unless it was deleted, or cannot be read.
    pub publication: Option<Publication>,
    /// Why it cannot be read.
    pub unreadable: Option<String>,
}

impl Entry {
    /// Returns what is left of a staged table's lease. The lease counts from the table's issue, or from when the bus
    /// stored it if that is earlier, so that writing it again does not prolong it. All of the lease is left where those
    /// clocks are ahead of ours.
    pub fn lease_left(&self, now: SystemTime) -> Duration {
        let Some(publication) = &self.publication else { return Duration::ZERO };
        let lease = publication.stage.as_ref().map_or(Duration::ZERO, |stage| stage.lease);
        let issued = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(publication.issued_ms));
        let issued = issued.filter(|_| publication.issued_ms > 0);
        let since = issued.map_or(self.created, |issued| issued.min(self.created));
        lease.saturating_sub(now.duration_since(since).unwrap_or_default())
    }
}

impl Entry {
    /// Parses a message of a place.
    pub(super) fn of(message: StreamMessage, place: Place) -> Self {
        let (revision, created) = (message.sequence, SystemTime::from(message.time));
        let mut entry = Self { revision, created, publication: None, unreadable: None };
        if message.headers.get(OPERATION).is_some_and(|operation| operation.as_str() != "PUT") {
            return entry;
        }
        if message.payload.len() > MAX_TABLE {
            entry.unreadable = Some(too_large(message.payload.len()));
            return entry;
        }
        match Publication::read(message.payload, &message.headers, place == Place::Rollout) {
            Ok(publication) => entry.publication = Some(publication),
            Err(error) => entry.unreadable = Some(error.to_string()),
        }
        entry
    }
}

/// Returns the error text for a table that is too long to be read.
pub fn too_large(bytes: usize) -> String {
    format!("it has {bytes} bytes; at most {MAX_TABLE} are read")
}

/// The longest table that is read from a bus, in bytes: as long as one that is read from a file.
pub const MAX_TABLE: usize = crate::document::MAX_TEXT;
