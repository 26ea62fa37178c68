//! Serves one connection.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::body::AnswerBody;
use super::reset::{Reset, Resettable};
use super::{Behaviour, Received, Site};
use crate::Protocol;

/// Serves until the peer closes, an error, or a behaviour that ends the connection. The errors are the client's to
/// report: an origin in a test is cut off all the time.
pub(super) async fn serve(tcp: TcpStream, site: Arc<Site>) {
    site.record.accept();
    // Only the latency of small answers hangs on it.
    let _ = tcp.set_nodelay(true);
    let reset = Reset::default();
    let tcp = Resettable::new(tcp, reset.clone());
    match &site.tls {
        None => speak(tcp, &site, &reset).await,
        Some(acceptor) => {
            if let Ok(tls) = acceptor.accept(tcp).await {
                speak(tls, &site, &reset).await;
            }
        }
    }
}

async fn speak<S>(stream: S, site: &Arc<Site>, reset: &Reset)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = TokioIo::new(stream);
    let service = service_fn(|request| answer(request, Arc::clone(site), reset.clone()));
    let _ = match site.protocol {
        Protocol::Http1 => http1::Builder::new().serve_connection(stream, service).await,
        Protocol::Http2 => http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await,
    };
}

/// One request; an error closes the connection, or resets the stream, without an answer.
async fn answer(request: Request<Incoming>, site: Arc<Site>, reset: Reset) -> io::Result<Response<AnswerBody>> {
    let received = receive(request, &site).await?;
    let mut response = match site.conduct.towards(&received).await {
        Behaviour::Normal | Behaviour::Stall => normal(&site),
        Behaviour::Grpc => {
            let status = HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("0"))]);
            let mut response = Response::new(AnswerBody::whole(site.body.clone()).with_trailers(status));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            response
        }
        Behaviour::Slow(delay) => {
            tokio::time::sleep(delay).await;
            normal(&site)
        }
        Behaviour::Status(status) => {
            let mut response = Response::new(AnswerBody::whole(Bytes::new()));
            *response.status_mut() = status;
            response
        }
        Behaviour::Answer(response) => response.map(AnswerBody::whole),
        Behaviour::CutBody => Response::new(AnswerBody::cut(&site.body)),
        Behaviour::ResetAfterHead => Response::new(AnswerBody::missing(&site.body).resetting(reset)),
        Behaviour::ResetInBody => Response::new(AnswerBody::cut(&site.body).resetting(reset)),
        Behaviour::ResetBeforeHead => {
            reset.request();
            return Err(io::Error::new(io::ErrorKind::ConnectionReset, "reset on command"));
        }
        Behaviour::CloseBeforeHead => {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "closed on command"));
        }
    };
    response.headers_mut().insert(ORIGIN, site.name.clone());
    Ok(response)
}

/// Reads a request to its end and records it.
async fn receive(request: Request<Incoming>, site: &Site) -> io::Result<Received> {
    let mut received = Received::head(&request);
    let number = site.record.begin(&received);
    if let Some(witness) = site.witness {
        witness(&received);
    }
    let mut body = request.into_body();
    let mut beginning = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(io::Error::other)?;
        if let Some(data) = frame.data_ref() {
            received.body_length += data.len() as u64;
            let room = RECORDED_BODY_BYTES - beginning.len();
            beginning.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
    received.body = beginning.freeze();
    received.whole = true;
    site.record.complete(number, &received);
    Ok(received)
}

fn normal(site: &Site) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::whole(site.body.clone()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response
}

const ORIGIN: HeaderName = HeaderName::from_static("x-origin");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const RECORDED_BODY_BYTES: usize = 16 * 1024;
