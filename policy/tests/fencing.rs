//! Primaries and standbys that take writes over, seen by several nodes: partitions, losses, restarts and returns.
//!
//! A small fleet is checked state by state, a larger one on random courses of events. Never do two nodes send writes to
//! two regions of which both say that they are the primary; and never is a term begun by a node that hears no majority.

use std::time::Duration;

use policy::health::{Claim, Fleet, Gate, Holder, LagWord, Pair, Side, Word, Writer};
use policy::region::TakesWrites;
use proptest::prelude::*;
use stateright::{Checker, Model, Property};

const PROMOTE_AFTER: Duration = TakesWrites::LEAST_PROMOTE_AFTER;

const SECOND: Duration = Duration::from_secs(1);

/// One of the two regions, as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Region {
    is_up: bool,
    claim: Claim,
}

/// What a node says each second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Message {
    at: Duration,
    word: Word,
    lag: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    writer: Writer,
    is_on_bus: bool,
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
    SeesPrimary(usize),
    SeesStandby(usize),
    Restart(usize),
    PrimaryUp,
    PrimaryClaim,
    StandbyUp,
    StandbyClaim,
}

impl World {
    fn new(nodes: usize, changes_left: u8) -> Self {
        let node = Node {
            writer: Writer::default(),
            is_on_bus: true,
            sees_primary: true,
            sees_standby: true,
            lags: [None; 2],
            heard: vec![None; nodes],
        };
        let region = |claim| Region { is_up: true, claim };
        let mut world = Self {
            now: SECOND,
            nodes: vec![node; nodes],
            primary: region(Claim::Primary),
            standby: region(Claim::Replica),
            has_stepped_down: false,
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
        let side = |region: Region, is_seen: bool, own: Option<LagWord>, votes: usize| {
            let is_down = !region.is_up || !is_seen;
            let told = || messages.iter().filter_map(|message| message.lag).max();
            Side {
                is_down,
                is_asked: true,
                claim: (!is_down).then_some(region.claim),
                lag: own.or_else(|| Some(LagWord { told: self.now, behind: told()? })),
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
        for node in &mut self.nodes {
            let seen = [(self.primary, node.sees_primary), (self.standby, node.sees_standby)];
            for (lag, (region, is_seen)) in node.lags.iter_mut().zip(seen) {
                if region.is_up && is_seen && region.claim == Claim::Replica {
                    *lag = Some(LagWord { told: self.now, behind: Duration::ZERO });
                }
            }
        }
        for speaker in 0..self.nodes.len() {
            let node = &self.nodes[speaker];
            let pair = self.pair(node);
            let word = Word {
                primary_lost: pair.primary.is_lost(Holder::Primary),
                standby_lost: pair.standby.is_lost(Holder::Standby),
                term: node.writer.term(),
            };
            let lag = node.writer.lag(&pair).map(|lag| lag.behind);
            let message = Message { at: self.now, word, lag };
            if node.is_on_bus {
                let others =
                    self.nodes.iter_mut().enumerate().filter(|(index, node)| *index != speaker && node.is_on_bus);
                others.for_each(|(_, node)| node.heard[speaker] = Some(message));
            }
        }
        let latest = self.nodes.iter().filter_map(|node| node.writer.term()).max().unwrap_or(0);
        for index in 0..self.nodes.len() {
            let pair = self.pair(&self.nodes[index]);
            let takes = TakesWrites { max_lag: SECOND * 60, voters: 3 };
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
    }

    /// Lets something happen; false where it cannot.
    fn happens(&mut self, event: Event) -> bool {
        let other = |claim| if claim == Claim::Primary { Claim::Replica } else { Claim::Primary };
        match event {
            Event::Second => self.second(),
            Event::Bus(node) => self.nodes[node].is_on_bus ^= true,
            Event::SeesPrimary(node) => self.nodes[node].sees_primary ^= true,
            Event::SeesStandby(node) => self.nodes[node].sees_standby ^= true,
            Event::Restart(node) => {
                let fresh = Node {
                    writer: Writer::default(),
                    lags: [None; 2],
                    heard: vec![None; self.nodes.len()],
                    ..self.nodes[node].clone()
                };
                self.nodes[node] = fresh;
            }
            Event::PrimaryUp => self.primary.is_up ^= true,
            Event::PrimaryClaim => self.primary.claim = other(self.primary.claim),
            Event::StandbyUp => self.standby.is_up ^= true,
            Event::StandbyClaim if self.has_stepped_down => return false,
            Event::StandbyClaim => {
                self.has_stepped_down = self.standby.claim == Claim::Primary;
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
        [well, torn, promoted].map(|world| World { changes_left: CHANGES, until: world.now + LONGEST, ..world }).into()
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
                Event::Restart(LAST),
                Event::PrimaryUp,
                Event::PrimaryClaim,
                Event::StandbyUp,
                Event::StandbyClaim,
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
        world.nodes.iter_mut().for_each(|node| (node.is_on_bus, node.sees_primary, node.sees_standby) = (true, true, true));
        (world.primary, world.standby) =
            (Region { is_up: true, claim: Claim::Primary }, Region { is_up: true, claim: Claim::Replica });
        (0..10).for_each(|_| world.second());
        prop_assert_eq!(world.gates(), vec![Gate::To(Holder::Primary); 5]);
    }
}
