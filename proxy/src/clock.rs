//! Reads clocks, for all of this crate: no other module does. Everything else takes a time as an argument, or
//! asks here.
//!
//! The law's time is the wall clock, as far as it can be believed. Laws begin and end on dates, so that no
//! setting of a clock may open what is closed, or keep open what should close. The wall clock is compared with
//! a steady one that nobody sets, from the process's start on:
//!
//! - a clock that is set back, or runs slow, leaves the law's time in doubt between the time that the wall
//!   clock had said and the time that it would say by now: what may be over is over;
//! - a clock that is more than a day ahead of the steady one leaves it in doubt between the two: what may be
//!   over is over, and what may not have begun opens nothing. Many small steps ahead are one large one.
//!
//! The law's time never goes back. A doubt lasts until the wall clock says again what the law's time has come
//! to, or until a restart, which takes the clock at its word.

use std::cell::Cell;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use policy::{LawTime, Moment};

/// Returns the time by the steady clock, which nobody sets.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Returns the time by the clock of tokio's timers: the steady clock, unless a test pauses it.
pub(crate) fn timer_now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// Returns the time since this function was first called in the process: the clock of health states.
pub(crate) fn uptime() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// Returns [`uptime`] to 10 ms, in milliseconds: a load of an integer, for marks that every request sets and
/// only timeouts of seconds are read by. It stands still until [`run_coarse_clock`].
pub(crate) fn coarse_ms() -> u64 {
    COARSE_MS.load(Ordering::Relaxed)
}

/// Keeps [`coarse_ms`] going, for ever.
pub(crate) fn run_coarse_clock() {
    loop {
        COARSE_MS.store(uptime().as_millis() as u64, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(10));
    }
}

static COARSE_MS: AtomicU64 = AtomicU64::new(0);

/// Returns the time by the wall clock.
pub(crate) fn system_time() -> SystemTime {
    SystemTime::now()
}

/// Returns the seconds since 1970 by the wall clock; 0 before.
pub(crate) fn unix_seconds() -> u64 {
    since_1970().as_secs()
}

