//! Idle connections of one worker thread, by endpoint.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::routing::Destination;
use crate::upstream::connect::Connection;

/// Idle connections, most recently used last. Each worker has its own, so that its lock is never
/// contended and a connection stays on the thread that opened it.
#[derive(Debug, Default)]
pub struct Pool {
    idle: Mutex<FxHashMap<u64, Vec<Idle>>>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    /// Takes the connection used last, if one is left that is open, silent and ready,
    /// and has not been idle for `timeout`.
    pub fn take(&self, destination: &Destination, timeout: Duration) -> Option<Connection> {
        let mut idle = self.lock();
        let connections = idle.get_mut(&destination.endpoint().id)?;
        while let Some(candidate) = connections.pop() {
            let connection = candidate.connection;
            let usable = candidate.since.elapsed() < timeout && connection.sender.is_ready();
            if usable && connection.socket.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    /// Gives a connection back, once its answer has been read to the end; `most` are kept for each
    /// endpoint.
    pub fn give(&self, endpoint: u64, connection: Connection, most: usize) {
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
            connections.retain(|idle| idle.since.elapsed() < timeout && !idle.connection.sender.is_closed());
            !connections.is_empty()
        });
    }

    fn lock(&self) -> MutexGuard<'_, FxHashMap<u64, Vec<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
