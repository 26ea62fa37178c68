//! One side of a tunnel, whichever version of HTTP it was opened by.

use tokio::io::{AsyncRead, AsyncWrite};

use crate::http1::Upgraded;

/// The bytes of one side of a tunnel, both ways; writing may end before reading does. It lives in its tunnel's task.
pub(crate) trait TunnelStream: AsyncRead + AsyncWrite + Send + Unpin {
    /// Has the other end see, once this is dropped, that the tunnel was cut: over HTTP/2 by RST_STREAM (RFC 8441, 5). A
    /// connection of HTTP/1.1 is closed all the same.
    fn cut(&mut self);
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> TunnelStream for Upgraded<S> {
    fn cut(&mut self) {}
}
