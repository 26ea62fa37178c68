//! Whether there is a node to put tables in force on: it is made of the first table.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::tables::Table;
use crate::node::Node;
use crate::reload::put_in_force;

/// Before and after there is a node.
pub enum Stage {
    /// Not yet: the first table goes to the start.
    Starting(Option<oneshot::Sender<Arc<Table>>>, oneshot::Receiver<Arc<Node>>),
    /// There is.
    Serving(Arc<Node>),
}

impl Stage {
    /// The node, once there is one.
    pub fn node(&self) -> Option<&Arc<Node>> {
        match self {
            Stage::Serving(node) => Some(node),
            Stage::Starting(..) => None,
        }
    }

    /// Whether the first table is on its way to the start.
    pub fn is_handing_over(&self) -> bool {
        matches!(self, Stage::Starting(None, _))
    }

    /// Waits for the node that is made of the first table; for ever, once it is there.
    pub async fn made(&mut self) -> Arc<Node> {
        match self {
            Stage::Starting(None, node) => match node.await {
                Ok(node) => node,
                Err(_) => std::future::pending().await,
            },
            Stage::Starting(Some(_), _) | Stage::Serving(_) => std::future::pending().await,
        }
    }

    /// Puts a table in force, or makes the node of it. `source` is what `/status` calls the bus.
    pub fn put(&mut self, table: &Arc<Table>, source: &Path) {
        match self {
            Stage::Starting(first, _) => {
                if let Some(first) = first.take() {
                    // The start is gone only when the process ends.
                    let _ = first.send(table.clone());
                }
            }
            Stage::Serving(node) => {
                match put_in_force(node, table.document.clone(), Some(table.version.revision)) {
                    Ok(_) => {
                        node.telemetry.metrics.table_reloads.with_label_values(&["applied"]).inc();
                        node.reloads.accept(source);
                    }
                    // Examined, it has this node's region: nothing else is asked.
                    Err(problems) => node.reloads.reject(source.to_owned(), problems.0),
                }
            }
        }
    }
}
