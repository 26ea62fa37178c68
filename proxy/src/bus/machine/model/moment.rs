//! The model's state at one moment, what may happen then, and what must hold of what follows.

use std::time::Duration;

use config::bus::Place;

use super::bucket::{Accepted, Kind, Stored, What, order, reading};
use crate::bus::examine::Refusal;
use crate::bus::machine::state::{Base, Node, Scope, Staged, Work};
use crate::bus::machine::{Effect, Event, Machine, Reading, Request};

/// The model's state at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Moment {
    pub(super) machine: Machine<Kind, Accepted>,
    /// The missed tables that the examination under way goes over before its offer.
    pub(super) missed: Vec<Kind>,
    /// The last table that was written to disk.
    pub(super) snapshot: Option<Accepted>,
    pub(super) tables: Vec<Stored>,
    pub(super) rollout: Option<Stored>,
    pub(super) next_revision: u64,
    /// What the watch has still to deliver, in any order.
    pub(super) wire: Vec<(Place, Stored)>,
    pub(super) is_connected: bool,
    pub(super) has_key: bool,
    /// Zero, or after the leases that began then are over.
    pub(super) now: Duration,
    pub(super) left: Budget,
    /// The newest revision in the place of staged tables that this process has seen.
    pub(super) seen: u64,
    /// The newest delete marker of the table of all nodes that this process has seen.
    pub(super) seen_deleted: u64,
    pub(super) broken: Option<&'static str>,
}

/// How much may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    pub(super) writes: u8,
    pub(super) losses: u8,
    pub(super) repetitions: u8,
    /// Requests that are answered with "not there", as by a replica that lags.
    pub(super) lags: u8,
    pub(super) disconnections: u8,
    pub(super) restarts: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Write(Place, What),
    /// The bucket is created again, with a table of a new epoch.
    NewBucket,
    KeyComes,
    Deliver(usize),
    Lose(usize),
    Repeat(usize),
    Answer,
    Lag,
    /// The bus is asked what is new.
    Ask,
    /// The bus is asked, and lists no table.
    AskAndCountNone,
    Examined,
    NodeMade,
    Rested,
    Lapse,
    Connect,
    Disconnect,
    Restart,
}

