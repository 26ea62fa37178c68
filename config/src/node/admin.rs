//! `[admin]`: where operators connect.

use std::net::{Ipv4Addr, SocketAddr};

use super::address::socket_address;
use crate::section::Section;

/// The admin address.
pub(super) struct Admin {
    /// `None` when it is switched off.
    pub(super) address: Option<SocketAddr>,
    /// Whether the file says so.
    pub(super) is_given: bool,
}

/// The admin address: `"off"`, or 127.0.0.1:9900 by default.
pub(super) fn admin(root: &Section<'_>) -> Admin {
    let section = root.field("admin").and_then(|field| field.section(&["address"]));
    let Some(field) = section.and_then(|section| section.field("address")) else {
        return Admin { address: Some((Ipv4Addr::LOCALHOST, 9900).into()), is_given: false };
    };
    let off = field.peek_text() == Some("off");
    Admin { address: if off { None } else { socket_address(&field) }, is_given: true }
}
