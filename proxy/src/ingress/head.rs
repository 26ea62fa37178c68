//! A look at HTTP/1 heads as they arrive, for what the parser forgives and a proxy must not.
//! What that is says [`framing`].

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::client_connection::Activity;
use crate::framing;

/// A client's stream, whose heads are looked at on their way to the parser.
///
/// A head that arrives while a request is being served (pipelined) is not seen; see
/// [`Activity::take_head_fault`].
pub(crate) struct Inspected<S> {
    stream: S,
    activity: Arc<Activity>,
    /// The beginning of a head that is not complete yet; `None` between heads.
    head: Option<Vec<u8>>,
    /// Longer heads are refused by the parser.
    longest: usize,
    /// What was read before, and goes to the parser first. It has been looked at.
    unread: Bytes,
}

impl<S> Inspected<S> {
    /// Looks at a new connection's heads, of at most `longest` bytes.
    pub(crate) fn new(stream: S, activity: Arc<Activity>, longest: usize) -> Self {
        Self { stream, activity, head: Some(Vec::new()), longest, unread: Bytes::new() }
    }

    /// The same, with what a parser had of it and has not used.
    #[must_use]
    pub(crate) fn with_unread(self, unread: Bytes) -> Self {
        Self { unread, ..self }
    }

    /// Returns the stream, of which nothing is being looked at.
    pub(crate) fn into_stream(self) -> S {
        self.stream
    }

    fn received(&mut self, bytes: &[u8]) {
        if self.activity.received() {
            self.head = Some(Vec::new());
        }
        let Some(begun) = &mut self.head else { return };
        let found = if begun.is_empty() {
            // The usual case: all of it at once, looked at where it is.
            framing::head_at_start(bytes).map(framing::head_fault)
        } else {
            begun.extend_from_slice(bytes);
            framing::head_at_start(begun).map(framing::head_fault)
        };
        match found {
            Some(fault) => {
                self.head = None;
                self.activity.set_head_fault(fault);
            }
            None if begun.len() > self.longest => self.head = None,
            None if begun.is_empty() => begun.extend_from_slice(bytes),
            None => {}
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Inspected<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.unread.is_empty() {
            let part = self.unread.len().min(buf.remaining());
            buf.put_slice(&self.unread.split_to(part));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = &polled
            && let Some(bytes) = buf.filled().get(before..).filter(|bytes| !bytes.is_empty())
        {
            self.received(bytes);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Inspected<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.activity.set_unsent(true);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // HTTP flushes once it has written all that it had.
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.activity.set_unsent(!matches!(polled, Poll::Ready(Ok(()))));
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.activity.end();
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_in_pieces_is_seen_whole() {
        let text = b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
        for cut in 1..text.len() {
            let activity = Arc::new(Activity::default());
            let mut inspected = Inspected::new((), activity.clone(), 1024);
            inspected.received(&text[..cut]);
            inspected.received(&text[cut..]);
            assert!(activity.take_head_fault(&http::HeaderMap::new()).is_some(), "cut at {cut}");
        }
    }

    #[test]
    fn a_head_without_end_is_not_kept() {
        let mut inspected = Inspected::new((), Arc::new(Activity::default()), 64);
        for _ in 0..100 {
            inspected.received(b"GET / HTTP/1.1 ");
        }
        assert!(inspected.head.is_none());
    }
}
