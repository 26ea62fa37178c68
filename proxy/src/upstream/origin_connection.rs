//! A connection to an origin, whichever version of HTTP it speaks.

use std::error::Error;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use rustls::AlertDescription;

use crate::peers::gateway::Counterpart;
use crate::request_body::AttemptBody;
use crate::upstream::http2::Stream;
use crate::upstream::link::{Link, SendError};

/// A connection ready for a request.
#[derive(Debug)]
pub(crate) enum OriginConnection {
    /// One that takes one request at a time, and is this request's alone until its answer has ended.
    Http1(Http1),
    /// A place on one that many requests share.
    Http2(Stream),
}

/// An HTTP/1.1 connection.
#[derive(Debug)]
pub(crate) struct Http1 {
    /// Sends requests, one at a time.
    pub(crate) sender: SendRequest<AttemptBody>,
    /// What there is to know of it.
    pub(crate) link: Link,
}

impl OriginConnection {
    /// Returns what its other end has proved.
    pub(crate) fn counterpart(&self) -> Counterpart {
        match self {
            OriginConnection::Http1(connection) => connection.link.counterpart,
            OriginConnection::Http2(stream) => stream.counterpart(),
        }
    }

    /// Which connector has opened it.
    pub(crate) fn generation(&self) -> u64 {
        match self {
            OriginConnection::Http1(connection) => connection.link.generation,
            OriginConnection::Http2(stream) => stream.generation(),
        }
    }

    /// Returns whether this is the first request to find the connection broken: what it breaks with is one failure,
    /// however many requests were on it.
    pub(crate) fn is_first_to_break(&self) -> bool {
        match self {
            OriginConnection::Http1(_) => true,
            OriginConnection::Http2(stream) => stream.is_first_to_break(),
        }
    }

    /// Sends a request in HTTP/1.1's form, and waits for its answer's head.
    ///
    /// # Errors
    /// See [`SendError`].
    pub(crate) async fn send(&mut self, request: Request<AttemptBody>) -> Result<Response<Incoming>, SendError> {
        match self {
            OriginConnection::Http1(connection) => {
                connection.sender.try_send_request(request).await.map_err(|mut error| match error.take_message() {
                    Some(unsent) => SendError::Unsent(Box::new(unsent)),
                    None if connection.link.counterpart == Counterpart::Peer && is_refused(error.error()) => {
                        SendError::Unprocessed
                    }
                    None => SendError::Broken(error.into_error()),
                })
            }
            OriginConnection::Http2(stream) => stream.send(request).await,
        }
    }
}

/// Returns whether a gateway has refused this node's certificate, which in TLS 1.3 it looks at after the client's
/// handshake: nothing after that was read.
fn is_refused(error: &hyper::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        let of_tls = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(rustls::Error::AlertReceived(alert)) = of_tls.and_then(|error| error.downcast_ref()) {
            return is_about_a_certificate(*alert);
        }
        cause = error.source();
    }
    false
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
