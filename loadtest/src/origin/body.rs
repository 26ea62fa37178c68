//! The body of an answer, whole or cut.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// Announces `announced` bytes, sends `rest`, and fails if that was less.
pub(super) struct AnswerBody {
    announced: u64,
    rest: Bytes,
    flushed: bool,
}

impl AnswerBody {
    pub(super) fn whole(body: Bytes) -> AnswerBody {
        AnswerBody { announced: body.len() as u64, rest: body, flushed: false }
    }

    /// The first half, rounded down, of at least one byte announced.
    pub(super) fn cut(body: &Bytes) -> AnswerBody {
        AnswerBody { announced: (body.len() as u64).max(1), rest: body.slice(..body.len() / 2), flushed: false }
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
            return Poll::Ready(None);
        }
        // hyper drops what it has buffered when a body fails, but flushes while it is pending.
        if !self.flushed {
            self.flushed = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut on command"))))
    }

    fn is_end_stream(&self) -> bool {
        self.announced == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.announced)
    }
}
