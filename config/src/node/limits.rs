//! `[limits]`: the most that the node takes on.

use std::time::Duration;

use super::{Limits, Memory};
use crate::field::{Field, Section};
use crate::quote::quote;

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
            // The rest is the kernel's, for the sockets' buffers, and for what comes between two readings.
            memory: Some(Memory::Percent(90)),
            body_memory: Some(Memory::Percent(25)),
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
        memory: section.field("memory").map_or(defaults.memory, |field| memory(&field, LEAST_MEMORY)),
        body_memory: section.field("body_memory").map_or(defaults.body_memory, |field| memory(&field, 0)),
    }
}

impl Memory {
    /// Returns the bytes, where a percentage is of `whole`.
    pub fn of(self, whole: u64) -> u64 {
        match self {
            Memory::Bytes(bytes) => bytes,
            Memory::Percent(percent) => (u128::from(whole) * u128::from(percent) / 100) as u64,
        }
    }
}

/// Returns an amount of memory; as for what is a most, 0 is no limit. Less than `least` bytes is a mistake.
fn memory(field: &Field<'_>, least: u64) -> Option<Memory> {
    let Some(text) = field.peek_text() else {
        if field.peek_integer() == Some(0) {
            return None;
        }
        return field.wrong(AMOUNT);
    };
    match amount(text) {
        Some(Memory::Bytes(bytes)) if bytes < least => {
            let least = least / MIB;
            field
                .error(format!("{} is less than a node needs to run at all: the least is \"{least}MiB\"", quote(text)));
            None
        }
        Some(amount) => Some(amount),
        None => {
            field.error(format!("{} is not {AMOUNT}", quote(text)));
            None
        }
    }
}

/// Parses `"512MiB"` or `"90%"`.
fn amount(text: &str) -> Option<Memory> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok().filter(|number| *number > 0)?;
    let bytes = |unit: u64| number.checked_mul(unit).filter(|bytes| *bytes <= MOST_MEMORY).map(Memory::Bytes);
    match unit.trim_start() {
        "%" => u8::try_from(number).ok().filter(|percent| *percent <= 100).map(Memory::Percent),
        "KiB" => bytes(1024),
        "MiB" => bytes(MIB),
        "GiB" => bytes(1024 * MIB),
        _ => None,
    }
}

const AMOUNT: &str = "an amount of memory such as \"512MiB\", \"4GiB\" or \"90%\", or 0 for no limit";
const MIB: u64 = 1024 * 1024;
/// What a node has in use before anybody asks it for anything, and as much for those who do.
const LEAST_MEMORY: u64 = 32 * MIB;
/// A pebibyte: no machine has as much.
const MOST_MEMORY: u64 = 1 << 50;

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
    "memory",
    "body_memory",
];

const MILLIONS: usize = 10_000_000;
/// A gigabyte a second: no upload is as fast for long.
const MOST_RATE: u32 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_units() {
        for (text, expected) in [
            ("512MiB", Some(Memory::Bytes(512 << 20))),
            ("4 GiB", Some(Memory::Bytes(4 << 30))),
            ("64KiB", Some(Memory::Bytes(64 << 10))),
            ("90%", Some(Memory::Percent(90))),
            ("100%", Some(Memory::Percent(100))),
            ("101%", None),
            ("0%", None),
            ("512", None),
            ("512MB", None),
            ("-1MiB", None),
            ("1.5GiB", None),
            ("", None),
            ("MiB", None),
            ("99999999999999999999GiB", None),
            ("9999999999GiB", None),
        ] {
            assert_eq!(amount(text), expected, "{text}");
        }
        assert_eq!(Memory::Percent(90).of(u64::MAX), 16_602_069_666_338_596_453);
        assert_eq!(Memory::Bytes(7).of(1), 7);
    }
}
