//! An HTTP/2 connection to an upstream, which many requests share.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio::time::{Sleep, sleep, timeout};

use crate::body_budget::BodyBudget;
use crate::clock::uptime;
use crate::headers::RequestHead;
use crate::health::round_trip::PendingRoundTrips;
use crate::http2::{Http2Content, Outgoing, Unsent};
use crate::interim::Interim;
use crate::peers::gateway::Counterpart;
use crate::request_body::AttemptBody;
use crate::upstream::answer_error::AnswerError;
use crate::upstream::http1::{MOST_INTERIM, OriginStream, PATIENCE, STALLED};
use crate::upstream::http2_life::{Places, STREAM_WINDOW, Watched, drive};
use crate::upstream::link::{ConnectError, Link, SendError};
use crate::upstream::received::{Received, ReceivedStream};
use crate::upstream::socket::IdleProbe;

/// A connection whose peer has said that it speaks HTTP/2, and how much of it. It belongs to one worker's thread, and
/// closes once no request and no pool holds it.
#[derive(Debug)]
pub(crate) struct Http2 {
    sender: Mutex<SendRequest<Bytes>>,
    scheme: Scheme,
    link: Link,
    socket: IdleProbe,
    places: Arc<Places>,
    received: Arc<Received>,
    /// When its last stream ended, in milliseconds of [`uptime`].
    idle_since_ms: AtomicU64,
    /// A request has found it broken.
    broken: AtomicBool,
    /// Whether its peer has announced that it takes extended CONNECT.
    takes_tunnels: bool,
}

/// One request's place on a shared connection, free again once this is dropped and nothing of its stream is left.
#[derive(Debug)]
pub(crate) struct Stream {
    connection: Arc<Http2>,
    sent: Sent,
    /// The content of the answer, once that has begun.
    answer: Option<Http2Content>,
    /// Whether the answer was read to its end, though its connection has failed since that came.
    is_whole: bool,
    /// What has come of it, once the request was sent.
    received: Option<ReceivedStream>,
    /// What sends the rest of a request whose answer has begun before its end. Whichever of both ends last has the place.
    upload: Option<(AbortHandle, Arc<UploadPlace>)>,
}

/// What was sent of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Nothing,
    /// All of it: it is a head.
    Head,
    /// Its head, and its content after that.
    Content,
}

/// The place of a request whose answer may end before it does, given back when this is dropped.
#[derive(Debug)]
struct UploadPlace(Arc<Http2>);

impl Http2 {
    /// Speaks HTTP/2 on a stream, and waits for the peer's SETTINGS: before them nobody knows how
    /// many requests it takes, nor whether it speaks HTTP/2 at all, and no request is lost on one
    /// that does not. What its peer takes to answer PINGs goes to `round_trips`, and what it sends counts in `bodies`.
    ///
    /// # Errors
    /// When the peer closes the stream, or speaks otherwise.
    pub(crate) async fn open(
        stream: OriginStream,
        link: Link,
        round_trips: Arc<PendingRoundTrips>,
        bodies: &Arc<BodyBudget>,
    ) -> Result<Self, ConnectError> {
        let scheme = if stream.is_tls() { Scheme::HTTPS } else { Scheme::HTTP };
        let socket = IdleProbe::on(stream.tcp())?;
        let received = Received::of(bodies);
        let (stream, signs) = Watched::new(stream, received.clone());
        let (sender, mut connection) = builder().handshake::<_, Bytes>(stream).await?;
        settled(&sender, &mut connection).await?;
        let takes_tunnels = sender.is_extended_connect_protocol_enabled();
        let places = Arc::new(Places::new(sender.current_max_send_streams().min(MAX_STREAMS)));
        let watched = (places.clone(), signs, received.clone());
        drop(tokio::spawn(drive(connection, watched, round_trips, MAX_STREAMS)));
        let idle_since_ms = AtomicU64::new(now_ms());
        Ok(Self {
            sender: Mutex::new(sender),
            scheme,
            link,
            socket,
            places,
            received,
            idle_since_ms,
            broken: AtomicBool::new(false),
            takes_tunnels,
        })
    }

    /// Takes a place on it, if it is open and has one left.
    pub(crate) fn stream(self: &Arc<Self>) -> Option<Stream> {
        if self.is_closed() || !self.places.take() {
            return None;
        }
        Some(Stream {
            connection: self.clone(),
            sent: Sent::Nothing,
            answer: None,
            is_whole: false,
            received: None,
            upload: None,
        })
    }

    /// Returns how many requests it takes at a time.
    pub(crate) fn limit(&self) -> usize {
        self.places.limit()
    }

