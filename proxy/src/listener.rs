//! What the connections of a listener need to know of it.

use std::net::SocketAddr;
use std::sync::Arc;

use config::{ListenerId, NodeConfig, ProxyProtocol};
use prometheus::IntGauge;

use crate::server_tls::ServerTls;

/// A listening socket, which is there for as long as the process is. What a reload changes of it is in the node file
/// in force, under its `id`, and in `tls`.
#[derive(Debug)]
pub(crate) struct ListenerFacts {
    /// Which of the node file's listeners it is.
    pub(crate) id: ListenerId,
    /// The address as the node file writes it: the label of its metrics.
    pub(crate) name: String,
    /// The address that it is bound to.
    pub(crate) address: SocketAddr,
    /// Its TLS, unless it is plain.
    pub(crate) tls: Option<ServerTls>,
    /// How many of its connections are open.
    pub(crate) open: IntGauge,
}

/// What a connection gets of its listener's settings when it is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListenerSettings {
    /// Whether PROXY headers of trusted peers are read.
    pub(crate) proxy_protocol: bool,
    /// The port of the HTTPS listener that every request is sent to, if it redirects.
    pub(crate) redirects_to: Option<u16>,
}

impl ListenerFacts {
    /// Reads the settings in force: those of this configuration, on a node with these listeners.
    pub(crate) fn settings(&self, config: &NodeConfig, listeners: &[Arc<ListenerFacts>]) -> ListenerSettings {
        let listener = config.listener(self.id);
        let redirects = listener.is_some_and(|listener| listener.redirect_to_https);
        ListenerSettings {
            proxy_protocol: listener.is_some_and(|listener| listener.proxy_protocol == ProxyProtocol::Trusted),
            redirects_to: redirects.then(|| https_port(config, listeners)),
        }
    }
}

/// Returns the port of the first TLS listener; without any, HTTPS's own.
fn https_port(config: &NodeConfig, listeners: &[Arc<ListenerFacts>]) -> u16 {
    let first = config.listeners_by_id().find(|(_, listener)| listener.tls.is_some()).map(|(id, _)| id);
    let bound = listeners.iter().find(|listener| Some(listener.id) == first);
    bound.map_or(HTTPS_PORT, |listener| listener.address.port())
}

const HTTPS_PORT: u16 = 443;
