//! WebSockets over HTTP/2 (RFC 8441) from outside, by the `h2` crate: a client that asks for them, and the streams of both ends.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::patiently;

/// A connection of a client. It closes when this and all its streams are gone.
pub struct StreamClient {
    sender: SendRequest<Bytes>,
    task: JoinHandle<Result<(), h2::Error>>,
}

/// Both directions of a stream. Dropped before its end, it is reset.
pub struct Stream {
    /// What goes out.
    pub sending: SendStream<Bytes>,
    /// What comes in.
    pub receiving: RecvStream,
    read: Vec<u8>,
}

impl StreamClient {
    /// Connects, and waits until the server has announced that it takes extended CONNECT.
    ///
    /// # Panics
    /// When it does not.
    pub async fn connect(address: SocketAddr) -> StreamClient {
        let stream = patiently("a connection", TcpStream::connect(address)).await.expect("a connection");
        StreamClient::over(stream).await
    }

    /// The same on a stream that is open already.
    ///
    /// # Panics
    /// When the server announces nothing.
    pub async fn over<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(stream: S) -> StreamClient {
        let (sender, mut connection) = h2::client::Builder::new().handshake(stream).await.expect("HTTP/2");
        let settings = poll_fn(|cx| {
            assert!(Pin::new(&mut connection).poll(cx).is_pending(), "closed before its settings");
            if sender.is_extended_connect_protocol_enabled() { Poll::Ready(()) } else { Poll::Pending }
        });
        patiently("SETTINGS_ENABLE_CONNECT_PROTOCOL", settings).await;
        StreamClient { sender, task: tokio::spawn(connection) }
    }

    /// Asks for a tunnel by `:protocol`, with the address of a client of a country in X-Forwarded-For.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn ask(&mut self, protocol: &'static str, path: &str, country: &str) -> (Response<()>, Stream) {
        let mut request = Request::new(());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = format!("http://api.example.com{path}").parse().expect("a target");
        request.extensions_mut().insert(Protocol::from_static(protocol));
        let headers = request.headers_mut();
        headers.insert("sec-websocket-version", "13".parse().expect("a value"));
        headers.insert("x-forwarded-for", crate::geo::address(country, 1).to_string().parse().expect("a value"));
        self.send(request).await
    }

    /// Asks for a WebSocket that the server agrees to.
    ///
    /// # Panics
    /// When it does not.
    pub async fn open(&mut self, path: &str) -> Stream {
        let (answer, stream) = self.ask("websocket", path, "US").await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        stream
    }

    /// Sends a request whose content may follow.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn send(&mut self, request: Request<()>) -> (Response<()>, Stream) {
        self.sender = patiently("a place", self.sender.clone().ready()).await.expect("an open connection");
        let (answer, sending) = self.sender.send_request(request, false).expect("an open connection");
        let (head, receiving) = patiently("an answer", answer).await.expect("an answer").into_parts();
        (Response::from_parts(head, ()), Stream::new(sending, receiving))
    }

    /// Begins a request whose content follows, and waits for no answer.
    ///
    /// # Panics
    /// When there is no place for it.
    pub async fn begin(&mut self, request: Request<()>) -> (ResponseFuture, SendStream<Bytes>) {
        self.sender = patiently("a place", self.sender.clone().ready()).await.expect("an open connection");
        self.sender.send_request(request, false).expect("an open connection")
    }

    /// Waits for the connection's end.
    pub async fn closed(self) {
        let Self { sender, task } = self;
        // Whether there was a GOAWAY or not.
        drop(patiently("the end of a connection", task).await);
        drop(sender);
    }
}

impl Stream {
    /// Takes both directions.
    pub fn new(sending: SendStream<Bytes>, receiving: RecvStream) -> Stream {
        Stream { sending, receiving, read: Vec::new() }
    }

    /// Writes all of this, as the window opens.
    ///
    /// # Panics
    /// When the stream has ended.
    pub async fn write(&mut self, text: impl AsRef<[u8]>) {
        assert!(self.try_write(text).await, "an open stream");
    }

    /// Writes all of this; false when the stream has ended.
    pub async fn try_write(&mut self, text: impl AsRef<[u8]>) -> bool {
        let mut rest = Bytes::copy_from_slice(text.as_ref());
        while !rest.is_empty() {
            self.sending.reserve_capacity(rest.len());
            let room = poll_fn(|cx| match self.sending.capacity() {
                0 => self.sending.poll_capacity(cx),
                room => Poll::Ready(Some(Ok(room))),
            });
            let Some(Ok(room)) = patiently("a window", room).await else { return false };
            if self.sending.send_data(rest.split_to(room.min(rest.len())), false).is_err() {
                return false;
            }
        }
        true
    }

    /// Says that no more will be written.
    ///
    /// # Panics
    /// When the stream has ended.
    pub fn finish(&mut self) {
        self.sending.send_data(Bytes::new(), true).expect("an open stream");
    }

    /// Reads up to and with `end`.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn read_until(&mut self, end: &str) -> String {
        self.try_read_until(end).await.unwrap_or_else(|why| panic!("ended before {end:?} by {why:?}"))
    }

    /// Reads up to and with `end`; by what the stream ends where it does before: `None` for END_STREAM.
    ///
    /// # Errors
    /// As above.
    ///
    /// # Panics
    /// When neither comes.
    pub async fn try_read_until(&mut self, end: &str) -> Result<String, Option<Reason>> {
        loop {
            if let Some(start) = self.read.windows(end.len()).position(|window| window == end.as_bytes()) {
                let text: Vec<u8> = self.read.drain(..start + end.len()).collect();
                return Ok(String::from_utf8_lossy(&text).into_owned());
            }
            match patiently(end, self.receiving.data()).await {
                Some(Ok(data)) => {
                    self.receiving.flow_control().release_capacity(data.len()).expect("a window");
                    self.read.extend_from_slice(&data);
                }
                Some(Err(error)) => return Err(Some(error.reason().unwrap_or(Reason::INTERNAL_ERROR))),
                None => return Err(None),
            }
        }
    }

    /// Reads to the stream's end: what came, and by what it ended: `None` for END_STREAM.
    ///
    /// # Panics
    /// When it stays open.
    pub async fn read_to_end(&mut self) -> (String, Option<Reason>) {
        let why = self.try_read_until("\0").await.expect_err("an end");
        (String::from_utf8_lossy(&std::mem::take(&mut self.read)).into_owned(), why)
    }
}

/// Returns the next interim answer to a request; `None` once its answer is there.
///
/// # Panics
/// When neither comes.
pub async fn interim(answer: &mut ResponseFuture) -> Option<Response<()>> {
    patiently("a head", poll_fn(|cx| answer.poll_informational(cx))).await.transpose().expect("an open stream")
}

/// What answers a WebSocket's key over HTTP/1.1 (RFC 6455, 1.3).
pub fn accept_of(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64_STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}
