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
    #[error("an answer of HTTP/1.0 has a Transfer-Encoding")]
    Coding,
    #[error("of the answer: {0}")]
    Content(#[from] ContentError),
    #[error("the request's content broke off")]
    Request,
    #[error(transparent)]
    Http2(#[from] hyper::Error),
}
