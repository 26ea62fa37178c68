//! HTTP/2 on one connection. What it has agreed on with its client (settings, compression, streams) outlives any pause, so
//! that it can rest less than HTTP/1.1 does: only the buffer of its output goes.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use config::Limits;
use h2::Reason;
use h2::server::{Builder, Connection, Handshake};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::body_budget::UnreadContent;
use crate::client_connection::ClientConnection;
use crate::client_stream::ClientStream;
use crate::clock::coarse_ms;
use crate::http2::STREAM_WINDOW;
use crate::ingress::cork::Corked;
use crate::ingress::frames::{Answered, FrameWatch};
use crate::ingress::http1::LINGER;
use crate::ingress::stream::{self, Shared};
use crate::ingress::streams::Streams;
use crate::ingress::unwritten::Unwritten;
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
    let unread = UnreadContent::of(&worker.bodies, window.into());
    watched.has_streams(streams.clone(), unread.clone());
    // A proxy's or a node's cancellations are its clients'.
    let is_client = connection.node().is_none() && !node.databases.load().trusted.contains(peer);
    let owed = if is_client { node.cancellations.owed(peer, coarse_ms()) } else { 0 };
    let corked = Corked::new(FrameWatch::new(stream, watched.activity.clone(), answered.clone(), owed, unread.clone()));
    let mut http = Http::open(corked.clone(), &watched.config.limits, most_streams, window);
    // With it the connection counts among its client's, for as long as its socket is open.
    let unwritten = Unwritten::of(&node.bodies);
    let shared = Arc::new(Shared { worker, connection, answered, unread, unwritten, streams });
    let end = poll_fn(|cx| {
        match watched.order(cx) {
            Some(Order::Cut) => return Poll::Ready(End::Now),
            Some(Order::Close) => http.close(),
            Some(Order::Rest) => {
                corked.give_back();
                shared.streams.give_back();
                watched.set_may_rest(false);
            }
            None => watched.set_may_rest(true),
        }
        corked.with_stream(FrameWatch::begin_turn);
        let mut polled = http.poll(cx, &shared);
        // What all streams have written in this turn leaves together. What is left when the connection has ended, such
        // as a GOAWAY, is tried once.
        let mut flushed = corked.poll_uncork(cx);
        watched.activity.set_full(flushed.is_pending());
        if flushed.is_ready() {
            shared.unwritten.clear();
        }
        if let Some(abuse) = corked.with_stream(|frames| frames.abuse()) {
            // HTTP may be amid a frame that is longer than what is held back.
            for _ in 0..MOST_TURNS_TO_END {
                if polled.is_ready() || !matches!(flushed, Poll::Ready(Ok(()))) || say_last_word(&corked, cx) {
                    break;
                }
                polled = http.poll(cx, &shared);
                flushed = corked.poll_uncork(cx);
            }
            return Poll::Ready(End::Abuse(abuse));
        }
        match (polled, flushed) {
            (Poll::Ready(Ok(())), _) => {}
            (Poll::Ready(Err(error)), _) => {
                tracing::debug!(%error, "connection ended");
                return Poll::Ready(match fault(&error) {
                    Some(Reason::ENHANCE_YOUR_CALM) => End::Abuse(corked.with_stream(|frames| frames.excess())),
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
}

/// A connection, from its preface on.
enum Http {
    Opening {
        handshake: Handshake<Corked<FrameWatch<ClientStream>>, Bytes>,
        /// Whether it is to close once it is open.
        closes: bool,
    },
    Open(Connection<Corked<FrameWatch<ClientStream>>, Bytes>),
}

impl Http {
    fn open(stream: Corked<FrameWatch<ClientStream>>, limits: &Limits, most_streams: u32, window: u32) -> Self {
        Self::Opening { handshake: builder(limits, most_streams, window).handshake(stream), closes: false }
    }

    /// Does what there is to do, and starts the streams that have begun. Ready at the connection's end.
    fn poll(&mut self, cx: &mut Context<'_>, shared: &Arc<Shared>) -> Poll<Result<(), h2::Error>> {
        loop {
            match self {
                Self::Opening { handshake, closes } => {
                    let mut connection = ready!(Pin::new(handshake).poll(cx))?;
                    if *closes {
                        connection.graceful_shutdown();
                    }
                    *self = Self::Open(connection);
                }
                Self::Open(connection) => match ready!(connection.poll_accept(cx)).transpose()? {
                    Some((request, stream)) => stream::begin(shared.clone(), request, stream),
                    None => return Poll::Ready(Ok(())),
                },
            }
        }
    }

    /// Has the client told that no further request is served.
    fn close(&mut self) {
        match self {
            Self::Opening { closes, .. } => *closes = true,
            Self::Open(connection) => connection.graceful_shutdown(),
        }
    }
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
fn fault(error: &h2::Error) -> Option<Reason> {
    if error.is_remote() { None } else { error.reason() }
}

fn builder(limits: &Limits, most_streams: u32, window: u32) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(most_streams)
        .max_header_list_size(u32::try_from(limits.header_bytes * 2).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(window)
        .max_send_buffer_size(SEND_BUFFER)
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
