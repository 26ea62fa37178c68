//! One side of a tunnel, whichever version of HTTP it was opened by.

use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::http1::Upgraded;
use crate::http2::{Kept, StreamTunnel};

/// The bytes of one side of a tunnel, both ways; writing may end before reading does. It lives in its tunnel's task.
pub(crate) trait TunnelStream: AsyncRead + AsyncWrite + Send + Unpin {
    /// Has the other end see, once this is dropped, that the tunnel was cut: over HTTP/2 by RST_STREAM (RFC 8441, 5). A
    /// connection of HTTP/1.1 is closed all the same.
    fn cut(&mut self);

    /// Returns what waits until the other end has cut the tunnel where no read or write would tell.
    fn is_cut(&self) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> TunnelStream for Upgraded<S> {
    fn cut(&mut self) {}

    fn is_cut(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::pending())
    }
}

impl<K: Kept> TunnelStream for StreamTunnel<K> {
    fn cut(&mut self) {
        self.reset();
    }

    fn is_cut(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.is_reset())
    }
}
