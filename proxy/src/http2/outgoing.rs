//! A message's content on its way out on a stream.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body;

/// Content that goes as far as the other end's windows take it: what is left to the library stands still there only where the
/// other end takes back the window that it has opened (SETTINGS_INITIAL_WINDOW_SIZE), and is a window's at most. Dropped
/// before its end, its stream is reset once the other direction is dropped too.
pub(crate) struct Outgoing<B> {
    stream: SendStream<Bytes>,
    body: B,
    piece: Option<Piece>,
    /// How much of it was sent, in bytes.
    sent: u64,
}

/// What the other end has no room for yet.
struct Piece {
    data: Bytes,
    is_last: bool,
}

/// Why content was not sent whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// The other end has reset the stream, or the connection has ended.
    Gone,
    /// The content itself breaks off.
    Body,
}

impl<B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin> Outgoing<B> {
    /// Sends content that is not at its end yet after a head.
    pub(crate) fn new(stream: SendStream<Bytes>, body: B) -> Self {
        Self { stream, body, piece: None, sent: 0 }
    }

    /// Returns the content, as it is by now.
    pub(crate) fn body(&self) -> &B {
        &self.body
    }

    /// Returns whether there is a piece that the other end has no room for.
    pub(crate) fn is_blocked(&self) -> bool {
        self.piece.is_some()
    }

    /// Returns how much of it was sent, in bytes.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Waits, while nothing is sent, until the other end has reset the stream, or the connection has ended.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(cx).map(|_| ())
    }

    /// Resets the stream.
    pub(crate) fn reset(&mut self, reason: Reason) {
        self.stream.send_reset(reason);
    }

    /// Sends as much as there is and the other end takes; ready once all is sent.
    ///
    /// # Errors
    /// When it never will be.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unsent>> {
        loop {
            if let Some(piece) = &mut self.piece {
                ready!(poll_piece(&mut self.stream, piece, &mut self.sent, cx))?;
                let is_last = piece.is_last;
                self.piece = None;
                if is_last {
                    return Poll::Ready(Ok(()));
                }
            }
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                return self.stream.poll_reset(cx).map(|_| Err(Unsent::Gone));
            };
            let sent = match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        let is_last = self.body.is_end_stream();
                        if is_last || !data.is_empty() {
                            self.piece = Some(Piece { data, is_last });
                        }
                        continue;
                    }
                    Err(frame) => frame.into_trailers().map_or(Ok(()), |trailers| self.stream.send_trailers(trailers)),
                },
                Some(Err(error)) => {
                    tracing::debug!(%error, "content breaks off");
                    return Poll::Ready(Err(Unsent::Body));
                }
                None => self.stream.send_data(Bytes::new(), true),
            };
            return Poll::Ready(sent.map_err(|_| Unsent::Gone));
        }
    }
}

fn poll_piece(
    stream: &mut SendStream<Bytes>,
    piece: &mut Piece,
    sent: &mut u64,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Unsent>> {
    loop {
        let mut room = 0;
        if !piece.data.is_empty() {
            stream.reserve_capacity(piece.data.len());
            room = stream.capacity();
            while room == 0 {
                room = match ready!(stream.poll_capacity(cx)) {
                    Some(Ok(room)) => room,
                    Some(Err(_)) | None => return Poll::Ready(Err(Unsent::Gone)),
                };
            }
        }
        let part = piece.data.split_to(room.min(piece.data.len()));
        *sent += part.len() as u64;
        let is_end = piece.data.is_empty();
        stream.send_data(part, is_end && piece.is_last).map_err(|_| Unsent::Gone)?;
        if is_end {
            return Poll::Ready(Ok(()));
        }
    }
}
