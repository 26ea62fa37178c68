//! What is known of an open connection to an origin, and why there is none, or no answer on it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use config::Endpoint;

use crate::local_error::LocalError;
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
    /// The name that its other end has proved, where that is not its endpoint's own.
    pub(crate) server_name: Option<Arc<str>>,
}

/// What is spoken on a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speak {
    /// Nothing: that the endpoint takes the connection, and agrees on TLS, is all that is asked.
    Nothing,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, by ALPN over TLS and with prior knowledge without, for many requests.
    Http2,
    /// The same, for one WebSocket.
    Tunnel,
}

impl Speak {
    /// As the endpoint wants it.
    pub(crate) fn with(endpoint: &Endpoint) -> Self {
        if endpoint.http2 { Speak::Http2 } else { Speak::Http1 }
    }
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
    #[error("no HTTP/2 on the new connection: {0}")]
    Http2(#[from] h2::Error),
    #[error("the endpoint takes no WebSockets over HTTP/2 (RFC 8441)")]
    NoTunnels,
    #[error("TLS there does not agree to HTTP/2 (ALPN h2)")]
    NoHttp2,
    #[error("the new connection closed before it said that it speaks HTTP/2")]
    NoSettings,
    #[error("another request was opening a connection: {}", .0.text)]
    Another(ConnectFailure),
    #[error(transparent)]
    Gateway(#[from] GatewayRefusal),
}

/// Why a connection that several requests waited for could not be opened, for each of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectFailure {
    /// The error, in words.
    pub(crate) text: Arc<str>,
    /// What this node lacks, if that is why.
    pub(crate) local: Option<LocalError>,
}

impl From<&ConnectError> for ConnectFailure {
    fn from(error: &ConnectError) -> Self {
        Self { text: error.to_string().into(), local: error.local() }
    }
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

impl ConnectError {
    /// Returns whether there is a connection, on which TLS was not agreed on.
    pub(crate) fn is_of_tls(&self) -> bool {
        matches!(self, ConnectError::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()))
    }

    /// Returns whether nothing was found, or nobody was there: before a name was to be proved.
    pub(crate) fn is_of_the_way(&self) -> bool {
        match self {
            ConnectError::Io(error) => matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::TimedOut
            ),
            ConnectError::Timeout(_) | ConnectError::Name(_) => true,
            _ => false,
        }
    }

    /// Returns what this node lacks, if it is for its own lack of it that there is no connection: which says nothing of any
    /// endpoint, and another would be no better off.
    pub(crate) fn local(&self) -> Option<LocalError> {
        match self {
            ConnectError::Io(error) => LocalError::of(error),
            ConnectError::Another(failure) => failure.local,
            _ => None,
        }
    }
}

impl Link {
    /// Returns whether the endpoint's name still stands for the connection's address.
    pub(crate) fn leads_there(&self) -> bool {
        leads_there(&self.place)
    }
}
