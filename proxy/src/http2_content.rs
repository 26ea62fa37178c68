//! A message's content as it arrives on a stream of HTTP/2.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// Content that is whole only if its sender has said that it ends. hyper takes a reset with NO_ERROR for an end, in either
/// direction, though it may come in the middle: a server may send one after a complete answer (RFC 9113, 8.1), and
/// nobody may shorten a message by one.
#[derive(Debug)]
pub(crate) struct Http2Content(Incoming);

/// Why content is not whole.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub(crate) enum Http2ContentError {
    #[error(transparent)]
    Http2(#[from] hyper::Error),
    #[error("the stream was reset before its end")]
    CutOff,
}

impl Http2Content {
    /// Takes what hyper has of a message.
    pub(crate) fn new(incoming: Incoming) -> Self {
        Self(incoming)
    }
}

impl Body for Http2Content {
    type Data = Bytes;
    type Error = Http2ContentError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Http2ContentError>>> {
        Poll::Ready(match ready!(Pin::new(&mut self.0).poll_frame(cx)) {
            Some(frame) => Some(frame.map_err(Into::into)),
            None if self.0.is_end_stream() => None,
            None => Some(Err(Http2ContentError::CutOff)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
