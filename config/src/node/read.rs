//! Reads a node file's sections, one after the other.

use std::net::SocketAddr;
use std::path::Path;

use super::admin::Admin;
use super::{Listener, NodeConfig, Routing};
use super::{admin, drain, geoip, limits, listener, log, peers, routing, tokens, upstream};
use crate::field::{Field, Section};
use crate::name::name as read_name;
use crate::text::read_bounded;

/// Reads a whole node file; `None` when something compulsory is missing, which is reported.
pub(super) fn node(root: &Section<'_>, file: &Path) -> Option<NodeConfig> {
    let directory = file.parent().unwrap_or(Path::new(""));
    let node = root.required("node", "a node is in a region: [node] with region = \"NAME\"");
    let node = node.and_then(|field| field.section(&["name", "region", "threads"]));
    let value = |key| node.as_ref().and_then(|section| section.field(key));
    let region = node.as_ref().and_then(|section| {
        section.required("region", "name the region that this node is in, as the routing table has it")
    });
    let admin = admin::admin(root);
    let geoip = geoip::geoip(root, directory);
    let listeners = listener::listeners(root, directory, &geoip);
    check_distinct(&admin, &listeners);
    let region = region.and_then(|field| field.text());
    let routing = routing::routing(root, directory);
    let name = value("name").and_then(|field| read_name(&field)).map_or_else(host_name, str::to_owned);
    if let (Some(Routing::Bus(_)), Some(node)) = (&routing, &node)
        && !is_bus_key(&name)
    {
        let remedy =
            "on the bus a node's name is part of a key: letters, digits, - and _, with single dots between them";
        match node.field("name") {
            Some(field) => field.error(remedy.to_owned()),
            None => node.missing("name", &format!("the host's name is {name:?}; {remedy}")),
        }
    }
    Some(NodeConfig {
        file: file.to_owned(),
        name,
        threads: value("threads").and_then(|field| field.integer(1..=1024)),
        listeners: listeners.into_iter().map(|(listener, _)| listener).collect(),
        admin: admin.address,
        admin_hosts: admin.hosts,
        geoip,
        tokens: tokens::tokens(root, directory),
        peers: peers::peers(root, directory),
        limits: limits::limits(root),
        drain: drain::drain(root),
        upstream: upstream::upstream(root, directory),
        log: log::log(root),
        warnings: Vec::new(),
        // Last, because their absence returns early: all else has been read, and so checked, by then.
        region: region?.to_owned(),
        routing: routing?,
    })
}

/// Returns whether a name can be part of a bus key: no part between its dots is empty.
fn is_bus_key(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    name.split('.').all(|part| !part.is_empty() && part.bytes().all(letter))
}

/// Returns the host's name, or `meridian` where the system has none.
pub fn host_name() -> String {
    ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .iter()
        .filter_map(|file| read_bounded(Path::new(file), 4096).ok())
        .map(|text| text.trim().to_owned())
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| "meridian".to_owned())
}

/// Reports every listener whose address is taken by the admin interface or by an earlier listener.
/// Port 0 is never taken.
fn check_distinct(admin: &Admin, listeners: &[(Listener, Field<'_>)]) {
    let admin_name = if admin.is_given { "admin.address" } else { "the admin interface, by default" };
    let mut taken: Vec<(SocketAddr, String)> = Vec::new();
    taken.extend(admin.address.map(|address| (address, admin_name.to_owned())));
    for (listener, field) in listeners {
        match taken.iter().find(|(address, _)| overlap(*address, listener.address)) {
            Some((address, owner)) => {
                field.error(format!("\"{}\" is taken: {owner} has {address}", listener.address));
            }
            None => taken.push((listener.address, field.path())),
        }
    }
}

/// Returns whether two sockets cannot be bound at once: the unspecified address covers all of its family.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let same_ip =
        a.ip() == b.ip() || a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified());
    a.port() == b.port() && a.port() != 0 && same_ip
}
