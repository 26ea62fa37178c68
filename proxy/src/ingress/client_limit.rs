//! How many connections one client may have.

use std::io;
use std::net::IpAddr;

use crate::client_counts::{ClientNetwork, ClientPlace};
use crate::node::Node;
use crate::request_log::shown;

/// Takes a place among a client's connections, where they are limited. Trusted proxies have any number, since they carry
/// many clients.
///
/// # Errors
/// When the client has as many as it may: then that is counted and logged, and the connection is to be closed.
pub(super) fn take_place(node: &Node, client: IpAddr) -> io::Result<Option<ClientPlace>> {
    let config = node.config.load();
    let Some(most) = config.limits.connections_per_client else { return Ok(None) };
    if node.databases.load().trusted.contains(client) {
        return Ok(None);
    }
    let place = node.occupancy.connections_by_client.enter(ClientNetwork::of(client), most);
    if place.is_none() {
        let client = shown(client.to_canonical(), config.log.client_addresses);
        node.telemetry.abuse.tell_of_connection(&node.telemetry.metrics, most, client);
    }
    place.map(Some).ok_or_else(|| io::Error::other("its client has as many connections as it may"))
}
