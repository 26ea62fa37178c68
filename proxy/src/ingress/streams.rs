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

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes streams of one connection, as its server has them.
    async fn replies(number: usize) -> Vec<Arc<Reply>> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let client = tokio::spawn(async move {
            let (mut sender, connection) = h2::client::handshake(near).await.unwrap();
            let requests: Vec<_> =
                (0..number).map(|_| sender.send_request(http::Request::new(()), true).unwrap()).collect();
            drop(connection.await);
            drop(requests);
        });
        let mut server = h2::server::handshake(far).await.unwrap();
        let mut replies = Vec::new();
        while replies.len() < number {
            replies.push(Arc::new(Reply::new(server.accept().await.unwrap().unwrap().1)));
        }
        client.abort();
        replies
    }

    #[tokio::test]
    async fn those_that_have_ended_take_no_memory() {
        let streams = Streams::default();
        let mut under_way = Vec::new();
        for (number, reply) in replies(40).await.into_iter().enumerate() {
            streams.begin(&reply);
            if number % 10 == 0 {
                under_way.push(reply);
            }
        }
        let held = || {
            let streams = streams.lock();
            (streams.len(), streams.capacity())
        };
        assert!(held().1 <= 8, "{:?} for the four that are under way", held());
        streams.give_back();
        assert_eq!(held(), (4, 4));
        drop(under_way);
        streams.give_back();
        assert_eq!(held(), (0, 0));
    }
}
