//! Primaries and standbys that take writes over, seen by several nodes: partitions, losses, restarts and returns.
//!
//! A small fleet is checked state by state, a larger one on random courses of events. Never do two nodes send writes to
//! two regions of which both say that they are the primary; never is a term begun by a node that hears no majority; and
//! never do writes go to a region that misses more of what was written to the other than it may.
//!
//! A node forgets what it knows when it starts anew. So nodes start anew only while the others of a majority know of the
//! latest decision: this is what operators are asked to see to. When the standby says that it is a replica after it was the
//! primary, the other has what it had: this is their word, and no lag is asked for.

use std::time::Duration;

use policy::health::{Claim, Fleet, Gate, Holder, LagWord, Pair, Side, Word, Writer};
use policy::region::TakesWrites;
use proptest::prelude::*;
use stateright::{Checker, Model, Property};

/// Short, so that much happens in few seconds; the clocks of this fleet are all the same.
const PROMOTE_AFTER: Duration = Duration::from_secs(5);

/// How far behind a region may be.
const MAX_LAG: Duration = Duration::from_secs(4);

/// For how long the nodes of a minority may go on writing to a primary that the others find lost, a second each for what they
/// hear and for what they do.
const UNSEEN: Duration = Duration::from_secs(2 + Writer::WORD_AGE.as_secs() + 1);

const SECOND: Duration = Duration::from_secs(1);

/// One of the two regions, as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Region {
    is_up: bool,
    claim: Claim,
    /// When it was last written to.
    written: Duration,
    /// Until when it has what was written to the other.
    has: Duration,
}

/// What a node says each second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Message {
    at: Duration,
    word: Word,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    writer: Writer,
    is_on_bus: bool,
    /// Whether it hears what others say: it may be heard all the same.
    hears: bool,
    sees_primary: bool,
    sees_standby: bool,
    lags: [Option<LagWord>; 2],
    heard: Vec<Option<Message>>,
}

/// Everything there is, at one second.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    now: Duration,
    nodes: Vec<Node>,
    primary: Region,
    standby: Region,
    /// Whether the standby has been a primary, and has stepped down: it does not become one once more.
    has_stepped_down: bool,
    /// Whether a replica gets what is written to the other.
    replicates: bool,
    changes_left: u8,
    /// When it is over.
    until: Duration,
    wrong: Option<&'static str>,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Event {
    Second,
    Bus(usize),
    Hears(usize),
    SeesPrimary(usize),
    SeesStandby(usize),
    /// It starts anew, and goes by what it has kept on disk.
    Restart(usize),
    /// It starts anew, and knows nothing.
    Forgets(usize),
    PrimaryUp,
    PrimaryClaim,
    StandbyUp,
    StandbyClaim,
    /// Of this one, that it says nothing any more of what it is, or does so again.
    Mute(Holder),
    Replication,
}

impl World {
    fn new(nodes: usize, changes_left: u8) -> Self {
        let node = Node {
            writer: Writer::default(),
            is_on_bus: true,
            hears: true,
            sees_primary: true,
            sees_standby: true,
            lags: [None; 2],
            heard: vec![None; nodes],
        };
        let region = |claim| Region { is_up: true, claim, written: Duration::ZERO, has: SECOND };
        let mut world = Self {
            now: SECOND,
            nodes: vec![node; nodes],
            primary: region(Claim::Primary),
            standby: region(Claim::Replica),
            has_stepped_down: false,
            replicates: true,
            changes_left,
            until: SECOND * u32::MAX,
            wrong: None,
        };
        world.second();
        assert!(world.nodes.iter().all(|node| node.writer.gate() == Gate::To(Holder::Primary)));
        world
    }

