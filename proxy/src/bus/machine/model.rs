//! Checks the machine beside a bus that reorders, loses and repeats changes, lags, and comes and goes: every order of
//! events in small worlds.
//!
//! What is checked in each state: what is in force was found good; revisions do not go back; what was taken away does
//! not go in force; each change of what is in force has an effect that performs it. And from each state a quiet while,
//! in which no change is delivered and the bus is only asked, leads to where the node should be: nothing is stuck,
//! and the newest good table is in force, whatever was lost on its way.

mod bucket;
mod moment;

use std::time::Duration;

use config::bus::Place;
use stateright::{Checker, Model, Property};

use self::bucket::{Kind, Stored, What, accepted};
use self::moment::{Action, Budget, LEASE, Moment};
use super::Machine;
use super::state::{Base, Latest, Node, Scope, Staged, Work};

/// Something that must happen in a world, and how to see that it does.
type Sight = (&'static str, fn(&World, &Moment) -> bool);

/// A small world: what is written there, and how much may happen.
struct World {
    writes: Vec<(Place, What)>,
    budget: Budget,
    has_new_bucket: bool,
    has_key_later: bool,
    starts_from_snapshot: bool,
    /// What must happen in it.
    sights: &'static [Sight],
}

const NONE: Budget = Budget { writes: 0, losses: 0, repetitions: 0, lags: 0, disconnections: 0, restarts: 0 };

impl Model for World {
    type State = Moment;
    type Action = Action;

    fn init_states(&self) -> Vec<Moment> {
        let first = Stored { revision: 1, epoch: 1, what: What::Table(Kind::Good(2)) };
        let snapshot = self.starts_from_snapshot.then(|| accepted(first, Kind::Good(2)));
        let mut moment = Moment {
            machine: Machine::new(),
            missed: Vec::new(),
            snapshot,
            tables: vec![first],
            rollout: None,
            next_revision: 2,
            wire: Vec::new(),
            is_connected: false,
            has_key: !self.has_key_later,
            now: Duration::ZERO,
            left: self.budget,
            seen: 0,
            seen_deleted: 0,
            broken: None,
        };
        moment.start();
        vec![moment]
    }

    fn actions(&self, moment: &Moment, actions: &mut Vec<Action>) {
        let Moment { machine, left, .. } = moment;
        if left.writes > 0 {
            actions.extend(self.writes.iter().map(|(place, what)| Action::Write(*place, *what)));
            actions.extend(self.has_new_bucket.then_some(Action::NewBucket));
        }
        actions.extend((!moment.has_key).then_some(Action::KeyComes));
        for index in 0..moment.wire.len() {
            actions.push(Action::Deliver(index));
            actions.extend((left.losses > 0).then_some(Action::Lose(index)));
            actions.extend((left.repetitions > 0).then_some(Action::Repeat(index)));
        }
        match machine.request() {
            Some(_) => {
                actions.push(Action::Answer);
                actions.extend((left.lags > 0).then_some(Action::Lag));
            }
            None if moment.is_connected => {
                actions.push(Action::Ask);
                actions.extend((left.lags > 0).then_some(Action::AskAndCountNone));
            }
            None => {}
        }
        match machine.work {
            Work::Examining { .. } | Work::Abandoned => actions.push(Action::Examined),
            Work::Resting { .. } => actions.push(Action::Rested),
            _ => {}
        }
        actions.extend((machine.node == Node::Making).then_some(Action::NodeMade));
        if moment.now.is_zero() && matches!(moment.rollout, Some(Stored { what: What::Staged { .. }, .. })) {
            actions.push(Action::Lapse);
        }
        match moment.is_connected {
            false => actions.push(Action::Connect),
            true => actions.extend((left.disconnections > 0).then_some(Action::Disconnect)),
        }
        actions.extend((left.restarts > 0).then_some(Action::Restart));
    }

    fn next_state(&self, last: &Moment, action: Action) -> Option<Moment> {
        let mut moment = last.clone();
        moment.act(action);
        (moment != *last).then_some(moment)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let is_good: fn(&World, &Moment) -> bool = |_, moment| {
            let tables = moment.machine.base().into_iter().chain(moment.machine.staged().map(|(table, _)| table));
            tables.into_iter().all(|table| moment.is_good(table.kind))
        };
        // What is on its way may all be lost: that is the same moment without it.
        let ends_well: fn(&World, &Moment) -> bool =
            |_, moment| !moment.wire.is_empty() || moment.clone().settled().is_ok();
        let always = [
            Property::always(ALWAYS[0], |_, moment: &Moment| moment.broken.is_none()),
            Property::always(ALWAYS[1], is_good),
            Property::always(ALWAYS[2], ends_well),
        ];
        always.into_iter().chain(self.sights.iter().map(|(name, seen)| Property::sometimes(name, *seen))).collect()
    }
}

const ALWAYS: [&str; 3] =
    ["nothing breaks", "what is in force is good", "a quiet while leads to where the node should be"];

const fn staged(kind: Kind) -> (Place, What) {
    (Place::Rollout, What::Staged { kind, is_ours: true, until: LEASE })
}

/// Checks a world, and that what it is for happens in it.
fn check(world: World) {
    let checker = world.checker().threads(2).spawn_bfs().join();
    println!("{} states", checker.unique_state_count());
    for name in ALWAYS {
        if let Some(path) = checker.discovery(name) {
            let last = path.last_state().clone();
            let why = (last.broken, last.clone().settled());
            panic!("{name}: {why:?} after {:#?}\n{last:#?}", path.into_actions());
        }
    }
    checker.assert_properties();
}

#[test]
fn tables_of_all_whatever_is_lost_repeated_or_late() {
    let world = World {
        writes: vec![
            (Place::Table, What::Table(Kind::Good(2))),
            (Place::Table, What::Table(Kind::Bad)),
            (Place::Table, What::Deleted),
        ],
        budget: Budget { writes: 2, losses: 1, repetitions: 1, lags: 1, disconnections: 1, restarts: 0 },
        has_new_bucket: false,
        has_key_later: false,
        starts_from_snapshot: false,
        sights: &[
            ("a deleted table", |_, moment| matches!(moment.machine.table, Latest::Deleted(_))),
            ("an examination whose table is taken away", |_, moment| moment.machine.work == Work::Abandoned),
            ("a rest", |_, moment| matches!(moment.machine.work, Work::Resting { .. })),
        ],
    };
    check(world);
}

#[test]
fn tables_that_shrink_and_a_start_from_the_snapshot() {
    let world = World {
        writes: vec![
            (Place::Table, What::Table(Kind::Good(1))),
            (Place::Table, What::Table(Kind::Good(0))),
            staged(Kind::Good(0)),
        ],
        budget: Budget { writes: 2, losses: 1, restarts: 1, lags: 1, ..NONE },
        has_new_bucket: true,
        has_key_later: false,
        starts_from_snapshot: true,
        sights: &[
            ("a held table", |_, moment| matches!(moment.machine.base, Base::Held(_))),
            ("missed tables are asked for", |_, moment| matches!(moment.machine.work, Work::Recalling { .. })),
            ("an examination after those", |_, moment| {
                matches!(moment.machine.work, Work::Examining { scope: Scope::AfterMissed, .. })
            }),
            ("a new bucket", |_, moment| moment.machine.base().is_some_and(|base| base.version.epoch == 2)),
            ("two steps at once", |_, moment| moment.machine.base().is_some_and(|base| base.kind == Kind::Good(0))),
        ],
    };
    check(world);
}

#[test]
fn staged_tables_are_promoted_withdrawn_replaced_and_lapse() {
    let world = World {
        writes: vec![
            staged(Kind::Good(2)),
            (Place::Rollout, What::Deleted),
            (Place::Table, What::Table(Kind::Good(2))),
        ],
        budget: Budget { writes: 3, repetitions: 1, ..NONE },
        has_new_bucket: false,
        has_key_later: false,
        starts_from_snapshot: true,
        sights: &[
            ("a staged table", |_, moment| matches!(moment.machine.staged, Staged::InForce { .. })),
            ("a promotion on its way", |_, moment| matches!(moment.machine.staged, Staged::Ending { .. })),
            ("an examination whose table is withdrawn", |_, moment| moment.machine.work == Work::Abandoned),
        ],
    };
    check(world);
}

#[test]
fn staged_tables_that_are_bad_for_others_or_distrusted() {
    let others = What::Staged { kind: Kind::Good(2), is_ours: false, until: LEASE };
    let world = World {
        writes: vec![
            staged(Kind::Good(1)),
            staged(Kind::Bad),
            staged(Kind::Unsigned),
            (Place::Rollout, What::Unreadable),
            (Place::Table, What::Unreadable),
            (Place::Rollout, others),
            (Place::Table, What::Table(Kind::Unsigned)),
        ],
        budget: Budget { writes: 2, disconnections: 1, ..NONE },
        has_new_bucket: false,
        has_key_later: true,
        starts_from_snapshot: true,
        sights: &[
            ("a distrusted table of all", |_, moment| matches!(moment.machine.table, Latest::Distrusted(_))),
            ("a distrusted staged table", |_, moment| matches!(moment.machine.rollout, Latest::Distrusted(_))),
            ("one that is trusted later", |_, moment| {
                moment.machine.staged().is_some_and(|(table, _)| table.kind == Kind::Unsigned)
            }),
        ],
    };
    check(world);
}
