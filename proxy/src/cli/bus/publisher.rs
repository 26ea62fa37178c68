//! Signs and writes a publication, and follows it until every node has it or has refused it.

use std::time::Duration;

use config::bus::{Bus, Entry, MAX_AGE, Place, Publication, PublishError, SigningKey};

use super::arrival::{Arrival, Goal, nodes, wait};
use super::console::{Console, ago, long, unix_ms, utc_millis};
use super::guard;
use super::outcome::{Fate, Outcome, refused, warn};
use super::view::{BusView, Published, Reports};
use crate::cli::Failed;
use crate::clock;

/// Writes publications, and waits for the nodes to take them. Lives as long as the command.
pub(super) struct Publisher<'a> {
    pub(super) bus: &'a Bus,
    pub(super) key: Option<&'a SigningKey>,
    /// The revision of the live table that the new one was compared with.
    pub(super) after: u64,
    /// Whether revisions start over.
    pub(super) new_epoch: bool,
    /// How long the nodes may take; `None` to not wait for them.
    pub(super) wait: Option<Duration>,
}

/// Why a publication was not written, as far as is known.
pub(super) enum Unwritten {
    /// The publication is not on the bus.
    Refused(Failed),
    /// The bus fell silent: the publication may be there, or still arrive.
    Unknown(Failed),
}

impl Unwritten {
    /// Returns the failure, and notes it in the outcome.
    pub(super) fn noted_in(self, outcome: &mut Outcome) -> Failed {
        match self {
            Unwritten::Refused(failed) => failed,
            Unwritten::Unknown(failed) => {
                outcome.outcome = Fate::Unknown;
                failed
            }
        }
    }
}

impl Publisher<'_> {
    /// Signs and writes a publication if its key is still at the revision `after`; returns the new revision.
    ///
    /// # Errors
    /// When somebody else was first, or the bus refuses it, or does not answer.
    pub(super) async fn write(&self, mut publication: Publication, after: u64) -> Result<u64, Unwritten> {
        // Issued now, and not before the confirmation: a staged table's lease counts from here.
        publication.issued_ms = publication.issued_ms.max(unix_ms(clock::system_time()));
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
                // A late arrival of our own write would be refused now. A deletion leaves a marker.
                Ok(Some(now)) if now.revision != after => return Err(Unwritten::Refused(overtaken(now))),
                Ok(_) => error.to_string(),
                Err(error) => error.to_string(),
            };
            // The server does not answer a request without permission.
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
                Place::Table => "; `meridian history` shows it once the bus answers",
                Place::Rollout => "",
            };
            return Err(Unwritten::Unknown(refused(format!("whether it was written is not known: {why}{later}"))));
        }
    }

    /// Waits until every node has the table, or has refused it.
    pub(super) async fn follow(
        &self,
        (draft, reports): (&Publication, &Reports),
        revision: u64,
        outcome: &mut Outcome,
        console: &mut Console,
    ) -> Result<(), Failed> {
        outcome.revision = Some(revision);
        let what = format!("revision {revision}");
        let Some(patience) = self.wait else {
            console.say(&format!("{what} is published; `meridian fleet` shows which nodes have it\n"));
            return Ok(());
        };
        let order = (draft.epoch, revision);
        let reporting = reports.iter().map(|(report, _)| report.node.clone()).collect();
        let goal = Goal::Live { nodes: reporting, revision: order, newest: order };
        let waited = wait(self.bus, &goal, &what, patience, console).await;
        let waited = waited
            .map_err(|error| refused(format!("{what} is published; which nodes have it is not known: {error}")))?;
        outcome.took_ms = Some(u64::try_from(waited.took.as_millis()).unwrap_or(u64::MAX));
        let arrival = outcome.nodes.insert(waited.arrival);
        if arrival.nodes() == 0 {
            console.say(&format!("{what} is published; no node reports to this bus yet\n"));
            return Ok(());
        }
        if arrival.is_complete() && arrival.rejected.is_empty() {
            let (all, took) = (nodes(arrival.nodes()), waited.took.as_secs_f64());
            let after = match outcome.outcome {
                Fate::Unchanged => String::new(),
                _ => format!(", {took:.1} s after it was published"),
            };
            console.say(&format!("{what} is in force on {all}{after}\n"));
            return Ok(());
        }
        if arrival.rejected.is_empty() {
            // Nodes that are ahead of this bucket will never take it.
            self.refuse_older(&BusView::read(self.bus).await?, draft)?;
        } else {
            console.warn(arrival.rejections().trim_end());
        }
        Err(refused(format!("{what} is published, and {}", lacking(arrival, patience))))
    }

    /// Refuses a table that is older than a node's, which the node would ignore.
    ///
    /// # Errors
    /// When some node has a newer one.
    pub(super) fn refuse_older(&self, view: &BusView, draft: &Publication) -> Result<(), Failed> {
        if self.new_epoch { Ok(()) } else { guard::newer(view, draft.epoch).map_err(refused) }
    }

    /// Prints how long nodes may use the new table, and what must run so that they may use it longer.
    pub(super) async fn print_freshness(&self, draft: &Publication, outcome: &mut Outcome, console: &mut Console) {
        let issued = draft.issued_ms;
        if let Some(until) = draft.valid_until_ms {
            console.say(&format!("issued {}, valid until {}\n", utc_millis(issued), utc_millis(until)));
        }
        if self.key.is_none() || draft.valid_until_ms.is_some() {
            return;
        }
        // The table is published: a failure here is not reported.
        let Ok(heartbeat) = self.bus.heartbeat().await else { return };
        let max_age = humantime::format_duration(MAX_AGE);
        let remedy = format!(
            "nodes with trusted_keys refuse restricted routes once nothing about the table was signed for max_age \
             ({max_age} unless their files say otherwise): run `meridian heartbeat --sign KEY`, or publish with --valid-for"
        );
        match heartbeat.and_then(Result::ok) {
            None => warn(format!("there is no heartbeat on the bus, and {remedy}"), outcome, console),
            Some(beat) => {
                let age = Duration::from_millis(unix_ms(clock::system_time()).saturating_sub(beat.signed_ms));
                if age > MAX_AGE {
                    warn(format!("the last heartbeat was signed {} ago, and {remedy}", long(age)), outcome, console);
                }
            }
        }
    }
}

fn is(entry: &Entry, publication: &Publication) -> bool {
    entry.publication.as_ref().is_some_and(|found| found.fingerprint() == publication.fingerprint())
}

/// Returns the failure of a publication that another one came before.
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
        ago(now.created, clock::system_time())
    ))
}

/// Returns a message that says which nodes do not have the table, and what to do.
fn lacking(arrival: &Arrival, patience: Duration) -> String {
    let (rejected, late, all) = (arrival.rejected.len(), arrival.to_come.len(), nodes(arrival.nodes()));
    let rejected = (rejected > 0).then(|| format!("{rejected} of {all} reject it and stay on the table before"));
    let late = (late > 0).then(|| {
        let missing = arrival.missing(clock::system_time());
        format!("after {} {late} of {all} have not said that they have it: {missing}", long(patience))
    });
    let said: Vec<String> = rejected.into_iter().chain(late).collect();
    format!(
        "{}; `meridian fleet --watch` follows them, `meridian rollback` publishes the table before again",
        said.join("; ")
    )
}

/// Returns the failure of a command that was interrupted while it waited.
pub(super) fn interrupted(revision: u64) -> Failed {
    refused(format!("interrupted; revision {revision} is published, and `meridian fleet` shows which nodes have it"))
}

/// How often a write is tried that the bus does not answer.
const TRIES: u32 = 2;
