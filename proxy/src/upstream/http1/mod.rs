//! An HTTP/1.1 connection to an origin, driven by the request that has it: one task, and no hand-over.
//!
//! hyper's client would be a second task for each connection, with a channel and a wake-up each way for each request,
//! and refuses answers that origins may send. What HTTP/1.1 demands of a client fits in these four files; httparse
//! reads heads, chunk sizes and trailers.

mod response_head;
mod stream;
#[cfg(test)]
mod tests;
mod upload;

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Response, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::io::ReadHalf;
use tokio::task::AbortHandle;
use tokio::time::timeout;

pub(crate) use stream::OriginStream;
pub(in crate::upstream) use upload::PATIENCE;

use crate::headers::RequestHead;
use crate::http1::{Decoder, ReadSize, Upgraded};
use crate::interim::Interim;
use crate::request_body::AttemptBody;
use crate::upstream::answer_error::AnswerError;
use crate::upstream::link::Link;
use response_head::take_head;
use upload::Upload;

/// A connection that takes one request at a time. It belongs to one worker's thread: to a request from its head to
/// the end of its answer, and to the pool between.
#[derive(Debug)]
pub(crate) struct Http1 {
    io: Io,
    /// What has arrived and is not read yet.
    input: BytesMut,
    read_size: ReadSize,
    decoder: Decoder,
    /// Whether another request may follow, once the answer was read to its end.
    keeps_alive: bool,
    /// How many answers there were on it.
    answers: u32,
    /// Whether the last of them had no content by what it answers.
    is_bare: bool,
    /// What there is to know of it.
    pub(crate) link: Link,
}

/// Who uses the connection's stream.
#[derive(Debug)]
enum Io {
    /// The request.
    Whole(OriginStream),
    /// Its answer has begun before it was written: a task of its own writes the rest, at whatever pace the client
    /// takes the answer.
    Divided(ReadHalf<OriginStream>, AbortHandle),
    /// Nobody: it is on its way from one to the other, or broken.
    Gone,
}

/// Why a request got no answer's head.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// Nothing of it was written; here is its body.
    Unsent(AttemptBody),
    /// Some of it may have been.
    Broken(AnswerError),
}

impl Http1 {
    /// Takes an open stream that nothing was sent on.
    pub(crate) fn new(stream: OriginStream, link: Link) -> Self {
        let (input, decoder) = (BytesMut::new(), Decoder::Ended);
        Self {
            io: Io::Whole(stream),
            input,
            read_size: ReadSize::FIRST,
            decoder,
            keeps_alive: true,
            answers: 0,
            is_bare: false,
            link,
        }
    }

