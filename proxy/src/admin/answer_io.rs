//! A socket of the admin listener, whose peer must take its answers.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// A socket on which writing fails when an answer is not taken within [`ANSWER_TIMEOUT`]. Lives as long as its
/// connection.
pub(super) struct AnswerIo {
    stream: TcpStream,
    /// When the answer that is being written must be taken.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl AnswerIo {
    /// Watches over this socket.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, deadline: None }
    }

    /// Fails once the answer's time is over.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(ANSWER_TIMEOUT)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }
}

impl AsyncRead for AnswerIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for AnswerIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Poll::Ready(late) = self.poll_late(cx) {
            return Poll::Ready(Err(late));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    /// HTTP flushes once it has written all of an answer.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.deadline = None;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// For a scraper on a slow line: a large answer is some hundred kilobytes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
