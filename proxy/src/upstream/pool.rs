//! Connections of one worker thread that are ready for the next request, by endpoint.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::routing::Destination;
use crate::upstream::connection::{Connection, Http1};
use crate::upstream::shared::Shared;

/// Idle HTTP/1.1 connections, most recently used last, and shared HTTP/2 ones. Each worker has its
/// own, so that its locks are never contended and a connection stays on the thread that opened it.
#[derive(Debug, Default)]
pub struct Pool {
    idle: Mutex<FxHashMap<u64, Vec<Idle>>>,
    /// Those that several requests may use at once.
    pub shared: Shared,
}

#[derive(Debug)]
struct Idle {
    connection: Http1,
    since: Instant,
}

impl Pool {
    /// Takes the connection used last, if one is left that is open, silent and ready, and has not
    /// been idle for `timeout`; of HTTP/2, a place on one that is open and has any left.
    pub fn take(&self, destination: &Destination, timeout: Duration) -> Option<Connection> {
        let endpoint = destination.endpoint();
        if destination.is_http2() {
            return self.shared.take(endpoint.id, timeout).map(Connection::Http2);
        }
        let mut idle = self.lock();
        let connections = idle.get_mut(&endpoint.id)?;
        while let Some(candidate) = connections.pop() {
            let connection = candidate.connection;
            let usable = candidate.since.elapsed() < timeout && connection.sender.is_ready();
            if usable && connection.link.is_good() && connection.link.socket.is_quiet() {
                return Some(Connection::Http1(connection));
            }
        }
        None
    }

    /// Gives a connection back, once its answer has been read to the end; `most` idle ones are kept
    /// for each endpoint.
    pub fn give(&self, endpoint: u64, connection: Connection, most: usize) {
        let connection = match connection {
            Connection::Http1(connection) => connection,
            Connection::Http2(stream) => return self.shared.give(endpoint, stream, most),
        };
        if connection.sender.is_closed() {
            return;
        }
        let mut idle = self.lock();
        let connections = idle.entry(endpoint).or_default();
        if connections.len() < most {
            connections.push(Idle { connection, since: Instant::now() });
        }
    }

    /// Closes connections that have been idle for `timeout`.
    pub fn sweep(&self, timeout: Duration) {
        self.lock().retain(|_, connections| {
            connections.retain(|Idle { connection, since }| {
                since.elapsed() < timeout && !connection.sender.is_closed() && connection.link.is_good()
            });
            !connections.is_empty()
        });
        self.shared.sweep(timeout);
    }

    fn lock(&self) -> MutexGuard<'_, FxHashMap<u64, Vec<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