    fn pair(&self, node: &Node) -> Pair {
        let fresh = |message: &Message| self.now <= message.at + Writer::WORD_AGE;
        let messages: Vec<Message> = node.heard.iter().copied().flatten().filter(fresh).collect();
        let words: Vec<Word> = messages.iter().map(|message| message.word).collect();
        let side = |region: Region, is_seen: bool, lag: Option<LagWord>, votes: usize| {
            let is_down = !region.is_up || !is_seen;
            Side {
                is_down,
                is_asked: true,
                claim: (!is_down).then_some(region.claim),
                claimed_at: self.now,
                lag,
                votes,
            }
        };
        let primary_votes = words.iter().filter(|word| word.primary_lost).count();
        let standby_votes = words.iter().filter(|word| word.standby_lost).count();
        Pair {
            primary: side(self.primary, node.sees_primary, node.lags[0], primary_votes),
            standby: side(self.standby, node.sees_standby, node.lags[1], standby_votes),
            fleet: Some(Fleet::of(self.nodes.len(), &words, node.writer.term())),
        }
    }

    /// Lets a second pass: everybody asks, says and decides.
    fn second(&mut self) {
        self.now += SECOND;
        let now = self.now;
        let (primary, standby) = (self.primary, self.standby);
        for (region, other) in [(&mut self.primary, standby), (&mut self.standby, primary)] {
            let follows = self.replicates && region.is_up && other.is_up;
            if follows && region.claim != Claim::Primary && other.claim != Claim::Replica {
                region.has = now;
            }
        }
        for node in &mut self.nodes {
            let seen = [(self.primary, node.sees_primary), (self.standby, node.sees_standby)];
            for (lag, (region, is_seen)) in node.lags.iter_mut().zip(seen) {
                if region.is_up && is_seen && region.claim == Claim::Replica {
                    *lag = Some(LagWord { told: now, behind: now - region.has });
                }
            }
        }
        for speaker in 0..self.nodes.len() {
            let node = &self.nodes[speaker];
            let pair = self.pair(node);
            let word = Word {
                primary_lost: pair.primary.is_lost(),
                standby_lost: pair.standby.is_lost(),
                term: node.writer.term(),
                has_spoken: node.writer.has_spoken(),
                lag: node.writer.heard_lag(),
            };
            let message = Message { at: self.now, word };
            if node.is_on_bus {
                let others = self
                    .nodes
                    .iter_mut()
                    .enumerate()
                    .filter(|(index, node)| *index != speaker && node.is_on_bus && node.hears);
                others.for_each(|(_, node)| node.heard[speaker] = Some(message));
            }
        }
        let latest = self.nodes.iter().filter_map(|node| node.writer.term()).max().unwrap_or(0);
        for index in 0..self.nodes.len() {
            let pair = self.pair(&self.nodes[index]);
            let takes = TakesWrites { max_lag: MAX_LAG, voters: 3 };
            self.nodes[index].writer.observe(self.now, &pair, PROMOTE_AFTER, &takes);
            let fleet = pair.fleet.expect("a fleet");
            if self.nodes[index].writer.term().is_some_and(|term| term > latest) && !fleet.is_majority(fleet.heard + 1)
            {
                self.wrong = Some("a minority has begun a term");
            }
        }
        let to = |holder| self.nodes.iter().any(|node| node.writer.gate() == Gate::To(holder));
        let both = self.primary.claim == Claim::Primary && self.standby.claim == Claim::Primary;
        if both && to(Holder::Primary) && to(Holder::Standby) {
            self.wrong = Some("writes go to two regions which both say that they are the primary");
        }
        for node in &self.nodes {
            let (claims, sees) = match node.writer.gate() {
                Gate::To(Holder::Primary) => (self.primary, node.sees_primary),
                Gate::To(Holder::Standby) => (self.standby, node.sees_standby),
                Gate::Nobody(_) => continue,
            };
            if !claims.is_up || !sees || claims.claim != Claim::Primary {
                self.wrong = Some("writes go to a region that is lost, or does not say that it is the primary");
            }
        }
        for (holder, region, other) in
            [(Holder::Primary, &mut self.primary, standby), (Holder::Standby, &mut self.standby, primary)]
        {
            if self.nodes.iter().any(|node| node.writer.gate() == Gate::To(holder)) {
                region.written = now;
                if other.written.saturating_sub(region.has) > MAX_LAG + UNSEEN {
                    self.wrong = Some("writes go to a region that misses more than it may");
                }
            }
        }
    }

