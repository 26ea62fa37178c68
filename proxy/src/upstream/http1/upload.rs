//! A request on its way up (RFC 9112, 3 and 6), and when its content goes (RFC 9110, 10.1.1).

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Method;
use http_body::Body;
use tokio::io::AsyncWrite;
use tokio::time::{Sleep, sleep};

use crate::headers::RequestHead;
use crate::http1::{EncodeError, Encoder, Framing, write_length};
use crate::request_body::AttemptBody;
use crate::upstream::answer_error::AnswerError;

/// A request on its way up. It lives until all of it is written, on one worker's thread.
#[derive(Debug)]
pub(super) struct Upload {
    message: Encoder<AttemptBody>,
    /// The client waits for the origin's word before it sends the content; this is how long for.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Upload {
    /// Begins with a head, and a body that says how long it is or is sent in chunks.
    pub(super) fn new(head: &RequestHead<'_>, body: AttemptBody) -> Self {
        let mut output = Vec::with_capacity(USUAL_REQUEST);
        let states_length = head.write_http1(&mut output);
        let framing = match body.size_hint().exact() {
            _ if body.is_end_stream() => Framing::Ended,
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        };
        match framing {
            Framing::Length(length) => write_length(&mut output, length),
            Framing::Chunked => output.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            // RFC 9110, 8.6: these methods have content, and a server may insist on its length.
            Framing::Ended if states_length || matches!(*head.method(), Method::POST | Method::PUT | Method::PATCH) => {
                write_length(&mut output, 0);
            }
            Framing::Ended | Framing::UntilClose => {}
        }
        let waits = body.awaits_continue();
        if waits {
            output.extend_from_slice(b"expect: 100-continue\r\n");
        }
        output.extend_from_slice(b"\r\n");
        let waiting = waits.then(|| Box::pin(sleep(PATIENCE)));
        Self { message: Encoder::new(output, framing, true, body), waiting }
    }

    /// Returns whether nothing of it was written.
    pub(super) fn is_unsent(&self) -> bool {
        self.message.is_unsent()
    }

    /// Returns whether its content awaits the origin's word.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Lets the content go, if it was waiting.
    pub(super) fn go_on(&mut self) -> bool {
        self.waiting.take().is_some()
    }

    /// Returns what is another value once more of it was written.
    pub(super) fn progress(&self) -> (u64, usize, usize) {
        self.message.progress()
    }

    /// Returns whether it waits for its client, who may still take its time.
    pub(super) fn awaits_client(&self) -> bool {
        self.message.body().is_some_and(AttemptBody::awaits_client)
    }

    /// Returns the body, as it is by now.
    pub(super) fn into_body(self) -> Option<AttemptBody> {
        self.message.into_body()
    }

    /// Writes as much as there is and the stream takes; ready once all is written.
    ///
    /// # Errors
    /// When the stream does, and when the body breaks off.
    pub(super) fn poll<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), AnswerError>> {
        let error = |error| match error {
            EncodeError::Io(error) => AnswerError::Io(error),
            EncodeError::Body => AnswerError::Request,
        };
        if let Some(waiting) = &mut self.waiting {
            ready!(self.message.poll_head(stream, cx)).map_err(error)?;
            ready!(waiting.as_mut().poll(cx));
            self.waiting = None;
        }
        let polled = self.message.poll(stream, cx).map_err(error);
        if polled.is_pending() && self.message.is_blocked() {
            self.message.body().inspect(|body| body.is_not_taken());
        }
        polled
    }
}

/// Most requests are shorter, with all that this node adds.
const USUAL_REQUEST: usize = 1024;
/// How long an origin has for its word on the content: not all know of it. curl waits as long.
pub(in crate::upstream) const PATIENCE: Duration = Duration::from_secs(1);
