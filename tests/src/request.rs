//! Requests as a test describes them.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use tokio::sync::mpsc;

use crate::{Protocol, geo};

/// A body that a client or a bespoke origin sends; it fails as the test wants it to.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A request to send, from a client behind the trusted proxy that the test plays.
#[derive(Clone, Debug)]
pub struct Sent {
    method: Method,
    target: String,
    host: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(never).boxed_unsync()
}

/// These bytes.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(never).boxed_unsync()
}

/// A body of unknown length that is sent piece by piece. It ends when the sender is dropped.
pub fn streamed() -> (Pieces, Body) {
    let (sender, receiver) = mpsc::channel(1);
    (Pieces(sender), Streamed(receiver).boxed_unsync())
}

/// The sending end of a [`streamed`] body.
#[derive(Debug)]
pub struct Pieces(mpsc::Sender<io::Result<Frame<Bytes>>>);

impl Pieces {
    /// Sends a piece, as soon as the one before has been taken; false when nobody takes any more.
    pub async fn send(&self, piece: impl Into<Bytes>) -> bool {
        self.0.send(Ok(Frame::data(piece.into()))).await.is_ok()
    }

    /// Ends the body with trailer fields.
    pub async fn end_with(self, trailers: HeaderMap) -> bool {
        self.0.send(Ok(Frame::trailers(trailers))).await.is_ok()
    }

    /// Breaks the body off.
    pub async fn break_off(self) -> bool {
        self.0.send(Err(io::ErrorKind::ConnectionAborted.into())).await.is_ok()
    }
}

struct Streamed(mpsc::Receiver<io::Result<Frame<Bytes>>>);

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(context)
    }
}

/// A GET.
pub fn get(path: &str) -> Sent {
    request("GET", path)
}

/// A HEAD.
pub fn head(path: &str) -> Sent {
    request("HEAD", path)
}

/// A POST.
pub fn post(path: &str, body: impl Into<Bytes>) -> Sent {
    Sent { body: body.into(), ..request("POST", path) }
}

/// A PUT.
pub fn put(path: &str, body: impl Into<Bytes>) -> Sent {
    Sent { body: body.into(), ..request("PUT", path) }
}

/// A request to `api.example.com` without further headers or body.
pub fn request(method: &str, path: &str) -> Sent {
    Sent {
        method: method.parse().expect("a method"),
        target: path.to_owned(),
        host: "api.example.com".to_owned(),
        headers: Vec::new(),
        body: Bytes::new(),
    }
}

impl Sent {
    /// To another host.
    #[must_use]
    pub fn host(self, host: &str) -> Sent {
        Sent { host: host.to_owned(), ..self }
    }

    /// With one more header field.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Sent {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without a header field.
    #[must_use]
    pub fn without(mut self, name: &str) -> Sent {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    /// With another value of a header field.
    #[must_use]
    pub fn replacing(self, name: &str, value: &str) -> Sent {
        self.without(name).header(name, value)
    }

    /// With another method.
    #[must_use]
    pub fn method(self, method: &str) -> Sent {
        Sent { method: method.parse().expect("a method"), ..self }
    }

    /// With another path and query.
    #[must_use]
    pub fn target(self, target: &str) -> Sent {
        Sent { target: target.to_owned(), ..self }
    }

    /// With another body.
    #[must_use]
    pub fn body(self, body: impl Into<Bytes>) -> Sent {
        Sent { body: body.into(), ..self }
    }

    /// Whether it is of this method and path.
    pub fn is(&self, method: &str, target: &str) -> bool {
        self.method == method && self.target == target
    }

    /// On behalf of a client with this address.
    #[must_use]
    pub fn on_behalf_of(self, client: IpAddr) -> Sent {
        self.header("x-forwarded-for", &client.to_string())
    }

    /// On behalf of a client in this country.
    #[must_use]
    pub fn from(self, country: &str) -> Sent {
        self.on_behalf_of(geo::address(country, 1))
    }

    /// The message: a path and a Host field on HTTP/1.1, a whole URI on HTTP/2.
    pub(crate) fn message(&self, protocol: Protocol, scheme: &str) -> Request<Body> {
        let mut message = Request::new(if self.body.is_empty() { empty() } else { full(self.body.clone()) });
        *message.method_mut() = self.method.clone();
        let uri = match protocol {
            Protocol::Http1 => self.target.clone(),
            Protocol::Http2 => format!("{scheme}://{}{}", self.host, self.target),
        };
        *message.uri_mut() = uri.parse::<Uri>().expect("a request target");
        let headers = message.headers_mut();
        if protocol == Protocol::Http1 {
            headers.insert(http::header::HOST, HeaderValue::try_from(&self.host).expect("a host"));
        }
        for (name, value) in &self.headers {
            let name = HeaderName::try_from(name).expect("a header name");
            headers.append(name, HeaderValue::try_from(value).expect("a header value"));
        }
        message
    }
}

fn never(never: Infallible) -> io::Error {
    match never {}
}
