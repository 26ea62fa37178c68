//! Addresses that a node binds.

use std::net::SocketAddr;

use super::Listener;
use super::admin::Admin;
use crate::field::Field;
use crate::quote::quote;

/// An IP address and a port.
pub(super) fn socket_address(field: &Field<'_>) -> Option<SocketAddr> {
    let text = field.text()?;
    let address = text.parse().ok();
    if address.is_none() {
        field.error(format!("{} is not an address and a port such as \"0.0.0.0:443\" or \"[::]:443\"", quote(text)));
    }
    address
}

/// Reports every listener whose address is taken by the admin interface or by an earlier listener.
/// Port 0 is never taken.
pub(super) fn check_distinct(admin: &Admin, listeners: &[(Listener, Field<'_>)]) {
    let admin_name = if admin.is_given { "admin.address" } else { "the admin interface, by default" };
    let mut taken: Vec<(SocketAddr, String)> = Vec::new();
    taken.extend(admin.address.map(|address| (address, admin_name.to_owned())));
    for (listener, field) in listeners {
        match taken.iter().find(|(address, _)| meet(*address, listener.address)) {
            Some((address, owner)) => {
                field.error(format!("\"{}\" is taken: {owner} has {address}", listener.address));
            }
            None => taken.push((listener.address, field.path())),
        }
    }
}

/// Whether two sockets cannot be bound at once: the unspecified address is all of its family's.
fn meet(a: SocketAddr, b: SocketAddr) -> bool {
    let same_ip =
        a.ip() == b.ip() || a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified());
    a.port() == b.port() && a.port() != 0 && same_ip
}
