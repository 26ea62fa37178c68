//! How near a node is to the end of what it has, and what it does about that: a little from 85 % on, and more the nearer it
//! comes, rather than nothing until it falls over.
//!
//! What is done follows from the resource that lacks. Requests hold memory and descriptors and take the threads' time, so
//! that fewer of them help; connections that idle hold memory and descriptors, but no time: closing them would cost
//! handshakes.

use std::time::Duration;

use crate::pressure::Criticality;

/// What a node may run out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Resource {
    Memory,
    Descriptors,
    Connections,
    /// The worker threads' time, by how late their timers are.
    Lag,
}

impl Resource {
    /// All of them.
    pub const ALL: [Resource; 4] = [Resource::Memory, Resource::Descriptors, Resource::Connections, Resource::Lag];

    /// Returns its name, as metrics and `/status` have it.
    pub fn name(self) -> &'static str {
        match self {
            Resource::Memory => "memory",
            Resource::Descriptors => "descriptors",
            Resource::Connections => "connections",
            Resource::Lag => "lag",
        }
    }
}

/// How much of a resource is in use, as a share of its limit: up at once, and down slowly, so that what is relieved by
/// [`Actions`] does not take everything back at once.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Level(f32);

impl Level {
    /// By how much a level falls in a second at most: from full to the first mark in half of one. Were it slower, more would
    /// be refused than must be; faster, what is refused would swing from all to nothing.
    pub const FALL: f32 = 0.3;

    /// Takes the share of the moment, `since` the last.
    pub fn observe(&mut self, share: f32, since: Duration) {
        let fallen = self.0 - Self::FALL * since.as_secs_f32();
        self.0 = share.clamp(0.0, MOST).max(fallen);
    }

    /// Returns the share.
    pub fn share(self) -> f32 {
        self.0
    }
}

/// How late a worker's timers are for a while, and not now and then: the least of the last few readings. A machine that was
/// stopped for a second, or one long piece of work, is no overload.
#[derive(Clone, Copy, Debug, Default)]
pub struct StandingLag {
    readings: [Duration; READINGS],
    next: usize,
}

impl StandingLag {
    /// Takes one more reading, and returns the lag that stands.
    pub fn observe(&mut self, late: Duration) -> Duration {
        if let Some(reading) = self.readings.get_mut(self.next) {
            *reading = late;
        }
        self.next = (self.next + 1) % READINGS;
        self.readings.iter().copied().min().unwrap_or_default()
    }
}

/// Returns how many connections may be accepted until the next look, `until_next` from now, of a node that has so many bytes
/// free: what they all take must fit, though it is only to be seen a while after they were accepted. At least one.
pub fn accepts(free: u64, until_next: Duration) -> u64 {
    let looks = (SEEN_AFTER.as_millis() / until_next.as_millis().max(1)).max(1) as u64;
    (free / TAKEN_BY_ONE / looks).max(1)
}

/// What a connection takes with its first request: buffers both ways, and what is kept of a body.
const TAKEN_BY_ONE: u64 = 256 * 1024;
/// How long it takes at most until that is in use: a worker comes to it after all that it has to do.
const SEEN_AFTER: Duration = Duration::from_millis(200);

/// Half a second of readings, of ten a second.
const READINGS: usize = 5;

/// Returns the share of what workers may lag that they do: the mean, in which each counts as full at most, so that one
/// which is stuck does not stop what the others could do.
pub fn lag_share(lags: impl IntoIterator<Item = Duration>) -> f32 {
    let (sum, count) = lags.into_iter().fold((0.0, 0.0), |(sum, count), lag| {
        let share = (lag.as_secs_f32() / LONGEST_LAG.as_secs_f32()).min(1.0);
        (sum + share, count + 1.0)
    });
    if count > 0.0 { sum / count } else { 0.0 }
}

/// A worker that is late by so much all the time adds more to each request than most people wait for.
const LONGEST_LAG: Duration = Duration::from_millis(500);

/// The share of each resource's limit that is in use, as [`Level`]s have it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Shares {
    pub memory: f32,
    pub descriptors: f32,
    pub connections: f32,
    pub lag: f32,
}

impl Shares {
    /// Returns that of one resource.
    pub fn of(&self, resource: Resource) -> f32 {
        match resource {
            Resource::Memory => self.memory,
            Resource::Descriptors => self.descriptors,
            Resource::Connections => self.connections,
            Resource::Lag => self.lag,
        }
    }

