//! Wiring: the only place that knows all of a node's components.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use config::Routing;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};
use pingora::services::background::background_service;
use tokio::time::sleep;

use crate::admin::Admin;
use crate::boundary::Boundaries;
use crate::bus::thread::BusThread;
use crate::clock::{self, LawClock, start_coarse_clock};
use crate::databases::CurrentDatabases;
use crate::ingress::listener::{Families, Listener, bind, listen};
use crate::ingress::worker::Workers;
use crate::listener::ListenerFacts;
use crate::load::Inbox;
use crate::node::{Node, RefusedReloads};
use crate::occupancy::{Drain, Occupancy};
use crate::peers::CurrentPeers;
use crate::prepare::{Components, Identity, LoadedNode};
use crate::probes::watch::Watch;
use crate::reload::{Reloader, Watches};
use crate::routing::{self, CurrentRouting, Edition, PersistedState};
use crate::server_tls::ServerTls;
use crate::signals::Signals;
use crate::telemetry::Telemetry;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::via::Via;

/// The options of a run beside its node file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunOptions {
    /// Whether requests are logged to stdout.
    pub(crate) access_log: bool,
}

/// Runs a node until a signal ends it. Returns once it has drained. `law` is the clock that its files were read
/// by.
///
/// # Errors
/// When a socket cannot be bound or a thread cannot be started.
pub(crate) fn run(loaded: LoadedNode, watches: Watches, law: Arc<LawClock>, options: RunOptions) -> anyhow::Result<()> {
    let LoadedNode { config, document, components } = loaded;
    let Components { geo, tokens, identity: Identity { peers, mut certificates, connector, warnings: _ } } = components;
    for warning in config.warnings.iter().chain(document.iter().flat_map(|document| &document.warnings)) {
        tracing::warn!("{warning}");
    }

    let mut sockets = Vec::new();
    let all: Vec<_> = config.listeners.iter().map(|listener| listener.address).chain(config.admin).collect();
    let bind = |address| bind(address, Families::of(address, &all));
    for listener in &config.listeners {
        let socket = bind(listener.address).with_context(|| format!("cannot listen on {}", listener.address))?;
        sockets.push(socket);
    }
    let admin_socket = config
        .admin
        .map(|address| {
            bind(address).and_then(listen).with_context(|| format!("cannot listen on {address} for [admin]"))
        })
        .transpose()?;
    if let Some(socket) = &admin_socket {
        tracing::info!(kind = "admin", address = %socket.local_addr()?, "listening");
    }
    // From here on, before anybody can know of us: a signal must find its handler.
    let signal_runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = Signals::catch(&signal_runtime)?;

    let peers = Arc::new(ArcSwap::from(peers));
    let persisted = PersistedState::default();
    let metrics = Metrics::new();
    let (document, revision, bus) = match (document, &config.routing) {
        (Some(document), _) => (document, 1, None),
        (None, Routing::Bus(source)) => {
            let mut bus = BusThread::start(&config, source, &persisted, &metrics, &law, peers.clone())?;
            let Some(table) = bus.first_table(admin_socket.as_ref(), &mut signals)? else { return Ok(()) };
            (table.document.clone(), table.version.revision, Some(bus))
        }
        (None, Routing::File(file)) => anyhow::bail!("{}: the routing table was not loaded", file.display()),
    };
    let mut listeners = Vec::new();
    let mut accepting = Vec::new();
    for (socket, (id, listener)) in sockets.into_iter().zip(config.listeners_by_id()) {
        let name = listener.address.to_string();
        let socket = listen(socket).with_context(|| format!("cannot listen on {name}"))?;
        let tls = certificates.remove(&id).map(|set| ServerTls::new(set, &peers.load())).transpose()?;
        let open = metrics.active_connections.with_label_values(&[&name]);
        listeners.push(Arc::new(ListenerFacts { id, name, address: socket.local_addr()?, tls, open }));
        accepting.push(socket);
    }
    let cap = config.limits.requests_in_flight_per_region;
    let edition = Edition { generation: 1, revision };
    let routing = routing::Routing::new(document, &config.region, cap, edition, &persisted)?;
    let access_log =
        if options.access_log { AccessLog::stdout(metrics.access_log_dropped.clone())? } else { AccessLog::off() };
    let node = Arc::new(Node {
        routing: CurrentRouting::new(routing, persisted, law),
        databases: CurrentDatabases::new(geo),
        tokens: ArcSwap::from_pointee(tokens),
        peers: CurrentPeers::new(peers),
        connector: ArcSwap::from_pointee(connector),
        listeners,
        occupancy: Occupancy::default(),
        telemetry: Telemetry { metrics, access_log },
        inbox: Inbox::default(),
        reloads: RefusedReloads::default(),
        bus: bus.as_ref().map(|bus| bus.state.clone()),
        started: clock::unix_seconds(),
        via: Via::new(),
        written: ArcSwap::from_pointee(config.clone()),
        config: ArcSwap::from_pointee(config),
    });
    let config = node.config.load_full();
    let shutdown = bus.map(|bus| bus.serve(&node));

    start_coarse_clock()?;
    let stop = Stop { node: node.clone(), signals: Mutex::new(Some(signals)) };

    let mut server = Server::new_with_opt_and_conf(None, ServerConf { threads: 1, ..ServerConf::default() });
    server.bootstrap();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (workers, worker_threads) = Workers::start(&node, config.threads.unwrap_or(cores))?;
    for (listener, socket) in node.listeners.iter().zip(accepting) {
        let kind = if listener.tls.is_some() { "https" } else { "http" };
        tracing::info!(kind, address = %listener.address, "listening");
        server.add_service(Listener::new(node.clone(), workers.clone(), listener.clone(), socket));
    }
    if let Some(socket) = admin_socket {
        server.add_service(background_service("admin", Admin::new(node.clone(), socket)));
    }
    server.add_service(background_service("health", Watch::new(node.clone())));
    server.add_service(background_service("boundary", Boundaries::new(node.clone())));
    server.add_service(background_service("reload", Reloader::new(node.clone(), watches)));

    let routing = node.routing.load();
    tracing::info!(
        node = config.name,
        region = config.region,
        table = routing.table().spec().version,
        workers = config.threads.unwrap_or(cores),
        "meridian serves"
    );
    drop(routing);
    server.run(RunArgs { shutdown_signal: Box::new(stop) });
    worker_threads.end(CUT);
    node.telemetry.access_log.finish(LAST_LINES);
    drop(signal_runtime);
    if let Some(shutdown) = shutdown {
        shutdown.run();
    }
    tracing::info!("stopped");
    Ok(())
}

