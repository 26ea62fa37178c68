//! What of answers waits for one HTTP/2 client's socket. HTTP/2 would take as much of each stream as its client's window lets
//! it, and the window may be as wide as the client likes; while the node holds much, a connection whose client does not read
//! holds a little for all of its streams.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use crate::body_budget::{BodyBudget, HeldAnswers, LITTLE};

/// It belongs to its connection's task, and to those of its streams, all on the worker's thread, so that its lock is always
/// free.
pub(super) struct Unwritten {
    held: HeldAnswers,
    /// Of streams that wait, as many as there are streams at most.
    waiting: Mutex<Vec<Waker>>,
}

impl Unwritten {
    /// Makes that of a new connection.
    pub(super) fn of(budget: &Arc<BodyBudget>) -> Self {
        Self { held: HeldAnswers::of(budget), waiting: Mutex::default() }
    }

    /// Notes that a stream has left so many bytes to HTTP/2.
    pub(super) fn add(&self, bytes: u64) {
        if bytes > 0 {
            self.held.add(bytes);
        }
    }

    /// Notes that the socket has taken all. Whoever waits goes on.
    pub(super) fn clear(&self) {
        if self.held.bytes() > 0 {
            self.held.clear();
            self.lock().drain(..).for_each(Waker::wake);
        }
    }

    /// Returns whether a stream is to leave nothing more to HTTP/2 for now: the node holds much, and this connection has some
    /// of it. Its task is woken once the socket has taken that.
    pub(super) fn must_wait(&self, cx: &Context<'_>) -> bool {
        let waits = self.held.bytes() > LITTLE as u64 && self.held.budget().is_tight();
        if waits {
            let mut waiting = self.lock();
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
        }
        waits
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn streams_wait_for_the_socket_while_the_node_holds_much() {
        let budget = Arc::<BodyBudget>::default();
        let woken = Arc::<Counting>::default();
        let waker = Waker::from(woken.clone());
        let cx = Context::from_waker(&waker);
        let (unwritten, other) = (Unwritten::of(&budget), HeldAnswers::of(&budget));
        unwritten.add(1 << 20);
        assert!(!unwritten.must_wait(&cx), "there is no limit");
        budget.set_limit(Some(4 << 20));
        assert!(!unwritten.must_wait(&cx), "there is room");
        other.add(1 << 20);
        assert!(unwritten.must_wait(&cx) && unwritten.must_wait(&cx));
        unwritten.clear();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        other.add(1 << 20);
        assert!(!unwritten.must_wait(&cx), "it has nothing of it");
        unwritten.add(LITTLE as u64);
        assert!(!unwritten.must_wait(&cx), "a little goes on always");
        unwritten.add(1);
        assert!(unwritten.must_wait(&cx));
    }
}