    /// Returns the one of these resources that is nearest to its end, and how near.
    fn most(&self, among: &[Resource]) -> (Resource, f32) {
        let shares = among.iter().map(|resource| (*resource, self.of(*resource)));
        shares.fold((Resource::Memory, 0.0), |most, next| if next.1 > most.1 { next } else { most })
    }
}

/// What a node does about it. The default does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actions {
    /// Of what clients that hold something and do nothing are waited for, in percent.
    pub patience: u8,
    /// Of the streams that a new HTTP/2 connection may have, in percent.
    pub streams: u8,
    /// Connections are closed with the answer, and once they idle.
    pub closes: bool,
    /// From one connection that is accepted to the next, in milliseconds.
    pub accept_pause_ms: u8,
    /// Of the sheddable, default and critical requests that are refused, in percent.
    pub refused: [u8; 3],
    /// For want of what.
    pub lacks: Resource,
}

impl Default for Actions {
    fn default() -> Self {
        Self {
            patience: 100,
            streams: 100,
            closes: false,
            accept_pause_ms: 0,
            refused: [0; 3],
            lacks: Resource::Memory,
        }
    }
}

impl Actions {
    /// Returns what to do.
    pub fn at(shares: &Shares) -> Self {
        use Resource::{Connections, Descriptors, Lag, Memory};
        let (_, held) = shares.most(&[Memory, Descriptors, Connections]);
        let (_, streams) = shares.most(&[Memory, Lag]);
        let (_, any) = shares.most(&Resource::ALL);
        let (lacks, work) = shares.most(&[Memory, Descriptors, Lag]);
        Self {
            patience: PATIENCE.left(held),
            streams: STREAMS.left(streams),
            closes: held >= CLOSES,
            accept_pause_ms: ACCEPT.percent(any).div_ceil(10),
            refused: [
                SHEDDABLE.percent(work),
                DEFAULT.percent(work),
                // Without memory the process ends, and with it whatever it has under way.
                if shares.memory >= 1.0 { 100 } else { 0 },
            ],
            lacks,
        }
    }

    /// Returns the share of requests of a criticality that are refused, in percent.
    pub fn refused(&self, criticality: Criticality) -> u8 {
        let [sheddable, default, critical] = self.refused;
        match criticality {
            Criticality::Sheddable => sheddable,
            Criticality::Default => default,
            Criticality::Critical => critical,
        }
    }

    /// Returns for how long a client that does nothing is waited for, instead of `timeout`: a second at least, or what it
    /// is anyway.
    pub fn shortened(&self, timeout: Duration) -> Duration {
        if self.patience >= 100 {
            return timeout;
        }
        (timeout * u32::from(self.patience) / 100).max(timeout.min(SHORTEST))
    }

    /// Returns how many streams a new HTTP/2 connection may have, of `most`.
    pub fn streams(&self, most: u32) -> u32 {
        (most * u32::from(self.streams) / 100).max(1)
    }

    /// Packs it into a number, which is 0 where there is nothing to do.
    pub fn to_bits(self) -> u64 {
        if self.is_idle() {
            return 0;
        }
        let [sheddable, default, critical] = self.refused;
        let lacks = Resource::ALL.iter().position(|each| *each == self.lacks).unwrap_or(0) as u8;
        let flags = 1 | u8::from(self.closes) << 1 | lacks << 2;
        u64::from_le_bytes([flags, self.patience, self.streams, self.accept_pause_ms, sheddable, default, critical, 0])
    }

    /// Unpacks it.
    pub fn from_bits(bits: u64) -> Self {
        if bits == 0 {
            return Self::default();
        }
        let [flags, patience, streams, accept_pause_ms, sheddable, default, critical, _] = bits.to_le_bytes();
        Self {
            patience,
            streams,
            closes: flags & 2 != 0,
            accept_pause_ms,
            refused: [sheddable, default, critical],
            lacks: Resource::ALL.get(usize::from(flags >> 2)).copied().unwrap_or(Resource::Memory),
        }
    }

    /// Returns whether nothing is done.
    pub fn is_idle(&self) -> bool {
        Self { lacks: Resource::Memory, ..*self } == Self::default()
    }

    /// Returns what is done, each in a word or two of a closed set, for people.
    pub fn names(&self) -> Vec<&'static str> {
        let [sheddable, default, critical] = self.refused;
        let all = [
            (self.patience < 100, "timeouts shortened"),
            (self.streams < 100, "fewer streams"),
            (self.closes, "keep-alive off"),
            (self.accept_pause_ms > 0, "accept slowed"),
            (sheddable > 0, "sheddable refused"),
            (default > 0, "default refused"),
            (critical > 0, "critical refused"),
        ];
        all.into_iter().filter(|(is_done, _)| *is_done).map(|(_, name)| name).collect()
    }
}

