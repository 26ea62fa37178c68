//! The body of an answer, whole or cut.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};

use super::reset::Reset;

/// Announces `announced` bytes, sends `rest`, and fails if that was less.
pub(super) struct AnswerBody {
    announced: u64,
    rest: Bytes,
    flushed: bool,
    /// What comes after a whole body.
    trailers: Option<HeaderMap>,
    /// What to do about the connection when it fails.
    reset: Option<Reset>,
}

impl AnswerBody {
    pub(super) fn whole(body: Bytes) -> AnswerBody {
        AnswerBody { announced: body.len() as u64, rest: body, flushed: false, trailers: None, reset: None }
    }

    /// Returns the first half, rounded down, of at least one byte announced.
    pub(super) fn cut(body: &Bytes) -> AnswerBody {
        AnswerBody::beginning(body, body.len() / 2)
    }

    /// Nothing, of at least one byte announced.
    pub(super) fn missing(body: &Bytes) -> AnswerBody {
        AnswerBody::beginning(body, 0)
    }

    /// The same with trailers at its end.
    pub(super) fn with_trailers(self, trailers: HeaderMap) -> AnswerBody {
        AnswerBody { trailers: Some(trailers), ..self }
    }

    /// The same with a reset of the connection where it ends.
    pub(super) fn resetting(self, reset: Reset) -> AnswerBody {
        AnswerBody { reset: Some(reset), ..self }
    }

    fn beginning(body: &Bytes, length: usize) -> AnswerBody {
        let announced = (body.len() as u64).max(1);
        AnswerBody { announced, rest: body.slice(..length), flushed: false, trailers: None, reset: None }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if !self.rest.is_empty() {
            let data = std::mem::take(&mut self.rest);
            self.announced -= data.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if self.announced == 0 {
            return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
        }
        // hyper drops what it has buffered when a body fails, but flushes while it is pending.
        if !self.flushed {
            self.flushed = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(reset) = &self.reset {
            reset.request();
        }
        Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut on command"))))
    }

    fn is_end_stream(&self) -> bool {
        self.announced == 0 && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.announced)
    }
}
