//! `[admin]`: where operators connect.

use std::net::{Ipv4Addr, SocketAddr};

use super::address::socket_address;
use crate::field::{Field, Section};
use crate::host::parse_host;
use crate::quote::quote;

/// The admin listener's address, and the host names that it accepts.
pub(super) struct Admin {
    /// `None` when it is switched off.
    pub(super) address: Option<SocketAddr>,
    /// Whether the file sets the address.
    pub(super) is_given: bool,
    /// The host names, in lower case.
    pub(super) hosts: Vec<String>,
}

/// Reads the admin address: `"off"`, or 127.0.0.1:9900 by default.
pub(super) fn admin(root: &Section<'_>) -> Admin {
    let section = root.field("admin").and_then(|field| field.section(&["address", "hosts"]));
    let field = |key| section.as_ref().and_then(|section| section.field(key));
    let hosts = field("hosts").and_then(|field| field.list()).unwrap_or_default();
    let hosts = hosts.iter().filter_map(host).collect();
    let Some(field) = field("address") else {
        return Admin { address: Some((Ipv4Addr::LOCALHOST, 9900).into()), is_given: false, hosts };
    };
    let off = field.peek_text() == Some("off");
    Admin { address: if off { None } else { socket_address(&field) }, is_given: true, hosts }
}

/// Reads a host's name, without a port.
fn host(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    parse_host(text).map_err(|problem| field.error(format!("the host {} {problem}", quote(text)))).ok()
}
