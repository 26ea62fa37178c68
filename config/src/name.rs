//! What can be the name of a region, a route, a node and the like.

use crate::field::Field;
use crate::quote::quote;

/// A text that is a name; others are reported.
pub(crate) fn name<'t>(field: &Field<'t>) -> Option<&'t str> {
    field.text_that(is_name, PROBLEM)
}

/// Reports a key that is no name.
pub(crate) fn check_key(field: &Field<'_>) {
    if !is_name(field.key()) {
        field.error(format!("{} {PROBLEM}", quote(field.key())));
    }
}

/// Whether the text can stand in a header, a metric or a message bus's subject as it is.
fn is_name(text: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=64).contains(&text.len()) && text.bytes().all(letter)
}

const PROBLEM: &str = "cannot be a name: use 1 to 64 of a-z A-Z 0-9 - _ .";
