//! A node file's sections, one after the other.

use std::path::Path;

use super::NodeConfig;
use super::{address, admin, geoip, limits, listener, log, routing, tokens, upstream};
use crate::name::name as read_name;
use crate::section::Section;
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
    address::check_distinct(&admin, &listeners);
    let region = region.and_then(|field| field.text());
    let routing = routing::routing(root, directory);
    Some(NodeConfig {
        file: file.to_owned(),
        name: value("name").and_then(|field| read_name(&field)).map_or_else(host_name, str::to_owned),
        threads: value("threads").and_then(|field| field.integer(1..=1024)),
        listeners: listeners.into_iter().map(|(listener, _)| listener).collect(),
        admin: admin.address,
        geoip,
        tokens: tokens::tokens(root, directory),
        limits: limits::limits(root),
        upstream: upstream::upstream(root, directory),
        log: log::log(root),
        warnings: Vec::new(),
        // Last, because they can end it: all else has been read, and so checked, by then.
        region: region?.to_owned(),
        routing: routing?,
    })
}

/// The host's name, as far as the system tells.
fn host_name() -> String {
    ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .iter()
        .filter_map(|file| read_bounded(Path::new(file), 4096).ok())
        .map(|text| text.trim().to_owned())
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| "meridian".to_owned())
}
