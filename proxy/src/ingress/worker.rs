//! Worker threads: each serves its own connections, with its own runtime and upstream pool.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::{interval, sleep};

use crate::certificate::plain_name;
use crate::client::PlaceCache;
use crate::client_connection::{Activity, ClientConnection, TlsFacts};
use crate::client_counts::ClientPlace;
use crate::client_stream::ClientStream;
use crate::clock;
use crate::ingress::client_limit::take_place;
use crate::ingress::http1::serve_http1;
use crate::ingress::http2::serve_http2;
use crate::ingress::peek::peek_until;
use crate::ingress::proxy_protocol::{ProxyHeader, caller};
use crate::ingress::watchdog::{Watchdog, Watched};
use crate::listener::ListenerFacts;
use crate::node::{Node, Settings, Worker};
use crate::occupancy::InFlight;
use crate::overload::LoopLag;
use crate::peers::identity::{CertificateRefusal, PeerSession};
use crate::routing::LatestRouting;
use crate::server_tls::Serving;
use crate::supervise::{Irreplaceable, rehearse};
use crate::upstream::pool::Pool;
use crate::upstream::socket::handshake;

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
    /// Its place among its client's, where those are limited.
    pub(crate) place: Option<ClientPlace>,
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
            let routing = LatestRouting::new(&node.routing, index);
            let worker = Arc::new(Worker {
                node: node.clone(),
                settings: Mutex::new(Arc::new(Settings::of(node, &routing))),
                routing,
                requests: node.occupancy.requests.of_worker(index),
                requests_by_client: node.occupancy.requests_by_client.of_worker(),
                bodies: node.bodies.of_worker(index),
                pool: Pool::default(),
                places: PlaceCache::default(),
                recent: node.databases.recent.sample(),
                metrics: node.telemetry.metrics.of_worker(),
                observed: node.bus.as_ref().map(|bus| bus.observed.of_worker()),
                access_log: node.telemetry.access_log.buffer(),
                decisions: AtomicUsize::new(0),
                connections: AtomicUsize::new(0),
                lag: node.overload.of_worker(),
            });
            let (sender, receiver) = unbounded_channel();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let its_worker = worker.clone();
            let (mut end, is_running) = (end.subscribe(), is_running.clone());
            std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                let irreplaceable = Irreplaceable::new("worker");
                runtime.block_on(async {
                    rehearse("worker");
                    tokio::select! {
                        () = work(its_worker, receiver) => {}
                        _ = end.changed() => {}
                    }
                });
                irreplaceable.release();
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
        // One that has panicked takes none while the node ends.
        let alive = self.0.iter().filter(|handle| !handle.connections.is_closed());
        let idlest = alive.min_by_key(|handle| handle.worker.connections.load(Ordering::Relaxed));
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
    let node = &worker.node;
    let mut watchdog = Watchdog::default();
    let mut drain = node.occupancy.watch_drain();
    let mut look = pin!(sleep(Duration::ZERO));
    let mut sweep = interval(Duration::from_secs(10));
    // A task like all others, which waits for its turn among them; what is awaited here does not.
    drop(tokio::spawn(measure_lag(worker.lag.clone())));
    loop {
        tokio::select! {
            accepted = connections.recv() => match accepted {
                Some(accepted) => {
                    let watched = watchdog.watch(node.config.load_full());
                    drop(tokio::spawn(connection(worker.clone(), accepted, watched)));
                }
                None => return,
            },
            Ok(()) = drain.changed() => watchdog.look(*drain.borrow_and_update(), &node.overload.actions()),
            () = look.as_mut() => {
                worker.settle();
                watchdog.look(*drain.borrow(), &node.overload.actions());
                look.as_mut().reset(clock::timer_now() + Watchdog::pause(&node.config.load().limits));
            }
            _ = sweep.tick() => {
                let idle_timeout = node.overload.actions().shortened(node.config.load().upstream.idle_timeout);
                worker.pool.sweep(node.connector.load().generation(), idle_timeout);
            }
        }
    }
}

/// Says how late this thread's timers are, for ever.
async fn measure_lag(lag: Arc<LoopLag>) {
    loop {
        lag.fired(clock::uptime());
        sleep(LoopLag::PERIOD).await;
    }
}

/// Counts a connection among its listener's, its worker's and the node's until it ends, however it ends: in a panic, too.
struct Counted {
    worker: Arc<Worker>,
    listener: Arc<ListenerFacts>,
    _of_node: InFlight,
}

