//! The thread that follows the bus: its start, the first table, and its end. The first table comes from the bus, or
//! else from the snapshot; until then the node is not ready, and says why.

use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use config::bus::Witness;
use config::{BusSource, NodeConfig};
use tokio::sync::{mpsc, oneshot};

use super::controller::TableController;
use super::examine::Table;
use super::lifecycle::ShutdownNotice;
use super::session::Follower;
use crate::admin::serve_while_waiting;
use crate::bus_state::BusState;
use crate::bus_state::freshness::Freshness;
use crate::clock::LawClock;
use crate::node::Node;
use crate::peers::Peers;
use crate::routing::PersistedState;
use crate::signals::{Asked, Signals};
use crate::supervise::{self, Irreplaceable};
use crate::telemetry::log;
use crate::telemetry::metrics::Metrics;

/// The thread that follows the bus, until there is a node. Lives for the length of the start.
pub(crate) struct BusThread {
    /// The state of the bus.
    pub(crate) state: Arc<BusState>,
    /// The host names that the admin listener accepts.
    admin_hosts: Vec<String>,
    first: oneshot::Receiver<Arc<Table>>,
    node: oneshot::Sender<Arc<Node>>,
    stop: mpsc::Sender<ShutdownNotice>,
}

/// Ends the thread when the node ends. Held by the main thread.
pub(crate) struct Shutdown(mpsc::Sender<ShutdownNotice>);

impl BusThread {
    /// Starts to follow a bus.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(crate) fn start(
        config: &NodeConfig,
        source: &BusSource,
        persisted: &PersistedState,
        metrics: &Metrics,
        law: &Arc<LawClock>,
        peers: Arc<ArcSwap<Peers>>,
    ) -> anyhow::Result<Self> {
        let freshness = Freshness::new(source, persisted.expired.clone());
        if source.witness() == Witness::Bus {
            let bucket = &source.access.bucket;
            tracing::warn!(
                bucket,
                "without trusted_keys, whoever may write the bucket decides which regions may serve whom: sign tables \
                 (meridian publish --sign KEY), and name the public key in [routing.bus] trusted_keys"
            );
        }
        let state = BusState::new(config, source, freshness, metrics.clone(), law.clone(), peers);
        let (first, first_taken) = oneshot::channel();
        let (node, node_made) = oneshot::channel();
        let (stop, stopped) = mpsc::channel(1);
        let (source, shared) = (source.clone(), state.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let follow = move || {
            let irreplaceable = Irreplaceable::new("bus");
            let tasks = tokio::task::LocalSet::new();
            let tables = TableController::new(source.clone(), shared.clone(), first, node_made);
            tasks.block_on(&runtime, Follower::new(source, shared, tables).run(stopped));
            irreplaceable.release();
        };
        std::thread::Builder::new().name("bus".into()).spawn(follow).context("cannot start the bus's thread")?;
        Ok(Self { state, admin_hosts: config.admin_hosts.clone(), first: first_taken, node, stop })
    }

    /// Waits for the first table, while `admin` says why there is none. `None` when a signal ends the
    /// wait.
    ///
    /// # Errors
    /// When the wait cannot be arranged, or the thread has ended.
    pub(crate) fn first_table(
        &mut self,
        admin: Option<&StdListener>,
        signals: &mut Signals,
    ) -> anyhow::Result<Option<Arc<Table>>> {
        let admin = admin.map(StdListener::try_clone).transpose()?;
        // A runtime of its own: the admin listener's remaining connections end with it.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let table = runtime.block_on(async {
            let waiting = serve_while_waiting(admin, &self.admin_hosts, self.state.clone());
            tokio::select! {
                table = &mut self.first => Ok(Some(table.context("the bus's thread has ended")?)),
                () = asked_to_end(signals) => {
                    tracing::info!("stopped while waiting for a routing table");
                    Ok(None)
                }
                () = waiting => Ok(None),
            }
        });
        if matches!(table, Ok(None)) {
            supervise::stopping();
            Shutdown(self.stop.clone()).run();
        }
        table
    }

    /// Hands over the node that was made of the first table.
    pub(crate) fn serve(self, node: &Arc<Node>) -> Shutdown {
        // The thread lives as long as the process.
        let _ = self.node.send(node.clone());
        Shutdown(self.stop)
    }
}

/// Waits for a signal that ends the node. There is nothing to drain, and all files are read anew with the table.
async fn asked_to_end(signals: &mut Signals) {
    while signals.next().await == Asked::Look {
        tracing::info!("SIGHUP: the log is reopened");
        log::reopen();
    }
}

impl Shutdown {
    /// Deletes the node's report from the bus, or gives up after a second or so.
    pub(crate) fn run(self) {
        let (notice, done) = ShutdownNotice::new();
        if self.0.try_send(notice).is_ok() {
            let _ = done.recv_timeout(LONGEST_SHUTDOWN);
        }
    }
}

/// How long the process waits for the bus's thread at its end: a bus or a disk that hangs must not delay it.
const LONGEST_SHUTDOWN: Duration = Duration::from_millis(1500);
