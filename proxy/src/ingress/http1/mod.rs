//! HTTP/1.1 on one client's connection: one request after the other, each read, served and answered by the connection's
//! task. Between requests nothing is held but the socket, its TLS and what the watchdog looks at.
//!
//! hyper's server would forgive heads that can be read in two ways, answer `Expect` before anybody was asked, take a client
//! that has closed its side for one that has gone, keep interim answers to itself, and refuse without a trace what its
//! parser dislikes. httparse reads heads; what RFC 9112 asks of a server beyond that is in these files.

mod client_io;
mod request_head;
mod response_head;

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{Response, StatusCode};
use http_body::Body;
use prometheus::IntGauge;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::client_connection::ClientConnection;
use crate::client_content::ClientContent;
use crate::client_stream::ClientStream;
use crate::exchange::{Received, serve};
use crate::framing::payload;
use crate::http1::{EncodeError, Encoder, Framing};
use crate::ingress::watchdog::{Order, Watched};
use crate::node::Worker;
use crate::response_body::ResponseBody;
use crate::tunnel::ClientSide;
use client_io::{ClientIo, Meanwhile};
use request_head::RequestHead;
use response_head::{Asked, write_head};

/// Serves requests on a connection until either side ends it.
pub(crate) async fn serve_http1(
    worker: Arc<Worker>,
    connection: Arc<ClientConnection>,
    watched: Arc<Watched>,
    stream: ClientStream,
) {
    let mut server = Server { io: ClientIo::new(stream), worker, connection, watched, is_closing: false };
    while let Some(head) = server.next_head().await {
        // In a box of its own, which an idle connection does not have.
        match Box::pin(server.exchange(head)).await {
            Next::Request => {}
            Next::Close => break,
            Next::Nothing => {
                // An upload that goes on beside its answer ends with its connection.
                drop(server.io.lock().take());
                return;
            }
        }
    }
    Box::pin(server.close()).await;
    drop(server.io.lock().take());
}

/// One connection's server. It lives in the connection's task.
struct Server {
    io: Arc<ClientIo>,
    worker: Arc<Worker>,
    connection: Arc<ClientConnection>,
    watched: Arc<Watched>,
    /// It was asked to close once it has nothing to do.
    is_closing: bool,
}

/// What follows an answer.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Request,
    /// An orderly end.
    Close,
    /// The connection is cut, or no longer ours.
    Nothing,
}

