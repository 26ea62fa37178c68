//! What keeps an HTTP/2 connection to an upstream going: a task that reads and writes for all its requests, counts the places
//! that they have on it, and finds out when its peer is dead.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::Connection;
use h2::{Ping, PingPong};
use policy::round_trip::Answer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use crate::body_budget::{BodyBudget, LITTLE};
use crate::clock::{coarse_ms, now};
use crate::health::round_trip::PendingRoundTrips;
use crate::upstream::received::{FrameFollower, Received};

/// The places of requests on one connection: as many as its peer takes streams at a time. The connection's task and all its
/// requests have it, on one worker's thread.
#[derive(Debug)]
pub(super) struct Places {
    /// Those that are taken: by requests, and by streams that the library has yet to end.
    taken: AtomicUsize,
    /// Those of them whose request has ended, and whose stream the library may not have ended yet: past its peer's limit it
    /// would keep the next request, and send it whenever there is room, even were that given up meanwhile.
    ending: AtomicUsize,
    limit: AtomicUsize,
}

impl Places {
    /// Makes so many.
    pub(super) fn new(limit: usize) -> Self {
        Self { taken: AtomicUsize::new(0), ending: AtomicUsize::new(0), limit: AtomicUsize::new(limit) }
    }

    /// Takes one, if there is one left.
    pub(super) fn take(&self) -> bool {
        // The pool's lock is held: nobody else takes one at the same time.
        let has_room = self.taken.load(Ordering::Relaxed) < self.limit();
        if has_room {
            self.taken.fetch_add(1, Ordering::Relaxed);
        }
        has_room
    }

