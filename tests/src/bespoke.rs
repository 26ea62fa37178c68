//! Origins made to measure, for what [`loadtest::origin`] does not do: trailers, upgrades, streams, and bad manners.
//!
//! Health probes are answered with 200 before a test's own code sees them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use h2::server::SendResponse;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::request::{Body, empty};
use crate::{Frames, RawConnection};

/// A running origin. It stops when it is dropped.
pub struct Bespoke {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

/// A connection to a bespoke origin, whose first request head has been read.
pub struct Visit {
    /// The connection.
    pub connection: RawConnection,
    /// The first request's head.
    pub head: String,
    /// How many connections, probes aside, came before.
    pub number: usize,
}

/// An HTTP/1.1 origin that answers by this function, and probes by itself; an error closes the connection.
pub async fn http<F, A>(answer: F) -> Bespoke
where
    F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
    A: Future<Output = io::Result<Response<Body>>> + Send + 'static,
{
    let answer = Arc::new(answer);
    http_with_probes(move |request: Request<Incoming>| {
        let answer = answer.clone();
        async move { if is_probe(&request) { Ok(Response::new(empty())) } else { answer(request).await } }
    })
    .await
}

/// The same, probes included: what stands before a node passes them on.
pub async fn http_with_probes<F, A>(answer: F) -> Bespoke
where
    F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
    A: Future<Output = io::Result<Response<Body>>> + Send + 'static,
{
    let answer = Arc::new(answer);
    start(move |stream| {
        let answer = answer.clone();
        async move {
            let service = service_fn(move |request: Request<Incoming>| answer(request));
            // The client's end of it is what a test asserts on.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
        }
    })
    .await
}

/// An HTTP/2 origin that answers by this function, without TLS.
pub async fn http2<F, A>(answer: F) -> Bespoke
where
    F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
    A: Future<Output = io::Result<Response<Body>>> + Send + 'static,
{
    let answer = Arc::new(answer);
    start(move |stream| {
        let answer = answer.clone();
        async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer.clone();
                async move { if is_probe(&request) { Ok(Response::new(empty())) } else { answer(request).await } }
            });
            let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await
}

/// An HTTP/2 origin without TLS that gets each request's stream, and answers probes by itself. If it `announces` so, it takes
/// extended CONNECT.
pub async fn streams<F, A>(announces: bool, answer: F) -> Bespoke
where
    F: Fn(Request<h2::RecvStream>, SendResponse<Bytes>) -> A + Send + Sync + 'static,
    A: Future<Output = ()> + Send + 'static,
{
    let answer = Arc::new(answer);
    start(move |stream| {
        let answer = answer.clone();
        async move {
            let mut builder = h2::server::Builder::new();
            if announces {
                builder.enable_connect_protocol();
            }
            let Ok(mut connection) = builder.handshake(stream).await else { return };
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                if is_probe(&request) {
                    // It may have gone.
                    let _ = respond.send_response(Response::new(()), true);
                } else {
                    tokio::spawn(answer(request, respond));
                }
            }
        }
    })
    .await
}

/// An HTTP/2 origin over TLS that answers by this function, probes included.
pub async fn http2_over_tls<F, A>(mut tls: rustls::ServerConfig, answer: F) -> Bespoke
where
    F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
    A: Future<Output = io::Result<Response<Body>>> + Send + 'static,
{
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let (acceptor, answer) = (tokio_rustls::TlsAcceptor::from(Arc::new(tls)), Arc::new(answer));
    start(move |stream| {
        let (acceptor, answer) = (acceptor.clone(), answer.clone());
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(move |request: Request<Incoming>| answer(request));
            let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await
}

/// An origin that gets every HTTP/2 connection as frames, with how many came before. It sends these settings. Probes
/// must be of the kind that only connects.
pub async fn frames<F, A>(settings: &'static [(u16, u32)], serve: F) -> Bespoke
where
    F: Fn(Frames, usize) -> A + Send + Sync + 'static,
    A: Future<Output = ()> + Send + 'static,
{
    let serve = Arc::new(serve);
    let visits = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    start(move |stream| {
        let (serve, visits) = (serve.clone(), visits.clone());
        async move {
            let Some(frames) = Frames::accept(stream, settings).await else { return };
            let number = visits.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            serve(frames, number).await;
        }
    })
    .await
}

/// An origin that gets every connection as bytes.
pub async fn tcp<F, A>(receive: F) -> Bespoke
where
    F: Fn(Visit) -> A + Send + Sync + 'static,
    A: Future<Output = ()> + Send + 'static,
{
    let receive = Arc::new(receive);
    let visits = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    start(move |stream| {
        let (receive, visits) = (receive.clone(), visits.clone());
        async move {
            let mut connection = RawConnection::of(stream);
            let Some(head) = connection.read_until_or_close("\r\n\r\n").await else { return };
            if head.contains(PROBE) {
                connection.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
                return;
            }
            let number = visits.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            receive(Visit { connection, head, number }).await;
        }
    })
    .await
}

impl Drop for Bespoke {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn start<F, A>(serve: F) -> Bespoke
where
    F: Fn(TcpStream) -> A + Send + 'static,
    A: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let task = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(serve(stream));
        }
    });
    Bespoke { address, task }
}

fn is_probe<B>(request: &Request<B>) -> bool {
    // One in gRPC, a POST, is for the origin to answer.
    let asked = request.method() == http::Method::GET;
    asked && request.headers().get(http::header::USER_AGENT).is_some_and(|agent| agent == PROBE)
}

/// The user agent of health probes.
pub(crate) const PROBE: &str = "meridian-health";
