//! What is known of an open connection to an origin, and why there is none, or no answer on it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::peers::gateway::{Counterpart, GatewayRefusal};
use crate::request_body::AttemptBody;
use crate::upstream::answer_error::AnswerError;
use crate::upstream::resolve::{ResolveError, ResolvedAddress, leads_there};

/// What there is to know of an open connection, whichever version of HTTP it speaks. It lives as long as the
/// connection.
#[derive(Debug)]
pub(crate) struct Link {
    /// What its endpoint's name stood for; `None` for an address.
    pub(crate) place: Option<ResolvedAddress>,
    /// What its other end has proved.
    pub(crate) counterpart: Counterpart,
    /// Which connector has opened it.
    pub(crate) generation: u64,
}

/// Why there is no connection. In every case the request was not sent.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub(crate) enum ConnectError {
    #[error("no connection within {0:?}")]
    Timeout(Duration),
    #[error("no connection: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Name(#[from] ResolveError),
    #[error("{0:?} is no name that a certificate can be checked against")]
    ServerName(String),
    #[error("no HTTP on the new connection: {0}")]
    Http(#[from] hyper::Error),
    #[error("TLS there does not agree to HTTP/2 (ALPN h2)")]
    NoHttp2,
    #[error("the new connection closed before it said that it speaks HTTP/2")]
    NoSettings,
    #[error("another request was opening a connection: {0}")]
    Another(Arc<str>),
    #[error(transparent)]
    Gateway(#[from] GatewayRefusal),
}

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) enum SendError {
    /// Nothing of it was sent; here is its body.
    Unsent(AttemptBody),
    /// Some of it was sent, and the origin says that it has not acted on it.
    Unprocessed,
    /// The connection broke, and the origin may have acted on it.
    Broken(AnswerError),
}

impl Link {
    /// Returns whether the endpoint's name still stands for the connection's address.
    pub(crate) fn leads_there(&self) -> bool {
        leads_there(&self.place)
    }
}
