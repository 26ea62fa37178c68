//! What an origin has received.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Version, header};
use tokio::sync::watch;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// The method.
    pub method: Method,
    /// The path with its query.
    pub path: String,
    /// The `Host` field, or `:authority` on HTTP/2.
    pub host: Option<String>,
    /// The HTTP version.
    pub version: Version,
    /// All header fields.
    pub headers: HeaderMap,
    /// Whether it has arrived to its end. Until then nothing is said of its body.
    pub whole: bool,
    /// The body's length in bytes.
    pub body_length: u64,
    /// The body's beginning: its first 16 KiB.
    pub body: Bytes,
}

/// Counts, and a bounded ring of the latest requests.
pub(super) struct Record {
    kept: usize,
    connections: AtomicU64,
    requests: AtomicU64,
    whole: watch::Sender<u64>,
    ring: Mutex<Ring>,
}

#[derive(Default)]
struct Ring {
    latest: VecDeque<Received>,
    /// The number of the request at the front of `latest`.
    first: u64,
}

impl Received {
    /// Returns the value of a header field, if it came, in text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns a request of which only the head has come.
    pub(super) fn head<B>(request: &Request<B>) -> Received {
        let uri = request.uri();
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        Received {
            method: request.method().clone(),
            path: uri.path_and_query().map_or_else(|| uri.path().to_owned(), ToString::to_string),
            host: host.or_else(|| uri.authority().map(http::uri::Authority::as_str)).map(str::to_owned),
            version: request.version(),
            headers: request.headers().clone(),
            whole: false,
            body_length: 0,
            body: Bytes::new(),
        }
    }
}

impl Record {
    pub(super) fn new(kept: usize) -> Record {
        Record {
            kept,
            connections: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            whole: watch::Sender::new(0),
            ring: Mutex::default(),
        }
    }

    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(super) fn received(&self) -> Vec<Received> {
        self.lock().latest.iter().cloned().collect()
    }

    pub(super) async fn arrived(&self, count: u64) {
        // The sender lives as long as `self`, so this cannot fail.
        let _ = self.whole.subscribe().wait_for(|whole| *whole >= count).await;
    }

    pub(super) fn accept(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Enters a head at once, since a request that is cut off has also been received. Gives its number.
    pub(super) fn begin(&self, head: &Received) -> u64 {
        let mut ring = self.lock();
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        if self.kept > 0 {
            if ring.latest.len() == self.kept {
                ring.latest.pop_front();
                ring.first += 1;
            }
            ring.latest.push_back(head.clone());
        }
        number
    }

    /// Enters the body of a request that has arrived to its end.
    pub(super) fn complete(&self, number: u64, received: &Received) {
        let mut ring = self.lock();
        let index = number.checked_sub(ring.first).and_then(|index| usize::try_from(index).ok());
        if let Some(entry) = index.and_then(|index| ring.latest.get_mut(index)) {
            entry.clone_from(received);
        }
        drop(ring);
        self.whole.send_modify(|whole| *whole += 1);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