impl Server {
    /// Waits for the next head; `None` when there will be none.
    async fn next_head(&mut self) -> Option<RequestHead> {
        let Self { io, worker, connection, watched, is_closing } = self;
        let longest = watched.config.limits.header_bytes * 2;
        let mut resting = None;
        watched.set_may_rest(true);
        poll_fn(|cx| {
            match watched.order(cx) {
                Some(Order::Cut) => {
                    // Nothing is owed to anybody.
                    drop(io.lock().take());
                    return Poll::Ready(None);
                }
                Some(Order::Close) => *is_closing = true,
                Some(Order::Rest) if !io.lock().has_begun() => {
                    resting.get_or_insert_with(|| Resting::begin(&worker.metrics.resting_connections));
                    watched.set_may_rest(false);
                }
                Some(Order::Rest) | None => {}
            }
            let mut io = io.lock();
            let on_bytes = || connection.activity.received();
            match io.poll_head(cx, longest, on_bytes) {
                Poll::Ready(Ok(head)) => Poll::Ready(head),
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "connection failed");
                    drop(io.take());
                    Poll::Ready(None)
                }
                // What has begun to arrive is still served.
                Poll::Pending if *is_closing && !io.has_begun() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Serves a request, and writes its answer.
    async fn exchange(&mut self, head: RequestHead) -> Next {
        let asked = Asked {
            version: head.request.version(),
            is_head: head.request.method() == http::Method::HEAD,
            keeps_alive: head.keeps_alive,
            takes_trailers: head.takes_trailers,
        };
        let (to_tunnel, received) = self.received(head);
        let Some(response) = self.answer(received).await else { return Next::Nothing };
        let (head, body) = response.into_parts();
        let mut output = self.io.lock().begin_answer();
        output.reserve(USUAL_ANSWER);
        let framed = write_head(&mut output, &head, &body.size_hint(), asked, self.is_closing);
        let switches = head.status == StatusCode::SWITCHING_PROTOCOLS;
        drop(head);
        let written =
            self.write(Encoder::new(output, framed.framing, asked.takes_trailers, body).releasing_body()).await;
        match written {
            Some(Ok(())) => {}
            Some(Err(EncodeError::Io(error))) => {
                tracing::debug!(%error, "an answer was not taken");
                return Next::Nothing;
            }
            // It must look cut off, which an orderly end would not where only the end of the connection ends it.
            Some(Err(EncodeError::Body)) => {
                if framed.framing == Framing::UntilClose
                    && let Ok(stream) = self.io.lock().stream()
                {
                    stream.reset();
                }
                return Next::Nothing;
            }
            None => return Next::Nothing,
        }
        let mut io = self.io.lock();
        if let Some(to_tunnel) = to_tunnel.filter(|_| switches) {
            // A tunnel that waits no more has ended; so does the connection.
            if let Some(upgraded) = io.take() {
                drop(to_tunnel.send(upgraded));
            }
            return Next::Nothing;
        }
        if framed.keeps_alive && !self.is_closing && io.is_ready_for_next() { Next::Request } else { Next::Close }
    }

    /// Makes a request out of its head, and of what follows on the connection.
    fn received(&self, head: RequestHead) -> (Option<oneshot::Sender<Upgraded>>, Received) {
        let content = self.io.content(&head);
        let content = content.map_or(ClientContent::Nothing, ClientContent::Http1);
        let request = head.request.map(|()| content);
        let (to_tunnel, client_side) = match payload(&request) {
            policy::Payload::Tunnel => {
                let (sender, receiver) = oneshot::channel::<Upgraded>();
                let client_side: ClientSide =
                    Box::pin(async { Ok(Box::new(receiver.await.map_err(io::Error::other)?) as _) });
                (Some(sender), Some(client_side))
            }
            policy::Payload::Nothing | policy::Payload::Content => (None, None),
        };
        let expects_continue = head.expects_continue;
        let interim = Some(self.io.clone() as _);
        (to_tunnel, Received { request, fault: head.fault, interim, expects_continue, client_side })
    }

    /// Has a request answered; `None` when its client has gone, or the connection is cut.
    async fn answer(&mut self, received: Received) -> Option<Response<ResponseBody>> {
        let longest = self.watched.config.limits.header_bytes * 2;
        let Self { io, worker, connection, watched, is_closing } = self;
        let mut serving = pin!(serve(worker.clone(), connection.clone(), received));
        poll_fn(|cx| {
            match watched.order(cx) {
                Some(Order::Cut) => return Poll::Ready(None),
                Some(Order::Close) => *is_closing = true,
                Some(Order::Rest) | None => {}
            }
            if let Poll::Ready(response) = serving.as_mut().poll(cx) {
                return Poll::Ready(Some(response));
            }
            let looked = io.lock().poll_meanwhile(cx, longest);
            match looked {
                Ok(Meanwhile::Nothing) => Poll::Pending,
                Ok(Meanwhile::Ended) => {
                    connection.activity.has_ended();
                    Poll::Pending
                }
                Err(error) => {
                    tracing::debug!(%error, "a client has gone");
                    Poll::Ready(None)
                }
            }
        })
        .await
    }

    /// Writes an answer; `None` when the connection is cut.
    async fn write(&mut self, mut answer: Encoder<ResponseBody>) -> Option<Result<(), EncodeError>> {
        let longest = self.watched.config.limits.header_bytes * 2;
        let Self { io, connection, watched, is_closing, .. } = self;
        let mut progress = answer.progress();
        poll_fn(|cx| {
            match watched.order(cx) {
                Some(Order::Cut) => return Poll::Ready(None),
                Some(Order::Close) => *is_closing = true,
                Some(Order::Rest) | None => {}
            }
            let mut io = io.lock();
            let polled = match io.stream() {
                Ok(stream) => answer.poll(stream, cx),
                Err(error) => Poll::Ready(Err(EncodeError::Io(error))),
            };
            if polled.is_ready() {
                return polled.map(Some);
            }
            if std::mem::replace(&mut progress, answer.progress()) != answer.progress() {
                connection.activity.took();
            }
            match io.poll_meanwhile(cx, longest) {
                Ok(Meanwhile::Nothing) => Poll::Pending,
                Ok(Meanwhile::Ended) => {
                    connection.activity.has_ended();
                    Poll::Pending
                }
                Err(error) => Poll::Ready(Some(Err(EncodeError::Io(error)))),
            }
        })
        .await
    }

    /// Ends the connection so that the client gets all that was written: it is told that no more comes, and what it still
    /// sends is taken for a while (RFC 9112, 9.6).
    async fn close(&mut self) {
        let Self { io, watched, .. } = self;
        if watched.unless_cut(poll_fn(|cx| io.lock().poll_shutdown(cx))).await.is_none_or(|ended| ended.is_err()) {
            return;
        }
        if !io.lock().is_sending(&mut Context::from_waker(Waker::noop())) {
            return;
        }
        // An upload that goes on beside its answer has its own limits.
        if watched.unless_cut(io.released()).await.is_none() {
            return;
        }
        let discarding = watched.unless_cut(poll_fn(|cx| io.lock().poll_discard(cx)));
        drop(timeout(LINGER, discarding).await);
    }
}

/// A client's side of a connection whose protocol was changed.
type Upgraded = crate::http1::Upgraded<ClientStream>;

/// Counts a connection as at rest.
struct Resting(IntGauge);

impl Resting {
    fn begin(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Resting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Most heads of answers are shorter, with a short content.
const USUAL_ANSWER: usize = 1024;
/// For how long a client that is still sending is listened to after its answer; nginx's `lingering_timeout`.
pub(in crate::ingress) const LINGER: Duration = Duration::from_secs(5);
