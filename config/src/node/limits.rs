//! `[limits]`: the most that the node takes on.

use std::time::Duration;

use super::Limits;
use crate::field::Section;

impl Default for Limits {
    /// Returns limits for a node of a few cores, nginx's where it has the same one. A tunnel has two
    /// sockets where an idle connection has one, so that there are half as many; its idle timeout of an
    /// hour is that of HAProxy's manual.
    fn default() -> Self {
        Self {
            requests_in_flight: 20_000,
            requests_in_flight_per_region: 10_000,
            connections: 20_000,
            // As nginx, HAProxy and Envoy have it: only the operator knows how many share an address.
            connections_per_client: None,
            requests_in_flight_per_client: None,
            tunnels: 10_000,
            header_bytes: 65_536,
            headers: 100,
            header_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(75),
            body_bytes: None,
            body_timeout: Duration::from_secs(60),
            body_rate: None,
            tunnel_idle_timeout: Duration::from_secs(3600),
        }
    }
}

/// Returns the limits, each with its default.
pub(super) fn limits(root: &Section<'_>) -> Limits {
    let defaults = Limits::default();
    let Some(section) = root.field("limits").and_then(|field| field.section(KEYS)) else { return defaults };
    let count = |key, least, most| section.field(key).and_then(|field| field.integer(least..=most));
    // As nginx has it for bodies, 0 is no limit.
    let most = |key| count(key, 0, MILLIONS).filter(|most| *most > 0);
    let duration = |key| section.field(key).and_then(|field| field.duration());
    Limits {
        requests_in_flight: count("requests_in_flight", 1, MILLIONS).unwrap_or(defaults.requests_in_flight),
        requests_in_flight_per_region: count("requests_in_flight_per_region", 1, MILLIONS)
            .unwrap_or(defaults.requests_in_flight_per_region),
        connections: count("connections", 1, MILLIONS).unwrap_or(defaults.connections),
        connections_per_client: most("connections_per_client"),
        requests_in_flight_per_client: most("requests_in_flight_per_client"),
        tunnels: count("tunnels", 0, MILLIONS).unwrap_or(defaults.tunnels),
        header_bytes: count("header_bytes", 1024, 1024 * 1024).unwrap_or(defaults.header_bytes),
        headers: count("headers", 1, 10_000).unwrap_or(defaults.headers),
        header_timeout: duration("header_timeout").unwrap_or(defaults.header_timeout),
        keep_alive: duration("keep_alive").unwrap_or(defaults.keep_alive),
        body_bytes: section
            .field("body_bytes")
            .and_then(|field| field.integer(0..=1 << 50))
            // As in nginx, 0 is no limit.
            .filter(|bytes| *bytes > 0),
        body_timeout: duration("body_timeout").unwrap_or(defaults.body_timeout),
        // As for what is a most, 0 is no limit.
        body_rate: section.field("body_rate").and_then(|field| field.integer(0..=MOST_RATE)).filter(|rate| *rate > 0),
        tunnel_idle_timeout: duration("tunnel_idle_timeout").unwrap_or(defaults.tunnel_idle_timeout),
    }
}

const KEYS: &[&str] = &[
    "requests_in_flight",
    "requests_in_flight_per_region",
    "connections",
    "connections_per_client",
    "requests_in_flight_per_client",
    "tunnels",
    "header_bytes",
    "headers",
    "header_timeout",
    "keep_alive",
    "body_bytes",
    "body_timeout",
    "body_rate",
    "tunnel_idle_timeout",
];

const MILLIONS: usize = 10_000_000;
/// A gigabyte a second: no upload is as fast for long.
const MOST_RATE: u32 = 1_000_000_000;
