//! `[upstream]`: how the node connects to endpoints and gateways.

use std::path::Path;
use std::time::Duration;

use super::UpstreamTls;
use crate::section::Section;

impl Default for UpstreamTls {
    fn default() -> Self {
        Self {
            certificate_authorities: Vec::new(),
            connect_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(60),
            idle_connections: 128,
        }
    }
}

/// The settings, each with its default.
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
    UpstreamTls {
        certificate_authorities: authorities.unwrap_or_default(),
        connect_timeout: duration("connect_timeout").unwrap_or(defaults.connect_timeout),
        idle_timeout: duration("idle_timeout").unwrap_or(defaults.idle_timeout),
        idle_connections: section
            .field("idle_connections")
            .and_then(|field| field.integer(0..=100_000))
            .unwrap_or(defaults.idle_connections),
    }
}

const KEYS: &[&str] = &["certificate_authorities", "connect_timeout", "idle_timeout", "idle_connections"];
