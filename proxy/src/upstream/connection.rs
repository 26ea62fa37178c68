//! A connection to an upstream, whichever version of HTTP it speaks.

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;

use crate::upstream::body::AttemptBody;
use crate::upstream::http2::Stream;
use crate::upstream::resolve::Place;
use crate::upstream::socket::Peephole;

/// A connection ready for a request.
#[derive(Debug)]
pub enum Connection {
    /// One that takes one request at a time, and is this request's alone until its answer has ended.
    Http1(Http1),
    /// A place on one that many requests share.
    Http2(Stream),
}

/// An HTTP/1.1 connection.
#[derive(Debug)]
pub struct Http1 {
    /// Sends requests, one at a time.
    pub sender: SendRequest<AttemptBody>,
    /// The socket underneath, to look at while it is idle.
    pub socket: Peephole,
    /// What its endpoint's name stood for; `None` for an address.
    pub place: Option<Place>,
}

/// Why a request has no answer.
#[derive(Debug)]
pub enum SendError {
    /// Nothing of it was sent; here it is.
    Unsent(Box<Request<AttemptBody>>),
    /// Some of it was sent, and the origin says that it has not acted on it.
    Unprocessed,
    /// The connection broke, and the origin may have acted on it.
    Broken(hyper::Error),
}

impl Connection {
    /// Whether this is the first request to find the connection broken: what it breaks with is one
    /// failure, however many requests were on it.
    pub fn is_first_to_break(&self) -> bool {
        match self {
            Connection::Http1(_) => true,
            Connection::Http2(stream) => stream.is_first_to_break(),
        }
    }

    /// Sends a request in HTTP/1.1's form, and waits for its answer's head.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(&mut self, request: Request<AttemptBody>) -> Result<Response<Incoming>, SendError> {
        match self {
            Connection::Http1(connection) => {
                connection.sender.try_send_request(request).await.map_err(|mut error| match error.take_message() {
                    Some(unsent) => SendError::Unsent(Box::new(unsent)),
                    None => SendError::Broken(error.into_error()),
                })
            }
            Connection::Http2(stream) => stream.send(request).await,
        }
    }
}
