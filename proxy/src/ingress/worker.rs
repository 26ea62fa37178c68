//! Worker threads: each serves its own connections, with its own runtime and upstream pool.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use prometheus::IntGauge;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;

use crate::client::PlaceCache;
use crate::client_connection::{ClientConnection, TlsFacts};
use crate::ingress::http::serve_connection;
use crate::ingress::peek::peek_until;
use crate::ingress::proxy_protocol::{ProxyHeader, caller};
use crate::listener::ListenerFacts;
use crate::node::{Node, Worker};
use crate::occupancy::InFlight;
use crate::peers::identity::{CertificateRefusal, PeerSession};
use crate::server_tls::Serving;
use crate::upstream::pool::Pool;
use crate::upstream::socket::keep_alive;

/// The workers, for listeners to hand connections to.
#[derive(Clone)]
pub(crate) struct Workers(Arc<[Handle]>);

struct Handle {
    worker: Arc<Worker>,
    /// Bounded by the node's limit on connections, which is checked before.
    connections: UnboundedSender<Accepted>,
}

/// The threads of the workers, for whoever ends them.
pub(crate) struct WorkerThreads {
    end: watch::Sender<()>,
    /// Disconnected once the last of them has ended.
    running: mpsc::Receiver<Infallible>,
}

/// A connection on its way to a worker.
pub(crate) struct Accepted {
    /// The socket.
    pub(crate) stream: StdStream,
    /// Its other end.
    pub(crate) peer: SocketAddr,
    /// The listener it came to.
    pub(crate) listener: Arc<ListenerFacts>,
    /// Counts it among the node's connections.
    pub(crate) counted: InFlight,
}

impl Workers {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// When a thread or its runtime cannot be started.
    pub(crate) fn start(node: &Arc<Node>, count: usize) -> std::io::Result<(Self, WorkerThreads)> {
        let mut handles = Vec::new();
        let end = watch::Sender::new(());
        let (is_running, running) = mpsc::channel();
        for index in 0..count.max(1) {
            let worker = Arc::new(Worker {
                node: node.clone(),
                pool: Pool::default(),
                places: PlaceCache::default(),
                recent: node.databases.recent.sample(),
                metrics: node.telemetry.metrics.of_worker(),
                access_log: node.telemetry.access_log.buffer(),
                decisions: AtomicUsize::new(0),
                connections: AtomicUsize::new(0),
            });
            let (sender, receiver) = unbounded_channel();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let its_worker = worker.clone();
            let (mut end, is_running) = (end.subscribe(), is_running.clone());
            std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = work(its_worker, receiver) => {}
                        _ = end.changed() => {}
                    }
                });
                // With what is under way, which is counted and logged as cut.
                drop(runtime);
                drop(is_running);
            })?;
            handles.push(Handle { worker, connections: sender });
        }
        Ok((Self(handles.into()), WorkerThreads { end, running }))
    }

    /// Hands a connection to the worker that has the fewest.
    pub(crate) fn hand_over(&self, accepted: Accepted) {
        let idlest = self.0.iter().min_by_key(|handle| handle.worker.connections.load(Ordering::Relaxed));
        if let Some(handle) = idlest {
            handle.worker.connections.fetch_add(1, Ordering::Relaxed);
            if handle.connections.send(accepted).is_err() {
                tracing::error!("a worker thread is gone; its connection is dropped");
            }
        }
    }
}

impl WorkerThreads {
    /// Cuts what is under way and ends the threads. Waits for them, for `within` at most.
    pub(crate) fn end(self, within: Duration) {
        drop(self.end);
        if self.running.recv_timeout(within) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::warn!("a worker thread does not end; what it has under way is not logged");
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
            _ = sweep.tick() => {
                let node = &worker.node;
                worker.pool.sweep(node.connector.load().generation(), node.config.load().upstream.idle_timeout);
            }
        }
    }
}

