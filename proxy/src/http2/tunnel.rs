//! One side of a tunnel: a stream that an extended CONNECT has opened (RFC 8441), of a client or to an origin.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::sleep;

/// A stream's bytes. It lives in its tunnel's task, and keeps something for as long. Dropped before its end, the stream is
/// reset (CANCEL).
pub(crate) struct StreamTunnel<K> {
    sending: Arc<Mutex<Sending>>,
    receiving: RecvStream,
    /// What has arrived and was not taken.
    input: Bytes,
    kept: K,
}

/// What a stream's tunnel keeps for as long as it lives.
pub(crate) trait Kept: Send + Unpin + 'static {
    /// Returns whether the other end had ended what it sends before the connection failed with this error.
    fn end_came_before(&self, _: &h2::Error) -> bool {
        false
    }

    /// Notes that so many bytes of what it sends were taken.
    fn took(&self, _: usize) {}
}

impl Kept for () {}

struct Sending {
    stream: SendStream<Bytes>,
    /// Whether it was said that no more is written.
    has_ended: bool,
    /// Whether the other end has said the same.
    has_heard_all: bool,
}

impl<K> StreamTunnel<K> {
    /// Takes both directions of a stream.
    pub(crate) fn new(sending: SendStream<Bytes>, receiving: RecvStream, kept: K) -> Self {
        let sending = Sending { stream: sending, has_ended: false, has_heard_all: false };
        Self { sending: Arc::new(Mutex::new(sending)), receiving, input: Bytes::new(), kept }
    }

    /// Has the other end see that the tunnel was cut. What was written and is not with the socket yet is lost.
    pub(crate) fn reset(&self) {
        lock(&self.sending).stream.send_reset(Reason::CANCEL);
    }

    /// Waits until the other end, whose last word was read, resets the stream, or is gone for a while, in which that may still
    /// go on: then neither a read nor, with nothing to write, a write finds out. One that only takes no more (NO_ERROR, RFC
    /// 9113, 8.1) has not.
    pub(crate) fn is_reset(&self) -> impl Future<Output = ()> + Send + use<K> {
        let sending = self.sending.clone();
        async move {
            let reset = poll_fn(|cx| {
                let mut sending = lock(&sending);
                match ready!(sending.stream.poll_reset(cx)) {
                    Ok(Reason::NO_ERROR) => Poll::Pending,
                    // Reading goes on in the same task, and comes here with its end.
                    _ if !sending.has_heard_all => Poll::Pending,
                    reset => Poll::Ready(reset),
                }
            });
            if reset.await.is_err() {
                sleep(LAST_WORDS).await;
            }
        }
    }
}

/// Returns whether the other end has said all that it has to say, and takes no more (RFC 9113, 8.1): what it said is whole.
fn wants_no_more(sending: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> bool {
    matches!(sending.poll_reset(cx), Poll::Ready(Ok(Reason::NO_ERROR)))
}

impl<K: Kept> AsyncRead for StreamTunnel<K> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.input.is_empty() {
            match ready!(self.receiving.poll_data(cx)) {
                Some(Ok(data)) => self.input = data,
                Some(Err(error)) if !self.kept.end_came_before(&error) => return Poll::Ready(Err(io_error(error))),
                Some(Err(_)) | None => {
                    lock(&self.sending).has_heard_all = true;
                    return Poll::Ready(Ok(()));
                }
            }
        }
        let taken = self.input.len().min(buffer.remaining());
        buffer.put_slice(self.input.get(..taken).unwrap_or_default());
        self.input.advance(taken);
        self.receiving.flow_control().release_capacity(taken).map_err(io_error)?;
        self.kept.took(taken);
        Poll::Ready(Ok(()))
    }
}

impl<K: Kept> AsyncWrite for StreamTunnel<K> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let sending = &mut lock(&self.sending).stream;
        sending.reserve_capacity(bytes.len());
        let mut room = sending.capacity();
        while room == 0 {
            room = match ready!(sending.poll_capacity(cx)) {
                Some(Ok(room)) => room,
                _ if wants_no_more(sending, cx) => return Poll::Ready(Ok(bytes.len())),
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
        }
        let written = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        sending.send_data(Bytes::copy_from_slice(written), false).map_err(io_error)?;
        Poll::Ready(Ok(written.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's task writes what there is.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Sending { stream, has_ended, .. } = &mut *lock(&self.sending);
        if std::mem::replace(has_ended, true) {
            return Poll::Ready(Ok(()));
        }
        let ended = stream.send_data(Bytes::new(), true);
        Poll::Ready(ended.or_else(|error| if wants_no_more(stream, cx) { Ok(()) } else { Err(io_error(error)) }))
    }
}

/// Both holders are in one task, so that the lock is always free.
fn lock(sending: &Mutex<Sending>) -> MutexGuard<'_, Sending> {
    sending.lock().unwrap_or_else(PoisonError::into_inner)
}

fn io_error(error: h2::Error) -> io::Error {
    if error.is_reset() { io::Error::new(io::ErrorKind::ConnectionReset, error) } else { io::Error::other(error) }
}

/// For what was read last to go on.
const LAST_WORDS: Duration = Duration::from_secs(5);
