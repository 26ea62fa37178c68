//! Decides what a node does with the tables on its bus: which of them it reads, examines, puts in force, refuses or
//! ignores.
//!
//! Pure: events in, effects out, `now` passed in, no I/O. `controller.rs` brings the events and performs the effects,
//! and `machine/model.rs` checks the machine state by state.
//!
//! ```text
//! in force for all nodes (Base)      Absent -----> Held -----> InForce      Held: the snapshot's, until the bus
//!                                       \___________________________/             confirms it or has nothing better
//! in force for some (Staged)         Absent <---> InForce ---> Ending       Ending: withdrawn while a newer table
//!                                                                                 of all is on its way
//! what lies in each place (Latest)   Unknown -> Announced -> Read -> Examining -> InForce | Refused | Ignored
//!                                                              ^-------------------- Distrusted    | Deleted
//! what is under way (Work)           Idle -> Reading -> Idle -> Examining -> Idle | Resting
//!                                                          Recalling <--/ (and back), Abandoned
//! ```

mod decision;
mod events;
#[cfg(test)]
mod model;
mod state;
#[cfg(test)]
mod tests;

use std::time::Duration;

use config::Problem;
use config::bus::{Comparison, Ignored, Place, Quarantine, compare};

use self::decision::{NOT_OURS, WITHDRAWN};
pub(crate) use self::events::{Effect, Event, Lease, Offer, Passed, Reading, Repetition, Request, Warrant};
use self::state::{Attempt, Base, Latest, Link, Node, Scope, Staged, Work};

/// The tables of one node, and the work under way on them. Lives as long as the process, on the bus's thread. `P` is
/// what an examination needs of a publication, `T` a table that has passed one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Machine<P, T> {
    base: Base<T>,
    staged: Staged<T>,
    table: Latest<P>,
    rollout: Latest<P>,
    work: Work<P>,
    link: Link,
    node: Node,
    quarantine: Quarantine,
    /// The last unreadable revision of the table of all nodes: it has no fingerprint for the quarantine.
    unreadable: Option<u64>,
    /// The effects so far of the event that is handled: empty between two events.
    effects: Vec<Effect<P, T>>,
}

impl<P: Clone, T: Passed> Machine<P, T> {
    /// Returns the machine of a node that has no table.
    pub(crate) fn new() -> Self {
        Self {
            base: Base::Absent,
            staged: Staged::Absent,
            table: Latest::Unknown { least: 0 },
            rollout: Latest::Unknown { least: 0 },
            work: Work::Idle,
            link: Link::Down,
            node: Node::Awaited,
            quarantine: Quarantine::default(),
            unreadable: None,
            effects: Vec::new(),
        }
    }

    /// Handles an event, and returns what is to be done now. [`Machine::request`] returns what to ask the bus then.
    pub(crate) fn on(&mut self, event: Event<P, T>, now: Duration) -> Vec<Effect<P, T>> {
        match event {
            Event::SnapshotLoaded(table) => self.base = Base::Held(table),
            Event::Connected => {
                self.link = Link::Up;
                (self.table, self.rollout) = (Latest::Unknown { least: 0 }, Latest::Unknown { least: 0 });
            }
            Event::Disconnected => self.disconnected(),
            Event::Announced(place, revision) => {
                if self.latest(place).is_before(revision) {
                    *self.latest_mut(place) = Latest::Announced(revision);
                }
            }
            Event::Found(place, reading) => {
                if self.latest(place).is_before(reading.revision()) {
                    self.found(place, reading);
                }
            }
            Event::Read(place, revision, reading) => self.read(place, revision, reading),
            Event::Recalled(missed) => self.recalled(missed, now),
            Event::TableAbsent => {
                // The table is asked for again, whatever was known of it.
                let least = match &self.table {
                    Latest::Unknown { least } => *least,
                    known => known.revision(),
                };
                self.table = Latest::Unknown { least };
                self.ignore(Ignored::Absent);
            }
            Event::NothingNewer => {
                if self.is_settled() {
                    self.effects.push(Effect::Confirmed);
                } else if self.table.pending().is_none() {
                    // The bus lists a table and cannot deliver it: the snapshot's is better than none.
                    self.release();
                }
            }
            Event::Examined(result) => self.examined(result, now),
            Event::Trusted(place) => {
                if let Latest::Distrusted(offer) = self.latest(place) {
                    *self.latest_mut(place) = Latest::Read(Reading::Offer(offer.clone()));
                }
            }
            Event::NodeMade => self.node = Node::Made,
            Event::Tick => {}
        }
        self.take_up(now);
        self.end_staged(now);
        std::mem::take(&mut self.effects)
    }

    /// Returns what to ask the bus, if anything.
    pub(crate) fn request(&self) -> Option<Request> {
        match &self.work {
            Work::Reading(place, revision) => Some(Request::Read(*place, *revision)),
            Work::Recalling { offer, .. } => {
                // In another epoch revisions have started over.
                let base = self.base().map(Passed::version).filter(|base| base.epoch == offer.version.epoch);
                let after = base.map_or(0, |base| base.revision);
                Some(Request::Recall { after, before: offer.version.revision })
            }
            _ => None,
        }
    }

