//! What the connections of a listener need to know of it.

use std::net::SocketAddr;

use config::{ListenerId, NodeConfig, ProxyProtocol};
use prometheus::IntGauge;

use crate::client_connection::ListenerSettings;
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

impl ListenerFacts {
    /// Reads the settings in force: those of this configuration.
    pub(crate) fn settings(&self, config: &NodeConfig) -> ListenerSettings {
        let listener = config.listener(self.id);
        let redirects = listener.filter(|listener| listener.redirect_to_https && self.tls.is_none());
        ListenerSettings {
            proxy_protocol: listener.is_some_and(|listener| listener.proxy_protocol == ProxyProtocol::Trusted),
            redirects_to: redirects.map(|listener| listener.redirect_port),
            health_path: listener.and_then(|listener| listener.health_path.clone()),
        }
    }
}
