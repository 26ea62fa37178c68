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
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use crate::admin::Admin;
use crate::boundary::Boundaries;
use crate::bus::thread::BusThread;
use crate::cancellations::Cancellations;
use crate::clock::{self, LawClock, run_coarse_clock};
use crate::databases::CurrentDatabases;
use crate::descriptors;
use crate::in_force::InForce;
use crate::ingress::listener::{Families, Listener, bind, listen};
use crate::ingress::worker::Workers;
use crate::listener::ListenerFacts;
use crate::load::Inbox;
use crate::node::{Node, RefusedReloads};
use crate::occupancy::{Drain, Occupancy};
use crate::overload::Overload;
use crate::overload_watch::watch_overload;
use crate::peers::CurrentPeers;
use crate::prepare::{Components, Identity, LoadedNode};
use crate::probes::watch::Watch;
use crate::reload::{Reloader, Watches};
use crate::routing::{self, CurrentRouting, Edition, PersistedState};
use crate::server_tls::ServerTls;
use crate::signals::{Asked, Signals};
use crate::supervise::{self, Kept, Need};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::client_abuse::AbuseLog;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::{Telemetry, log};
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
/// When a socket cannot be bound or a thread cannot be started; and once it has drained, when a part of it has ended that
/// it cannot do without.
pub(crate) fn run(loaded: LoadedNode, watches: Watches, law: Arc<LawClock>, options: RunOptions) -> anyhow::Result<()> {
    let LoadedNode { config, document, components } = loaded;
    let Components { geo, tokens, identity: Identity { peers, mut certificates, connector, warnings: _ } } = components;
    // From here on, before anybody can know of us: a signal must find its handler.
    let signal_runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = Signals::catch(&signal_runtime)?;
    for warning in config.warnings.iter().chain(document.iter().flat_map(|document| &document.warnings)) {
        tracing::warn!("{warning}");
    }
    if let Some(shortage) = descriptors::shortage(descriptors::raise_limit(), &config.limits) {
        tracing::warn!("{shortage}");
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

    let peers = Arc::new(ArcSwap::from(peers));
    let persisted = PersistedState::default();
    let metrics = Metrics::new();
    let (document, published, bus) = match (document, &config.routing) {
        (Some(document), _) => (document, None, None),
        (None, Routing::Bus(source)) => {
            let mut bus = BusThread::start(&config, source, &persisted, &metrics, &law, peers.clone())?;
            let Some(table) = bus.first_table(admin_socket.as_ref(), &mut signals)? else { return Ok(()) };
            (table.document.clone(), Some(table.published()), Some(bus))
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
    let edition = Edition { generation: 1, published };
    let routing = routing::Routing::new(document, &config.region, cap, edition, &persisted)?;
    crate::reload::log_emergency(None, routing.table());
    let access_log = if options.access_log { AccessLog::stdout()? } else { AccessLog::off() };
    let node = Arc::new(Node {
        routing: CurrentRouting::new(routing, persisted, law),
        databases: CurrentDatabases::new(geo),
        tokens: InForce::new(tokens),
        peers: CurrentPeers::new(peers),
        bodies: connector.bodies().clone(),
        connector: ArcSwap::from_pointee(connector),
        listeners,
        occupancy: Occupancy::default(),
        overload: Overload::default(),
        cancellations: Cancellations::default(),
        telemetry: Telemetry { metrics, access_log, abuse: AbuseLog::default() },
        inbox: Inbox::default(),
        reloads: RefusedReloads::default(),
        bus: bus.as_ref().map(|bus| bus.state.clone()),
        started: clock::unix_seconds(),
        via: Via::new(),
        written: ArcSwap::from_pointee(config.clone()),
        config: InForce::new(config),
    });
    let config = node.config.load_full();
    node.occupancy.requests.set_limit(config.limits.requests_in_flight);
    let shutdown = bus.map(|bus| bus.serve(&node));

    supervise::thread("clock", Need::Vital, run_coarse_clock)?;
    let watched = node.clone();
    supervise::thread("overload", Need::Vital, move || watch_overload(&watched))?;
    let look = Arc::new(Notify::new());
    let stop = Stop { node: node.clone(), signals: Mutex::new(Some(signals)), look: look.clone() };

    let mut server = Server::new_with_opt_and_conf(None, ServerConf { threads: 1, ..ServerConf::default() });
    server.bootstrap();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (workers, worker_threads) = Workers::start(&node, config.threads.unwrap_or(cores))?;
    for (listener, socket) in node.listeners.iter().zip(accepting) {
        let kind = if listener.tls.is_some() { "https" } else { "http" };
        tracing::info!(kind, address = %listener.address, "listening");
        let listener = Listener::new(node.clone(), workers.clone(), listener.clone(), socket);
        server.add_service(background_service("listener", Kept::new("listener", listener)));
    }
    if let Some(socket) = admin_socket {
        server.add_service(background_service("admin", Kept::new("admin", Admin::new(node.clone(), socket))));
    }
    let reloader = Reloader::new(node.clone(), watches, look);
    server.add_service(background_service("health", Kept::new("health", Watch::new(node.clone()))));
    server.add_service(background_service("boundary", Kept::new("boundary", Boundaries::new(node.clone()))));
    server.add_service(background_service("reload", Kept::new("reload", reloader)));

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
    match supervise::fault() {
        Some(fault) => anyhow::bail!("{fault}"),
        None => tracing::info!("stopped"),
    }
    Ok(())
}

/// Waits for a signal or a fault that ends the node, and for the drain before the end. pingora's own grace period is a
/// plain sleep; this one ends with the last connection.
struct Stop {
    node: Arc<Node>,
    /// Until they are waited for.
    signals: Mutex<Option<Signals>>,
    /// Has all files looked at.
    look: Arc<Notify>,
}

/// How long clients are asked to close before idle connections are closed on them: a request that
/// crosses our FIN on the wire would fail.
const ANNOUNCE: Duration = Duration::from_millis(2500);

/// How long what is under way has when a part of the node has failed: without it, nobody knows how well the rest goes.
const FAULTY: Duration = Duration::from_secs(10);

/// How long the workers have to cut what is under way: no more than to drop it.
const CUT: Duration = Duration::from_secs(1);

/// How long the reader of stdout has for the access log's last lines, and that of stderr for the log's: a log shipper that
/// is behind catches up, and what supervises the node does not lose patience.
pub(crate) const LAST_LINES: Duration = Duration::from_secs(2);

#[async_trait]
impl ShutdownSignalWatch for Stop {
    async fn recv(&self) -> ShutdownSignal {
        let signals = self.signals.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let Some(mut signals) = signals else { return ShutdownSignal::FastShutdown };
        let leaving = tokio::select! {
            asked = self.asked(&mut signals) => match asked {
                Asked::Leave => Some(self.leaving()),
                Asked::End | Asked::Look => None,
            },
            () = supervise::node_fails() => Some(Leaving { announce: Duration::ZERO, all: FAULTY }),
        };
        match leaving {
            None => tracing::info!("interrupted"),
            Some(leaving) => tokio::select! {
                () = self.drain(leaving) => {}
                () = self.interrupted(&mut signals) => tracing::warn!("interrupted while draining"),
            },
        }
        supervise::stopping();
        ShutdownSignal::FastShutdown
    }
}

/// How long a node takes to leave.
#[derive(Clone, Copy, Debug)]
struct Leaving {
    /// It says so, and takes connections all the same: who sends them has yet to hear it.
    announce: Duration,
    /// All of it, at most.
    all: Duration,
}

impl Stop {
    /// Waits until a signal asks the node to end. Until then, one that asks it to look has it look.
    async fn asked(&self, signals: &mut Signals) -> Asked {
        loop {
            match signals.next().await {
                Asked::Look => {
                    tracing::info!("SIGHUP: all files are looked at, and the logs opened anew");
                    log::reopen();
                    self.node.telemetry.access_log.reopen();
                    self.look.notify_one();
                }
                asked => return asked,
            }
        }
    }

    async fn interrupted(&self, signals: &mut Signals) {
        while self.asked(signals).await != Asked::End {}
    }

    /// How long the node file and the table let it take. What `POST /drain` has announced already counts.
    fn leaving(&self) -> Leaving {
        let all = self.node.routing.load().table().spec().failover.drain_timeout;
        let announce = self.node.config.load().drain.announce;
        Leaving { announce: announce.saturating_sub(self.node.occupancy.announced_for()), all }
    }

    async fn drain(&self, leaving: Leaving) {
        let occupancy = &self.node.occupancy;
        let start = clock::timer_now();
        let deadline = start + leaving.all;
        // First done, then said: whoever reads the log may ask.
        occupancy.drain_to(Drain::Announced);
        tracing::info!(connections = occupancy.connections.load(Ordering::Relaxed), "draining");
        sleep_until(deadline.min(start + leaving.announce)).await;
        occupancy.drain_to(Drain::Stopping);
        self.emptied(deadline).await;
        // Of the sockets that take connections none is left, or they do not get to it.
        let cut = occupancy.alive();
        if cut > 0 {
            tracing::warn!(live = cut, "the drain's time is up; what is left is cut");
        }
    }

    /// Waits until nothing is under way, until a deadline. Idle connections are closed after a while.
    async fn emptied(&self, deadline: Instant) {
        let occupancy = &self.node.occupancy;
        let asked_to_close = clock::timer_now() + ANNOUNCE;
        while occupancy.alive() > 0 && clock::timer_now() < deadline {
            if clock::timer_now() >= asked_to_close && occupancy.draining() < Drain::Closing {
                occupancy.drain_to(Drain::Closing);
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}
