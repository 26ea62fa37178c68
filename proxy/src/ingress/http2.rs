//! HTTP/2 on one connection. What it has agreed on with its client (settings, compression, streams) outlives any pause, so
//! that it can rest less than HTTP/1.1 does: only the buffer of its output goes.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use config::Limits;
use http::{Method, Request};
use hyper::body::{Body, Incoming};
use hyper::ext::Protocol;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::body_budget::UnreadContent;
use crate::client_connection::ClientConnection;
use crate::client_content::ClientContent;
use crate::client_stream::ClientStream;
use crate::clock::coarse_ms;
use crate::exchange::{Received, serve};
use crate::http2_content::{Http2Content, STREAM_WINDOW};
use crate::ingress::client_tunnel::{self, WriterTask};
use crate::ingress::cork::Corked;
use crate::ingress::frames::{Answered, FrameWatch};
use crate::ingress::http1::LINGER;
use crate::ingress::streams::Streams;
use crate::ingress::watchdog::{Order, Watched};
use crate::node::Worker;
use crate::request_log::shown;
use crate::telemetry::client_abuse::Abuse;

/// Serves requests on a connection until either side ends it.
pub(crate) async fn serve_http2(
    worker: Arc<Worker>,
    connection: Arc<ClientConnection>,
    watched: Arc<Watched>,
    stream: ClientStream,
) {
    let (streams, answered) = (Streams::default(), Answered::default());
    let (node, peer) = (worker.node.clone(), connection.peer.ip());
    let most_streams = node.overload.actions().streams(MAX_STREAMS);
    // As much for each stream, so that those which nobody reads do not keep the others from sending, whose clients would be
    // taken for slow.
    let window = most_streams * STREAM_WINDOW;
    let unread = UnreadContent::of(&node.bodies, window.into());
    watched.has_streams(streams.clone(), unread.clone());
    // A proxy's or a node's cancellations are its clients'.
    let is_client = connection.node().is_none() && !node.databases.load().trusted.contains(peer);
    let owed = if is_client { node.cancellations.owed(peer, coarse_ms()) } else { 0 };
    // It counts among its client's for as long as its socket is open.
    let open = connection.clone();
    let corked = Corked::new(FrameWatch::new(stream, watched.activity.clone(), answered.clone(), owed, unread.clone()));
    let http = builder(streams.clone(), &watched.config.limits, most_streams, window);
    let service = service_fn(move |request: Request<Incoming>| {
        let (worker, connection, answered) = (worker.clone(), connection.clone(), answered.clone());
        let progress = streams.begin();
        let (received, writer) = received(request, &unread);
        let streams = writer.is_some().then(|| streams.clone());
        // Boxed, since HTTP and the runtime move it about.
        Box::pin(async move {
            let mut answer = serve(worker, connection, received).await;
            answered.count();
            answer.body_mut().tell(progress);
            // hyper makes a tunnel of it, and starts its task, before anything else.
            if let Some((streams, writer)) = streams.zip(writer).filter(|_| answer.status().is_success()) {
                streams.tunnel(writer);
            }
            Ok::<_, Infallible>(answer)
        })
    });
    let mut http = http.serve_connection(TokioIo::new(corked.clone()), service);
    let end = poll_fn(|cx| {
        match watched.order(cx) {
            Some(Order::Cut) => return Poll::Ready(End::Now),
            Some(Order::Close) => Pin::new(&mut http).graceful_shutdown(),
            Some(Order::Rest) => {
                corked.give_back();
                watched.set_may_rest(false);
            }
            None => watched.set_may_rest(true),
        }
        corked.with_stream(FrameWatch::begin_turn);
        let mut polled = Pin::new(&mut http).poll(cx);
        // What all streams have written in this turn leaves together. What is left when the connection has ended, such
        // as a GOAWAY, is tried once.
        let mut flushed = corked.poll_uncork(cx);
        watched.activity.set_full(flushed.is_pending());
        if let Some(abuse) = corked.with_stream(|frames| frames.abuse()) {
            // HTTP may be amid a frame that is longer than what is held back.
            for _ in 0..MOST_TURNS_TO_END {
                if polled.is_ready() || !matches!(flushed, Poll::Ready(Ok(()))) || say_last_word(&corked, cx) {
                    break;
                }
                polled = Pin::new(&mut http).poll(cx);
                flushed = corked.poll_uncork(cx);
            }
            return Poll::Ready(End::Abuse(abuse));
        }
        match (polled, flushed) {
            (Poll::Ready(Ok(())), _) => {}
            (Poll::Ready(Err(error)), _) => {
                tracing::debug!(%error, "connection ended");
                return Poll::Ready(match fault(&error) {
                    Some(h2::Reason::ENHANCE_YOUR_CALM) => End::Abuse(corked.with_stream(|frames| frames.excess())),
                    Some(_) => End::Fault,
                    None => End::Now,
                });
            }
            (Poll::Pending, Poll::Ready(Err(error))) => tracing::debug!(%error, "connection ended"),
            (Poll::Pending, Poll::Ready(Ok(())) | Poll::Pending) => return Poll::Pending,
        }
        Poll::Ready(End::Now)
    })
    .await;
    // What its streams have under way ends with it.
    drop(http);
    if is_client {
        node.cancellations.leave(peer, corked.with_stream(FrameWatch::owed), coarse_ms());
    }
    match end {
        End::Now => return,
        End::Fault => {}
        End::Abuse(abuse) => {
            let client = shown(peer, watched.config.log.client_addresses);
            node.telemetry.abuse.tell(&node.telemetry.metrics, abuse, client);
        }
    }
    linger(&corked, &watched).await;
    drop(open);
}

