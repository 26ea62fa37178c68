//! `[upstream]`: how the node connects to endpoints and gateways.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::UpstreamTls;
use crate::field::{Field, Section};
use crate::quote::quote;

impl Default for UpstreamTls {
    fn default() -> Self {
        Self {
            certificate_authorities: Vec::new(),
            nameservers: Vec::new(),
            connect_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(60),
            idle_connections: 128,
            via: true,
            absence_grace: Duration::from_secs(30),
        }
    }
}

/// Returns the settings, each with its default.
pub(super) fn upstream(root: &Section<'_>, directory: &Path) -> UpstreamTls {
    let defaults = UpstreamTls::default();
    let Some(section) = root.field("upstream").and_then(|field| field.section(KEYS)) else { return defaults };
    let duration = |key| section.field(key).and_then(|field| field.duration());
    let authorities = section.field("certificate_authorities");
    let authorities = authorities.and_then(|field| {
        let list = field.list()?;
        if list.is_empty() {
            field.error("the list is empty: leave it out to trust the system's authorities".to_owned());
        }
        Some(list.iter().filter_map(|field| field.file(directory)).collect())
    });
    let nameservers = section.field("nameservers").and_then(|field| {
        let wrong = || field.wrong("a list such as [\"10.0.0.2\", \"10.0.0.3:5353\"]");
        let list = field.peek_list().or_else(wrong)?;
        if list.is_empty() {
            field.error("the list is empty: leave it out to ask the system's name servers".to_owned());
        }
        Some(list.iter().filter_map(nameserver).collect())
    });
    UpstreamTls {
        certificate_authorities: authorities.unwrap_or_default(),
        nameservers: nameservers.unwrap_or_default(),
        connect_timeout: duration("connect_timeout").unwrap_or(defaults.connect_timeout),
        idle_timeout: duration("idle_timeout").unwrap_or(defaults.idle_timeout),
        idle_connections: section
            .field("idle_connections")
            .and_then(|field| field.integer(0..=100_000))
            .unwrap_or(defaults.idle_connections),
        via: section.field("via").and_then(|field| field.boolean()).unwrap_or(defaults.via),
        absence_grace: section
            .field("absence_grace")
            .and_then(|field| field.duration_or_zero())
            .unwrap_or(defaults.absence_grace),
    }
}

const KEYS: &[&str] = &[
    "certificate_authorities",
    "nameservers",
    "connect_timeout",
    "idle_timeout",
    "idle_connections",
    "absence_grace",
    "via",
];

/// Reads an address with a port, or without one for DNS's port 53.
fn nameserver(field: &Field<'_>) -> Option<SocketAddr> {
    let text = field.peek_text().or_else(|| field.wrong("an address such as \"10.0.0.2\" or \"10.0.0.2:5353\""))?;
    let with_port = text.parse().ok().filter(|server: &SocketAddr| server.port() != 0);
    let server = with_port.or_else(|| Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, DNS_PORT)));
    if server.is_none() {
        field.error(format!("{} is not an address such as \"10.0.0.2\" or \"10.0.0.2:5353\"", quote(text)));
    }
    server
}

const DNS_PORT: u16 = 53;
