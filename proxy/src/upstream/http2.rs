//! An HTTP/2 connection to an upstream, which many requests share.

use std::error::Error;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Notify;

use crate::clock::uptime;
use crate::headers::RequestHead;
use crate::http2_content::Http2Content;
use crate::peers::gateway::Counterpart;
use crate::request_body::AttemptBody;
use crate::upstream::answer_error::AnswerError;
use crate::upstream::http1::OriginStream;
use crate::upstream::link::{ConnectError, Link, SendError};
use crate::upstream::socket::IdleProbe;

/// A connection whose peer has said that it speaks HTTP/2, and how much of it. It belongs to one worker's thread, and
/// closes once no request and no pool holds it.
#[derive(Debug)]
pub(crate) struct Http2 {
    sender: SendRequest<AttemptBody>,
    scheme: Scheme,
    link: Link,
    socket: IdleProbe,
    /// Requests that have a place on it.
    streams: AtomicUsize,
    /// How many it takes at a time.
    limit: Arc<AtomicUsize>,
    /// When its last stream ended, in milliseconds of [`uptime`].
    idle_since_ms: AtomicU64,
    /// A request has found it broken.
    broken: AtomicBool,
    /// Whether its peer has announced that it takes extended CONNECT.
    takes_tunnels: bool,
}

/// One request's place on a shared connection, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Stream {
    connection: Arc<Http2>,
    sender: SendRequest<AttemptBody>,
    /// The content of the answer, once that has begun.
    answer: Option<Http2Content>,
}

impl Http2 {
    /// Speaks HTTP/2 on a stream, and waits for the peer's SETTINGS: before them nobody knows how
    /// many requests it takes, nor whether it speaks HTTP/2 at all, and no request is lost on one
    /// that does not.
    ///
    /// # Errors
    /// When the peer closes the stream, or speaks otherwise.
    pub(crate) async fn open(stream: OriginStream, link: Link) -> Result<Self, ConnectError> {
        let scheme = if stream.is_tls() { Scheme::HTTPS } else { Scheme::HTTP };
        let socket = IdleProbe::on(stream.tcp())?;
        let tasks = Tasks::default();
        let (sender, mut connection) = builder(tasks.clone()).handshake(TokioIo::new(stream)).await?;
        while connection.current_max_send_streams() == 0 {
            tokio::select! {
                ended = &mut connection => {
                    ended?;
                    return Err(ConnectError::NoSettings);
                }
                () = tasks.progress.notified() => {}
            }
        }
        tasks.is_settled.store(true, Ordering::Relaxed);
        let takes_tunnels = connection.is_extended_connect_protocol_enabled();
        let limit = Arc::new(AtomicUsize::new(connection.current_max_send_streams().min(MAX_STREAMS)));
        let latest = limit.clone();
        tokio::spawn(async move {
            let ended = std::future::poll_fn(|cx| {
                let polled = Pin::new(&mut connection).poll(cx);
                // Polled for each request: a peer that lowers its limit is obeyed one request later.
                latest.store(connection.current_max_send_streams().min(MAX_STREAMS), Ordering::Relaxed);
                polled
            });
            if let Err(error) = ended.await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        let idle_since_ms = AtomicU64::new(now_ms());
        Ok(Self {
            sender,
            scheme,
            link,
            socket,
            streams: AtomicUsize::new(0),
            limit,
            idle_since_ms,
            broken: AtomicBool::new(false),
            takes_tunnels,
        })
    }

    /// Takes a place on it, if it is open and has one left.
    pub(crate) fn stream(self: &Arc<Self>) -> Option<Stream> {
        if self.is_closed() {
            return None;
        }
        // The pool's lock is held: nobody else takes one at the same time.
        if self.streams.load(Ordering::Relaxed) >= self.limit() {
            return None;
        }
        self.streams.fetch_add(1, Ordering::Relaxed);
        Some(Stream { connection: self.clone(), sender: self.sender.clone(), answer: None })
    }

    /// Returns how many requests it takes at a time.
    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Returns whether its peer takes WebSockets (RFC 8441).
    pub(crate) fn takes_tunnels(&self) -> bool {
        self.takes_tunnels
    }

    /// Returns whether it takes no more requests: it is broken, its peer has said GOAWAY, or its endpoint's name
    /// stands for other addresses now.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed() || !self.link.leads_there()
    }

    /// Returns whether no request has a place on it.
    pub(crate) fn is_idle(&self) -> bool {
        self.streams.load(Ordering::Relaxed) == 0
    }

    /// Returns whether it has been idle for so long.
    pub(crate) fn is_idle_for(&self, timeout: Duration) -> bool {
        let since = Duration::from_millis(self.idle_since_ms.load(Ordering::Relaxed));
        self.is_idle() && uptime().saturating_sub(since) >= timeout
    }
}

impl Stream {
    /// Sends a request, and waits for its answer's head.
    ///
    /// # Errors
    /// See [`SendError`].
    pub(crate) async fn send(&mut self, head: &RequestHead<'_>, body: AttemptBody) -> Result<Response<()>, SendError> {
        let alone = self.connection.streams.load(Ordering::Relaxed) == 1;
        if alone && !self.connection.socket.is_quiet() {
            // What has come while it was idle may be its end: it is read before the request is sent.
            tokio::task::yield_now().await;
        }
        let request = in_http2(head.to_request(), &self.connection.scheme).map(|()| body);
        let answer = self.sender.try_send_request(request).await.map_err(|mut error| match error.take_message() {
            Some(unsent) => SendError::Unsent(unsent.into_body()),
            None if of_http2(error.error()).is_some_and(is_unprocessed) => SendError::Unprocessed,
            None => SendError::Broken(error.into_error().into()),
        })?;
        let (parts, content) = answer.into_parts();
        self.answer = Some(Http2Content::new(content));
        Ok(Response::from_parts(parts, ()))
    }

