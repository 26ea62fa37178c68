//! Asks the bus what the watch may have missed.
//!
//! nats-server 2.9 now and then passes a change over, or says of a subject that it is not there; a watch may go deaf
//! while the connection lives; a bucket may be made anew, or restored from an earlier state. One schedule covers all of
//! that: every few seconds the bus is asked what is newest; at once, though not too often, where a revision was left
//! out; and about every five minutes the watch begins anew, too, which tells of every key that the server has, whatever
//! it answers to questions. Pure: `now` is passed in.

use std::time::{Duration, SystemTime};

use config::bus::{BusError, Pulse, Watch};

/// What one connection has told so far, and when the bus is asked next. Lives as long as the connection.
#[derive(Debug)]
pub(super) struct CatchUp {
    /// When the bucket was made.
    created: SystemTime,
    /// The newest revision of any key, reports included.
    highest: u64,
    period: Duration,
    renewal: Duration,
    asked: Duration,
    due: Duration,
    renew_at: Duration,
    pub(super) liveness: WatchLiveness,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inquiry {
    /// What is newer than what is known.
    Newer,
    /// The same, and a new watch, which begins with the last message of each key.
    Everything,
}

/// Whether a watch brings what it should: the node's own reports come back by it.
#[derive(Debug, Default)]
pub(super) struct WatchLiveness {
    /// The first report that has not come back yet, and when it was sent.
    missing: Option<(u64, Duration)>,
    came: u64,
}

impl CatchUp {
    /// Returns that of a connection to a bucket in this state. A table may be used without a word from the bus for
    /// `max_age`; `jitter`, from 0 to 1, keeps a fleet from asking for everything as one.
    pub(super) fn new(pulse: &Pulse, max_age: Duration, jitter: f64, now: Duration) -> Self {
        // Often enough that a bus that is there never counts as silent.
        let period = (max_age / 8).clamp(SHORTEST_PERIOD, PERIOD);
        let renewal = RENEWAL.mul_f64(0.5 + jitter.clamp(0.0, 1.0));
        let liveness = WatchLiveness::default();
        let (created, highest) = (pulse.created, pulse.last_revision);
        Self { created, highest, period, renewal, asked: now, due: now + period, renew_at: now + renewal, liveness }
    }

    /// Notes a revision that the watch tells. Returns whether one before it was left out, so that the bus is asked soon.
    pub(super) fn heard(&mut self, revision: u64) -> bool {
        let is_gap = revision > self.highest + 1;
        if is_gap {
            self.due = self.due.min(self.asked + GAP_PERIOD);
        }
        self.highest = self.highest.max(revision);
        is_gap
    }

    /// Returns when the bus is asked next.
    pub(super) fn due(&self) -> Duration {
        self.due
    }

    /// Begins to ask, and returns for what.
    pub(super) fn begin(&mut self, now: Duration) -> Inquiry {
        self.asked = now;
        self.due = now + self.period;
        if now < self.renew_at {
            return Inquiry::Newer;
        }
        self.renew_at = now + self.renewal;
        Inquiry::Everything
    }

    /// Checks that the bucket still is the one that it was, and that the watch is not deaf.
    ///
    /// # Errors
    /// What is wrong: the connection is to be made anew.
    pub(super) fn check(&self, pulse: &Pulse, now: Duration) -> Result<(), BusError> {
        if pulse.created != self.created {
            return Err(BusError::Other("the bucket was made anew".to_owned()));
        }
        if pulse.last_revision < self.highest {
            return Err(BusError::Other("the bucket went back to an earlier state".to_owned()));
        }
        self.liveness.check(now)
    }
}

impl WatchLiveness {
    /// Notes that the bus has taken a report of this node.
    pub(super) fn sent(&mut self, revision: u64, now: Duration) {
        if self.missing.is_none() && self.came < revision {
            self.missing = Some((revision, now));
        }
    }

    /// Notes that a report of this node has come back.
    pub(super) fn came(&mut self, revision: u64) {
        self.came = self.came.max(revision);
        self.missing = self.missing.filter(|(missing, _)| *missing > revision);
    }

    /// Returns whether a report of this node's name is later than one of its own that came back: another process has
    /// the name too. An earlier one is of the process before this one.
    pub(super) fn is_followed_by(&self, revision: u64) -> bool {
        (1..revision).contains(&self.came)
    }

