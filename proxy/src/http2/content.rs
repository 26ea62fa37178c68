//! A message's content as it arrives on a stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};

use crate::body_budget::UnreadContent;
use crate::interim::{Interim, go_on};

/// Content that is whole only if its sender has said that it ends: a reset is none of its ends, whatever code it bears (RFC
/// 9113, 8.1). It belongs to its request.
pub(crate) struct Http2Content {
    receiving: RecvStream,
    /// How much is still to come, where the head says it; the library holds the sender to that.
    left: Option<u64>,
    /// Whether the next may be DATA, and not trailers.
    may_be_data: bool,
    /// Of a client's.
    client: Option<OfClient>,
}

struct OfClient {
    /// Counts it as unread until it is read.
    unread: Arc<UnreadContent>,
    /// Of a client that waits to be told to send it.
    awaits: Option<Arc<dyn Interim>>,
}

impl Http2Content {
    /// Takes what comes after a message's head.
    pub(crate) fn new(receiving: RecvStream, head: &HeaderMap) -> Self {
        let length = head.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Self { receiving, left: length, may_be_data: true, client: None }
    }

    /// The same of a client's request. Its first reading tells `awaits`, if the client waits for that.
    #[must_use]
    pub(crate) fn of_client(mut self, unread: Arc<UnreadContent>, awaits: Option<Arc<dyn Interim>>) -> Self {
        unread.begin();
        self.client = Some(OfClient { unread, awaits });
        self
    }
}

impl Body for Http2Content {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let Self { receiving, left, may_be_data, client } = &mut *self;
        if let Some(awaits) = client.as_mut().and_then(|client| client.awaits.take()) {
            awaits.tell(&go_on());
        }
        if *may_be_data {
            let received = ready!(receiving.poll_data(cx)).transpose();
            if let Some(data) = unless_whole(received, client.is_none() && *left == Some(0))? {
                receiving.flow_control().release_capacity(data.len())?;
                let length = data.len() as u64;
                *left = left.map(|left| left.saturating_sub(length));
                client.iter().for_each(|client| client.unread.read(length));
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            *may_be_data = false;
        }
        let received = ready!(receiving.poll_trailers(cx));
        let trailers = unless_whole(received, client.is_none() && *left == Some(0))?;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.receiving.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.left {
            _ if self.is_end_stream() => SizeHint::with_exact(0),
            Some(left) => SizeHint::with_exact(left),
            None => SizeHint::default(),
        }
    }
}

impl Drop for Http2Content {
    fn drop(&mut self) {
        // What has come of a stream that nobody reads to its end is given up: how much that is, only the library knows, and
        // at most a window.
        let left = if self.receiving.is_end_stream() { 0 } else { STREAM_WINDOW.into() };
        self.client.iter().for_each(|client| client.unread.end(left));
    }
}

impl std::fmt::Debug for Http2Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http2Content").field("left", &self.left).finish_non_exhaustive()
    }
}

/// Takes the end of a connection for that of an answer which is whole by its length: it says no less than END_STREAM would.
fn unless_whole<T>(received: Result<Option<T>, h2::Error>, is_whole: bool) -> Result<Option<T>, h2::Error> {
    match received {
        Err(error) if is_whole && (error.is_io() || error.is_go_away()) => Ok(None),
        received => received,
    }
}

/// What a client may send on one stream before its request is read on.
pub(crate) const STREAM_WINDOW: u32 = 256 * 1024;
