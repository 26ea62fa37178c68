//! A new connection to a destination.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use config::Endpoint;
use http::uri::Scheme;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::routing::Destination;
use crate::upstream::connection::Http1;
pub use crate::upstream::connection::{Connection, SendError};
use crate::upstream::http2::Http2;
use crate::upstream::pool::Pool;
use crate::upstream::shared::Turn;
use crate::upstream::socket::{Peephole, keep_alive};

/// How to connect, for every destination of a node.
#[derive(Clone)]
pub struct Connector {
    /// For each version of HTTP, since ALPN differs.
    http1_tls: Arc<rustls::ClientConfig>,
    http2_tls: Arc<rustls::ClientConfig>,
    timeout: Duration,
}

/// What is spoken on a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speak {
    /// Nothing: that the endpoint takes the connection, and agrees on TLS, is all that is asked.
    Nothing,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, by ALPN over TLS and with prior knowledge without.
    Http2,
}

/// Why there is no connection. In every case the request was not sent.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ConnectError {
    #[error("no connection within {0:?}")]
    Timeout(Duration),
    #[error("no connection: {0}")]
    Io(#[from] io::Error),
    #[error("{0:?} is no name that a certificate can be checked against")]
    ServerName(String),
    #[error("no HTTP on the new connection: {0}")]
    Http(#[from] hyper::Error),
    #[error("TLS there does not agree to HTTP/2 (ALPN h2)")]
    NoHttp2,
    #[error("the new connection closed before it said that it speaks HTTP/2")]
    NoSettings,
    #[error("another request was opening a connection: {0}")]
    Another(Arc<str>),
}

/// A connection that nothing has been sent on.
enum Fresh {
    Silent,
    Http1(Http1),
    Http2(Http2),
}

impl Speak {
    /// As the endpoint wants it.
    pub fn with(endpoint: &Endpoint) -> Self {
        if endpoint.http2 { Speak::Http2 } else { Speak::Http1 }
    }
}

impl Connector {
    /// Connects with this TLS configuration, giving up after `timeout` (name look-up, TCP, TLS and
    /// HTTP/2's SETTINGS together). ALPN is set here.
    pub fn new(tls: rustls::ClientConfig, timeout: Duration) -> Self {
        let with_alpn = |protocol: &[u8]| {
            let mut tls = tls.clone();
            tls.alpn_protocols = vec![protocol.to_vec()];
            Arc::new(tls)
        };
        Self { http1_tls: with_alpn(b"http/1.1"), http2_tls: with_alpn(b"h2"), timeout }
    }

    /// Connects to a destination. The permit inside it is the proof that policy allows it. A
    /// connection that requests can share goes to the pool at once, and those that ask for one
    /// meanwhile wait for it, instead of opening one each.
    ///
    /// # Errors
    /// When there is no connection in time; nothing of the request has been sent.
    pub async fn connect(&self, destination: &Destination, pool: &Pool) -> Result<Connection, ConnectError> {
        let state = destination.endpoint();
        if !state.endpoint.http2 {
            return match self.open(&state.endpoint, Speak::Http1).await? {
                Fresh::Http1(connection) => Ok(Connection::Http1(connection)),
                Fresh::Http2(_) | Fresh::Silent => Err(ConnectError::NoHttp2),
            };
        }
        loop {
            match pool.shared.turn(state.id) {
                Turn::Go(stream) => return Ok(Connection::Http2(stream)),
                Turn::Wait(mut failure) => {
                    if let Ok(failure) = failure.wait_for(Option::is_some).await {
                        return Err(ConnectError::Another(failure.clone().unwrap_or_default()));
                    }
                }
                Turn::Dial(dialling) => match self.open(&state.endpoint, Speak::Http2).await {
                    Ok(Fresh::Http2(connection)) => {
                        let stream = dialling.succeeded(connection).ok_or(ConnectError::NoSettings)?;
                        return Ok(Connection::Http2(stream));
                    }
                    Ok(Fresh::Http1(_) | Fresh::Silent) => return Err(ConnectError::NoHttp2),
                    Err(error) => {
                        dialling.failed(&error.to_string());
                        return Err(error);
                    }
                },
            }
        }
    }

    /// Connects to an endpoint for a health probe, which carries nothing of any client, and shares
    /// no connection with any. `None` when nothing is to be spoken, and the endpoint is there.
    ///
    /// # Errors
    /// As for [`Connector::connect`].
    pub async fn connect_for_probe(
        &self,
        endpoint: &Endpoint,
        speak: Speak,
    ) -> Result<Option<Connection>, ConnectError> {
        Ok(match self.open(endpoint, speak).await? {
            Fresh::Silent => None,
            Fresh::Http1(connection) => Some(Connection::Http1(connection)),
            Fresh::Http2(connection) => {
                Some(Connection::Http2(Arc::new(connection).stream().ok_or(ConnectError::NoSettings)?))
            }
        })
    }

    async fn open(&self, endpoint: &Endpoint, speak: Speak) -> Result<Fresh, ConnectError> {
        timeout(self.timeout, self.open_unbounded(endpoint, speak))
            .await
            .map_err(|_| ConnectError::Timeout(self.timeout))?
    }

    async fn open_unbounded(&self, endpoint: &Endpoint, speak: Speak) -> Result<Fresh, ConnectError> {
        let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
        stream.set_nodelay(true)?;
        keep_alive(&stream)?;
        let socket = Peephole::on(&stream)?;
        if !endpoint.tls {
            return begin(stream, Scheme::HTTP, socket, speak).await;
        }
        let name =
            ServerName::try_from(endpoint.host.clone()).map_err(|_| ConnectError::ServerName(endpoint.host.clone()))?;
        let tls = match speak {
            Speak::Http2 => &self.http2_tls,
            Speak::Nothing if endpoint.http2 => &self.http2_tls,
            Speak::Nothing | Speak::Http1 => &self.http1_tls,
        };
        let stream = TlsConnector::from(tls.clone()).connect(name, stream).await?;
        if speak == Speak::Http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(ConnectError::NoHttp2);
        }
        begin(stream, Scheme::HTTPS, socket, speak).await
    }
}

/// Begins HTTP on an open stream.
async fn begin<S>(stream: S, scheme: Scheme, socket: Peephole, speak: Speak) -> Result<Fresh, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match speak {
        Speak::Nothing => return Ok(Fresh::Silent),
        Speak::Http2 => return Http2::open(stream, scheme, socket).await.map(Fresh::Http2),
        Speak::Http1 => {}
    }
    let mut http = http1::Builder::new();
    http.writev(false);
    let (sender, connection) = http.handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection.with_upgrades());
    Ok(Fresh::Http1(Http1 { sender, socket }))
}

/// The TLS configuration for upstreams: TLS 1.2 and 1.3, verified against `roots`.
///
/// # Errors
/// When the provider offers no such versions, which is a mistake in the build.
pub fn tls_config(roots: rustls::RootCertStore) -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