/// Waits for a signal and, for SIGTERM, for the drain after it. pingora's own grace period is a
/// plain sleep; this one ends with the last connection.
struct Stop {
    node: Arc<Node>,
    /// Until they are waited for.
    signals: Mutex<Option<Signals>>,
}

/// How long clients are asked to close before idle connections are closed on them: a request that
/// crosses our FIN on the wire would fail.
const ANNOUNCE: Duration = Duration::from_millis(2500);

/// How long the workers have to cut what is under way: no more than to drop it.
const CUT: Duration = Duration::from_secs(1);

/// How long the reader of stdout has for the access log's last lines: a log shipper that is behind catches up, and what
/// supervises the node does not lose patience.
const LAST_LINES: Duration = Duration::from_secs(2);

#[async_trait]
impl ShutdownSignalWatch for Stop {
    async fn recv(&self) -> ShutdownSignal {
        let signals = self.signals.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let Some(Signals { mut terminate, mut interrupt }) = signals else { return ShutdownSignal::FastShutdown };
        tokio::select! {
            _ = terminate.recv() => {
                tokio::select! {
                    () = self.drain() => {}
                    _ = interrupt.recv() => tracing::warn!("interrupted while draining"),
                }
            }
            _ = interrupt.recv() => tracing::info!("interrupted"),
        }
        ShutdownSignal::FastShutdown
    }
}

impl Stop {
    async fn drain(&self) {
        let node = &self.node;
        let deadline = clock::timer_now() + node.routing.load().table().spec().failover.drain_timeout;
        tracing::info!(connections = node.occupancy.connections.load(Ordering::Relaxed), "draining");
        node.occupancy.drain_to(Drain::Stopping);
        let announced = clock::timer_now() + ANNOUNCE;
        while node.occupancy.alive() > 0 && clock::timer_now() < deadline {
            if clock::timer_now() >= announced && node.occupancy.draining() < Drain::Closing {
                node.occupancy.drain_to(Drain::Closing);
            }
            sleep(Duration::from_millis(20)).await;
        }
        let cut = node.occupancy.alive();
        if cut > 0 {
            tracing::warn!(live = cut, "the drain's time is up; what is left is cut");
        }
    }
}
