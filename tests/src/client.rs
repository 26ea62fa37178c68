//! A small HTTP client that shows everything: which TLS was agreed on, trailers, and how an answer broke off.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, NamedGroup, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};

use crate::request::{Body, Sent};
use crate::{Authority, Certificate, eventually, patiently};

/// The HTTP version that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, by ALPN over TLS and by prior knowledge without.
    Http2,
}

/// How to connect to a node.
#[derive(Clone, Debug)]
pub struct Client {
    address: SocketAddr,
    source: IpAddr,
    protocol: Protocol,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// A connection to a node.
pub struct Connection {
    sender: Sender,
    protocol: Protocol,
    /// What the TLS handshake agreed on, if there was one.
    pub tls: Option<TlsSession>,
}

/// What a TLS handshake agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSession {
    /// The version.
    pub version: Option<ProtocolVersion>,
    /// The key exchange.
    pub group: Option<NamedGroup>,
    /// The protocol chosen by ALPN.
    pub alpn: Option<String>,
    /// The server's certificate.
    pub certificate: Option<CertificateDer<'static>>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The version of the answer.
    pub version: Version,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The trailer fields; empty without any.
    pub trailers: HeaderMap,
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Client {
    /// An HTTP/1.1 client, from 127.0.0.1, without TLS.
    pub fn http1(address: SocketAddr) -> Client {
        Client { address, source: Ipv4Addr::LOCALHOST.into(), protocol: Protocol::Http1, tls: None }
    }

    /// The same with HTTP/2.
    pub fn http2(address: SocketAddr) -> Client {
        Client { protocol: Protocol::Http2, ..Client::http1(address) }
    }

    /// The same with another protocol.
    #[must_use]
    pub fn speaking(self, protocol: Protocol) -> Client {
        let tls = self.tls.map(|(config, name)| {
            let mut config = ClientConfig::clone(&config);
            config.alpn_protocols = vec![protocol.alpn().to_vec()];
            (Arc::new(config), name)
        });
        Client { protocol, tls, ..self }
    }

    /// The same from another address of loopback.
    #[must_use]
    pub fn from(self, source: IpAddr) -> Client {
        Client { source, ..self }
    }

    /// The same over TLS, asking for this name and trusting this authority.
    #[must_use]
    pub fn over_tls(self, authority: &Authority, name: &str) -> Client {
        self.over(client_config(authority.roots(), rustls::ALL_VERSIONS), name)
    }

    /// The same over TLS, showing a certificate as a node does.
    #[must_use]
    pub fn as_node(self, authority: &Authority, name: &str, certificate: &Certificate) -> Client {
        self.as_node_over(authority, name, certificate, rustls::ALL_VERSIONS)
    }

    /// The same over these versions of TLS only.
    #[must_use]
    pub fn as_node_over(
        self,
        authority: &Authority,
        name: &str,
        certificate: &Certificate,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Client {
        let (chain, key) = certificate.identity();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let config = ClientConfig::builder_with_provider(provider.into())
            .with_protocol_versions(versions)
            .expect("TLS versions")
            .with_root_certificates(authority.roots())
            .with_client_auth_cert(chain, key)
            .expect("a certificate with its key");
        self.over(config, name)
    }

    /// The same over this version of TLS only.
    #[must_use]
    pub fn over_tls_version(
        self,
        authority: &Authority,
        name: &str,
        version: &'static SupportedProtocolVersion,
    ) -> Client {
        self.over(client_config(authority.roots(), &[version]), name)
    }

    /// The same over a TLS of the test's own.
    #[must_use]
    pub fn over(self, config: ClientConfig, name: &str) -> Client {
        let name = ServerName::try_from(name.to_owned()).expect("a server name");
        let protocol = self.protocol;
        Client { tls: Some((Arc::new(config), name)), ..self }.speaking(protocol)
    }

    /// Connects, TLS included.
    ///
    /// # Errors
    /// When the connection or the handshake fails.
    pub async fn connect(&self) -> io::Result<Connection> {
        patiently("a connection", Box::pin(self.open())).await
    }

    /// Sends one request on a connection of its own and reads the answer.
    ///
    /// # Panics
    /// When there is no whole answer.
    pub async fn send(&self, sent: &Sent) -> Answer {
        match self.try_send(sent).await {
            Ok(answer) => answer,
            Err(error) => panic!("no whole answer to {sent:?}: {error}"),
        }
    }

    /// The same, for requests that may fail.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub async fn try_send(&self, sent: &Sent) -> io::Result<Answer> {
        self.connect().await?.try_send(sent).await
    }

    async fn open(&self) -> io::Result<Connection> {
        let stream = dial(self.address, self.source).await?;
        let Some((config, name)) = &self.tls else { return self.speak(stream, None).await };
        let stream = tokio_rustls::TlsConnector::from(config.clone()).connect(name.clone(), stream).await?;
        let (_, session) = stream.get_ref();
        let session = TlsSession {
            version: session.protocol_version(),
            group: session.negotiated_key_exchange_group().map(|group| group.name()),
            alpn: session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
            certificate: session.peer_certificates().and_then(|chain| chain.first()).cloned(),
        };
        self.speak(stream, Some(session)).await
    }

    async fn speak<S>(&self, stream: S, tls: Option<TlsSession>) -> io::Result<Connection>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = TokioIo::new(stream);
        let sender = match self.protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(stream).await.map_err(io::Error::other)?;
                tokio::spawn(connection.with_upgrades());
                Sender::Http1(sender)
            }
            Protocol::Http2 => {
                let (sender, connection) =
                    http2::handshake(TokioExecutor::new(), stream).await.map_err(io::Error::other)?;
                tokio::spawn(connection);
                Sender::Http2(sender)
            }
        };
        Ok(Connection { sender, protocol: self.protocol, tls })
    }
}