/// How a connection ends.
enum End {
    /// At once: both sides have done with it, or it is cut.
    Now,
    /// By a GOAWAY, since the client has broken the protocol.
    Fault,
    /// By a GOAWAY, since the client does this.
    Abuse(Abuse),
}

/// Ends a connection so that a client which is still sending gets the GOAWAY: closed at once, what it has sent meanwhile would
/// have it reset.
async fn linger(corked: &Corked<FrameWatch<ClientStream>>, watched: &Watched) {
    let ending = async {
        let mut writing = corked.clone();
        if poll_fn(|cx| Pin::new(&mut writing).poll_shutdown(cx)).await.is_ok() {
            poll_fn(|cx| corked.with_stream(|frames| frames.poll_discard(cx))).await;
        }
    };
    let _ = watched.unless_cut(timeout(LINGER, ending)).await;
}

/// Sends a GOAWAY that asks for calm, if a frame may begin now; returns whether it did.
fn say_last_word<S: AsyncRead + AsyncWrite + Unpin>(corked: &Corked<FrameWatch<S>>, cx: &mut Context<'_>) -> bool {
    let Some(word) = corked.with_stream(|frames| frames.last_word()) else { return false };
    // A client that does not read has it taken away unheard.
    drop(Pin::new(&mut corked.clone()).poll_write(cx, &word));
    drop(corked.poll_uncork(cx));
    true
}

/// Returns for what HTTP has ended a connection by itself: ENHANCE_YOUR_CALM past its own limits.
fn fault(error: &hyper::Error) -> Option<h2::Reason> {
    let cause = error.source().and_then(|source| source.downcast_ref::<h2::Error>())?;
    if cause.is_remote() { None } else { cause.reason() }
}

/// Makes what is to be served of a stream's request. HTTP/2's framing leaves no doubt, and hyper takes no interim answers.
/// A WebSocket's extended CONNECT (RFC 8441) is the GET that HTTP/1.1 has for it, with the task that will write its tunnel.
fn received(mut request: Request<Incoming>, unread: &Arc<UnreadContent>) -> (Received, Option<WriterTask>) {
    let mut writer = None;
    let mut client_side = None;
    if *request.method() == Method::CONNECT && asks_websocket(&request) {
        *request.method_mut() = Method::GET;
        let task = writer.insert(WriterTask::default());
        client_side = Some(client_tunnel::client_side(&mut request, task.clone()));
    }
    let request = request.map(|content| match content.is_end_stream() {
        true => ClientContent::Nothing,
        false => ClientContent::Http2(Http2Content::of_client(content, unread.clone())),
    });
    (Received { request, fault: None, interim: None, expects_continue: false, client_side }, writer)
}

fn asks_websocket<B>(request: &Request<B>) -> bool {
    request.extensions().get::<Protocol>().is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case("websocket"))
}

fn builder(streams: Streams, limits: &Limits, most_streams: u32, window: u32) -> Builder<Streams> {
    let mut builder = Builder::new(streams);
    builder
        .max_concurrent_streams(most_streams)
        .max_header_list_size(u32::try_from(limits.header_bytes * 2).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(window)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .enable_connect_protocol()
        // [`crate::ingress::frame_budget`] judges them by their rate; this would be for the life of a connection.
        .max_local_error_reset_streams(None);
    builder
}

/// Streams of one connection at a time: nginx's and Envoy's order of magnitude.
const MAX_STREAMS: u32 = 100;
/// What waits to be sent on one stream.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams that are reset before they are served (CVE-2023-44487). The frames' budget ends a connection before, since it
/// lets no more through at one time.
const MAX_PENDING_RESETS: usize = 256;
/// What HTTP has under way leaves with some times what the cork holds; a connection that is cut is owed no more.
const MOST_TURNS_TO_END: usize = 8;
