//! The bytes of one client's connection: read by its task between requests and by a request's content meanwhile, and
//! written by its task.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::Response;
use http_body::{Body, Frame, SizeHint};
use tokio::io::AsyncWrite;
use tokio::sync::Notify;

use super::request_head::{RequestHead, Search};
use super::response_head::write_interim;
use crate::client_content::ClientContentError;
use crate::client_stream::ClientStream;
use crate::http1::{Content, Decoder, ReadSize, Upgraded, poll_drain};
use crate::interim::{Interim, MOST_BYTES, is_interim};

/// A client's connection, shared by its task and the request that is being served. Both are on one worker's thread, so
/// that its lock is always free.
pub(super) struct ClientIo {
    state: Mutex<IoState>,
    /// Told when a request's content is no longer read.
    released: Notify,
}

/// What is shared.
pub(super) struct IoState {
    /// `None` once it is a tunnel's.
    stream: Option<ClientStream>,
    /// What has arrived and is not read yet.
    input: BytesMut,
    read_size: ReadSize,
    search: Search,
    /// Where the content of the last request is.
    decoder: Decoder,
    /// Interim answers that are not written yet.
    interim: Vec<u8>,
    /// Whether the client takes any: it speaks HTTP/1.1, and its answer has not begun.
    takes_interim: bool,
    /// Whether the client waits to be told to send its content.
    awaits_continue: bool,
    /// Whether the client will send no more.
    has_ended: bool,
    /// Of whoever waits for content, to be told when the stream is gone.
    reader: Option<Waker>,
}

/// A request's content, as it arrives on its connection.
struct RequestContent(Arc<ClientIo>);

impl ClientIo {
    /// Takes a stream that is ready for a first head.
    pub(super) fn new(stream: ClientStream) -> Arc<Self> {
        let state = IoState {
            stream: Some(stream),
            input: BytesMut::new(),
            read_size: ReadSize::FIRST,
            search: Search::default(),
            decoder: Decoder::Ended,
            interim: Vec::new(),
            takes_interim: false,
            awaits_continue: false,
            has_ended: false,
            reader: None,
        };
        Arc::new(Self { state: Mutex::new(state), released: Notify::new() })
    }

    /// Returns the state, for as long as no other code runs.
    pub(super) fn lock(&self) -> MutexGuard<'_, IoState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a request's content out of what follows its head.
    pub(super) fn content(
        self: &Arc<Self>,
        head: &RequestHead,
    ) -> Option<Box<dyn Body<Data = Bytes, Error = ClientContentError> + Send + Unpin>> {
        let mut state = self.lock();
        state.decoder = Decoder::new(head.content);
        state.awaits_continue = head.expects_continue;
        state.takes_interim = head.request.version() == http::Version::HTTP_11;
        (head.content != Content::Length(0)).then(|| Box::new(RequestContent(self.clone())) as _)
    }

    /// Waits until no request's content is read any more, be it by an upload that goes on beside its answer.
    pub(super) async fn released(self: &Arc<Self>) {
        while Arc::strong_count(self) > 1 {
            self.released.notified().await;
        }
    }
}

