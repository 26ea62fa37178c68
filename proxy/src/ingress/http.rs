//! HTTP/1.1 and HTTP/2 on one connection.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use config::Limits;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::client_connection::ClientConnection;
use crate::exchange::serve;
use crate::ingress::head::Inspected;
use crate::ingress::watchdog::{Overdue, Watchdog};
use crate::node::Worker;
use crate::occupancy::Drain;

/// Serves requests on a connection until either side ends it.
pub(crate) async fn serve_connection<S>(worker: Arc<Worker>, connection: Arc<ClientConnection>, stream: S, http2: bool)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = worker.node.config.load().limits.clone();
    let mut drain = worker.node.occupancy.watch_drain();
    let mut watchdog = Watchdog::new(&limits);
    let activity = connection.activity.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let exchange = serve(worker.clone(), connection.clone(), request);
        async move { Ok::<_, Infallible>(exchange.await) }
    });

    // The same life for both protocols, whose connection types have no trait in common.
    macro_rules! live {
        ($connection:expr, $close_from:expr) => {{
            let mut connection = pin!($connection);
            let mut closing = false;
            loop {
                tokio::select! {
                    result = connection.as_mut() => {
                        if let Err(error) = result {
                            tracing::debug!(%error, "connection ended");
                        }
                        return;
                    }
                    overdue = watchdog.overdue(&activity) => match overdue {
                        Overdue::Stuck => return,
                        Overdue::Idle if closing => return,
                        // Asked to go; whoever does not by the next look is cut.
                        Overdue::Idle => {
                            closing = true;
                            connection.as_mut().graceful_shutdown();
                        }
                    },
                    () = drained(&mut drain, $close_from), if !closing => {
                        closing = true;
                        connection.as_mut().graceful_shutdown();
                    }
                }
            }
        }};
    }

    if http2 {
        // GOAWAY names the last stream it serves, so that closing at once loses nothing.
        live!(http2_builder(&limits).serve_connection(TokioIo::new(stream), service), Drain::Announced);
    } else {
        let io = TokioIo::new(Inspected::new(stream, activity.clone(), limits.header_bytes * 2));
        live!(http1_builder(&limits).serve_connection(io, service).with_upgrades(), Drain::Closing);
    }
}

async fn drained(drain: &mut watch::Receiver<Drain>, from: Drain) {
    if drain.wait_for(|stage| *stage >= from).await.is_err() {
        // The node is gone: so is the process.
        std::future::pending::<()>().await;
    }
}

/// Makes the parser of HTTP/1. The parsers' limits on heads are twice the node's: see [`crate::framing::HeadSize`].
fn http1_builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // The watchdog tells a slow head from an idle connection; hyper's own timeout does not.
        .header_read_timeout(None)
        .max_headers(limits.headers * 2)
        .max_header_size(limits.header_bytes * 2)
        .writev(false)
        .half_close(false);
    builder
}

fn http2_builder(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
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