    /// Returns the next piece of the answer's content, or its trailers.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        match &mut self.answer {
            Some(content) => Pin::new(content).poll_frame(cx).map_err(AnswerError::from),
            None => Poll::Ready(None),
        }
    }

    /// Returns whether all of the answer was read.
    pub(crate) fn is_end_stream(&self) -> bool {
        self.answer.as_ref().is_none_or(Body::is_end_stream)
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
        self.connection.streams.load(Ordering::Relaxed) == 1
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.connection.idle_since_ms.store(now_ms(), Ordering::Relaxed);
        self.connection.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

fn of_http2(error: &hyper::Error) -> Option<&h2::Error> {
    error.source().and_then(|source| source.downcast_ref::<h2::Error>())
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

fn builder(tasks: Tasks) -> http2::Builder<Tasks> {
    let mut builder = http2::Builder::new(tasks);
    builder
        .timer(TokioTimer::new())
        // None until the peer has said how many.
        .initial_max_send_streams(0)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(MAX_HEADER_LIST)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true);
    builder
}

fn now_ms() -> u64 {
    uptime().as_millis() as u64
}

/// Spawns hyper's tasks of one connection, and tells of their progress until it is settled.
#[derive(Clone, Debug, Default)]
struct Tasks {
    progress: Arc<Notify>,
    is_settled: Arc<AtomicBool>,
}

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        if self.is_settled.load(Ordering::Relaxed) {
            tokio::spawn(future);
            return;
        }
        let tasks = self.clone();
        tokio::spawn(async move {
            let mut future = pin!(future);
            std::future::poll_fn(|cx| {
                let polled: Poll<()> = future.as_mut().poll(cx);
                if !tasks.is_settled.load(Ordering::Relaxed) {
                    tasks.progress.notify_one();
                }
                polled
            })
            .await;
        });
    }
}

/// Streams of one connection at a time, whatever more its peer would take.
const MAX_STREAMS: usize = 100;
/// What an origin may send on one stream before its client takes it.
const STREAM_WINDOW: u32 = 512 * 1024;
/// The same over all streams: as much as all of them may send, so that clients that take nothing
/// hold up nobody else's answer on the connection that they share.
const CONNECTION_WINDOW: u32 = MAX_STREAMS as u32 * STREAM_WINDOW;
/// What waits to be sent on one stream.
const SEND_BUFFER: usize = 256 * 1024;
/// An answer's head and its trailers, as HPACK counts them.
pub(super) const MAX_HEADER_LIST: u32 = 256 * 1024;
/// A peer that is dead is noticed even when nobody asks it anything.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

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
