//! Listening sockets, and the pingora service that accepts on them.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::TcpListener;

use crate::descriptors;
use crate::ingress::client_limit::take_place;
use crate::ingress::worker::{Accepted, Workers};
use crate::listener::ListenerFacts;
use crate::local_error::LocalError;
use crate::node::Node;
use crate::occupancy::{Drain, InFlight};
use crate::telemetry::log_limiter::LogLimiter;
use crate::upstream::socket::keep_alive;

/// Accepts connections on one listening socket, and hands them to the workers. It lives as long as the process; its task
/// is a service of pingora's, with a thread of its own.
pub(crate) struct Listener {
    node: Arc<Node>,
    workers: Workers,
    facts: Arc<ListenerFacts>,
    /// Until the drain closes it; a task that is started again accepts on a copy, and loses none that wait.
    socket: Mutex<Option<Open>>,
}

/// A socket that takes connections, counted as such.
struct Open {
    socket: StdListener,
    _accepting: InFlight,
}

/// What accepting needs to know from one connection to the next.
#[derive(Default)]
struct Accepting {
    /// What the kernel was last told.
    user_timeout: Option<Duration>,
    errors: LogLimiter,
}

impl Listener {
    /// Accepts on a bound socket.
    pub(crate) fn new(node: Arc<Node>, workers: Workers, facts: Arc<ListenerFacts>, socket: StdListener) -> Self {
        let open = Open { socket, _accepting: InFlight::enter(&node.occupancy.accepting) };
        Self { node, workers, facts, socket: Mutex::new(Some(open)) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a copy of the socket, unless it is closed.
    fn copy(&self) -> io::Result<Option<TcpListener>> {
        self.lock().as_ref().map(|open| TcpListener::from_std(open.socket.try_clone()?)).transpose()
    }

    /// Accepts until the node stops to.
    async fn accept(&self, socket: TcpListener) {
        let mut drain = self.node.occupancy.watch_drain();
        let mut accepting = Accepting::default();
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                _ = drain.wait_for(|stage| *stage >= Drain::Stopping) => return,
            };
            match accepted.and_then(|(stream, peer)| Ok((stream.into_std()?, peer))) {
                Ok((stream, peer)) => {
                    self.take(&socket, stream, peer, &mut accepting);
                    // The others wait in the kernel's queue.
                    self.pause().await;
                }
                Err(error) => {
                    let lack = LocalError::name_of(&error);
                    self.node.telemetry.metrics.local_errors.with_label_values(&[lack]).inc();
                    if let Some(unsaid) = accepting.errors.may(|| error.to_string()) {
                        tracing::warn!(%error, unsaid, listener = self.facts.name, "accept failed");
                    }
                    // Out of file descriptors, most likely: let some close instead of spinning.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// Waits until the next connection may be accepted, as far as the node is short of something.
    async fn pause(&self) {
        let overload = &self.node.overload;
        let pause = overload.actions().accept_pause_ms;
        if pause > 0 {
            tokio::time::sleep(Duration::from_millis(pause.into())).await;
        }
        for _ in 0..MOST_PAUSES {
            if overload.take_accept() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Takes a connection that was accepted, if there is room for it.
    fn take(&self, socket: &impl AsFd, stream: StdStream, peer: SocketAddr, accepting: &mut Accepting) {
        let config = self.node.config.load();
        let limits = &config.limits;
        let open = self.node.occupancy.connections.load(Ordering::Relaxed);
        if open >= descriptors::most_connections(limits) || descriptors::is_past_clients(&stream) {
            self.node.telemetry.metrics.shed.with_label_values(&["default", "connections"]).inc();
            return;
        }
        let Ok(place) = take_place(&self.node, peer.ip()) else { return };
        if accepting.user_timeout != Some(limits.keep_alive) {
            accepting.user_timeout = Some(limits.keep_alive);
            give_up_after(socket, &stream, limits.keep_alive);
        }
        let counted = InFlight::enter(&self.node.occupancy.connections);
        self.workers.hand_over(Accepted { stream, peer, listener: self.facts.clone(), counted, place });
    }

    /// Takes the connections that wait in the kernel's queue, which it would reset, and closes the socket.
    fn close(&self) {
        let Some(open) = self.lock().take() else { return };
        let mut accepting = Accepting::default();
        for _ in 0..BACKLOG {
            let Ok((stream, peer)) = open.socket.accept() else { break };
            match stream.set_nonblocking(true) {
                Ok(()) => self.take(&open.socket, stream, peer, &mut accepting),
                Err(error) => tracing::debug!(%error, "a last connection is unusable"),
            }
        }
    }
}

/// Has the kernel close a connection whose client takes nothing of its answer for so long, whatever it acknowledges: this
/// one, and all that the listener accepts from now on, which inherit it.
fn give_up_after(listener: &impl AsFd, stream: &StdStream, timeout: Duration) {
    for socket in [SockRef::from(listener), SockRef::from(stream)] {
        if let Err(error) = socket.set_tcp_user_timeout(Some(timeout)) {
            tracing::warn!(%error, "the kernel does not watch over what clients take");
        }
    }
}

#[async_trait]
impl BackgroundService for Listener {
    async fn start(&self, _shutdown: ShutdownWatch) {
        match self.copy() {
            Ok(Some(socket)) => {
                self.accept(socket).await;
                self.close();
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, listener = self.facts.name, "the listening socket is unusable");
                return;
            }
        }
        std::future::pending::<()>().await;
    }
}

/// Which addresses a socket of `[::]` takes connections for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Families {
    /// IPv6, and IPv4 if the system has it so.
    Any,
    /// IPv6 only: the port's IPv4 is for another socket.
    Ipv6Only,
}

impl Families {
    /// Returns those of an address, of a process that binds all of these.
    pub(crate) fn of(address: SocketAddr, all: &[SocketAddr]) -> Self {
        let is_ipv4_of_its_port = |other: &SocketAddr| other.is_ipv4() && other.port() == address.port();
        let is_shared = address.is_ipv6() && address.port() != 0 && all.iter().any(is_ipv4_of_its_port);
        if is_shared { Self::Ipv6Only } else { Self::Any }
    }
}

/// Binds a non-blocking socket, which refuses connections until it is to [`listen`].
///
/// # Errors
/// When the address is taken, not this machine's, or not allowed.
pub(crate) fn bind(address: SocketAddr, families: Families) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if families == Families::Ipv6Only {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Takes connections from now on, with a queue for bursts. They inherit what is set here.
///
/// # Errors
/// When somebody else has taken the address meanwhile.
pub(crate) fn listen(socket: Socket) -> io::Result<StdListener> {
    socket.set_tcp_nodelay(true)?;
    keep_alive(&socket)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// While no more may be accepted, it is asked so often whether some may by now.
const PAUSE: Duration = Duration::from_millis(10);
/// A tenth of a second, after which one may in any case.
const MOST_PAUSES: usize = 10;
/// Connections that wait to be accepted; the kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    /// What is set on a listener costs its connections no system call.
    #[test]
    fn connections_inherit_the_settings_of_their_listener() {
        let listener = listen(bind((std::net::Ipv4Addr::LOCALHOST, 0).into(), Families::Any).unwrap()).unwrap();
        listener.set_nonblocking(false).unwrap();
        let address = listener.local_addr().unwrap();
        let first = StdStream::connect(address).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        give_up_after(&listener, &accepted, Duration::from_secs(75));
        let second = StdStream::connect(address).unwrap();
        let (inherits, _) = listener.accept().unwrap();
        for stream in [&accepted, &inherits] {
            let socket = SockRef::from(stream);
            assert!(socket.tcp_nodelay().unwrap());
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(75)));
        }
        drop((first, second));
    }

    #[test]
    fn a_port_of_both_families_is_shared() {
        let all: Vec<SocketAddr> =
            ["0.0.0.0:80", "[::]:80", "[::]:443", "127.0.0.1:9900", "[::]:9900", "0.0.0.0:0", "[::]:0"]
                .map(|address| address.parse().unwrap())
                .to_vec();
        let families: Vec<Families> = all.iter().map(|address| Families::of(*address, &all)).collect();
        let (any, only) = (Families::Any, Families::Ipv6Only);
        assert_eq!(families, [any, only, any, any, only, any, any]);
    }
}
