//! Timers of one worker thread, used again and again: nearly all requests are answered long before theirs ends.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Instant;

use tokio::time::{Sleep, sleep_until};

/// The timers that nobody uses now. A timer that is set anew for later stays where it is in the runtime's wheel, at
/// the cost of one store; a new one takes a lock and an allocation.
#[derive(Debug, Default)]
pub(crate) struct Timers(Mutex<Vec<Pin<Box<Sleep>>>>);

/// A timer, for one request at a time; it goes back when dropped.
pub(crate) struct Timer<'a> {
    timers: &'a Timers,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timers {
    /// Returns one that is not set.
    pub(crate) fn timer(&self) -> Timer<'_> {
        Timer { timers: self, sleep: self.lock().pop() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Pin<Box<Sleep>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Timer<'_> {
    /// Waits for a future until then; `None` when the time is over first.
    pub(crate) async fn wait<F: Future + Unpin>(&mut self, until: Instant, mut future: F) -> Option<F::Output> {
        let until = until.into();
        let mut is_set = false;
        poll_fn(|cx| {
            if let Poll::Ready(output) = Pin::new(&mut future).poll(cx) {
                return Poll::Ready(Some(output));
            }
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(until)));
            if !std::mem::replace(&mut is_set, true) {
                sleep.as_mut().reset(until);
            }
            sleep.as_mut().poll(cx).map(|()| None)
        })
        .await
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        let Some(sleep) = self.sleep.take() else { return };
        let mut timers = self.timers.lock();
        if timers.len() < MOST {
            timers.push(sleep);
        }
    }
}

/// Timers that are kept, of some 200 bytes each: as many as a busy worker has requests at a time.
const MOST: usize = 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;

    #[tokio::test(start_paused = true)]
    async fn a_timer_is_used_again_earlier_and_later() {
        let timers = Timers::default();
        for seconds in [10, 1, 100, 5] {
            let begun = tokio::time::Instant::now();
            let until = begun + Duration::from_secs(seconds);
            let waited = timers.timer().wait(until.into_std(), Box::pin(std::future::pending::<()>())).await;
            assert!(waited.is_none() && begun.elapsed().as_secs() == seconds, "{:?}", begun.elapsed());
            assert_eq!(timers.lock().len(), 1);
        }
        let answered = timers.timer().wait(clock::now() + Duration::from_secs(1), std::future::ready(1)).await;
        assert_eq!(answered, Some(1));
    }
}
