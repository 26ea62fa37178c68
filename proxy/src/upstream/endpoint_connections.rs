//! The HTTP/2 connections of one worker thread: shared by requests, and opened once for all that wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::sync::watch;

use crate::upstream::http2::{Http2, Stream};
use crate::upstream::link::ConnectFailure;

/// Whom a pooled connection leads to, and which connector has opened it: what another would verify by other
/// authorities, show another certificate, or find at another address is not used again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    /// The endpoint's id.
    pub(crate) endpoint: u64,
    /// [`Connector::generation`](crate::upstream::connect::Connector::generation).
    pub(crate) generation: u64,
    /// What it has proved to be, where that is not its endpoint's own name.
    pub(crate) server_name: Option<Arc<str>>,
}

/// Open connections of one worker thread, and those that are being opened, by endpoint and generation.
#[derive(Debug, Default)]
pub(crate) struct SharedConnections {
    endpoints: Mutex<FxHashMap<PoolKey, EndpointConnections>>,
}

/// The connections to one endpoint.
#[derive(Debug, Default)]
struct EndpointConnections {
    connections: Vec<Arc<Http2>>,
    pending: Vec<PendingConnect>,
    /// How many requests the last connection took at a time; 0 when there was none yet.
    capacity: usize,
}

/// A connection that is being opened.
#[derive(Debug)]
struct PendingConnect {
    number: u64,
    failure: watch::Receiver<Option<ConnectFailure>>,
    waiting: usize,
}

/// Says what a request that needs a connection does next.
pub(crate) enum ConnectPermit<'a> {
    /// It has a place on one.
    Ready(Stream),
    /// It opens one, for others too.
    Open(SingleFlight<'a>),
    /// Another request opens one: it looks again when the channel closes, or fails as that one did.
    Wait(watch::Receiver<Option<ConnectFailure>>),
}

/// Opens one connection for all requests that wait for it, and reports to them whether that succeeded. Dropped
/// without a report, another request opens one.
pub(crate) struct SingleFlight<'a> {
    shared: &'a SharedConnections,
    key: PoolKey,
    number: u64,
    failure: watch::Sender<Option<ConnectFailure>>,
}

impl SharedConnections {
    /// Returns a place on an open connection, if one has any left.
    pub(crate) fn take(&self, key: &PoolKey, timeout: Duration) -> Option<Stream> {
        let mut endpoints = self.lock();
        let endpoint = endpoints.get_mut(key)?;
        endpoint.connections.retain(|connection| !connection.is_closed() && !connection.is_idle_for(timeout));
        endpoint.connections.iter().find_map(Http2::stream)
    }

    /// Returns a place, or the way to one.
    pub(crate) fn permit(&self, key: PoolKey) -> ConnectPermit<'_> {
        let mut endpoints = self.lock();
        let endpoint = endpoints.entry(key.clone()).or_default();
        if let Some(stream) = endpoint.connections.iter().find_map(Http2::stream) {
            return ConnectPermit::Ready(stream);
        }
        let capacity = if endpoint.capacity == 0 { usize::MAX } else { endpoint.capacity };
        if let Some(pending) = endpoint.pending.iter_mut().find(|pending| pending.waiting < capacity) {
            pending.waiting += 1;
            return ConnectPermit::Wait(pending.failure.clone());
        }
        let (sender, failure) = watch::channel(None);
        let number = endpoint.pending.last().map_or(0, |pending| pending.number + 1);
        endpoint.pending.push(PendingConnect { number, failure, waiting: 1 });
        ConnectPermit::Open(SingleFlight { shared: self, key, number, failure: sender })
    }

    /// Takes a place back; of the connections that are idle then, `most` are kept.
    pub(crate) fn give(&self, key: &PoolKey, stream: Stream, most: usize) {
        let last = stream.is_last();
        drop(stream);
        if !last {
            return;
        }
        let mut endpoints = self.lock();
        let Some(endpoint) = endpoints.get_mut(key) else { return };
        let mut idle = 0;
        endpoint.connections.retain(|connection| {
            idle += usize::from(connection.is_idle());
            !connection.is_idle() || idle <= most
        });
    }

    /// Closes connections that have been idle for `timeout`. Those of another generation are let go: they close with
    /// their last request.
    pub(crate) fn sweep(&self, generation: u64, timeout: Duration) {
        self.lock().retain(|key, endpoint| {
            endpoint.connections.retain(|connection| {
                key.generation == generation && !connection.is_closed() && !connection.is_idle_for(timeout)
            });
            !endpoint.connections.is_empty() || !endpoint.pending.is_empty()
        });
    }

    fn lock(&self) -> MutexGuard<'_, FxHashMap<PoolKey, EndpointConnections>> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SingleFlight<'_> {
    /// Shares a new connection, and takes the first place on it. `None` when it is closed already.
    pub(crate) fn succeeded(self, connection: Http2) -> Option<Stream> {
        let connection = Arc::new(connection);
        let stream = connection.stream();
        if let Some(endpoint) = self.shared.lock().get_mut(&self.key) {
            endpoint.capacity = connection.limit();
            endpoint.connections.push(connection);
        }
        stream
    }

    /// Has all requests that wait fail as this one did.
    pub(crate) fn failed(self, why: ConnectFailure) {
        self.failure.send_replace(Some(why));
    }
}

impl Drop for SingleFlight<'_> {
    fn drop(&mut self) {
        if let Some(endpoint) = self.shared.lock().get_mut(&self.key) {
            endpoint.pending.retain(|pending| pending.number != self.number);
        }
    }
}
