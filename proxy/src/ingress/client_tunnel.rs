//! The client's side of a tunnel over HTTP/2: a stream of its connection that an extended CONNECT has opened (RFC 8441).
//!
//! hyper has a task that writes to the stream. What is dropped ends it with END_STREAM, as an orderly end does; a task that is
//! aborted leaves the stream to be reset (CANCEL). And hyper reads a reset with CANCEL as an end.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use http::Request;
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::AbortHandle;

use crate::tunnel::ClientSide;
use crate::tunnel_stream::TunnelStream;

/// The task that writes to a tunnel's stream, once there is one. The tunnel and the stream's own task share it, both on the
/// worker's thread.
pub(super) type WriterTask = Arc<OnceLock<AbortHandle>>;

/// Returns the future of the client's side of a tunnel that a request asks for.
pub(super) fn client_side(request: &mut Request<Incoming>, writer: WriterTask) -> ClientSide {
    let upgrade = hyper::upgrade::on(request);
    Box::pin(async move {
        let stream = TokioIo::new(upgrade.await.map_err(io::Error::other)?);
        Ok(Box::new(ClientTunnelStream { stream, writer, reading: Reading::Bytes }) as _)
    })
}

/// The stream's bytes. It lives in its tunnel's task.
struct ClientTunnelStream {
    stream: TokioIo<Upgraded>,
    writer: WriterTask,
    reading: Reading,
}

/// How far a tunnel was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Bytes,
    /// To an end that may be a reset: what writes will have heard of that by the next turn.
    Doubtful,
    Ended,
}

impl AsyncRead for ClientTunnelStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.reading {
            Reading::Bytes => {
                let before = buffer.filled().len();
                ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
                if buffer.filled().len() > before || buffer.remaining() == 0 {
                    return Poll::Ready(Ok(()));
                }
                self.reading = Reading::Doubtful;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Reading::Doubtful => {
                self.reading = Reading::Ended;
                match Pin::new(&mut self.stream).poll_flush(cx) {
                    Poll::Ready(Err(reset)) => Poll::Ready(Err(reset)),
                    Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(())),
                }
            }
            Reading::Ended => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for ClientTunnelStream {
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

impl TunnelStream for ClientTunnelStream {
    fn cut(&mut self) {
        if let Some(writer) = self.writer.get() {
            writer.abort();
        }
    }
}
