//! HTTP/1.1 on one connection. While it idles it rests: HTTP's state and its buffers are gone, and only the socket, its
//! TLS and what the watchdog looks at are kept.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use config::Limits;
use http::header::CONNECTION;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;

use crate::client_connection::{Activity, ClientConnection, ConnectionPhase};
use crate::exchange::serve;
use crate::ingress::head::Inspected;
use crate::ingress::stream::ClientStream;
use crate::ingress::watchdog::{Order, Watched};
use crate::node::Worker;
use crate::response_body::ResponseBody;

/// Serves requests on a connection until either side ends it.
pub(crate) async fn serve_http1(
    worker: Arc<Worker>,
    connection: Arc<ClientConnection>,
    watched: Arc<Watched>,
    mut stream: ClientStream,
) {
    let resting = &worker.metrics.resting_connections;
    loop {
        // In a box of its own, which a connection at rest does not have.
        let Some(idle) = Box::pin(serve_until_idle(&worker, &connection, &watched, stream)).await else { return };
        stream = idle;
        watched.set_may_rest(false);
        resting.inc();
        let woken = rest(&watched, &mut stream).await;
        resting.dec();
        watched.set_may_rest(true);
        match woken {
            Ok(Woken::Readable) => {}
            Ok(Woken::ToClose) => {
                let closing = Box::pin(watched.unless_cut(async { stream.shutdown().await }));
                drop(closing.await);
                return;
            }
            Ok(Woken::ToEnd) | Err(_) => return,
        }
    }
}

/// Serves requests until the connection has ended, or idles and is told to rest: then its stream comes back.
async fn serve_until_idle(
    worker: &Arc<Worker>,
    connection: &Arc<ClientConnection>,
    watched: &Watched,
    stream: ClientStream,
) -> Option<ClientStream> {
    let activity = &connection.activity;
    let limits = &watched.config.limits;
    let mut io = Inspected::new(stream, activity.clone(), limits.header_bytes * 2);
    loop {
        let service = service_fn(|request: Request<Incoming>| {
            let (worker, connection) = (worker.clone(), connection.clone());
            // Boxed, since HTTP moves it about, and keeps a place for the next one.
            Box::pin(async move {
                let response = serve(worker, connection, request).await;
                if is_last(&response) {
                    activity.end();
                }
                Ok::<_, Infallible>(response)
            })
        });
        let mut http = builder(limits).serve_connection(TokioIo::new(io), service).with_upgrades();
        let rests = poll_fn(|cx| {
            match watched.order(cx) {
                Some(Order::Cut) => return Poll::Ready(false),
                Some(Order::Close) => Pin::new(&mut http).graceful_shutdown(),
                Some(Order::Rest) if is_idle(activity) => return Poll::Ready(true),
                Some(Order::Rest) | None => {}
            }
            Pin::new(&mut http).poll(cx).map(|ended| {
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended");
                }
                false
            })
        });
        if !rests.await {
            return None;
        }
        let parts = http.into_parts()?;
        let inspected = parts.io.into_inner();
        if parts.read_buf.is_empty() {
            return Some(inspected.into_stream());
        }
        // The beginning of a pipelined head: HTTP goes on with it.
        io = inspected.with_unread(parts.read_buf);
    }
}

/// Returns whether nothing is under way on a connection: no request, no head, and nothing of an answer that the client has
/// not taken yet.
fn is_idle(activity: &Activity) -> bool {
    matches!(activity.phase(), ConnectionPhase::Idle(_)) && activity.is_settled()
}

/// Returns whether no request can follow on the connection. What HTTP still reads of it is no head then.
fn is_last(response: &Response<ResponseBody>) -> bool {
    response.status() == http::StatusCode::SWITCHING_PROTOCOLS || response.headers().contains_key(CONNECTION)
}

/// Why a connection rests no more.
enum Woken {
    Readable,
    ToClose,
    ToEnd,
}

async fn rest(watched: &Watched, stream: &mut ClientStream) -> io::Result<Woken> {
    poll_fn(|cx| match watched.order(cx) {
        Some(Order::Cut) => Poll::Ready(Ok(Woken::ToEnd)),
        Some(Order::Close) => Poll::Ready(Ok(Woken::ToClose)),
        Some(Order::Rest) | None => stream.poll_readable(cx).map_ok(|()| Woken::Readable),
    })
    .await
}

/// Makes the parser. Its limits on heads are twice the node's: see [`crate::framing::HeadSize`].
fn builder(limits: &Limits) -> Builder {
    let mut builder = Builder::new();
    builder
        // The watchdog tells a slow head from an idle connection; hyper's own timeout does not.
        .header_read_timeout(None)
        .max_headers(limits.headers * 2)
        .max_header_size(limits.header_bytes * 2)
        .writev(false)
        .half_close(false);
    builder
}
