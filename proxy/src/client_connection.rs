//! One client connection, as its requests see it: who is at its other end, and what it is doing.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use http::HeaderMap;

use crate::certificate::CertificateNames;
use crate::client::{Client, Geo, PlaceCache};
use crate::client_counts::ClientPlace;
use crate::clock::coarse_ms;
use crate::peers::identity::PeerSession;

/// One client connection. Its requests share it, on its worker's thread, for as long as it lives.
pub(crate) struct ClientConnection {
    /// Who is at the other end: a client, or a proxy.
    pub(crate) peer: SocketAddr,
    /// Whether the peer is a proxy that stands for a client whom it does not name.
    unnamed: bool,
    /// What its TLS handshake settled; `None` on a plain listener.
    pub(crate) tls: Option<TlsFacts>,
    /// What its listener's settings were when it was accepted.
    pub(crate) settings: ListenerSettings,
    /// What the connection is doing.
    pub(crate) activity: Arc<Activity>,
    /// Its place among its client's connections, where those are limited; a tunnel keeps it.
    place: Mutex<Option<ClientPlace>>,
    /// The kernel's round trip to the peer, in microseconds, until somebody takes it; 0 is none.
    round_trip_us: AtomicU32,
    /// Settled by these databases; weak, so that replaced ones go.
    client: OnceLock<(Weak<Geo>, Arc<Client>)>,
}

/// What a connection gets of its listener's settings when it is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenerSettings {
    /// Whether PROXY headers of trusted peers are read.
    pub(crate) proxy_protocol: bool,
    /// The port of `https://` that every request is sent to, if it redirects.
    pub(crate) redirects_to: Option<u16>,
    /// Where load balancers ask whether the node takes traffic.
    pub(crate) health_path: Option<Arc<str>>,
}

/// What a TLS handshake settled.
#[derive(Debug)]
pub(crate) struct TlsFacts {
    /// The name that the client asked for, in lower case and without a final dot.
    pub(crate) sni: Option<String>,
    /// The names of the certificate that it got; or of those of which it got one.
    pub(crate) names: Arc<CertificateNames>,
    /// The certificate that it has shown: a node's.
    pub(crate) node: Option<PeerSession>,
    /// Whether it was asked for one.
    pub(crate) was_asked: bool,
}

/// What a connection is doing, and since when: what the watchdog closes it by.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    requests: AtomicUsize,
    /// Milliseconds of [`coarse_ms`], shifted left by one; the lowest bit says that a handshake or a head is being read.
    since: AtomicU64,
    /// Answers whose bytes the client has not taken: nobody has asked for their next.
    untaken: AtomicUsize,
    /// When the client last took something, in milliseconds of [`coarse_ms`].
    taken: AtomicU64,
    /// When the client closed its side, in milliseconds of [`coarse_ms`]; 0 while it has not.
    ended: AtomicU64,
    /// When the connection's way to the client was last full, in milliseconds of [`coarse_ms`]; [`FULL`] while it is.
    full: AtomicU64,
    /// Whether it is to be made anew, once what has begun is answered.
    outdated: AtomicBool,
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionPhase {
    /// A request is being served.
    Serving,
    /// A handshake or a request's head has begun to arrive, for so long.
    Reading(Duration),
    /// Nothing has arrived since the last request, the handshake or the connection's start, for so long.
    Idle(Duration),
}

/// Since when a piece of one stream's answer waits for its client, as its connection's watchdog reads it.
#[derive(Debug, Default)]
pub(crate) struct StreamProgress {
    /// In milliseconds of [`coarse_ms`]; 0 while none does.
    since: AtomicU64,
}

/// Marks a request as being served, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Active(Arc<Activity>);

impl ClientConnection {
    /// Makes a new connection, which does nothing yet but what `activity` says.
    pub(crate) fn new(
        peer: SocketAddr,
        activity: Arc<Activity>,
        tls: Option<TlsFacts>,
        settings: ListenerSettings,
    ) -> Self {
        let (place, client) = (Mutex::default(), OnceLock::new());
        Self { peer, unnamed: false, tls, settings, activity, place, round_trip_us: AtomicU32::new(0), client }
    }

    /// The same, of a client whom the peer does not name, if so: what comes on it is not the peer's word.
    #[must_use]
    pub(crate) fn unnamed(self, unnamed: bool) -> Self {
        Self { unnamed, ..self }
    }

    /// The same with a place among its client's connections. A node, by its certificate, needs none.
    #[must_use]
    pub(crate) fn placed(self, place: Option<ClientPlace>) -> Self {
        let place = place.filter(|_| self.node().is_none());
        Self { place: Mutex::new(place), ..self }
    }