/// An action that begins at one mark and is complete at another, in between in proportion.
struct Ramp {
    from: f32,
    to: f32,
}

impl Ramp {
    /// Returns how far it is, in whole percent; from its beginning on at least one.
    fn percent(&self, share: f32) -> u8 {
        if share < self.from {
            return 0;
        }
        ((share - self.from) / (self.to - self.from) * 100.0).clamp(1.0, 100.0) as u8
    }

    /// Returns what is left, in percent, of something that shrinks to a tenth.
    fn left(&self, share: f32) -> u8 {
        100 - (u16::from(self.percent(share)) * 9).div_ceil(10) as u8
    }
}

const PATIENCE: Ramp = Ramp { from: 0.85, to: 0.95 };
const SHEDDABLE: Ramp = Ramp { from: 0.85, to: 0.90 };
const CLOSES: f32 = 0.90;
const STREAMS: Ramp = Ramp { from: 0.90, to: 0.95 };
const DEFAULT: Ramp = Ramp { from: 0.92, to: 0.97 };
/// Up to 10 ms, which is 100 connections a second and listener.
const ACCEPT: Ramp = Ramp { from: 0.95, to: 1.0 };
/// Past it a reading says no more.
const MOST: f32 = 10.0;
/// A client on a bad line takes a second for a packet that was lost.
const SHORTEST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn memory(memory: f32) -> Actions {
        Actions::at(&Shares { memory, ..Shares::default() })
    }

    #[test]
    fn what_is_done_follows_the_marks() {
        for (share, patience, streams, closes, pause, refused) in [
            (0.0, 100, 100, false, 0, [0, 0, 0]),
            (0.8499, 100, 100, false, 0, [0, 0, 0]),
            (0.875, 82, 100, false, 0, [50, 0, 0]),
            (0.90, 55, 100, true, 0, [100, 0, 0]),
            (0.945, 19, 19, true, 0, [100, 49, 0]),
            (0.975, 10, 10, true, 5, [100, 100, 0]),
            (1.0, 10, 10, true, 10, [100, 100, 100]),
            (9.0, 10, 10, true, 10, [100, 100, 100]),
        ] {
            let found = memory(share);
            let near = |found: u8, expected: u8| found.abs_diff(expected) <= 9;
            assert!(near(found.patience, patience), "patience {} at {share}", found.patience);
            assert!(near(found.streams, streams), "streams {} at {share}", found.streams);
            assert_eq!(found.closes, closes, "at {share}");
            assert!(found.accept_pause_ms.abs_diff(pause) <= 1, "pause {} at {share}", found.accept_pause_ms);
            for (found, expected) in found.refused.into_iter().zip(refused) {
                assert!(near(found, expected), "{:?} at {share}", found);
            }
        }
    }

    #[test]
    fn what_is_done_has_names() {
        let names = |share| memory(share).names();
        assert_eq!(names(0.0), Vec::<&str>::new());
        assert_eq!(names(0.875), ["timeouts shortened", "sheddable refused"]);
        assert_eq!(
            names(0.93),
            ["timeouts shortened", "fewer streams", "keep-alive off", "sheddable refused", "default refused"]
        );
        assert_eq!(names(1.0)[3..], ["accept slowed", "sheddable refused", "default refused", "critical refused"]);
        let accepts = Actions { accept_pause_ms: 1, ..Actions::default() };
        assert_eq!((accepts.names(), accepts.is_idle()), (vec!["accept slowed"], false));
    }

    #[test]
    fn only_what_helps_is_done() {
        let all = |name: &str| {
            let mut shares = Shares::default();
            match name {
                "descriptors" => shares.descriptors = 2.0,
                "connections" => shares.connections = 2.0,
                "lag" => shares.lag = 2.0,
                _ => shares.memory = 2.0,
            }
            let actions = Actions::at(&shares);
            (actions.closes, actions.streams < 100, actions.refused)
        };
        assert_eq!(all("memory"), (true, true, [100, 100, 100]));
        assert_eq!(all("descriptors"), (true, false, [100, 100, 0]));
        assert_eq!(all("connections"), (true, false, [0, 0, 0]));
        assert_eq!(all("lag"), (false, true, [100, 100, 0]), "a handshake costs more than a connection that idles");
    }

    #[test]
    fn timeouts_shrink_to_a_tenth_and_not_below_a_second() {
        let (second, at) = (Duration::from_secs(1), |share| memory(share));
        assert_eq!(at(0.5).shortened(60 * second), 60 * second);
        assert_eq!(at(1.0).shortened(60 * second), 6 * second);
        assert_eq!(at(1.0).shortened(5 * second), second);
        assert_eq!(at(1.0).shortened(second / 4), second / 4);
    }

    #[test]
    fn a_level_rises_at_once_and_falls_slowly() {
        let mut level = Level::default();
        let tick = Duration::from_millis(100);
        level.observe(0.97, tick);
        assert_eq!(level.share(), 0.97);
        level.observe(0.2, tick);
        assert!((0.939..0.941).contains(&level.share()), "{level:?}");
        (0..100).for_each(|_| level.observe(0.2, tick));
        assert_eq!(level.share(), 0.2);
        level.observe(f32::NAN, tick);
        assert!(level.share() <= 0.2, "what cannot be read is nothing: {level:?}");
        level.observe(f32::INFINITY, tick);
        assert_eq!(level.share(), MOST);
    }

    #[test]
    fn a_pause_of_the_machine_is_no_lag() {
        let mut lag = StandingLag::default();
        let (late, soon) = (Duration::from_secs(3), Duration::from_millis(2));
        for reading in [soon, late, late, late, late] {
            assert!(lag.observe(reading) <= soon);
        }
        assert_eq!(lag.observe(late), late);
        assert_eq!(lag.observe(soon), soon);
    }

    #[test]
    fn a_worker_that_is_stuck_is_one_of_several() {
        let stuck = Duration::from_secs(60);
        assert_eq!(lag_share([stuck]), 1.0);
        assert_eq!(lag_share([stuck, Duration::ZERO]), 0.5);
        assert_eq!(lag_share([LONGEST_LAG / 2; 3]), 0.5);
        assert_eq!(lag_share([]), 0.0);
    }

    #[test]
    fn no_more_is_accepted_than_fits() {
        let ms = Duration::from_millis;
        assert_eq!(accepts(0, ms(20)), 1);
        assert_eq!(accepts(25 << 20, ms(20)), 10);
        assert_eq!(accepts(25 << 20, ms(100)), 50);
        assert_eq!(accepts(25 << 20, ms(0)), 1);
        assert_eq!(accepts(25 << 20, Duration::from_secs(9)), 100);
    }

    /// A node of which each request holds some memory for a second, under twice the load that it has room for: what is
    /// refused is not much more than what is too much, and it never stands still.
    #[test]
    fn twice_the_load_settles() {
        let tick = Duration::from_millis(100);
        let (mut level, mut held) = (Level::default(), std::collections::VecDeque::from([0.0_f32; 10]));
        let mut refused = Vec::new();
        for look in 0..1000 {
            let used: f32 = held.iter().sum();
            assert!(look < 20 || (0.2..1.1).contains(&used), "{used} is in use at look {look}");
            level.observe(used, tick);
            let share = f32::from(memory(level.share()).refused(Criticality::Sheddable)) / 100.0;
            held.pop_front();
            held.push_back(0.2 * (1.0 - share));
            refused.push(share);
        }
        let settled = &refused[500..];
        let mean = settled.iter().sum::<f32>() / settled.len() as f32;
        assert!((0.4..0.7).contains(&mean), "about half is refused: {mean}");
    }

    proptest! {
        #[test]
        fn more_pressure_never_does_less(
            shares in proptest::array::uniform4(0.0_f32..1.2),
            more in proptest::array::uniform4(0.0_f32..0.3),
        ) {
            let of = |[memory, descriptors, connections, lag]: [f32; 4]| {
                Actions::at(&Shares { memory, descriptors, connections, lag })
            };
            let (before, after) = (of(shares), of(std::array::from_fn(|index| shares[index] + more[index])));
            prop_assert!(after.patience <= before.patience && after.streams <= before.streams);
            prop_assert!(after.closes >= before.closes && after.accept_pause_ms >= before.accept_pause_ms);
            for (before, after) in before.refused.into_iter().zip(after.refused) {
                prop_assert!(after >= before);
            }
            let [sheddable, default, critical] = after.refused;
            prop_assert!(sheddable >= default && default >= critical, "the unimportant goes first");
        }

        #[test]
        fn actions_survive_being_packed(shares in proptest::array::uniform4(0.0_f32..1.2)) {
            let [memory, descriptors, connections, lag] = shares;
            let actions = Actions::at(&Shares { memory, descriptors, connections, lag });
            let unpacked = Actions::from_bits(actions.to_bits());
            prop_assert_eq!(unpacked.is_idle(), actions.is_idle());
            if !actions.is_idle() {
                prop_assert_eq!(unpacked, actions);
            }
        }
    }
}