/// Counts a connection out when it ends, however it ends: in a panic, too.
struct Leaving {
    worker: Arc<Worker>,
    gauge: IntGauge,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.gauge.dec();
        self.worker.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The life of one client connection.
async fn connection(worker: Arc<Worker>, accepted: Accepted) {
    let Accepted { stream, peer, listener, counted: _counted } = accepted;
    let gauge = worker.node.telemetry.metrics.active_connections.with_label_values(&[&listener.name]);
    gauge.inc();
    let _leaving = Leaving { worker: worker.clone(), gauge };
    let result = match TcpStream::from_std(stream) {
        Ok(stream) => open(worker, stream, peer, &listener).await,
        Err(error) => Err(error),
    };
    if let Err(error) = result {
        tracing::debug!(%error, %peer, "connection failed before HTTP");
    }
}

async fn open(
    worker: Arc<Worker>,
    mut stream: TcpStream,
    mut peer: SocketAddr,
    listener: &ListenerFacts,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let limits = worker.node.config.load().limits.clone();
    let settings = listener.settings(&worker.node.config.load(), &worker.node.listeners);
    keep_alive(&stream)?;
    // A client that takes nothing of its answer for so long is gone, whatever it acknowledges.
    SockRef::from(&stream).set_tcp_user_timeout(Some(limits.keep_alive))?;
    let mut speaks = ProxyHeader::Proxy;
    let opening = async {
        if settings.proxy_protocol && worker.node.databases.load().trusted.contains(peer.ip()) {
            speaks = caller(&mut stream).await?;
        }
        Ok::<_, std::io::Error>(match &listener.tls {
            Some(certificates) => {
                let serving = certificates.current();
                Opened::Tls(Box::new(serving.acceptor.accept(stream).await?), serving)
            }
            None => Opened::Plain(speaks_http2(&stream).await?, stream),
        })
    };
    let opened = tokio::time::timeout(limits.header_timeout, opening).await;
    let opened = opened.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?;
    if let ProxyHeader::Client(client) = speaks {
        peer = client;
    }
    let unnamed = speaks == ProxyHeader::Unknown;
    let not_a_node = |refusal: &CertificateRefusal| {
        let node = &worker.node;
        node.peers.refusals.of_client(&node.telemetry.metrics, refusal.cause(), peer, refusal);
    };
    if let Err(error) = &opened
        && let Some(refusal) = shown_certificate(error)
    {
        not_a_node(&refusal);
    }
    match opened? {
        Opened::Plain(http2, stream) => {
            let connection = ClientConnection::new(peer, None, settings.redirects_to).unnamed(unnamed);
            serve_connection(worker, Arc::new(connection), stream, http2).await;
        }
        Opened::Tls(stream, serving) => {
            let (_, session) = stream.get_ref();
            let http2 = session.alpn_protocol() == Some(b"h2");
            let shown = session.peer_certificates().map(|chain| chain.iter().map(|c| c.clone().into_owned()).collect());
            let node = shown.map(|chain| PeerSession::begin(chain, &worker.node.peers.load_full())).transpose();
            let node = node.map_err(|refusal| {
                not_a_node(&refusal);
                std::io::Error::other(refusal)
            })?;
            let facts = tls_facts(session.server_name(), &serving, node);
            let connection = ClientConnection::new(peer, Some(facts), None).unnamed(unnamed);
            serve_connection(worker, Arc::new(connection), stream, http2).await;
        }
    }
    Ok(())
}

/// A connection that is ready for HTTP.
enum Opened {
    /// Whether it opens with HTTP/2.
    Plain(bool, TcpStream),
    /// What the handshake was made with.
    Tls(Box<TlsStream<TcpStream>>, Arc<Serving>),
}

fn tls_facts(sni: Option<&str>, serving: &Serving, node: Option<PeerSession>) -> TlsFacts {
    let names = serving.set.entry(sni).map(|entry| entry.names.clone()).unwrap_or_default();
    TlsFacts { sni: sni.map(str::to_ascii_lowercase), names, node }
}

/// Returns what a failed handshake has against the certificate that was shown: only nodes are asked for one.
fn shown_certificate(error: &std::io::Error) -> Option<CertificateRefusal> {
    CertificateRefusal::of(error.get_ref()?.downcast_ref::<rustls::Error>()?)
}

/// Returns whether a plain connection opens with HTTP/2's preface (prior knowledge, RFC 9113, 3.3).
async fn speaks_http2(stream: &TcpStream) -> std::io::Result<bool> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let judge = |seen: &[u8]| match seen.len() {
        0 => Some(false),
        _ if seen == PREFACE => Some(true),
        _ => (!PREFACE.starts_with(seen)).then_some(false),
    };
    Ok(peek_until(stream, &mut [0; PREFACE.len()], judge).await?.unwrap_or(false))
}
