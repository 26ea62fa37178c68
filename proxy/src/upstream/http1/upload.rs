//! Writes a request: its head, and its content as it comes (RFC 9112, 3, 6 and 7).

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Method;
use http_body::{Body, Frame};
use tokio::io::AsyncWrite;

use super::stream::poll_drain;
use crate::headers::{RequestHead, write_field};
use crate::request_body::AttemptBody;
use crate::upstream::answer_error::AnswerError;

/// A request on its way up. It lives until all of it is written, on one worker's thread.
#[derive(Debug)]
pub(super) struct Upload {
    body: AttemptBody,
    framing: Framing,
    /// What is to be written, and how much of it has been.
    output: Vec<u8>,
    written: usize,
    /// How many outputs have been written.
    rounds: u64,
    /// Content too long to be copied, which is written after `output`.
    large: Bytes,
}

/// How the rest of a request's content is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// So many bytes are left.
    Length(u64),
    Chunked,
    /// All of it is in the output.
    Ended,
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
            Framing::Length(length) => field(&mut output, "content-length", length),
            Framing::Chunked => output.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            // RFC 9110, 8.6: these methods have content, and a server may insist on its length.
            Framing::Ended if states_length || matches!(*head.method(), Method::POST | Method::PUT | Method::PATCH) => {
                field(&mut output, "content-length", 0);
            }
            Framing::Ended => {}
        }
        output.extend_from_slice(b"\r\n");
        Self { body, framing, output, written: 0, rounds: 0, large: Bytes::new() }
    }

    /// Returns whether nothing of it was written.
    pub(super) fn is_unsent(&self) -> bool {
        self.rounds == 0 && self.written == 0
    }

    /// Returns what is another value once more of it was written.
    pub(super) fn progress(&self) -> (u64, usize, usize) {
        (self.rounds, self.written, self.large.len())
    }

    /// Returns the body, as it is by now.
    pub(super) fn into_body(self) -> AttemptBody {
        self.body
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
        loop {
            let waits = self.fill(cx)?;
            ready!(poll_drain(stream, &self.output, &mut self.written, cx))?;
            self.rounds += 1;
            self.output.clear();
            self.written = 0;
            if !self.large.is_empty() {
                let mut written = 0;
                let drained = poll_drain(stream, &self.large, &mut written, cx);
                self.large = self.large.slice(written..);
                ready!(drained)?;
                if self.framing == Framing::Chunked {
                    self.output.extend_from_slice(b"\r\n");
                }
            } else if self.framing == Framing::Ended {
                return Poll::Ready(Ok(()));
            } else if waits {
                return Poll::Pending;
            }
        }
    }

    /// Puts what the body has into the output, until there is enough for one write; whether the body makes it wait.
    fn fill(&mut self, cx: &mut Context<'_>) -> Result<bool, AnswerError> {
        while self.framing != Framing::Ended && self.large.is_empty() && self.output.len() < ONE_WRITE {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Ok(true),
                Poll::Ready(None) => self.end()?,
                Poll::Ready(Some(Err(_))) => return Err(AnswerError::Request),
                Poll::Ready(Some(Ok(frame))) => self.encode(frame)?,
            }
            if self.framing != Framing::Ended && self.body.is_end_stream() {
                self.end()?;
            }
        }
        Ok(false)
    }

    fn encode(&mut self, frame: Frame<Bytes>) -> Result<(), AnswerError> {
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => {
                match &mut self.framing {
                    Framing::Length(left) => {
                        *left = left.checked_sub(data.len() as u64).ok_or(AnswerError::Request)?;
                    }
                    Framing::Chunked => {
                        let digits = format!("{:x}\r\n", data.len());
                        self.output.extend_from_slice(digits.as_bytes());
                    }
                    Framing::Ended => return Err(AnswerError::Request),
                }
                if data.len() > COPIED {
                    self.large = data;
                    return Ok(());
                }
                self.output.extend_from_slice(&data);
                if self.framing == Framing::Chunked {
                    self.output.extend_from_slice(b"\r\n");
                }
            }
            Err(frame) if self.framing == Framing::Chunked => {
                self.output.extend_from_slice(b"0\r\n");
                for (name, value) in frame.trailers_ref().into_iter().flatten() {
                    write_field(&mut self.output, name.as_str(), value.as_bytes());
                }
                self.output.extend_from_slice(b"\r\n");
                self.framing = Framing::Ended;
            }
            // Content of a stated length has no place for trailers.
            Err(_) => {}
        }
        Ok(())
    }

    /// The body has ended.
    fn end(&mut self) -> Result<(), AnswerError> {
        match self.framing {
            Framing::Length(1..) => return Err(AnswerError::Request),
            Framing::Chunked if self.large.is_empty() => self.output.extend_from_slice(b"0\r\n\r\n"),
            // Its last piece is written first.
            Framing::Chunked => return Ok(()),
            Framing::Length(0) | Framing::Ended => {}
        }
        self.framing = Framing::Ended;
        Ok(())
    }
}

fn field(output: &mut Vec<u8>, name: &str, number: u64) {
    write_field(output, name, http::HeaderValue::from(number).as_bytes());
}

/// Most requests are shorter, with all that this node adds.
const USUAL_REQUEST: usize = 1024;
/// What is copied, rather than written by a system call of its own.
const COPIED: usize = 16 * 1024;
/// What is gathered for one write: more would keep an origin waiting for what is here already.
const ONE_WRITE: usize = 32 * 1024;