impl IoState {
    /// Waits for the next head; `None` at the connection's end. `on_bytes` hears of bytes that arrive. While nothing has
    /// come, no memory is held for it.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        longest: usize,
        mut on_bytes: impl FnMut(),
    ) -> Poll<io::Result<Option<RequestHead>>> {
        loop {
            if !self.input.is_empty()
                && let Some(head) = self.search.take_head(&mut self.input, longest)
            {
                return Poll::Ready(Ok(Some(head)));
            }
            let Some(stream) = self.stream.as_mut().filter(|_| !self.has_ended) else {
                return Poll::Ready(Ok(None));
            };
            if self.input.is_empty() {
                self.input = BytesMut::new();
                self.read_size = ReadSize::FIRST;
                ready!(stream.poll_readable(cx))?;
            }
            if ready!(self.read_size.poll_fill(stream, &mut self.input, cx))? == 0 {
                self.has_ended = true;
            } else {
                on_bytes();
            }
        }
    }

    /// Returns whether the beginning of a head has arrived.
    pub(super) fn has_begun(&self) -> bool {
        !self.input.is_empty()
    }

    /// Returns whether all of a request's content was read, and the client may send another.
    pub(super) fn is_ready_for_next(&self) -> bool {
        self.decoder.is_ended() && (!self.has_ended || !self.input.is_empty())
    }

    /// Does what there is to do while a request waits for its answer, or an answer for its origin: interim answers go
    /// down, and the end of the connection is seen.
    ///
    /// A client that has sent its request whole and closes its side still gets the answer (RFC 9112, 9.6): that cannot be
    /// told from one that has gone, until something is written.
    ///
    /// # Errors
    /// When the connection has failed.
    pub(super) fn poll_meanwhile(&mut self, cx: &mut Context<'_>, longest: usize) -> io::Result<Meanwhile> {
        if !self.interim.is_empty() {
            self.poll_interim(cx)?;
        }
        let watched = self.decoder.is_ended() && !self.has_ended && self.input.len() < longest;
        let Some(stream) = self.stream.as_mut().filter(|_| watched) else { return Ok(Meanwhile::Nothing) };
        while stream.poll_readable(cx)?.is_ready() && self.input.len() < longest {
            match self.read_size.poll_fill(stream, &mut self.input, cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) => {
                    self.has_ended = true;
                    return Ok(Meanwhile::Ended);
                }
                // TLS that ends without a word to that effect (RFC 9112, 9.8).
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.has_ended = true;
                    return Ok(Meanwhile::Ended);
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        Ok(Meanwhile::Nothing)
    }

    fn poll_interim(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let mut written = 0;
        let polled = poll_drain(stream, &self.interim, &mut written, cx);
        self.interim.drain(..written);
        match polled {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }

    /// Takes what is left of the interim answers, after which no more are taken: the answer begins.
    pub(super) fn begin_answer(&mut self) -> Vec<u8> {
        self.takes_interim = false;
        self.awaits_continue = false;
        std::mem::take(&mut self.interim)
    }

    /// Returns the stream, to write to.
    pub(super) fn stream(&mut self) -> io::Result<&mut ClientStream> {
        self.stream.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Gives the connection up: to another protocol, or to its end, which whoever still reads content hears of.
    pub(super) fn take(&mut self) -> Option<Upgraded<ClientStream>> {
        self.reader.take().into_iter().for_each(Waker::wake);
        let input = std::mem::take(&mut self.input);
        self.stream.take().map(|stream| Upgraded::new(stream, input))
    }

    /// Returns whether the client may still be sending, or has sent what nobody reads: were the connection closed on it, it
    /// might lose the answer (RFC 9112, 9.6).
    pub(super) fn is_sending(&mut self, cx: &mut Context<'_>) -> bool {
        if self.has_ended {
            return false;
        }
        // While content is still read, the stream has a reader whose wake-up must not be taken from it.
        if !self.decoder.is_ended() || !self.input.is_empty() {
            return true;
        }
        self.stream.as_mut().is_some_and(|stream| matches!(stream.poll_readable(cx), Poll::Ready(Ok(()))))
    }

    /// Reads and forgets what the client sends, to the end of the connection.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.input.clear();
            let Some(stream) = &mut self.stream else { return Poll::Ready(()) };
            match ready!(self.read_size.poll_fill(stream, &mut self.input, cx)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Poll::Ready(()),
            }
        }
    }

    /// Ends what is written: TLS says so too.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Some(stream) => Pin::new(stream).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

/// What a look at a connection has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meanwhile {
    /// Nothing new.
    Nothing,
    /// The client will send no more.
    Ended,
}

impl Interim for ClientIo {
    fn tell(&self, head: &Response<()>) {
        let mut state = self.lock();
        if is_interim(head) && state.takes_interim && state.interim.len() < MOST_BYTES {
            write_interim(&mut state.interim, head);
        }
    }
}

impl Body for RequestContent {
    type Data = Bytes;
    type Error = ClientContentError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientContentError>>> {
        let state = &mut *self.0.lock();
        if std::mem::take(&mut state.awaits_continue) {
            state.interim.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            if let Err(error) = state.poll_interim(cx) {
                return Poll::Ready(Some(Err(error.into())));
            }
        }
        loop {
            match state.decoder.decode(&mut state.input) {
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) if state.decoder.is_ended() => return Poll::Ready(None),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
            let Some(stream) = &mut state.stream else { return Poll::Ready(Some(Err(ended()))) };
            match state.read_size.poll_fill(stream, &mut state.input, cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) => {
                    state.has_ended = true;
                    return Poll::Ready(Some(Err(ended())));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                Poll::Pending => {
                    state.reader = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().decoder.is_ended()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().decoder.size_hint()
    }
}

impl Drop for RequestContent {
    fn drop(&mut self) {
        self.0.released.notify_one();
    }
}

fn ended() -> ClientContentError {
    io::Error::from(io::ErrorKind::UnexpectedEof).into()
}
