//! Writes a message: its head, and its content as it comes (RFC 9112, 6 and 7).

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::io::AsyncWrite;

/// A message on its way out. It lives until all of it is written, on one worker's thread.
#[derive(Debug)]
pub(crate) struct Encoder<B> {
    /// `None` once it is needed no more.
    body: Option<B>,
    framing: Framing,
    /// Whether the other end takes trailers.
    takes_trailers: bool,
    /// What is to be written, and how much of it has been.
    output: Vec<u8>,
    written: usize,
    /// How many outputs have been written.
    rounds: u64,
    /// Content too long to be copied, which is written after `output`.
    large: Bytes,
    /// Whether the body is dropped at its end.
    releases_body: bool,
    /// The body has failed: what came before is written first, so that the other end sees a message that is cut off, and
    /// not none.
    has_failed: bool,
}

/// How the rest of a message's content is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// So many bytes are left.
    Length(u64),
    /// In chunks.
    Chunked,
    /// By the end of the connection.
    UntilClose,
    /// All of it is in the output.
    Ended,
}

/// Why a message was not written to its end.
#[derive(Debug)]
pub(crate) enum EncodeError {
    /// The stream takes no more.
    Io(io::Error),
    /// The content broke off, or is not as long as its head says.
    Body,
}

impl<B: Body<Data = Bytes> + Unpin> Encoder<B> {
    /// Begins with a head that is in `output`, whole, and says how the content is framed.
    pub(crate) fn new(output: Vec<u8>, framing: Framing, takes_trailers: bool, body: B) -> Self {
        Self {
            body: Some(body),
            framing,
            takes_trailers,
            output,
            written: 0,
            rounds: 0,
            large: Bytes::new(),
            releases_body: false,
            has_failed: false,
        }
    }

    /// Returns whether nothing of it was written.
    pub(crate) fn is_unsent(&self) -> bool {
        self.rounds == 0 && self.written == 0
    }

    /// Returns what is another value once more of it was written.
    pub(crate) fn progress(&self) -> (u64, usize, usize) {
        (self.rounds, self.written, self.large.len())
    }

    /// Returns whether the stream has not taken all that was put into the output.
    pub(crate) fn is_blocked(&self) -> bool {
        !self.output.is_empty() || !self.large.is_empty()
    }

    /// Returns the body, if it has not been released.
    pub(crate) fn body(&self) -> Option<&B> {
        self.body.as_ref()
    }

    /// Returns the body, as it is by now, if it has not been released.
    pub(crate) fn into_body(self) -> Option<B> {
        self.body
    }

    /// The same, with a body that is dropped at its end, before the last of it is written: what it holds is free by the
    /// time that the other end has the message.
    #[must_use]
    pub(crate) fn releasing_body(self) -> Self {
        Self { releases_body: true, ..self }
    }

