//! A WebSocket to an origin that speaks HTTP/2: an extended CONNECT (RFC 8441) on a connection of its own.
//!
//! A tunnel may last for hours. On a connection that requests share it would take one of their places, and of their window
//! what its client does not read.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::uri::Scheme;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::body_budget::BodyBudget;
use crate::headers::RequestHead;
use crate::http2::{Kept, StreamTunnel};
use crate::interim::Interim;
use crate::upstream::answer_error::AnswerError;
use crate::upstream::http1::OriginStream;
use crate::upstream::http2::{MAX_HEADER_LIST, broken, in_http2, poll_interim, settled};
use crate::upstream::http2_life::Watched;
use crate::upstream::link::{ConnectError, Link, SendError};
use crate::upstream::received::{Received, ReceivedStream};
use crate::websocket;

/// A connection whose peer has announced that it takes extended CONNECT. It belongs to one request, and then to the tunnel or
/// to the answer that has come of it.
#[derive(Debug)]
pub(crate) struct Http2Tunnel {
    sender: SendRequest<Bytes>,
    scheme: Scheme,
    received: Arc<Received>,
    /// Its one stream, once the request was answered.
    stream: Option<(SendStream<Bytes>, RecvStream)>,
    /// Whether an answer that is no tunnel was read to its end, though the connection has failed since that came.
    is_whole: bool,
    /// How much of an answer that is no tunnel is still to come, where that is known.
    left: Option<u64>,
    /// What there is to know of it.
    pub(crate) link: Link,
    in_use: InUse,
}

/// What a stream of a connection of its own lives by.
#[derive(Debug)]
pub(crate) struct InUse {
    /// Dropped, it has the connection's task end soon.
    _alive: oneshot::Sender<()>,
    /// What has come on the one stream, once there is that.
    received: Option<ReceivedStream>,
}

impl Kept for InUse {
    fn end_came_before(&self, error: &h2::Error) -> bool {
        self.received.as_ref().is_some_and(|received| received.ended_before(error, None))
    }

    fn took(&self, bytes: usize) {
        self.received.iter().for_each(|received| received.took(bytes));
    }
}

impl Http2Tunnel {
    /// Speaks HTTP/2 on a stream, and waits for the peer's SETTINGS. What it sends counts in `bodies`.
    ///
    /// # Errors
    /// When the peer closes the stream, speaks otherwise, or takes no extended CONNECT.
    pub(crate) async fn open(stream: OriginStream, link: Link, bodies: &Arc<BodyBudget>) -> Result<Self, ConnectError> {
        let scheme = if stream.is_tls() { Scheme::HTTPS } else { Scheme::HTTP };
        let received = Received::of(bodies);
        let (stream, _) = Watched::new(stream, received.clone());
        let (sender, mut connection) = builder().handshake::<_, Bytes>(stream).await?;
        settled(&sender, &mut connection).await?;
        if !sender.is_extended_connect_protocol_enabled() {
            return Err(ConnectError::NoTunnels);
        }
        let (alive, released) = oneshot::channel::<()>();
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                ended = &mut connection => ended,
                // What was written last goes out, and the connection closes.
                _ = released => timeout(LAST_WORDS, connection).await.unwrap_or(Ok(())),
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a tunnel's upstream connection ended");
            }
        });
        let in_use = InUse { _alive: alive, received: None };
        Ok(Self { sender, scheme, received, stream: None, is_whole: false, left: None, link, in_use })
    }

    /// Asks for the tunnel, and waits for the answer's head: that of HTTP/1.1, 101, where there is one. Interim answers before
    /// it go to `interim`.
    ///
    /// # Errors
    /// See [`SendError`].
    pub(crate) async fn send(
        &mut self,
        head: &RequestHead<'_>,
        interim: Option<&dyn Interim>,
    ) -> Result<Response<()>, SendError> {
        let (request, key) = extended_connect(head.to_request(), &self.scheme);
        // What fails here was not sent: a GOAWAY may have come with the settings.
        let (mut answer, mut sending) = self.sender.send_request(request, false).map_err(|_| SendError::Unprocessed)?;
        self.in_use.received = Some(self.received.follow(answer.stream_id().as_u32()));
        let mut told = 0;
        let answer = poll_fn(|cx| {
            ready!(poll_interim(&mut answer, (interim, &mut told), |_| {}, cx))?;
            Pin::new(&mut answer).poll(cx).map_err(broken)
        })
        .await?;
        let (mut parts, receiving) = answer.into_parts();
        if parts.status.is_success() {
            parts.status = StatusCode::SWITCHING_PROTOCOLS;
            parts.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            parts.headers.remove(CONTENT_LENGTH);
            match key {
                Some(key) => drop(parts.headers.insert(SEC_WEBSOCKET_ACCEPT, websocket::accept(&key))),
                None => drop(parts.headers.remove(SEC_WEBSOCKET_ACCEPT)),
            }
        } else {
            // There is nothing more to say; an origin that has reset its stream after its answer need not hear it.
            drop(sending.send_data(Bytes::new(), true));
            let length = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
            self.left = length.and_then(|length| length.parse().ok());
        }
        self.stream = Some((sending, receiving));
        Ok(Response::from_parts(parts, ()))
    }

    /// Returns the next piece of an answer that is no tunnel, or its trailers.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let Some((_, receiving)) = self.stream.as_mut().filter(|_| !self.is_whole) else { return Poll::Ready(None) };
        Poll::Ready(match ready!(poll_piece(receiving, cx)) {
            Some(Err(error)) if self.left.is_none_or(|left| left == 0) && self.in_use.end_came_before(&error) => {
                self.is_whole = true;
                None
            }
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                self.left = self.left.map(|left| left.saturating_sub(length as u64));
                self.in_use.took(length);
                // After trailers nothing comes.
                self.is_whole = frame.is_trailers();
                Some(Ok(frame))
            }
            end => end.map(|end| end.map_err(AnswerError::from)),
        })
    }

    /// Returns whether all of the answer was read.
    pub(crate) fn is_end_stream(&self) -> bool {
        self.is_whole || self.stream.as_ref().is_none_or(|(_, receiving)| receiving.is_end_stream())
    }

    /// Returns how much of the answer's content is still to come.
    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.left {
            _ if self.is_end_stream() => SizeHint::with_exact(0),
            Some(left) => SizeHint::with_exact(left),
            None => SizeHint::default(),
        }
    }

    /// Returns the origin's side of the tunnel.
    pub(crate) fn into_stream(self) -> Option<StreamTunnel<InUse>> {
        let (sending, receiving) = self.stream?;
        Some(StreamTunnel::new(sending, receiving, self.in_use))
    }
}