    /// Returns whether a node may forget what it knows: others, a majority, know of every decision by which anybody writes.
    fn may_forget(&self, node: usize) -> bool {
        let latest = self.nodes.iter().filter_map(|node| node.writer.term()).max().unwrap_or(0);
        let others = self.nodes.iter().enumerate().filter(|(index, other)| {
            *index != node
                && other.writer.term().unwrap_or(0) >= latest
                && (latest == 0 || other.writer.term().is_some())
        });
        2 * others.count() > self.nodes.len()
    }

    /// Lets something happen; false where it cannot.
    fn happens(&mut self, event: Event) -> bool {
        let other = |claim| if claim == Claim::Replica { Claim::Primary } else { Claim::Replica };
        match event {
            Event::Second => self.second(),
            Event::Bus(node) => self.nodes[node].is_on_bus ^= true,
            Event::Hears(node) => self.nodes[node].hears ^= true,
            Event::Replication => self.replicates ^= true,
            Event::Mute(holder) => {
                let region = if holder == Holder::Primary { &mut self.primary } else { &mut self.standby };
                match region.claim {
                    Claim::Primary => region.claim = Claim::Unsaid,
                    Claim::Unsaid => region.claim = Claim::Primary,
                    Claim::Replica | Claim::Mixed => return false,
                }
            }
            Event::Forgets(node) if !self.may_forget(node) => return false,
            Event::SeesPrimary(node) => self.nodes[node].sees_primary ^= true,
            Event::SeesStandby(node) => self.nodes[node].sees_standby ^= true,
            Event::Restart(node) | Event::Forgets(node) => {
                let before = self.nodes[node].writer;
                let writer = match before.term().filter(|_| matches!(event, Event::Restart(_))) {
                    Some(term) => Writer::remembering(term, before.has_spoken(), self.now),
                    None => Writer::default(),
                };
                let fresh =
                    Node { writer, lags: [None; 2], heard: vec![None; self.nodes.len()], ..self.nodes[node].clone() };
                self.nodes[node] = fresh;
            }
            Event::PrimaryUp => self.primary.is_up ^= true,
            Event::PrimaryClaim => self.primary.claim = other(self.primary.claim),
            Event::StandbyUp => self.standby.is_up ^= true,
            Event::StandbyClaim if self.has_stepped_down => return false,
            Event::StandbyClaim => {
                self.has_stepped_down = self.standby.claim != Claim::Replica;
                if self.has_stepped_down {
                    self.primary.has = self.now;
                }
                self.standby.claim = other(self.standby.claim);
            }
        }
        if event != Event::Second {
            self.changes_left -= 1;
        }
        true
    }

    fn gates(&self) -> Vec<Gate> {
        self.nodes.iter().map(|node| node.writer.gate()).collect()
    }
}

/// Three nodes, of which the last is the one that is cut off and the first the one that starts anew.
struct Small;

const LAST: usize = 2;

impl Model for Small {
    type State = World;
    type Action = Event;

    fn init_states(&self) -> Vec<World> {
        let well = World::new(3, u8::MAX);
        // A primary that only the last reaches, as the others are about to promote the standby; and once they have.
        let mut torn = well.clone();
        for event in [Event::SeesPrimary(0), Event::SeesPrimary(1), Event::StandbyClaim] {
            torn.happens(event);
        }
        (0..3).for_each(|_| torn.second());
        let mut promoted = torn.clone();
        (0..6).for_each(|_| promoted.second());
        assert_eq!(promoted.gates(), [Gate::To(Holder::Standby); 3]);
        // A primary that was lost long after its replica had ceased to follow.
        let mut behind = well.clone();
        behind.happens(Event::Replication);
        (0..20).for_each(|_| behind.second());
        behind.happens(Event::PrimaryUp);
        behind.happens(Event::StandbyClaim);
        (0..4).for_each(|_| behind.second());
        [well, torn, promoted, behind]
            .map(|world| World { changes_left: CHANGES, until: world.now + LONGEST, ..world })
            .into()
    }

