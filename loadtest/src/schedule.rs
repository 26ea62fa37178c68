//! When each request is meant to leave.

use std::time::{Duration, Instant};

/// Evenly spaced intended times: request `n` at `start + n / rate`, for `total` requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    start: Instant,
    rate: f64,
    total: u64,
}

impl Schedule {
    /// Returns every request whose intended time lies before `start + duration`.
    pub(crate) fn new(start: Instant, rate: f64, duration: Duration) -> Schedule {
        // A float saturates into `u64::MAX`: a schedule without end.
        Schedule { start, rate, total: (duration.as_secs_f64() * rate).ceil() as u64 }
    }

    /// Returns the intended time of a request.
    pub(crate) fn intended(&self, sequence: u64) -> Instant {
        self.start + Duration::from_secs_f64(sequence as f64 / self.rate)
    }

    /// Returns how many requests were meant to leave by `now`.
    pub(crate) fn due(&self, now: Instant) -> u64 {
        match now.checked_duration_since(self.start) {
            Some(elapsed) => ((elapsed.as_secs_f64() * self.rate) as u64).saturating_add(1).min(self.total),
            None => 0,
        }
    }

    /// Ends the schedule: only what is due by `now` remains.
    pub(crate) fn end(&mut self, now: Instant) {
        self.total = self.due(now);
    }

    /// Returns the number of requests, `u64::MAX` for no end.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// From the first intended time until one interval past the last.
    pub(crate) fn length(&self) -> Duration {
        Duration::try_from_secs_f64(self.total as f64 / self.rate).unwrap_or(Duration::MAX)
    }

    /// Returns the first intended time.
    pub(crate) fn start(&self) -> Instant {
        self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_at_their_intended_times() {
        let start = Instant::now();
        let schedule = Schedule::new(start, 8.0, Duration::from_secs(2));
        assert_eq!(schedule.total(), 16);
        assert_eq!(schedule.length(), Duration::from_secs(2));
        for sequence in 0..16 {
            let intended = schedule.intended(sequence);
            assert_eq!(schedule.due(intended), sequence + 1);
            assert_eq!(intended - start, Duration::from_millis(125) * u32::try_from(sequence).unwrap());
        }
        assert_eq!(schedule.due(start + Duration::from_secs(60)), 16, "nothing is due past the end");
    }

    #[test]
    fn an_endless_schedule_can_be_ended() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, 100.0, Duration::MAX);
        assert_eq!(schedule.total(), u64::MAX);
        schedule.end(start + Duration::from_millis(55));
        assert_eq!(schedule.total(), 6);
        assert_eq!(schedule.due(start + Duration::from_secs(9)), 6);
    }
}
