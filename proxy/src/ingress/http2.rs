//! HTTP/2 on one connection. What it has agreed on with its client (settings, compression, streams) outlives any pause, so
//! that it can rest less than HTTP/1.1 does: only the buffer of its output goes.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use config::Limits;
use http::Request;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::client_connection::ClientConnection;
use crate::client_content::ClientContent;
use crate::client_stream::ClientStream;
use crate::exchange::{Received, serve};
use crate::http2_content::Http2Content;
use crate::ingress::cork::Corked;
use crate::ingress::frames::FrameWatch;
use crate::ingress::watchdog::{Order, Watched};
use crate::node::Worker;

/// Serves requests on a connection until either side ends it.
pub(crate) async fn serve_http2(
    worker: Arc<Worker>,
    connection: Arc<ClientConnection>,
    watched: Arc<Watched>,
    stream: ClientStream,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (worker, connection) = (worker.clone(), connection.clone());
        // Boxed, since HTTP and the runtime move it about.
        Box::pin(async move { Ok::<_, Infallible>(serve(worker, connection, received(request)).await) })
    });
    let corked = Corked::new(FrameWatch::new(stream, watched.activity.clone()));
    let mut http = builder(&watched.config.limits).serve_connection(TokioIo::new(corked.clone()), service);
    poll_fn(|cx| {
        match watched.order(cx) {
            Some(Order::Cut) => return Poll::Ready(()),
            Some(Order::Close) => Pin::new(&mut http).graceful_shutdown(),
            Some(Order::Rest) => {
                corked.give_back();
                watched.set_may_rest(false);
            }
            None => watched.set_may_rest(true),
        }
        let polled = Pin::new(&mut http).poll(cx);
        // What all streams have written in this turn leaves together. What is left when the connection has ended, such
        // as a GOAWAY, is tried once.
        let flushed = corked.poll_uncork(cx);
        match (polled, flushed) {
            (Poll::Ready(Ok(())), _) => {}
            (Poll::Ready(Err(error)), _) => tracing::debug!(%error, "connection ended"),
            (Poll::Pending, Poll::Ready(Err(error))) => tracing::debug!(%error, "connection ended"),
            (Poll::Pending, Poll::Ready(Ok(())) | Poll::Pending) => return Poll::Pending,
        }
        Poll::Ready(())
    })
    .await;
}

/// Makes what is to be served of a stream's request. HTTP/2's framing leaves no doubt, and hyper takes no interim answers.
fn received(request: Request<Incoming>) -> Received {
    let request = request.map(|content| match content.is_end_stream() {
        true => ClientContent::Nothing,
        false => ClientContent::Http2(Http2Content::new(content)),
    });
    Received { request, fault: None, interim: None, expects_continue: false, client_side: None }
}

fn builder(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(limits.header_bytes * 2).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_LOCAL_RESETS);
    builder
}

/// Streams of one connection at a time: nginx's and Envoy's order of magnitude.
const MAX_STREAMS: u32 = 100;
/// What a client may send on one stream before its request is read on.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same over all streams of a connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What waits to be sent on one stream.
const SEND_BUFFER: usize = 256 * 1024;
/// Streams reset before they were served (CVE-2023-44487), and for the client's errors.
const MAX_PENDING_RESETS: usize = 20;
const MAX_LOCAL_RESETS: usize = 256;
