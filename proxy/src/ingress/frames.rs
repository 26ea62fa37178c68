//! Follows the frames of one HTTP/2 connection. For how long a client is amid its preface or a request's head, the watchdog
//! bounds; between frames a connection is idle, as after the preface of a browser that connects ahead of its need. How many
//! frames come that carry nothing, [`FrameBudget`] bounds; and how much one connection has the worker read at one time, this
//! does.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::body_budget::UnreadContent;
use crate::client_connection::Activity;
use crate::clock::coarse_ms;
use crate::ingress::frame_budget::FrameBudget;
use crate::ingress::frame_position::{FrameHead, Position};
use crate::telemetry::client_abuse::Abuse;

/// A client's stream whose frames are followed, both ways. It belongs to its connection's task.
pub(crate) struct FrameWatch<S> {
    stream: S,
    activity: Arc<Activity>,
    received: Position,
    sent: Position,
    budget: FrameBudget,
    answered: Answered,
    /// What the client has been found out to do. From then on nothing is read.
    abuse: Option<Abuse>,
    /// The highest stream that the client has opened.
    latest_stream: u32,
    /// The type of its latest frame; before the first, none.
    latest_kind: Option<u8>,
    /// Whether its first frame was another than SETTINGS, which its preface ends with (RFC 9113, 3.4). h2 does not ask.
    lacks_settings: bool,
    /// What was read in this turn of the connection's task.
    read: usize,
    /// What was read at its end.
    discarded: usize,
    /// What has come of contents.
    unread: Arc<UnreadContent>,
}

/// Requests that were answered and are not yet in the budget. The connection's streams count, on the worker's thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answered(Arc<AtomicU64>);

