//! What HTTP/1.1 is to clients and to origins alike: content as it arrives and as it is written (RFC 9112, 6 and 7),
//! and a connection whose protocol was changed.

mod decoder;
mod encoder;

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

pub(crate) use decoder::{Content, ContentError, Decoder};
pub(crate) use encoder::{EncodeError, Encoder, Framing, poll_drain, write_field, write_length};

/// One side of a connection whose protocol was changed: what has arrived already comes first.
#[derive(Debug)]
pub(crate) struct Upgraded<S> {
    stream: S,
    input: BytesMut,
}

impl<S> Upgraded<S> {
    /// Takes a stream, and what was read of it.
    pub(crate) fn new(stream: S, input: BytesMut) -> Self {
        Self { stream, input }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Upgraded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.input.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let here = self.input.len().min(buffer.remaining());
        buffer.put_slice(self.input.get(..here).unwrap_or_default());
        self.input.advance(here);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Upgraded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// How much to read at once: more while the other end fills it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadSize(usize);

impl ReadSize {
    /// Most heads, and what follows them at once, are shorter.
    pub(crate) const FIRST: Self = Self(8 * 1024);

    /// Reads once, and learns from it; 0 at the end.
    ///
    /// # Errors
    /// When the stream does.
    pub(crate) fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        input: &mut BytesMut,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        input.reserve(self.0);
        let room = input.capacity() - input.len();
        let read = ready!(pin!(stream.read_buf(input)).poll(cx))?;
        if read == room {
            self.0 = (self.0 * 2).min(LARGEST_READ);
        }
        Poll::Ready(Ok(read))
    }
}

/// A read at most, of content that keeps filling them.
const LARGEST_READ: usize = 128 * 1024;
