//! Connections of one worker thread that are ready for the next request, by endpoint.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::clock;
use crate::upstream::balance::Destination;
use crate::upstream::endpoint_connections::{PoolKey, SharedConnections};
use crate::upstream::http1::Http1;
use crate::upstream::link::Speak;
use crate::upstream::origin_connection::OriginConnection;
use crate::upstream::timers::Timers;

/// Idle HTTP/1.1 connections, most recently used last, and shared HTTP/2 ones. Each worker has its
/// own, so that its locks are never contended and a connection stays on the thread that opened it.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: Mutex<FxHashMap<PoolKey, Vec<Idle>>>,
    /// Those that several requests may use at once.
    pub(crate) shared: SharedConnections,
    /// What attempts are timed by.
    pub(crate) timers: Timers,
}

#[derive(Debug)]
struct Idle {
    connection: Box<Http1>,
    since: Instant,
}

impl Pool {
    /// Takes the connection of this generation that was used last, if one is left that is open, silent and ready, and
    /// has not been idle for `timeout`; of HTTP/2, a place on one that is open and has any left.
    pub(crate) fn take(
        &self,
        destination: &Destination,
        generation: u64,
        timeout: Duration,
    ) -> Option<OriginConnection> {
        let server_name = destination.server_name().cloned();
        let key = PoolKey { endpoint: destination.endpoint().id, generation, server_name };
        match destination.speak() {
            Speak::Http2 => return self.shared.take(&key, timeout).map(OriginConnection::Http2),
            Speak::Http1 => {}
            Speak::Tunnel | Speak::Nothing => return None,
        }
        let mut idle = self.lock();
        let connections = idle.get_mut(&key)?;
        while let Some(Idle { mut connection, since }) = connections.pop() {
            let idle = since.elapsed();
            if idle < timeout && connection.link.leads_there() && connection.is_quiet(idle < BRIEFLY) {
                return Some(OriginConnection::Http1(connection));
            }
        }
        None
    }

    /// Gives a connection back, once its answer has been read to the end; `most` idle ones of the current generation
    /// are kept for each endpoint, and none of an earlier one.
    pub(crate) fn give(&self, endpoint: u64, connection: OriginConnection, generation: u64, most: usize) {
        let server_name = connection.server_name().cloned();
        let key = PoolKey { endpoint, generation: connection.generation(), server_name };
        let most = if key.generation == generation { most } else { 0 };
        let connection = match connection {
            OriginConnection::Http1(connection) => connection,
            OriginConnection::Http2(stream) => return self.shared.give(&key, stream, most),
            OriginConnection::Tunnel(_) => return,
        };
        let Some(connection) = connection.idle() else { return };
        let mut idle = self.lock();
        let connections = idle.entry(key).or_default();
        if connections.len() < most {
            connections.push(Idle { connection, since: clock::now() });
        }
    }

    /// Closes connections that have been idle for `timeout`, and those of another generation; HTTP/2 ones as soon as
    /// their last request has ended.
    pub(crate) fn sweep(&self, generation: u64, timeout: Duration) {
        self.lock().retain(|key, connections| {
            connections.retain_mut(|Idle { connection, since }| {
                since.elapsed() < timeout && connection.link.leads_there() && connection.is_quiet(false)
            });
            !connections.is_empty() && key.generation == generation
        });
        self.shared.sweep(generation, timeout);
    }

    fn lock(&self) -> MutexGuard<'_, FxHashMap<PoolKey, Vec<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For how long an idle connection needs no look at its socket: what comes meanwhile the runtime has most likely seen,
/// since it looks at all sockets between any two requests, and no origin times out so soon.
const BRIEFLY: Duration = Duration::from_millis(5);