    /// Returns whether its peer takes WebSockets (RFC 8441).
    pub(crate) fn takes_tunnels(&self) -> bool {
        self.takes_tunnels
    }

    /// Returns whether it takes no more requests: it is broken, its peer has said GOAWAY, or its endpoint's name
    /// stands for other addresses now.
    pub(crate) fn is_closed(&self) -> bool {
        !self.link.leads_there() || self.with_sender(|sender| !takes_more(sender))
    }

    /// All that have it are on one thread, so that its lock is always free.
    fn with_sender<T>(&self, does: impl FnOnce(&mut SendRequest<Bytes>) -> T) -> T {
        does(&mut self.sender.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns whether no request has a place on it.
    pub(crate) fn is_idle(&self) -> bool {
        self.places.in_use() == 0
    }

    /// Notes that a request has ended.
    fn note_end(&self) {
        self.idle_since_ms.store(now_ms(), Ordering::Relaxed);
    }

    /// Returns whether it has been idle for so long.
    pub(crate) fn is_idle_for(&self, timeout: Duration) -> bool {
        let since = Duration::from_millis(self.idle_since_ms.load(Ordering::Relaxed));
        self.is_idle() && uptime().saturating_sub(since) >= timeout
    }
}

impl Stream {
    /// Sends a request, and waits for its answer's head. Interim answers before it go to `interim`.
    ///
    /// # Errors
    /// See [`SendError`].
    pub(crate) async fn send(
        &mut self,
        head: &RequestHead<'_>,
        body: AttemptBody,
        interim: Option<&dyn Interim>,
    ) -> Result<Response<()>, SendError> {
        let alone = self.connection.places.in_use() == 1;
        if alone && !self.connection.socket.is_quiet() {
            // What has come while it was idle may be its end: it is read before the request is sent.
            tokio::task::yield_now().await;
        }
        let request = framed(in_http2(head.to_request(), &self.connection.scheme), &body);
        let ends = body.is_end_stream();
        // One of its own: one that has sent as much as its peer takes at a time waits, and lets nobody else be asked. Past
        // that the library would keep the request, and send it when there is room, even were it given up by then.
        let takes_more = |sender: &mut SendRequest<Bytes>| takes_more(sender) && !self.connection.places.are_too_many();
        let sender = self.connection.with_sender(|sender| takes_more(sender).then(|| sender.clone()));
        let Some(mut sender) = sender else { return Err(SendError::Unsent(body)) };
        let (mut answer, sending) = sender.send_request(request, ends).map_err(broken)?;
        self.sent = if ends { Sent::Head } else { Sent::Content };
        self.received = Some(self.connection.received.follow(answer.stream_id().as_u32()));
        let mut upload = (!ends).then(|| Upload::new(Outgoing::new(sending, body)));
        let mut told = 0;
        let answered = poll_fn(|cx| poll_answer(&mut answer, &mut upload, (interim, &mut told), cx)).await?;
        if let Some(rest) = upload.filter(|upload| upload.waiting.is_none()) {
            let place = Arc::new(UploadPlace(self.connection.clone()));
            let kept = place.clone();
            let upload = async move {
                rest.finish().await;
                drop(kept);
            };
            self.upload = Some((tokio::spawn(upload).abort_handle(), place));
        }
        let (parts, receiving) = answered.into_parts();
        self.answer = Some(Http2Content::new(receiving, &parts.headers));
        Ok(Response::from_parts(parts, ()))
    }

    /// Returns the next piece of the answer's content, or its trailers.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let Some(content) = self.answer.as_mut().filter(|_| !self.is_whole) else { return Poll::Ready(None) };
        let polled = ready!(Pin::new(&mut *content).poll_frame(cx));
        let ended_before = |error: &h2::Error| {
            let left = content.size_hint().exact();
            self.received.as_ref().is_some_and(|received| received.ended_before(error, left))
        };
        Poll::Ready(match polled {
            Some(Err(error)) if ended_before(&error) => {
                self.is_whole = true;
                None
            }
            Some(Ok(frame)) => {
                if let (Some(received), Some(data)) = (&self.received, frame.data_ref()) {
                    received.took(data.len());
                }
                // After trailers nothing comes.
                self.is_whole = frame.is_trailers();
                Some(Ok(frame))
            }
            end => end.map(|end| end.map_err(AnswerError::from)),
        })
    }

    /// Returns whether all of the answer was read.
    pub(crate) fn is_end_stream(&self) -> bool {
        self.is_whole || self.answer.as_ref().is_none_or(Body::is_end_stream)
    }

    /// Returns how much of the answer's content is still to come.
    pub(crate) fn size_hint(&self) -> SizeHint {
        self.answer.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }

    /// Returns what the connection's other end has proved.
    pub(crate) fn counterpart(&self) -> Counterpart {
        self.connection.link.counterpart
    }

    /// Returns the name that the connection's other end has proved, where that is not its endpoint's own.
    pub(crate) fn server_name(&self) -> Option<&Arc<str>> {
        self.connection.link.server_name.as_ref()
    }

    /// Returns whether the connection's other end takes WebSockets (RFC 8441).
    pub(crate) fn takes_tunnels(&self) -> bool {
        self.connection.takes_tunnels
    }

    /// Which connector has opened the connection.
    pub(crate) fn generation(&self) -> u64 {
        self.connection.link.generation
    }

    /// Returns whether no other request has found the connection broken before: true, too, of a stream alone that
    /// broke.
    pub(crate) fn is_first_to_break(&self) -> bool {
        !self.connection.is_closed() || !self.connection.broken.swap(true, Ordering::Relaxed)
    }

    /// Returns whether no other request has a place on its connection.
    pub(crate) fn is_last(&self) -> bool {
        self.connection.places.in_use() == 1
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let has_answer = self.is_whole || self.answer.as_ref().is_some_and(Body::is_end_stream);
        if let Some((upload, _)) = &self.upload {
            // After a complete answer an origin may still want the rest of its request.
            if !has_answer {
                upload.abort();
            }
            return;
        }
        match self.sent {
            Sent::Nothing => self.connection.places.give_back(),
            Sent::Head if has_answer => self.connection.places.give_back(),
            Sent::Head | Sent::Content => self.connection.places.give_back_later(),
        }
        self.connection.note_end();
    }
}

impl Drop for UploadPlace {
    fn drop(&mut self) {
        self.0.places.give_back_later();
        self.0.note_end();
    }
}

/// Waits for the peer's SETTINGS on a connection that has begun with no stream to send on.
///
/// # Errors
/// When the peer closes it, or speaks otherwise.
pub(super) async fn settled<S: AsyncRead + AsyncWrite + Unpin>(
    sender: &SendRequest<Bytes>,
    connection: &mut Connection<S, Bytes>,
) -> Result<(), ConnectError> {
    poll_fn(|cx| match Pin::new(&mut *connection).poll(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(Err(ConnectError::NoSettings)),
        Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
        Poll::Pending if sender.current_max_send_streams() == 0 => Poll::Pending,
        Poll::Pending => Poll::Ready(Ok(())),
    })
    .await
}

/// A request's content on its way up.
struct Upload {
    content: Outgoing<AttemptBody>,
    /// The client waits for the origin's word before it sends it; this is how long for.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Upload {
    fn new(content: Outgoing<AttemptBody>) -> Self {
        let waiting = content.body().awaits_continue().then(|| Box::pin(sleep(PATIENCE)));
        Self { content, waiting }
    }

