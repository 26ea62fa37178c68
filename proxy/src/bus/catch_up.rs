//! Decides when the bus is asked what the watch may have missed.
//!
//! nats-server 2.9 sometimes leaves a change out, or says of an existing subject that it does not exist; a watch may go
//! silent while the connection lives; a bucket may be created again, or restored from an earlier state. One schedule
//! covers all of that: every few seconds the bus is asked what is newest; at once, though not too often, where a
//! revision was left out; and about every five minutes the watch is started anew, too, which delivers every key that
//! the server has, whatever it answers to requests. Pure: `now` is passed in.

use std::time::{Duration, SystemTime};

use config::bus::{BusError, Pulse, Watch};

/// What one connection has delivered so far, and when the bus is asked next. Lives as long as the connection, on the
/// bus's thread.
#[derive(Debug)]
pub(super) struct CatchUp {
    /// When the bucket was created.
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

/// What the bus is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inquiry {
    /// What is newer than the known revisions.
    Newer,
    /// The same, and a new watch, which begins with the last message of each key.
    Everything,
}

/// Tracks whether a watch delivers: the node's own reports come back by it. Lives as long as the connection.
#[derive(Debug, Default)]
pub(super) struct WatchLiveness {
    /// The first report that has not come back yet, and when it was sent.
    missing: Option<(u64, Duration)>,
    came: u64,
}

impl CatchUp {
    /// Returns the schedule of a connection to a bucket in this state. `max_age` is how long a table may be used without
    /// a confirmation; `jitter`, from 0 to 1, keeps a fleet from asking for everything at once.
    pub(super) fn new(pulse: &Pulse, max_age: Duration, jitter: f64, now: Duration) -> Self {
        // Often enough that a bus that is there never counts as silent.
        let period = (max_age / 8).clamp(SHORTEST_PERIOD, PERIOD);
        let renewal = RENEWAL.mul_f64(0.5 + jitter.clamp(0.0, 1.0));
        let liveness = WatchLiveness::default();
        let (created, highest) = (pulse.created, pulse.last_revision);
        Self { created, highest, period, renewal, asked: now, due: now + period, renew_at: now + renewal, liveness }
    }

    /// Notes a revision that the watch delivers. Returns whether one before it was left out, so that the bus is asked
    /// soon.
    pub(super) fn on_revision(&mut self, revision: u64) -> bool {
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

    /// Notes that the bus is asked now, and returns for what.
    pub(super) fn begin(&mut self, now: Duration) -> Inquiry {
        self.asked = now;
        self.due = now + self.period;
        if now < self.renew_at {
            return Inquiry::Newer;
        }
        self.renew_at = now + self.renewal;
        Inquiry::Everything
    }

    /// Checks that the bucket is the same as before, and that the watch is not stuck.
    ///
    /// # Errors
    /// Why the connection has to be made anew.
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
    /// Notes that the bus has stored a report of this node.
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

    /// Returns whether a report under this node's name is later than one of its own that came back, so that another
    /// process has the name too. An earlier report is of the process before this one.
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

/// How often the bus is asked what is newest: a change that was left out is late by this at most, and a fleet of
/// hundreds sends no server more than some hundred small requests a second.
const PERIOD: Duration = Duration::from_secs(3);

/// The shortest period, where `max_age` is short, as only in tests.
const SHORTEST_PERIOD: Duration = Duration::from_millis(100);

/// How soon the bus may be asked again because of a gap: reordered reports leave gaps, too.
const GAP_PERIOD: Duration = Duration::from_millis(250);

/// About how often the watch is started anew: rarely, since it costs the server a message for each key.
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
    fn a_revision_that_was_left_out_shows_in_the_next() {
        let mut catch_up = catch_up(at(1_000_000));
        // The last message of each key comes first.
        assert!([2, 6, 7].into_iter().all(|known| !catch_up.on_revision(known)));
        assert!(
            catch_up.on_revision(9)
                && !catch_up.on_revision(10)
                && !catch_up.on_revision(8)
                && catch_up.on_revision(12)
        );
    }

    #[test]
    fn the_bus_is_asked_every_few_seconds_and_soon_after_a_gap() {
        let mut catch_up = catch_up(at(1_000_000));
        assert_eq!(catch_up.due(), at(4_000));
        assert_eq!(catch_up.begin(at(4_010)), Inquiry::Newer);
        assert_eq!(catch_up.due(), at(7_010));
        // Four times a second at most.
        catch_up.on_revision(9);
        assert_eq!(catch_up.due(), at(4_260));
        catch_up.begin(at(4_260));
        catch_up.on_revision(20);
        catch_up.on_revision(30);
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
            gaps.on_revision(10 + 2 * gap);
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
        catch_up.on_revision(8);
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
