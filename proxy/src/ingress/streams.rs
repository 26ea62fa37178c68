//! The streams of one HTTP/2 connection, as its task and the watchdog share them: one whose client takes nothing ends alone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::ingress::reply::Reply;

/// Those that are under way, and some that have ended; all are on the worker's thread, so that the lock is always free.
#[derive(Clone, Default)]
pub(crate) struct Streams(Arc<Mutex<Vec<Weak<Reply>>>>);

impl Streams {
    /// Takes a stream that has begun.
    pub(super) fn begin(&self, reply: &Arc<Reply>) {
        let mut streams = self.lock();
        if streams.len() == streams.capacity() {
            streams.retain(|stream| stream.strong_count() > 0);
        }
        streams.push(Arc::downgrade(reply));
    }

    /// Ends the streams whose answers the client has not taken for so long.
    pub(crate) fn end_stalled(&self, longest: Duration) {
        self.lock().iter().filter_map(Weak::upgrade).for_each(|reply| reply.end_if_stalled(longest));
    }

    /// Gives the memory of those that have ended.
    pub(super) fn give_back(&self) {
        let mut streams = self.lock();
        streams.retain(|stream| stream.strong_count() > 0);
        streams.shrink_to_fit();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Reply>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
