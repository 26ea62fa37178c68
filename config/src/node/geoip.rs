//! `[geoip]`: how clients are located, and which proxies are trusted.

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use super::Geoip;
use crate::field::{Field, Section};
use crate::name::header_name;
use crate::quote::quote;
use crate::share::share_or_off;

/// Returns the databases and the trusted proxies; none by default.
pub(super) fn geoip(root: &Section<'_>, directory: &Path) -> Geoip {
    let Some(section) = root.field("geoip").and_then(|field| field.section(KEYS)) else { return Geoip::default() };
    let list = |key| section.field(key).and_then(|field| field.list()).unwrap_or_default();
    let defaults = Geoip::default();
    Geoip {
        databases: list("databases").iter().filter_map(|field| field.file(directory)).collect(),
        trusted_proxies: list("trusted_proxies").iter().filter_map(network).collect(),
        country_header: section.field("country_header").and_then(|field| header_name(&field)),
        anonymous_asns: list("anonymous_asns").iter().filter_map(|field| field.integer(1..=u32::MAX)).collect(),
        max_change: section.field("max_change").and_then(|field| share_or_off(&field)).unwrap_or(defaults.max_change),
    }
}

impl Default for Geoip {
    fn default() -> Self {
        Self {
            databases: Vec::new(),
            trusted_proxies: Vec::new(),
            country_header: None,
            anonymous_asns: Vec::new(),
            // A publisher's next release moves about one address in a hundred. A tenth means another product, a
            // truncated file, or a mistake.
            max_change: Some(0.1),
        }
    }
}

const KEYS: &[&str] = &["databases", "trusted_proxies", "country_header", "anonymous_asns", "max_change"];

/// Reads a network such as `10.0.0.0/8`, or one address.
fn network(field: &Field<'_>) -> Option<IpNet> {
    let text = field.text()?;
    let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let Some(network) = network else {
        field.error(format!("{} is not a network such as \"10.0.0.0/8\"", quote(text)));
        return None;
    };
    if network.trunc() != network {
        field.warning(format!("\"{text}\" has bits past its prefix, which do not count: it is {}", network.trunc()));
    }
    if network.prefix_len() == 0 {
        field.warning(format!("\"{text}\" is everybody: any client can then claim any address, and so any country"));
    }
    Some(network.trunc())
}