    /// Sends as much as there is and the origin takes; ready once nothing is left to do.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), AnswerError>> {
        if let Some(waiting) = &mut self.waiting {
            if waiting.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.waiting = None;
        }
        let polled = self.content.poll(cx);
        if polled.is_pending() && self.content.is_blocked() {
            self.content.body().is_not_taken();
        }
        polled.map(|sent| match sent {
            // Whose fault it is, the answer says.
            Ok(()) | Err(Unsent::Gone) => Ok(()),
            Err(Unsent::Body) => {
                self.content.reset(Reason::CANCEL);
                Err(AnswerError::Request)
            }
        })
    }

    /// Sends the rest beside the answer, at whatever pace the client takes that.
    async fn finish(mut self) {
        loop {
            let before = self.content.sent();
            match timeout(STALLED, poll_fn(|cx| self.poll(cx))).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => return tracing::debug!(%error, "the rest of a request was not sent"),
                Err(_) if self.content.sent() == before && !self.content.body().awaits_client() => return,
                Err(_) => {}
            }
        }
    }
}

/// Sends a request's content until its answer is there.
fn poll_answer(
    answer: &mut ResponseFuture,
    upload: &mut Option<Upload>,
    (interim, told): (Option<&dyn Interim>, &mut usize),
    cx: &mut Context<'_>,
) -> Poll<Result<Response<h2::RecvStream>, SendError>> {
    if let Some(sending) = upload
        && let Poll::Ready(sent) = sending.poll(cx)
    {
        *upload = None;
        sent.map_err(SendError::Broken)?;
    }
    let goes_on = |waker: &Waker| {
        if upload.as_mut().is_some_and(|upload| upload.waiting.take().is_some()) {
            // It is polled again, now with its content.
            waker.wake_by_ref();
        }
    };
    ready!(poll_interim(answer, (interim, told), goes_on, cx))?;
    Pin::new(answer).poll(cx).map_err(broken)
}

