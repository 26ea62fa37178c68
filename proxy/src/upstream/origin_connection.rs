//! A connection to an origin, whichever version of HTTP it speaks.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use rustls::AlertDescription;

use crate::headers::RequestHead;
use crate::interim::Interim;
use crate::peers::gateway::Counterpart;
use crate::request_body::AttemptBody;
use crate::tunnel_stream::TunnelStream;
use crate::upstream::answer_error::AnswerError;
use crate::upstream::http1::{Http1, Unanswered};
use crate::upstream::http2::Stream;
use crate::upstream::http2_tunnel::Http2Tunnel;
use crate::upstream::link::SendError;

/// A connection ready for a request, and then the one that its answer's content comes from.
#[derive(Debug)]
pub(crate) enum OriginConnection {
    /// One that takes one request at a time, and is this request's alone until its answer has ended.
    Http1(Box<Http1>),
    /// A place on one that many requests share.
    Http2(Stream),
    /// One of HTTP/2 that asks for one tunnel.
    Tunnel(Box<Http2Tunnel>),
}

impl OriginConnection {
    /// Returns what its other end has proved.
    pub(crate) fn counterpart(&self) -> Counterpart {
        match self {
            OriginConnection::Http1(connection) => connection.link.counterpart,
            OriginConnection::Http2(stream) => stream.counterpart(),
            OriginConnection::Tunnel(connection) => connection.link.counterpart,
        }
    }

    /// Which connector has opened it.
    pub(crate) fn generation(&self) -> u64 {
        match self {
            OriginConnection::Http1(connection) => connection.link.generation,
            OriginConnection::Http2(stream) => stream.generation(),
            OriginConnection::Tunnel(connection) => connection.link.generation,
        }
    }

    /// Returns the name that it has proved, where that is not its endpoint's own.
    pub(crate) fn server_name(&self) -> Option<&Arc<str>> {
        match self {
            OriginConnection::Http1(connection) => connection.link.server_name.as_ref(),
            OriginConnection::Http2(stream) => stream.server_name(),
            OriginConnection::Tunnel(connection) => connection.link.server_name.as_ref(),
        }
    }

    /// Returns whether its other end takes WebSockets over HTTP/2; `None` where it speaks HTTP/1.1.
    pub(crate) fn takes_tunnels(&self) -> Option<bool> {
        match self {
            OriginConnection::Http1(_) => None,
            OriginConnection::Http2(stream) => Some(stream.takes_tunnels()),
            OriginConnection::Tunnel(_) => Some(true),
        }
    }

    /// Returns whether it is a place on an HTTP/2 connection.
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self, OriginConnection::Http2(_))
    }

    /// Returns whether an answer on it may change the protocol: HTTP/2 has no such status (RFC 9113, 8.6).
    pub(crate) fn may_switch(&self) -> bool {
        !matches!(self, OriginConnection::Http2(_))
    }

    /// Returns whether this is the first request to find the connection broken: what it breaks with is one failure,
    /// however many requests were on it.
    pub(crate) fn is_first_to_break(&self) -> bool {
        match self {
            OriginConnection::Http1(_) | OriginConnection::Tunnel(_) => true,
            OriginConnection::Http2(stream) => stream.is_first_to_break(),
        }
    }

    /// Sends a request, and waits for its answer's head; interim answers before it go to `interim`. The content is then this
    /// connection's.
    ///
    /// # Errors
    /// See [`SendError`].
    pub(crate) async fn send(
        &mut self,
        head: &RequestHead<'_>,
        body: AttemptBody,
        interim: Option<&dyn Interim>,
    ) -> Result<Response<()>, SendError> {
        match self {
            OriginConnection::Http1(connection) => {
                // What it thinks of a certificate it says before its first answer.
                let is_peer = connection.link.counterpart == Counterpart::Peer && connection.is_fresh();
                connection.send(head, body, interim).await.map_err(|error| match error {
                    Unanswered::Unsent(body) => SendError::Unsent(body),
                    Unanswered::Broken(error) if is_peer && is_refused(&error) => SendError::Unprocessed,
                    Unanswered::Broken(error) => SendError::Broken(error),
                })
            }
            // Boxed, since they are larger, and every request would be so.
            OriginConnection::Http2(stream) => Box::pin(stream.send(head, body, interim)).await,
            OriginConnection::Tunnel(connection) => Box::pin(connection.send(head, interim)).await,
        }
    }

    /// Has the next piece of its answer's content be a small one; over HTTP/2 they are.
    pub(crate) fn read_little(&mut self) {
        if let OriginConnection::Http1(connection) = self {
            connection.read_little();
        }
    }

    /// Returns the next piece of its answer's content, or the trailers.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        match self {
            OriginConnection::Http1(connection) => connection.poll_frame(cx),
            OriginConnection::Http2(stream) => stream.poll_frame(cx),
            OriginConnection::Tunnel(connection) => connection.poll_frame(cx),
        }
    }

    /// Returns whether all of its answer was read.
    pub(crate) fn is_end_stream(&self) -> bool {
        match self {
            OriginConnection::Http1(connection) => connection.is_end_stream(),
            OriginConnection::Http2(stream) => stream.is_end_stream(),
            OriginConnection::Tunnel(connection) => connection.is_end_stream(),
        }
    }

    /// Returns how much of its answer's content is still to come.
    pub(crate) fn size_hint(&self) -> SizeHint {
        match self {
            OriginConnection::Http1(connection) => connection.size_hint(),
            OriginConnection::Http2(stream) => stream.size_hint(),
            OriginConnection::Tunnel(connection) => connection.size_hint(),
        }
    }

    /// Returns the connection if another request may follow at once.
    pub(crate) fn idle(self) -> Option<Self> {
        match self {
            OriginConnection::Http1(connection) => {
                let mut connection = connection.idle()?;
                connection.is_quiet(false).then_some(OriginConnection::Http1(connection))
            }
            OriginConnection::Http2(stream) => Some(OriginConnection::Http2(stream)),
            OriginConnection::Tunnel(_) => None,
        }
    }

    /// Returns the tunnel's side, once both sides have agreed on another protocol.
    pub(crate) fn into_tunnel(self) -> Option<Box<dyn TunnelStream>> {
        match self {
            OriginConnection::Http1(mut connection) => connection.take_upgraded().map(|stream| Box::new(stream) as _),
            OriginConnection::Http2(_) => None,
            OriginConnection::Tunnel(connection) => connection.into_stream().map(|stream| Box::new(stream) as _),
        }
    }
}

/// Returns whether a gateway has refused this node's certificate, which in TLS 1.3 it looks at after the client's
/// handshake: nothing after that was read.
fn is_refused(error: &AnswerError) -> bool {
    let AnswerError::Io(error) = error else { return false };
    let alert = error.get_ref().and_then(|error| error.downcast_ref());
    matches!(alert, Some(rustls::Error::AlertReceived(alert)) if is_about_a_certificate(*alert))
}

fn is_about_a_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired
            // An authority of the same name with another key.
            | AlertDescription::DecryptError
    )
}
