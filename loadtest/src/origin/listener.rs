//! Accepts an origin's connections, and closes them all at once.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use super::{Site, connection};

/// A listening socket with its connections. Dropping it closes them soon, [`close`](Listener::close) before it returns.
pub(super) struct Listener {
    /// Dropped to close.
    _open: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Returns a bound socket. Several may share an address as long as one of them listens at most (`SO_REUSEADDR`).
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Returns a socket bound to an address for the life of an origin, which may close and listen again meanwhile. Port 0
/// takes a free one below those that Linux gives to outgoing connections (32768 to 60999 by default): one of them could
/// have the port when the origin wants to listen again.
///
/// # Errors
/// When the address is taken, or no port is free.
pub fn reserve(address: SocketAddr) -> io::Result<TcpSocket> {
    if address.port() != 0 {
        return bind(address);
    }
    let mut result = Err(io::ErrorKind::AddrInUse.into());
    for _ in 0..TRIES {
        let address = SocketAddr::new(address.ip(), fastrand::u16(PORTS));
        // Bound alone first: others that hold a port as this does would share it.
        let alone = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        result = alone.bind(address).and_then(|()| {
            drop(alone);
            bind(address)
        });
        if result.is_ok() {
            break;
        }
    }
    result
}

impl Listener {
    pub(super) fn open(address: SocketAddr, site: Arc<Site>) -> io::Result<Listener> {
        let listener = bind(address)?.listen(BACKLOG)?;
        let (open, closed) = oneshot::channel();
        let task = tokio::spawn(accept(listener, site, closed));
        Ok(Listener { _open: open, task })
    }

    pub(super) async fn close(self) {
        let Listener { _open, task } = self;
        drop(_open);
        // The task ends by itself; if it panicked, its sockets are closed as well.
        let _ = task.await;
    }
}

async fn accept(listener: TcpListener, site: Arc<Site>, mut closed: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MOST_CONNECTIONS => match accepted {
                Ok((tcp, _peer)) => {
                    connections.spawn(connection::serve(tcp, Arc::clone(&site)));
                }
                // Out of file descriptors, most likely: they come back as connections end.
                Err(_) => tokio::time::sleep(PAUSE).await,
            },
            Some(_ended) = connections.join_next() => {}
            _ = &mut closed => break,
        }
    }
    drop(listener);
    connections.shutdown().await;
}

/// Where [`reserve`] looks for a free port, and how often: nearly all of them are.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
const TRIES: u32 = 100;
const BACKLOG: u32 = 1_024;
const MOST_CONNECTIONS: usize = 16_384;
const PAUSE: Duration = Duration::from_millis(10);
