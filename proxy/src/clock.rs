//! Reads clocks, for all of this crate: no other module does. Everything else takes a time as an argument, or
//! asks here.
//!
//! The law's time is the wall clock, as far as it can be believed.
//! Laws end on dates, so that a clock that is set back must not reopen what was closed: the law's time only
//! goes on. A clock that leaps ahead by more than a day, where the time since the last look does not explain
//! it, leaves the law's time in doubt between the two: what may be over is over, and what may not have begun
//! opens nothing. The doubt lasts until a restart, which takes the clock at its word.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use policy::{LawTime, Moment};

/// Returns the time by the steady clock, which nobody sets.
pub fn now() -> Instant {
    Instant::now()
}

/// Returns the time by the clock of tokio's timers: the steady clock, unless a test pauses it.
pub fn timer_now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// Returns the time since this function was first called in the process: the clock of health states.
pub fn uptime() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// Returns [`uptime`] to 10 ms, in milliseconds: a load of an integer, for marks that every request sets and
/// only timeouts of seconds are read by. It stands still until [`start_coarse_clock`].
pub fn coarse_ms() -> u64 {
    COARSE_MS.load(Ordering::Relaxed)
}

/// Starts a thread that keeps [`coarse_ms`] going for as long as the process lives.
///
/// # Errors
/// When the thread cannot be started.
pub fn start_coarse_clock() -> std::io::Result<()> {
    let tick = || {
        loop {
            COARSE_MS.store(uptime().as_millis() as u64, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    std::thread::Builder::new().name("clock".into()).spawn(tick).map(drop)
}

static COARSE_MS: AtomicU64 = AtomicU64::new(0);

/// Returns the time by the wall clock.
pub fn system_time() -> SystemTime {
    SystemTime::now()
}

/// Returns the seconds since 1970 by the wall clock; 0 before.
pub fn unix_seconds() -> u64 {
    since_1970().as_secs()
}

/// Returns the time since 1970 by the wall clock; zero before.
pub fn since_1970() -> Duration {
    system_time().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Returns the time by the wall clock, for a law that is read once.
pub fn wall() -> Moment {
    let since = system_time().duration_since(UNIX_EPOCH);
    let seconds = since.map_or_else(|before| -seconds(before.duration()), seconds);
    Moment::from_unix_seconds(seconds)
}

/// Returns how many seconds are left until a moment.
pub fn seconds_until(moment: Moment, now: LawTime) -> i64 {
    moment.unix_seconds() - now.latest().unix_seconds()
}

/// The clock of a node's law. Any thread may look at it; each look takes a short lock.
#[derive(Debug)]
pub struct LawClock {
    source: TimeSource,
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

/// What was seen at the last look.
#[derive(Clone, Copy, Debug)]
struct ClockReading {
    /// What it would be by the looks that can be believed, and the time since.
    reckoned: Moment,
    /// The latest that the wall clock ever said.
    latest: Moment,
    /// By the clock that no one sets, since its start.
    steady: Duration,
}

impl LawClock {
    /// Makes the clock of a process that starts now.
    pub fn start() -> Self {
        Self::of(TimeSource::System { started: Instant::now() })
    }

    /// Makes a clock that a test sets.
    #[cfg(test)]
    pub fn of_test(time: &std::sync::Arc<VirtualTime>) -> Self {
        Self::of(TimeSource::Virtual(time.clone()))
    }

    fn of(source: TimeSource) -> Self {
        let (wall, steady) = source.read();
        Self { source, seen: Mutex::new(ClockReading { reckoned: wall, latest: wall, steady }) }
    }

    /// Returns the law's time now.
    pub fn now(&self) -> LawTime {
        let (wall, steady) = self.source.read();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *seen;
        *seen = before.look(wall, steady);
        if seen.doubt() > before.doubt() + DAY {
            tracing::warn!(
                reckoned = %seen.reckoned, clock = %wall,
                "the clock has leapt ahead by more than a day: until a restart the law is read for both times, what \
                 may be over opens nothing, and what may not have begun opens nothing either"
            );
        }
        LawTime::between(seen.reckoned, seen.latest)
    }
}

impl TimeSource {
    fn read(&self) -> (Moment, Duration) {
        match self {
            TimeSource::System { started } => (wall(), started.elapsed()),
            #[cfg(test)]
            TimeSource::Virtual(time) => time.read(),
        }
    }
}

impl ClockReading {
    fn look(self, wall: Moment, steady: Duration) -> Self {
        let elapsed = seconds(steady.saturating_sub(self.steady));
        let reckoned = self.reckoned.plus_seconds(elapsed);
        // What is left of a second counts at the next look.
        let steady = self.steady + Duration::from_secs(elapsed.unsigned_abs());
        let is_plausible = wall.unix_seconds() - reckoned.unix_seconds() <= DAY;
        let believed = match is_plausible {
            // Set back, or slow: the law's time waits.
            true => self.reckoned.max(wall),
            false => reckoned,
        };
        Self { reckoned: believed, latest: self.latest.max(wall).max(believed), steady }
    }

    /// In seconds.
    fn doubt(self) -> i64 {
        self.latest.unix_seconds() - self.reckoned.unix_seconds()
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// In seconds: more than any correction of a clock that is kept, and less than any date of a law matters by.
const DAY: i64 = 86_400;

/// A wall clock that goes with tokio's, which a test can pause, and that a test can set.
#[cfg(test)]
#[derive(Debug)]
pub struct VirtualTime {
    began: tokio::time::Instant,
    at_first: i64,
    /// How far the wall clock was set since, in seconds.
    set_by: std::sync::atomic::AtomicI64,
}

#[cfg(test)]
impl VirtualTime {
    /// Makes a clock that says this now.
    pub fn starting(at: Moment) -> std::sync::Arc<Self> {
        let (began, at_first) = (tokio::time::Instant::now(), at.unix_seconds());
        std::sync::Arc::new(Self { began, at_first, set_by: std::sync::atomic::AtomicI64::new(0) })
    }

    /// Sets the wall clock ahead, or back.
    pub fn set_ahead_by(&self, seconds: i64) {
        self.set_by.fetch_add(seconds, std::sync::atomic::Ordering::SeqCst);
    }

    fn read(&self) -> (Moment, Duration) {
        let steady = self.began.elapsed();
        let set_by = self.set_by.load(std::sync::atomic::Ordering::SeqCst);
        (Moment::from_unix_seconds(self.at_first + set_by + seconds(steady)), steady)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;

    fn times(clock: &LawClock, first: Moment) -> (i64, i64) {
        let now = clock.now();
        (now.earliest().unix_seconds() - first.unix_seconds(), now.latest().unix_seconds() - first.unix_seconds())
    }

    #[tokio::test(start_paused = true)]
    async fn the_laws_time_never_goes_back() {
        let first: Moment = "2031-12-26".parse().unwrap();
        let time = VirtualTime::starting(first);
        let clock = LawClock::of_test(&time);
        tokio::time::advance(Duration::from_secs(7200)).await;
        assert_eq!(times(&clock, first), (7200, 7200));
        time.set_ahead_by(-100 * DAY);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(times(&clock, first), (7200, 7200), "it waits for the clock");
        time.set_ahead_by(100 * DAY);
        assert_eq!(times(&clock, first), (7260, 7260));
        time.set_ahead_by(23 * HOUR);
        assert_eq!(times(&clock, first), (7260 + 23 * HOUR, 7260 + 23 * HOUR), "a correction is believed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_leap_ahead_is_a_doubt_until_a_restart() {
        let first: Moment = "2026-11-29".parse().unwrap();
        let time = VirtualTime::starting(first);
        let clock = LawClock::of_test(&time);
        time.set_ahead_by(1000 * DAY);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(times(&clock, first), (10, 1000 * DAY + 10));
        time.set_ahead_by(-1000 * DAY);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(times(&clock, first), (20, 1000 * DAY + 10), "what was closed stays closed");
        let anew = LawClock::of_test(&time);
        assert_eq!(times(&anew, first), (20, 20));
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
