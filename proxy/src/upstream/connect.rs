//! A new connection to a destination.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::routing::Destination;
use crate::upstream::body::AttemptBody;
use crate::upstream::socket::{Peephole, keep_alive};

/// How to connect, for every destination of a node.
#[derive(Clone)]
pub struct Connector {
    tls: Arc<rustls::ClientConfig>,
    timeout: Duration,
}

/// A connection ready for a request.
#[derive(Debug)]
pub struct Connection {
    /// Sends requests, one at a time.
    pub sender: SendRequest<AttemptBody>,
    /// The socket underneath, to look at while it is idle.
    pub socket: Peephole,
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
}

/// Why a request has no answer.
#[derive(Debug)]
pub enum SendError {
    /// Nothing of it was sent; here it is.
    Unsent(Box<Request<AttemptBody>>),
    /// Some of it was sent, and the origin says that it has not acted on it.
    Unprocessed,
    /// The connection broke, and the origin may have acted on it.
    Broken(hyper::Error),
}

impl Connection {
    /// Sends a request, and waits for its answer's head.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(&mut self, request: Request<AttemptBody>) -> Result<Response<Incoming>, SendError> {
        self.sender.try_send_request(request).await.map_err(|mut error| match error.take_message() {
            Some(unsent) => SendError::Unsent(Box::new(unsent)),
            None => SendError::Broken(error.into_error()),
        })
    }
}

impl Connector {
    /// Connects with this TLS configuration, giving up after `timeout` (name look-up, TCP and TLS
    /// together).
    pub fn new(tls: Arc<rustls::ClientConfig>, timeout: Duration) -> Self {
        Self { tls, timeout }
    }

    /// Connects to a destination. The permit inside it is the proof that policy allows it.
    ///
    /// # Errors
    /// When there is no connection in time; nothing of the request has been sent.
    pub async fn connect(&self, destination: &Destination) -> Result<Connection, ConnectError> {
        let endpoint = &destination.endpoint().endpoint;
        self.open(endpoint).await
    }

    /// Connects to an endpoint for a health probe, which carries nothing of any client.
    ///
    /// # Errors
    /// As for [`Connector::connect`].
    pub async fn connect_for_probe(&self, endpoint: &config::Endpoint) -> Result<Connection, ConnectError> {
        self.open(endpoint).await
    }

    async fn open(&self, endpoint: &config::Endpoint) -> Result<Connection, ConnectError> {
        timeout(self.timeout, self.open_unbounded(endpoint)).await.map_err(|_| ConnectError::Timeout(self.timeout))?
    }

    async fn open_unbounded(&self, endpoint: &config::Endpoint) -> Result<Connection, ConnectError> {
        let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
        stream.set_nodelay(true)?;
        keep_alive(&stream)?;
        let socket = Peephole::on(&stream)?;
        let mut http = http1::Builder::new();
        http.writev(false);
        let sender = if endpoint.tls {
            let name = ServerName::try_from(endpoint.host.clone())
                .map_err(|_| ConnectError::ServerName(endpoint.host.clone()))?;
            let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await?;
            let (sender, connection) = http.handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection.with_upgrades());
            sender
        } else {
            let (sender, connection) = http.handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection.with_upgrades());
            sender
        };
        Ok(Connection { sender, socket })
    }
}

/// The TLS configuration for upstreams: TLS 1.2 and 1.3, verified against `roots`, HTTP/1.1.
///
/// # Errors
/// When the provider offers no such versions, which is a mistake in the build.
pub fn tls_config(roots: rustls::RootCertStore) -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