    /// Returns when the next [`Event::Tick`] is due, as things are.
    pub(crate) fn wakes_at(&self) -> Option<Duration> {
        let rested = match self.work {
            Work::Resting { until } if self.next().is_some() => Some(until),
            _ => None,
        };
        rested.into_iter().chain(self.staged().map(|(_, until)| until)).min()
    }

    /// Returns the table in force.
    pub(crate) fn in_force(&self) -> Option<&T> {
        let base = match &self.base {
            Base::InForce(table) => Some(table),
            Base::Absent | Base::Held(_) => None,
        };
        self.staged().map(|(table, _)| table).or(base)
    }

    /// Returns the table of all nodes, in force or held.
    pub(crate) fn base(&self) -> Option<&T> {
        match &self.base {
            Base::Absent => None,
            Base::Held(table) | Base::InForce(table) => Some(table),
        }
    }

    /// Returns whether the snapshot's table waits for the bus.
    pub(crate) fn is_holding(&self) -> bool {
        matches!(self.base, Base::Held(_))
    }

    /// Returns the staged table while it is in force, and when it lapses.
    pub(crate) fn staged(&self) -> Option<(&T, Duration)> {
        self.staged.get()
    }

    /// Returns how many publications are in quarantine.
    pub(crate) fn quarantined(&self) -> usize {
        self.quarantine.len()
    }

    /// Returns whether the bus's table of all nodes is in force here. It is not where it was refused: then there is a
    /// newer law.
    pub(crate) fn is_settled(&self) -> bool {
        matches!((&self.table, &self.base), (Latest::InForce(_), Base::InForce(_)))
    }

    /// Returns the newest known revision of a place; 0 when none is known.
    pub(crate) fn newest_known(&self, place: Place) -> u64 {
        self.latest(place).revision()
    }

    /// Returns the offer in a place that is refused while no trusted key vouches for it.
    pub(crate) fn distrusted(&self, place: Place) -> Option<&Offer<P>> {
        match self.latest(place) {
            Latest::Distrusted(offer) => Some(offer),
            _ => None,
        }
    }

    fn disconnected(&mut self) {
        self.link = Link::Down;
        match std::mem::replace(&mut self.work, Work::Idle) {
            Work::Reading(..) | Work::Idle => {}
            // The next connection announces the table again.
            Work::Recalling { offer, .. } => {
                let revision = offer.version.revision;
                self.settle(Place::Table, revision, Latest::Unknown { least: revision });
            }
            other => self.work = other,
        }
        self.release();
    }

    /// Handles something newer in a place.
    fn found(&mut self, place: Place, reading: Reading<P>) {
        match reading {
            Reading::Deleted { revision } => self.deleted(place, revision),
            reading => *self.latest_mut(place) = Latest::Read(reading),
        }
    }

    fn deleted(&mut self, place: Place, revision: u64) {
        *self.latest_mut(place) = Latest::Deleted(revision);
        match &self.work {
            Work::Examining { place: examined, .. } if *examined == place => self.work = Work::Abandoned,
            Work::Recalling { .. } if place == Place::Table => self.work = Work::Idle,
            _ => {}
        }
        if place == Place::Table {
            return self.ignore(Ignored::Deleted);
        }
        self.effects.push(Effect::StagedUnreadable(None));
        match self.staged.get().map(|(table, until)| (table.clone(), until)) {
            Some((table, until)) => self.staged = Staged::Ending { table, until },
            None => self.put_back(WITHDRAWN),
        }
    }

    fn read(&mut self, place: Place, revision: u64, reading: Option<Reading<P>>) {
        if !matches!(self.work, Work::Reading(asked, at) if (asked, at) == (place, revision)) {
            return;
        }
        self.work = Work::Idle;
        // Something newer was announced meanwhile, or the table was deleted.
        if !matches!(self.latest(place), Latest::Announced(at) if *at == revision) {
            return;
        }
        match reading {
            Some(reading) => self.found(place, reading),
            // A newer one has replaced it, and is announced next; or a replica lags, and is asked again.
            None => *self.latest_mut(place) = Latest::Unknown { least: revision },
        }
    }

    fn recalled(&mut self, missed: Vec<Offer<P>>, now: Duration) {
        match std::mem::replace(&mut self.work, Work::Idle) {
            Work::Recalling { offer, problems, took, attempt: Attempt::First } if missed.is_empty() => {
                self.work = Work::Recalling { offer, problems, took, attempt: Attempt::Second };
            }
            Work::Recalling { offer, problems, took, .. } if missed.is_empty() => {
                self.refuse(Place::Table, offer, problems, took, now);
            }
            Work::Recalling { offer, .. } => self.examine(Place::Table, offer, missed, now),
            other => self.work = other,
        }
    }

