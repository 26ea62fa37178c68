//! A stream whose writes are held back until its owner has done all that it had to do: then they leave in one system
//! call, and under TLS in one run of records.
//!
//! HTTP/2's encoder flushes after each frame of some size, which would cost a system call for each stream's answer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A corked stream. HTTP has one copy and its connection's task another, both on the worker's thread, so that the lock
/// is always free.
pub(crate) struct Corked<S>(Arc<Mutex<Held<S>>>);

struct Held<S> {
    stream: S,
    /// What has been written to it, and not yet to the stream.
    bytes: Vec<u8>,
    /// How many of them are with the stream.
    sent: usize,
    /// Whether the stream must be flushed, too.
    unflushed: bool,
}

impl<S> Clone for Corked<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Corked<S> {
    /// Corks a stream.
    pub(crate) fn new(stream: S) -> Self {
        Self(Arc::new(Mutex::new(Held { stream, bytes: Vec::new(), sent: 0, unflushed: false })))
    }

    /// Writes what is held, and flushes the stream.
    ///
    /// # Errors
    /// When the stream fails.
    pub(crate) fn poll_uncork(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().poll_uncork(cx)
    }

    /// Gives the memory of what was held back, if nothing is.
    pub(crate) fn give_back(&self) {
        let mut held = self.lock();
        if held.bytes.is_empty() {
            held.bytes = Vec::new();
        }
    }

    /// Does something with the stream itself.
    pub(crate) fn with_stream<T>(&self, does: impl FnOnce(&mut S) -> T) -> T {
        does(&mut self.lock().stream)
    }

    fn lock(&self) -> MutexGuard<'_, Held<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncWrite + Unpin> Held<S> {
    fn poll_uncork(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.unflushed {
            return Poll::Ready(Ok(()));
        }
        while let Some(rest) = self.bytes.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent;
        }
        self.bytes.clear();
        self.sent = 0;
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    /// Makes room for at least one byte.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.bytes.len() >= MOST {
            ready!(self.poll_uncork(cx))?;
        }
        self.unflushed = true;
        Poll::Ready(Ok(MOST.saturating_sub(self.bytes.len())))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Corked<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut held.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Corked<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut held = self.lock();
        let mut room = ready!(held.poll_room(cx))?;
        let mut taken = 0;
        for slice in slices {
            let part = slice.get(..slice.len().min(room)).unwrap_or_default();
            held.bytes.extend_from_slice(part);
            taken += part.len();
            room -= part.len();
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Leaves it to the owner: see [`Corked::poll_uncork`].
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut held = self.lock();
        ready!(held.poll_uncork(cx))?;
        Pin::new(&mut held.stream).poll_shutdown(cx)
    }
}

/// Four TLS records: what the window of a fast client takes at once, and little beside HTTP's own buffers.
const MOST: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use futures_util::task::noop_waker_ref;
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    fn write(corked: &mut Corked<tokio::io::DuplexStream>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(corked).poll_write(&mut Context::from_waker(noop_waker_ref()), bytes)
    }

    #[tokio::test]
    async fn what_is_written_leaves_when_the_owner_says() {
        let (near, mut far) = duplex(1 << 20);
        let mut corked = Corked::new(near);
        let cx = &mut Context::from_waker(noop_waker_ref());
        for piece in ["one ", "two ", "three"] {
            assert!(matches!(write(&mut corked, piece.as_bytes()), Poll::Ready(Ok(taken)) if taken == piece.len()));
            assert!(Pin::new(&mut corked).poll_flush(cx).is_ready());
        }
        let mut buffer = [0; 64];
        assert!(Pin::new(&mut far).poll_read(cx, &mut ReadBuf::new(&mut buffer)).is_pending());
        assert!(corked.poll_uncork(cx).is_ready());
        let read = far.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..read], b"one two three");
        corked.give_back();
        assert_eq!(corked.lock().bytes.capacity(), 0);
    }

    /// No more is held than [`MOST`], and nothing is lost, doubled or reordered, whatever the stream takes at once.
    #[tokio::test]
    async fn a_slow_stream_stops_the_writer() {
        // tokio would have a task that does so much pause, and wake the writer, which nobody does here.
        tokio::task::unconstrained(writes_to_a_slow_stream()).await;
    }

    async fn writes_to_a_slow_stream() {
        let (near, mut far) = duplex(1000);
        let mut corked = Corked::new(near);
        let cx = &mut Context::from_waker(noop_waker_ref());
        let all: Vec<u8> = (0..400_000u32).map(|i| (i % 251) as u8).collect();
        let (mut written, mut read) = (0, Vec::new());
        while read.len() < all.len() {
            while let Poll::Ready(taken) = write(&mut corked, &all[written..all.len().min(written + 7919)]) {
                written += taken.unwrap();
                if written == all.len() {
                    break;
                }
            }
            assert!(corked.lock().bytes.len() <= MOST);
            assert!(written <= read.len() + MOST + 2000, "{written} written, {} read", read.len());
            let _ = corked.poll_uncork(cx);
            let mut buffer = [0; 4096];
            let got = far.read(&mut buffer).await.unwrap();
            read.extend_from_slice(&buffer[..got]);
        }
        assert!(read == all);
    }
}