impl Counted {
    /// Counts a connection that its worker counts already.
    fn new(worker: Arc<Worker>, listener: Arc<ListenerFacts>, of_node: InFlight) -> Self {
        listener.open.inc();
        Self { worker, listener, _of_node: of_node }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.listener.open.dec();
        self.worker.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The life of one client connection. What it needs for a while only is in a box: a task is as large as the largest of its
/// states.
async fn connection(worker: Arc<Worker>, accepted: Accepted, watched: Arc<Watched>) {
    let Accepted { stream, peer, listener, counted, place } = accepted;
    let _counted = Counted::new(worker.clone(), listener.clone(), counted);
    let opening = Box::pin(open(worker.clone(), stream, (peer, place), listener, watched.activity.clone()));
    let opened = watched.unless_cut(opening).await.unwrap_or_else(|| Err(ErrorKind::TimedOut.into()));
    let Opened { connection, stream, http2 } = match opened {
        Ok(opened) => opened,
        Err(error) => {
            tracing::debug!(%error, %peer, "connection failed before HTTP");
            return;
        }
    };
    watched.speaks(http2, worker.node.occupancy.draining());
    if http2 {
        Box::pin(serve_http2(worker, connection, watched, stream)).await;
    } else {
        serve_http1(worker, connection, watched, stream).await;
    }
}

/// A connection that is ready for HTTP.
struct Opened {
    connection: Arc<ClientConnection>,
    stream: ClientStream,
    http2: bool,
}

async fn open(
    worker: Arc<Worker>,
    stream: StdStream,
    (mut peer, mut place): (SocketAddr, Option<ClientPlace>),
    listener: Arc<ListenerFacts>,
    activity: Arc<Activity>,
) -> std::io::Result<Opened> {
    let mut stream = TcpStream::from_std(stream)?;
    let node = &worker.node;
    let settings = listener.settings(&node.config.load());
    first_byte(&stream, &activity).await?;
    let mut speaks = ProxyHeader::Proxy;
    if settings.proxy_protocol && node.databases.load().trusted.contains(peer.ip()) {
        speaks = caller(&mut stream).await.inspect_err(|fault| {
            node.telemetry.metrics.proxy_header_refusals.with_label_values(&[fault.cause()]).inc();
        })?;
        // Its client may have opened a connection ahead of its need.
        activity.rest();
        first_byte(&stream, &activity).await?;
    }
    if let ProxyHeader::Client(client) = speaks {
        peer = client;
        place = take_place(node, peer.ip())?;
    }
    let unnamed = speaks == ProxyHeader::Unknown;
    // Of a client that stands behind a proxy, the kernel knows nothing.
    let way = if speaks == ProxyHeader::Proxy { handshake(&stream) } else { None };
    let Some(certificates) = &listener.tls else {
        let http2 = speaks_http2(&stream).await?;
        let connection =
            ClientConnection::new(peer, activity, None, settings).unnamed(unnamed).placed(place).at_round_trip(way);
        return Ok(Opened { connection: Arc::new(connection), stream: ClientStream::Plain(stream), http2 });
    };
    let not_a_node = |refusal: &CertificateRefusal| {
        node.peers.refusals.of_client(&node.telemetry.metrics, refusal.cause(), peer, refusal);
    };
    let serving = certificates.current();
    let stream = serving.acceptor.accept(stream).await.inspect_err(|error| {
        if let Some(refusal) = shown_certificate(error) {
            not_a_node(&refusal);
        }
    })?;
    let (_, session) = stream.get_ref();
    let http2 = session.alpn_protocol() == Some(b"h2");
    let shown = session.peer_certificates().map(|chain| chain.iter().map(|c| c.clone().into_owned()).collect());
    let known = node.peers.load_full();
    let peers = shown.map(|chain| PeerSession::begin(chain, &known)).transpose();
    let peers = peers.map_err(|refusal| {
        not_a_node(&refusal);
        std::io::Error::other(refusal)
    })?;
    let facts = tls_facts(session.server_name(), &serving, peers);
    activity.rest();
    let connection =
        ClientConnection::new(peer, activity, Some(facts), settings).unnamed(unnamed).placed(place).at_round_trip(way);
    Ok(Opened { connection: Arc::new(connection), stream: ClientStream::Tls(Box::new(stream)), http2 })
}

/// Waits for the next byte, for which a connection may idle, and notes that something has begun with it.
async fn first_byte(stream: &TcpStream, activity: &Activity) -> std::io::Result<()> {
    // A socket may be said to be readable, and not be.
    stream.peek(&mut [0]).await?;
    activity.received();
    Ok(())
}

fn tls_facts(sni: Option<&str>, serving: &Serving, node: Option<PeerSession>) -> TlsFacts {
    let sni = sni.map(plain_name);
    TlsFacts { names: serving.set.names(sni.as_deref()), sni, node, was_asked: serving.asks() }
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