/// Passes the interim answers on that have come, as many of a request as may be; ready once there are no more. Of each 100,
/// which is this node's to hear, `goes_on` is told.
pub(super) fn poll_interim(
    answer: &mut ResponseFuture,
    (interim, told): (Option<&dyn Interim>, &mut usize),
    mut goes_on: impl FnMut(&Waker),
    cx: &mut Context<'_>,
) -> Poll<Result<(), SendError>> {
    while let Some(head) = ready!(answer.poll_informational(cx)).transpose().map_err(broken)? {
        if head.status() == StatusCode::SWITCHING_PROTOCOLS {
            // RFC 9113, 8.6.
            return Poll::Ready(Err(SendError::Broken(AnswerError::Status)));
        } else if head.status() == StatusCode::CONTINUE {
            goes_on(cx.waker());
        } else if *told < MOST_INTERIM {
            *told += 1;
            interim.inspect(|interim| interim.tell(&head));
        }
    }
    Poll::Ready(Ok(()))
}

/// Returns what an error of a request that was sent says of it.
pub(super) fn broken(error: h2::Error) -> SendError {
    match is_unprocessed(&error) {
        true => SendError::Unprocessed,
        false => SendError::Broken(error.into()),
    }
}

/// Returns whether a connection takes another request.
fn takes_more(sender: &mut SendRequest<Bytes>) -> bool {
    !matches!(sender.poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Err(_)))
}

/// Returns whether the peer has said that it did not act on a request (RFC 9113, 8.7): it refused the stream, or
/// named an earlier one as the last that it serves. h2 gives the error of a peer's GOAWAY to the streams past the
/// last one only, and those before it end as they would without it: with their answer, a reset, or the connection's
/// end.
pub(super) fn is_unprocessed(error: &h2::Error) -> bool {
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    error.is_remote() && (error.is_go_away() || refused)
}

/// The same request as HTTP/2 has it: the host in the target, and nothing about the connection (RFC
/// 9113, 8.2.2 and 8.3.1).
pub(super) fn in_http2(mut request: Request<()>, scheme: &Scheme) -> Request<()> {
    *request.version_mut() = Version::HTTP_2;
    request.headers_mut().remove(CONNECTION);
    let host = request.headers_mut().remove(HOST);
    if let Some(authority) = host.and_then(|host| Authority::try_from(host.as_bytes()).ok()) {
        let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        let target = Uri::builder().scheme(scheme.clone()).authority(authority).path_and_query(path);
        if let Ok(target) = target.build() {
            *request.uri_mut() = target;
        }
    }
    request
}

/// Says how long a request's content is, where that is known (RFC 9110, 8.6), and whether its client waits for the origin's
/// word.
fn framed(mut request: Request<()>, body: &AttemptBody) -> Request<()> {
    let has_content = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    if let Some(length) = body.size_hint().exact().filter(|length| *length > 0 || has_content) {
        request.headers_mut().entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
    if body.awaits_continue() {
        request.headers_mut().insert(EXPECT, HeaderValue::from_static("100-continue"));
    }
    request
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        // None until the peer has said how many.
        .initial_max_send_streams(0)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(MAX_HEADER_LIST)
        .enable_push(false);
    builder
}

fn now_ms() -> u64 {
    uptime().as_millis() as u64
}

/// Streams of one connection at a time, whatever more its peer would take.
const MAX_STREAMS: usize = 100;
/// What an origin may send on all streams before their clients take it: as much as all of them together, so that clients that
/// take nothing hold up nobody else's answer on the connection that they share.
const CONNECTION_WINDOW: u32 = MAX_STREAMS as u32 * STREAM_WINDOW;
/// What waits to be sent on one stream.
const SEND_BUFFER: usize = 256 * 1024;
/// An answer's head and its trailers, as HPACK counts them.
pub(super) const MAX_HEADER_LIST: u32 = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_takes_the_form_of_http2() {
        let request = Request::post("/a?b").header("host", "api.example.com:8443").header("connection", "te");
        let request = request.header("te", "trailers").header("x-other", "1").body(()).unwrap();
        let sent = in_http2(request, &Scheme::HTTPS);
        assert_eq!(sent.uri(), "https://api.example.com:8443/a?b");
        assert_eq!(sent.version(), Version::HTTP_2);
        let names: Vec<&str> = sent.headers().keys().map(http::HeaderName::as_str).collect();
        assert_eq!(names, ["te", "x-other"]);
    }
}
