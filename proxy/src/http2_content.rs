//! A message's content as it arrives on a stream of HTTP/2.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::body_budget::UnreadContent;

/// Content that is whole only if its sender has said that it ends. hyper takes a reset with NO_ERROR for an end, in either
/// direction, though it may come in the middle: a server may send one after a complete answer (RFC 9113, 8.1), and
/// nobody may shorten a message by one.
#[derive(Debug)]
pub(crate) struct Http2Content {
    incoming: Incoming,
    /// Of a client's: counts it as unread until it is read.
    unread: Option<Arc<UnreadContent>>,
}

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
        Self { incoming, unread: None }
    }

    /// The same of a client's request.
    pub(crate) fn of_client(incoming: Incoming, unread: Arc<UnreadContent>) -> Self {
        unread.begin();
        Self { incoming, unread: Some(unread) }
    }
}

impl Body for Http2Content {
    type Data = Bytes;
    type Error = Http2ContentError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Http2ContentError>>> {
        Poll::Ready(match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
            Some(frame) => {
                if let (Some(unread), Ok(frame)) = (&self.unread, &frame) {
                    unread.read(frame.data_ref().map_or(0, |data| data.len() as u64));
                }
                Some(frame.map_err(Into::into))
            }
            None if self.incoming.is_end_stream() => None,
            None => Some(Err(Http2ContentError::CutOff)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for Http2Content {
    fn drop(&mut self) {
        // HTTP gives up what has come of a stream that nobody reads to its end: how much that is, only it knows, and at most
        // a window.
        if let Some(unread) = self.unread.take() {
            unread.end(if self.incoming.is_end_stream() { 0 } else { STREAM_WINDOW.into() });
        }
    }
}

/// What a client may send on one stream before its request is read on.
pub(crate) const STREAM_WINDOW: u32 = 256 * 1024;
