//! How slowly a client may send a request's content. Only the time counts in which the origin would take more.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use prometheus::IntCounter;

/// How far a client is behind with one upload. It lives as long as the upload, on one worker's thread.
#[derive(Debug)]
pub(crate) struct UploadPace {
    /// For how long the client may pause, and be behind its rate.
    pause: Duration,
    rate: Option<LeastRate>,
    /// For how long it may pause as one that sends a stream, at whatever rate: on this route, and to the endpoint of the
    /// attempt.
    stream: Option<Duration>,
    attempts_stream: Option<Duration>,
    /// Since when the origin would take more, and the client has sent none.
    awaited: Option<Instant>,
    /// For how long the client was awaited beyond what its bytes make up for.
    behind: Duration,
}

/// What a client must send at least.
#[derive(Clone, Debug)]
pub(crate) struct LeastRate {
    /// Bytes a second.
    pub(crate) bytes: NonZeroU32,
    /// Counts those who do not.
    pub(crate) too_slow: IntCounter,
}

impl UploadPace {
    /// Lets a client pause for so long, and send as slowly as it likes.
    pub(crate) fn new(pause: Duration) -> Self {
        Self { pause, rate: None, stream: None, attempts_stream: None, awaited: None, behind: Duration::ZERO }
    }

    /// The same with a rate: the client is ended once it is a whole pause behind it.
    #[must_use]
    pub(crate) fn at_least(self, rate: Option<LeastRate>) -> Self {
        Self { rate, ..self }
    }

    /// Lets the client pause for so long from now on, as one that sends a stream, at whatever rate.
    pub(crate) fn stream(&mut self, pause: Duration) {
        self.stream = Some(pause);
    }

    /// The same until the next attempt, whose endpoint may be another.
    pub(crate) fn stream_in_attempt(&mut self, pause: Duration) {
        self.attempts_stream = Some(pause);
    }

    /// Begins another attempt.
    pub(crate) fn begin_attempt(&mut self) {
        self.attempts_stream = None;
        self.not_awaited();
    }

    /// Returns for how long the client may pause.
    pub(crate) fn pause(&self) -> Duration {
        self.of_stream().unwrap_or(self.pause)
    }

    fn of_stream(&self) -> Option<Duration> {
        self.attempts_stream.or(self.stream)
    }

    /// Notes that the origin would take more, and there is none.
    pub(crate) fn awaits(&mut self, now: impl FnOnce() -> Instant) {
        self.awaited.get_or_insert_with(now);
    }

    /// Notes that a piece of so many bytes has come, or the end. Returns whether the client is too far behind its rate all
    /// the same.
    pub(crate) fn came(&mut self, bytes: Option<usize>, now: Instant) -> bool {
        let awaited = self.awaited.take();
        let (Some(rate), None, Some(bytes)) = (&self.rate, self.of_stream(), bytes) else { return false };
        if let Some(since) = awaited {
            self.behind += now.saturating_duration_since(since);
        }
        let made_up = Duration::from_secs_f64(bytes as f64 / f64::from(rate.bytes.get()));
        self.behind = self.behind.saturating_sub(made_up);
        self.behind >= self.pause
    }

    /// Notes that it is not the client's turn: the origin does not take what is here, or another is to get it.
    pub(crate) fn not_awaited(&mut self) {
        self.awaited = None;
    }

    /// Returns when the client will be late, unless it sends more; `None` while it is not its turn.
    pub(crate) fn late_at(&self) -> Option<Instant> {
        let behind = if self.of_stream().is_some() { Duration::ZERO } else { self.behind };
        Some(self.awaited? + self.pause().saturating_sub(behind))
    }

    /// Returns whether a client that is late has paused for too long, rather than been too slow.
    pub(crate) fn has_paused(&self, now: Instant) -> bool {
        let paused = |since: Instant| now.saturating_duration_since(since) >= self.pause();
        self.rate.is_none() || self.of_stream().is_some() || self.awaited.is_some_and(paused)
    }

