//! Applies the result for a table: it goes in force, is refused or ignored, or a staged one ends.

use std::time::Duration;

use config::Problem;
use config::bus::{Ignored, Place, TableVersion};

use super::Machine;
use super::events::{Effect, Offer, Passed, Repetition, Warrant};
use super::state::{Attempt, Base, Latest, Link, Node, Scope, Staged, Work};
use crate::bus::examine::Refusal;

impl<P: Clone, T: Passed> Machine<P, T> {
    pub(super) fn examined(&mut self, result: Result<T, Refusal>, now: Duration) {
        let (place, offer, scope, began) = match std::mem::replace(&mut self.work, Work::Idle) {
            Work::Examining { place, offer, scope, began } => (place, offer, scope, began),
            Work::Abandoned => return,
            other => return self.work = other,
        };
        let (took, revision) = (now.saturating_sub(began), offer.version.revision);
        match (place, result) {
            (Place::Table, Ok(table)) => self.accept(offer, table),
            (Place::Rollout, Ok(table)) => self.accept_staged(offer, table, now),
            (Place::Table, Err(Refusal::Shrinks(problems))) if scope == Scope::Alone => match self.link {
                Link::Up => self.work = Work::Recalling { offer, problems, took, attempt: Attempt::First },
                // The next connection announces the table again.
                Link::Down => self.settle(place, revision, Latest::Unknown { least: revision }),
            },
            (_, Err(Refusal::Untrusted(problems))) => {
                self.refused(place, (&offer.version, Some(&offer.publication)), problems, Repetition::First);
                self.settle(place, revision, Latest::Distrusted(offer));
            }
            (_, Err(refusal)) => self.refuse(place, offer, refusal.problems(), took, now),
        }
    }

    fn accept(&mut self, offer: Offer<P>, table: T) {
        let version = table.version().clone();
        self.base = Base::InForce(table.clone());
        if !self.staged.is_after(&version) {
            self.staged = Staged::Absent;
        }
        self.settle(Place::Table, version.revision, Latest::InForce(version.revision));
        // A staged table that was compared with the table before is read again, and compared with this one.
        if let Latest::Refused(at) | Latest::Ignored(at) = self.rollout
            && at > version.revision
        {
            self.rollout = Latest::Unknown { least: at };
        }
        self.make_node();
        self.effects.push(Effect::Accepted { place: Place::Table, offer, table });
        self.effects.push(Effect::Confirmed);
    }

    /// Puts a staged table in force, if it has not been replaced and its lease still runs.
    fn accept_staged(&mut self, offer: Offer<P>, table: T, now: Duration) {
        let revision = offer.version.revision;
        if !matches!(self.rollout, Latest::Examining(at) if at == revision) {
            return;
        }
        let Some(lease) = offer.lease.filter(|lease| lease.until > now) else {
            self.rollout = Latest::Ignored(revision);
            return self.put_back(NOT_OURS);
        };
        self.staged = Staged::InForce { table: table.clone(), until: lease.until };
        self.rollout = Latest::InForce(revision);
        self.effects.push(Effect::Accepted { place: Place::Rollout, offer, table });
    }

    /// Refuses an offer for as long as the same table is in force, and rests after a long examination.
    pub(super) fn refuse(
        &mut self,
        place: Place,
        offer: Offer<P>,
        problems: Vec<Problem>,
        took: Duration,
        now: Duration,
    ) {
        let Offer { version, fingerprint, publication, .. } = offer;
        let in_force = self.base().map(|base| base.version().clone());
        self.quarantine.add(&fingerprint, in_force.as_ref(), problems.clone());
        self.settle(place, version.revision, Latest::Refused(version.revision));
        if !took.is_zero() {
            self.work = Work::Resting { until: now.saturating_add((took * 4).min(LONGEST_REST)) };
        }
        self.refused(place, (&version, Some(&publication)), problems, Repetition::First);
    }

    pub(super) fn refuse_unread(&mut self, place: Place, revision: u64, problem: Problem) {
        if place == Place::Rollout {
            // The nodes that it is for are not known.
            self.rollout = Latest::Ignored(revision);
            self.effects.push(Effect::StagedUnreadable(Some(problem.message)));
            return self.put_back("another table was staged that cannot be read");
        }
        self.table = Latest::Refused(revision);
        let last = self.unreadable.replace(revision);
        let repetition = if last == Some(revision) { Repetition::Again } else { Repetition::First };
        let version = TableVersion { epoch: 0, revision, issued_ms: 0, sha256: String::new() };
        self.refused(place, (&version, None), vec![problem], repetition);
    }

    /// Applies a refusal, new or repeated.
    pub(super) fn refused(
        &mut self,
        place: Place,
        (version, publication): (&TableVersion, Option<&P>),
        problems: Vec<Problem>,
        repetition: Repetition,
    ) {
        match place {
            Place::Table => self.release(),
            // The refused table has replaced the one before it.
            Place::Rollout => self.put_back("another table was staged, and refused"),
        }
        let (version, publication) = (version.clone(), publication.cloned());
        self.effects.push(Effect::Refused { place, version, publication, problems, repetition });
    }

    pub(super) fn ignore(&mut self, why: Ignored) {
        self.effects.push(Effect::Ignored(why));
        self.release();
    }

    /// Puts the snapshot's table in force, if it is held: the bus has nothing better.
    pub(super) fn release(&mut self) {
        self.promote_held(Warrant::Snapshot);
    }

    pub(super) fn promote_held(&mut self, by: Warrant) {
        if let Base::Held(table) = &self.base {
            self.base = Base::InForce(table.clone());
            self.make_node();
            self.effects.push(Effect::Released(by));
        }
    }

    /// Returns from the staged table, if there is one, to the table of all nodes.
    pub(super) fn put_back(&mut self, why: &'static str) {
        let from = self.staged.get().map(|(table, _)| table.clone());
        self.staged = Staged::Absent;
        self.effects.push(Effect::Returned { from, why });
    }

    /// Notes that the first table in force makes the node: nothing else is begun until the node is there.
    fn make_node(&mut self) {
        if self.node == Node::Awaited {
            self.node = Node::Making;
        }
    }

    /// Ends a staged table whose lease is over, or that was withdrawn and is not being promoted.
    pub(super) fn end_staged(&mut self, now: Duration) {
        match &self.staged {
            Staged::Ending { table, .. } if !self.is_coming_after(table.version().revision) => {
                self.put_back(WITHDRAWN);
            }
            Staged::InForce { until, .. } | Staged::Ending { until, .. } if *until <= now => {
                self.put_back("the staged table lapsed without a promotion");
            }
            _ => {}
        }
    }
}

pub(super) const WITHDRAWN: &str = "the staged table was withdrawn";
pub(super) const NOT_OURS: &str = "the staged table is no longer for this node";

/// The longest rest after a table was refused: shorter than a publisher waits for its next one.
const LONGEST_REST: Duration = Duration::from_secs(15);