    fn actions(&self, world: &World, events: &mut Vec<Event>) {
        if world.now < world.until {
            events.push(Event::Second);
        }
        if world.changes_left > 0 {
            events.extend([
                Event::Bus(LAST),
                Event::SeesPrimary(LAST),
                Event::SeesStandby(LAST),
                Event::Restart(0),
                Event::Restart(1),
                Event::Restart(LAST),
                Event::Forgets(0),
                Event::Forgets(LAST),
                Event::PrimaryUp,
                Event::PrimaryClaim,
                Event::StandbyUp,
                Event::StandbyClaim,
                Event::Mute(Holder::Primary),
                Event::Mute(Holder::Standby),
                Event::Hears(LAST),
                // With the last one, all that see the primary.
                Event::SeesPrimary(0),
                Event::SeesPrimary(1),
            ]);
        }
    }

    fn next_state(&self, world: &World, event: Event) -> Option<World> {
        let mut next = world.clone();
        next.happens(event).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("fenced", |_, world: &World| world.wrong.is_none()),
            Property::sometimes("the standby has the writes", |_, world: &World| {
                world.gates() == [Gate::To(Holder::Standby); 3]
            }),
            Property::sometimes("the primary has them back", |_, world: &World| {
                world
                    .nodes
                    .iter()
                    .all(|node| node.writer.term() == Some(2) && node.writer.gate() == Gate::To(Holder::Primary))
            }),
            Property::sometimes(
                "two nodes have promoted what the third, cut off, does not write to",
                |_, world: &World| {
                    let gates = world.gates();
                    gates[..LAST] == [Gate::To(Holder::Standby); 2]
                        && gates[LAST] == Gate::Nobody(policy::Withheld::CutOff)
                },
            ),
        ]
    }
}

/// How much happens from each beginning, and in how many seconds: enough for a promotion, and for a node that is cut off to
/// stop.
const CHANGES: u8 = 3;
const LONGEST: Duration = Duration::from_secs(8);

#[test]
fn no_course_of_events_has_writes_go_to_two_primaries() {
    let checker = Small.checker().threads(2).spawn_bfs().join();
    println!("{} states", checker.unique_state_count());
    checker.assert_properties();
    assert!(checker.is_done(), "all of them");
    assert!(checker.unique_state_count() > 50_000, "{} states", checker.unique_state_count());
}