impl Protocol {
    fn alpn(self) -> &'static [u8] {
        match self {
            Protocol::Http1 => b"http/1.1",
            Protocol::Http2 => b"h2",
        }
    }
}

impl Connection {
    /// Sends one request and reads the answer.
    ///
    /// # Panics
    /// When there is no whole answer.
    pub async fn send(&mut self, sent: &Sent) -> Answer {
        match self.try_send(sent).await {
            Ok(answer) => answer,
            Err(error) => panic!("no whole answer to {sent:?}: {error}"),
        }
    }

    /// The same, for requests that may fail.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub async fn try_send(&mut self, sent: &Sent) -> io::Result<Answer> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let response = self.head(sent.message(self.protocol, scheme)).await?;
        Answer::read(response).await
    }

    /// Sends a message of the test's own making, and gives the answer as soon as its head is here.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn head(&mut self, message: Request<Body>) -> io::Result<Response<Incoming>> {
        let what = "the head of an answer";
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                patiently("a free connection", sender.ready()).await.map_err(io::Error::other)?;
                patiently(what, sender.send_request(message)).await
            }
            Sender::Http2(sender) => {
                patiently("a free connection", sender.ready()).await.map_err(io::Error::other)?;
                patiently(what, sender.send_request(message)).await
            }
        };
        response.map_err(io::Error::other)
    }

    /// The message of a request, to change before it goes to [`head`](Connection::head).
    pub fn message(&self, sent: &Sent) -> Request<Body> {
        sent.message(self.protocol, if self.tls.is_some() { "https" } else { "http" })
    }

    /// Waits until the node has closed it.
    ///
    /// # Panics
    /// When it stays open.
    pub async fn closed(&self) {
        eventually(
            "the end of a connection",
            async || {
                if self.is_closed() { Ok(()) } else { Err("it is open".to_owned()) }
            },
        )
        .await;
    }

    /// Whether it is known to be closed.
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }
}

impl Answer {
    /// Reads an answer to its end.
    ///
    /// # Errors
    /// When it breaks off.
    pub async fn read(response: Response<Incoming>) -> io::Result<Answer> {
        let (parts, body) = response.into_parts();
        let collected = patiently("the rest of an answer", body.collect()).await.map_err(io::Error::other)?;
        let trailers = collected.trailers().cloned().unwrap_or_default();
        let (status, version, headers) = (parts.status, parts.version, parts.headers);
        Ok(Answer { status, version, headers, body: collected.to_bytes(), trailers })
    }

    /// A header field in text, if it came once; several joined as HTTP says.
    pub fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> =
            self.headers.get_all(name).iter().map(|value| value.to_str().expect("a header in ASCII")).collect();
        if values.is_empty() { None } else { Some(values.join(", ")) }
    }

    /// Who served: `x-meridian-region`.
    pub fn region(&self) -> Option<String> {
        self.header("x-meridian-region")
    }

    /// `x-meridian-attempts`; 1 if it is absent.
    pub fn attempts(&self) -> u32 {
        self.header("x-meridian-attempts").map_or(1, |count| count.parse().expect("a number of attempts"))
    }

    /// The body in text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON: {error} in {self:?}"))
    }

    /// The status, and the reason of an answer that is Meridian's own.
    ///
    /// # Panics
    /// When an answer of Meridian's own is not the problem document that RFC 9457 wants.
    pub fn refusal(&self) -> (u16, Option<String>) {
        let status = self.status.as_u16();
        if self.header("content-type").as_deref() != Some("application/problem+json") {
            return (status, None);
        }
        let problem = self.json();
        assert_eq!(problem["status"], status, "{problem}");
        for member in ["type", "title", "detail", "reason", "request_id"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member} of {problem}");
        }
        (status, problem["reason"].as_str().map(str::to_owned))
    }

    /// Asserts that Meridian refused with this status and reason.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn assert_refused(&self, status: u16, reason: &str) {
        assert_eq!(self.refusal(), (status, Some(reason.to_owned())), "{self:?}");
        assert_eq!(self.region(), None, "nobody served it");
    }

    /// Asserts that the node refused it for load, and said when to come again.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn assert_overloaded(&self) {
        self.assert_refused(503, "overloaded");
        let after = self.header("retry-after").and_then(|after| after.parse::<u32>().ok());
        assert!(after.is_some_and(|after| (1..=31).contains(&after)), "{self:?}");
    }

    /// Asserts that this region served.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn assert_served_by(&self, region: &str) {
        assert!(self.status.is_success(), "{self:?}");
        assert_eq!(self.region().as_deref(), Some(region), "{self:?}");
        // The origins of a world are named after their regions; bespoke ones have no name.
        let origin = self.header("x-origin");
        assert!(origin.as_deref().is_none_or(|origin| origin == region), "{self:?}");
    }
}

fn client_config(roots: RootCertStore, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let mut config = ClientConfig::builder_with_provider(provider.into())
        .with_protocol_versions(versions)
        .expect("TLS versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    config
}

/// Connects from an address of loopback, without any protocol.
pub(crate) async fn dial(address: SocketAddr, source: IpAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.bind((source, 0).into())?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
