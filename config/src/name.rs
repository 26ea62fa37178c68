//! What can be the name of a region, a route, a node and the like.

use crate::field::{Field, shorten};

/// Reports a name that could not stand in a header, a metric or a message bus's subject as it is.
pub(crate) fn check_name(field: &Field<'_>, name: &str) {
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 64 || !name.bytes().all(letter) {
        let shown = shorten(name);
        field.error(format!("\"{}\" cannot be a name: use 1 to 64 of a-z A-Z 0-9 - _ .", shown.escape_debug()));
    }
}