/// Returns the time since 1970 by the wall clock; zero before.
pub(crate) fn since_1970() -> Duration {
    system_time().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Returns the time by the wall clock as a `Date` field has it (RFC 9110, 5.6.7): up to half a second old, since it is made
/// anew so often only.
pub(crate) fn http_date() -> [u8; 29] {
    thread_local! {
        static LATEST: Cell<(u64, [u8; 29])> = const { Cell::new((u64::MAX, [b' '; 29])) };
    }
    let half_second = coarse_ms() >> 9;
    let (made, date) = LATEST.get();
    if made == half_second {
        return date;
    }
    let mut date = [b' '; 29];
    // It is exactly as long as its place, until the year 9999.
    drop(write!(date.as_mut_slice(), "{}", httpdate::HttpDate::from(system_time())));
    LATEST.set((half_second, date));
    date
}

/// Returns the time by the wall clock, for a law that is read once.
pub(crate) fn wall() -> Moment {
    moment(wall_millis())
}

/// Returns how many seconds are left until a moment.
pub(crate) fn seconds_until(moment: Moment, now: LawTime) -> i64 {
    moment.unix_seconds() - now.latest().unix_seconds()
}

/// The clock of a node's law. Any thread may look at it; each look takes a short lock.
#[derive(Debug)]
pub(crate) struct LawClock {
    source: TimeSource,
    /// The wall clock's time when the steady one stood at zero.
    began: Millis,
    seen: Mutex<ClockReading>,
}

#[derive(Debug)]
enum TimeSource {
    System {
        started: Instant,
    },
    #[cfg(test)]
    Virtual(std::sync::Arc<VirtualTime>),
}

/// What the looks so far have come to.
#[derive(Clone, Copy, Debug)]
struct ClockReading {
    /// The latest time that can be believed.
    believed: Millis,
    /// The most that the wall clock was ever ahead of the steady one, in milliseconds.
    ahead: i64,
    /// The doubt that was last logged, in milliseconds.
    logged: i64,
}

/// Milliseconds since the Unix epoch.
type Millis = i64;

impl LawClock {
    /// Makes the clock of a process that starts now.
    pub(crate) fn start() -> Self {
        Self::of(TimeSource::System { started: Instant::now() })
    }

    /// Makes a clock that a test sets.
    #[cfg(test)]
    pub(crate) fn of_test(time: &std::sync::Arc<VirtualTime>) -> Self {
        Self::of(TimeSource::Virtual(time.clone()))
    }

    fn of(source: TimeSource) -> Self {
        let (wall, steady) = source.read();
        let seen = ClockReading { believed: wall, ahead: 0, logged: 0 };
        Self { source, began: wall - steady, seen: Mutex::new(seen) }
    }

    /// Returns the law's time now: a span, while it is in doubt.
    pub(crate) fn now(&self) -> LawTime {
        let (wall, steady) = self.source.read();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.look(wall, self.began + steady);
        let latest = self.began + steady + seen.ahead;
        let doubt = latest - seen.believed;
        // Each clock is read by itself, and the system corrects the wall clock by parts of a second all the time.
        let latest = if doubt < SECOND { seen.believed } else { latest };
        if doubt < SECOND {
            seen.logged = 0;
        }
        if doubt > seen.logged + TOLERATED {
            seen.logged = doubt;
            tracing::warn!(
                believed = %moment(seen.believed), latest = %moment(latest), clock = %moment(wall),
                "the wall clock was set, and does not agree with the time since the start: until it does, or a restart, \
                 the law is read for all times between, what may be over opens nothing, and what may not have begun opens nothing"
            );
        }
        LawTime::between(moment(seen.believed), moment(latest))
    }
}

impl TimeSource {
    /// Reads the wall clock and the steady one, in milliseconds.
    fn read(&self) -> (Millis, i64) {
        match self {
            TimeSource::System { started } => (wall_millis(), millis(started.elapsed())),
            #[cfg(test)]
            TimeSource::Virtual(time) => time.read(),
        }
    }
}

impl ClockReading {
    /// Takes what the wall clock says, when it would say `steady` had nobody set it since the start.
    fn look(&mut self, wall: Millis, steady: Millis) {
        let ahead = wall - steady;
        self.ahead = self.ahead.max(ahead);
        self.believed = self.believed.max(if ahead <= PLAUSIBLE { wall } else { steady });
    }
}

fn wall_millis() -> Millis {
    let since = system_time().duration_since(UNIX_EPOCH);
    since.map_or_else(|before| -millis(before.duration()), millis)
}

fn moment(at: Millis) -> Moment {
    Moment::from_unix_seconds(at.div_euclid(SECOND))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

const SECOND: i64 = 1000;
/// A day: more than any correction of a clock that is kept, and less than any date of a law matters by.
const PLAUSIBLE: i64 = 86_400 * SECOND;
/// Five minutes: a doubt that has grown by less is not worth another line in the log.
const TOLERATED: i64 = 300 * SECOND;

/// A wall clock that goes with tokio's, which a test can pause, and that a test can set.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct VirtualTime {
    began: tokio::time::Instant,
    at_first: i64,
    /// How far the wall clock was set since, in seconds.
    set_by: std::sync::atomic::AtomicI64,
}

#[cfg(test)]
impl VirtualTime {
    /// Makes a clock that says this now.
    pub(crate) fn starting(at: Moment) -> std::sync::Arc<Self> {
        let (began, at_first) = (tokio::time::Instant::now(), at.unix_seconds());
        std::sync::Arc::new(Self { began, at_first, set_by: std::sync::atomic::AtomicI64::new(0) })
    }

    /// Sets the wall clock ahead, or back.
    pub(crate) fn set_ahead_by(&self, seconds: i64) {
        self.set_by.fetch_add(seconds, std::sync::atomic::Ordering::SeqCst);
    }

    fn read(&self) -> (Millis, i64) {
        let steady = millis(self.began.elapsed());
        let set_by = self.set_by.load(std::sync::atomic::Ordering::SeqCst);
        ((self.at_first + set_by) * SECOND + steady, steady)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;

    fn times(clock: &LawClock, first: Moment) -> (i64, i64) {
        let now = clock.now();
        (now.earliest().unix_seconds() - first.unix_seconds(), now.latest().unix_seconds() - first.unix_seconds())
    }

    async fn later(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_back_reopens_nothing_and_keeps_nothing_open() {
        let first: Moment = "2031-12-26".parse().unwrap();
        let time = VirtualTime::starting(first);
        let clock = LawClock::of_test(&time);
        later(7200).await;
        assert_eq!(times(&clock, first), (7200, 7200));
        time.set_ahead_by(-100 * DAY);
        later(60).await;
        assert_eq!(times(&clock, first), (7200, 7260), "the night passes, whatever the clock says");
        later(2 * 86_400).await;
        assert_eq!(times(&clock, first), (7200, 7260 + 2 * DAY));
        time.set_ahead_by(100 * DAY);
        assert_eq!(times(&clock, first), (7260 + 2 * DAY, 7260 + 2 * DAY), "the clock is right again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_correction_is_believed_and_never_taken_back() {
        let first: Moment = "2031-12-26".parse().unwrap();
        let time = VirtualTime::starting(first);
        let clock = LawClock::of_test(&time);
        time.set_ahead_by(23 * HOUR);
        assert_eq!(times(&clock, first), (23 * HOUR, 23 * HOUR));
        time.set_ahead_by(-23 * HOUR);
        later(60).await;
        assert_eq!(times(&clock, first), (23 * HOUR, 23 * HOUR + 60));
    }

    #[tokio::test(start_paused = true)]
    async fn a_leap_ahead_is_a_doubt_until_a_restart() {
        let first: Moment = "2026-11-29".parse().unwrap();
        let time = VirtualTime::starting(first);
        let clock = LawClock::of_test(&time);
        time.set_ahead_by(1000 * DAY);
        later(10).await;
        assert_eq!(times(&clock, first), (10, 1000 * DAY + 10));
        time.set_ahead_by(-1000 * DAY);
        later(10).await;
        assert_eq!(times(&clock, first), (20, 1000 * DAY + 20), "what was closed stays closed");
        let anew = LawClock::of_test(&time);
        assert_eq!(times(&anew, first), (20, 20));
    }

    #[tokio::test(start_paused = true)]
    async fn many_small_leaps_are_a_large_one() {
        let first: Moment = "2026-11-29".parse().unwrap();
        let time = VirtualTime::starting(first);
        let clock = LawClock::of_test(&time);
        for _ in 0..100 {
            time.set_ahead_by(23 * HOUR);
            later(1).await;
            clock.now();
        }
        let (believed, latest) = times(&clock, first);
        assert!(believed <= DAY + 100, "{believed}");
        assert_eq!(latest, 100 * 23 * HOUR + 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_sleep_that_the_steady_clock_knows_is_no_leap() {
        let first: Moment = "2026-11-29".parse().unwrap();
        let clock = LawClock::of_test(&VirtualTime::starting(first));
        tokio::time::advance(Duration::from_secs(400 * 86_400)).await;
        assert_eq!(times(&clock, first), (400 * DAY, 400 * DAY));
        for _ in 0..10 {
            tokio::time::advance(Duration::from_millis(700)).await;
            clock.now();
        }
        assert_eq!(times(&clock, first), (400 * DAY + 7, 400 * DAY + 7), "parts of seconds add up");
    }
}
