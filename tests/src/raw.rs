//! Connections on which a test writes bytes instead of requests.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::dial;
use crate::{Authority, patiently};

/// A connection for bytes.
pub struct RawConnection<S = TcpStream> {
    stream: S,
    /// What has been read and not been taken.
    read: Vec<u8>,
}

/// The same over TLS.
pub type RawTls = RawConnection<tokio_rustls::client::TlsStream<TcpStream>>;

impl RawConnection {
    /// Connects from 127.0.0.1.
    ///
    /// # Panics
    /// When it cannot.
    pub async fn open(address: SocketAddr) -> RawConnection {
        RawConnection::open_from(address, Ipv4Addr::LOCALHOST.into()).await
    }

    /// Connects from another address of loopback.
    ///
    /// # Panics
    /// When it cannot.
    pub async fn open_from(address: SocketAddr, source: IpAddr) -> RawConnection {
        let stream = patiently("a connection", dial(address, source)).await.expect("a connection");
        RawConnection::of(stream)
    }

    /// Has the connection reset when it is dropped.
    ///
    /// # Panics
    /// When the socket is none any more.
    pub fn reset(&self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a socket");
    }

    /// An accepted connection.
    pub(crate) fn of(stream: TcpStream) -> RawConnection {
        RawConnection { stream, read: Vec::new() }
    }

    /// Connects over TLS, offering one protocol.
    ///
    /// # Panics
    /// When the handshake fails.
    pub async fn open_tls(address: SocketAddr, authority: &Authority, name: &str, alpn: &[u8]) -> RawTls {
        RawConnection::open(address).await.secure(authority, name, alpn).await
    }

    /// Goes on over TLS, offering one protocol.
    ///
    /// # Panics
    /// When the handshake fails.
    pub async fn secure(self, authority: &Authority, name: &str, alpn: &[u8]) -> RawTls {
        self.try_secure(authority, name, alpn).await.expect("a TLS handshake")
    }

    /// The same, where the other end may not agree.
    ///
    /// # Errors
    /// When the handshake fails.
    ///
    /// # Panics
    /// When the name is none.
    pub async fn try_secure(self, authority: &Authority, name: &str, alpn: &[u8]) -> io::Result<RawTls> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let mut config = ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_root_certificates(authority.roots())
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        let name = ServerName::try_from(name.to_owned()).expect("a server name");
        let connecting = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, self.stream);
        let stream = patiently("a TLS handshake", connecting).await?;
        Ok(RawConnection { stream, read: Vec::new() })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> RawConnection<S> {
    /// Gives the stream back, of which nothing was read.
    pub fn into_inner(self) -> S {
        self.stream
    }

    /// Writes all of this.
    ///
    /// # Errors
    /// When the other end has closed.
    pub async fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await?;
        self.stream.flush().await
    }

    /// Writes all of this.
    ///
    /// # Panics
    /// When the other end has closed.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_write(bytes).await.expect("an open connection");
    }

    /// Says that no more will be written.
    ///
    /// # Errors
    /// When the other end has closed.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// Reads up to and with `end`.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn read_until(&mut self, end: &str) -> String {
        let text = self.read_until_or_close(end).await;
        text.unwrap_or_else(|| panic!("closed before {end:?}: {:?}", String::from_utf8_lossy(&self.read)))
    }

    /// Reads up to and with `end`; `None` when the other end closes before.
    ///
    /// # Panics
    /// When neither happens.
    pub async fn read_until_or_close(&mut self, end: &str) -> Option<String> {
        let what = format!("{end:?}");
        let reading = async {
            loop {
                let found = self.read.windows(end.len()).position(|window| window == end.as_bytes());
                if let Some(start) = found {
                    return Some(self.read.drain(..start + end.len()).collect::<Vec<u8>>());
                }
                if !self.stream.read_buf(&mut self.read).await.is_ok_and(|read| read > 0) {
                    return None;
                }
            }
        };
        patiently(&what, reading).await.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The same for bytes that are no text.
    ///
    /// # Panics
    /// When they do not come.
    pub async fn read_bytes_until(&mut self, end: &[u8]) -> Vec<u8> {
        let reading = async {
            loop {
                if let Some(start) = self.read.windows(end.len()).position(|window| window == end) {
                    return self.read.drain(..start + end.len()).collect();
                }
                assert!(self.stream.read_buf(&mut self.read).await.is_ok_and(|read| read > 0), "closed before {end:?}");
            }
        };
        patiently("bytes", reading).await
    }

    /// Reads an answer with Content-Length or without a body: the head, and the body.
    ///
    /// # Panics
    /// When it does not come whole.
    pub async fn read_answer(&mut self) -> (String, String) {
        let head = self.read_until("\r\n\r\n").await;
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().expect("a length"))
        });
        let length = length.unwrap_or(0);
        let reading = async {
            while self.read.len() < length {
                assert!(self.stream.read_buf(&mut self.read).await.expect("an open connection") > 0, "closed early");
            }
        };
        patiently("a body", reading).await;
        let body: Vec<u8> = self.read.drain(..length).collect();
        (head, String::from_utf8_lossy(&body).into_owned())
    }

    /// Reads until the other end closes or resets, and gives what came, and how long that took.
    ///
    /// # Panics
    /// When it stays open.
    pub async fn read_to_end(&mut self) -> (Vec<u8>, Duration) {
        let start = Instant::now();
        let reading = async { while self.stream.read_buf(&mut self.read).await.is_ok_and(|read| read > 0) {} };
        patiently("the end of a connection", reading).await;
        (std::mem::take(&mut self.read), start.elapsed())
    }

    /// Waits until the other end closes, and returns whether it said so first: with TLS, by a close_notify.
    ///
    /// # Panics
    /// When it stays open.
    pub async fn closes_cleanly(&mut self) -> bool {
        let reading = async {
            loop {
                match self.stream.read_buf(&mut self.read).await {
                    Ok(0) => return true,
                    Ok(_) => {}
                    Err(_) => return false,
                }
            }
        };
        patiently("the end of a connection", reading).await
    }

    /// Writes a request and reads all that comes back until the other end closes.
    pub async fn exchange(mut self, request: impl AsRef<[u8]>) -> String {
        // A server may refuse, and close, before all of it is written.
        let _ = self.try_write(request).await;
        String::from_utf8_lossy(&self.read_to_end().await.0).into_owned()
    }
}
