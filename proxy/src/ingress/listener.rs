//! Listening sockets, and the pingora service that accepts on them.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::ingress::worker::{Accepted, Workers};
use crate::listener::ListenerFacts;
use crate::node::Node;
use crate::occupancy::{Drain, InFlight};

/// Accepts connections on one listening socket, and hands them to the workers.
pub(crate) struct Listener {
    node: Arc<Node>,
    workers: Workers,
    facts: Arc<ListenerFacts>,
    socket: Option<StdListener>,
    name: String,
}

impl Listener {
    /// Accepts on a bound socket.
    pub(crate) fn new(node: Arc<Node>, workers: Workers, facts: Arc<ListenerFacts>, socket: StdListener) -> Self {
        let name = format!("listener {}", facts.name);
        Self { node, workers, facts, socket: Some(socket), name }
    }

    async fn accept(&self, socket: TcpListener) {
        let mut drain = self.node.occupancy.watch_drain();
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                _ = drain.wait_for(|stage| *stage >= Drain::Stopping) => return,
            };
            match accepted.and_then(|(stream, peer)| Ok((stream.into_std()?, peer))) {
                Ok((stream, peer)) => {
                    let most = self.node.config.load().limits.connections;
                    if self.node.occupancy.connections.load(Ordering::Relaxed) >= most {
                        self.node.telemetry.metrics.shed.with_label_values(&["default", "connections"]).inc();
                        continue;
                    }
                    let counted = InFlight::enter(&self.node.occupancy.connections);
                    self.workers.hand_over(Accepted { stream, peer, listener: self.facts.clone(), counted });
                }
                Err(error) => {
                    // Out of file descriptors, most likely: let some close instead of spinning.
                    tracing::warn!(%error, listener = self.facts.name, "accept failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

#[async_trait]
impl Service for Listener {
    async fn start_service(&mut self, _fds: Option<ListenFds>, _shutdown: ShutdownWatch, _per_fd: usize) {
        let Some(socket) = self.socket.take() else { return };
        match TcpListener::from_std(socket) {
            Ok(socket) => self.accept(socket).await,
            Err(error) => tracing::error!(%error, listener = self.facts.name, "the listening socket is unusable"),
        }
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }
}

/// Binds a non-blocking socket, which refuses connections until it is to [`listen`].
///
/// # Errors
/// When the address is taken, not this machine's, or not allowed.
pub(crate) fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Takes connections from now on, with a queue for bursts.
///
/// # Errors
/// When somebody else has taken the address meanwhile.
pub(crate) fn listen(socket: Socket) -> io::Result<StdListener> {
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Connections that wait to be accepted; the kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 4096;