    /// Sends a request, and waits for its answer's head. Interim answers before it go to `interim`.
    ///
    /// # Errors
    /// When there is none: then the connection is of no more use.
    pub(crate) async fn send(
        &mut self,
        head: &RequestHead<'_>,
        body: AttemptBody,
        interim: Option<&dyn Interim>,
    ) -> Result<Response<()>, Unanswered> {
        let to_head = *head.method() == Method::HEAD;
        let mut upload = Some(Upload::new(head, body));
        let mut broken = None;
        let mut told = 0;
        let answer = poll_fn(|cx| {
            let Io::Whole(stream) = &mut self.io else { return Poll::Ready(Err(AnswerError::Closed)) };
            if let Some(writing) = upload.as_mut().filter(|_| broken.is_none()) {
                match writing.poll(stream, cx) {
                    Poll::Ready(Ok(())) => upload = None,
                    Poll::Ready(Err(AnswerError::Request)) => return Poll::Ready(Err(AnswerError::Request)),
                    // An origin that does not want all of a request says so, and closes: its answer may be here.
                    Poll::Ready(Err(error)) => broken = Some(error),
                    Poll::Pending => {}
                }
            }
            loop {
                let response = ready!(self.poll_head(to_head, cx))?;
                let status = response.status();
                if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
                    return Poll::Ready(Ok(response));
                }
                if status == StatusCode::CONTINUE {
                    if upload.as_mut().is_some_and(Upload::go_on) {
                        // It is polled again, now with its content.
                        cx.waker().wake_by_ref();
                    }
                } else if told < MOST_INTERIM {
                    told += 1;
                    interim.inspect(|interim| interim.tell(&response));
                }
            }
        });
        let answer = answer.await;
        if answer.is_ok() && upload.is_none() {
            return answer.map_err(Unanswered::Broken);
        }
        match (answer, upload, broken) {
            (Ok(answer), Some(upload), None)
                if answer.status() != StatusCode::SWITCHING_PROTOCOLS && !upload.is_waiting() =>
            {
                self.divide(upload);
                Ok(answer)
            }
            (Ok(answer), ..) => {
                self.keeps_alive = false;
                Ok(answer)
            }
            // TLS may have sent some of what it has not reported as written.
            (Err(AnswerError::Io(_) | AnswerError::Closed), Some(upload), _)
                if upload.is_unsent() && !self.is_tls() =>
            {
                Err(upload.into_body().map_or(Unanswered::Broken(AnswerError::Closed), Unanswered::Unsent))
            }
            (Err(error), _, broken) => Err(Unanswered::Broken(broken.unwrap_or(error))),
        }
    }

    /// Reads until there is an answer's head, be it an interim one.
    fn poll_head(&mut self, to_head: bool, cx: &mut Context<'_>) -> Poll<Result<Response<()>, AnswerError>> {
        loop {
            if let Some(head) = take_head(&mut self.input, to_head)? {
                self.decoder = Decoder::new(head.content);
                self.keeps_alive = head.keeps_alive;
                self.is_bare = head.is_bare;
                return Poll::Ready(Ok(head.response));
            }
            if ready!(self.poll_read_more(cx))? == 0 {
                return Poll::Ready(Err(AnswerError::Closed));
            }
        }
    }

    /// Has the next piece of an answer's content be a small one.
    pub(crate) fn read_little(&mut self) {
        self.read_size = ReadSize::FIRST;
    }

    /// Returns the next piece of an answer's content, or its trailers.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        loop {
            match self.decoder.decode(&mut self.input) {
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) if self.decoder.is_ended() => return Poll::Ready(None),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
            match ready!(self.poll_read_more(cx)) {
                Ok(0) => match self.decoder.close() {
                    Ok(()) => return Poll::Ready(None),
                    Err(error) => return Poll::Ready(Some(Err(error.into()))),
                },
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    /// Returns whether the answer was read to its end.
    pub(crate) fn is_end_stream(&self) -> bool {
        self.decoder.is_ended()
    }

    /// Returns how much of the answer's content is still to come.
    pub(crate) fn size_hint(&self) -> SizeHint {
        self.decoder.size_hint()
    }

    /// Returns the connection if another request may follow, without the memory that only a request needs.
    pub(crate) fn idle(mut self: Box<Self>) -> Option<Box<Self>> {
        let reusable = self.keeps_alive && self.decoder.is_ended() && self.input.is_empty();
        self.input = BytesMut::new();
        self.read_size = ReadSize::FIRST;
        self.answers = self.answers.saturating_add(1);
        (reusable && matches!(self.io, Io::Whole(_))).then_some(self)
    }

    /// Returns whether an idle connection may be used; see [`OriginStream::is_quiet`]. Some origins close after each
    /// answer without a word, or send content that its request rules out: only one that has not done so is trusted
    /// `briefly`.
    pub(crate) fn is_quiet(&mut self, briefly: bool) -> bool {
        match &mut self.io {
            Io::Whole(stream) => stream.is_quiet(briefly && self.answers > 1 && !self.is_bare),
            Io::Divided(..) | Io::Gone => false,
        }
    }

    /// Returns whether it has answered nothing yet.
    pub(crate) fn is_fresh(&self) -> bool {
        self.answers == 0
    }

    fn is_tls(&self) -> bool {
        matches!(&self.io, Io::Whole(stream) if stream.is_tls())
    }

    /// Returns the stream of a connection whose protocol was changed.
    pub(crate) fn take_upgraded(&mut self) -> Option<Upgraded<OriginStream>> {
        match std::mem::replace(&mut self.io, Io::Gone) {
            Io::Whole(stream) => Some(Upgraded::new(stream, std::mem::take(&mut self.input))),
            Io::Divided(..) | Io::Gone => None,
        }
    }

    fn poll_read_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Whole(stream) => self.read_size.poll_fill(stream, &mut self.input, cx),
            Io::Divided(stream, _) => self.read_size.poll_fill(stream, &mut self.input, cx),
            Io::Gone => Poll::Ready(Ok(0)),
        }
    }

    /// Has the rest of a request written beside its answer.
    fn divide(&mut self, mut upload: Upload) {
        let Io::Whole(stream) = std::mem::replace(&mut self.io, Io::Gone) else { return };
        let (reading, mut writing) = tokio::io::split(stream);
        let task = tokio::spawn(async move {
            loop {
                let before = upload.progress();
                match timeout(STALLED, poll_fn(|cx| upload.poll(&mut writing, cx))).await {
                    Ok(Ok(())) => return,
                    Ok(Err(error)) => return tracing::debug!(%error, "the rest of a request was not sent"),
                    Err(_) if upload.progress() == before && !upload.awaits_client() => return,
                    Err(_) => {}
                }
            }
        });
        self.io = Io::Divided(reading, task.abort_handle());
        self.keeps_alive = false;
    }
}

impl Drop for Http1 {
    fn drop(&mut self) {
        // After a complete answer an origin may still want the rest of its request.
        if let Io::Divided(_, upload) = &self.io
            && !self.decoder.is_ended()
        {
            upload.abort();
        }
    }
}

/// Interim answers of one request that are passed on; what an origin sends beyond is idle talk.
pub(in crate::upstream) const MOST_INTERIM: usize = 16;
/// An origin that takes nothing of a request which it has answered already, for so long, does not want it. A client may
/// pause for longer in a stream.
pub(in crate::upstream) const STALLED: Duration = Duration::from_secs(60);
