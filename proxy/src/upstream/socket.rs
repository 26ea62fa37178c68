//! A second look at a socket that HTTP owns.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use pingora::protocols::l4::ext::get_tcp_info;
use socket2::{SockRef, Socket, TcpKeepalive};
use tokio::net::TcpStream;

/// A handle on a connected socket for the pool, which only asks whether anything has arrived while
/// the connection was idle. A duplicate descriptor: sharing the stream itself would cost HTTP's side
/// a system call for each read, because only tokio's own stream knows that a short read means empty.
#[derive(Debug)]
pub(crate) struct IdleProbe(Socket);

impl IdleProbe {
    /// Makes a handle on this stream's socket.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub(crate) fn on(stream: &TcpStream) -> io::Result<Self> {
        SockRef::from(stream).try_clone().map(Self)
    }

    /// Returns whether an idle connection is as it should be: open, and silent. A FIN, a reset or any unasked byte
    /// (an origin's 408, say, which HTTP would take for the next request's answer) means that it must not be used
    /// again. One non-blocking system call.
    pub(crate) fn is_quiet(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        matches!(self.0.peek(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// Returns the round trip of a connection that was just opened, which took so long: the kernel's, of the handshake alone,
/// which no application has a part in. Where a segment was sent again, so that which of the two was answered is not known
/// (Karn), or where the kernel does not tell, it is the time that opening it took: at most too long, and so an outlier
/// among others.
pub(crate) fn round_trip(stream: &TcpStream, took: Duration) -> Duration {
    handshake(stream).unwrap_or(took)
}

/// Returns the kernel's round trip of a connection's handshake; `None` where there was more than one try, and on kernels
/// before 6.2, whose record is shorter than the library that reads it wants (pingora-core 0.9.1).
pub(crate) fn handshake(stream: &TcpStream) -> Option<Duration> {
    let info = get_tcp_info(stream.as_raw_fd()).ok()?;
    let is_sound = info.tcpi_total_retrans == 0 && info.tcpi_rtt > 0;
    is_sound.then(|| Duration::from_micros(u64::from(info.tcpi_rtt)))
}

/// Has the kernel find out when the other end is gone without a word: after a minute of silence, in
/// four probes. Without it, a tunnel to a client that lost its power would stay for ever.
///
/// # Errors
/// When the socket is no more.
pub(crate) fn keep_alive(socket: &impl AsFd) -> io::Result<()> {
    let probes =
        TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15)).with_retries(4);
    SockRef::from(socket).set_tcp_keepalive(&probes)
}