    /// The same with the kernel's round trip to the peer, where that is known.
    #[must_use]
    pub(crate) fn at_round_trip(self, round_trip: Option<Duration>) -> Self {
        let micros = round_trip.map_or(0, |took| u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        Self { round_trip_us: AtomicU32::new(micros), ..self }
    }

    /// Takes the round trip to the peer, once.
    pub(crate) fn take_round_trip(&self) -> Option<Duration> {
        // On the path of every request: all but a connection's first find nothing.
        if self.round_trip_us.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let micros = self.round_trip_us.swap(0, Ordering::Relaxed);
        (micros > 0).then(|| Duration::from_micros(u64::from(micros)))
    }

    /// Gives its place among its client's connections back: a node speaks on it, which carries many clients.
    pub(crate) fn leave_place(&self) {
        drop(self.place.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// `http` or `https`.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Returns whether this connection may serve a host: with TLS and SNI, the name asked for, or one of the
    /// certificate's. A client that asks for another reuses the connection wrongly (RFC 9110,
    /// 15.5.20); one without SNI cannot be judged.
    pub(crate) fn may_serve(&self, host: &str) -> bool {
        let Some(TlsFacts { sni: Some(sni), names, .. }) = &self.tls else { return true };
        sni == host || names.cover(host)
    }

    /// Returns the certificate of a node that is at the other end.
    pub(crate) fn node(&self) -> Option<&PeerSession> {
        self.tls.as_ref()?.node.as_ref()
    }

    /// Has a node's connection made anew, in order, whose handshake did not ask who calls, and would by now.
    pub(crate) fn make_anew(&self) {
        self.activity.outdated.store(true, Ordering::Relaxed);
    }

    /// Returns whether it is over TLS, and its client was not asked for a node's certificate.
    pub(crate) fn never_asked(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| !tls.was_asked)
    }

    /// Marks the start of a request.
    pub(crate) fn begin(&self) -> Active {
        self.activity.requests.fetch_add(1, Ordering::Relaxed);
        Active(self.activity.clone())
    }

    /// Returns who the client is. While the peer is not trusted it is the peer, whom one look-up settles for as
    /// long as the databases stay.
    pub(crate) fn client(&self, headers: &HeaderMap, geo: &Arc<Geo>, places: &PlaceCache) -> Arc<Client> {
        if let Some((seen, client)) = self.client.get()
            && seen.as_ptr() == Arc::as_ptr(geo)
        {
            return client.clone();
        }
        let client = match self.unnamed {
            true => Arc::new(Client::unnamed(self.peer.ip(), geo)),
            false => places.client(self.peer.ip(), headers, geo),
        };
        if !client.peer_trusted {
            // Full already when the databases have changed since: then each request looks up.
            drop(self.client.set((Arc::downgrade(geo), client.clone())));
        }
        client
    }
}

impl Activity {
    /// Returns whether the connection is to be made anew.
    pub(crate) fn is_outdated(&self) -> bool {
        self.outdated.load(Ordering::Relaxed)
    }

    /// Makes that of a new connection, which is idle until its first byte.
    pub(crate) fn idle() -> Self {
        let activity = Self::default();
        activity.mark(false);
        activity
    }

    /// Notes that what had begun, a handshake or a head, is over: if nothing is going on, the connection idles from now on.
    pub(crate) fn rest(&self) {
        if self.requests.load(Ordering::Relaxed) == 0 && self.since.load(Ordering::Relaxed) & 1 == 1 {
            self.mark(false);
        }
    }

    /// Notes that the client has closed its side: it may wait for its answer, or have gone.
    pub(crate) fn has_ended(&self) {
        self.ended.store(coarse_ms().max(1), Ordering::Relaxed);
    }

    /// For how long a client that has closed its side has taken nothing: it has probably gone.
    pub(crate) fn silent_since_end(&self) -> Option<Duration> {
        let ended = self.ended.load(Ordering::Relaxed);
        let latest = ended.max(self.taken.load(Ordering::Relaxed));
        (ended > 0).then(|| Duration::from_millis(coarse_ms().saturating_sub(latest)))
    }

    /// Notes that the client has taken some of what was written, if it is only that that it is waited for.
    pub(crate) fn took(&self) {
        if self.requests.load(Ordering::Relaxed) == 0 {
            self.mark(false);
        }
    }

    /// Bytes have arrived: if nothing was going on, a handshake or a head has begun.
    pub(crate) fn received(&self) {
        if self.requests.load(Ordering::Relaxed) == 0 && self.since.load(Ordering::Relaxed) & 1 == 0 {
            self.mark(true);
        }
    }

    /// For how long the client has taken nothing of any answer while there was something to take.
    pub(crate) fn blocked(&self) -> Option<Duration> {
        let lasted = coarse_ms().saturating_sub(self.taken.load(Ordering::Relaxed));
        (self.untaken.load(Ordering::Relaxed) > 0).then(|| Duration::from_millis(lasted))
    }

    /// Notes whether the connection's way to the client is full, so that no stream can be told apart from the others.
    pub(crate) fn set_full(&self, full: bool) {
        match (self.full.load(Ordering::Relaxed) == FULL, full) {
            (false, true) => self.full.store(FULL, Ordering::Relaxed),
            (true, false) => self.full.store(coarse_ms(), Ordering::Relaxed),
            (true, true) | (false, false) => {}
        }
    }

    /// For how long the connection's way to the client has had room.
    pub(crate) fn has_had_room(&self) -> Duration {
        Duration::from_millis(coarse_ms().saturating_sub(self.full.load(Ordering::Relaxed)))
    }

    /// Returns what the connection is doing.
    pub(crate) fn phase(&self) -> ConnectionPhase {
        if self.requests.load(Ordering::Relaxed) > 0 {
            return ConnectionPhase::Serving;
        }
        let since = self.since.load(Ordering::Relaxed);
        let lasted = Duration::from_millis(coarse_ms().saturating_sub(since >> 1));
        if since & 1 == 1 { ConnectionPhase::Reading(lasted) } else { ConnectionPhase::Idle(lasted) }
    }

    fn mark(&self, reading: bool) {
        self.since.store(coarse_ms() << 1 | u64::from(reading), Ordering::Relaxed);
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        // The mark comes first: whoever sees no request must see the idle time start anew.
        self.0.mark(false);
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One answer's bytes on their way to the client. HTTP asks a body for more only once there is room
/// for it, so that a body which nobody asks is one that the client does not take.
#[derive(Debug)]
pub(crate) struct WriteProgress {
    activity: Arc<Activity>,
    untaken: bool,
}

impl WriteProgress {
    /// Begins with an answer that is about to be taken.
    pub(crate) fn new(activity: Arc<Activity>) -> Self {
        let mut flow = Self { activity, untaken: false };
        flow.asked(true);
        flow
    }

    /// The body was asked for more; `more` says whether it gave something, rather than having to wait
    /// for the origin, or being at its end.
    pub(crate) fn asked(&mut self, more: bool) {
        self.activity.taken.store(coarse_ms(), Ordering::Relaxed);
        match (self.untaken, more) {
            (false, true) => _ = self.activity.untaken.fetch_add(1, Ordering::Relaxed),
            (true, false) => _ = self.activity.untaken.fetch_sub(1, Ordering::Relaxed),
            (false, false) | (true, true) => {}
        }
        self.untaken = more;
    }
}

impl StreamProgress {
    /// For how long the client has not taken the whole of a piece of the answer.
    pub(crate) fn stalled(&self) -> Option<Duration> {
        let since = self.since.load(Ordering::Relaxed);
        (since > 0).then(|| Duration::from_millis(coarse_ms().saturating_sub(since)))
    }

    /// Notes that a piece waits, if it did not yet.
    pub(crate) fn waits(&self) {
        if self.since.load(Ordering::Relaxed) == 0 {
            self.since.store(coarse_ms().max(1), Ordering::Relaxed);
        }
    }

    /// Notes that the client has taken a piece.
    pub(crate) fn goes_on(&self) {
        self.since.store(0, Ordering::Relaxed);
    }
}

impl Drop for WriteProgress {
    fn drop(&mut self) {
        self.asked(false);
    }
}

/// No time that any clock reaches.
const FULL: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_taken_blocks() {
        let activity = Arc::new(Activity::default());
        assert!(activity.blocked().is_none());
        let mut flow = WriteProgress::new(activity.clone());
        assert!(activity.blocked().is_some(), "an answer that nobody asks for");
        flow.asked(true);
        assert!(activity.blocked().is_some(), "a piece that nobody asks to be followed");
        flow.asked(false);
        assert!(activity.blocked().is_none(), "the origin's turn");
        flow.asked(true);
        let other = WriteProgress::new(activity.clone());
        drop(flow);
        assert!(activity.blocked().is_some());
        drop(other);
        assert!(activity.blocked().is_none());
    }
}
