//! What a client sends after a request's head, whichever version of HTTP it came by.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::http1::ContentError;
use crate::http2::Http2Content;

/// A request's content as it arrives. It is read by the attempts of its request, on the thread of its connection.
pub(crate) enum ClientContent {
    /// There is none.
    Nothing,
    /// It comes on an HTTP/1.1 connection, whose task reads nothing else meanwhile.
    Http1(Box<dyn Body<Data = Bytes, Error = ClientContentError> + Send + Unpin>),
    /// It comes on a stream of HTTP/2.
    Http2(Http2Content),
}

/// Why a client's content is not whole.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub(crate) enum ClientContentError {
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Http2(#[from] h2::Error),
}

impl Body for ClientContent {
    type Data = Bytes;
    type Error = ClientContentError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientContentError>>> {
        match self.get_mut() {
            ClientContent::Nothing => Poll::Ready(None),
            ClientContent::Http1(content) => Pin::new(content).poll_frame(cx),
            ClientContent::Http2(content) => {
                Pin::new(content).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ClientContent::Nothing => true,
            ClientContent::Http1(content) => content.is_end_stream(),
            ClientContent::Http2(content) => content.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ClientContent::Nothing => SizeHint::with_exact(0),
            ClientContent::Http1(content) => content.size_hint(),
            ClientContent::Http2(content) => content.size_hint(),
        }
    }
}