    /// Counts the client as too slow.
    pub(crate) fn count(&self) {
        self.rate.as_ref().inspect(|rate| rate.too_slow.inc());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(60);

    fn rate(bytes: u32) -> Option<LeastRate> {
        let too_slow = IntCounter::new("too_slow", "those who are").unwrap();
        Some(LeastRate { bytes: NonZeroU32::new(bytes)?, too_slow })
    }

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_pause_lasts_from_the_origins_wish_to_the_next_piece() {
        let mut pace = UploadPace::new(PAUSE);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(pace.late_at(), None, "the origin takes none yet");
        pace.awaits(|| at(10));
        pace.awaits(|| at(50));
        assert_eq!(pace.late_at(), Some(at(70)));
        assert!(pace.has_paused(at(70)));
        assert!(!pace.came(Some(1), at(69)));
        assert_eq!(pace.late_at(), None);
        pace.awaits(|| at(100));
        pace.not_awaited();
        assert_eq!(pace.late_at(), None);
        pace.stream_in_attempt(PAUSE * 60);
        pace.awaits(|| at(200));
        assert_eq!(pace.late_at(), Some(at(3800)));
        pace.begin_attempt();
        pace.awaits(|| at(300));
        assert_eq!(pace.late_at(), Some(at(360)), "of that attempt only");
        pace.stream(PAUSE * 60);
        pace.begin_attempt();
        pace.awaits(|| at(400));
        assert_eq!(pace.late_at(), Some(at(4000)), "of the whole request");
    }

    /// Sends pieces of so many bytes, one each so often, and returns when it is ended, if it is within an hour.
    fn ended(mut pace: UploadPace, bytes: usize, every: f64, origin_takes: f64) -> Option<f64> {
        let start = Instant::now();
        let mut now = 0.0;
        while now < 3600.0 {
            now += origin_takes;
            pace.awaits(|| start + seconds(now));
            let late_at = pace.late_at().unwrap().saturating_duration_since(start).as_secs_f64();
            if late_at <= now + every {
                return Some(late_at);
            }
            now += every;
            if pace.came(Some(bytes), start + seconds(now)) {
                return Some(now);
            }
        }
        None
    }

    #[test]
    fn who_trickles_is_ended_once_a_pause_behind() {
        let slow = || UploadPace::new(PAUSE).at_least(rate(500));
        let found = ended(slow(), 1, 29.0, 0.0).unwrap();
        assert!((60.0..60.1).contains(&found), "{found}");
        // Half of the rate: a pause behind after two.
        let found = ended(slow(), 250, 1.0, 0.0).unwrap();
        assert!((118.0..122.0).contains(&found), "{found}");
        assert_eq!(ended(slow(), 501, 1.0, 0.0), None);
        assert_eq!(ended(slow(), 20_000, 39.0, 0.0), None, "in bursts");
        assert_eq!(ended(UploadPace::new(PAUSE), 1, 29.0, 0.0), None, "without a rate");
        assert_eq!(ended(slow(), 501, 1.0, 30.0), None);
        // An origin that takes its time makes up for nothing, and is held against nobody.
        let found = ended(slow(), 1, 1.0, 9.0).unwrap();
        assert!((595.0..610.0).contains(&found), "{found}");
    }

    #[test]
    fn what_was_sent_fast_buys_nothing() {
        let mut pace = UploadPace::new(PAUSE).at_least(rate(500));
        let start = Instant::now();
        assert!(!pace.came(Some(1 << 30), start));
        let found = ended(pace, 1, 29.0, 0.0).unwrap();
        assert!((60.0..60.1).contains(&found), "{found}");
    }

    #[test]
    fn a_stream_has_no_rate() {
        let mut pace = UploadPace::new(PAUSE).at_least(rate(500));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        pace.awaits(|| start);
        assert!(!pace.came(Some(1), at(59)));
        pace.awaits(|| at(59));
        assert!(!pace.has_paused(at(61)) && pace.has_paused(at(119)));
        assert!(!pace.came(None, at(500)), "at its end it is whole");
        pace.awaits(|| at(500));
        pace.stream(PAUSE * 60);
        assert!(!pace.came(Some(1), at(3000)));
        pace.awaits(|| at(3000));
        assert_eq!(pace.late_at(), Some(at(6600)));
        assert!(pace.has_paused(at(6600)));
    }
}
