//! Worker threads: each serves its own connections, with its own runtime and upstream pool.

use std::net::{SocketAddr, TcpStream as StdStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_rustls::TlsAcceptor;

use crate::ingress::connection::{Connection, TlsFacts};
use crate::ingress::http::serve_connection;
use crate::ingress::listener::ListenerFacts;
use crate::ingress::tls::Certificates;
use crate::node::{InFlight, Node, Worker};
use crate::upstream::pool::Pool;

/// The workers, for listeners to hand connections to.
#[derive(Clone)]
pub struct Workers(Arc<[Handle]>);

struct Handle {
    worker: Arc<Worker>,
    /// Bounded by the node's limit on connections, which is checked before.
    connections: UnboundedSender<Accepted>,
}

/// A connection on its way to a worker.
pub struct Accepted {
    /// The socket.
    pub stream: StdStream,
    /// Its other end.
    pub peer: SocketAddr,
    /// The listener it came to.
    pub listener: Arc<ListenerFacts>,
    /// Counts it among the node's connections.
    pub counted: InFlight,
}

impl Workers {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// When a thread or its runtime cannot be started.
    pub fn start(node: &Arc<Node>, count: usize) -> std::io::Result<Self> {
        let mut handles = Vec::new();
        for index in 0..count.max(1) {
            let worker = Arc::new(Worker {
                node: node.clone(),
                pool: Pool::default(),
                decisions: AtomicUsize::new(0),
                connections: AtomicUsize::new(0),
            });
            let (sender, receiver) = unbounded_channel();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let its_worker = worker.clone();
            std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || runtime.block_on(work(its_worker, receiver)))?;
            handles.push(Handle { worker, connections: sender });
        }
        Ok(Self(handles.into()))
    }

    /// Hands a connection to the worker that has the fewest.
    pub fn hand_over(&self, accepted: Accepted) {
        let idlest = self.0.iter().min_by_key(|handle| handle.worker.connections.load(Ordering::Relaxed));
        if let Some(handle) = idlest {
            handle.worker.connections.fetch_add(1, Ordering::Relaxed);
            if handle.connections.send(accepted).is_err() {
                tracing::error!("a worker thread is gone; its connection is dropped");
            }
        }
    }
}

async fn work(worker: Arc<Worker>, mut connections: UnboundedReceiver<Accepted>) {
    let mut sweep = tokio::time::interval(Duration::from_secs(10));
    loop {
        tokio::select! {
            accepted = connections.recv() => match accepted {
                Some(accepted) => drop(tokio::spawn(connection(worker.clone(), accepted))),
                None => return,
            },
            _ = sweep.tick() => worker.pool.sweep(worker.node.config.load().upstream.idle_timeout),
        }
    }
}

/// Takes one off a worker's count when its connection ends, however it ends.
struct Leaving(Arc<Worker>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The life of one client connection.
async fn connection(worker: Arc<Worker>, accepted: Accepted) {
    let _leaving = Leaving(worker.clone());
    let Accepted { stream, peer, listener, counted: _counted } = accepted;
    let gauge = worker.node.metrics.active_connections.with_label_values(&[&listener.name]);
    gauge.inc();
    let result = match TcpStream::from_std(stream) {
        Ok(stream) => open(worker.clone(), stream, peer, &listener).await,
        Err(error) => Err(error),
    };
    gauge.dec();
    if let Err(error) = result {
        tracing::debug!(%error, %peer, "connection failed before HTTP");
    }
}

async fn open(
    worker: Arc<Worker>,
    stream: TcpStream,
    peer: SocketAddr,
    listener: &ListenerFacts,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let limits = worker.node.config.load();
    let patience = limits.limits.header_timeout;
    // A client that takes nothing of its answer for so long is gone, whatever it acknowledges.
    SockRef::from(&stream).set_tcp_user_timeout(Some(limits.limits.keep_alive))?;
    let Some((acceptor, certificates)) = &listener.tls else {
        let http2 = tokio::time::timeout(patience, speaks_http2(&stream)).await.unwrap_or(Ok(false))?;
        let connection = Arc::new(Connection::new(peer, None, listener.redirects_to));
        serve_connection(worker, connection, stream, http2).await;
        return Ok(());
    };
    let handshake = tokio::time::timeout(patience, acceptor.accept(stream));
    let stream = handshake.await.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
    let (_, session) = stream.get_ref();
    let http2 = session.alpn_protocol() == Some(b"h2");
    let facts = tls_facts(session.server_name(), certificates);
    let connection = Arc::new(Connection::new(peer, facts, None));
    serve_connection(worker, connection, stream, http2).await;
    Ok(())
}

fn tls_facts(sni: Option<&str>, certificates: &Certificates) -> Option<TlsFacts> {
    let names = certificates.current().entry(sni).map(|entry| entry.names.clone()).unwrap_or_default();
    Some(TlsFacts { sni: sni.map(str::to_ascii_lowercase), names })
}

/// Whether a plain connection opens with HTTP/2's preface (prior knowledge, RFC 9113, 3.3). Looks
/// without taking, and decides on the first bytes: no HTTP/1 method begins like it.
async fn speaks_http2(stream: &TcpStream) -> std::io::Result<bool> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut start = [0; PREFACE.len()];
    loop {
        stream.readable().await?;
        let seen = stream.peek(&mut start).await?;
        let begun = start.get(..seen).unwrap_or_default();
        if seen == 0 || !PREFACE.starts_with(begun) {
            return Ok(false);
        }
        if seen == PREFACE.len() {
            return Ok(true);
        }
        // The rest is on its way; readable() would return at once for what is already here.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A listener's TLS: the acceptor, and the certificates behind it.
pub type Tls = (TlsAcceptor, Arc<Certificates>);
