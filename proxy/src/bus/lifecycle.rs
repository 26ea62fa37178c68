//! What the node and its bus's thread hand each other: the first table, the node that is made of it, and the end.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tokio::sync::oneshot;

use super::examine::Table;
use crate::node::Node;
use crate::reload::put_in_force;

/// The progress of the node's start. Lives as long as the process, on the bus's thread.
pub(super) enum Startup {
    /// The node is made of the first table, which goes to the start.
    Starting(Option<oneshot::Sender<Arc<Table>>>, oneshot::Receiver<Arc<Node>>),
    /// The node is made, and serves.
    Serving(Arc<Node>),
}

impl Startup {
    /// Returns the node, once there is one.
    pub(super) fn node(&self) -> Option<&Arc<Node>> {
        match self {
            Startup::Serving(node) => Some(node),
            Startup::Starting(..) => None,
        }
    }

    /// Waits for the node that is made of the first table; for ever, once the node is there.
    pub(super) async fn made(&mut self) -> Arc<Node> {
        match self {
            Startup::Starting(None, node) => match node.await {
                Ok(node) => node,
                Err(_) => std::future::pending().await,
            },
            Startup::Starting(Some(_), _) | Startup::Serving(_) => std::future::pending().await,
        }
    }

    /// Puts a table in force, or has the node made of it. `source` is the bus's name in `/status`.
    pub(super) fn put(&mut self, table: &Arc<Table>, source: &Path) {
        match self {
            Startup::Starting(first, _) => {
                // A later table that comes in force while the node is made is put in force once it is there.
                if let Some(first) = first.take() {
                    // The start is gone only when the process ends.
                    let _ = first.send(table.clone());
                }
            }
            Startup::Serving(node) => {
                match put_in_force(node, table.document.clone(), Some(table.published())) {
                    Ok(_) => {
                        node.telemetry.metrics.table_reloads.with_label_values(&["applied"]).inc();
                        node.reloads.accept(source);
                    }
                    // The examination has checked for this node's region, the only requirement.
                    Err(problems) => _ = node.reloads.reject(source.to_owned(), problems.0),
                }
            }
        }
    }
}

/// Ends the bus's thread.
pub(super) struct ShutdownNotice(SyncSender<()>);

impl ShutdownNotice {
    /// Returns a notice, and the receiver that learns when the thread has finished.
    pub(super) fn new() -> (Self, Receiver<()>) {
        let (done, is_done) = sync_channel(1);
        (Self(done), is_done)
    }

    /// Reports that the thread has finished.
    pub(super) fn done(self) {
        // The receiver may have stopped waiting.
        let _ = self.0.try_send(());
    }
}
