//! Opens connections: TCP, then TLS, then HTTP.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::failure::Failure;
use crate::{FailureKind, Protocol, Target};

/// Dials one target, and counts.
pub(crate) struct Dialer {
    target: Target,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    connections: AtomicU64,
}

/// The sending half of an open connection. The other half runs in a task of its own until the connection ends.
pub(crate) enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>, IdleProbe),
    Http2(http2::SendRequest<Full<Bytes>>, IdleProbe),
}

/// A second handle on a connection's socket, to look at what hyper has not yet seen: it would notice a closed
/// connection in time, but write a request first, which would then be lost with it.
#[derive(Clone)]
pub(crate) struct IdleProbe(Arc<std::net::TcpStream>);

impl IdleProbe {
    /// Returns what the next byte tells. The socket does not block, since both handles share the mode that tokio
    /// has set.
    pub(crate) fn look(&self) -> Sight {
        match self.0.peek(&mut [0]) {
            Ok(0) => Sight::Closed,
            Ok(_) => Sight::Bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sight::Nothing,
            Err(_) => Sight::Closed,
        }
    }
}

/// What waits to be read on a socket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    Nothing,
    Bytes,
    Closed,
}

impl Dialer {
    pub(crate) fn new(target: Target) -> Dialer {
        let tls = target.tls.as_ref().map(|tls| (tls.connector(target.protocol), tls.server_name()));
        Dialer { target, tls, connections: AtomicU64::new(0) }
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Connections opened so far.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Returns a new connection, ready for requests.
    pub(crate) async fn dial(&self) -> Result<Sender, Failure> {
        let address = self.target.address;
        let connect = |error| Failure::new(FailureKind::Connect, format!("dialling {address}"), &error);
        let tcp = TcpStream::connect(address).await.map_err(connect)?;
        tcp.set_nodelay(true).map_err(connect)?;
        let socket = tcp.as_fd().try_clone_to_owned().map_err(connect)?;
        let sender = match &self.tls {
            None => self.greet(tcp, socket).await?,
            Some((connector, server_name)) => {
                let handshake = connector.connect(server_name.clone(), tcp).await;
                let tls = handshake.map_err(|e| Failure::new(FailureKind::Tls, format!("TLS with {address}"), &e))?;
                let agreed = tls.get_ref().1.alpn_protocol();
                if self.target.protocol == Protocol::Http2 && agreed != Some(Protocol::Http2.alpn()) {
                    let message = format!("{address} does not speak HTTP/2: it did not choose h2 by ALPN");
                    return Err(Failure { kind: FailureKind::Tls, message });
                }
                self.greet(tls, socket).await?
            }
        };
        self.connections.fetch_add(1, Ordering::Relaxed);
        Ok(sender)
    }

    async fn greet<S>(&self, stream: S, socket: OwnedFd) -> Result<Sender, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = TokioIo::new(stream);
        let probe = IdleProbe(Arc::new(socket.into()));
        let protocol =
            |error| Failure::new(FailureKind::Protocol, format!("HTTP with {}", self.target.address), &error);
        // A connection's own error also reaches the request that is in flight on it, and is reported there.
        match self.target.protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(stream).await.map_err(protocol)?;
                tokio::spawn(connection);
                Ok(Sender::Http1(sender, probe))
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.map_err(protocol)?;
                tokio::spawn(connection);
                Ok(Sender::Http2(sender, probe))
            }
        }
    }
}
