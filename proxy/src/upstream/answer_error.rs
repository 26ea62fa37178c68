//! Why there is no answer, or not all of it, though there was a connection.

use std::io;

use crate::http1::ContentError;

/// Why a request has no answer, or its answer ends early.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub(crate) enum AnswerError {
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("the connection closed before an answer")]
    Closed,
    #[error("the answer's head is malformed: {0}")]
    Head(httparse::Error),
    #[error("the answer's head is longer than 256 KiB")]
    HeadTooLong,
    #[error("a field of the answer's head is malformed")]
    Field,
    #[error("the answer's status is none of HTTP's")]
    Status,
    #[error("the answer's Content-Length is ambiguous")]
    Length,
    #[error("the answer's Transfer-Encoding is other than chunked")]
    Coding,
    #[error("of the answer: {0}")]
    Content(#[from] ContentError),
    #[error("the request's content broke off")]
    Request,
    #[error(transparent)]
    Http2(#[from] h2::Error),
}

impl AnswerError {
    /// Returns whether the origin is there and speaks HTTP, and it is this answer alone that cannot be passed on: what one
    /// page looks like says nothing of its origin's health.
    pub(crate) fn is_malformed(&self) -> bool {
        match self {
            AnswerError::Head(error) => matches!(
                error,
                // What does not even begin as HTTP is another service.
                httparse::Error::HeaderName | httparse::Error::HeaderValue | httparse::Error::TooManyHeaders
            ),
            AnswerError::HeadTooLong
            | AnswerError::Field
            | AnswerError::Status
            | AnswerError::Length
            | AnswerError::Coding
            | AnswerError::Content(ContentError::Chunk | ContentError::Trailers) => true,
            AnswerError::Http2(error) => is_refused_here(error),
            AnswerError::Io(_)
            | AnswerError::Closed
            | AnswerError::Content(ContentError::CutOff)
            | AnswerError::Request => false,
        }
    }
}

/// Returns whether it was this side that has reset the stream: for a head that is malformed, or too long.
fn is_refused_here(error: &h2::Error) -> bool {
    error.is_reset() && error.is_library()
}