fn poll_piece(receiving: &mut RecvStream, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
    if let Some(data) = ready!(receiving.poll_data(cx)).transpose()? {
        receiving.flow_control().release_capacity(data.len())?;
        return Poll::Ready(Some(Ok(Frame::data(data))));
    }
    let trailers = ready!(receiving.poll_trailers(cx))?;
    Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
}

/// Makes an extended CONNECT of an upgrade (RFC 8441, 5), and returns the key that it had.
fn extended_connect(upgrade: Request<()>, scheme: &Scheme) -> (Request<()>, Option<HeaderValue>) {
    let mut request = in_http2(upgrade, scheme);
    *request.method_mut() = Method::CONNECT;
    request.headers_mut().remove(UPGRADE);
    request.headers_mut().remove(CONTENT_LENGTH);
    let key = request.headers_mut().remove(SEC_WEBSOCKET_KEY);
    request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    (request, key)
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        // None until the peer has said how many.
        .initial_max_send_streams(0)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .data_frame_budget(SMALL_FRAMES)
        .max_header_list_size(MAX_HEADER_LIST)
        .enable_push(false);
    builder
}

/// What an origin may send before its client takes it; what a client may send, too.
const WINDOW: u32 = 256 * 1024;
/// The library ends a connection on which many short frames wait: 256 for each, less its length. As many as the window
/// holds, of whatever length, must be let wait for a slow client.
const SMALL_FRAMES: usize = WINDOW as usize * 255;
/// For what was written last, and for GOAWAY, to a peer that may take nothing.
const LAST_WORDS: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_takes_the_form_of_an_extended_connect() {
        let upgrade = Request::get("/chat?a").header("host", "api.example.com").header("connection", "upgrade");
        let upgrade = upgrade.header("upgrade", "websocket").header("sec-websocket-version", "13");
        let upgrade = upgrade.header("sec-websocket-key", "a").header("sec-websocket-protocol", "b").body(()).unwrap();
        let (sent, key) = extended_connect(upgrade, &Scheme::HTTPS);
        assert_eq!(
            (sent.method(), sent.uri().to_string().as_str()),
            (&Method::CONNECT, "https://api.example.com/chat?a")
        );
        assert_eq!(sent.extensions().get::<h2::ext::Protocol>().unwrap().as_str(), "websocket");
        let names: Vec<&str> = sent.headers().keys().map(http::HeaderName::as_str).collect();
        assert_eq!(names, ["sec-websocket-version", "sec-websocket-protocol"]);
        assert_eq!(key.unwrap(), "a");
    }
}
