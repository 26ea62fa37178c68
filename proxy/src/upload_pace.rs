//! How slowly a client may send a request's content. Only the time counts in which the origin would take more.

use std::time::{Duration, Instant};

/// How far a client is behind with one upload. It lives as long as the upload, on one worker's thread.
#[derive(Debug)]
pub(crate) struct UploadPace {
    /// For how long the client may pause.
    pause: Duration,
    /// Since when the origin would take more, and the client has sent none.
    awaited: Option<Instant>,
}

impl UploadPace {
    /// Lets a client pause for so long.
    pub(crate) fn new(pause: Duration) -> Self {
        Self { pause, awaited: None }
    }

    /// Lets the client pause for so long from now on, as one that sends a stream.
    pub(crate) fn stream(&mut self, pause: Duration) {
        *self = Self { pause, ..*self };
    }

    /// Returns for how long the client may pause.
    pub(crate) fn pause(&self) -> Duration {
        self.pause
    }

    /// Notes that the origin would take more, and there is none.
    pub(crate) fn awaits(&mut self, now: impl FnOnce() -> Instant) {
        self.awaited.get_or_insert_with(now);
    }

    /// Notes that a piece has come.
    pub(crate) fn came(&mut self) {
        self.awaited = None;
    }

    /// Notes that another origin is to get it: it is not that one's turn yet.
    pub(crate) fn begins_anew(&mut self) {
        self.awaited = None;
    }

    /// Returns when the client will have taken too long, unless it sends more; `None` while it is not its turn.
    pub(crate) fn late_at(&self) -> Option<Instant> {
        Some(self.awaited? + self.pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(60);

    #[test]
    fn a_pause_lasts_from_the_origins_wish_to_the_next_piece() {
        let mut pace = UploadPace::new(PAUSE);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(pace.late_at(), None, "the origin takes none yet");
        pace.awaits(|| at(10));
        pace.awaits(|| at(50));
        assert_eq!(pace.late_at(), Some(at(70)));
        pace.came();
        assert_eq!(pace.late_at(), None);
        pace.awaits(|| at(100));
        pace.begins_anew();
        assert_eq!(pace.late_at(), None);
        pace.stream(PAUSE * 60);
        pace.awaits(|| at(200));
        assert_eq!(pace.late_at(), Some(at(3800)));
    }
}
