//! When to reload: each kind of file has a watch of its own, and what could not be read is tried again.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use config::{FileWatch, NodeConfig, Problems};
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::{
    Outcome, certificate_boundary, certificate_files, refuse, reload_certificates, reload_databases, reload_node_file,
    reload_table, reload_token_keys, token_key_files,
};
use crate::node::Node;
use crate::prepare::problem;
use crate::supervise::rehearse;
use crate::upstream::name_servers::system_files;

/// Reloads what changes among the files that a node is made of.
pub(crate) struct Reloader {
    node: Arc<Node>,
    watches: Mutex<Option<Watches>>,
    /// Has everything looked at.
    look: Arc<Notify>,
}

/// The watches while a task follows them. They outlive it, for the task that is started in its place.
struct Followed<'a> {
    place: &'a Mutex<Option<Watches>>,
    watches: Option<Watches>,
}

impl Reloader {
    /// Reloads this node: what changes, and everything whenever `look` is notified.
    pub(crate) fn new(node: Arc<Node>, watches: Watches, look: Arc<Notify>) -> Self {
        Self { node, watches: Mutex::new(Some(watches)), look }
    }
}

impl Drop for Followed<'_> {
    fn drop(&mut self) {
        *lock(self.place) = self.watches.take();
    }
}

fn lock(watches: &Mutex<Option<Watches>>) -> MutexGuard<'_, Option<Watches>> {
    watches.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl BackgroundService for Reloader {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let watches = lock(&self.watches).take();
        let mut followed = Followed { place: &self.watches, watches };
        let Some(watches) = &mut followed.watches else { return };
        tokio::select! {
            () = watches.follow(&self.node, &self.look) => {}
            _ = shutdown.changed() => {}
        }
    }
}

/// A kind of file, with a watch and a reload of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    NodeFile,
    Table,
    Databases,
    Certificates,
    TokenKeys,
    Names,
}

/// One watch for each kind of file, so that a change reloads what it must and no more.
pub(crate) struct Watches {
    node_file: FileWatch,
    table: FileWatch,
    databases: FileWatch,
    certificates: FileWatch,
    token_keys: FileWatch,
    /// What the system says of names: `resolv.conf` and `hosts`.
    names: FileWatch,
}

impl Watches {
    /// Watches what a node file names. To be made before anything is read for use: what changes
    /// after that is then seen.
    ///
    /// # Errors
    /// When the node file is bad, or nothing can be watched.
    pub(crate) fn of(node_file: &Path) -> Result<Self, Problems> {
        let config = NodeConfig::load(node_file)?;
        let table = match &config.routing {
            config::Routing::File(table) => vec![table.clone()],
            config::Routing::Bus(_) => Vec::new(),
        };
        let watch = |paths| {
            let failed = |error: std::io::Error| problem(node_file, "", format!("files cannot be watched: {error}"));
            FileWatch::new(paths).map_err(|error| Problems(vec![failed(error)]))
        };
        Ok(Self {
            node_file: watch(vec![node_file.to_owned()])?,
            table: watch(table)?,
            databases: watch(config.geoip.databases.clone())?,
            certificates: watch(certificate_files(&config))?,
            token_keys: watch(token_key_files(&config))?,
            names: watch(system_files().to_vec())?,
        })
    }

    async fn follow(&mut self, node: &Node, look: &Notify) {
        self.table.set_paths(node.routing.load().document.files().to_vec());
        let mut unread = BTreeSet::new();
        loop {
            let (again, watched) = (!unread.is_empty(), &mut *self);
            let changed = tokio::select! {
                () = watched.node_file.changed() => vec![Kind::NodeFile],
                () = watched.table.changed() => vec![Kind::Table],
                () = watched.databases.changed() => vec![Kind::Databases],
                () = watched.certificates.changed() => vec![Kind::Certificates],
                () = certificate_boundary(node) => vec![Kind::Certificates],
                () = watched.token_keys.changed() => vec![Kind::TokenKeys],
                () = watched.names.changed() => vec![Kind::Names],
                () = look.notified() => {
                    // All that the node file names is read with it.
                    watched.acknowledge();
                    vec![Kind::NodeFile, Kind::Table, Kind::Names]
                }
                () = sleep(AGAIN), if again => unread.iter().copied().collect(),
            };
            for kind in changed {
                match self.survive(kind, node) {
                    Outcome::Settled => _ = unread.remove(&kind),
                    Outcome::Unread => _ = unread.insert(kind),
                }
            }
        }
    }

    /// Reloads, and takes a panic for a fault of the files: what was in force stays, and they are not read again.
    fn survive(&mut self, kind: Kind, node: &Node) -> Outcome {
        let reload = AssertUnwindSafe(|| {
            rehearse("reading");
            self.reload(kind, node)
        });
        catch_unwind(reload).unwrap_or_else(|_| {
            let config = node.config.load();
            let source = match (kind, &config.routing) {
                (Kind::Table, config::Routing::File(table)) => table,
                _ => &config.file,
            };
            let why = "a reload made Meridian itself fail: please report it with the files".to_owned();
            refuse(node, source, &Problems(vec![problem(source, "", why)]), "reload failed; what was in force stays")
        })
    }

    fn reload(&mut self, kind: Kind, node: &Node) -> Outcome {
        match kind {
            Kind::NodeFile => {
                let outcome = reload_node_file(node);
                let config = node.config.load();
                self.databases.set_paths(config.geoip.databases.clone());
                self.certificates.set_paths(certificate_files(&node.written.load()));
                self.token_keys.set_paths(token_key_files(&config));
                outcome
            }
            Kind::Table => {
                let outcome = reload_table(node);
                self.table.set_paths(node.routing.load().document.files().to_vec());
                outcome
            }
            Kind::Databases => reload_databases(node),
            Kind::Certificates => reload_certificates(node),
            Kind::TokenKeys => reload_token_keys(node),
            Kind::Names => {
                if node.connector.load().read_system_names() {
                    tracing::info!("the system's name servers and hosts were read anew");
                }
                Outcome::Settled
            }
        }
    }

    /// Takes what is there now for known.
    fn acknowledge(&mut self) {
        let Self { node_file, table, databases, certificates, token_keys, names } = self;
        [node_file, table, databases, certificates, token_keys, names].into_iter().for_each(FileWatch::acknowledge);
    }
}

/// From a reload that could not read its files to the next.
const AGAIN: Duration = Duration::from_secs(2);