/// Something that happens to a fleet of so many. Seconds pass more often than not.
fn event(nodes: usize) -> impl Strategy<Value = Event> {
    let node = move || 0..nodes;
    prop_oneof![
        20 => Just(Event::Second),
        2 => node().prop_map(Event::Bus),
        2 => node().prop_map(Event::SeesPrimary),
        1 => node().prop_map(Event::SeesStandby),
        1 => Just(Event::PrimaryUp),
        1 => Just(Event::PrimaryClaim),
        1 => Just(Event::StandbyUp),
        1 => Just(Event::StandbyClaim),
        1 => node().prop_map(Event::Hears),
        1 => node().prop_map(Event::Restart),
        1 => node().prop_map(Event::Forgets),
        1 => Just(Event::Replication),
        1 => Just(Event::Mute(Holder::Primary)),
        1 => Just(Event::Mute(Holder::Standby)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_larger_fleet_on_a_longer_course_is_fenced_too(events in proptest::collection::vec(event(5), 0..120)) {
        let mut world = World::new(5, u8::MAX);
        for event in events {
            world.happens(event);
            prop_assert_eq!(world.wrong, None, "{:?} after {:?}", event, world);
        }
        // Whatever has happened, once all is well all write to the same region.
        for node in &mut world.nodes {
            (node.is_on_bus, node.hears, node.sees_primary, node.sees_standby) = (true, true, true, true);
        }
        world.replicates = true;
        (world.primary.has, world.standby.has) = (world.now, world.now);
        (world.primary.is_up, world.primary.claim) = (true, Claim::Primary);
        (world.standby.is_up, world.standby.claim) = (true, Claim::Replica);
        (0..10).for_each(|_| world.second());
        prop_assert_eq!(world.gates(), vec![Gate::To(Holder::Primary); 5]);
    }
}

/// Everybody who knows of a promotion starts anew at once, while the standby is gone and the old primary is back: who has
/// kept it on disk writes nowhere, and to the standby once that is back.
#[test]
fn a_fleet_that_starts_anew_together_keeps_to_its_decision() {
    let restarted = |keeps: bool| {
        let mut world = World::new(3, u8::MAX);
        world.happens(Event::PrimaryUp);
        world.happens(Event::StandbyClaim);
        (0..10).for_each(|_| world.second());
        assert_eq!(world.gates(), [Gate::To(Holder::Standby); 3]);
        world.happens(Event::PrimaryUp);
        world.happens(Event::StandbyUp);
        for node in &mut world.nodes {
            let term = node.writer.term().filter(|_| keeps);
            let remembering = |term| Writer::remembering(term, node.writer.has_spoken(), world.now);
            let writer = term.map_or_else(Writer::default, remembering);
            *node = Node { writer, lags: [None; 2], heard: vec![None; 3], ..node.clone() };
        }
        (0..30).for_each(|_| world.second());
        world
    };
    let mut kept = restarted(true);
    assert!(kept.nodes.iter().all(|node| node.writer.term() == Some(1)), "{kept:?}");
    assert!(kept.gates().iter().all(|gate| matches!(gate, Gate::Nobody(_))), "{:?}", kept.gates());
    kept.happens(Event::StandbyUp);
    (0..5).for_each(|_| kept.second());
    assert_eq!((kept.gates(), kept.wrong), (vec![Gate::To(Holder::Standby); 3], None));
    // Without it the primary gets writes, which lacks what the standby had.
    assert_eq!(restarted(false).gates(), [Gate::To(Holder::Primary); 3]);
}

/// A promotion that all but one node, which hears nobody any more, have taken back, since the primary came back at once: once
/// that is a replica, the one must not write to a standby that misses what the others wrote meanwhile.
#[test]
fn a_decision_that_others_have_taken_back_lets_nobody_write() {
    use Event::{Hears, PrimaryClaim, PrimaryUp, Replication, Restart, Second, SeesStandby, StandbyClaim};
    let mut world = World::new(5, u8::MAX);
    let pass = |world: &mut World, events: &[Event]| events.iter().for_each(|event| assert!(world.happens(*event)));
    pass(&mut world, &[SeesStandby(3), Hears(2), PrimaryUp, Second, Second, Second, StandbyClaim, Restart(2), Second]);
    pass(&mut world, &[SeesStandby(0), Replication, Hears(1), Second, Second]);
    assert_eq!(world.nodes[1].writer.term(), Some(1));
    pass(&mut world, &[PrimaryUp, Second, Second, Second, Second, Second]);
    assert_eq!((world.nodes[1].writer.term(), world.nodes[4].writer.gate()), (Some(1), Gate::To(Holder::Primary)));
    pass(&mut world, &[PrimaryClaim, Second]);
    assert_eq!((world.nodes[1].writer.gate(), world.wrong), (Gate::Nobody(policy::Withheld::CutOff), None));
}

/// A promotion by a few nodes, of which the others do not hear or see enough to go by it: the few do not write by it, since the
/// others go on once the primary says again that it is one.
#[test]
fn a_promotion_that_no_majority_goes_by_lets_nobody_write() {
    use Event::{Hears, PrimaryClaim, Replication, Second, SeesStandby, StandbyClaim};
    let mut world = World::new(5, u8::MAX);
    let pass = |world: &mut World, events: &[Event]| events.iter().for_each(|event| assert!(world.happens(*event)));
    pass(&mut world, &[Hears(0), Replication, Hears(1), PrimaryClaim, SeesStandby(2), StandbyClaim]);
    pass(&mut world, &[Second; 10]);
    assert_eq!((world.nodes[3].writer.term(), world.nodes[2].writer.term()), (Some(1), Some(0)));
    assert!(world.gates().iter().all(|gate| matches!(gate, Gate::Nobody(_))), "{:?}", world.gates());
    pass(&mut world, &[PrimaryClaim, Second]);
    assert_eq!((world.nodes[2].writer.gate(), world.wrong), (Gate::To(Holder::Primary), None));
}