    /// Gives one back whose stream has ended, or never began.
    pub(super) fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }

    /// Gives one back once the library has ended its stream, whose handles are dropped in the same turn.
    pub(super) fn give_back_later(&self) {
        self.ending.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many there are.
    pub(super) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Returns whether more are taken than the peer takes by now.
    pub(super) fn are_too_many(&self) -> bool {
        self.taken.load(Ordering::Relaxed) > self.limit()
    }

    /// Returns how many requests have one.
    pub(super) fn in_use(&self) -> usize {
        self.taken.load(Ordering::Relaxed).saturating_sub(self.ending.load(Ordering::Relaxed))
    }

    /// Notes how many the peer takes, and, where all that was to be written is, that what has ended has ended.
    fn settle(&self, limit: usize, is_written: bool) {
        self.limit.store(limit, Ordering::Relaxed);
        if is_written && self.ending.load(Ordering::Relaxed) > 0 {
            self.taken.fetch_sub(self.ending.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

/// What a connection's socket has shown. Its task has it, and what reads and writes for it.
#[derive(Debug, Default)]
pub(super) struct Signs {
    /// When something was last read, in milliseconds of [`coarse_ms`].
    heard_at_ms: AtomicU64,
    /// Whether the last write was not taken.
    is_blocked: AtomicBool,
}

/// A stream whose signs are noted, and what comes on the streams of HTTP/2 that it carries.
pub(super) struct Watched<S> {
    inner: S,
    signs: Arc<Signs>,
    frames: FrameFollower,
    received: Arc<Received>,
}

impl<S> Watched<S> {
    /// Takes a stream that is open by now, and on which nothing was read.
    pub(super) fn new(inner: S, received: Arc<Received>) -> (Self, Arc<Signs>) {
        let signs = Arc::new(Signs { heard_at_ms: AtomicU64::new(coarse_ms()), is_blocked: AtomicBool::new(false) });
        (Self { inner, signs: signs.clone(), frames: FrameFollower::default(), received }, signs)
    }

    fn noted<T>(&self, polled: Poll<T>) -> Poll<T> {
        self.signs.is_blocked.store(polled.is_pending(), Ordering::Relaxed);
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.frames.reads_on(&this.received);
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buffer))?;
        this.frames.advance(buffer.filled().get(before..).unwrap_or_default(), &this.received);
        this.signs.heard_at_ms.store(coarse_ms(), Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.noted(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, pieces);
        self.noted(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(cx);
        self.noted(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Drives a connection to its end, which is that of its peer where that is dead. What PINGs take goes to `round_trips`. It
/// takes at most so many streams at a time, whatever more its peer would. While the node holds much, its peer may send a
/// little only on each of them before that is taken.
pub(super) async fn drive<S: AsyncRead + AsyncWrite + Unpin>(
    mut connection: Connection<Watched<S>, Bytes>,
    (places, signs, received): (Arc<Places>, Arc<Signs>, Arc<Received>),
    round_trips: Arc<PendingRoundTrips>,
    most: usize,
) {
    let pings = connection.ping_pong();
    let mut dead = pin!(async {
        match pings {
            Some(pings) => until_dead(pings, &signs, Pace::default(), |took| measured(&round_trips, took)).await,
            None => std::future::pending().await,
        }
    });
    let mut window = StreamWindow::Wide;
    let ended = poll_fn(|cx| {
        let mut polled = Pin::new(&mut connection).poll(cx);
        let wanted = window.wanted(received.budget());
        // It takes no other while its peer has yet to answer the last, which it is polled for; and reads nothing before it
        // could write this.
        let may_write = !signs.is_blocked.load(Ordering::Relaxed);
        if wanted != window
            && may_write
            && polled.is_pending()
            && connection.set_initial_window_size(wanted.bytes()).is_ok()
        {
            window = wanted;
            polled = Pin::new(&mut connection).poll(cx);
        }
        // Polled for each request: a peer that lowers its limit is obeyed one request later.
        let limit = connection.max_concurrent_send_streams().min(most);
        places.settle(limit, !signs.is_blocked.load(Ordering::Relaxed));
        match polled {
            Poll::Pending => dead.as_mut().poll(cx).map(|()| None),
            ended => ended.map(Some),
        }
    });
    match ended.await {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::debug!(%error, "upstream connection ended"),
        None => tracing::debug!("upstream connection ended: its peer answers no PING"),
    }
}

/// What a peer may send on one stream before its client takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamWindow {
    Wide,
    Narrow,
}

impl StreamWindow {
    /// Returns what it is to be by what the node holds.
    fn wanted(self, budget: &BodyBudget) -> Self {
        match self {
            Self::Wide if budget.is_tight() => Self::Narrow,
            Self::Narrow if budget.is_at_ease() => Self::Wide,
            Self::Wide | Self::Narrow => self,
        }
    }

    fn bytes(self) -> u32 {
        match self {
            Self::Wide => STREAM_WINDOW,
            Self::Narrow => LITTLE as u32,
        }
    }
}

/// What a peer may send on one stream while the node has room for it.
pub(super) const STREAM_WINDOW: u32 = 512 * 1024;

/// No application has a part in a PONG: it comes from where TLS ends.
fn measured(round_trips: &PendingRoundTrips, took: Duration) {
    round_trips.answered(Answer::Greeting, took);
}

/// Waits until a peer that is asked stays silent. What each PONG takes goes to `measured`.
async fn until_dead(mut pings: PingPong, signs: &Signs, pace: Pace, measured: impl Fn(Duration)) {
    let (mut asked_at, mut silence) = (None, Silence::default());
    loop {
        let wait = match silence.next(pace, signs.heard_at_ms.load(Ordering::Relaxed), coarse_ms()) {
            Next::Wait(wait) => wait,
            Next::Ask => {
                // One that is not answered yet asks well enough.
                if pings.send_ping(Ping::opaque()).is_ok() {
                    asked_at = Some(now());
                }
                pace.patience
            }
            Next::GiveUp => return,
        };
        match timeout(wait, poll_fn(|cx| pings.poll_pong(cx))).await {
            Ok(Ok(_)) => asked_at.take().into_iter().for_each(|asked_at| measured(asked_at.elapsed())),
            // The connection's own end says more.
            Ok(Err(_)) => return,
            Err(_) => {}
        }
    }
}

/// How long a peer may be silent: a dead one is noticed even when nobody asks it anything.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Before it is asked.
    silence: Duration,
    /// Once it was.
    patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { silence: Duration::from_secs(30), patience: Duration::from_secs(10) }
    }
}

/// Whether a peer's silence was asked about, and when, in milliseconds.
#[derive(Debug, Default)]
struct Silence(Option<u64>);

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Nothing for so long.
    Wait(Duration),
    /// Ask.
    Ask,
    /// It is dead.
    GiveUp,
}

impl Silence {
    /// Says what is next where something, of whatever kind, was last heard then; both times are in milliseconds.
    fn next(&mut self, pace: Pace, heard_at: u64, now: u64) -> Next {
        let since = |then: u64| Duration::from_millis(now.saturating_sub(then));
        if let Some(asked_at) = self.0.filter(|asked_at| heard_at < *asked_at) {
            return pace
                .patience
                .checked_sub(since(asked_at))
                .filter(|left| !left.is_zero())
                .map_or(Next::GiveUp, Next::Wait);
        }
        self.0 = None;
        match pace.silence.checked_sub(since(heard_at)).filter(|left| !left.is_zero()) {
            Some(left) => Next::Wait(left),
            None => {
                self.0 = Some(now);
                Next::Ask
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { silence: Duration::from_secs(30), patience: Duration::from_secs(10) };

    fn wait(ms: u64) -> Next {
        Next::Wait(Duration::from_millis(ms))
    }

    #[test]
    fn only_silence_is_asked_about_and_anything_heard_is_an_answer() {
        let mut silence = Silence::default();
        for heard_at in (0..300_000).step_by(29_999) {
            assert_eq!(silence.next(PACE, heard_at, heard_at + 29_990), wait(10), "never asked while it speaks");
        }
        assert_eq!(silence.next(PACE, 1_000, 31_000), Next::Ask);
        assert_eq!(silence.next(PACE, 1_000, 40_990), wait(10));
        // No PONG, but the content of an answer.
        assert_eq!(silence.next(PACE, 40_995, 41_000), wait(29_995));
        assert_eq!(silence.next(PACE, 40_995, 70_995), Next::Ask);
        assert_eq!(silence.next(PACE, 40_995, 80_995), Next::GiveUp);
    }

    #[test]
    fn a_place_is_free_once_its_stream_has_ended() {
        let places = Places::new(2);
        assert!(places.take() && places.take() && !places.take());
        places.give_back_later();
        assert_eq!((places.in_use(), places.take()), (1, false), "its end is not written yet");
        places.settle(2, false);
        assert!(!places.take());
        places.settle(2, true);
        assert!(places.take() && !places.take());
        places.give_back();
        assert!(places.take());
        places.settle(1, true);
        assert!(places.are_too_many());
    }

    /// What a PONG takes is a round trip, and a peer that gives none is dead.
    #[tokio::test]
    async fn pongs_are_measured_until_there_is_none() {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let served = tokio::spawn(async move {
            let mut server = h2::server::handshake(far).await.unwrap();
            while server.accept().await.is_some() {}
        });
        let (near, signs) = Watched::new(near, Received::of(&Arc::default()));
        let (_sender, mut connection) = h2::client::handshake(near).await.unwrap();
        let pings = connection.ping_pong().unwrap();
        let connection = tokio::spawn(connection);
        let (sender, mut measured) = tokio::sync::mpsc::unbounded_channel();
        let at_once = Pace { silence: Duration::ZERO, patience: Duration::from_secs(60) };
        let mut asking = pin!(until_dead(pings, &signs, at_once, |took| sender.send(took).unwrap()));
        for _ in 0..3 {
            tokio::select! {
                () = &mut asking => panic!("it answers"),
                took = measured.recv() => assert!(took.unwrap() < Duration::from_secs(60)),
            }
        }
        served.abort();
        asking.await;
        drop(connection.await);
    }
}
