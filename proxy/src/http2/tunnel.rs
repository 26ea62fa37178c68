//! One side of a tunnel: a stream that an extended CONNECT has opened (RFC 8441), of a client or to an origin.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream's bytes. It lives in its tunnel's task, and keeps something for as long. Dropped before its end, the stream is
/// reset (CANCEL).
pub(crate) struct StreamTunnel<K> {
    sending: Arc<Mutex<SendStream<Bytes>>>,
    receiving: RecvStream,
    /// What has arrived and was not taken.
    input: Bytes,
    /// Whether it was said that no more is written.
    has_ended: bool,
    _kept: K,
}

impl<K> StreamTunnel<K> {
    /// Takes both directions of a stream.
    pub(crate) fn new(sending: SendStream<Bytes>, receiving: RecvStream, kept: K) -> Self {
        let sending = Arc::new(Mutex::new(sending));
        Self { sending, receiving, input: Bytes::new(), has_ended: false, _kept: kept }
    }

    /// Has the other end see that the tunnel was cut. What was written and is not with the socket yet is lost.
    pub(crate) fn reset(&self) {
        lock(&self.sending).send_reset(Reason::CANCEL);
    }

    /// Waits until the other end resets the stream, which may have said its last word before: then neither a read nor, with
    /// nothing to write, a write finds out. One that only takes no more (NO_ERROR, RFC 9113, 8.1) has not.
    pub(crate) fn is_reset(&self) -> impl Future<Output = ()> + Send + use<K> {
        let sending = self.sending.clone();
        poll_fn(move |cx| match ready!(lock(&sending).poll_reset(cx)) {
            Ok(Reason::NO_ERROR) => Poll::Pending,
            Ok(_) | Err(_) => Poll::Ready(()),
        })
    }
}

/// Returns whether the other end has said all that it has to say, and takes no more (RFC 9113, 8.1): what it said is whole.
fn wants_no_more(sending: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> bool {
    matches!(sending.poll_reset(cx), Poll::Ready(Ok(Reason::NO_ERROR)))
}

impl<K: Unpin> AsyncRead for StreamTunnel<K> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.input.is_empty() {
            match ready!(self.receiving.poll_data(cx)) {
                Some(data) => self.input = data.map_err(io_error)?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let taken = self.input.len().min(buffer.remaining());
        buffer.put_slice(self.input.get(..taken).unwrap_or_default());
        self.input.advance(taken);
        self.receiving.flow_control().release_capacity(taken).map_err(io_error)?;
        Poll::Ready(Ok(()))
    }
}

impl<K: Unpin> AsyncWrite for StreamTunnel<K> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut sending = lock(&self.sending);
        sending.reserve_capacity(bytes.len());
        let mut room = sending.capacity();
        while room == 0 {
            room = match ready!(sending.poll_capacity(cx)) {
                Some(Ok(room)) => room,
                _ if wants_no_more(&mut sending, cx) => return Poll::Ready(Ok(bytes.len())),
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

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::replace(&mut self.has_ended, true) {
            return Poll::Ready(Ok(()));
        }
        let mut sending = lock(&self.sending);
        let ended = sending.send_data(Bytes::new(), true);
        Poll::Ready(ended.or_else(|error| if wants_no_more(&mut sending, cx) { Ok(()) } else { Err(io_error(error)) }))
    }
}

/// Both holders are in one task, so that the lock is always free.
fn lock(sending: &Mutex<SendStream<Bytes>>) -> MutexGuard<'_, SendStream<Bytes>> {
    sending.lock().unwrap_or_else(PoisonError::into_inner)
}

fn io_error(error: h2::Error) -> io::Error {
    if error.is_reset() { io::Error::new(io::ErrorKind::ConnectionReset, error) } else { io::Error::other(error) }
}