    /// Writes the head alone; ready once it is written.
    ///
    /// # Errors
    /// When the stream does.
    pub(crate) fn poll_head<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), EncodeError>> {
        poll_drain(stream, &self.output, &mut self.written, cx).map_err(EncodeError::Io)
    }

    /// Writes as much as there is and the stream takes; ready once all is written.
    ///
    /// # Errors
    /// When the stream does, and when the body breaks off.
    pub(crate) fn poll<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), EncodeError>> {
        loop {
            let waits = self.fill(cx);
            if self.releases_body && (self.framing == Framing::Ended || self.has_failed) {
                self.body = None;
            }
            ready!(poll_drain(stream, &self.output, &mut self.written, cx)).map_err(EncodeError::Io)?;
            self.rounds += u64::from(self.written > 0);
            self.output.clear();
            self.written = 0;
            if !self.large.is_empty() {
                let mut written = 0;
                let drained = poll_drain(stream, &self.large, &mut written, cx);
                self.large = self.large.slice(written..);
                ready!(drained).map_err(EncodeError::Io)?;
                self.rounds += 1;
                if self.framing == Framing::Chunked {
                    self.output.extend_from_slice(b"\r\n");
                }
            } else if self.has_failed {
                return Poll::Ready(Err(EncodeError::Body));
            } else if self.framing == Framing::Ended {
                return Poll::Ready(Ok(()));
            } else if waits {
                return Poll::Pending;
            }
        }
    }

    /// Puts what the body has into the output, until there is enough for one write; whether the body makes it wait.
    fn fill(&mut self, cx: &mut Context<'_>) -> bool {
        while self.framing != Framing::Ended
            && !self.has_failed
            && self.large.is_empty()
            && self.output.len() < ONE_WRITE
        {
            let Some(body) = &mut self.body else { return false };
            match Pin::new(body).poll_frame(cx) {
                Poll::Pending => return true,
                Poll::Ready(None) => self.end(),
                Poll::Ready(Some(Err(_))) => self.has_failed = true,
                Poll::Ready(Some(Ok(frame))) => self.encode(frame),
            }
            if self.framing != Framing::Ended && !self.has_failed && self.body.as_ref().is_some_and(Body::is_end_stream)
            {
                self.end();
            }
        }
        false
    }

    fn encode(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => {
                match &mut self.framing {
                    Framing::Length(left) => match left.checked_sub(data.len() as u64) {
                        Some(rest) => *left = rest,
                        None => {
                            self.has_failed = true;
                            return;
                        }
                    },
                    // A vector takes all that is written to it.
                    Framing::Chunked => drop(write!(self.output, "{:x}\r\n", data.len())),
                    Framing::UntilClose | Framing::Ended => {}
                }
                if data.len() > COPIED {
                    self.large = data;
                    return;
                }
                self.output.extend_from_slice(&data);
                if self.framing == Framing::Chunked {
                    self.output.extend_from_slice(b"\r\n");
                }
            }
            Err(frame) if self.framing == Framing::Chunked => {
                self.output.extend_from_slice(b"0\r\n");
                for (name, value) in frame.trailers_ref().into_iter().flatten().filter(|_| self.takes_trailers) {
                    write_field(&mut self.output, name.as_str(), value.as_bytes());
                }
                self.output.extend_from_slice(b"\r\n");
                self.framing = Framing::Ended;
            }
            // Content that is framed otherwise has no place for trailers.
            Err(_) => {}
        }
    }

    /// The body has ended.
    fn end(&mut self) {
        match self.framing {
            Framing::Length(1..) => {
                self.has_failed = true;
                return;
            }
            Framing::Chunked if self.large.is_empty() => self.output.extend_from_slice(b"0\r\n\r\n"),
            // Its last piece is written first.
            Framing::Chunked => return,
            Framing::UntilClose | Framing::Length(0) | Framing::Ended => {}
        }
        self.framing = Framing::Ended;
    }
}

/// Writes a field's line.
pub(crate) fn write_field(output: &mut Vec<u8>, name: &str, value: &[u8]) {
    output.extend_from_slice(name.as_bytes());
    output.extend_from_slice(b": ");
    output.extend_from_slice(value);
    output.extend_from_slice(b"\r\n");
}

/// Writes the field that says how long the content is.
pub(crate) fn write_length(output: &mut Vec<u8>, length: u64) {
    write_field(output, "content-length", http::HeaderValue::from(length).as_bytes());
}

/// Writes `output` from `written` on, to its end.
///
/// # Errors
/// When the stream does, or takes no more.
pub(crate) fn poll_drain<S: AsyncWrite + Unpin>(
    stream: &mut S,
    output: &[u8],
    written: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while let Some(rest) = output.get(*written..).filter(|rest| !rest.is_empty()) {
        match ready!(Pin::new(&mut *stream).poll_write(cx, rest))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            count => *written += count,
        }
    }
    Pin::new(stream).poll_flush(cx)
}

/// What is copied, rather than written by a system call of its own.
const COPIED: usize = 16 * 1024;
/// What is gathered for one write: more would keep the other end waiting for what is here already.
const ONE_WRITE: usize = 32 * 1024;
