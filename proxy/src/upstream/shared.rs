//! The HTTP/2 connections of one worker thread: shared by requests, and opened once for all that wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::sync::watch;

use crate::upstream::http2::{Http2, Stream};
use crate::upstream::pool::PoolKey;

/// Open connections, and those that are being opened, by endpoint and generation.
#[derive(Debug, Default)]
pub struct Shared {
    lanes: Mutex<FxHashMap<PoolKey, Lane>>,
}

/// What there is towards one endpoint.
#[derive(Debug, Default)]
struct Lane {
    connections: Vec<Arc<Http2>>,
    dials: Vec<Dial>,
    /// How many requests the last connection took at a time; 0 when there was none yet.
    capacity: usize,
}

/// A connection that is being opened.
#[derive(Debug)]
struct Dial {
    number: u64,
    failure: watch::Receiver<Option<Arc<str>>>,
    waiting: usize,
}

/// What a request that needs a connection does next.
pub enum Turn<'a> {
    /// It has a place on one.
    Go(Stream),
    /// It opens one, for others too.
    Dial(Dialling<'a>),
    /// Another request opens one: it looks again when the channel closes, or fails as that one did.
    Wait(watch::Receiver<Option<Arc<str>>>),
}

/// The right to open a connection, and the duty to say what became of it. Dropped without a word,
/// another request opens one.
pub struct Dialling<'a> {
    shared: &'a Shared,
    key: PoolKey,
    number: u64,
    failure: watch::Sender<Option<Arc<str>>>,
}

impl Shared {
    /// A place on an open connection, if one has any left.
    pub fn take(&self, key: PoolKey, timeout: Duration) -> Option<Stream> {
        let mut lanes = self.lock();
        let lane = lanes.get_mut(&key)?;
        lane.connections.retain(|connection| !connection.is_closed() && !connection.is_idle_for(timeout));
        lane.connections.iter().find_map(Http2::stream)
    }

    /// A place, or the way to one.
    pub fn turn(&self, key: PoolKey) -> Turn<'_> {
        let mut lanes = self.lock();
        let lane = lanes.entry(key).or_default();
        if let Some(stream) = lane.connections.iter().find_map(Http2::stream) {
            return Turn::Go(stream);
        }
        let capacity = if lane.capacity == 0 { usize::MAX } else { lane.capacity };
        if let Some(dial) = lane.dials.iter_mut().find(|dial| dial.waiting < capacity) {
            dial.waiting += 1;
            return Turn::Wait(dial.failure.clone());
        }
        let (sender, failure) = watch::channel(None);
        let number = lane.dials.last().map_or(0, |dial| dial.number + 1);
        lane.dials.push(Dial { number, failure, waiting: 1 });
        Turn::Dial(Dialling { shared: self, key, number, failure: sender })
    }

    /// Takes a place back; of the connections that are idle then, `most` are kept.
    pub fn give(&self, key: PoolKey, stream: Stream, most: usize) {
        let last = stream.is_last();
        drop(stream);
        if !last {
            return;
        }
        let mut lanes = self.lock();
        let Some(lane) = lanes.get_mut(&key) else { return };
        let mut idle = 0;
        lane.connections.retain(|connection| {
            idle += usize::from(connection.is_idle());
            !connection.is_idle() || idle <= most
        });
    }

    /// Closes connections that have been idle for `timeout`. Those of another generation are let go: they close with
    /// their last request.
    pub fn sweep(&self, generation: u64, timeout: Duration) {
        self.lock().retain(|key, lane| {
            lane.connections.retain(|connection| {
                key.generation == generation && !connection.is_closed() && !connection.is_idle_for(timeout)
            });
            !lane.connections.is_empty() || !lane.dials.is_empty()
        });
    }

    fn lock(&self) -> MutexGuard<'_, FxHashMap<PoolKey, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dialling<'_> {
    /// Shares a new connection, and takes the first place on it. `None` when it is closed already.
    pub fn succeeded(self, connection: Http2) -> Option<Stream> {
        let connection = Arc::new(connection);
        let stream = connection.stream();
        if let Some(lane) = self.shared.lock().get_mut(&self.key) {
            lane.capacity = connection.limit();
            lane.connections.push(connection);
        }
        stream
    }

    /// Tells all that wait.
    pub fn failed(self, why: &str) {
        self.failure.send_replace(Some(why.into()));
    }
}

impl Drop for Dialling<'_> {
    fn drop(&mut self) {
        if let Some(lane) = self.shared.lock().get_mut(&self.key) {
            lane.dials.retain(|dial| dial.number != self.number);
        }
    }
}
