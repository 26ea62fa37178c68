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

const BACKLOG: u32 = 1_024;
const MOST_CONNECTIONS: usize = 16_384;
const PAUSE: Duration = Duration::from_millis(10);