    /// Begins the next work, unless something is under way.
    fn take_up(&mut self, now: Duration) {
        if matches!(self.work, Work::Resting { until } if until <= now) {
            self.work = Work::Idle;
        }
        while matches!(self.work, Work::Idle) {
            let Some(place) = self.next() else { return };
            match std::mem::replace(self.latest_mut(place), Latest::Unknown { least: 0 }) {
                Latest::Read(reading) => self.compare(place, reading, now),
                Latest::Announced(revision) => {
                    *self.latest_mut(place) = Latest::Announced(revision);
                    self.work = Work::Reading(place, revision);
                }
                other => *self.latest_mut(place) = other,
            }
        }
    }

    /// Returns the place with work to begin: that of the table of all nodes first. A staged table waits until there is
    /// one of all nodes to which the node can return.
    fn next(&self) -> Option<Place> {
        let can_begin = |place| match self.latest(place) {
            Latest::Announced(_) => self.link == Link::Up,
            Latest::Read(_) => true,
            _ => false,
        };
        let may_stage = matches!(self.base, Base::InForce(_));
        let places = [Place::Table, Place::Rollout].into_iter().filter(|place| *place == Place::Table || may_stage);
        places.filter(|_| self.node != Node::Making).find(|place| can_begin(*place))
    }

    /// Compares what was read with what is in force; a newer table is examined.
    fn compare(&mut self, place: Place, reading: Reading<P>, now: Duration) {
        let offer = match reading {
            Reading::Offer(offer) => offer,
            Reading::Deleted { revision } => return self.deleted(place, revision),
            Reading::Unreadable { revision, problem } => return self.refuse_unread(place, revision, *problem),
        };
        if place == Place::Rollout {
            self.effects.push(Effect::StagedUnreadable(None));
        }
        let revision = offer.version.revision;
        let comparison = compare(&offer.version, self.base().map(Passed::version));
        let is_staged_here = offer.lease.is_some_and(|lease| lease.is_for_this_node && lease.until > now);
        match (place, comparison) {
            (Place::Table, Comparison::InForce) => {
                self.table = Latest::InForce(revision);
                self.promote_held(Warrant::Bus);
                self.effects.push(Effect::Confirmed);
            }
            (Place::Table, Comparison::Ignored(why)) => {
                self.table = Latest::Ignored(revision);
                self.ignore(why);
            }
            (Place::Rollout, Comparison::Newer) if is_staged_here => {
                if self.staged().is_some_and(|(staged, _)| staged.version().revision == revision) {
                    self.rollout = Latest::InForce(revision);
                } else {
                    self.examine_unless_refused(place, offer, now);
                }
            }
            // The staged table is for other nodes, lapsed, promoted, or overtaken.
            (Place::Rollout, _) => {
                self.rollout = Latest::Ignored(revision);
                self.put_back(NOT_OURS);
            }
            (Place::Table, Comparison::Newer) => self.examine_unless_refused(place, offer, now),
        }
    }

    fn examine_unless_refused(&mut self, place: Place, offer: Offer<P>, now: Duration) {
        let in_force = self.base().map(Passed::version);
        match self.quarantine.problems(&offer.fingerprint, in_force).map(<[Problem]>::to_vec) {
            None => {
                *self.latest_mut(place) = Latest::Examining(offer.version.revision);
                self.examine(place, offer, Vec::new(), now);
            }
            Some(problems) => {
                *self.latest_mut(place) = Latest::Refused(offer.version.revision);
                self.refused(place, (&offer.version, Some(&offer.publication)), problems, Repetition::Again);
            }
        }
    }

    fn examine(&mut self, place: Place, offer: Offer<P>, missed: Vec<Offer<P>>, now: Duration) {
        let scope = if missed.is_empty() { Scope::Alone } else { Scope::AfterMissed };
        self.work = Work::Examining { place, offer: offer.clone(), scope, began: now };
        self.effects.push(Effect::Examine { place, offer, missed });
    }

    /// Returns whether a table of all nodes that is newer than this revision is on its way.
    fn is_coming_after(&self, revision: u64) -> bool {
        let under_way = self.work.about().filter(|(place, _)| *place == Place::Table).map(|(_, at)| at);
        self.table.pending().max(under_way).is_some_and(|coming| coming > revision)
    }

    /// Records the result for a revision that was examined, unless something newer lies in its place, or a new
    /// connection has not announced it yet: its bucket may be another one.
    fn settle(&mut self, place: Place, revision: u64, latest: Latest<P>) {
        if matches!(self.latest(place), Latest::Examining(at) if *at == revision) {
            *self.latest_mut(place) = latest;
        }
    }

    fn latest(&self, place: Place) -> &Latest<P> {
        match place {
            Place::Table => &self.table,
            Place::Rollout => &self.rollout,
        }
    }

    fn latest_mut(&mut self, place: Place) -> &mut Latest<P> {
        match place {
            Place::Table => &mut self.table,
            Place::Rollout => &mut self.rollout,
        }
    }
}
