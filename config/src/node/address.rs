//! Addresses that a node binds.

use std::net::SocketAddr;

use crate::field::Field;
use crate::quote::quote;

/// Reads an IP address and a port.
pub(super) fn socket_address(field: &Field<'_>) -> Option<SocketAddr> {
    let text = field.text()?;
    let address = text.parse().ok();
    if address.is_none() {
        field.error(format!("{} is not an address and a port such as \"0.0.0.0:443\" or \"[::]:443\"", quote(text)));
    }
    address
}