impl Moment {
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Write(place, what) => {
                let epoch = self.tables.last().map_or(1, |table| table.epoch);
                self.write(place, what, epoch);
            }
            Action::NewBucket => {
                self.left.writes -= 1;
                let epoch = self.tables.last().map_or(1, |table| table.epoch + 1);
                self.tables = vec![Stored { revision: 1, epoch, what: What::Table(Kind::Good(2)) }];
                (self.rollout, self.next_revision) = (None, 2);
                (self.seen, self.seen_deleted) = (0, 0);
                // The session notices, and ends.
                self.disconnected();
            }
            Action::KeyComes => self.has_key = true,
            Action::Deliver(index) => {
                let (place, stored) = self.wire.remove(index);
                self.tell(place, stored);
            }
            Action::Lose(index) => {
                self.left.losses -= 1;
                self.wire.remove(index);
            }
            Action::Repeat(index) => {
                self.left.repetitions -= 1;
                let (place, stored) = self.wire[index];
                self.tell(place, stored);
            }
            Action::Answer => self.answer(),
            Action::Lag => {
                self.left.lags -= 1;
                match self.machine.request() {
                    Some(Request::Read(place, revision)) => self.on(Event::Read(place, revision, None), self.now),
                    Some(Request::Recall { .. }) => self.on(Event::Recalled(Vec::new()), self.now),
                    None => {}
                }
            }
            Action::Ask => self.ask(),
            Action::AskAndCountNone => {
                self.left.lags -= 1;
                self.on(Event::TableAbsent, self.now);
            }
            Action::Examined => self.examined(),
            Action::NodeMade => self.on(Event::NodeMade, self.now),
            Action::Rested => {
                if let Work::Resting { until } = self.machine.work {
                    self.on(Event::Tick, until);
                }
            }
            Action::Lapse => {
                self.now = LEASE;
                self.on(Event::Tick, self.now);
                if self.machine.staged().is_some() {
                    self.broken = Some("a staged table outlives its lease");
                }
            }
            Action::Connect => {
                self.is_connected = true;
                self.on(Event::Connected, self.now);
                let last = self.tables.last().map(|table| (Place::Table, *table));
                self.wire = last.into_iter().chain(self.rollout.map(|staged| (Place::Rollout, staged))).collect();
            }
            Action::Disconnect => {
                self.left.disconnections -= 1;
                self.disconnected();
            }
            Action::Restart => {
                self.left.restarts -= 1;
                self.start();
            }
        }
    }

    /// Starts a process.
    pub(super) fn start(&mut self) {
        (self.machine, self.is_connected) = (Machine::new(), false);
        (self.seen, self.seen_deleted) = (0, 0);
        self.wire.clear();
        if let Some(table) = self.snapshot.clone() {
            self.on(Event::SnapshotLoaded(table), self.now);
        }
    }

    fn disconnected(&mut self) {
        self.is_connected = false;
        self.wire.clear();
        self.on(Event::Disconnected, self.now);
    }

    fn write(&mut self, place: Place, what: What, epoch: u64) {
        self.left.writes -= 1;
        let what = match what {
            What::Staged { kind, is_ours, .. } => What::Staged { kind, is_ours, until: self.now + LEASE },
            other => other,
        };
        let stored = Stored { revision: self.next_revision, epoch, what };
        self.next_revision += 1;
        match place {
            Place::Table => self.tables.push(stored),
            Place::Rollout => self.rollout = Some(stored),
        }
        if self.is_connected {
            self.wire.push((place, stored));
            self.wire.sort_unstable();
        }
    }

    /// Delivers a message by the watch.
    fn tell(&mut self, place: Place, stored: Stored) {
        self.note_seen(place, stored);
        let event = match stored.what {
            What::Deleted => Event::Found(place, Reading::Deleted { revision: stored.revision }),
            _ => Event::Announced(place, stored.revision),
        };
        self.on(event, self.now);
    }

    fn note_seen(&mut self, place: Place, stored: Stored) {
        match (place, stored.what) {
            // Too late: something newer is known.
            _ if !self.machine.latest(place).is_before(stored.revision) => {}
            (Place::Rollout, _) => self.seen = self.seen.max(stored.revision),
            (Place::Table, What::Deleted) => self.seen_deleted = self.seen_deleted.max(stored.revision),
            (Place::Table, _) => {}
        }
    }

    fn answer(&mut self) {
        match self.machine.request() {
            Some(Request::Read(place, revision)) => {
                let found = self.stored(place).into_iter().find(|stored| stored.revision == revision);
                self.on(Event::Read(place, revision, found.map(reading)), self.now);
            }
            Some(Request::Recall { after, before }) => {
                let between = |stored: &Stored| (after + 1..before).contains(&stored.revision);
                let missed = self.stored(Place::Table).into_iter().filter(between);
                let missed = missed.filter_map(|stored| reading(stored).into_offer()).collect();
                self.on(Event::Recalled(missed), self.now);
            }
            None => {}
        }
    }

    /// Asks the bus, as a session does.
    fn ask(&mut self) {
        for place in [Place::Table, Place::Rollout] {
            let known = self.machine.newest_known(place);
            let newer = match known {
                0 => self.stored(place).pop(),
                known => self.stored(place).into_iter().find(|stored| stored.revision > known),
            };
            if let Some(stored) = newer {
                self.note_seen(place, stored);
                self.on(Event::Found(place, reading(stored)), self.now);
            }
            while self.machine.request().is_some() {
                self.answer();
            }
        }
        for place in [Place::Table, Place::Rollout] {
            if self.has_key && self.machine.distrusted(place).is_some() {
                self.on(Event::Trusted(place), self.now);
            }
        }
        self.on(Event::NothingNewer, self.now);
    }

    fn examined(&mut self) {
        let result = match &self.machine.work {
            Work::Examining { offer, scope, .. } => {
                let base = self.machine.base().map(|base| base.kind);
                let base = match scope {
                    Scope::Alone => base,
                    Scope::AfterMissed => {
                        self.missed.iter().fold(base, |base, missed| match self.passes(*missed, base) {
                            Ok(()) => Some(*missed),
                            Err(_) => base,
                        })
                    }
                };
                let kind = offer.publication;
                self.passes(kind, base).map(|()| Accepted { version: offer.version.clone(), kind })
            }
            _ => Err(Refusal::Bad(Vec::new())),
        };
        self.missed.clear();
        // It takes a while.
        self.on(Event::Examined(result), self.now + Duration::from_secs(1));
    }

    fn passes(&self, kind: Kind, base: Option<Kind>) -> Result<(), Refusal> {
        match (kind, base) {
            (Kind::Bad, _) => Err(Refusal::Bad(Vec::new())),
            (Kind::Unsigned, _) if !self.has_key => Err(Refusal::Untrusted(Vec::new())),
            (Kind::Good(size), Some(Kind::Good(base))) if size + 1 < base => Err(Refusal::Shrinks(Vec::new())),
            _ => Ok(()),
        }
    }

    pub(super) fn is_good(&self, kind: Kind) -> bool {
        match kind {
            Kind::Good(_) => true,
            Kind::Bad => false,
            Kind::Unsigned => self.has_key,
        }
    }

    fn stored(&self, place: Place) -> Vec<Stored> {
        match place {
            Place::Table => self.tables.clone(),
            Place::Rollout => self.rollout.into_iter().collect(),
        }
    }

    /// Handles an event, and checks what must hold after it.
    fn on(&mut self, event: Event<Kind, Accepted>, now: Duration) {
        let order = |machine: &Machine<Kind, Accepted>| machine.base().map(|base| base.version.order());
        let revision = |table: Option<&Accepted>| table.map(|table| table.version.revision);
        let staged = |machine: &Machine<Kind, Accepted>| machine.staged().map(|(table, _)| table.version.revision);
        let before = self.machine.clone();
        let effects = self.machine.on(event, now);
        let machine = &self.machine;
        if order(machine) < order(&before) {
            self.broken = Some("the table of all goes back");
        }
        let base = |machine: &Machine<Kind, Accepted>| revision(machine.base());
        if base(machine) != base(&before) && base(machine).is_some_and(|revision| revision < self.seen_deleted) {
            self.broken = Some("a table goes in force that was deleted");
        }
        let is_new = staged(machine) != staged(&before);
        if is_new && staged(machine).is_some_and(|revision| revision < self.seen) {
            self.broken = Some("a staged table goes in force that was taken away");
        }
        if machine.staged().is_some() && machine.in_force().is_none() {
            self.broken = Some("a staged table has none to go back to");
        }
        let mut performed = false;
        for effect in effects {
            match effect {
                Effect::Examine { missed, .. } => {
                    self.missed = missed.iter().map(|offer| offer.publication).collect();
                }
                Effect::Accepted { place, table, .. } => {
                    performed = true;
                    if place == Place::Table {
                        self.snapshot = Some(table);
                    }
                }
                Effect::Released(_) => performed = true,
                Effect::Returned { from, .. } => performed |= from.is_some(),
                _ => {}
            }
        }
        if revision(self.machine.in_force()) != revision(before.in_force()) && !performed {
            self.broken = Some("no effect performs a change of what is in force");
        }
    }

    /// Returns the state after a quiet while, or what is wrong with it.
    pub(super) fn settled(mut self) -> Result<(), String> {
        if !self.is_connected {
            self.is_connected = true;
            self.on(Event::Connected, self.now);
        }
        for _ in 0..LONGEST_WHILE {
            let before = self.machine.clone();
            match &self.machine.work {
                _ if self.machine.node == Node::Making => self.on(Event::NodeMade, self.now),
                Work::Examining { .. } | Work::Abandoned => self.examined(),
                Work::Resting { until } => {
                    let until = *until;
                    self.on(Event::Tick, until);
                }
                Work::Reading(..) | Work::Recalling { .. } => self.answer(),
                Work::Idle => self.ask(),
            }
            if self.machine == before {
                return self.is_where_it_should_be();
            }
        }
        Err("it does not come to rest".to_owned())
    }

    fn is_where_it_should_be(&self) -> Result<(), String> {
        let machine = &self.machine;
        if let Some(broken) = self.broken {
            return Err(broken.to_owned());
        }
        let base = match &machine.base {
            Base::Held(_) => return Err("the snapshot's table is held back".to_owned()),
            Base::InForce(base) => Some(base),
            Base::Absent => None,
        };
        if machine.work != Work::Idle || machine.table.pending().is_some() {
            return Err("something stays under way".to_owned());
        }
        let (in_force, known) = (base.map(|base| base.version.order()), base.map(|base| base.kind));
        let live = self.tables.last().filter(|live| Some(order(live)) > in_force);
        if let Some(Stored { revision, epoch, what: What::Table(kind) }) = live {
            let after = in_force.filter(|(in_force, _)| in_force == epoch).map_or(0, |(_, revision)| revision);
            let missed = self.tables.iter().filter(|table| (after + 1..*revision).contains(&table.revision));
            let known = missed.fold(known, |known, table| match table.what {
                What::Table(kind) if known.is_some() && self.passes(kind, known).is_ok() => Some(kind),
                _ => known,
            });
            if self.passes(*kind, known).is_ok() {
                return Err(format!("a good table is not in force: {live:?}"));
            }
        }
        let expected = match self.rollout {
            Some(staged) => match staged.what {
                What::Staged { kind, is_ours: true, until }
                    if until > self.now
                        && in_force.is_some_and(|in_force| order(&staged) > in_force)
                        && self.passes(kind, known).is_ok() =>
                {
                    Some(staged.revision)
                }
                _ => None,
            },
            None => None,
        };
        let found = match &machine.staged {
            Staged::InForce { table, .. } => Some(table.version.revision),
            Staged::Ending { .. } => return Err("a withdrawn table stays in force".to_owned()),
            Staged::Absent => None,
        };
        if found == expected { Ok(()) } else { Err(format!("staged is {found:?}, and should be {expected:?}")) }
    }
}

/// A bound on steps: more than a node can need.
pub(super) const LONGEST_WHILE: usize = 64;

pub(super) const LEASE: Duration = Duration::from_secs(1000);