impl Answered {
    /// Counts one more.
    pub(crate) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl<S> FrameWatch<S> {
    /// Watches a stream from the preface on, whose client owes this for what it has cancelled before.
    pub(crate) fn new(
        stream: S,
        activity: Arc<Activity>,
        answered: Answered,
        owed: u64,
        unread: Arc<UnreadContent>,
    ) -> Self {
        Self {
            stream,
            activity,
            received: Position::at_preface(),
            sent: Position::at_frame(),
            budget: FrameBudget::owing(owed, coarse_ms()),
            answered,
            abuse: None,
            latest_stream: 0,
            latest_kind: None,
            lacks_settings: false,
            read: 0,
            discarded: 0,
            unread,
        }
    }

    /// Begins a turn of the connection's task, in which some more may be read.
    pub(crate) fn begin_turn(&mut self) {
        self.read = 0;
    }

    /// Returns what the client has been found out to do.
    pub(crate) fn abuse(&self) -> Option<Abuse> {
        self.abuse
    }

    /// Returns what the client owes for what it has cancelled.
    pub(crate) fn owed(&mut self) -> u64 {
        self.budget.owed(coarse_ms())
    }

    /// Returns what a client does whom HTTP/2's own limits have stopped.
    pub(crate) fn excess(&self) -> Abuse {
        match self.latest_kind {
            Some(FrameHead::HEADERS) => Abuse::Rejected,
            Some(FrameHead::CONTINUATION) => Abuse::Continuation,
            Some(FrameHead::DATA) => Abuse::EmptyData,
            _ => Abuse::Reset,
        }
    }

    /// Returns the last frame for a client that abuses its connection, where one may begin now.
    pub(crate) fn last_word(&self) -> Option<[u8; 17]> {
        let [a, b, c, d] = self.latest_stream.to_be_bytes();
        let [.., reason] = ENHANCE_YOUR_CALM.to_be_bytes();
        self.sent.is_between_frames().then_some([0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, a, b, c, d, 0, 0, 0, reason])
    }

    /// Counts frames that have come, or gone.
    fn follow(&mut self, bytes: &[u8], direction: Direction) {
        let Self {
            received, sent, budget, answered, abuse, latest_stream, latest_kind, lacks_settings, unread, ..
        } = self;
        let position = if direction == Direction::Received { received } else { sent };
        position.advance(bytes, |head| {
            budget.earn(answered.0.swap(0, Ordering::Relaxed));
            let found = match direction {
                Direction::Received => {
                    *lacks_settings |= latest_kind.is_none() && head.kind != FrameHead::SETTINGS;
                    *latest_kind = Some(head.kind);
                    if head.kind == FrameHead::DATA {
                        unread.came(head.length as u64);
                    }
                    if head.kind == FrameHead::HEADERS {
                        *latest_stream = head.stream.max(*latest_stream);
                    }
                    budget.receive(head, coarse_ms())
                }
                Direction::Sent => budget.send(head, coarse_ms()),
            };
            *abuse = abuse.or(found.err());
        });
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Received,
    Sent,
}

impl<S: AsyncRead + Unpin> FrameWatch<S> {
    /// Takes what a client still sends on a connection that is at its end, until it closes too, or has sent more than it may
    /// have had under way.
    pub(crate) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [0; 4096];
        while self.discarded < MOST_DISCARDED {
            let mut buffer = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => self.discarded += buffer.filled().len(),
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FrameWatch<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.abuse.is_some() || this.unread.must_wait(cx) {
            return Poll::Pending;
        }
        if this.read >= MOST_IN_A_TURN {
            // Goes on after everybody else's turn.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        let bytes = buf.filled().get(before..).unwrap_or_default();
        if bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        this.read += bytes.len();
        this.follow(bytes, Direction::Received);
        if this.lacks_settings {
            buf.set_filled(before);
            let error = io::Error::new(io::ErrorKind::InvalidData, "the client's preface has no SETTINGS");
            return Poll::Ready(Err(error));
        }
        if this.abuse.is_some() {
            // Nothing of it is served: the connection is at its end.
            buf.set_filled(before);
            return Poll::Pending;
        }
        match this.received.is_amid_head() {
            true => this.activity.received(),
            false => this.activity.rest(),
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FrameWatch<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes))?;
        this.follow(bytes.get(..written).unwrap_or_default(), Direction::Sent);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// As much as one frame of DATA has by default: a thousand of the smallest frames, which take about a millisecond.
const MOST_IN_A_TURN: usize = 16 * 1024;
/// As much as the windows of a connection let a client have under way, and frames that no window bounds.
const MOST_DISCARDED: usize = 2 << 20;
/// RFC 9113, 6.8.
const GOAWAY: u8 = 7;
/// RFC 9113, 7.
const ENHANCE_YOUR_CALM: u32 = 11;

#[cfg(test)]
mod tests {
    use futures_util::task::noop_waker_ref;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    /// Returns how much can be read now.
    fn read(watch: &mut FrameWatch<DuplexStream>) -> Option<usize> {
        let mut buffer = [0; 4096];
        let mut buffer = ReadBuf::new(&mut buffer);
        let polled = Pin::new(watch).poll_read(&mut Context::from_waker(noop_waker_ref()), &mut buffer);
        polled.is_ready().then(|| buffer.filled().len())
    }

    /// With its SETTINGS.
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

    fn watch(stream: DuplexStream) -> FrameWatch<DuplexStream> {
        FrameWatch::new(stream, Arc::default(), Answered::default(), 0, UnreadContent::of(&Arc::default(), 0))
    }

    #[tokio::test]
    async fn a_turn_ends_after_so_many_bytes() {
        let (near, mut far) = duplex(1 << 20);
        let data = [&[0, 0x80, 0, 0, 0, 0, 0, 0, 1][..], &[0; 0x8000]].concat();
        far.write_all(&[PREFACE, &data, &data].concat()).await.unwrap();
        let mut watch = watch(near);
        for _ in 0..2 {
            watch.begin_turn();
            let read: usize = std::iter::from_fn(|| read(&mut watch)).sum();
            assert_eq!(read, MOST_IN_A_TURN);
        }
    }

    #[tokio::test]
    async fn a_preface_without_settings_ends_the_connection_wherever_it_is_cut() {
        let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let lacking = [&PREFACE[..24], &ping].concat();
        for cut in 1..lacking.len() {
            let (near, mut far) = duplex(1 << 20);
            let mut watch = watch(near);
            far.write_all(&lacking[..cut]).await.unwrap();
            let first = watch.read(&mut [0; 64]).await;
            assert_eq!(first.is_err(), cut >= 24 + 9, "cut at {cut}");
            far.write_all(&lacking[cut..]).await.unwrap();
            assert!(watch.read(&mut [0; 64]).await.is_err(), "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn nothing_is_read_of_a_flood() {
        let (near, mut far) = duplex(1 << 20);
        let mut watch = watch(near);
        let head = [0, 0, 1, 1, 5, 0, 0, 1, 1, 0];
        let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        // SETTINGS counts, too.
        far.write_all(&[PREFACE, &head, &ping.repeat(199)].concat()).await.unwrap();
        assert_eq!(read(&mut watch), Some(PREFACE.len() + 10 + 199 * 17));
        assert_eq!(watch.abuse(), None);
        far.write_all(&ping).await.unwrap();
        assert_eq!(read(&mut watch), None);
        assert_eq!(watch.abuse(), Some(Abuse::Ping));
        assert_eq!(watch.last_word(), Some([0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 11]));
        watch.write_all(&[0, 0, 1]).await.unwrap();
        assert_eq!(watch.last_word(), None, "amid a frame");
    }
}
