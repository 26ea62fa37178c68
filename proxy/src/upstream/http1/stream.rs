//! The socket of a connection to an origin, with or without TLS on it.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// A connected stream. It lives as long as its connection, on one worker's thread.
#[derive(Debug)]
pub(crate) enum OriginStream {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS on TCP; boxed, since it is large.
    Tls(Box<TlsStream<TcpStream>>),
}

impl OriginStream {
    /// Returns whether there is TLS on it.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, OriginStream::Tls(_))
    }

    /// Returns the socket.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            OriginStream::Plain(tcp) => tcp,
            OriginStream::Tls(tls) => tls.get_ref().0,
        }
    }

    /// Returns whether an idle connection is as it should be: open, and silent. A FIN, a reset or any unasked byte of
    /// HTTP (an origin's 408, say, which would be taken for the next request's answer) means that it must not be used
    /// again; a TLS session ticket does not.
    ///
    /// `briefly` says that it has been idle for so short a time that what the runtime knows of the socket is recent
    /// enough; otherwise the socket is asked, which is one non-blocking system call.
    pub(crate) fn is_quiet(&mut self, briefly: bool) -> bool {
        let seen = if briefly { self.tcp().try_io(Interest::READABLE, || self.look()) } else { self.look() };
        match seen {
            // TLS may hold the end, or a piece of a record, that came with the answer before.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => !self.is_tls() || self.has_no_content(),
            Ok(1..) if self.is_tls() => {
                self.has_no_content() && self.look().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            }
            Ok(_) | Err(_) => false,
        }
    }

    /// Looks at what has come on the socket, without taking it.
    fn look(&self) -> io::Result<usize> {
        SockRef::from(self.tcp()).peek(&mut [MaybeUninit::uninit()])
    }

    /// Reads what TLS has of an idle connection, and returns whether that is neither content nor the end.
    fn has_no_content(&mut self) -> bool {
        let mut byte = [0];
        let mut buffer = ReadBuf::new(&mut byte);
        Pin::new(self).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer).is_pending()
    }
}

impl AsyncRead for OriginStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            OriginStream::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            OriginStream::Tls(tls) => Pin::new(tls.as_mut()).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for OriginStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            OriginStream::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            OriginStream::Tls(tls) => Pin::new(tls.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            OriginStream::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            OriginStream::Tls(tls) => Pin::new(tls.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            OriginStream::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            OriginStream::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(cx),
        }
    }
}
