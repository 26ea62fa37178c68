//! Verifies heartbeats, and applies them to how long the table may be used.

use config::bus::{Beat, Heartbeat, Newer, Publication, TableVersion, Witness};

use super::super::examine::{keys, verified};
use super::TableController;
use crate::bus_state::freshness::moment;

impl TableController {
    /// Handles what was read in the heartbeat's place on the bus.
    pub(in crate::bus) fn on_heartbeat(&mut self, read: Option<Result<Heartbeat, String>>) {
        match read {
            Some(Ok(beat)) => self.take_heartbeat(beat),
            Some(Err(why)) => self.refuse_heartbeat(&why),
            None => {
                // Reported at once, though the table may still be used for long: whoever turns keys on must know.
                let lacks = self.machine.base().is_some_and(|base| base.publication.valid_until_ms.is_none());
                let what = lacks.then(|| NO_HEARTBEAT.to_owned());
                if self.state.note(TOPIC, what) {
                    tracing::warn!("{NO_HEARTBEAT}");
                }
            }
        }
    }

    /// Accepts a heartbeat, if a trusted key has signed it and its times do not lie in the future. One that is not
    /// newer than the known one changes nothing.
    pub(super) fn take_heartbeat(&mut self, beat: Heartbeat) {
        let bucket = &self.source.access.bucket;
        if let Err(why) = keys(&self.source).and_then(|keys| keys.verify_heartbeat(&beat, bucket)) {
            return self.refuse_heartbeat(&format!("the heartbeat on the bus is refused: {why}"));
        }
        if moment().is_before(beat.signed_ms.max(beat.issued_ms)) {
            let why = "its time lies in the future: its signer's clock or this node's is wrong";
            return self.refuse_heartbeat(&format!("the heartbeat on the bus is refused: {why}"));
        }
        self.state.note(TOPIC, None);
        let base = self.machine.base().cloned();
        let revision = beat.revision;
        if self.state.freshness.heartbeat(beat.clone()) == Beat::Old {
            return;
        }
        self.state.count("heartbeat");
        if base.as_ref().is_some_and(|base| beat.is_beyond(&base.version)) && self.machine.is_settled() {
            let by = &beat.by;
            tracing::warn!(
                revision,
                by,
                "a heartbeat names a newer table than the bus shows: it is withheld, or on its way"
            );
        }
        // For a start without the bus.
        if let Some(base) = base.filter(|base| beat.is_about(&base.version)) {
            self.snapshots.write(&base, Some(beat));
        }
    }

    fn refuse_heartbeat(&mut self, why: &str) {
        if self.state.note(TOPIC, Some(why.to_owned())) {
            self.state.count("heartbeat_refused");
            tracing::warn!("{why}");
        }
    }

    /// Notes that a table newer than the one in force was refused. Where keys are trusted, only one that a trusted key
    /// has signed counts: what anybody else writes is no newer law.
    pub(super) fn note_newer(&mut self, version: &TableVersion, publication: Option<&Publication>) {
        let is_trusted = match self.state.freshness.witness() {
            Witness::Bus => true,
            Witness::Keys => publication.is_some_and(|publication| {
                verified(publication, &self.source).is_ok() && !moment().is_before(publication.issued_ms)
            }),
        };
        if is_trusted {
            let TableVersion { epoch, revision, issued_ms, .. } = *version;
            self.state.freshness.refused(Newer { epoch, revision, issued_ms });
        }
    }
}

/// The topic of notes on heartbeats.
const TOPIC: &str = "heartbeat";

const NO_HEARTBEAT: &str = "there is no heartbeat on the bus, and with trusted_keys only signatures keep a table \
                            fresh: run `meridian heartbeat --sign KEY` where tables are published, or publish with --valid-for";