    fn check(&self, now: Duration) -> Result<(), BusError> {
        match self.missing {
            Some((_, since)) if now.saturating_sub(since) > Watch::SILENCE => {
                Err(BusError::Other("the watch is silent, though the bus is not".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

/// How often the bus is asked what is newest: a change that is passed over is late by this at most, and a fleet of
/// hundreds asks no server more than some hundred small questions a second.
const PERIOD: Duration = Duration::from_secs(3);

/// The same where `max_age` is short, which only tests have.
const SHORTEST_PERIOD: Duration = Duration::from_millis(100);

/// How soon the bus may be asked again because the watch has left something out: reports that overtake each other leave
/// gaps, too.
const GAP_PERIOD: Duration = Duration::from_millis(250);

/// About how often the watch begins anew: rarely, since it costs the server a message for each key.
const RENEWAL: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn pulse(last_revision: u64) -> Pulse {
        Pulse { created: SystemTime::UNIX_EPOCH, last_revision, has_table: true }
    }

    fn catch_up(max_age: Duration) -> CatchUp {
        CatchUp::new(&pulse(6), max_age, 0.5, at(1_000))
    }

    #[test]
    fn what_was_passed_over_shows_in_what_comes_next() {
        let mut catch_up = catch_up(at(1_000_000));
        // What was there before comes first, the last of each key.
        assert!([2, 6, 7].into_iter().all(|known| !catch_up.heard(known)));
        assert!(catch_up.heard(9) && !catch_up.heard(10) && !catch_up.heard(8) && catch_up.heard(12));
    }

    #[test]
    fn the_bus_is_asked_every_few_seconds_and_soon_after_a_gap() {
        let mut catch_up = catch_up(at(1_000_000));
        assert_eq!(catch_up.due(), at(4_000));
        assert_eq!(catch_up.begin(at(4_010)), Inquiry::Newer);
        assert_eq!(catch_up.due(), at(7_010));
        // Four times a second at most.
        catch_up.heard(9);
        assert_eq!(catch_up.due(), at(4_260));
        catch_up.begin(at(4_260));
        catch_up.heard(20);
        catch_up.heard(30);
        assert_eq!(catch_up.due(), at(4_510));
        // A table that must not be old is confirmed as often as it takes.
        assert_eq!(super::tests::catch_up(at(800)).due(), at(1_100));
        assert_eq!(super::tests::catch_up(at(8_000)).due(), at(2_000));
    }

    #[test]
    fn the_watch_begins_anew_about_every_five_minutes() {
        let mut catch_up = catch_up(at(1_000_000));
        let mut now = at(1_000);
        let mut renewed = Vec::new();
        while now < at(1_000_000) {
            now = catch_up.due();
            if catch_up.begin(now) == Inquiry::Everything {
                renewed.push(now);
            }
        }
        assert_eq!(renewed, [at(301_000), at(601_000), at(901_000)]);
        // Gaps make no difference to that.
        let mut gaps = super::tests::catch_up(at(1_000_000));
        let asked = (0..1_000).filter(|gap| {
            gaps.heard(10 + 2 * gap);
            gaps.begin(gaps.due()) == Inquiry::Everything
        });
        assert_eq!(asked.count(), 0);
        // A fleet does not do so as one.
        assert_ne!(
            CatchUp::new(&pulse(6), at(1), 0.0, at(0)).renew_at,
            CatchUp::new(&pulse(6), at(1), 1.0, at(0)).renew_at
        );
    }

    #[test]
    fn another_bucket_an_earlier_state_and_a_deaf_watch_end_the_connection() {
        let mut catch_up = catch_up(at(1_000_000));
        let why = |catch_up: &CatchUp, pulse: &Pulse, now| catch_up.check(pulse, now).unwrap_err().to_string();
        assert!(catch_up.check(&pulse(6), at(2_000)).is_ok());
        let anew = Pulse { created: SystemTime::UNIX_EPOCH + at(1), ..pulse(6) };
        assert!(why(&catch_up, &anew, at(2_000)).contains("made anew"));
        catch_up.heard(8);
        assert!(why(&catch_up, &pulse(7), at(2_000)).contains("earlier state"));

        catch_up.liveness.sent(9, at(2_000));
        catch_up.liveness.sent(10, at(7_000));
        assert!(catch_up.check(&pulse(9), at(12_000)).is_ok());
        assert!(why(&catch_up, &pulse(9), at(12_001)).contains("silent"));
        // The second one is younger.
        catch_up.liveness.came(9);
        assert!(catch_up.check(&pulse(9), at(90_000)).is_ok());
        assert!(catch_up.liveness.is_followed_by(10) && !catch_up.liveness.is_followed_by(9));
    }
}
